"""POWER: whether Linux isolates errors (EEH), and whether a whole DMA window may be locked.

Sources: ``arch/powerpc/kernel/eeh.c`` (``proc_eeh_show``, ``eeh_setup``), ``drivers/vfio/vfio_iommu_spapr_tce.c``.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio.doctor.remark import OK, WARNING, Patient, Remark

__all__ = ["error_handling"]

_STATE = "/proc/powerpc/eeh"


def error_handling(patient: Patient) -> Iterator[Remark]:
    """Whether a device's error freezes its partitionable endpoint, and programs can recover it."""
    text = patient.read(_STATE)
    if text is None:
        return
    check = "EEH"
    first, *lines = text.splitlines() or [""]
    if "disabled" not in first:
        counts = dict(line.split("=", 1) for line in lines if "=" in line)
        resets = counts.get("eeh_slot_resets", "0")
        yield Remark(check, OK, f"errors freeze the endpoint of a device alone; {resets} resets of slots so far")
    elif "eeh=off" in (patient.read("/proc/cmdline") or "").split():
        yield Remark(check, WARNING, "switched off (eeh=off): an error can stop the machine", "boot without eeh=off")
    else:
        detail = "no adapter is under EEH: no error freezes an endpoint, and VFIO_EEH_PE_OP is ENODEV"
        step = "in a virtual machine the hypervisor must have it; on bare metal, dmesg | grep EEH"
        yield Remark(check, WARNING, detail, step)
