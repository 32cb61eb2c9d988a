"""Where the access mechanism of a 3390 stands: a track, and a place between or inside its records.

A read takes the next record unless the place is just after a record's count (then its key and data are next).  At
the end of a track the mechanism comes past the index point to R1 of the same track, or, for a multitrack command, of
the next head.  Coming past the index twice without an orientation means that the record is not there.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from pyvfio_backends.software.hardware.devices.ckd_track import Record, Track
from pyvfio_backends.software.hardware.devices.eckd_domain import Fault
from pyvfio_backends.software.hardware.devices.eckd_volume import Volume

__all__ = ["Place", "Position", "end_of_cylinder", "no_record_found"]

_MOST_PASSES: Final = 2


def no_record_found() -> Fault:
    """The index was passed twice."""
    return Fault(0x00, 0x08)


def end_of_cylinder() -> Fault:
    """A multitrack command ran past the last head."""
    return Fault(0x00, 0x20)


class Place(Enum):
    """The place relative to the current record."""

    BEFORE = auto()  # before its count
    AFTER_COUNT = auto()
    AFTER_KEY = auto()


class Position:
    """The position of one device; it survives from one program to the next.

    Before a multitrack command goes on to another head, `may_switch` is asked with the cylinder and head to come; it
    raises `Fault` when the program may not.  All methods raise BadTrack and OSError as the volume does.
    """

    __slots__ = (
        "_at_home",
        "_passes",
        "_track",
        "_version",
        "cylinder",
        "head",
        "index",
        "may_switch",
        "place",
        "volume",
    )

    def __init__(self, volume: Volume, may_switch: Callable[[int, int], None]) -> None:
        self.volume = volume
        self.may_switch = may_switch
        self.cylinder = self.head = 0
        self.index = 0
        self.place = Place.BEFORE
        self._passes = 0
        self._at_home = False
        self._track: Track | None = None
        self._version = volume.version

    @property
    def track(self) -> Track:
        """The current track."""
        if self._track is None or self._version != self.volume.version:
            self._version = self.volume.version
            self._track = self.volume.read(self.cylinder, self.head)
        return self._track

    @property
    def records(self) -> tuple[Record, ...]:
        """The records of the track, R0 first."""
        return self.track.records

    @property
    def record(self) -> Record:
        """The current record; only for places within a record."""
        return self.records[self.index]

    def replace_records(self, records: tuple[Record, ...], flag: int | None = None, *, only: int | None = None) -> None:
        """Write the track with these records, staying where it is; for `only` see `Volume.write`."""
        track = Track(self.cylinder, self.head, records, self.track.flag if flag is None else flag)
        self.volume.write(track, only)
        self._track, self._version = track, self.volume.version

    def seek(self, cylinder: int, head: int) -> None:
        """Go to the index point of a track that the volume has."""
        if (cylinder, head) != (self.cylinder, self.head):
            self.cylinder, self.head = cylinder, head
            self._track = None
        self.index = 0
        self.place = Place.BEFORE
        self._at_home = False
        self._passes = 0

    def oriented(self) -> None:
        """Note that a record was found: the count of index points begins anew."""
        self._passes = 0

    @property
    def next_index(self) -> int:
        """The number of the record whose count comes next."""
        return self.index + (self.place is not Place.BEFORE)

    def next_track(self, *, crosses: bool = False) -> None:
        """Go to the next head; `crosses` says that the program may go on to the next cylinder.  Raise `Fault`."""
        cylinder, head = self.cylinder, self.head + 1
        if head >= self.volume.heads:
            cylinder, head = cylinder + 1, 0
            if not crosses or cylinder >= self.volume.cylinders:
                raise end_of_cylinder()
        self.may_switch(cylinder, head)
        passes = self._passes
        self.seek(cylinder, head)
        self._passes = passes

    def next_count(self, multitrack: bool, *, with_r0: bool = False, crosses: bool = False) -> Record:
        """Go just after the next count and return its record.  Raise `Fault`."""
        index = self.next_index
        if index == 0 and not with_r0:
            index = 1
        while index >= len(self.records):
            self._passes += 1
            if multitrack:
                if crosses and self._passes > self.volume.heads:
                    raise no_record_found()
                self.next_track(crosses=crosses)
            elif self._passes >= _MOST_PASSES:
                raise no_record_found()
            index = 0 if with_r0 else 1
        self.index = index
        self.place = Place.AFTER_COUNT
        return self.records[index]

    def next_home(self, multitrack: bool) -> bytes:
        """Go past the index point to the next home address and return cylinder and head, 4 bytes.  Raise `Fault`."""
        if self._at_home:
            self._passes += 1
            if multitrack:
                self.next_track()
            elif self._passes >= _MOST_PASSES:
                raise no_record_found()
        self.index = 0
        self.place = Place.BEFORE
        self._at_home = True
        return self.track.home_address[1:]

    def next_key(self, multitrack: bool) -> Record:
        """Go just after the key of the next record that has one, or of the current one, and return that record."""
        if self.place is not Place.AFTER_COUNT or not self.record.key:
            self.next_count(multitrack)
            while not self.record.key:
                self.next_count(multitrack)
        self.place = Place.AFTER_KEY
        return self.record

    def data_record(self, multitrack: bool, *, with_key: bool = False, crosses: bool = False) -> Record:
        """The record whose data (or key and data) come next; the position is then before the one after it."""
        here = (Place.AFTER_COUNT,) if with_key else (Place.AFTER_COUNT, Place.AFTER_KEY)
        record = self.record if self.place in here else self.next_count(multitrack, crosses=crosses)
        self.leave_record()
        return record

    def leave_record(self) -> None:
        """Go behind the data of the current record."""
        self.index += 1
        self.place = Place.BEFORE

    def find(self, identifier: bytes) -> bool:
        """Go just after the count of the record on this track with these five bytes; say whether there is one."""
        for index, record in enumerate(self.records):
            if record.id == identifier:
                self.index = index
                self.place = Place.AFTER_COUNT
                self._passes = 0
                return True
        return False

    def rest_of_track(self) -> tuple[Record, ...]:
        """The records from the next count to the end of the track; the position is then behind them."""
        start = max(self.next_index, 1)
        self.index = len(self.records)
        self.place = Place.BEFORE
        return self.records[start:]

    def __str__(self) -> str:
        return f"cylinder {self.cylinder} head {self.head} {self.place.name.lower().replace('_', ' ')} {self.index}"
