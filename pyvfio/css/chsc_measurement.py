"""CHSC about the measurement of channel paths: turning it on (0016), what is measured of each path (0022).

Source: ``drivers/s390/cio/chsc.c`` (``__chsc_do_secm``, ``chsc_get_channel_measurement_chars``, ``scmc_get_speed``).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Self

from pyvfio.css.chsc import ChscCommand, ChscRequest
from pyvfio.css.layout import BytesLike, check_range, exactly
from pyvfio.errors import Misuse

__all__ = ["MeasurementCharacteristics", "SetMeasurement", "StoreMeasurement"]

_STORE = struct.Struct(">III")
_MEASUREMENT = struct.Struct(">8I")
_SET = struct.Struct(">II2Q4Q20x")
_CHPID = 0xFF


@dataclass(frozen=True, slots=True)
class StoreMeasurement:
    """Ask what is measured of the channel paths from `first` to `last`; `zeros` are bits that must be zero.

    >>> print(StoreMeasurement(0x40, 0x40))
    store measurement characteristics of 40 to 40
    """

    COMMAND: ClassVar[int] = ChscCommand.STORE_MEASUREMENT_CHARACTERISTICS

    first: int
    last: int
    zeros: tuple[int, int, int] = (0, 0, 0)

    @classmethod
    def from_request(cls, request: ChscRequest) -> Self:
        """Read a request.  Raise `Misuse` on another length."""
        one, two, three = _STORE.unpack(exactly(request.data, _STORE.size, "store measurement characteristics"))
        return cls(one & _CHPID, two & _CHPID, (one & ~_CHPID, two & ~_CHPID, three))

    def request(self) -> ChscRequest:
        """The request.  Raise `Misuse` when a field does not fit."""
        check_range("store measurement characteristics", first=(self.first, 8), last=(self.last, 8))
        one, two, three = self.zeros
        return ChscRequest(self.COMMAND, _STORE.pack(one | self.first, two | self.last, three))

    def __str__(self) -> str:
        return f"store measurement characteristics of {self.first:02x} to {self.last:02x}"


@dataclass(frozen=True, slots=True)
class MeasurementCharacteristics:
    """What is measured of a channel path (32 bytes): its group `cmg`, whether `shared`, its speed, five words.

    ::

        byte  0 1 2              24      31
             +-+-+-+--------------+-------+
         0   |N|S|E|     zeros    | chpid |     N not valid, S shared, E extended
             +-+-+-+---+----+-----+-------+
         4   |cmcv |0  |cmgp| cmgq|  cmg  |     cmcv: which words are valid (5 bits); cmgp: power of ten of the speed
             +-----+---+----+-----+-------+
         8   |      zeros    |    cmgs    |     cmgs: speed in units of 10 ** (cmgp or 8) bit/s
             +---------------+------------+
        12   |       five words           |
             +----------------------------+
    """

    SIZE: ClassVar[int] = 32

    chpid: int
    cmg: int = 0
    shared: bool = False
    extended: bool = False
    valid: bool = True
    cmcv: int = 0
    cmgp: int = 0
    cmgq: int = 0
    cmgs: int = 0
    words: tuple[int, ...] = (0, 0, 0, 0, 0)

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Read 32 bytes.  Raise `Misuse` on another length."""
        one, two, three, *words = _MEASUREMENT.unpack(exactly(data, cls.SIZE, "measurement characteristics"))
        return cls(
            one & 0xFF, two & 0xFF, bool(one & 0x40000000), bool(one & 0x20000000), not one & 0x80000000,
            two >> 27, two >> 16 & 0xF, two >> 8 & 0xFF, three & 0xFFFF, tuple(words),
        )  # fmt: skip

    def to_bytes(self) -> bytes:
        """The 32 bytes.  Raise `Misuse` when a field does not fit."""
        check_range(
            "measurement characteristics", chpid=(self.chpid, 8), cmg=(self.cmg, 8), cmcv=(self.cmcv, 5),
            cmgp=(self.cmgp, 4), cmgq=(self.cmgq, 8), cmgs=(self.cmgs, 16),
        )  # fmt: skip
        if len(self.words) != 5 or any(not 0 <= word < 1 << 32 for word in self.words):
            raise Misuse("build measurement characteristics", cause="there are five words of 32 bits")
        one = (not self.valid) << 31 | self.shared << 30 | self.extended << 29 | self.chpid
        two = self.cmcv << 27 | self.cmgp << 16 | self.cmgq << 8 | self.cmg
        return _MEASUREMENT.pack(one, two, self.cmgs, *self.words)

    @property
    def speed(self) -> int:
        """Bits per second; 0 when it is not told."""
        return int(self.cmgs * 10 ** (self.cmgp or 8))

    def __str__(self) -> str:
        shared = ", shared" if self.shared else ""
        return f"channel path {self.chpid:02x}: measurement group {self.cmg}{shared}, {self.speed} bit/s"


@dataclass(frozen=True, slots=True)
class SetMeasurement:
    """Turn the measurement of channel paths on or off; `areas` have 32 bytes for each path (two pages).

    `extended` are four more pages (64 bytes a path), which count when `e` is on; `key` is the storage key.
    """

    COMMAND: ClassVar[int] = ChscCommand.SET_CHANNEL_MEASUREMENT

    on: bool
    areas: tuple[int, int] = (0, 0)
    e: bool = False
    key: int = 0
    extended: tuple[int, ...] = (0,) * 4

    @classmethod
    def from_request(cls, request: ChscRequest) -> Self:
        """Read a request.  Raise `Misuse` on another length, and for another operation than on and off."""
        one, key, first, second, *extended = _SET.unpack(exactly(request.data, _SET.size, "set measurement"))
        if one >> 30 > 1:
            raise Misuse("read set measurement", cause=f"there is no operation {one >> 30}")
        return cls(not one >> 30, (first, second), bool(one & 0x10000000), key >> 28, tuple(extended))

    def request(self) -> ChscRequest:
        """The request.  Raise `Misuse` when a field does not fit."""
        check_range("set measurement", key=(self.key, 4))
        for area in (*self.areas, *self.extended):
            check_range("set measurement", area=(area, 64))
        if len(self.areas) != 2 or len(self.extended) != 4:
            raise Misuse("build set measurement", cause="there are two areas and four extended ones")
        word = (not self.on) << 30 | self.e << 28
        return ChscRequest(self.COMMAND, _SET.pack(word, self.key << 28, *self.areas, *self.extended))

    def __str__(self) -> str:
        where = f" in {self.areas[0]:#x} and {self.areas[1]:#x}" if self.on else ""
        return f"set channel measurement {'on' if self.on else 'off'}{where}"
