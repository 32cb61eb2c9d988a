"""The pages of a type 1 IOMMU: pinned for an IOMMU when they are mapped, for mediated devices when they ask."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.process import Pin, ProcessMemory
from pyvfio_backends.software.linux.dma_domain import Mapping
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.type1 import Type1
    from pyvfio_backends.software.linux.vfio_core import VfioDevice

__all__ = ["Type1Mapping", "Type1Pages"]

_POINTER = 8  # sizeof(unsigned long), of which VFIO_PIN_PAGES_MAX_ENTRIES fit in a page


class Type1Mapping(Mapping):
    """A mapping of type 1: `invalid` between VFIO_DMA_UNMAP_FLAG_VADDR and VFIO_DMA_MAP_FLAG_VADDR.

    `dirty` is the set of written pages by number (None: not tracked), `all_dirty` stands for all of them, and `behind`
    are the bits that a report left behind the last page.  `locked` counts the pages charged to the process.
    """

    __slots__ = ("all_dirty", "behind", "dirty", "invalid", "locked")

    def __init__(self, iova: int, last: int, caller: ProcessMemory, address: int, read: bool, write: bool) -> None:
        super().__init__(iova, last, caller, address, read, write)
        self.invalid = False
        self.dirty: set[int] | None = None
        self.all_dirty = False
        self.behind = 0
        self.locked = 0


class Type1Pages:
    """Pins and unpins for the IOMMU `owner`."""

    def __init__(self, owner: Type1) -> None:
        self._owner = owner
        self._kernel = owner.core.kernel
        self._page = self._kernel.page_size
        self._memory = owner.core.locked

    # for an IOMMU

    def pin_mapping(self, mapping: Type1Mapping) -> None:
        """Pin a mapping as it is given to an IOMMU.  Raise OSError EFAULT or ENOMEM; nothing is pinned then.

        Pages that a mediated device has pinned already are charged.
        """
        pages = mapping.size // self._page - len(mapping.pins)
        account = ("process", mapping.caller.pid)
        room = self._memory.room(account)
        if room is not None and pages > room:
            # The kernel pins and charges page by page, so a bad page before the limit is found first.
            Pin(mapping.caller, mapping.address, (room + 1) * self._page, writable=mapping.write).close()
            raise fail(errno.ENOMEM)
        mapping.pin = Pin(mapping.caller, mapping.address, mapping.size, writable=mapping.write)
        self._memory.charge(account, pages)
        mapping.locked += pages

    def unpin_mapping(self, mapping: Type1Mapping) -> None:
        """Let all pages go."""
        mapping.close()
        if mapping.locked:
            self._memory.release(("process", mapping.caller.pid), mapping.locked)
            mapping.locked = 0

    def pin_all(self) -> None:
        """The first group with an IOMMU comes (``vfio_iommu_replay``).  On an OSError nothing is pinned."""
        done: list[Type1Mapping] = []
        for mapping in self._owner.tree:
            try:
                self.pin_mapping(mapping)
            except OSError:
                for pinned in done:
                    self._unpin_for_iommu(pinned)
                raise
            done.append(mapping)

    def unpin_all(self) -> None:
        """The last group with an IOMMU went; what mediated devices hold stays."""
        for mapping in self._owner.tree:
            self._unpin_for_iommu(mapping)

    def _unpin_for_iommu(self, mapping: Type1Mapping) -> None:
        mapping.close()
        if mapping.locked:
            self._memory.release(("process", mapping.caller.pid), mapping.locked - len(mapping.pins))
            mapping.locked = len(mapping.pins)

    def change_owner(self, mapping: Type1Mapping, caller: ProcessMemory, address: int) -> None:
        """The memory has another address now, maybe in another process.  Raise OSError ENOMEM."""
        if caller.pid != mapping.caller.pid and mapping.locked:
            self._memory.charge(("process", caller.pid), mapping.locked)
            self._memory.release(("process", mapping.caller.pid), mapping.locked)
        mapping.caller = caller
        mapping.address = address
        if mapping.pin is not None and not mapping.pin.aliased:
            # Real pins hold the pages themselves; ours must follow the address, if there is memory.
            try:
                pin = Pin(caller, address, mapping.size, writable=mapping.write)
            except OSError:
                return
            mapping.close()
            mapping.pin = pin

    # for mediated devices (vfio_iommu_type1_pin_pages and _dma_rw)

    def pin(self, device: VfioDevice, iova: int, npages: int, write: bool) -> list[int]:
        """Pin pages for an emulated device; see `VfioDevice.pin_pages`."""
        owner = self._owner
        if npages > self._page // _POINTER:
            raise fail(errno.E2BIG)
        if not owner.version2:
            raise fail(errno.EACCES)
        if owner.invalid:
            raise fail(errno.EBUSY)
        if not owner.devices:
            raise fail(errno.EINVAL)
        addresses: list[int] = []
        try:
            for number in range(npages):
                addresses.append(self._pin_page(iova + number * self._page, write))
        except OSError:
            self.unpin(iova, len(addresses))
            raise
        if device.group is not None:
            owner.groups[device.group] = True
        return addresses

    def _pin_page(self, iova: int, write: bool) -> int:
        # Any mapping that the page from `iova` on meets will do (vfio_find_dma); if `iova` lies before it, the page
        # before the mapping's memory is taken.
        mapping = self._owner.tree.find(iova) or self._owner.tree.overlap(iova, iova + self._page - 1)
        if mapping is None:
            raise fail(errno.EINVAL)
        if not mapping.read or (write and not mapping.write):
            raise fail(errno.EPERM)
        page = (iova - mapping.iova) // self._page
        address = mapping.address + page * self._page
        held = mapping.pins.get(page, 0)
        if not held:
            # Nothing is kept: the page is only asked for, and reached by its address when it is used.
            Pin(mapping.caller, address, self._page, writable=mapping.write).close()
            account = ("process", mapping.caller.pid)
            if self._owner.domain is None:
                self._memory.charge(account, 1)
                mapping.locked += 1
            if mapping.dirty is not None and page >= 0:
                mapping.dirty.add(page * self._page // self._owner.page_size)
        mapping.pins[page] = held + 1
        return self._kernel.memory.pinned_address(mapping.caller, address)

    def unpin(self, iova: int, npages: int) -> None:
        """Unpin pages; the first one that is not mapped ends it."""
        for at in range(iova, iova + npages * self._page, self._page):
            mapping = self._owner.tree.find(at) or self._owner.tree.overlap(at, at + self._page - 1)
            if mapping is None:
                return
            page = (at - mapping.iova) // self._page
            held = mapping.pins.get(page, 0)
            if held > 1:
                mapping.pins[page] = held - 1
            elif held:
                del mapping.pins[page]
                if self._owner.domain is None and mapping.locked:
                    self._memory.release(("process", mapping.caller.pid), 1)
                    mapping.locked -= 1

    def _chunk(self, iova: int, count: int, write: bool) -> tuple[Type1Mapping, int, int]:
        """The mapping at `iova`, the offset in it, and how many of `count` bytes it has."""
        if self._owner.invalid:
            raise fail(errno.EBUSY)
        mapping = self._owner.tree.find(iova)
        if mapping is None:
            raise fail(errno.EINVAL)
        if not mapping.read or (write and not mapping.write):
            raise fail(errno.EPERM)
        offset = iova - mapping.iova
        return mapping, offset, min(count, mapping.size - offset)

    def read(self, iova: int, count: int) -> bytes:
        """Copy out of the program's memory; see `VfioDevice.dma_read`."""
        parts: list[bytes] = []
        while count:
            mapping, offset, length = self._chunk(iova, count, False)
            parts.append(mapping.caller.read(mapping.address + offset, length))
            iova, count = iova + length, count - length
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, iova: int, data: bytes) -> None:
        """Copy into the program's memory; see `VfioDevice.dma_write`."""
        while data:
            mapping, offset, length = self._chunk(iova, len(data), True)
            mapping.caller.write(mapping.address + offset, data[:length])
            if mapping.dirty is not None:
                size = self._owner.page_size
                mapping.dirty.update(range(offset // size, (offset + length - 1) // size + 1))
            iova, data = iova + length, data[length:]
