"""The volume table of contents: data-set control blocks (DSCBs) as values.

A DSCB is a record of 44 bytes key and 96 bytes data::

    key 44                                      id   data
    format 1, 8   data-set name                 F1   a data set: serial, dates, organisation, three extents
    format 3      03030303 | extents            F3   up to 13 further extents of a data set
    format 4      04 (44 times)                 F4   the volume: VTOC's extent, cylinders, device constants
    format 5      05050505 | free space         F5   up to 26 free extents (small volumes)
    format 7      07070707 | free space         F7   up to 16 free extents (from 65,536 tracks on)
    format 9      09, subtype                   F9   attributes of a format 8
    format 0      zeros                         00   free

An extent is type, sequence, and its first and last track (4 bytes each).  Text is EBCDIC, numbers are big-endian.
Source: ``arch/s390/include/uapi/asm/vtoc.h``; "z/OS DFSMSdfp Advanced Services" SC23-6861, chapter on DSCBs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pyvfio.css.layout import exactly
from pyvfio.drivers.eckd import Place, track_address
from pyvfio.drivers.label import EBCDIC, place_of
from pyvfio.errors import Misuse

__all__ = [
    "DSCB_SIZE",
    "KEY_SIZE",
    "Attributes",
    "DataSet",
    "Dscb",
    "Extents",
    "FreeSpace",
    "FreeTracks",
    "OtherDscb",
    "TrackExtent",
    "VolumeSpace",
    "parse_dscb",
]

KEY_SIZE: Final = 44
DSCB_SIZE: Final = 140
_EXTENT_SIZE: Final = 10
_F1, _F3, _F4, _F5, _F7, _F8, _F9 = 0xF1, 0xF3, 0xF4, 0xF5, 0xF7, 0xF8, 0xF9
_EXTENTS_AT: Final = 105
_LARGE_CYLINDERS: Final = 0xFFFE


@dataclass(frozen=True, slots=True)
class TrackExtent:
    """Tracks from `first` to `last`, both included, each as cylinder and head; `kind` is 00 when it is not in use."""

    kind: int
    sequence: int
    first: Place
    last: Place

    @classmethod
    def from_bytes(cls, raw: bytes) -> TrackExtent | None:
        """Read 10 bytes; None when they describe nothing."""
        return cls(raw[0], raw[1], place_of(raw[2:6]), place_of(raw[6:10])) if raw[0] else None

    def to_bytes(self) -> bytes:
        """The 10 bytes."""
        return bytes([self.kind, self.sequence]) + track_address(self.first) + track_address(self.last)

    def tracks(self, heads: int) -> range:
        """The numbers of its tracks on a disk with `heads` tracks in a cylinder."""
        begin, end = self.first[0] * heads + self.first[1], self.last[0] * heads + self.last[1]
        return range(begin, end + 1)

    def __str__(self) -> str:
        return f"cylinder {self.first[0]} head {self.first[1]} to cylinder {self.last[0]} head {self.last[1]}"


def _extents(raw: bytes) -> tuple[TrackExtent, ...]:
    parts = (TrackExtent.from_bytes(raw[at : at + _EXTENT_SIZE]) for at in range(0, len(raw), _EXTENT_SIZE))
    return tuple(part for part in parts if part is not None)


def _date(raw: bytes) -> tuple[int, int] | None:
    """Year and day of the year, None when none is given."""
    day = int.from_bytes(raw[1:], "big")
    return (1900 + raw[0], day) if any(raw) else None


@dataclass(frozen=True, slots=True)
class Dscb:
    """What all have: the `format` (``"1"``) and all 140 bytes, `raw`."""

    format: str
    raw: bytes

    def to_bytes(self) -> bytes:
        """The 140 bytes."""
        return self.raw


@dataclass(frozen=True, slots=True)
class DataSet(Dscb):
    """Format 1 or 8: a data set, for Linux a partition.

    `created` and `expires` are year and day of the year; `used` the last used track (relative, 0 is the first of the
    data set) and record; `next` is where a further DSCB lies (cylinder, head, record).
    """

    name: str
    serial: str
    created: tuple[int, int] | None
    expires: tuple[int, int] | None
    system: str
    organisation: int
    record_format: int
    block_length: int
    record_length: int
    used: tuple[int, int]
    extents: tuple[TrackExtent, ...]
    next: tuple[int, int, int] | None

    @property
    def limits(self) -> tuple[Place, Place]:
        """First and last track of the first extent's field, also when it is not in use."""
        return place_of(self.raw[_EXTENTS_AT + 2 : _EXTENTS_AT + 6]), place_of(self.raw[_EXTENTS_AT + 6 : 115])

    @property
    def is_large(self) -> bool:
        """Whether it is of format 8, whose extents may lie behind cylinder 65,520."""
        return self.format == "8"

    @classmethod
    def build(cls, name: str, serial: str, first: Place, last: Place, block_size: int, year: int, day: int) -> DataSet:
        """A data set of one extent, as fdasd makes it for a partition.  Raise `Misuse` when a name does not fit."""
        blank = " ".encode(EBCDIC)
        try:
            key, volser = name.encode(EBCDIC), serial.encode(EBCDIC)
        except UnicodeEncodeError:
            raise Misuse("build DSCB", repr(name), cause="names are EBCDIC text") from None
        if not 1 <= len(key) <= KEY_SIZE or len(volser) > 6:
            raise Misuse("build DSCB", repr(name), cause=f"a name has 1 to {KEY_SIZE} characters, a serial at most 6")
        date = bytes([year - 1900]) + day.to_bytes(2, "big")
        large = first[0] >> 16 or last[0] >> 16
        raw = key.ljust(KEY_SIZE, blank) + bytes([_F8 if large else _F1]) + volser.ljust(6, blank)
        raw += b"\0\1" + date + bytes([99]) + (365).to_bytes(2, "big") + b"\1\0\0"
        raw += "IBM LINUX".encode(EBCDIC).ljust(13, blank) + date + b"\0\0\0\0" + b"\x40\x00" + b"\x88\0"
        raw += struct.pack(">HHBHBB3s", block_size, block_size, 0, 0, 0x80, 0, bytes(3)) + bytes(7)
        raw += TrackExtent(1, 0, first, last).to_bytes() + bytes(25)
        parsed = parse_dscb(raw)
        if not isinstance(parsed, DataSet):
            raise Misuse("build DSCB", repr(name), cause="it is not that of a data set")
        return parsed


