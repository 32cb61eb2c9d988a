"""``pyvfio ccw``: take a channel device for a guest, and give it back."""

from __future__ import annotations

import click

from pyvfio.address import DeviceNumber, MdevUuid
from pyvfio.binding import Plan, plan_ccw_give_back, plan_ccw_take
from pyvfio.errors import WrongBus
from pyvfio.host import Host
from pyvfio.selection import named
from pyvfio_tools.acting import Acting, acting_options
from pyvfio_tools.options import device_argument

__all__ = ["ccw"]


@click.group()
def ccw() -> None:
    """Take a channel device for a program or a guest (vfio-ccw), or give it back."""


def _numbers(host: Host, names: tuple[str, ...]) -> list[DeviceNumber]:
    """The channel devices that are named, each once.  Raise `WrongBus` for a device of another bus."""
    found: dict[DeviceNumber, None] = {}
    for address in (address for name in names for address in named(host, name)):
        if isinstance(address, DeviceNumber):
            found[address] = None
        else:
            raise WrongBus(
                "find channel device",
                str(address),
                cause=f"it is on bus {address.subsystem}",
                next_step="a channel device is named by its number, as in 0.0.013f; pyvfio bind takes PCI functions",
            )
    return list(found)


@ccw.command()
@device_argument("devices", metavar="DEVNO...", nargs=-1, required=True)
@click.option("--uuid", default=None, help="The name of the mediated device, for one DEVNO. Default: a new one.")
@acting_options
def take(host: Host, acting: Acting, devices: tuple[str, ...], uuid: str | None) -> None:
    """Set DEVNO offline, give its subchannel to vfio_ccw and create a mediated device. All of it is done, or nothing.

    \b
    Examples:
      pyvfio ccw take 0.0.1234
      pyvfio ccw take 0.0.1000-0.0.1003 dasda
      pyvfio ccw take 013f --machine z15-lpar --dry-run
    """
    numbers = _numbers(host, devices)
    if uuid is not None and len(numbers) > 1:
        raise click.UsageError("--uuid names one mediated device, and several devices are named.")
    names = {number: MdevUuid.random() if uuid is None else MdevUuid.parse(uuid) for number in numbers}
    plan = Plan.join([plan_ccw_take(host, number, uuid=name) for number, name in names.items()])
    mdevs = {str(number): str(name) for number, name in names.items()}
    if acting.carry_out(plan, mdev=next(iter(mdevs.values())), mdevs=mdevs) and not acting.as_json:
        for number, name in mdevs.items():
            click.echo(f"mediated device {name}" + (f" of {number}" if len(mdevs) > 1 else ""))


@ccw.command("give-back")
@device_argument("devices", metavar="DEVNO...", nargs=-1, required=True)
@click.option("--online/--offline", default=None, help="State of the device afterwards. Default: offline.")
@acting_options
def give_back(host: Host, acting: Acting, devices: tuple[str, ...], online: bool | None) -> None:
    """Remove the mediated device, give the subchannel back to io_subchannel, and the device to its own driver.

    \b
    Examples:
      pyvfio ccw give-back 0.0.1234 --online
      pyvfio ccw give-back 0.0.1000-0.0.1003
    """
    numbers = _numbers(host, devices)
    acting.carry_out(Plan.join([plan_ccw_give_back(host, number, online_after=online) for number in numbers]))
