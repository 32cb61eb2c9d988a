"""Where the access mechanism of a 3390 stands: a track, and a place between or inside its records.

A read takes the next record unless the place is just after a record's count (then its key and data are next).  At
the end of a track the mechanism comes past the index point to R1 of the same track, or, for a multitrack command, of
the next head.  Coming past the index twice without an orientation means that the record is not there.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from pyvfio_backends.software.hardware.devices.eckd_volume import Record, Volume

__all__ = ["EndOfCylinder", "NoRecordFound", "Place", "Position"]

_MOST_PASSES: Final = 2


class NoRecordFound(Exception):
    """The index was passed twice."""


class EndOfCylinder(Exception):
    """A multitrack command ran past the last head."""


class Place(Enum):
    """The place relative to the current record."""

    BEFORE = auto()  # before its count
    AFTER_COUNT = auto()


class Position:
    """The position of one device; it survives from one program to the next."""

    __slots__ = ("_passes", "_records", "cylinder", "head", "index", "place", "volume")

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.cylinder = self.head = 0
        self.index = 0
        self.place = Place.BEFORE
        self._passes = 0
        self._records: tuple[Record, ...] = volume.track(0, 0)

    def seek(self, cylinder: int, head: int) -> None:
        """Go to the index point of a track that the volume has."""
        if (cylinder, head) != (self.cylinder, self.head):
            self.cylinder, self.head = cylinder, head
            self._records = self.volume.track(cylinder, head)
        self.index = 0
        self.place = Place.BEFORE
        self._passes = 0

    def oriented(self) -> None:
        """Note that a record was found: the count of index points begins anew."""
        self._passes = 0

    def next_count(self, multitrack: bool, *, with_r0: bool = False) -> Record:
        """Go just after the next count and return its record.  Raise `NoRecordFound` or `EndOfCylinder`."""
        index = self.index + (self.place is Place.AFTER_COUNT)
        if index == 0 and not with_r0:
            index = 1
        if index >= len(self._records):
            self._passes += 1
            if multitrack:
                if self.head + 1 >= self.volume.heads:
                    raise EndOfCylinder
                passes = self._passes
                self.seek(self.cylinder, self.head + 1)
                self._passes = passes
            elif self._passes >= _MOST_PASSES:
                raise NoRecordFound
            index = 0 if with_r0 else 1
        self.index = index
        self.place = Place.AFTER_COUNT
        return self._records[index]

    def data_record(self, multitrack: bool) -> Record:
        """The record whose key and data come next; the position is then before the one after it."""
        if self.place is Place.AFTER_COUNT:
            record = self._records[self.index]
        else:
            record = self.next_count(multitrack)
        self.leave_record()
        return record

    def leave_record(self) -> None:
        """Go behind the data of the current record."""
        self.index += 1
        self.place = Place.BEFORE

    def find(self, identifier: bytes) -> bool:
        """Go just after the count of the record on this track with these five bytes; say whether there is one."""
        for index, record in enumerate(self._records):
            if record.id == identifier:
                self.index = index
                self.place = Place.AFTER_COUNT
                self._passes = 0
                return True
        return False

    def rest_of_track(self) -> list[Record]:
        """The records from the next count to the end of the track; the position is then behind them."""
        start = max(self.index + (self.place is Place.AFTER_COUNT), 1)
        self.index = len(self._records)
        self.place = Place.BEFORE
        return list(self._records[start:])

    def __str__(self) -> str:
        return f"cylinder {self.cylinder} head {self.head} {self.place.name.lower().replace('_', ' ')} {self.index}"
