"""Vary and configure channel paths, unless a device that is in use would lose its last one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyvfio.address import DeviceNumber
from pyvfio.binding.channel import merely_online
from pyvfio.binding.inspection import in_use
from pyvfio.binding.plan import Plan
from pyvfio.binding.step import Step
from pyvfio.binding.steps_chp import ConfigurePath, VaryPath
from pyvfio.channel_paths import ChannelPath, ChannelPathId, channel_paths, read_channel_path
from pyvfio.devices import ChannelDevice
from pyvfio.errors import NoSuchDevice, NotAvailable
from pyvfio.subchannel_facts import SubchannelFacts, read_subchannels

if TYPE_CHECKING:
    from pyvfio.binding.findings import Finding
    from pyvfio.host import Host

__all__ = ["PathSettings", "plan_channel_paths"]

_FIRST = 0x80
_STANDBY, _CONFIGURED = 0, 1


@dataclass(frozen=True, slots=True)
class PathSettings:
    """What is wanted of paths: varied `online` or off, `configured` or not; None: as it is."""

    online: bool | None = None
    configured: bool | None = None

    @property
    def takes_away(self) -> bool:
        """Whether devices lose the paths."""
        return self.online is False or self.configured is False

    def __str__(self) -> str:
        words = []
        if self.configured is not None:
            words.append("configure" if self.configured else "deconfigure")
        if self.online is not None:
            words.append(f"vary {'online' if self.online else 'offline'}")
        return " and ".join(words)


def plan_channel_paths(host: Host, ids: Sequence[ChannelPathId], wanted: PathSettings) -> Plan:
    """Plan to vary and configure channel paths; what is so already is left out, with a note.

    A path is configured before it is varied online, and varied offline before it is given back.  A device that would
    lose its last path is named in a note; when it is online, what uses it speaks against the plan.
    Raise `NoSuchDevice`, and `NotAvailable` when the machine cannot configure paths.
    """
    steps: list[Step] = []
    notes: list[str] = []
    leaving: list[ChannelPath] = []
    for one in ids:
        facts = read_channel_path(host.sysfs, one)
        if facts is None:
            raise NoSuchDevice(
                "find channel path",
                str(one),
                path=one.path,
                cause="there is no such",
                next_step="pyvfio lschp lists them",
            )
        todo = list(_steps(facts, wanted))
        if not todo:
            notes.append(f"Channel path {one} is so already")
        elif wanted.takes_away:
            leaving.append(facts)
        steps += todo
    title = f"{wanted} channel path{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"
    findings: list[Finding] = []
    for subchannel in _last_paths(host, leaving):
        if subchannel.online:
            device = ChannelDevice(host.sysfs, DeviceNumber.parse(subchannel.device))
            findings += (one for one in in_use(device) if one.probe != "signature" and not merely_online(one))
            notes.append(f"Device {subchannel.device} is online and loses its last path: its I/O waits for one")
        else:
            notes.append(f"Device {subchannel.device} loses its last path and goes away until it has one again")
    return Plan(title, tuple(map(str, ids)), tuple(steps), tuple(notes), tuple(findings), sysfs=host.sysfs)


def _steps(facts: ChannelPath, wanted: PathSettings) -> Iterator[Step]:
    name = str(facts.id)
    vary = wanted.online is not None and wanted.online != facts.online
    if vary and not wanted.online:
        yield VaryPath(name, False)
    if wanted.configured is not None and facts.configured != int(wanted.configured):
        if facts.configured not in (_STANDBY, _CONFIGURED):
            raise NotAvailable(
                "configure channel path",
                name,
                path=f"{facts.id.path}/configure",
                cause="the machine does not let it be configured from here",
                next_step="pyvfio chchp -v varies it, which needs only the kernel",
            )
        yield ConfigurePath(name, wanted.configured)
    if vary and wanted.online:
        yield VaryPath(name, True)


def _last_paths(host: Host, leaving: Iterable[ChannelPath]) -> Iterator[SubchannelFacts]:
    """The subchannels with a device to which no path is left without those that are `leaving`."""
    gone = {one.id.chpid for one in leaving}
    if not gone:
        return
    unused = {one.id.chpid for one in channel_paths(host.sysfs) if not one.online}
    for subchannel in read_subchannels(host.sysfs):
        if not subchannel.attached or len(subchannel.chpids) != 16:
            continue
        available = int(subchannel.pam or "0", 16)
        numbers = bytes.fromhex(subchannel.chpids)
        usable = {chpid for place, chpid in enumerate(numbers) if available & _FIRST >> place and chpid not in unused}
        if usable and usable <= gone:
            yield subchannel
