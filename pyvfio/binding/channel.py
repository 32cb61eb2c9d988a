"""Take a channel device for vfio-ccw, and give it back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyvfio.address import DeviceNumber, MdevUuid, PciAddress, SubchannelId, parse_address
from pyvfio.binding.findings import Finding
from pyvfio.binding.inspection import in_use, plan_for
from pyvfio.binding.plan import Plan
from pyvfio.binding.running import run
from pyvfio.binding.step import Progress, Step
from pyvfio.binding.steps import (
    Bind,
    Probe,
    require_driver,
    set_override,
    take_from,
)
from pyvfio.binding.steps_mdev import CreateMdev, remove_mdev
from pyvfio.binding.steps_online import set_online
from pyvfio.binding.taken import forget, remember_online, was_online
from pyvfio.devices import ChannelDevice, MediatedDevice, Subchannel, find_subchannel
from pyvfio.errors import DeviceBusy, NoSuchDevice, WrongBus

if TYPE_CHECKING:
    from pyvfio.host import Host

__all__ = [
    "Taken",
    "ccw_give_back",
    "ccw_take",
    "find_channel",
    "mdev_of",
    "merely_online",
    "plan_ccw_give_back",
    "plan_ccw_take",
]

DRIVER = "vfio_ccw"
OWN_DRIVER = "io_subchannel"
TYPE = "vfio_ccw-io"
_QDIO = "1731/"
"""Control units whose devices have queues (``drivers/s390/net/qeth_core_main.c``, ``drivers/s390/scsi/zfcp_ccw.c``)."""
_OPEN = ("vfio", "open")
"""The probes that see whether a mediated device is used."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A channel device that was taken: the `mdev` to open, its `subchannel`, if it `was_online`, and the `plan`."""

    mdev: MediatedDevice
    subchannel: Subchannel
    was_online: bool
    plan: Plan


def find_channel(host: Host, device_number: str | DeviceNumber) -> tuple[ChannelDevice, Subchannel]:
    """The channel device of this number, registered or not, and its subchannel.

    Raise `BadAddress`, `WrongBus`, `NoSuchDevice`.
    """
    number = device_number if isinstance(device_number, DeviceNumber) else _number(device_number)
    device = ChannelDevice(host.sysfs, number)
    if device.exists:
        return device, device.subchannel
    subchannel = find_subchannel(host.sysfs, number)
    if subchannel is None:
        raise NoSuchDevice(
            "find channel device",
            str(number),
            path=device.link_path,
            cause=_why_missing(host, number),
            next_step="pyvfio lscss lists the subchannels and their devices",
        )
    return device, subchannel


def _number(text: str) -> DeviceNumber:
    """The device number in `text`.  Raise `WrongBus` for the address of another bus."""
    address = parse_address(text)
    if isinstance(address, DeviceNumber):
        return address
    raise WrongBus(
        "find channel device",
        str(address),
        cause=f"it is an address of bus {address.subsystem}, not of a channel device (0.0.013f)",
        next_step=f"pyvfio bind {address}" if isinstance(address, PciAddress) else "pyvfio mdev list shows its parent",
    )


def _why_missing(host: Host, number: DeviceNumber) -> str:
    if not host.sysfs.exists("/sys/bus/css"):
        return "this host has no channel subsystem (no bus css)"
    other = Subchannel(host.sysfs, SubchannelId(number.cssid, number.ssid, number.number))
    if other.exists and other.device_number is not None:
        return (
            f"no subchannel has a device of this number; {number} is a subchannel, its device is {other.device_number}"
        )
    return "no subchannel has a device of this number"


def plan_ccw_take(host: Host, device_number: str | DeviceNumber, *, uuid: MdevUuid | str | None = None) -> Plan:
    """Plan: note that it is online, offline, override, unbind from io_subchannel, bind to vfio_ccw, create a mediated
    device.

    What is so already is left out, so an interrupted take can be continued.  Without a `uuid`, a mediated device that
    is there is taken as it is, or one with a random name is made.  Raise `BadAddress`, `NoSuchDevice`, `NotAvailable`
    (vfio_ccw is not loaded), `DeviceBusy` (it has a mediated device of another name).
    """
    name = None if uuid is None else MdevUuid.parse(str(uuid))
    device, subchannel = find_channel(host, device_number)
    require_driver(subchannel, DRIVER)
    there = subchannel.mdevs
    others = [mdev for mdev in there if mdev.address != name]
    if others and name is not None:
        raise DeviceBusy(
            "take for vfio-ccw",
            device.name,
            path=others[0].path,
            cause=f"its subchannel {subchannel.name} has the mediated device {others[0].name} already",
            next_step=f"use that, or pyvfio ccw give-back {device.name}",
        )
    steps: list[Step | None] = []
    if _is_online(device):
        steps += [remember_online(host.sysfs, device.name), set_online(device, False)]
    if subchannel.driver != DRIVER:
        now = subchannel.driver
        if subchannel.override != DRIVER:
            steps.append(set_override(subchannel, DRIVER))
        if now is not None:
            steps.append(take_from(subchannel, now, returns=device.name if device.exists else ""))
        steps.append(Bind(subchannel.bus, subchannel.name, DRIVER))
    if not there:
        steps.append(CreateMdev(subchannel.bus, subchannel.name, TYPE, str(name or MdevUuid.random())))
    return _plan(f"take {device.name} (subchannel {subchannel.name}) for vfio-ccw", device, subchannel, steps)


