"""Channel measurement: the operand of SET CHANNEL MONITOR, and the blocks in storage that the channel updates.

General register 1 of SCHM (bits 32 to 63; general register 2 has the origin, on a 32-byte boundary)::

     32   36                                                       62 63
     +----+-------------------------------------------------------+-+-+
     |key |                       zeros                           |M|D|
     +----+-------------------------------------------------------+-+-+

M: update measurement blocks; D: measure device-connect time; `key` is the storage key for the blocks.

A subchannel takes part when its PMCW says so (`Pmcw.mme`).  With `Pmcw.mbfc` off its block has format 0 and lies in the
area from the origin on, at 32 times `Pmcw.mbi`; with it on, the block has format 1 and lies at `Schib.mba`::

    format 0                                 format 1
     0 +----------------+----------------+    0 +--------------------------------+
       | SSCH and RSCH  | samples        |      | SSCH and RSCH                  |
     4 +----------------+----------------+    4 +--------------------------------+
       | device connect time             |      | samples                        |
     8 +---------------------------------+    8 +--------------------------------+
       | function pending time           |      | device connect time            |
    12 +---------------------------------+   12 | function pending time          |
       | device disconnect time          |   16 | device disconnect time         |
    16 +---------------------------------+   20 | control unit queuing time      |
       | control unit queuing time       |   24 | device active only time        |
    20 +---------------------------------+   28 | device busy time               |
       | device active only time         |   32 | initial command response time  |
    24 +---------------------------------+   36 +--------------------------------+
       | reserved (8 bytes)              |      | reserved (28 bytes)            |
    32 +---------------------------------+   64 +--------------------------------+

Times are sums in units of 128 microseconds.  Everything wraps around at its width.

Source: z/Architecture Principles of Operation, "SET CHANNEL MONITOR" and "Channel-Subsystem Monitoring";
``drivers/s390/cio/cmf.c`` (struct cmb, struct cmbe).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from pyvfio.css.layout import BytesLike, check_range, exactly

__all__ = ["MEASUREMENT_UNIT", "ChannelMonitor", "ExtendedMeasurementBlock", "MeasurementBlock"]

#: Seconds of one unit of time in a measurement block.
MEASUREMENT_UNIT: Final = 128e-6
_ORIGIN_BOUNDARY: Final = 32
_RESERVED: Final = 0x0FFFFFFC
_UPDATE: Final = 2
_CONNECT: Final = 1


@dataclass(frozen=True, slots=True)
class ChannelMonitor:
    """What SET CHANNEL MONITOR sets: whether blocks are updated and connect times measured; `origin` has 64 bits.

    `reserved` are the bits of register 1 that must be zero, kept so that any registers survive a round trip.

    >>> print(ChannelMonitor(update=True, origin=0x80000))
    channel monitor: blocks updated from 0x80000 on, key 0
    """

    key: int = 0
    update: bool = False
    connect_time: bool = False
    origin: int = 0
    reserved: int = 0

    @classmethod
    def from_registers(cls, one: int, two: int) -> Self:
        """Read general registers 1 and 2 (64 bits each; the left half of the first is ignored)."""
        return cls(one >> 28 & 0xF, bool(one & _UPDATE), bool(one & _CONNECT), two, one & _RESERVED)

    @property
    def registers(self) -> tuple[int, int]:
        """General registers 1 and 2.  Raise `Misuse` when a field does not fit."""
        check_range("channel monitor", key=(self.key, 4), origin=(self.origin, 64), reserved=(self.reserved, 28))
        one = self.key << 28 | self.reserved & _RESERVED | self.update << 1 | self.connect_time
        return one, self.origin

    @property
    def problem(self) -> str:
        """Why SCHM would recognise an operand exception; empty when it would not."""
        if self.reserved:
            return "a bit that must be zero is one"
        if self.update and self.origin % _ORIGIN_BOUNDARY:
            return f"the measurement-block origin {self.origin:#x} is not on a boundary of {_ORIGIN_BOUNDARY} bytes"
        return ""

    def __str__(self) -> str:
        blocks = f"blocks updated from {self.origin:#x} on, key {self.key:x}" if self.update else "off"
        return f"channel monitor: {blocks}{', device-connect times measured' if self.connect_time else ''}"


@dataclass(frozen=True, slots=True)
class MeasurementBlock:
    """A block of format 0: two counts of 16 bits, times of 32 bits in units of 128 microseconds."""

    SIZE: ClassVar[int] = 32
    BOUNDARY: ClassVar[int] = 32

    ssch_rsch_count: int = 0
    sample_count: int = 0
    device_connect_time: int = 0
    function_pending_time: int = 0
    device_disconnect_time: int = 0
    control_unit_queuing_time: int = 0
    device_active_only_time: int = 0

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Read 32 big-endian bytes (the reserved ones are dropped).  Raise `Misuse` on another length."""
        return cls(*_BASIC.unpack_from(exactly(data, cls.SIZE, "measurement block")))

    def to_bytes(self) -> bytes:
        """The 32 bytes; every field is taken modulo its width."""
        counts = self.ssch_rsch_count & 0xFFFF, self.sample_count & 0xFFFF
        times = (
            self.device_connect_time,
            self.function_pending_time,
            self.device_disconnect_time,
            self.control_unit_queuing_time,
            self.device_active_only_time,
        )
        return _BASIC.pack(*counts, *(time & _WORD for time in times)).ljust(self.SIZE, b"\0")

    def __str__(self) -> str:
        return f"measurement block: {_words(self)}"


@dataclass(frozen=True, slots=True)
class ExtendedMeasurementBlock:
    """A block of format 1: counts and times of 32 bits, times in units of 128 microseconds."""

    SIZE: ClassVar[int] = 64
    BOUNDARY: ClassVar[int] = 64

    ssch_rsch_count: int = 0
    sample_count: int = 0
    device_connect_time: int = 0
    function_pending_time: int = 0
    device_disconnect_time: int = 0
    control_unit_queuing_time: int = 0
    device_active_only_time: int = 0
    device_busy_time: int = 0
    initial_command_response_time: int = 0

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Read 64 big-endian bytes (the reserved ones are dropped).  Raise `Misuse` on another length."""
        return cls(*_EXTENDED.unpack_from(exactly(data, cls.SIZE, "extended measurement block")))

    def to_bytes(self) -> bytes:
        """The 64 bytes; every field is taken modulo its width."""
        fields = (
            self.ssch_rsch_count,
            self.sample_count,
            self.device_connect_time,
            self.function_pending_time,
            self.device_disconnect_time,
            self.control_unit_queuing_time,
            self.device_active_only_time,
            self.device_busy_time,
            self.initial_command_response_time,
        )
        return _EXTENDED.pack(*(value & _WORD for value in fields)).ljust(self.SIZE, b"\0")

    def __str__(self) -> str:
        return f"extended measurement block: {_words(self)}"


_WORD: Final = 0xFFFFFFFF
_BASIC = struct.Struct(">HH5I")
_EXTENDED = struct.Struct(">9I")


def _words(block: MeasurementBlock | ExtendedMeasurementBlock) -> str:
    return (
        f"{block.ssch_rsch_count} SSCH and RSCH, {block.sample_count} samples, "
        f"connected {block.device_connect_time * MEASUREMENT_UNIT:.6f} s, "
        f"pending {block.function_pending_time * MEASUREMENT_UNIT:.6f} s"
    )
