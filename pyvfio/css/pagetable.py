"""A guest and a host's kernel in a table, for looking at a translation without either of them.

>>> from pyvfio.css import Program
>>> program = Program(0x11000).sense_id((0x20FF0, 64))
>>> guest = program.image()
>>> guest.room(0x11000, 0x800)
>>> table = PageTable(guest, {0x11000: 0x700000, 0x20000: 0x500000, 0x21000: 0x900000}, 4 * 1024)
>>> print("\\n".join(translate(program.orb(), table).trace()))
0x11000: SENSE ID  e4 count=64 @0x20ff0
  -> 0x10000: SENSE ID  e4 IDA count=64 @0x11000
     IDAW 0: 0x20ff0 -> 0x500ff0
     IDAW 1: 0x21000 -> 0x900000
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Mapping

from pyvfio.css.instructions import Storage, StorageError
from pyvfio.css.orb import Orb
from pyvfio.css.translation import Translation
from pyvfio.errors import KernelRefused

__all__ = ["Blocks", "PageTable", "translate"]

_FIRST = 0x10000


class PageTable:
    """The guest's `storage` with `pages` (guest page to host page, both multiples of `page`).

    It is the `GuestPages` of a translation; `held` counts the pins of each guest page.
    """

    def __init__(self, storage: Storage, pages: Mapping[int, int], page: int) -> None:
        self.storage = storage
        self.pages = dict(pages)
        self.page = page
        self.held: Counter[int] = Counter()

    def _range(self, iova: int, count: int) -> range:
        return range(iova - iova % self.page, iova + count, self.page)

    def _look(self, iova: int, count: int) -> list[int]:
        for page in self._range(iova, count):
            if page not in self.pages:
                cause = f"the guest's page {page:#x} is not mapped"
                raise KernelRefused("translate channel program", errno=errno.EINVAL, cause=cause)
        return [self.pages[page] for page in self._range(iova, count)]

    def read(self, iova: int, count: int) -> bytes:
        """Copy `count` bytes.  Raise `KernelRefused` EINVAL unless all their pages are mapped."""
        self._look(iova, count)
        try:
            return self.storage.read(iova, count)
        except StorageError as error:
            raise KernelRefused("translate channel program", errno=errno.EFAULT, cause=str(error)) from error

    def pin(self, iova: int, npages: int) -> list[int]:
        """The host's addresses of the pages from the one of `iova` on.  Raise `KernelRefused` EINVAL."""
        first = iova - iova % self.page
        found = self._look(first, npages * self.page)
        self.held.update(self._range(first, npages * self.page))
        return found

    def unpin(self, iova: int, npages: int) -> None:
        """Let pages go."""
        self.held.subtract(self._range(iova - iova % self.page, npages * self.page))
        self.held += Counter()


class Blocks:
    """Storage of a kernel (the `KernelStorage` of a translation): blocks on `page` boundaries, by their addresses."""

    def __init__(self, page: int, first: int = _FIRST) -> None:
        self.page = page
        self.blocks: dict[int, bytearray] = {}
        self._next = first

    def allocate(self, size: int) -> int:
        """A new block of zeros."""
        address = self._next
        self._next += -(-max(size, 1) // self.page) * self.page
        self.blocks[address] = bytearray(size)
        return address

    def _find(self, address: int, count: int) -> tuple[bytearray, int]:
        for start, block in self.blocks.items():
            if start <= address and address + count <= start + len(block):
                return block, address - start
        raise StorageError(address, count)

    def read(self, address: int, count: int) -> bytes:
        """Copy out of a block.  Raise `StorageError`."""
        block, offset = self._find(address, count)
        return bytes(block[offset : offset + count])

    def write(self, address: int, data: bytes) -> None:
        """Store into a block.  Raise `StorageError`."""
        block, offset = self._find(address, len(data))
        block[offset : offset + len(data)] = data

    def free(self, address: int) -> None:
        """Give a block back."""
        self.blocks.pop(address, None)


def translate(orb: Orb, guest: PageTable, kernel: Blocks | None = None) -> Translation:
    """Copy and translate the program that `orb` starts.  Raise `KernelRefused`; nothing is pinned then."""
    translation = Translation(guest, Blocks(guest.page) if kernel is None else kernel, guest.page)
    translation.copy(orb)
    try:
        translation.translate()
    except KernelRefused:
        translation.free()
        raise
    return translation
