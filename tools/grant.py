"""``pyvfio grant``: let a user or a group use a device."""

from __future__ import annotations

from dataclasses import replace

import click

from pyvfio.binding import Plan
from pyvfio.binding.access import grantee, plan_grant, udev_rule
from pyvfio.host import Host
from pyvfio.selection import Selection
from pyvfio.vfio.opening import vfio_target
from pyvfio_tools.acting import Acting, acting_options
from pyvfio_tools.complete import complete_directory, complete_unix_group, complete_user
from pyvfio_tools.options import bus_option, device_argument
from pyvfio_tools.output import print_json
from pyvfio_tools.selection import select

__all__ = ["grant"]


def _mode(ctx: click.Context, param: click.Parameter, value: str) -> int:
    try:
        mode = int(value, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise click.BadParameter(f"{value!r} is no mode as chmod takes it (0660)")
    return mode


@click.command()
@device_argument("devices", metavar="DEV...", nargs=-1, required=True)
@click.option("--user", default=None, shell_complete=complete_user, help="A user, by name or number.")
@click.option("--group", default=None, shell_complete=complete_unix_group, help="A group, by name or number.")
@click.option("--mode", default="0660", show_default=True, callback=_mode, help="Permissions of the nodes, octal.")
@click.option("--iommu", is_flag=True, help="Also give /dev/iommu, which the device's own node needs.")
@click.option("--rule", is_flag=True, help="Only print the udev rule that makes it last.")
@click.option("--install", is_flag=True, help="Also write that rule to /etc/udev/rules.d.")
@click.option(
    "--root",
    default="",
    metavar="DIR",
    shell_complete=complete_directory,
    help="With --install: write it below DIR, and do nothing else.",
)
@bus_option
@acting_options
def grant(
    host: Host,
    acting: Acting,
    devices: tuple[str, ...],
    user: str | None,
    group: str | None,
    mode: int,
    iommu: bool,
    rule: bool,
    install: bool,
    root: str,
    bus: str | None,
) -> None:
    """Let a user or a group use devices: owner and mode of their VFIO nodes.

    A node that is made anew belongs to root; --install writes a udev rule that gives it away each time. Run it as root:
    nothing here becomes root by itself.

    \b
    Examples:
      pyvfio grant 0011:00:00.0 --group vfio
      pyvfio grant 3b:00.0 --user alice --iommu --install
      pyvfio grant 3b:00.0 3b:00.1 --user alice --rule
      pyvfio list --driver vfio-pci --names | pyvfio grant - --group vfio
    """
    to = grantee(user, group)
    found = list(dict.fromkeys(select(host, Selection(devices, bus))))
    if rule:
        rules = {device.name: udev_rule(vfio_target(device), to, mode, iommu=iommu) for device in found}
        if acting.as_json:
            print_json([{"device": name, "rule": text} for name, text in rules.items()])
        else:
            click.echo("".join(rules.values()), nl=False)
        return
    plans = [plan_grant(host, device, to, mode=mode, iommu=iommu, install=install, root=root) for device in found]
    plan = Plan.join(plans)
    # /dev/iommu, and the node of a group with several devices, are given away once
    acting.carry_out(replace(plan, steps=tuple(dict.fromkeys(plan.steps))))
