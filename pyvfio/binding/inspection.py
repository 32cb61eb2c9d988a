"""What a plan says of a device before it is touched: the facts of now, and what the in-use probes find."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from pyvfio.binding.facts import facts
from pyvfio.binding.findings import UNSEEN, Evidence, Finding
from pyvfio.binding.plan import Look, Plan
from pyvfio.binding.step import Step
from pyvfio.sysfs_device import SysfsDevice

__all__ = ["in_use", "plan_for"]


def _facts(device: SysfsDevice) -> tuple[tuple[str, str], ...]:
    known = facts(device)
    found = [("driver", known.driver or "none")]
    if known.override is not None:
        found.append(("override", known.override))
    if known.group is not None:
        found.append(("iommu group", str(known.group.number)))
        found += [("member", str(member)) for member in known.members if member.name != device.name]
    found += [("held by", str(holder)) for holder in known.holders]
    return tuple((f"{device.name}: {what}", value) for what, value in found)


def plan_for(
    title: str, device: SysfsDevice, steps: Sequence[Step], *, notes: Sequence[str] = (), probes: bool = True
) -> Plan:
    """A plan for `device`: its facts, and with `probes` what speaks against taking it from its driver now."""
    if not steps:
        return Plan(title, (device.name,), notes=tuple(notes), facts=_facts(device), sysfs=device.sysfs)
    made = time.monotonic()
    findings = in_use(device) if probes else ()
    looked = (Look(device, frozenset(one.probe for one in findings)),) if probes else ()
    return Plan(title, (device.name,), tuple(steps), tuple(notes), findings, _facts(device), device.sysfs, looked, made)


def in_use(device: SysfsDevice, probes: Collection[str] | None = None) -> tuple[Finding, ...]:
    """What speaks against taking a device from its driver now; what could not be seen is a finding, too.

    All probes are asked, or those called `probes`.
    """
    from pyvfio.binding.probes import look  # only a plan that changes something needs them

    seen = look(device, probes=probes)
    return (*seen.findings, *_unseen(device, seen.blind))


def _unseen(device: SysfsDevice, blind: Sequence[str]) -> tuple[Finding, ...]:
    """What a probe could not see stops the plan as a finding does: nobody knows that the device is free."""
    from pyvfio.binding.probes import PROBES

    unseen: dict[str, list[Evidence]] = {}
    for spot in blind:
        probe, _, what = spot.partition(": ")
        if probe not in PROBES:  # what is below the device could not be seen, by whatever probe
            probe, what = "open", spot
        unseen.setdefault(probe, []).append(Evidence(what))
    return tuple(Finding(probe, device.name, UNSEEN, tuple(what)) for probe, what in unseen.items())
