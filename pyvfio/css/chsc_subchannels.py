"""CHSC about subchannels: their descriptions (0004), what they are for QDIO (0024), initiating logging (0046).

The requests of 0004 and 0024 name a range in one set; a description of 0004 has 32 bytes::

    byte  0         10  12  16              31     0       8       16              31
         +-----------+---+---+---------------+    +-+-+---+-------+---------------+
     4   |   zeros   |set|fmt|     first     |  0 |S|D|st | unit  | device number |
         +-----------+---+---+---------------+    +-+-+---+-------+---------------+
     8   |       zeros       |     last      |  4 | mask  |  flv  |  subchannel   |
         +-------------------+---------------+    +-------+-------+---------------+
    12   |              zeros                |  8 |       8 CHPIDs                |
         +-----------------------------------+ 16 |       8 full link addresses   |
                                                  +-------------------------------+ 32

S: the subchannel, D: its device number is valid; `mask`: which CHPIDs are valid, `flv`: which link addresses.

Source: ``drivers/s390/cio/chsc.c`` (struct chsc_ssd_area, chsc_siosl), ``chsc.h`` (struct chsc_ssqd_area),
``arch/s390/include/asm/qdio.h`` (struct qdio_ssqd_desc).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from pyvfio.address import SubchannelId
from pyvfio.css.chsc import ChscCommand, ChscRequest
from pyvfio.css.layout import BytesLike, check_range, exactly
from pyvfio.css.schib import SubchannelType
from pyvfio.css.sid import SID_SIZE, Sid
from pyvfio.errors import Misuse

__all__ = ["InitiateLogging", "QdioDescription", "StoreQdio", "StoreSubchannels", "SubchannelDescription"]

_RANGE = struct.Struct(">HHHH4x")
_RANGE_ZEROS: Final = 0xFFC0
_PATHS: Final = 8
_SUBCHANNEL = struct.Struct(">BBHBBH8s8H")
_QDIO = struct.Struct(">BxHBBBBBBxBxBHQBBHxxxB")
_LOG = struct.Struct(">I4sI")
_LOG_DEVICE: Final = 0x80000000


@dataclass(frozen=True, slots=True)
class StoreSubchannels:
    """Ask for the subchannels from `first` to `last` (numbers in the set `ssid`).

    >>> print(StoreSubchannels(0, 5, 6))
    store subchannels 0.0005 to 0.0006
    """

    COMMAND: ClassVar[int] = ChscCommand.STORE_SUBCHANNELS

    ssid: int
    first: int
    last: int
    fmt: int = 0
    zeros: tuple[int, int] = (0, 0)

    @classmethod
    def from_request(cls, request: ChscRequest) -> Self:
        """Read a request.  Raise `Misuse` on another length."""
        word, first, zeros, last = _RANGE.unpack(exactly(request.data, _RANGE.size, "store subchannels"))
        return cls(word >> 4 & 3, first, last, word & 0xF, (word & _RANGE_ZEROS, zeros))

    def request(self) -> ChscRequest:
        """The request.  Raise `Misuse` when a field does not fit."""
        check_range(
            "store subchannels", ssid=(self.ssid, 2), first=(self.first, 16), last=(self.last, 16), fmt=(self.fmt, 4)
        )
        word = self.ssid << 4 | self.fmt | self.zeros[0]
        return ChscRequest(self.COMMAND, _RANGE.pack(word, self.first, self.zeros[1], self.last))

    def __str__(self) -> str:
        what = "store subchannels" if self.COMMAND == ChscCommand.STORE_SUBCHANNELS else "store QDIO facts of"
        return f"{what} {self.ssid}.{self.first:04x} to {self.ssid}.{self.last:04x}"


@dataclass(frozen=True, slots=True)
class StoreQdio(StoreSubchannels):
    """Ask what the subchannels from `first` to `last` are for QDIO."""

    COMMAND: ClassVar[int] = ChscCommand.STORE_SUBCHANNEL_QDIO


@dataclass(frozen=True, slots=True)
class SubchannelDescription:
    """A subchannel as CHSC describes it; `links` are eight full link addresses, `link_mask` says which are valid.

    >>> print(SubchannelDescription(5, devno=0x1234, path_mask=0x80, chpids=bytes([0x40]) + bytes(7)))
    subchannel 0005 device 1234 paths 40
    """

    SIZE: ClassVar[int] = 32

    sch_no: int
    valid: bool = True
    device_valid: bool = True
    st: int = SubchannelType.IO
    unit_address: int = 0
    devno: int = 0
    path_mask: int = 0
    link_mask: int = 0
    chpids: bytes = bytes(8)
    links: tuple[int, ...] = (0,) * 8

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Read 32 bytes.  Raise `Misuse` on another length."""
        raw = exactly(data, cls.SIZE, "subchannel description")
        flags, unit, devno, mask, link_mask, number, chpids, *links = _SUBCHANNEL.unpack(raw)
        return cls(
            number, bool(flags & 0x80), bool(flags & 0x40), flags >> 3 & 7, unit, devno, mask, link_mask, chpids,
            tuple(links),
        )  # fmt: skip

    def to_bytes(self) -> bytes:
        """The 32 bytes.  Raise `Misuse` when a field does not fit."""
        check_range(
            "subchannel description", sch_no=(self.sch_no, 16), st=(self.st, 3), unit_address=(self.unit_address, 8),
            devno=(self.devno, 16), path_mask=(self.path_mask, 8), link_mask=(self.link_mask, 8),
        )  # fmt: skip
        if len(self.links) != _PATHS or any(not 0 <= link < 1 << 16 for link in self.links):
            raise Misuse("build subchannel description", cause="there are eight link addresses of 16 bits")
        flags = self.valid << 7 | self.device_valid << 6 | self.st << 3
        return _SUBCHANNEL.pack(
            flags, self.unit_address, self.devno, self.path_mask, self.link_mask, self.sch_no,
            exactly(self.chpids, _PATHS, "CHPIDs"), *self.links,
        )  # fmt: skip

    def __str__(self) -> str:
        if not self.valid:
            return f"subchannel {self.sch_no:04x}: none"
        device = f"device {self.devno:04x}" if self.device_valid else "no device"
        paths = " ".join(f"{self.chpids[at]:02x}" for at in range(_PATHS) if self.path_mask & 0x80 >> at)
        return f"subchannel {self.sch_no:04x} {device} paths {paths or '-'}"