def _is_online(device: ChannelDevice) -> bool:
    """Whether it is online; an answer that fails is never taken for "no"."""
    return device.exists and device.read("online") == "1"


def _plan(title: str, device: ChannelDevice, subchannel: Subchannel, steps: Sequence[Step | None]) -> Plan:
    plan = plan_for(title, subchannel, [step for step in steps if step is not None])
    findings = tuple(finding for finding in plan.findings if not merely_online(finding))
    own = [("driver", device.driver or "none"), ("online", "yes" if _is_online(device) else "no")]
    facts = tuple((f"{device.name}: {what}", value) for what, value in own if device.exists)
    objects, notes = (device.name, *plan.objects), (*_notes(device), *plan.notes)
    return replace(plan, objects=objects, findings=findings, facts=(*facts, *plan.facts), notes=notes)


def _notes(device: ChannelDevice) -> tuple[str, ...]:
    """What is known before it is tried: vfio_ccw refuses subchannels with queues (QDIO: OSA, HiperSockets, FCP)."""
    kind = device.attribute("cutype") if device.exists else None
    if kind is None or not kind.startswith(_QDIO):
        return ()
    return (f"{device.name} works with queues (QDIO, control unit {kind}); vfio_ccw does not take such a device",)


def merely_online(finding: Finding) -> bool:
    """A device that is online and no more is not in use: setting it offline is what these plans begin with."""
    return finding.probe == "online" and all(seen.path.endswith("/online") for seen in finding.evidence)


def mdev_of(plan: Plan, subchannel: Subchannel) -> MediatedDevice:
    """The mediated device that a take of `subchannel` makes or has found."""
    for step in plan.steps:
        if isinstance(step, CreateMdev) and step.parent == subchannel.name:
            return MediatedDevice(subchannel.sysfs, MdevUuid.parse(step.uuid))
    return subchannel.mdevs[0]


def plan_ccw_give_back(host: Host, device_number: str | DeviceNumber, *, online_after: bool | None = None) -> Plan:
    """Plan the inverse: remove the mediated devices, unbind vfio_ccw, clear the override, let io_subchannel take it.

    `online_after` says whether the device is set online in the end; None: if it was online when it was taken.
    """
    device, subchannel = find_channel(host, device_number)
    steps: list[Step | None] = [remove_mdev(mdev) for mdev in subchannel.mdevs]
    now = subchannel.driver
    if now not in (None, OWN_DRIVER):
        steps.append(take_from(subchannel, now))
    if subchannel.override is not None:
        steps.append(set_override(subchannel, None))
    if now != OWN_DRIVER:
        steps.append(Probe(subchannel.bus, subchannel.name, OWN_DRIVER, device.name))
    if online_after is None:
        online_after = was_online(host.sysfs, device.name)
    if online_after and not _is_online(device):
        steps.append(set_online(device, True))
    steps.append(forget(host.sysfs, device.name))
    plan = _plan(f"give {device.name} (subchannel {subchannel.name}) back", device, subchannel, steps)
    if plan.empty:
        return plan
    # That there are mediated devices is no reason against removing them; that somebody has them open is one.
    open_ones = [finding for mdev in subchannel.mdevs for finding in in_use(mdev, _OPEN)]
    others = [each for each in plan.findings if each.probe != "mdev" or not all(seen.path for seen in each.evidence)]
    return replace(plan, findings=(*others, *open_ones))


def ccw_take(
    host: Host,
    device_number: str | DeviceNumber,
    *,
    uuid: MdevUuid | str | None = None,
    progress: Progress | None = None,
    force: Iterable[str] = (),
) -> Taken:
    """Take a channel device: afterwards its mediated device can be opened.

    `force` names the in-use probes that are overridden.  Raise what `plan_ccw_take` and `run` raise.
    """
    device, subchannel = find_channel(host, device_number)
    online_before = _is_online(device) or was_online(host.sysfs, device.name)  # a take that goes on found it offline
    plan = run(plan_ccw_take(host, device_number, uuid=uuid), progress, force=force)
    return Taken(mdev_of(plan, subchannel), subchannel, online_before, plan)


def ccw_give_back(
    host: Host,
    device_number: str | DeviceNumber,
    *,
    online: bool | None = None,
    progress: Progress | None = None,
    force: Iterable[str] = (),
) -> Plan:
    """Give a channel device back to its own driver, `online` as it was if nothing is said.  Raise as `ccw_take`."""
    return run(plan_ccw_give_back(host, device_number, online_after=online), progress, force=force)
