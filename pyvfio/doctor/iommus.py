"""IOMMUs and their groups.  Kernel options: ``Documentation/admin-guide/kernel-parameters.txt``."""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio.doctor.remark import OK, PROBLEM, WARNING, Patient, Remark

__all__ = ["groups", "options"]

_OPTIONS = ("intel_iommu", "amd_iommu", "iommu", "arm-smmu", "arm-smmu-v3", "s390_iommu")
_OFF = {
    "intel_iommu": ("off",),
    "amd_iommu": ("off",),
    "iommu": ("off",),
}
_MANY = 3


def groups(patient: Patient) -> Iterator[Remark]:
    """IOMMU groups are there, so an IOMMU is on."""
    count = len(patient.names("/sys/kernel/iommu_groups"))
    functions = patient.names("/sys/bus/pci/devices")
    units = patient.names("/sys/class/iommu")
    if count:
        which = f" by {', '.join(units[:_MANY])}{', ...' if len(units) > _MANY else ''}" if units else ""
        yield Remark("IOMMU", OK, f"{count} IOMMU group{'' if count == 1 else 's'}{which}")
    elif not functions:
        yield Remark("IOMMU", OK, "no PCI functions; mediated devices need no IOMMU")
    elif patient.is_s390:
        yield Remark(
            "IOMMU",
            WARNING,
            "PCI functions but no IOMMU groups; on IBM Z every configured function has one",
            "look whether the functions are configured: pyvfio list, and the slots' power files",
        )
    elif patient.is_power:
        yield Remark(
            "IOMMU",
            PROBLEM,
            "PCI functions but no IOMMU groups; on POWER every endpoint has one, when the kernel can give it windows",
            "dmesg | grep -i iommu",
        )
    else:
        yield Remark(
            "IOMMU",
            PROBLEM,
            "PCI functions but no IOMMU groups: the IOMMU is off",
            "turn it on in the firmware (VT-d, AMD-Vi, SMMU) and on the kernel command line (intel_iommu=on; AMD and "
            "IBM Z have it on); a virtual machine must be given a virtual IOMMU",
        )


def options(patient: Patient) -> Iterator[Remark]:
    """What the kernel was told about IOMMUs when it was started."""
    words = (patient.read("/proc/cmdline") or "").split()
    given = [word for word in words if word.partition("=")[0].partition(".")[0] in _OPTIONS]
    off = [word for word in given if word.partition("=")[2] in _OFF.get(word.partition("=")[0], ())]
    if off and not patient.is_s390:
        yield Remark(
            "kernel options",
            PROBLEM if not patient.names("/sys/kernel/iommu_groups") else WARNING,
            f"{' '.join(off)} turns an IOMMU off",
            "take it out of the kernel command line (the boot loader's configuration) and boot again",
        )
    elif given:
        more = "; with iommu=pt only the host's own DMA passes untranslated" if "iommu=pt" in given else ""
        yield Remark("kernel options", OK, " ".join(given) + more)
    elif patient.is_s390 or patient.is_power:
        where = "IBM Z" if patient.is_s390 else "POWER"
        yield Remark("kernel options", OK, f"none about IOMMUs; on {where} there always is one")
    else:
        yield Remark("kernel options", OK, "none about IOMMUs")
