"""Parameters that give isolation up.  They are said loudly, because nothing else shows them."""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio.doctor.remark import OK, PROBLEM, WARNING, Patient, Remark

__all__ = ["interrupts", "no_iommu"]

_INTERRUPTS = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
_NO_IOMMU = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"


def interrupts(patient: Patient) -> Iterator[Remark]:
    """Whether devices may raise interrupts that are not theirs."""
    value = patient.read(_INTERRUPTS)
    if value == "Y":
        yield Remark(
            "unsafe interrupts",
            WARNING,
            "UNSAFE: allowed: without interrupt remapping a device can raise any interrupt of the host",
            f"echo N > {_INTERRUPTS}, and turn interrupt remapping on in the firmware",
        )
    elif value is not None:
        yield Remark("unsafe interrupts", OK, "not allowed")


def no_iommu(patient: Patient) -> Iterator[Remark]:
    """Whether programs may drive devices without any IOMMU, and whether one can now."""
    value = patient.read(_NO_IOMMU)
    nodes = [name for name in patient.names("/dev/vfio") if name.startswith("noiommu-")]
    if nodes:
        yield Remark(
            "no-IOMMU mode",
            PROBLEM,
            f"UNSAFE: {', '.join(nodes)}: whoever has it reads and writes all memory, by DMA that nothing checks",
            "unbind these devices from VFIO; the kernel is tainted until the next boot",
        )
    elif value == "Y":
        yield Remark(
            "no-IOMMU mode",
            WARNING,
            "UNSAFE: enabled: devices without an IOMMU can be given to programs, with access to all memory",
            f"echo N > {_NO_IOMMU}",
        )
    elif value is not None:
        yield Remark("no-IOMMU mode", OK, "off")
