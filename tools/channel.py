"""``pyvfio ccw``: take a channel device for a guest, and give it back."""

from __future__ import annotations

import click

from pyvfio.address import MdevUuid
from pyvfio.binding import plan_ccw_give_back, plan_ccw_take
from pyvfio.host import Host
from pyvfio_tools.acting import Acting, acting_options
from pyvfio_tools.options import device_argument

__all__ = ["ccw"]


@click.group()
def ccw() -> None:
    """Take a channel device for a program or a guest (vfio-ccw), or give it back."""


@ccw.command()
@device_argument("device", metavar="DEVNO")
@click.option("--uuid", default=None, help="The name of the mediated device. Default: a new one.")
@acting_options
def take(host: Host, acting: Acting, device: str, uuid: str | None) -> None:
    """Set DEVNO offline, give its subchannel to vfio_ccw and create a mediated device.

    \b
    Examples:
      pyvfio ccw take 0.0.1234
      pyvfio ccw take 013f --machine z15-lpar --dry-run
    """
    name = MdevUuid.random() if uuid is None else MdevUuid.parse(uuid)
    plan = plan_ccw_take(host, device, uuid=name)
    if acting.carry_out(plan, mdev=str(name)) and not acting.as_json:
        click.echo(f"mediated device {name}")


@ccw.command("give-back")
@device_argument("device", metavar="DEVNO")
@click.option("--online/--offline", default=None, help="State of the device afterwards. Default: offline.")
@acting_options
def give_back(host: Host, acting: Acting, device: str, online: bool | None) -> None:
    """Remove the mediated device, give the subchannel back to io_subchannel, and the device to its own driver.

    \b
    Examples:
      pyvfio ccw give-back 0.0.1234 --online
    """
    acting.carry_out(plan_ccw_give_back(host, device, online_after=online))
