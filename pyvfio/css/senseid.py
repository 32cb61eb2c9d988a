"""What SENSE ID brings: the kind of control unit and device, and command-information words (CIW).

::

    byte   0        1                 3        4                 6        7        8
         +--------+-----------------+--------+-----------------+--------+--------+------
         |   ff   |     cu type     |cu model|    dev type     |dev mod.|   00   | CIWs
         +--------+-----------------+--------+-----------------+--------+--------+------

    CIW    0  4    8        16                31
         +--+--+----+--------+------------------+
         |01|00| ct |  cmd   |      count       |
         +--+--+----+--------+------------------+

Source: "Common I/O-Device Commands" SA22-7204, "Sense ID"; ``drivers/s390/cio/io_sch.h`` (struct senseid),
``arch/s390/include/asm/cio.h`` (struct ciw).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from pyvfio.css.layout import BytesLike, check_range
from pyvfio.errors import Misuse

__all__ = ["Ciw", "CiwType", "SenseId"]

_HEAD = struct.Struct(">BHBHB")
_CIW = struct.Struct(">BBH")
_MINIMUM: Final = 7
_FIRST_CIW: Final = 8
_CIW_VALID: Final = 0x40


class CiwType(IntEnum):
    """Kinds of command-information words (`Ciw.ct`)."""

    READ_CONFIGURATION_DATA = 0
    SET_INTERFACE_IDENTIFIER = 1
    READ_NODE_IDENTIFIER = 2


@dataclass(frozen=True, slots=True)
class Ciw:
    """One CIW: command type `ct` (4 bits), the command code `cmd` and the `count` of bytes it moves."""

    ct: int
    cmd: int
    count: int

    def to_bytes(self) -> bytes:
        """The 4 bytes, big-endian.  Raise `Misuse` when a field does not fit."""
        check_range("CIW", ct=(self.ct, 4), cmd=(self.cmd, 8), count=(self.count, 16))
        return _CIW.pack(_CIW_VALID | self.ct, self.cmd, self.count)

    def __str__(self) -> str:
        return f"CIW type {self.ct}: command {self.cmd:02x} moves {self.count} bytes"


@dataclass(frozen=True, slots=True)
class SenseId:
    """SENSE ID data; `dev_type` 0 means that the control unit has no separate device.

    >>> SenseId(0x3990, 0xE9, 0x3390, 0x0C).to_bytes().hex()
    'ff3990e933900c00'
    >>> print(SenseId(0x3832, 0x02))
    3832/02
    """

    cu_type: int
    cu_model: int = 0
    dev_type: int = 0
    dev_model: int = 0
    ciws: tuple[Ciw, ...] = ()

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Read at least 7 bytes; CIWs are read up to the first which is not valid.  Raise `Misuse` on bad data."""
        raw = bytes(data)
        if len(raw) < _MINIMUM:
            raise Misuse("read SENSE ID data", cause=f"it has at least {_MINIMUM} bytes, not {len(raw)}")
        mark, cu_type, cu_model, dev_type, dev_model = _HEAD.unpack(raw[:_MINIMUM])
        if mark != 0xFF:
            raise Misuse("read SENSE ID data", cause=f"byte 0 is ff, not {mark:02x}")
        ciws: list[Ciw] = []
        for offset in range(_FIRST_CIW, len(raw) - 3, 4):
            head, cmd, count = _CIW.unpack_from(raw, offset)
            if head & 0xC0 != _CIW_VALID:
                break
            ciws.append(Ciw(head & 0x0F, cmd, count))
        return cls(cu_type, cu_model, dev_type, dev_model, tuple(ciws))

    def to_bytes(self) -> bytes:
        """8 bytes and 4 for each CIW, big-endian.  Raise `Misuse` when a field does not fit."""
        check_range(
            "SENSE ID data",
            cu_type=(self.cu_type, 16),
            cu_model=(self.cu_model, 8),
            dev_type=(self.dev_type, 16),
            dev_model=(self.dev_model, 8),
        )
        head = _HEAD.pack(0xFF, self.cu_type, self.cu_model, self.dev_type, self.dev_model)
        return head + b"\0" + b"".join(ciw.to_bytes() for ciw in self.ciws)

    @property
    def cu(self) -> str:
        """Control-unit type and model as Linux prints them: ``3990/e9``."""
        return f"{self.cu_type:04x}/{self.cu_model:02x}"

    @property
    def device(self) -> str:
        """Device type and model (``3390/0c``), or an empty string when there is no device type."""
        return f"{self.dev_type:04x}/{self.dev_model:02x}" if self.dev_type else ""

    def __str__(self) -> str:
        return f"{self.device} ({self.cu})" if self.device else self.cu
