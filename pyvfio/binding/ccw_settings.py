"""Set channel devices online and offline, and their attributes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyvfio.address import DeviceNumber
from pyvfio.binding.channel import merely_online
from pyvfio.binding.findings import Finding
from pyvfio.binding.inspection import plan_for
from pyvfio.binding.plan import Plan
from pyvfio.binding.step import Step
from pyvfio.binding.steps_ccw import ForceOnline, SafeOffline, same, set_attribute, value_of
from pyvfio.binding.steps_online import set_online
from pyvfio.channel_ranges import ChannelRanges
from pyvfio.devices import ChannelDevice, find_subchannel
from pyvfio.errors import BadAddress, NoSuchDevice, NotAvailable, PyvfioError
from pyvfio.files import HostFiles
from pyvfio.sysfs import Sysfs

if TYPE_CHECKING:
    from pyvfio.host import Host

__all__ = ["Settings", "channel_device", "plan_ccw_settings"]

_IGNORED = "/proc/cio_ignore"


@dataclass(frozen=True, slots=True)
class Settings:
    """What is wanted: `online` (None: as it is), by `force` or in the `safe` way, and `attributes` in their order."""

    online: bool | None = None
    force: bool = False
    safe: bool = False
    attributes: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        words = [] if self.online is None else ["online" if self.online else "offline"]
        return ", ".join([*words, *(f"{name}={value}" for name, value in self.attributes)])


def channel_device(host: Host, number: DeviceNumber) -> ChannelDevice:
    """The registered channel device of this number.  Raise `NoSuchDevice`, which says why it is not there."""
    device = ChannelDevice(host.sysfs, number)
    if device.exists:
        return device
    subchannel = find_subchannel(host.sysfs, number)
    if subchannel is not None:
        cause = f"its subchannel {subchannel} has driver {subchannel.driver or 'none'}"
        step = f"pyvfio ccw give-back {number}"
    elif _is_ignored(host.sysfs, device.name):
        cause = f"it is on the list of ignored devices ({_IGNORED})"
        step = f"echo free {number} > {_IGNORED}"
    else:
        cause, step = "no subchannel has a device of this number", "pyvfio lscss lists the devices"
    raise NoSuchDevice("find channel device", device.name, path=device.link_path, cause=cause, next_step=step)


def _is_ignored(sysfs: Sysfs, name: str) -> bool:
    try:
        return name in ChannelRanges.parse((HostFiles(sysfs.backend).read(_IGNORED) or "").split())
    except (BadAddress, PyvfioError):
        return False  # this is for the message only


def plan_ccw_settings(device: ChannelDevice, wanted: Settings) -> Plan:
    """Plan to set a channel device online or offline and its attributes; what is so already is left out, with a note.

    An attribute that the device has now is set before it goes online or offline, any other afterwards.  A device that
    goes offline must not be in use.  Raise `NoSuchDevice`, `NotAvailable` for what the device cannot do.
    """
    device.require()
    online = device.read("online") == "1"
    steps: list[Step] = []
    notes: list[str] = []
    later: list[tuple[str, str]] = []
    for name, value in wanted.attributes:
        if not device.sysfs.exists(f"{device.link_path}/{name}"):
            if wanted.online is not True or online:
                raise _no_attribute(device, name)
            later.append((name, value))
        elif same(value_of(device, name) or "", value):
            notes.append(f"The {name} attribute of {device} already is {value}")
        else:
            steps.append(set_attribute(device, name, value))
    if wanted.online is not None and wanted.online == online:
        notes.append(f"Device {device} is already {'online' if online else 'offline'}")
    elif wanted.online is not None:
        steps.append(_switch(device, wanted))
    steps += [set_attribute(device, name, value) for name, value in later]
    leaves = wanted.online is False and online
    plan = plan_for(f"set {device}: {wanted}", device, steps, notes=notes, probes=leaves)
    return replace(plan, findings=tuple(finding for finding in plan.findings if not _harmless(finding)))


def _harmless(finding: Finding) -> bool:
    """What does not speak against going offline: to be online, and to have content, which stays on the disk."""
    return finding.probe == "signature" or merely_online(finding)


def _switch(device: ChannelDevice, wanted: Settings) -> Step:
    if wanted.online:
        if device.driver is None:
            raise NotAvailable(
                "set online",
                device.name,
                path=device.link_path,
                cause=f"no driver has it (device type {device.devtype or 'n/a'}, control unit {device.cutype})",
                next_step="load the driver's module (modprobe)",
            )
        return ForceOnline(device.name) if wanted.force else set_online(device, True)
    if wanted.safe:
        if not device.sysfs.exists(f"{device.link_path}/safe_offline"):
            raise _no_attribute(device, "safe_offline")
        return SafeOffline(device.name)
    return set_online(device, False)


def _no_attribute(device: ChannelDevice, name: str) -> NotAvailable:
    return NotAvailable(
        "set attribute",
        device.name,
        path=f"{device.link_path}/{name}",
        cause=f"the device has no attribute {name}"
        + (f"; its driver is {device.driver}" if device.driver else ", and no driver"),
        next_step=f"ls {device.link_path}/ shows what it has",
    )
