"""Mediated devices in iommufd: copies and pins by the address space itself (``struct iommufd_access``).

Source: ``drivers/iommu/iommufd/device.c``, ``drivers/vfio/iommufd.c``.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.iommufd_device import Binding
from pyvfio_backends.software.linux.iommufd_pages import Area
from pyvfio_backends.software.linux.iommufd_tables import Ioas
from pyvfio_backends.software.linux.iova_ranges import ADDRESS_LAST
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.iommufd import IommufdContext
    from pyvfio_backends.software.linux.vfio_core import VfioDevice

__all__ = ["Access"]


class Access(Binding):
    """What a mediated device has in a context; `ioas` is where it is attached."""

    def __init__(self, context: IommufdContext, device: VfioDevice) -> None:
        super().__init__(context, device)
        self.ioas: Ioas | None = None
        self._unpinning: Ioas | None = None

    def destroy(self) -> None:
        self._change(None)
        self.context.release()

    def attach(self, id_: int) -> int:
        self._change(self.context.ioas(id_))
        return id_

    def detach(self) -> None:
        self._change(None)

    def _change(self, ioas: Ioas | None) -> None:
        old = self.ioas
        if ioas is old:
            return
        self.ioas = None
        if ioas is not None:
            try:
                ioas.table.add_access(self)
            except OSError:
                self.ioas = old
                raise
            ioas.users += 1
        if old is not None:
            # The driver may unpin, but not pin, while it is told that all is going.
            self._unpinning = old
            self.notify(0, ADDRESS_LAST)
            old.table.remove_access(self)
            old.users -= 1
        self.ioas = self._unpinning = ioas

    def notify(self, iova: int, length: int) -> None:
        """A range goes: the driver must unpin."""
        self.device.dma_unmap(iova, length)

    def _areas(self, iova: int, count: int, write: bool) -> Iterator[tuple[Area, int, int]]:
        """The areas under a range: (area, first address, bytes).  ENOENT comes when the hole is reached."""
        if not count:
            raise fail(errno.EINVAL)
        last = iova + count - 1
        if last > ADDRESS_LAST:
            raise fail(errno.EOVERFLOW)
        if self.ioas is None:
            raise fail(errno.ENOENT)
        while iova <= last:
            area = self.ioas.table.areas.find(iova)
            if area is None:
                raise fail(errno.ENOENT)
            if area.prevented:
                raise fail(errno.EINVAL)
            if not (area.write if write else area.read):
                raise fail(errno.EPERM)
            end = min(last, area.last)
            yield area, iova, end - iova + 1
            iova = end + 1

    def read(self, iova: int, count: int) -> bytes:
        """See `VfioDevice.dma_read`."""
        found: list[bytes] = []
        for area, at, length in self._areas(iova, count, False):
            area.pages.require_access(area.byte(at), length)
            found.append(area.caller.read(area.pages.base + area.byte(at), length))
        return b"".join(found)

    def write(self, iova: int, data: bytes) -> None:
        """See `VfioDevice.dma_write`."""
        for area, at, length in self._areas(iova, len(data), True):
            area.pages.require_access(area.byte(at), length)
            area.caller.write(area.pages.base + area.byte(at), data[at - iova : at - iova + length])

    def pin(self, device: VfioDevice, iova: int, npages: int, write: bool) -> list[int]:
        """See `VfioDevice.pin_pages`."""
        kernel = self.context.core.kernel
        page = kernel.page_size
        iova -= iova % page
        addresses: list[int] = []
        try:
            for area, at, length in self._areas(iova, npages * page, write):
                if area.byte(at) % page or length % page:
                    raise fail(errno.EINVAL)
                for number in range(area.byte(at) // page, (area.byte(at) + length) // page):
                    addresses.append(kernel.memory.pinned_address(area.caller, area.pin_page(number, write)))
        except OSError:
            self._unpinning = self.ioas
            self.unpin(iova, len(addresses))
            raise
        return addresses

    def unpin(self, iova: int, npages: int) -> None:
        """See `VfioDevice.unpin_pages`."""
        ioas = self._unpinning
        if ioas is None:
            return
        page = self.context.core.kernel.page_size
        iova -= iova % page
        for at in range(iova, iova + npages * page, page):
            area = ioas.table.areas.find(at)
            if area is None:
                return
            area.unpin_page(area.byte(at) // page)
