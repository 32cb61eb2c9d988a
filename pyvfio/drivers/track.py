"""Records and tracks of a count-key-data disk, as a driver reads and writes them.

::

    count    cylinder (2) | head (2) | record | key length | data length (2)        then key and data
    track    record, record, ...  and eight bytes FF behind the last

The head's field has the high bits of a large cylinder, as track addresses do.  Numbers are big-endian.
Source: "3990/9390 Storage Control Reference" GA32-0274, READ TRACK.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self

from pyvfio.errors import MalformedAnswer

__all__ = ["COUNT_SIZE", "END_OF_TRACK", "Count", "TrackImage", "TrackRecord"]

_COUNT = struct.Struct(">HHBBH")
COUNT_SIZE: Final = _COUNT.size
END_OF_TRACK: Final = b"\xff" * COUNT_SIZE


@dataclass(frozen=True, slots=True)
class Count:
    """A count area.  `cylinder` and `head` are as they stand there, and need not name the track that it lies on."""

    cylinder: int
    head: int
    record: int
    key_length: int
    data_length: int

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read 8 bytes."""
        return cls(*_COUNT.unpack(data))

    def to_bytes(self) -> bytes:
        """The 8 bytes."""
        return _COUNT.pack(self.cylinder, self.head, self.record, self.key_length, self.data_length)


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """A record: its `number`, `key` and `data`; `cylinder` and `head` as they stand in its count."""

    cylinder: int
    head: int
    number: int
    key: bytes
    data: bytes

    @property
    def count(self) -> Count:
        """The count area."""
        return Count(self.cylinder, self.head, self.number, len(self.key), len(self.data))

    def to_bytes(self) -> bytes:
        """Count, key and data."""
        return self.count.to_bytes() + self.key + self.data


@dataclass(frozen=True, slots=True)
class TrackImage:
    """The records of one track behind R0."""

    cylinder: int
    head: int
    records: tuple[TrackRecord, ...]

    @classmethod
    def from_bytes(cls, raw: bytes, cylinder: int, head: int) -> Self:
        """Read what READ TRACK brings; R0 at the head is left out.  Raise `MalformedAnswer` when it is no track."""
        records: list[TrackRecord] = []
        at, unpack = 0, _COUNT.unpack_from
        while True:
            if at + COUNT_SIZE > len(raw):
                raise MalformedAnswer("read track", f"cylinder {cylinder} head {head}", "it has no end mark")
            if raw[at : at + COUNT_SIZE] == END_OF_TRACK:
                return cls(cylinder, head, tuple(records))
            there, which, number, key_length, data_length = unpack(raw, at)
            middle = at + COUNT_SIZE + key_length
            end = middle + data_length
            if end > len(raw):
                raise MalformedAnswer("read track", f"cylinder {cylinder} head {head}", f"record {number} is cut")
            if number or records:
                records.append(TrackRecord(there, which, number, raw[middle - key_length : middle], raw[middle:end]))
            at = end

    def to_bytes(self) -> bytes:
        """The records and the end mark."""
        return b"".join(record.to_bytes() for record in self.records) + END_OF_TRACK
