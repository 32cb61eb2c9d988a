"""What a machine of POWER cannot be: pages, memory and modules that no kernel or hardware of POWER has."""

from __future__ import annotations

from typing import Final

from pyvfio_backends.software.description import POWER, PSERIES, MachineSpec
from pyvfio_backends.software.file_report import Report

__all__ = ["check_power"]

_PAGES: Final = (1 << 12, 1 << 16)
"""Sizes of pages of 64-bit Linux (``arch/powerpc/Kconfig``: PPC_16K_PAGES is for 44x alone)."""
_MOST_MEMORY: Final = {"": 0x6000000000000, PSERIES: 0x200000000000}
"""Where the windows of host bridges begin (``hw/phys-map.c`` of skiboot for POWER9; SPAPR_PCI_BASE of QEMU)."""
_FOREIGN: Final = {
    "vfio_iommu_type1": "its IOMMU is of the module vfio_iommu_spapr_tce",  # drivers/vfio/Kconfig
    "iommufd": "its kernels have none",  # none in Debian's, and VFIO's device nodes exclude its IOMMU (Kconfig)
    "vfio_ccw": "there is no channel I/O",
    **dict.fromkeys(("aer_inject", "mdev", "mtty"), "not modelled there"),
}


def check_power(spec: MachineSpec, error: Report) -> None:
    """Check the table ``[machine]``.  Raise what `error` makes of a place and a cause."""
    if spec.architecture not in POWER:
        return
    if spec.page_size not in _PAGES:
        listed = " or ".join(map(str, _PAGES))
        raise error(("machine", "page_size"), f"a machine of POWER has pages of {listed} bytes, not {spec.page_size}")
    most = _MOST_MEMORY.get(spec.platform, _MOST_MEMORY[""])
    if spec.memory > most:
        cause = f"memory ends where the windows of host bridges begin, at {most:#x}; not {spec.memory:#x}"
        raise error(("machine", "memory"), cause)
    for name in spec.modules:
        why = _FOREIGN.get(name.replace("-", "_"))
        if why is not None:
            raise error(("machine", "modules"), f"no module {name!r} on POWER: {why}")
    if spec.devices:
        raise error(("machine", "devices"), f"a machine of architecture {spec.architecture} has none in QEMU's words")
