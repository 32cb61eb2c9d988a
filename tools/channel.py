"""``pyvfio ccw``: take a channel device for a guest, and give it back."""

from __future__ import annotations

import click

from pyvfio.address import MdevUuid
from pyvfio.binding import plan_ccw_give_back, plan_ccw_take, run
from pyvfio.host import Host
from pyvfio_tools.options import device_argument, host_options
from pyvfio_tools.output import print_json
from pyvfio_tools.progress import plan_as_dict, show_plan, watcher

__all__ = ["ccw"]

_dry_run = click.option("--dry-run", is_flag=True, help="Show the plan and change nothing.")


@click.group()
def ccw() -> None:
    """Take a channel device for a program or a guest (vfio-ccw), or give it back."""


@ccw.command()
@device_argument("device", metavar="DEVNO")
@click.option("--uuid", default=None, help="The name of the mediated device. Default: a new one.")
@_dry_run
@host_options
def take(host: Host, as_json: bool, device: str, uuid: str | None, dry_run: bool) -> None:
    """Set DEVNO offline, give its subchannel to vfio_ccw and create a mediated device.

    \b
    Examples:
      pyvfio ccw take 0.0.1234
      pyvfio ccw take 013f --machine z15-lpar --dry-run
    """
    name = MdevUuid.random() if uuid is None else MdevUuid.parse(uuid)
    plan = plan_ccw_take(host, device, uuid=name)
    if not as_json:
        show_plan(plan)
    if not dry_run:
        run(plan, progress=watcher(as_json))
    if as_json:
        print_json({**plan_as_dict(plan), "done": not dry_run, "mdev": str(name)})
    elif not dry_run:
        click.echo(f"mediated device {name}")


@ccw.command("give-back")
@device_argument("device", metavar="DEVNO")
@click.option("--online/--offline", default=None, help="State of the device afterwards. Default: offline.")
@_dry_run
@host_options
def give_back(host: Host, as_json: bool, device: str, online: bool | None, dry_run: bool) -> None:
    """Remove the mediated device, give the subchannel back to io_subchannel, and the device to its own driver.

    \b
    Examples:
      pyvfio ccw give-back 0.0.1234 --online
    """
    plan = plan_ccw_give_back(host, device, online_after=online)
    if not as_json:
        show_plan(plan)
    if not dry_run:
        run(plan, progress=watcher(as_json))
    if as_json:
        print_json({**plan_as_dict(plan), "done": not dry_run})
