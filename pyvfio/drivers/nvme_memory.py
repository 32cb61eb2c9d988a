"""Memory for the data of NVMe commands: where it is (PRPs), and slots of it that commands take and give back.

A PRP (physical region page) is the address of a page, or of a place within the first one.  A command has two: the
second is a page, or a list of them, whose last entry leads on to the next list.  Source: NVM Express 1.4, 4.3.
"""

from __future__ import annotations

import struct
from typing import Final

from pyvfio.errors import Misuse
from pyvfio.iommu import DmaBuffer
from pyvfio.iommu.address_space import AddressSpace

__all__ = ["Slot", "Slots", "list_room", "place_data"]

_ENTRY: Final = 8


def list_room(page: int, count: int) -> int:
    """How many bytes `place_data` needs at most for the lists of `count` bytes of data, in whole pages."""
    entries = -(-count // page)
    lists = -(-entries // (page // _ENTRY - 1))
    return lists * page


def place_data(page: int, address: int, count: int, room: memoryview, room_address: int) -> tuple[int, int]:
    """PRP1 and PRP2 of `count` bytes that a device sees at `address` on, in pages of `page` bytes.

    Lists are written to `room`, which the device sees at `room_address` (the start of a page).
    """
    first = page - address % page
    if count <= first:
        return address, 0
    pages = list(range(address + first, address + count, page))
    if len(pages) == 1:
        return address, pages[0]
    fits, at = page // _ENTRY, 0
    while True:
        here = pages if len(pages) <= fits else [*pages[: fits - 1], room_address + at + page]
        struct.pack_into(f"<{len(here)}Q", room, at, *here)
        if len(pages) <= fits:
            return address, room_address
        pages, at = pages[fits - 1 :], at + page


class Slot:
    """Room for the data of one command: `view` of up to `size` bytes, placed at `iova`."""

    __slots__ = ("_lists", "_lists_iova", "_page", "iova", "size", "view")

    def __init__(self, buffer: DmaBuffer, at: int, size: int, lists: int, page: int) -> None:
        self.iova = buffer.iova + at
        self.size = size
        self.view = buffer.view[at : at + size]
        self._page = page
        self._lists = buffer.view[at + size : at + size + lists]
        self._lists_iova = self.iova + size

    def prps(self, count: int) -> tuple[int, int]:
        """PRP1 and PRP2 of its first `count` bytes."""
        return place_data(self._page, self.iova, count, self._lists, self._lists_iova)

    def release(self) -> None:
        """Give up the views, so that the buffer can be closed."""
        self.view.release()
        self._lists.release()


class Slots:
    """`number` slots for up to `size` bytes of data each, in one mapping of `space`; pages of `page` bytes."""

    def __init__(self, space: AddressSpace, number: int, size: int, page: int) -> None:
        if size <= 0 or size % page:
            raise Misuse("drive NVMe", cause=f"a transfer of {size} bytes is no whole pages of {page}")
        self.size = size
        lists = list_room(page, size)
        self._buffer = space.buffer(number * (size + lists), alignment=page)
        self._all = [Slot(self._buffer, at * (size + lists), size, lists, page) for at in range(number)]
        self._free = list(reversed(self._all))

    @property
    def available(self) -> bool:
        """Whether there is a slot that nobody has."""
        return bool(self._free)

    def take(self) -> Slot | None:
        """A slot that nobody has, None while there is none."""
        return self._free.pop() if self._free else None

    def give_back(self, slot: Slot) -> None:
        """A slot may be taken again."""
        self._free.append(slot)

    def close(self) -> None:
        """Unmap and free; a second call does nothing.  The device must not use the memory any more."""
        for slot in self._all:
            slot.release()
        self._all = []
        self._free = []
        self._buffer.close()