@dataclass(frozen=True, slots=True)
class QdioDescription:
    """What a subchannel is for QDIO (32 bytes): queue format, numbers of queues, characteristics.

    Fields as the kernel names them: `qfmt` queue format, `icnt` input and `ocnt` output queues, `pcnt` of both,
    `sch_class`, `parm`, `qdioac1` to `qdioac3`, `mbccnt`, `sch_token`, `mro`, `mri`, `mmwc`.
    """

    SIZE: ClassVar[int] = 32

    sch_no: int
    capable: bool = False
    valid: bool = True
    qfmt: int = 0
    parm: int = 0
    qdioac1: int = 0
    sch_class: int = 0
    pcnt: int = 0
    icnt: int = 0
    ocnt: int = 0
    mbccnt: int = 0
    qdioac2: int = 0
    sch_token: int = 0
    mro: int = 0
    mri: int = 0
    qdioac3: int = 0
    mmwc: int = 0

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Read 32 bytes.  Raise `Misuse` on another length."""
        flags, number, *rest = _QDIO.unpack(exactly(data, cls.SIZE, "QDIO description"))
        return cls(number, bool(flags & 0x80), bool(flags & 0x40), *rest)

    def to_bytes(self) -> bytes:
        """The 32 bytes.  Raise `Misuse` when a field does not fit."""
        bytes_ = {
            "qfmt": self.qfmt, "parm": self.parm, "qdioac1": self.qdioac1, "sch_class": self.sch_class,
            "pcnt": self.pcnt, "icnt": self.icnt, "ocnt": self.ocnt, "mbccnt": self.mbccnt, "mro": self.mro,
            "mri": self.mri, "mmwc": self.mmwc,
        }  # fmt: skip
        check_range("QDIO description", **{name: (value, 8) for name, value in bytes_.items()})
        check_range(
            "QDIO description", sch_no=(self.sch_no, 16), qdioac2=(self.qdioac2, 16), qdioac3=(self.qdioac3, 16),
            sch_token=(self.sch_token, 64),
        )  # fmt: skip
        return _QDIO.pack(
            self.capable << 7 | self.valid << 6, self.sch_no, self.qfmt, self.parm, self.qdioac1, self.sch_class,
            self.pcnt, self.icnt, self.ocnt, self.mbccnt, self.qdioac2, self.sch_token, self.mro, self.mri,
            self.qdioac3, self.mmwc,
        )  # fmt: skip

    def __str__(self) -> str:
        what = (
            f"QDIO format {self.qfmt}, {self.icnt} input and {self.ocnt} output queues" if self.capable else "no QDIO"
        )
        return f"subchannel {self.sch_no:04x}: {what}"


@dataclass(frozen=True, slots=True)
class InitiateLogging:
    """Have the machine keep a log about the device of a subchannel (what Linux' ``logging`` attributes do).

    >>> print(InitiateLogging(SubchannelId(0, 0, 5)))
    initiate logging for 0.0.0005
    """

    COMMAND: ClassVar[int] = ChscCommand.INITIATE_LOGGING

    schid: SubchannelId
    word: int = _LOG_DEVICE
    zeros: int = 0

    @classmethod
    def from_request(cls, request: ChscRequest) -> Self:
        """Read a request.  Raise `Misuse` on another length."""
        word, sid, zeros = _LOG.unpack(exactly(request.data, _LOG.size, "initiate logging"))
        return cls(Sid.from_bytes(sid).schid, word, zeros)

    def request(self) -> ChscRequest:
        """The request.  Raise `Misuse` when a field does not fit."""
        check_range("initiate logging", word=(self.word, 32), zeros=(self.zeros, 32))
        sid = exactly(Sid.of(self.schid).to_bytes(), SID_SIZE, "SID")
        return ChscRequest(self.COMMAND, _LOG.pack(self.word, sid, self.zeros))

    def __str__(self) -> str:
        return f"initiate logging for {self.schid}"
