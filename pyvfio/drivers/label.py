"""Volume labels: of z/OS and Linux' compatible layout (VOL1), of the Linux layout (LNX1), of CMS (CMS1).

::

    VOL1   key "VOL1" | "VOL1" | volume serial (6) | security | VTOC: cylinder, head, record (5) | ... owner (14) at 41
    LNX1   "LNX1" | volume serial (6) | ... version at 79 | formatted blocks (8) at 80
    CMS1   "CMS1" | volume serial (6) | version (2) | block size (4) | origin | cylinders | ... | blocks (4) at 28

Text is EBCDIC, numbers are big-endian; positions count from the end of the key.
Source: ``arch/s390/include/uapi/asm/vtoc.h``; ``block/partitions/ibm.c``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from pyvfio.drivers.eckd import Place
from pyvfio.errors import Misuse

__all__ = ["EBCDIC", "LabelKind", "VolumeLabel", "place_of", "volume_serial"]

EBCDIC: Final = "cp037"
_KEY_SIZE: Final = 4
_SIZE: Final = 80
_SERIAL_SIZE: Final = 6
_OWNER_AT, _OWNER_SIZE = 41, 14
_LARGE_VERSION: Final = 0xF2
_LNX1_VERSION_AT: Final = 79


class LabelKind(StrEnum):
    """The first four characters."""

    VOL1 = "VOL1"
    LNX1 = "LNX1"
    CMS1 = "CMS1"


def place_of(raw: bytes) -> Place:
    """Cylinder and head of four bytes (the head's field has the high bits of a large cylinder)."""
    low, high = int.from_bytes(raw[:2], "big"), int.from_bytes(raw[2:4], "big")
    return (high >> 4) << 16 | low, high & 0x0F


def volume_serial(text: str) -> str:
    """A volume serial as it stands in labels: upper case, without blanks behind.  Raise `Misuse` when it is none."""
    serial = text.strip().upper()
    try:
        size = len(serial.encode(EBCDIC))
    except UnicodeEncodeError:
        size = 0
    if not 1 <= size <= _SERIAL_SIZE:
        raise Misuse("read volume serial", repr(text), cause="it has 1 to 6 characters of EBCDIC")
    return serial


@dataclass(frozen=True, slots=True)
class VolumeLabel:
    """A label.  `vtoc` is where the VTOC begins (cylinder, head, record; VOL1 only), `blocks` how many blocks are
    formatted as an LNX1 or CMS1 label says (None: it does not).
    """

    kind: LabelKind
    volser: str
    vtoc: tuple[int, int, int] | None = None
    owner: str = ""
    blocks: int | None = None

    @classmethod
    def from_block(cls, block: bytes) -> Self | None:
        """Read the block with the label (for VOL1 key and data); None when there is no label in it."""
        keyed = block[:_KEY_SIZE] == block[_KEY_SIZE : 2 * _KEY_SIZE]
        raw = block[_KEY_SIZE:] if keyed or block[:_KEY_SIZE].decode(EBCDIC) not in tuple(LabelKind) else block
        name = raw[:4].decode(EBCDIC)
        if name not in tuple(LabelKind) or len(raw) < _SIZE:
            return None
        kind, volser = LabelKind(name), raw[4:10].decode(EBCDIC).rstrip()
        if kind is LabelKind.VOL1:
            owner = raw[_OWNER_AT : _OWNER_AT + _OWNER_SIZE].decode(EBCDIC).rstrip()
            vtoc = (*place_of(raw[11:15]), raw[15])
            return cls(kind, volser, vtoc if any(vtoc) else None, owner)
        if kind is LabelKind.LNX1:
            large = len(raw) >= _SIZE + 8 and raw[_LNX1_VERSION_AT] == _LARGE_VERSION
            return cls(kind, volser, blocks=int.from_bytes(raw[80:88], "big") if large else None)
        return cls(kind, volser, blocks=int.from_bytes(raw[28:32], "big"))

    def to_record(self) -> bytes:
        """The 80 bytes of a VOL1 label's data, or the 88 of an LNX1 label.

        Raise `Misuse` for a CMS1 label, which only CMS makes, or what does not fit.
        """
        blank = " ".encode(EBCDIC)
        if self.kind is LabelKind.LNX1:
            name = volume_serial(self.volser).encode(EBCDIC).ljust(_SERIAL_SIZE, blank)
            raw = ("LNX1".encode(EBCDIC) + name).ljust(_LNX1_VERSION_AT, blank)
            return raw + bytes([_LARGE_VERSION]) + (self.blocks or 0).to_bytes(8, "big")
        if self.kind is not LabelKind.VOL1:
            raise Misuse("build volume label", self.volser, cause="only VOL1 and LNX1 labels are built")
        cylinder, head, record = self.vtoc or (0, 0, 0)
        vtoc = (cylinder & 0xFFFF).to_bytes(2, "big") + (cylinder >> 16 << 4 | head).to_bytes(2, "big")
        name = volume_serial(self.volser).encode(EBCDIC).ljust(_SERIAL_SIZE, blank)
        raw = "VOL1".encode(EBCDIC) + name + blank + vtoc + bytes([record])
        owner = self.owner.encode(EBCDIC)
        if len(owner) > _OWNER_SIZE:
            raise Misuse("build volume label", self.volser, cause=f"an owner has at most {_OWNER_SIZE} characters")
        return (raw.ljust(_OWNER_AT, blank) + owner).ljust(_SIZE, blank)

    def __str__(self) -> str:
        """As Linux prints it when it looks for partitions."""
        return f"{self.kind}/{self.volser.ljust(_SERIAL_SIZE):>8}:"
