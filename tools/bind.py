"""``pyvfio bind``, ``unbind`` and ``release``."""

from __future__ import annotations

from collections.abc import Callable

import click

from pyvfio.binding import Plan, plan_bind, plan_release, plan_unbind, run
from pyvfio.host import Host
from pyvfio.sysfs_device import SysfsDevice
from pyvfio_tools.options import device_argument, host_options
from pyvfio_tools.output import print_json
from pyvfio_tools.progress import plan_as_dict, show_plan, watcher

__all__ = ["bind", "release", "unbind"]


def _act(
    host: Host, names: tuple[str, ...], make: Callable[[SysfsDevice], Plan], *, as_json: bool, dry_run: bool
) -> None:
    # All devices are found and all plans made before anything is touched: a typo in the last one changes nothing.
    plans = [make(host.device(name)) for name in names]
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


@click.command()
@device_argument("devices", metavar="DEV...", nargs=-1, required=True)
@click.option("--driver", default=None, help="The driver. Default: vfio-pci on pci, vfio_ccw on css.")
@_dry_run
@host_options
def bind(host: Host, as_json: bool, devices: tuple[str, ...], driver: str | None, dry_run: bool) -> None:
    """Give devices to a VFIO driver, by driver_override; each step is read back and undone if a later one fails.

    \b
    Examples:
      pyvfio bind 0011:00:00.0
      pyvfio bind 0011:00:00.0 0020:00:00.0 --dry-run
    """
    _act(
        host,
        devices,
        lambda device: plan_bind(device) if driver is None else plan_bind(device, driver),
        as_json=as_json,
        dry_run=dry_run,
    )


@click.command()
@device_argument("devices", metavar="DEV...", nargs=-1, required=True)
@_dry_run
@host_options
def unbind(host: Host, as_json: bool, devices: tuple[str, ...], dry_run: bool) -> None:
    """Take devices away from their driver; they have none afterwards.

    \b
    Examples:
      pyvfio unbind 0011:00:00.0
    """
    _act(host, devices, plan_unbind, as_json=as_json, dry_run=dry_run)


@click.command()
@device_argument("devices", metavar="DEV...", nargs=-1, required=True)
@_dry_run
@host_options
def release(host: Host, as_json: bool, devices: tuple[str, ...], dry_run: bool) -> None:
    """Give devices back: clear the override, unbind the VFIO driver, let the kernel's own driver take them.

    \b
    Examples:
      pyvfio release 0011:00:00.0
    """
    _act(host, devices, plan_release, as_json=as_json, dry_run=dry_run)