@dataclass(frozen=True, slots=True)
class Extents(Dscb):
    """Format 3: further extents of a data set."""

    extents: tuple[TrackExtent, ...]
    next: tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class VolumeSpace(Dscb):
    """Format 4: the volume and its geometry.  `free_records` are the DSCBs not in use."""

    free_records: int
    extents: tuple[TrackExtent, ...]
    cylinders: int
    heads: int
    track_length: int
    per_track: int

    @classmethod
    def build(
        cls, cylinders: int, heads: int, track_length: int, vtoc: TrackExtent, free: int, on_track: int = 50
    ) -> VolumeSpace:
        """The DSCB of a volume whose VTOC lies in `vtoc`, with `on_track` DSCBs on a track (a 3390 holds 50)."""
        raw = b"\x04" * KEY_SIZE + bytes([_F4]) + bytes(5) + free.to_bytes(2, "big") + bytes(4) + b"\0\0" + b"\0\1"
        small = min(cylinders, _LARGE_CYLINDERS)
        raw += bytes(2) + struct.pack(">HHHBBBBHBB", small, heads, track_length, 0, 0, 0, 0x30, 0, 50, 45)
        raw = raw.ljust(_EXTENTS_AT, b"\0") + vtoc.to_bytes()
        raw = raw.ljust(132, b"\0") + cylinders.to_bytes(4, "big")
        parsed = parse_dscb(raw.ljust(DSCB_SIZE, b"\0"))
        if not isinstance(parsed, VolumeSpace):
            raise Misuse("build DSCB", cause="it is not that of a volume")
        return parsed


@dataclass(frozen=True, slots=True)
class FreeSpace(Dscb):
    """Format 5: free space as (first track, whole cylinders, further tracks)."""

    free: tuple[tuple[int, int, int], ...]
    next: tuple[int, int, int] | None

    @classmethod
    def build(cls, first: int, count: int, heads: int) -> FreeSpace:
        """A DSCB with `count` free tracks from `first` on; none when `count` is 0."""
        extent = struct.pack(">HHB", first, *divmod(count, heads)) if count else b""
        raw = b"\x05" * 4 + extent.ljust(KEY_SIZE - 4, b"\0") + bytes([_F5])
        parsed = parse_dscb(raw.ljust(DSCB_SIZE, b"\0"))
        if not isinstance(parsed, FreeSpace):
            raise Misuse("build DSCB", cause="it is not that of free space")
        return parsed


