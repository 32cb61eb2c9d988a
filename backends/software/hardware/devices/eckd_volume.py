"""What lies on a 3390 volume: tracks with count, key and data, made when they are read.

::

    track:  home address | R0 | R1 | R2 | ...           record:  count | key | data

    count      0           4           6    7        8
             +-----------+-----------+----+----+---------+
             | cylinder  |   head    | R  | KL |   DL    |   (2, 2, 1, 1, 2 bytes)
             +-----------+-----------+----+----+---------+

Cylinder 0, head 0 holds the two IPL records, the volume label (R3) and blocks; every other track holds R0 and twelve
blocks of 4 KiB.  Blocks are zeros.  Text is EBCDIC.
Source: "3990/9390 Storage Control Reference" GA32-0274; ``arch/s390/include/uapi/asm/vtoc.h`` (volume label).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from pyvfio.errors import Misuse

__all__ = ["COUNT_SIZE", "Record", "Volume"]

COUNT_SIZE: Final = 8
_COUNT = struct.Struct(">HHBBH")
_BLOCK: Final = 4 * 1024
_BLOCKS: Final = 12
_ENCODING: Final = "cp037"
_R0: Final = bytes(8)
#: A program-status word that waits for ever with code f, and two empty channel commands.
_IPL1: Final = bytes.fromhex("000600000000000f03000000000000010000000000000000")
_IPL2: Final = bytes(144)
_ZEROS: Final = bytes(_BLOCK)


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


class Volume:
    """A formatted, empty volume; `volser` has at most six characters.  Raise `Misuse` on bad values."""

    heads = 15

    def __init__(self, volser: str, cylinders: int, owner: str = "") -> None:
        try:
            serial = volser.encode(_ENCODING)
            name = owner.encode(_ENCODING)
        except UnicodeEncodeError:
            raise Misuse("build volume", volser, cause="the volume serial and the owner are EBCDIC text") from None
        if not 1 <= len(serial) <= 6 or len(name) > 14:
            raise Misuse("build volume", volser, cause="a volume serial has 1 to 6 characters, an owner at most 14")
        if not 1 <= cylinders <= 65520:
            raise Misuse("build volume", volser, cause=f"{cylinders} cylinders: 1 to 65520 can be addressed")
        self.volser = volser
        self.cylinders = cylinders
        self._label = self._volume_label(serial, name)

    @staticmethod
    def _volume_label(serial: bytes, owner: bytes) -> bytes:
        """The 80 bytes of a standard volume label: the VTOC begins at cylinder 0, head 1, record 1."""
        blank = " ".encode(_ENCODING)
        vtoc = struct.pack(">HHB", 0, 1, 1)
        label = "VOL1".encode(_ENCODING) + serial.ljust(6, blank) + blank + vtoc
        return (label.ljust(41, blank) + owner).ljust(80, blank)

    def has(self, cylinder: int, head: int) -> bool:
        """Whether there is such a track."""
        return cylinder < self.cylinders and head < self.heads

    def track(self, cylinder: int, head: int) -> tuple[Record, ...]:
        """All records of a track, R0 first."""
        records = [Record(cylinder, head, 0, b"", _R0)]
        if not cylinder and not head:
            first = (("IPL1", _IPL1), ("IPL2", _IPL2), ("VOL1", self._label))
            records += [
                Record(0, 0, number, key.encode(_ENCODING), data) for number, (key, data) in enumerate(first, 1)
            ]
        records += [Record(cylinder, head, number, b"", _ZEROS) for number in range(len(records), _BLOCKS + 1)]
        return tuple(records)

    def __str__(self) -> str:
        return f"volume {self.volser} of {self.cylinders} cylinders"
