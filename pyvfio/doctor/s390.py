"""IBM Z: memory I/O and UID checking of PCI, and channel I/O.  Sources: ``arch/s390/pci``, ``drivers/s390/cio``."""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio.doctor.remark import OK, WARNING, Patient, Remark

__all__ = ["channel_io", "memory_io", "uid_checking"]


def _functions(patient: Patient) -> list[str]:
    names = patient.names("/sys/bus/pci/devices")
    return [name for name in names if patient.exists(f"/sys/bus/pci/devices/{name}/function_id")]


def memory_io(patient: Patient) -> Iterator[Remark]:
    """Whether PCI functions are reached by load and store instructions on addresses (MIO)."""
    functions = _functions(patient)
    features = next(
        (line for line in (patient.read("/proc/cpuinfo") or "").splitlines() if line.startswith("features")), None
    )
    if not functions and not (patient.is_s390 and features is not None):
        return
    has = None if features is None else "pcimio" in features.split()
    on = [name for name in functions if patient.read(f"/sys/bus/pci/devices/{name}/mio_enabled") == "1"]
    check = "memory I/O (MIO)"
    if on:
        others = ", ".join(name for name in functions if name not in on)
        yield Remark(check, OK, f"on, but not for {others}" if others else "on")
    elif not has:
        why = "off" if has is None else "the machine has none"
        yield Remark(check, OK, f"{why}: BARs are read and written, not mapped")
    elif functions:
        detail = "the machine has it, Linux does not use it: BARs are read and written, not mapped"
        yield Remark(check, WARNING, detail, "take pci=nomio out of the kernel command line")
    else:
        yield Remark(check, OK, "the machine has it")


def uid_checking(patient: Patient) -> Iterator[Remark]:
    """Whether the names of PCI functions stay the same."""
    functions = _functions(patient)
    if not functions:
        return
    if all(patient.read(f"/sys/bus/pci/devices/{name}/uid_is_unique") == "1" for name in functions):
        yield Remark("UID checking", OK, "on: PCI domains are the UIDs and stay the same")
    else:
        yield Remark(
            "UID checking",
            WARNING,
            "off: PCI domains may change at the next boot",
            "name functions by fid, or turn UID checking on in the partition's profile",
        )


def channel_io(patient: Patient) -> Iterator[Remark]:
    """The channel subsystem, and what vfio_ccw has of it."""
    if not patient.exists("/sys/bus/css"):
        return
    count = len(patient.names("/sys/bus/css/devices"))
    taken = [name for name in patient.names("/sys/bus/css/drivers/vfio_ccw") if "." in name]
    idle = [
        name for name in taken if not any(len(entry) == 36 for entry in patient.names(f"/sys/bus/css/devices/{name}"))
    ]
    detail = f"{count} subchannel{'' if count == 1 else 's'}, {len(taken)} with vfio_ccw"
    if idle:
        step = "pyvfio ccw take DEV finishes it, pyvfio ccw give-back DEV takes it back (pyvfio ccw status)"
        yield Remark("channel I/O", WARNING, f"{detail}; without a mediated device: {', '.join(idle)}", step)
    else:
        yield Remark("channel I/O", OK, detail)