@dataclass(frozen=True, slots=True)
class FreeTracks(Dscb):
    """Format 7: free space as (first track, track behind the last)."""

    free: tuple[tuple[int, int], ...]
    next: tuple[int, int, int] | None

    @classmethod
    def build(cls, free: tuple[int, int] | None = None) -> FreeTracks:
        """A DSCB with one free extent at most."""
        pairs = struct.pack(">II", *free) if free is not None else b""
        raw = b"\x07" * 4 + pairs.ljust(KEY_SIZE - 4, b"\0") + bytes([_F7])
        parsed = parse_dscb(raw.ljust(DSCB_SIZE, b"\0"))
        if not isinstance(parsed, FreeTracks):
            raise Misuse("build DSCB", cause="it is not that of free tracks")
        return parsed


@dataclass(frozen=True, slots=True)
class Attributes(Dscb):
    """Format 9: attributes of the data set that a format 8 describes; `subtype` is 1 for those of the system."""

    subtype: int
    next: tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class OtherDscb(Dscb):
    """Formats without a class of their own."""


def _pointer(raw: bytes) -> tuple[int, int, int] | None:
    return (*place_of(raw), raw[4]) if any(raw) else None


def _data_set(form: str, raw: bytes) -> DataSet:
    return DataSet(
        form,
        raw,
        name=raw[:KEY_SIZE].decode(EBCDIC).rstrip(),
        serial=raw[45:51].decode(EBCDIC).rstrip(),
        created=_date(raw[53:56]),
        expires=_date(raw[56:59]),
        system=raw[62:75].decode(EBCDIC).rstrip(),
        organisation=int.from_bytes(raw[82:84], "big"),
        record_format=raw[84],
        block_length=int.from_bytes(raw[86:88], "big"),
        record_length=int.from_bytes(raw[88:90], "big"),
        used=(int.from_bytes(raw[98:100], "big"), raw[100]),
        extents=_extents(raw[_EXTENTS_AT:135]),
        next=_pointer(raw[135:]),
    )


def _volume(form: str, raw: bytes) -> VolumeSpace:
    cylinders, heads, length = struct.unpack_from(">HHH", raw, 62)
    if cylinders == _LARGE_CYLINDERS:
        cylinders = int.from_bytes(raw[132:136], "big") or cylinders
    extent = _extents(raw[_EXTENTS_AT : _EXTENTS_AT + _EXTENT_SIZE])
    return VolumeSpace(form, raw, int.from_bytes(raw[50:52], "big"), extent, cylinders, heads, length, raw[74])


def _free(raws: Iterable[bytes]) -> tuple[tuple[int, int, int], ...]:
    return tuple(struct.unpack(">HHB", raw) for raw in raws if any(raw))


def parse_dscb(data: bytes) -> Dscb | None:
    """A DSCB of 140 bytes (key and data); None for a free one.  Raise `Misuse` on another length."""
    raw = exactly(data, DSCB_SIZE, "DSCB")
    identifier = raw[KEY_SIZE]
    form = str(identifier & 0x0F) if 0xF0 <= identifier <= 0xF9 else f"{identifier:02x}"
    if identifier in (_F1, _F8):
        return _data_set(form, raw)
    if identifier == _F4:
        return _volume(form, raw)
    if identifier == _F3:
        extents = _extents(raw[4:KEY_SIZE]) + _extents(raw[45:135])
        return Extents(form, raw, extents, _pointer(raw[135:]))
    if identifier == _F5:
        pieces = [raw[at : at + 5] for at in (*range(4, KEY_SIZE, 5), *range(45, 135, 5))]
        return FreeSpace(form, raw, _free(pieces), _pointer(raw[135:]))
    if identifier == _F9:
        return Attributes(form, raw, raw[1], _pointer(raw[135:]))
    if identifier == _F7:
        pieces = [raw[at : at + 8] for at in (*range(4, KEY_SIZE, 8), *range(45, 133, 8))]
        pairs = tuple(struct.unpack(">II", piece) for piece in pieces if any(piece))
        return FreeTracks(form, raw, pairs, _pointer(raw[135:]))
    return OtherDscb(form, raw) if identifier else None
