"""The IOMMU of a zPCI function: its device of class ``iommu``, and the DMA addresses that Linux uses.

A function tells which addresses its DMA can have.  Linux uses as many as the machine has storage, or several times that
(kernel parameter ``s390_iommu_aperture=``, 0: without such a bound), and none beyond its translation tables.
Source: ``drivers/iommu/s390-iommu.c`` (6.12), `zpci_init_iommu` and `s390_iommu_probe_device`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.dma_domain import DmaDomain, IommuCounters
from pyvfio_backends.software.linux.iommu_group import Region
from pyvfio_backends.software.linux.kstrtox import kstrtoul
from pyvfio_backends.software.linux.nodes import Node, StaticDirectory, Symlink

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.dma import DmaSpace
    from pyvfio_backends.software.linux.iommu_group import IommuGroup
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.zpci import ZpciDev

__all__ = ["ZpciIommu", "dma_range"]

_TABLE_SIZE = 1 << 42  # three levels of s390's DMA tables (ZPCI_TABLE_SIZE_RT)
_U64 = (1 << 64) - 1
_U32 = (1 << 32) - 1
_PAGE_SIZES = 1 << 12
_FACTOR = "s390_iommu_aperture="


def _aperture(memory: int, cmdline: str) -> int:
    """How many addresses Linux wants at most (``s390_iommu_aperture``)."""
    factor = 1
    for word in cmdline.split():
        if word.startswith(_FACTOR):
            try:
                factor = kstrtoul(word.removeprefix(_FACTOR).encode(), 10)
            except OSError:
                factor = 1
            factor = 1 if factor > _U32 else factor
    return memory * factor & _U64 if factor else _U64


def dma_range(first: int, last: int, *, memory: int, page_size: int, cmdline: str = "") -> tuple[int, int]:
    """The first and the last DMA address for Linux, of those from `first` to `last` that the function tells.

    `memory` is the storage of the machine in bytes, `cmdline` the kernel's command line.
    """
    start = (first + page_size - 1) & -page_size & _U64
    size = min(_aperture(memory, cmdline), _TABLE_SIZE - start & _U64, last - start + 1 & _U64)
    return start, start + size - 1 & _U64


class ZpciIommu(Device):
    """``s390-iommu.FID`` of class ``iommu``, with links to the devices behind it; `first` and `last` DMA address.

    `space` is what the function's DMA sees, None while it is blocked.
    """

    def __init__(self, zdev: ZpciDev) -> None:
        kernel = zdev.bus.kernel
        super().__init__(kernel, f"s390-iommu.{zdev.fid:08x}", None, cls=kernel.class_("iommu"))
        self.zdev = zdev
        self.space: DmaSpace | None = None
        facts = zdev.function.facts
        self.first, self.last = dma_range(
            facts.start_dma,
            facts.end_dma,
            memory=kernel.storage_size,
            page_size=kernel.page_size,
            cmdline=kernel.cmdline,
        )

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        pdev = self.zdev.pdev
        entries: dict[str, Node] = {}
        if pdev is not None:
            entries[pdev.name] = Symlink(f"../../../..{pdev.devpath.removeprefix('/devices')}")
        return {"devices": StaticDirectory(dict(entries))}

    def attach(self, space: DmaSpace | None) -> None:
        """The address space for the function's DMA (``zpci_register_ioat``)."""
        function = self.zdev.function
        if isinstance(self.space, DmaDomain):
            self.space.refreshes.remove(function.refresh)
        if isinstance(space, DmaDomain):
            space.refreshes.append(function.refresh)
        self.space = space
        function.dma = space

    def counters(self) -> IommuCounters | None:
        """What is counted of the domain that the function is in (``zpci_get_iommu_ctrs``); None: its DMA is blocked."""
        if isinstance(self.space, DmaDomain):
            return self.space.counters
        pdev = self.zdev.pdev
        group = None if pdev is None else pdev.iommu_group
        # The host's own drivers do no DMA here, so their domain stays as it was.
        return IommuCounters() if group is not None and group.owner is None else None

    def group(self, kernel: Kernel) -> IommuGroup | None:
        """A group for the function's device; None for DMA addresses that Linux has no tables for."""
        if self.first > self.last or self.first > _TABLE_SIZE - 1:
            return None
        self.last = min(self.last, _TABLE_SIZE - 1)
        group = kernel.groups.create()
        group.aperture = (self.first, self.last)
        group.page_sizes = _PAGE_SIZES
        return group

    def regions(self) -> list[Region]:
        """What is not for mappings of what the tables could translate (``s390_iommu_get_resv_regions``)."""
        below = [Region(0, self.first - 1)] if self.first else []
        return below + ([Region(self.last + 1, _TABLE_SIZE - 1)] if self.last < _TABLE_SIZE - 1 else [])
