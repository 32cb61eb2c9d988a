"""A table of contents as fdasd writes it: format 4, free space, and a data set for each partition.

It lies on track 1 of the compatible layout, one DSCB in each of its records.  Source: ``block/partitions/ibm.c`` (what
is read of it); ``arch/s390/include/uapi/asm/vtoc.h``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pyvfio.drivers.vtoc import DataSet, Dscb, FreeSpace, FreeTracks, TrackExtent, VolumeSpace
from pyvfio.errors import Misuse

__all__ = ["VolumeTable"]

_SMALL: Final = 0xFFFF
"""Tracks that a format-5 DSCB can name."""
_TRACK_LENGTH: Final = {0x3390: 58786, 0x3380: 47968}
_FIRST: Final = 2


@dataclass(frozen=True, slots=True)
class VolumeTable:
    """The table of the volume `serial` of so many `cylinders` with `heads` tracks; `date` is year and day of the year.

    `per_track` is how many blocks of `block_size` bytes, and DSCBs, a track holds.
    """

    serial: str
    device_type: int
    cylinders: int
    heads: int
    per_track: int
    block_size: int
    date: tuple[int, int]

    @property
    def tracks(self) -> int:
        """All tracks."""
        return self.cylinders * self.heads

    def dscbs(self, parts: Sequence[tuple[int, int]]) -> list[Dscb]:
        """The DSCBs in their order; `parts` are first and last track of each partition.

        Raise `Misuse` for partitions that overlap, are not behind the table, or are too many.
        """
        free = self._free(parts)
        sets: list[Dscb] = [
            DataSet.build(
                f"LINUX.V{self.serial}.PART{number:04}.NATIVE",
                self.serial,
                (first // self.heads, first % self.heads),
                (last // self.heads, last % self.heads),
                self.block_size,
                *self.date,
            )
            for number, (first, last) in enumerate(parts, 1)
        ]
        large = self.tracks > _SMALL
        first, count = (free[0], free[1] - free[0]) if free is not None and not large else (0, 0)
        space: list[Dscb] = [FreeSpace.build(first, count, self.heads)]
        space += [FreeTracks.build(free)] if large else []
        used = 1 + len(space) + len(sets)
        if used > self.per_track:
            raise Misuse("write partitions", self.serial, cause=f"{len(parts)} are too many for a table of one track")
        extent = TrackExtent(1, 0, (0, 1), (0, 1))
        length = _TRACK_LENGTH[self.device_type]
        volume = VolumeSpace.build(self.cylinders, self.heads, length, extent, self.per_track - used, self.per_track)
        return [volume, *space, *sets]

    def _free(self, parts: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
        """The first free tracks: from the first to behind the last."""
        end, found = _FIRST, None
        for first, last in sorted(parts):
            if not end <= first <= last < self.tracks:
                cause = f"tracks {first} to {last}: partitions lie behind track {end - 1} and before {self.tracks}"
                raise Misuse("write partitions", self.serial, cause=cause)
            if first > end and found is None:
                found = (end, first)
            end = last + 1
        return found if found is not None or end >= self.tracks else (end, self.tracks)
