"""The address space of a device without an IOMMU: none.  The device uses physical addresses, and nothing checks them.

VFIO maps nothing for such a device (any request for DMA on its container is ENOTTY, ``vfio_noiommu_ioctl`` in
``drivers/vfio/container.c``).  A program that wants DMA all the same must hold memory itself (locked huge pages) and
find its physical addresses (``/proc/self/pagemap``, CAP_SYS_ADMIN); this library does not.
"""

from __future__ import annotations

import errno
from typing import NoReturn

from pyvfio.errors import NotAvailable
from pyvfio.iommu.address_space import IovaRange, Mapping

__all__ = ["NoIommuTable"]

_CAUSE = "there is no IOMMU: the device uses physical addresses, and VFIO maps none"
_NEXT = "give it a host with an IOMMU; this library looks no physical addresses up"


class NoIommuTable:
    """An `IommuTable` in which nothing can be mapped: all raise `NotAvailable` with errno ENOTTY, as the kernel."""

    kind = "noiommu"
    name = "container without an IOMMU"

    def _refuse(self, operation: str) -> NoReturn:
        raise NotAvailable(operation, self.name, errno=errno.ENOTTY, cause=_CAUSE, next_step=_NEXT)

    def map(self, mapping: Mapping) -> None:
        """See `IommuTable.map`."""
        self._refuse("map DMA")

    def unmap(self, iova: int, length: int) -> int:
        """See `IommuTable.unmap`."""
        self._refuse("unmap DMA")

    def unmap_all(self) -> int | None:
        """See `IommuTable.unmap_all`: nothing is mapped."""
        return 0

    def ranges(self) -> list[IovaRange]:
        """See `IommuTable.ranges`."""
        self._refuse("read IOVA ranges")

    def page_sizes(self) -> int:
        """See `IommuTable.page_sizes`."""
        self._refuse("read page sizes")

    def available(self) -> int | None:
        """See `IommuTable.available`: no number limits what cannot be done at all."""
        return None

    def close(self) -> None:
        """See `IommuTable.close`."""
