"""Indirect data addressing: a list of IDAWs, each of which designates a block of storage.

::

    format 1  +-+-------------------------------+     blocks of 2 KiB; bit 0 is zero
              |0|        data address           |
              +-+-------------------------------+
               0 1                             31
    format 2  +---------------------------------------------------------------+   blocks of 4 KiB, or of 2 KiB
              |                         data address                          |   with the ORB's T bit (`i2k`)
              +---------------------------------------------------------------+
               0                                                             63

The first IDAW designates any byte of its block, and the data begin there; every further one designates the first byte
of a block (for READ BACKWARD: the last byte).  The list lies on a boundary of its words.

Source: z/Architecture Principles of Operation, "CCW Indirect Data Addressing"; ``arch/s390/include/asm/idals.h``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from pyvfio.css.layout import BytesLike, check_range
from pyvfio.css.orb import Orb
from pyvfio.errors import Misuse

__all__ = ["Idal"]

_FORMATS: Final = {1: 4, 2: 8}
_BLOCKS: Final = {1: (2 * 1024,), 2: (4 * 1024, 2 * 1024)}


@dataclass(frozen=True, slots=True)
class Idal:
    """A list of IDAWs: its `words`, their format (`fmt` 1 or 2) and the bytes of a block (`block`).

    >>> print(Idal.over(0x20F00, 0x1200))
    IDAL format 2, 4 KiB: 0x20f00 0x21000 0x22000
    >>> Idal.over(0x20F00, 0x1200).pieces(0x1200)
    [(134912, 256), (135168, 4096), (139264, 256)]
    """

    words: tuple[int, ...]
    fmt: int = 2
    block: int = 4 * 1024

    def __post_init__(self) -> None:
        if self.fmt not in _FORMATS or self.block not in _BLOCKS[self.fmt]:
            raise Misuse("build IDAL", cause=f"no IDAWs of format {self.fmt} have blocks of {self.block} bytes")
        for word in self.words:
            check_range("IDAL", address=(word, 8 * self.word_size))

    @classmethod
    def over(cls, address: int, count: int, fmt: int = 2, block: int | None = None) -> Self:
        """The list for `count` consecutive bytes at `address` (`block`: the format's first kind of block)."""
        size = block or _BLOCKS.get(fmt, (1,))[0]
        first = address - address % size
        return cls((address, *range(first + size, address + count, size)), fmt, size)

    @classmethod
    def from_bytes(cls, data: BytesLike, fmt: int = 2, block: int | None = None) -> Self:
        """Read big-endian words.  Raise `Misuse` when the length is not a multiple of a word's."""
        size = _FORMATS.get(fmt, 8)
        raw = bytes(data)
        if len(raw) % size:
            raise Misuse("read IDAL", cause=f"its {len(raw)} bytes are no multiple of {size}")
        words = tuple(int.from_bytes(raw[at : at + size], "big") for at in range(0, len(raw), size))
        return cls(words, fmt, block or _BLOCKS.get(fmt, (0,))[0])

    @classmethod
    def for_orb(cls, orb: Orb, words: tuple[int, ...]) -> Self:
        """The list as a program of this ORB reads it."""
        return cls(words, 2 if orb.c64 else 1, orb.idaw_block)

    def to_bytes(self) -> bytes:
        """The words, big-endian, to be put on a boundary of `word_size` bytes."""
        return b"".join(word.to_bytes(self.word_size, "big") for word in self.words)

    @property
    def word_size(self) -> int:
        """Bytes of one word: 4 in format 1, 8 in format 2."""
        return _FORMATS[self.fmt]

    def words_for(self, count: int) -> int:
        """How many words `count` bytes of data take, beginning where the first word says."""
        return -(-(self.words[0] % self.block + count) // self.block) if count and self.words else 0

    def pieces(self, count: int) -> list[tuple[int, int]]:
        """Where `count` bytes lie: (address, bytes) for each word that they take, as far as the list goes."""
        pieces: list[tuple[int, int]] = []
        for word in self.words:
            step = min(count, self.block - word % self.block)
            if not step:
                break
            pieces.append((word, step))
            count -= step
        return pieces

    def __str__(self) -> str:
        words = " ".join(f"{word:#x}" for word in self.words) or "empty"
        return f"IDAL format {self.fmt}, {self.block // 1024} KiB: {words}"
