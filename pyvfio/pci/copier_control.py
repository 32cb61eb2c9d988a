"""The registers of the copier for its owner, in the upper half of BAR 0: stop it, take its state out and in, log DMA.

They are for who gives the copier away (a driver such as ``copier-vfio-pci``), which lets its user have the lower half
only.  Little-endian, accessed by aligned 4 bytes; a 64-bit one by 8, too::

    800 PAUSE      rw 32  bit 0: no work (DMA and interrupts) is begun; bit 1: the lower half does not change, either
    804 LENGTH     ro 32  bytes of the image
    808 LOADED     ro 32  what became of the last image: 0 none, 1 good, 2 bad
    80c LOAD       wo 32  take the image over; only while both bits of PAUSE are set
    840 IMAGE      rw     the state, as it is now or as it was written since both bits of PAUSE were set

    8c0 LOG_FIRST  rw 64  the first address of which writes are logged; a multiple of a page, as the number of bytes
    8c8 LOG_LAST   rw 64  and the last
    8d0 LOG_SHIFT  rw 32  the page is 1 << LOG_SHIFT bytes, 12 to 30
    8d4 LOG        rw 32  bit 0: log.  It only goes on with a range and a page that can be; going on, nothing is logged
    8d8 LOG_AT     rw 64  the address that is asked about, a multiple of a page
    8e0 LOG_BITS   ro 64  bit n: the page n behind LOG_AT was written; reading forgets it.  Read in one access

The image has 48 bytes::

    00 RING 64 | 08 COUNTER 64 | 10 STATUS 32 | 14 ENTRIES 32 | 18 HEAD 32 | 1c TAIL 32 | 20 CONTROL 32 | 24 DONE 32
    28 zeros

An image is bad that no copier can have: then nothing of it is taken.  A reset ends a pause, and leaves a log alone.

``copier-vfio-pci`` puts 16 bytes before an image to make a stream of it (`StreamHead`)::

    00 "copierMG" | 08 version 32: 1 | 0c bytes of the image 32
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, Self

from pyvfio.pci.copier import DESCRIPTOR_SIZE, ENTRY_LIMIT, RUN, CopierStatus

__all__ = [
    "FROZEN",
    "IMAGE",
    "IMAGE_SIZE",
    "LENGTH",
    "LOAD",
    "LOADED",
    "LOADED_BAD",
    "LOADED_GOOD",
    "LOG",
    "LOG_AT",
    "LOG_BITS",
    "LOG_FIRST",
    "LOG_LAST",
    "LOG_ON",
    "LOG_SHIFT",
    "NO_WORK",
    "OWNERS_HALF",
    "PAGES_AT_ONCE",
    "PAUSE",
    "SHIFTS",
    "CopierImage",
    "StreamHead",
]

OWNERS_HALF: Final = 0x800
PAUSE: Final = 0x800
LENGTH: Final = 0x804
LOADED: Final = 0x808
LOAD: Final = 0x80C
IMAGE: Final = 0x840
LOG_FIRST: Final = 0x8C0
LOG_LAST: Final = 0x8C8
LOG_SHIFT: Final = 0x8D0
LOG: Final = 0x8D4
LOG_AT: Final = 0x8D8
LOG_BITS: Final = 0x8E0
NO_WORK: Final = 1
FROZEN: Final = 2
LOG_ON: Final = 1
LOADED_GOOD: Final = 1
LOADED_BAD: Final = 2
SHIFTS: Final = range(12, 31)
PAGES_AT_ONCE: Final = 64
_IMAGE: Final = struct.Struct("<QQIIIIII8x")
IMAGE_SIZE: Final = _IMAGE.size
_HEAD: Final = struct.Struct("<8sII")
_MAGIC: Final = b"copierMG"
_VERSION: Final = 1


class StreamHead:
    """What a stream of a copier's state begins with."""

    SIZE: Final = _HEAD.size

    @classmethod
    def pack(cls) -> bytes:
        """The bytes."""
        return _HEAD.pack(_MAGIC, _VERSION, IMAGE_SIZE)

    @classmethod
    def fits(cls, data: bytes) -> bool:
        """Whether a stream that begins so can be read."""
        return data == cls.pack()


class CopierImage(NamedTuple):
    """The state of a copier; the fields are its registers."""

    ring: int
    counter: int
    status: int
    entries: int
    head: int
    tail: int
    control: int
    done: int

    def pack(self) -> bytes:
        """The bytes."""
        return _IMAGE.pack(*self)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From its bytes, whatever they are."""
        return cls(*_IMAGE.unpack(data))

    @property
    def possible(self) -> bool:
        """Whether a copier can come into this state."""
        if self.control not in (0, RUN) or self.status not in tuple(CopierStatus):
            return False
        if (self.status == CopierStatus.HALTED) != (self.control == 0):
            return False
        if self.status != CopierStatus.RUNNING:
            return True  # what it was set up with need not make sense
        set_up = not self.ring % DESCRIPTOR_SIZE and not self.counter % 8 and 2 <= self.entries <= ENTRY_LIMIT
        return set_up and self.head < self.entries and self.tail < self.entries
