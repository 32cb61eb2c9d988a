"""CHSC about the machine: its characteristics (0010), facilities to enable (0031), events (000e), images (0034).

The characteristics are two strings of bits: 2040 bytes of general ones, 2032 bytes of those of CHSC.  Bits are numbered
from the left; `Characteristic` and `CallCharacteristic` have those that Linux gives names to, `Facility` the operation
codes of SET DOMAIN ATTRIBUTES that it uses.

STORE EVENT INFORMATION asks with a mask of notification types (64 bits, type 0 leftmost; it cannot be masked off); the
response has `pyvfio.css.Sei` from its parameter word on.

Source: ``arch/s390/include/asm/css_chars.h``; ``drivers/s390/cio/chsc.h`` (struct css_chsc_char, chsc_sda_area),
``chsc.c`` (struct chsc_sei, chsc_determine_css_characteristics, chsc_get_cssid_iid).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, Self

from pyvfio.css.chsc import ChscCommand, ChscRequest
from pyvfio.css.layout import BytesLike, check_range, exactly
from pyvfio.errors import Misuse

__all__ = [
    "CallCharacteristic",
    "Characteristic",
    "Characteristics",
    "EnableFacility",
    "Facility",
    "StoreCharacteristics",
    "StoreEvents",
    "StoreImages",
]

_GENERAL: Final = 510 * 4
_CALLS: Final = 508 * 4
_WORDS3 = struct.Struct(">III")
_EVENTS = struct.Struct(">IQ")
_CHARACTERISTICS_ZEROS: Final = (0xDFF000FF, 0xFFFFFFFF, 0xFFFFFFFF)
_ENABLE = struct.Struct(">BBHII1008s")
_IMAGES = struct.Struct(">B27x")
_ALL_TYPES: Final = (1 << 64) - 1
_TYPE_BITS: Final = 63


class Characteristic(IntEnum):
    """General characteristics, by the number of their bit."""

    DYNAMIC_IO = 12
    EXTENDED_ASYNCHRONOUS_DATA_MOVER = 17
    ADAPTER_INTERRUPTION = 41
    MULTIPLE_IMAGES = 45
    FIBRE_CHANNEL = 46
    EXTENDED_MEASUREMENT_BLOCK = 48
    TIME_DELAY_DISABLEMENT = 56
    QDIO_ENHANCED_BUFFER_STATE = 58
    ADAPTER_INTERRUPTION_VIRTUAL = 61
    ADAPTER_INTERRUPTION_OSA = 67
    CHANNEL_INFORMATION_BLOCK = 82
    TRANSPORT_MODE = 88
    ALTERNATE_STORE_SUBCHANNEL = 108
    NETWORK_ADDRESS_REPORTING = 110
    ENHANCED_NETWORK_ADDRESS_REPORTING = 116
    UTILITY_STRING = 123


class CallCharacteristic(IntEnum):
    """Characteristics of CHSC, by the number of their bit: commands that are provided."""

    SET_CHANNEL_MEASUREMENT = 84
    STORE_MEASUREMENT_CHARACTERISTICS = 86
    SET_SUBCHANNEL_CONTROLS = 107
    SET_SUBCHANNEL_CONTROLS_FORWARDING = 108
    NETWORK_SUBCHANNEL_OPERATION = 116


class Facility(IntEnum):
    """What SET DOMAIN ATTRIBUTES can enable."""

    IMAGES = 0
    SUBCHANNEL_SETS = 2


@dataclass(frozen=True, slots=True)
class StoreCharacteristics:
    """Ask for the characteristics of an image; with `m` on `cssid` names it."""

    COMMAND: ClassVar[int] = ChscCommand.STORE_CHARACTERISTICS

    cssid: int = 0
    m: bool = False
    fmt: int = 0
    zeros: tuple[int, int, int] = (0, 0, 0)

    @classmethod
    def from_request(cls, request: ChscRequest) -> Self:
        """Read a request.  Raise `Misuse` on another length."""
        words = _WORDS3.unpack(exactly(request.data, _WORDS3.size, "store characteristics"))
        one = words[0]
        zeros = tuple(word & mask for word, mask in zip(words, _CHARACTERISTICS_ZEROS, strict=True))
        return cls(one >> 8 & 0xFF, bool(one & 0x20000000), one >> 16 & 0xF, (zeros[0], zeros[1], zeros[2]))

    def request(self) -> ChscRequest:
        """The request.  Raise `Misuse` when a field does not fit."""
        check_range("store characteristics", cssid=(self.cssid, 8), fmt=(self.fmt, 4))
        one = self.m << 29 | self.fmt << 16 | self.cssid << 8
        words = (word | zeros for word, zeros in zip((one, 0, 0), self.zeros, strict=True))
        return ChscRequest(self.COMMAND, _WORDS3.pack(*words))

    def __str__(self) -> str:
        return f"store characteristics{f' of image {self.cssid:x}' if self.m else ''}"


@dataclass(frozen=True, slots=True)
class Characteristics:
    """What a channel subsystem has: the numbers of the bits that are on, of both strings.

    >>> print(Characteristics.of([Characteristic.MULTIPLE_IMAGES], [CallCharacteristic.SET_CHANNEL_MEASUREMENT]))
    characteristics: multiple images; calls: set channel measurement
    """

    general: frozenset[int] = frozenset()
    calls: frozenset[int] = frozenset()

    @classmethod
    def of(cls, general: Iterable[int], calls: Iterable[int] = ()) -> Self:
        """The value with these bits on."""
        return cls(frozenset(general), frozenset(calls))

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Read the 4072 bytes of a response.  Raise `Misuse` on another length."""
        raw = exactly(data, _GENERAL + _CALLS, "characteristics")
        return cls(_bits(raw[:_GENERAL]), _bits(raw[_GENERAL:]))

    def to_bytes(self) -> bytes:
        """The 4072 bytes.  Raise `Misuse` for a bit that there is no room for."""
        return _string(self.general, _GENERAL) + _string(self.calls, _CALLS)

    def __str__(self) -> str:
        general = ", ".join(_name(Characteristic, bit) for bit in sorted(self.general)) or "-"
        calls = ", ".join(_name(CallCharacteristic, bit) for bit in sorted(self.calls)) or "-"
        return f"characteristics: {general}; calls: {calls}"


