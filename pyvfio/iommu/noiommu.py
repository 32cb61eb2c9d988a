"""The address space of a device without an IOMMU: none.  The device uses physical addresses, and nothing checks them.

VFIO maps nothing for such a device (any request for DMA on its container is ENOTTY, ``vfio_noiommu_ioctl`` in
``drivers/vfio/container.c``).  A program that wants DMA all the same must hold memory itself (locked huge pages) and
find its physical addresses (``/proc/self/pagemap``, CAP_SYS_ADMIN); this library does not.
"""

from __future__ import annotations

import errno

from pyvfio.errors import NotAvailable
from pyvfio.iommu.unmappable import UnmappableTable

__all__ = ["NoIommuTable"]

_CAUSE = "there is no IOMMU: the device uses physical addresses, and VFIO maps none"
_NEXT = "give it a host with an IOMMU; this library looks no physical addresses up"


class NoIommuTable(UnmappableTable):
    """An `IommuTable` in which nothing can be mapped: `NotAvailable` with errno ENOTTY, as the kernel."""

    kind = "noiommu"
    name = "container without an IOMMU"

    def refusal(self, operation: str) -> NotAvailable:
        """See `UnmappableTable.refusal`."""
        return NotAvailable(operation, self.name, errno=errno.ENOTTY, cause=_CAUSE, next_step=_NEXT)
