"""``pyvfio chccwdev``: set channel devices online and offline, and their attributes, as with s390-tools."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from pyvfio.address import DeviceNumber
from pyvfio.binding import Event, Phase, Plan, Progress
from pyvfio.binding.ccw_settings import Settings, channel_device, plan_ccw_settings
from pyvfio.binding.steps_ccw import ForceOnline, SafeOffline, SetAttribute
from pyvfio.binding.steps_online import SetOnline
from pyvfio.errors import WrongBus
from pyvfio.host import Host
from pyvfio.selection import named
from pyvfio_tools.acting import Acting, acting_options
from pyvfio_tools.complete import complete_ccw_attribute
from pyvfio_tools.options import device_argument

if TYPE_CHECKING:
    from pyvfio.binding import Step
    from pyvfio.devices import ChannelDevice

__all__ = ["chccwdev"]

_ACTIONS = ("online", "offline", "forceonline", "safeoffline")


def _settings(
    attributes: tuple[str, ...], online: bool, offline: bool, forceonline: bool, safeoffline: bool
) -> Settings:
    """What the options ask for; of an attribute that is given twice, the last value counts."""
    chosen = [name for name, on in zip(_ACTIONS, (online, offline, forceonline, safeoffline), strict=True) if on]
    pairs: dict[str, str] = {}
    for text in attributes:
        name, equals, value = text.partition("=")
        if not name or not equals or not value or "/" in name:
            raise click.UsageError(f"-a takes NAME=VALUE, not {text!r}.")
        if name == "online":
            chosen.append({"1": "online", "force": "forceonline"}.get(value, "offline"))
        elif name == "safe_offline":
            chosen.append("safeoffline")
        else:
            pairs[name] = value
    ways = {name in ("online", "forceonline") for name in chosen}
    if len(ways) > 1:
        raise click.UsageError("A device cannot be set online and offline at once.")
    if not chosen and not pairs:
        raise click.UsageError("Say what shall be done: -e, -d, -f, -s or -a NAME=VALUE.")
    return Settings(
        ways.pop() if ways else None, "forceonline" in chosen, "safeoffline" in chosen, tuple(pairs.items())
    )


def _devices(host: Host, names: tuple[str, ...]) -> list[ChannelDevice]:
    """The channel devices that are named; a range stands for those of it that are registered."""
    found: dict[DeviceNumber, ChannelDevice] = {}
    for name in names:
        for part in name.split(","):
            several = any(letter in part for letter in "-*?[") and not part.startswith("/")
            for address in named(host, part):
                if not isinstance(address, DeviceNumber):
                    raise WrongBus(
                        "find channel device",
                        str(address),
                        cause=f"it is on bus {address.subsystem}",
                        next_step="a channel device is named by its number, as in 0.0.013f",
                    )
                if several and not host.sysfs.exists(f"/sys/bus/ccw/devices/{address}"):
                    continue  # vfio_ccw has its subchannel
                found[address] = channel_device(host, address)
    return list(found.values())


def _words(step: Step) -> str:
    if isinstance(step, SetAttribute):
        return f"Setting {step.attribute} attribute of {step.name} to {step.value}"
    if isinstance(step, SetOnline):
        return f"Setting device {step.name} {'online' if step.online else 'offline'}"
    if isinstance(step, ForceOnline | SafeOffline):
        return f"Setting device {step.name} {'online' if isinstance(step, ForceOnline) else 'offline'}"
    return step.text


def _progress(plans: list[Plan]) -> Progress:
    """The lines that chccwdev of s390-tools prints: what is set, and "Done" when a device is as it should be."""
    ends: dict[int, str] = {}
    count = 0
    for plan in plans:
        count += len(plan.steps)
        if plan.steps:
            ends[count - 1] = "Done"

    def tell(event: Event) -> None:
        line, error = "", False
        if event.phase is Phase.START:
            line = _words(event.step)
        elif event.phase is Phase.DONE:
            line = ends.get(event.index, "")
        elif event.phase is Phase.FAILED:
            line, error = "Failed", True
        elif event.phase is Phase.UNDONE:
            line = f"Undone: {event.step.text}"
        elif event.phase in (Phase.WAITING, Phase.UNDO_FAILED):
            line, error = f"{event.step.text}: {event.error}", True
        if line:
            with contextlib.suppress(OSError):
                click.echo(line, err=error)

    return tell


@click.command()
@device_argument("devices", metavar="RANGE...", nargs=-1, required=True)
@click.option("-e", "--online", is_flag=True, help="Set them online.")
@click.option("-d", "--offline", is_flag=True, help="Set them offline, unless they are in use.")
@click.option("-f", "--forceonline", is_flag=True, help="Set DASDs online although another system reserved them.")
@click.option("-s", "--safeoffline", is_flag=True, help="Set DASDs offline when all their I/O has ended.")
@click.option(
    "-a",
    "--attribute",
    "attributes",
    multiple=True,
    metavar="NAME=VALUE",
    shell_complete=complete_ccw_attribute,
    help="Set an attribute.",
)
@acting_options
def chccwdev(
    host: Host,
    acting: Acting,
    devices: tuple[str, ...],
    online: bool,
    offline: bool,
    forceonline: bool,
    safeoffline: bool,
    attributes: tuple[str, ...],
) -> None:
    """Set channel devices online or offline, and their attributes. All of it is done, or nothing.

    Options and messages are those of s390-tools. Attributes are set first; those that a device has only when it is
    online, afterwards. A device that is mounted or used otherwise is not set offline, unless the probe that found it is
    named with --force=PROBE.

    \b
    Examples:
      pyvfio chccwdev -e 0.0.0192,0.0.0195-0.0.0198
      pyvfio chccwdev -d 013f --machine z15-lpar
      pyvfio chccwdev -a readonly=1 -e 0.0.0192
      pyvfio chccwdev -s 0.0.0192 --dry-run
    """
    wanted = _settings(attributes, online, offline, forceonline, safeoffline)
    plans = [plan_ccw_settings(device, wanted) for device in _devices(host, devices)]
    plan = Plan.join(plans)
    if acting.as_json or acting.dry_run:
        acting.carry_out(plan)
        return
    for one in plans:
        for note in one.notes:
            click.echo(note, err=note.startswith("Device"))
    acting.do(plan, progress=_progress(plans))
    for one in plans:
        if not one.steps:
            click.echo("Done")
