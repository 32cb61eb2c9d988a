"""``pyvfio bind``, ``unbind`` and ``release``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pyvfio.binding import Plan, plan_bind, plan_release, plan_unbind
from pyvfio.host import Host
from pyvfio_tools.acting import Acting, acting_options
from pyvfio_tools.complete import complete_driver
from pyvfio_tools.selection import select, selection_options

if TYPE_CHECKING:
    from pyvfio.selection import Selection

__all__ = ["bind", "release", "unbind"]


def _driver_name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A name as it stands in /sys/bus/*/drivers, never a path."""
    if value is not None and (not value or "/" in value or value in (".", "..")):
        raise click.BadParameter(f"{value!r} is not the name of a driver, as in /sys/bus/pci/drivers")
    return value


@click.command()
@click.option(
    "--to",
    "target",
    default=None,
    metavar="DRIVER",
    callback=_driver_name,
    shell_complete=complete_driver,
    help="The driver that gets them. Default: vfio-pci on pci, vfio_ccw on css.",
)
@click.option(
    "--with-group", is_flag=True, help="Also bind the members of their IOMMU groups that would keep it from being used."
)
@selection_options
@acting_options
def bind(host: Host, acting: Acting, selection: Selection, target: str | None, with_group: bool) -> None:
    """Give devices to a VFIO driver, by driver_override. All of it is done, or nothing.

    The plan is shown first; a device that is in use is refused, with the evidence. Each step is read back, and undone
    with those before it if one fails.

    \b
    Examples:
      pyvfio bind 0011:00:00.0
      pyvfio bind eth1 /dev/nvme0n1 --dry-run
      pyvfio bind --driver nvme --id 144d:*
      pyvfio bind 0.0.0000 --bus css --to vfio_ccw --machine z15-lpar --dry-run
      lspci -Dn -d 10de: | cut -d' ' -f1 | pyvfio bind -
    """
    devices = select(host, selection)
    if with_group:
        for device in tuple(devices):
            group = device.group
            blocking = {} if group is None else {member.name for member in group.blockers()}
            devices += [] if group is None else [m for m in group.devices if m.name in blocking and m not in devices]
    names = [device.name for device in devices]
    acting.carry_out(Plan.join([plan_bind(device, target, besides=names) for device in devices]))


@click.command()
@selection_options
@acting_options
def unbind(host: Host, acting: Acting, selection: Selection) -> None:
    """Take devices away from their driver; they have none afterwards, until pyvfio release. All of it is done, or
    nothing.

    \b
    Examples:
      pyvfio unbind 0011:00:00.0
      pyvfio unbind --driver vfio-pci --group 12
    """
    acting.carry_out(Plan.join([plan_unbind(device) for device in select(host, selection)]))


@click.command()
@selection_options
@acting_options
def release(host: Host, acting: Acting, selection: Selection) -> None:
    """Give devices back: unbind the VFIO driver, clear the override, let the kernel's own driver take them.

    \b
    Examples:
      pyvfio release 0011:00:00.0
      pyvfio release --driver vfio-pci
    """
    acting.carry_out(Plan.join([plan_release(device) for device in select(host, selection)]))
