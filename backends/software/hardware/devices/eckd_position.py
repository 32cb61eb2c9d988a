"""Where the access mechanism of a 3390 stands: a track, and a place between or inside its records.

A read takes the next record unless the place is just after a record's count (then its key and data are next).  At
the end of a track the mechanism comes past the index point to R1 of the same track, or, for a multitrack command, of
the next head.  Coming past the index twice without a transfer or a control command in between means that the record
is not there.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol

from pyvfio_backends.software.hardware.devices.ckd_track import Record, Track
from pyvfio_backends.software.hardware.devices.eckd_domain import end_of_cylinder, no_record_found
from pyvfio_backends.software.hardware.devices.eckd_volume import Volume

__all__ = ["Limits", "Place", "Position"]


class Place(Enum):
    """The place relative to the current record."""

    BEFORE = auto()  # before its count
    AFTER_COUNT = auto()
    AFTER_KEY = auto()


class Limits(Protocol):
    """Asked before a command goes on to another track; both raise `Fault` when the program may not."""

    def head_switch(self) -> None:
        """Before any."""
        ...

    def arrive(self, cylinder: int, head: int) -> None:
        """Before this one."""
        ...


class Position:
    """The position of one device.  All methods raise BadTrack and OSError as the volume does."""

    __slots__ = (
        "_track",
        "_version",
        "at_end",
        "at_home",
        "cylinder",
        "head",
        "index",
        "limits",
        "marked",
        "place",
        "volume",
    )

    def __init__(self, volume: Volume, limits: Limits) -> None:
        self.volume = volume
        self.limits = limits
        self.cylinder = self.head = 0
        self.index = 0
        self.place = Place.BEFORE
        self.marked = False  # the index point was passed
        self.at_home = False  # the home address was read last
        self.at_end = False  # the end of the track was read last: the next count is on the next track
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
        self.rewind()

    def rewind(self) -> None:
        """Go to the index point of this track."""
        self.index = 0
        self.place = Place.BEFORE
        self.at_home = self.at_end = False

    @property
    def next_index(self) -> int:
        """The number of the record whose count comes next."""
        return self.index + (self.place is not Place.BEFORE)

    @property
    def behind(self) -> bool:
        """Whether all records of the track are passed."""
        return self.next_index >= len(self.records)

    def next_track(self, *, crosses: bool, step: int = 1) -> None:
        """Go on by `step` heads; `crosses` says that the command may go on to the next cylinder.  Raise `Fault`."""
        self.limits.head_switch()
        cylinder, head = self.cylinder, self.head + step
        if head >= self.volume.heads:
            if not crosses:
                raise end_of_cylinder()
            cylinder, head = cylinder + head // self.volume.heads, head % self.volume.heads
        self.limits.arrive(cylinder, head)
        self.seek(cylinder, head)

    def next_count(
        self,
        *,
        multitrack: bool = False,
        crosses: bool = False,
        with_r0: bool = False,
        marks: bool = True,
        tireless: bool = False,
    ) -> Record:
        """Go just after the next count and return its record.

        `marks` says that going on to another head counts as passing the index, `tireless` that passing it twice is
        no end.  Raise `Fault`.
        """
        if self.at_end:
            self.next_track(crosses=crosses)
        index = self.next_index
        while True:
            records = self.records
            while index < len(records) and not records[index].number and not with_r0:
                index += 1
            if index < len(records):
                break
            if self.marked and not tireless:
                raise no_record_found()
            if multitrack:
                self.next_track(crosses=crosses)
                self.marked |= marks
            else:
                self.marked = True
            index = 0
        self.index = index
        self.place = Place.AFTER_COUNT
        self.at_home = False
        return self.records[index]

    def next_key(self, *, multitrack: bool) -> Record:
        """Go just after the key (which may be empty) of the current record, or of the next one, and return it."""
        if self.place is not Place.AFTER_COUNT or not self.index:
            self.next_count(multitrack=multitrack, marks=False, tireless=multitrack)
        self.place = Place.AFTER_KEY
        return self.record

    def data_record(
        self, *, multitrack: bool, with_key: bool = False, crosses: bool = False, tireless: bool = False
    ) -> Record:
        """The record whose data (or key and data) come next; the position is then before the one after it."""
        here = (Place.AFTER_COUNT,) if with_key else (Place.AFTER_COUNT, Place.AFTER_KEY)
        if self.place not in here:
            self.next_count(multitrack=multitrack, crosses=crosses, tireless=tireless)
        record = self.record
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
                return True
        return False

    def rest_of_track(self) -> tuple[Record, ...]:
        """The records from the next count to the end of the track; the position is then at its end."""
        records, start = self.records, self.next_index
        self.index = len(records)
        self.place = Place.BEFORE
        self.at_end = True
        return records[start:]

    def __str__(self) -> str:
        return f"cylinder {self.cylinder} head {self.head} {self.place.name.lower().replace('_', ' ')} {self.index}"