def _bits(raw: bytes) -> frozenset[int]:
    return frozenset(8 * at + bit for at, byte in enumerate(raw) if byte for bit in range(8) if byte & 0x80 >> bit)


def _string(bits: Iterable[int], size: int) -> bytes:
    string = bytearray(size)
    for bit in bits:
        if not 0 <= bit < 8 * size:
            raise Misuse("build characteristics", cause=f"there is no bit {bit}")
        string[bit // 8] |= 0x80 >> bit % 8
    return bytes(string)


def _name(names: type[IntEnum], bit: int) -> str:
    return names(bit).name.lower().replace("_", " ") if bit in list(names) else f"bit {bit}"


@dataclass(frozen=True, slots=True)
class EnableFacility:
    """Enable a facility of the channel subsystem (`Facility`); `data` are 1008 bytes that the operation may want.

    >>> print(EnableFacility(Facility.SUBCHANNEL_SETS))
    enable subchannel sets
    """

    COMMAND: ClassVar[int] = ChscCommand.SET_DOMAIN_ATTRIBUTES

    operation: int
    fmt: int = 0
    data: bytes = bytes(1008)
    zeros: tuple[int, int, int, int] = (0, 0, 0, 0)

    @classmethod
    def from_request(cls, request: ChscRequest) -> Self:
        """Read a request.  Raise `Misuse` on another length."""
        first, second, operation, *zeros, data = _ENABLE.unpack(exactly(request.data, _ENABLE.size, "enable facility"))
        return cls(operation, first & 0xF, data, (first & 0xF0, second, zeros[0], zeros[1]))

    def request(self) -> ChscRequest:
        """The request.  Raise `Misuse` when a field does not fit."""
        check_range("enable facility", operation=(self.operation, 16), fmt=(self.fmt, 4))
        first, second, *zeros = self.zeros
        data = exactly(self.data, 1008, "operation data")
        return ChscRequest(self.COMMAND, _ENABLE.pack(first | self.fmt, second, self.operation, *zeros, data))

    def __str__(self) -> str:
        return f"enable {_name(Facility, self.operation)}"


@dataclass(frozen=True, slots=True)
class StoreEvents:
    """Ask for an event of the notification types in `types` (a mask of 64 bits, type 0 leftmost).

    >>> print(StoreEvents.of(0, 2))
    store event information of types 0, 2
    """

    COMMAND: ClassVar[int] = ChscCommand.STORE_EVENT_INFORMATION

    types: int = 1 << _TYPE_BITS
    zeros: int = 0

    @classmethod
    def of(cls, *types: int) -> Self:
        """The request for these notification types.  Raise `Misuse` for one that is not from 0 to 63."""
        mask = 0
        for one in types:
            check_range("store event information", type=(one, 6))
            mask |= 1 << _TYPE_BITS - one
        return cls(mask)

    @classmethod
    def from_request(cls, request: ChscRequest) -> Self:
        """Read a request.  Raise `Misuse` on another length."""
        zeros, types = _EVENTS.unpack(exactly(request.data, _EVENTS.size, "store event information"))
        return cls(types, zeros)

    def request(self) -> ChscRequest:
        """The request.  Raise `Misuse` when a field does not fit."""
        check_range("store event information", types=(self.types, 64), zeros=(self.zeros, 32))
        return ChscRequest(self.COMMAND, _EVENTS.pack(self.zeros, self.types))

    def wants(self, nt: int) -> bool:
        """Whether events of the notification type are asked for; those of type 0 always are."""
        return nt == 0 or bool(self.types >> _TYPE_BITS - nt & 1)

    def __str__(self) -> str:
        types = "all types" if self.types == _ALL_TYPES else f"types {', '.join(map(str, self._numbers()))}"
        return f"store event information of {types}"

    def _numbers(self) -> list[int]:
        return [nt for nt in range(_TYPE_BITS + 1) if self.wants(nt)]


@dataclass(frozen=True, slots=True)
class StoreImages:
    """Ask which image the program's own is: attribute type 4 of STORE DOMAIN ATTRIBUTES.

    The response has, from its byte 16 on, entries of 4 bytes: cssid, image id (iid), two bytes of zeros.
    """

    COMMAND: ClassVar[int] = ChscCommand.STORE_DOMAIN_ATTRIBUTES
    OWN_IMAGE: ClassVar[int] = 4

    attribute: int = OWN_IMAGE

    @classmethod
    def from_request(cls, request: ChscRequest) -> Self:
        """Read a request.  Raise `Misuse` on another length."""
        (attribute,) = _IMAGES.unpack(exactly(request.data, _IMAGES.size, "store images"))
        return cls(attribute)

    def request(self) -> ChscRequest:
        """The request.  Raise `Misuse` when a field does not fit."""
        check_range("store images", attribute=(self.attribute, 8))
        return ChscRequest(self.COMMAND, _IMAGES.pack(self.attribute))

    @staticmethod
    def answer(entries: Iterable[tuple[int, int]]) -> bytes:
        """The data of the response for (cssid, iid) pairs: 8 bytes of zeros, then the entries."""
        return bytes(8) + b"".join(bytes((cssid, iid, 0, 0)) for cssid, iid in entries)

    @staticmethod
    def entries(data: BytesLike) -> list[tuple[int, int]]:
        """The (cssid, iid) pairs of a response's data."""
        raw = bytes(data)[8:]
        return [(raw[at], raw[at + 1]) for at in range(0, len(raw) - 3, 4)]

    def __str__(self) -> str:
        return f"store domain attributes of type {self.attribute}"
