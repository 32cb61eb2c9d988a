"""How Linux numbers the blocks of a disk: the compatible (CDL) and the Linux disk layout (LDL).

In both, block n of 4 KiB (say) is record ``n % per_track + 1`` of track ``n // per_track``.  In the compatible layout
the first two tracks hold what other systems want to find there, in short records with keys::

    block 0, 1, 2           track 0, records 1 to 3: IPL1, IPL2, volume label     key 4, data 24, 144, 80
    the rest of track 0     records 4 on: as everywhere
    all of track 1          the VTOC                                              key 44, data 96

Such a block is key and data, filled up with E5.
Source: ``drivers/s390/block/dasd_eckd.c`` (dasd_eckd_cdl_special, dasd_eckd_cdl_reclen, dasd_eckd_end_analysis).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pyvfio.drivers.track import Count

__all__ = ["BLOCK_SIZES", "FILLER", "LABEL_BLOCK", "Block", "DiskLayout", "LayoutKind"]

BLOCK_SIZES: Final = (512, 1024, 2048, 4 * 1024)
LABEL_BLOCK: Final = 2
"""The block with the volume label."""
FILLER: Final = b"\xe5"
_FIRST: Final = ((4, 24), (4, 144), (4, 80))
_VTOC: Final = (44, 96)
_PLACES: Final = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 1))


class LayoutKind(StrEnum):
    """The two layouts."""

    CDL = "cdl"
    LDL = "ldl"


@dataclass(frozen=True, slots=True)
class Block:
    """Where a block lies: `track` (its number), `record`, and the bytes of its key and data there."""

    track: int
    record: int
    key_length: int
    data_length: int

    @property
    def length(self) -> int:
        """Key and data."""
        return self.key_length + self.data_length


@dataclass(frozen=True, slots=True)
class DiskLayout:
    """A layout with blocks of `block_size` bytes, `per_track` on each of `tracks` tracks."""

    kind: LayoutKind
    block_size: int
    per_track: int
    tracks: int

    @property
    def blocks(self) -> int:
        """All blocks."""
        return self.per_track * self.tracks

    @property
    def first_plain(self) -> int:
        """The first block from which on all are alike (tracks 0 and 1 of the compatible layout lie before)."""
        return 2 * self.per_track if self.kind is LayoutKind.CDL else 0

    def locate(self, block: int) -> Block:
        """The place of a block."""
        track, offset = divmod(block, self.per_track)
        key, data = self.shape(track, offset + 1)
        return Block(track, offset + 1, key, data)

    def shape(self, track: int, record: int) -> tuple[int, int]:
        """Key and data length of a record on a track of this layout."""
        if self.kind is LayoutKind.CDL:
            if track == 0 and record <= len(_FIRST):
                return _FIRST[record - 1]
            if track == 1:
                return _VTOC
        return 0, self.block_size

    @classmethod
    def from_counts(cls, counts: Sequence[Count], capacity: dict[int, int], tracks: int) -> DiskLayout | None:
        """The layout that five count areas show (R1 to R4 of track 0, R1 of track 1), None when it is neither.

        `capacity` is how many blocks of each size a track holds.
        """
        if tuple((count.head, count.record) for count in counts) != _PLACES or any(count.cylinder for count in counts):
            return None
        shapes = [(count.key_length, count.data_length) for count in counts]
        if tuple(shapes[:3]) == _FIRST:
            kind, plain = LayoutKind.CDL, shapes[3]
        elif all(shape == shapes[0] for shape in shapes):
            kind, plain = LayoutKind.LDL, shapes[0]
        else:
            return None
        if plain[0] or plain[1] not in capacity:
            return None
        return cls(kind, plain[1], capacity[plain[1]], tracks)

    def __str__(self) -> str:
        """What Linux' driver says of a disk's size."""
        size, words = self.block_size // 512, "compatible" if self.kind is LayoutKind.CDL else "linux"
        return (
            f"DASD with {self.block_size >> 10} KB/block, {self.blocks * size >> 1} KB total size,"
            f" {self.per_track * self.block_size >> 10} KB/track, {words} disk layout"
        )
