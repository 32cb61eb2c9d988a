"""Dirty page tracking of a type 1 IOMMU: which pages a device may have written (VFIO_IOMMU_DIRTY_PAGES).

A mediated device writes only to pages it has pinned and through ``vfio_dma_rw``, so these are known.  A device behind
an IOMMU may have written anywhere, so with such a group every page of every pinned mapping is dirty.
"""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING

from pyvfio.abi import vfio_type1 as type1
from pyvfio.abi.layout import native_struct
from pyvfio.process import ProcessMemory
from pyvfio_backends.software.linux.iova_ranges import ADDRESS_LAST
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.type1 import Type1
    from pyvfio_backends.software.linux.type1_pages import Type1Mapping

__all__ = ["DirtyPages"]

_HEAD = native_struct(type1.IommuType1DirtyBitmap)
_RANGE = native_struct(type1.IommuType1DirtyBitmapGet)
_START, _STOP = type1.VFIO_IOMMU_DIRTY_PAGES_FLAG_START, type1.VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP
_GET = type1.VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP
_WORD = 8  # a bitmap is made of unsigned longs, in the byte order of the machine
_MOST_PAGES = (1 << 31) - 1  # bitmap_set() takes an int


def _bitmap_bytes(bits: int) -> int:
    return -(-bits // (8 * _WORD)) * _WORD


class DirtyPages:
    """The tracking of one IOMMU; `tracking` between START and STOP."""

    MOST_BYTES = _bitmap_bytes(_MOST_PAGES)
    """DIRTY_BITMAP_SIZE_MAX: the longest bitmap that may be asked for."""

    def __init__(self, owner: Type1) -> None:
        self._owner = owner
        self.tracking = False

    def ioctl(self, argument: Argument) -> int:
        """Answer VFIO_IOMMU_DIRTY_PAGES.  Version 1 has none (EACCES)."""
        if not self._owner.version2:
            raise fail(errno.EACCES)
        argsz, flags = _HEAD.unpack(argument.read(0, _HEAD.size))
        if argsz < _HEAD.size or flags not in (_START, _STOP, _GET):
            raise fail(errno.EINVAL)
        if flags == _START:
            self._start()
        elif flags == _STOP:
            self._stop()
        else:
            self._get(argument, argsz)
        return 0

    def _start(self) -> None:
        if self.tracking:
            return
        if any(mapping.size // self._owner.page_size > _MOST_PAGES for mapping in self._owner.tree):
            raise fail(errno.EINVAL)
        for mapping in self._owner.tree:
            self._restart(mapping)
        self.tracking = True

    def _stop(self) -> None:
        self.tracking = False
        for mapping in self._owner.tree:
            mapping.dirty = None
            mapping.all_dirty = False
            mapping.behind = 0

    def start_mapping(self, mapping: Type1Mapping) -> None:
        """A new mapping while tracking is on.  Raise OSError EINVAL, and unpin it, when it has too many pages."""
        if mapping.size // self._owner.page_size > _MOST_PAGES:
            self._owner.pages.unpin_mapping(mapping)
            raise fail(errno.EINVAL)
        mapping.dirty = set()

    def mark_everything(self) -> None:
        """A group left that may have written anywhere."""
        for mapping in self._owner.tree:
            mapping.all_dirty = True

    def _restart(self, mapping: Type1Mapping) -> None:
        # What is pinned now can be written at any time.  Pins count in pages of the kernel.
        page, size = self._owner.core.kernel.page_size, self._owner.page_size
        mapping.dirty = {number * page // size for number in mapping.pins}
        mapping.all_dirty = False

    def check_size(self, size: int, page: int, room: int) -> None:
        """Whether a bitmap of `room` bytes has a bit for each page of `size` bytes.  Raise OSError EINVAL."""
        pages = size >> (page & -page).bit_length() - 1 if page else 0
        if not pages or not room or room > self.MOST_BYTES or room < _bitmap_bytes(pages):
            raise fail(errno.EINVAL)

    def _get(self, argument: Argument, argsz: int) -> None:
        owner = self._owner
        if argsz < _HEAD.size + _RANGE.size:
            raise fail(errno.EINVAL)
        iova, size, page, room, bitmap = _RANGE.unpack(argument.read(_HEAD.size, _RANGE.size))
        last = iova + size - 1
        if last + 1 > ADDRESS_LAST:
            raise fail(errno.EINVAL)
        self.check_size(size, page, room)
        if page != owner.page_size or (iova | size) & (page - 1) or not self.tracking:
            raise fail(errno.EINVAL)
        found = owner.tree.between(iova, last)
        if found and (found[0].iova < iova or found[-1].last > last):
            raise fail(errno.EINVAL)
        for mapping in found:
            self.report(argument.caller, bitmap, mapping, iova)
            self._restart(mapping)

    def report(self, caller: ProcessMemory, bitmap: int, mapping: Type1Mapping, base: int) -> None:
        """Write a mapping's bits into the bitmap at address `bitmap`, whose first bit means `base`.

        Raise OSError EFAULT.  The words are those of ``update_user_bitmap()``: a mapping that does not begin with a
        word of the answer is shifted in its own bitmap and joined with the whole word that is there, and what comes
        to lie behind its last page stays for the next report.
        """
        pages = mapping.size // self._owner.page_size
        first_word, shift = divmod((mapping.iova - base) // self._owner.page_size, 8 * _WORD)
        at = bitmap + first_word * _WORD
        length = _bitmap_bytes(pages + shift)
        bits = mapping.behind << pages
        if mapping.all_dirty or (self._owner.writes_anywhere and mapping.pin is not None):
            bits |= (1 << pages) - 1
        elif mapping.dirty:
            bits |= _number(mapping.dirty, length)
        try:
            if shift:
                beyond = bits >> 8 * length << 8 * length
                bits = (bits << shift) & ((1 << 8 * length) - 1) | beyond
                bits |= int.from_bytes(caller.read(at, _WORD), sys.byteorder)
            data = (bits & ((1 << 8 * length) - 1)).to_bytes(length, "little")
            if sys.byteorder == "big":
                data = b"".join(data[word : word + _WORD][::-1] for word in range(0, length, _WORD))
            caller.write(at, data)
        except OSError:
            mapping.dirty = {page for page, bit in enumerate(reversed(f"{bits:b}"[-pages:])) if bit == "1"}
            raise
        finally:
            mapping.all_dirty = False
            mapping.behind = bits >> pages


def _number(pages: set[int], length: int) -> int:
    """A number of `length` bytes with these bits."""
    data = bytearray(length)
    for page in pages:
        data[page // 8] |= 1 << page % 8
    return int.from_bytes(data, "little")
