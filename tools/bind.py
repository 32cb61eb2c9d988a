"""``pyvfio bind``, ``unbind`` and ``release``."""

from __future__ import annotations

from collections.abc import Callable

import click

from pyvfio.binding import Plan, plan_bind, plan_release, plan_unbind, run
from pyvfio.host import Host
from pyvfio.sysfs_device import SysfsDevice
from pyvfio_tools.options import bus_option, device_argument, host_options
from pyvfio_tools.output import print_json
from pyvfio_tools.progress import plan_as_dict, show_plan, watcher

__all__ = ["bind", "release", "unbind"]


def _act(
    host: Host,
    names: tuple[str, ...],
    make: Callable[[SysfsDevice], Plan],
    *,
    bus: str | None,
    as_json: bool,
    dry_run: bool,
) -> None:
    # All devices are found and all plans made before anything is touched: a typo in the last one changes nothing.
    # One that is named twice is done once.
    devices = {device.link_path: device for device in (host.device(name, bus=bus) for name in names)}
    plans = [make(device) for device in devices.values()]
    done = []
    for plan in plans:
        if not as_json:
            show_plan(plan)
        if not dry_run:
            run(plan, progress=watcher(as_json))
        done.append({**plan_as_dict(plan), "done": not dry_run})
    if as_json:
        print_json(done)


_dry_run = click.option("--dry-run", is_flag=True, help="Show the plan and change nothing.")


def _driver_name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A name as it stands in /sys/bus/*/drivers, never a path."""
    if value is not None and (not value or "/" in value or value in (".", "..")):
        raise click.BadParameter(f"{value!r} is not the name of a driver, as in /sys/bus/pci/drivers")
    return value


@click.command()
@device_argument("devices", metavar="DEV...", nargs=-1, required=True)
@click.option(
    "--driver", default=None, callback=_driver_name, help="The driver. Default: vfio-pci on pci, vfio_ccw on css."
)
@bus_option
@_dry_run
@host_options
def bind(
    host: Host, as_json: bool, devices: tuple[str, ...], driver: str | None, bus: str | None, dry_run: bool
) -> None:
    """Give devices to a VFIO driver, by driver_override; each step is read back and undone if a later one fails.

    \b
    Examples:
      pyvfio bind 0011:00:00.0
      pyvfio bind 0011:00:00.0 0020:00:00.0 --dry-run
      pyvfio bind 0.0.0000 --bus css --machine z15-lpar --dry-run
    """
    _act(
        host,
        devices,
        lambda device: plan_bind(device) if driver is None else plan_bind(device, driver),
        bus=bus,
        as_json=as_json,
        dry_run=dry_run,
    )


@click.command()
@device_argument("devices", metavar="DEV...", nargs=-1, required=True)
@bus_option
@_dry_run
@host_options
def unbind(host: Host, as_json: bool, devices: tuple[str, ...], bus: str | None, dry_run: bool) -> None:
    """Take devices away from their driver; they have none afterwards.

    \b
    Examples:
      pyvfio unbind 0011:00:00.0
    """
    _act(host, devices, plan_unbind, bus=bus, as_json=as_json, dry_run=dry_run)


@click.command()
@device_argument("devices", metavar="DEV...", nargs=-1, required=True)
@bus_option
@_dry_run
@host_options
def release(host: Host, as_json: bool, devices: tuple[str, ...], bus: str | None, dry_run: bool) -> None:
    """Give devices back: clear the override, unbind the VFIO driver, let the kernel's own driver take them.

    \b
    Examples:
      pyvfio release 0011:00:00.0
    """
    _act(host, devices, plan_release, bus=bus, as_json=as_json, dry_run=dry_run)
