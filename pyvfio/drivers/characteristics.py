"""What a DASD says of itself: READ DEVICE CHARACTERISTICS and READ CONFIGURATION DATA as values.

Sources: "3990/9390 Storage Control Reference" GA32-0274; ``drivers/s390/block/dasd_eckd.h`` (struct
dasd_eckd_characteristics, dasd_ned, dasd_gneq), ``dasd_eckd.c`` (recs_per_track, create_uid).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self

from pyvfio.css.layout import BytesLike, exactly
from pyvfio.errors import MalformedAnswer, Misuse

__all__ = ["CHARACTERISTICS_SIZE", "COMPATIBLE_CYLINDERS", "CONFIGURATION_SIZE", "Characteristics", "Configuration"]

CHARACTERISTICS_SIZE: Final = 64
CONFIGURATION_SIZE: Final = 256
_HEAD = struct.Struct(">HBHBIBBHHB3s")
_ALTERNATES: Final = slice(30, 32)
_LONG_CYLINDERS_AT: Final = 60
COMPATIBLE_CYLINDERS: Final = 0xFFFE
"""What a volume with more cylinders than 16 bits can say has in their place."""
_MODEL_BITS: Final = 0x07
_READ_TRACK: Final = 0x40000000
_ELEMENT: Final = 32
_NODE, _GENERAL = 3, 2
_DEVICE_NODE: Final = 1
_ENCODING: Final = "cp037"


def _up(value: int, step: int) -> int:
    return -(-value // step)


@dataclass(frozen=True, slots=True)
class Characteristics:
    """The geometry of a disk; `facilities` are 32 bits, `heads` tracks in a cylinder, of `track_bytes` each.

    `alternates` are the tracks in reserve behind them, which the storage control takes for damaged ones by itself.
    """

    cu_type: int
    cu_model: int
    device_type: int
    device_model: int
    facilities: int
    cylinders: int
    heads: int
    sectors: int
    track_bytes: int
    alternates: int = 0

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Read 64 big-endian bytes.  Raise `Misuse` on another length, `MalformedAnswer` for a disk without tracks."""
        raw = exactly(data, CHARACTERISTICS_SIZE, "device characteristics")
        cu, cu_model, kind, model, facilities, _class, _unit, cylinders, heads, sectors, length = _HEAD.unpack_from(raw)
        many = int.from_bytes(raw[_LONG_CYLINDERS_AT:], "big")
        if cylinders == COMPATIBLE_CYLINDERS and many:
            cylinders = many  # a volume of more cylinders than 16 bits can say
        if not cylinders or not heads:
            raise MalformedAnswer("read device characteristics", f"{kind:04x}", "it has no cylinders or no heads")
        alternates = int.from_bytes(raw[_ALTERNATES], "big")
        size = int.from_bytes(length, "big")
        return cls(cu, cu_model, kind, model, facilities, cylinders, heads, sectors, size, alternates)

    @property
    def tracks(self) -> int:
        """All tracks of the disk."""
        return self.cylinders * self.heads

    @property
    def reads_tracks(self) -> bool:
        """Whether READ TRACK works in the domain of LOCATE RECORD."""
        return bool(self.facilities & _READ_TRACK)

    def place(self, track: int) -> tuple[int, int]:
        """Cylinder and head of a track's number.  Raise `Misuse` when there is no such track."""
        if not 0 <= track < self.tracks:
            raise Misuse("find track", str(track), cause=f"the disk has tracks 0 to {self.tracks - 1}")
        return divmod(track, self.heads)

    def blocks_per_track(self, block_size: int) -> int:
        """How many records of so many bytes, without keys, a track holds.  Raise `Misuse` for another type of disk."""
        if self.device_type == 0x3390:
            return 1729 // (19 + _up(block_size + 6 * (_up(block_size + 6, 232) + 1), 34))
        if self.device_type == 0x3380:
            return 1499 // (15 + _up(block_size + 12, 32))
        raise Misuse("compute track capacity", f"{self.device_type:04x}", cause="only a 3390 and a 3380 are known")

    def __str__(self) -> str:
        """What Linux' driver says when it finds the disk."""
        return (
            f"New DASD {self.device_type:04X}/{self.device_model:02X}"
            f" (CU {self.cu_type:04X}/{self.cu_model & _MODEL_BITS:02X})"
            f" with {self.cylinders} cylinders, {self.heads} heads, {self.sectors} sectors"
        )


@dataclass(frozen=True, slots=True)
class Configuration:
    """Which disk it is, whatever path leads there: maker (`vendor`), `serial`, subsystem (`ssid`), `unit_address`."""

    vendor: str
    serial: str
    ssid: int
    unit_address: int

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Find the device's node-element descriptor and the general qualifier.  Raise `MalformedAnswer`."""
        raw = bytes(data)
        elements = [raw[at : at + _ELEMENT] for at in range(0, len(raw) - _ELEMENT + 1, _ELEMENT)]
        nodes = [one for one in elements if one[0] >> 6 == _NODE and one[1] == _DEVICE_NODE]
        general = [one for one in elements if one[0] >> 6 == _GENERAL]
        if not nodes or not general:
            detail = "no descriptor of the device, or no general qualifier"
            raise MalformedAnswer("read configuration data", raw[:_ELEMENT].hex(), detail)
        node = nodes[0]
        vendor, serial = node[13:16].decode(_ENCODING), node[16:30].decode(_ENCODING)
        return cls(vendor.rstrip(), serial.rstrip(), int.from_bytes(general[0][8:10], "big"), node[31])

    def __str__(self) -> str:
        """The identity as Linux shows it in ``uid``."""
        return f"{self.vendor}.{self.serial}.{self.ssid:04x}.{self.unit_address:02x}"
