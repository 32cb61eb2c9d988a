"""Tracks with count, key and data, and how the public CKD image format writes them down.

::

    home address   0      1           3           5         record   count | key (KL bytes) | data (DL bytes)
                 +------+-----------+-----------+
                 | flag | cylinder  |   head    |           end      FF FF FF FF FF FF FF FF
                 +------+-----------+-----------+
    count          0           2           4    5    6        8
                 +-----------+-----------+----+----+---------+
                 | cylinder  |   head    | R  | KL |   DL    |
                 +-----------+-----------+----+----+---------+

A track is a home address, R0, further records and the end mark; what follows has no meaning.  All numbers are
big-endian.  The first four bytes of a count need not name the track that it lies on.
Source: Hercules, "Compressed Dasd Emulation" and the images that ``dasdinit`` makes; GA32-0274.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

__all__ = ["COUNT_SIZE", "EMPTY_R0", "END_OF_TRACK", "BadTrack", "Record", "Track", "empty_track"]

_COUNT = struct.Struct(">HHBBH")
_HOME = struct.Struct(">BHH")
COUNT_SIZE: Final = _COUNT.size
END_OF_TRACK: Final = b"\xff" * COUNT_SIZE
EMPTY_R0: Final = bytes(8)


class BadTrack(Exception):
    """The bytes are not a track; the text says why.  Volumes and images turn it into what their callers know."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a track."""

    cylinder: int
    head: int
    number: int
    key: bytes
    data: bytes

    @property
    def id(self) -> bytes:
        """The first five bytes of the count: cylinder, head, record."""
        return self.count[:5]

    @property
    def count(self) -> bytes:
        """The count area, 8 bytes."""
        return _COUNT.pack(self.cylinder, self.head, self.number, len(self.key), len(self.data))

    def to_bytes(self) -> bytes:
        """Count, key and data."""
        return self.count + self.key + self.data


@dataclass(frozen=True, slots=True)
class Track:
    """A home address (its `flag` byte and the track's place) and the records, R0 first."""

    cylinder: int
    head: int
    records: tuple[Record, ...]
    flag: int = 0

    @property
    def home_address(self) -> bytes:
        """The 5 bytes."""
        return _HOME.pack(self.flag, self.cylinder, self.head)

    @property
    def size(self) -> int:
        """The bytes that `to_bytes` gives, without making them."""
        return self.offset(len(self.records)) + COUNT_SIZE

    def offset(self, index: int) -> int:
        """Where record number `index` of `records` begins in what `to_bytes` gives."""
        before = self.records[:index]
        return _HOME.size + sum(COUNT_SIZE + len(record.key) + len(record.data) for record in before)

    def to_bytes(self) -> bytes:
        """The track as an image has it, up to and with the end mark."""
        return b"".join((self.home_address, *(record.to_bytes() for record in self.records), END_OF_TRACK))

    @classmethod
    def from_bytes(cls, raw: bytes, cylinder: int, head: int) -> Track:
        """Read the track that should be cylinder `cylinder`, head `head`.  Raise `BadTrack`."""
        if len(raw) < _HOME.size + 2 * COUNT_SIZE:
            raise BadTrack(f"it has {len(raw)} bytes only")
        flag, *place = _HOME.unpack_from(raw)
        if place != [cylinder, head]:
            raise BadTrack(f"its home address says cylinder {place[0]} head {place[1]}")
        records: list[Record] = []
        at = _HOME.size
        while raw[at : at + COUNT_SIZE] != END_OF_TRACK:
            if at + COUNT_SIZE > len(raw):
                raise BadTrack("it has no end mark")
            place, track, number, key_length, data_length = _COUNT.unpack_from(raw, at)
            middle = at + COUNT_SIZE + key_length
            at = middle + data_length
            if at > len(raw):
                raise BadTrack(f"record {number} goes beyond its end")
            records.append(Record(place, track, number, raw[middle - key_length : middle], raw[middle:at]))
        if not records or records[0].number:
            raise BadTrack("it does not begin with R0")
        return cls(cylinder, head, tuple(records), flag)


def empty_track(cylinder: int, head: int) -> Track:
    """A track with R0 and nothing else."""
    return Track(cylinder, head, (Record(cylinder, head, 0, b"", EMPTY_R0),))
