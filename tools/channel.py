"""``pyvfio ccw``: take channel devices for a guest, give them back, and say where each stands."""

from __future__ import annotations

import click

from pyvfio.address import DeviceNumber
from pyvfio.binding import Plan, plan_ccw_give_back, plan_ccw_take
from pyvfio.binding.channel import find_channel, mdev_of
from pyvfio.binding.channel_state import ChannelState, channel_state, channels_on_the_way
from pyvfio.errors import WrongBus
from pyvfio.host import Host
from pyvfio.selection import named
from pyvfio_tools.acting import Acting, acting_options, journal_directory
from pyvfio_tools.commands import Commands
from pyvfio_tools.options import device_argument, host_options
from pyvfio_tools.output import print_json, print_table

__all__ = ["ccw"]


@click.group(cls=Commands)
def ccw() -> None:
    """Take channel devices for a program or a guest (vfio-ccw), give them back, and see where they stand."""


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

    What is so already is left out, so that a take that was begun is finished. That a device was online is remembered
    until it is given back.

    \b
    Examples:
      pyvfio ccw take 0.0.1234
      pyvfio ccw take 0.0.1000-0.0.1003 dasda
      pyvfio ccw take 013f --machine z15-lpar --dry-run
    """
    numbers = _numbers(host, devices)
    if uuid is not None and len(numbers) > 1:
        raise click.UsageError("--uuid names one mediated device, and several devices are named.")
    plans = {number: plan_ccw_take(host, number, uuid=uuid) for number in numbers}
    mdevs = {str(number): mdev_of(plan, find_channel(host, number)[1]).name for number, plan in plans.items()}
    plan = Plan.join(list(plans.values()))
    if acting.carry_out(plan, mdev=next(iter(mdevs.values())), mdevs=mdevs) and not acting.as_json:
        for number, name in mdevs.items():
            click.echo(f"mediated device {name}" + (f" of {number}" if len(mdevs) > 1 else ""))


@ccw.command("give-back")
@device_argument("devices", metavar="DEVNO...", nargs=-1, required=True)
@click.option(
    "--online/--offline", default=None, help="State of the devices afterwards. Default: as a take found them."
)
@acting_options
def give_back(host: Host, acting: Acting, devices: tuple[str, ...], online: bool | None) -> None:
    """Remove the mediated device, give the subchannel back to io_subchannel, and the device to its own driver.

    A device that was online when pyvfio took it is set online again; any other stays offline. What is so already is
    left out, so that a take that was begun is undone from wherever it stands.

    \b
    Examples:
      pyvfio ccw give-back 0.0.1234
      pyvfio ccw give-back 0.0.1234 --offline
      pyvfio ccw give-back 0.0.1000-0.0.1003
    """
    numbers = _numbers(host, devices)
    acting.carry_out(Plan.join([plan_ccw_give_back(host, number, online_after=online) for number in numbers]))


_HEADINGS = ("DEVICE", "SUBCHANNEL", "CCW DRIVER", "ONLINE", "CSS DRIVER", "OVERRIDE", "MEDIATED DEVICE", "STATE")


def _row(state: ChannelState) -> tuple[str, ...]:
    return (
        state.device,
        state.subchannel,
        (state.ccw_driver or "none") if state.registered else "-",
        ("yes" if state.online else "no") if state.registered else "-",
        state.css_driver or "none",
        state.override or "-",
        " ".join(state.mdevs) or "-",
        state.words,
    )


@ccw.command()
@device_argument("devices", metavar="[DEVNO...]", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Also the devices that are simply the host's.")
@host_options
def status(host: Host, as_json: bool, devices: tuple[str, ...], everything: bool) -> None:
    """Show where channel devices stand between this host and a guest, and what can be done from there.

    Without DEVNO: all devices that are taken, half taken or half given back.

    \b
    Examples:
      pyvfio ccw status
      pyvfio ccw status 0.0.1234 --json
      pyvfio ccw status --all --machine z15-lpar
    """
    journal = journal_directory()
    if devices:
        states = [channel_state(host, number, journal=journal) for number in _numbers(host, devices)]
    else:
        states = list(channels_on_the_way(host, everything=everything, journal=journal))
    if as_json:
        print_json([state.as_dict() for state in states])
        return
    print_table(
        _HEADINGS,
        [_row(state) for state in states],
        empty="no channel device is taken or half taken (--all shows those of the host)",
    )
    for state in states:
        if state.stage != "host" or state.interrupted or devices:
            run = f" ({state.interrupted}: not finished)" if state.interrupted else ""
            click.echo(f"{state.device}: {state.next_step}{run}")
