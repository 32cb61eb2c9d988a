"""Devices that are between two states: groups that cannot be used, overrides that were left, no driver."""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio import causes
from pyvfio.doctor.remark import OK, PROBLEM, WARNING, Patient, Remark

__all__ = ["free", "overrides", "viability"]

_MOST = 6
_BUSES = ("pci", "css")
_NO_OVERRIDE = ("", "(null)")


def viability(patient: Patient) -> Iterator[Remark]:
    """Groups of which VFIO has a device, and another driver has one too or firmware has reserved memory for one."""
    good = 0
    for name in patient.names("/dev/vfio"):
        if not name.isdecimal():
            continue
        group = patient.host.group(int(name)) if patient.exists(f"/sys/kernel/iommu_groups/{name}") else None
        blockers = [] if group is None else group.blockers()
        kept = causes.firmware_memory(int(name), [] if group is None else group.firmware_memory)
        if kept.sentence:
            yield Remark(f"group {name}", PROBLEM, f"VFIO has a device of it, but {kept.sentence}", kept.next_step)
        if not blockers:
            good += not kept.sentence
            continue
        yield Remark(
            f"group {name}",
            PROBLEM,
            f"VFIO has a device of it, but nobody can use it: {'; '.join(map(str, blockers))}",
            f"bind these too: {' '.join(member.name for member in blockers)} (pyvfio group {name} says why)",
        )
    if good:
        yield Remark("VFIO groups", OK, f"{good} can be used")


def _bound(patient: Patient, bus: str) -> dict[str, str]:
    """Device -> driver, from the directories of the drivers."""
    return {
        device: driver
        for driver in patient.names(f"/sys/bus/{bus}/drivers")
        for device in patient.names(f"/sys/bus/{bus}/drivers/{driver}")
    }


def overrides(patient: Patient) -> Iterator[Remark]:
    """Overrides that name another driver than the one that has the device: left by a bind that was not finished.

    Subchannels that their own driver has are not looked at: there may be very many.
    """
    for bus in _BUSES:
        bound = _bound(patient, bus)
        for name in patient.names(f"/sys/bus/{bus}/devices"):
            if bound.get(name) == "io_subchannel":
                continue
            override = patient.read(f"/sys/bus/{bus}/devices/{name}/driver_override")
            if override is None or override in _NO_OVERRIDE or override == bound.get(name):
                continue
            yield Remark(
                f"override of {name}",
                WARNING,
                f"driver_override is {override}, but its driver is {bound.get(name) or 'none'}",
                f"pyvfio bind {name} --to {override} finishes it, pyvfio release {name} takes it back"
                if bus == "pci"
                else f"pyvfio release {name} --bus css",
            )


def free(patient: Patient) -> Iterator[Remark]:
    """PCI functions that no driver has."""
    bound = _bound(patient, "pci")
    names = [name for name in patient.names("/sys/bus/pci/devices") if name not in bound]
    if names:
        more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
        yield Remark("without a driver", OK, f"{', '.join(names[:_MOST])}{more}: free to be taken (pyvfio bind)")
