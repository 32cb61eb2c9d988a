"""What Identify answers, always 4 KiB.  Source: NVM Express 1.4, 5.15.

::

    controller   0 vendor (2)  2 subsystem vendor (2)  4 serial (20)  24 model (40)  64 firmware (8)  77 MDTS
                 78 controller id (2)  80 version (4)  111 type  256 OACS (2)  258 abort limit  259 event limit
                 260 firmware slots  261 log page attributes  262 error log entries  263 power states
                 266 temperature: warning (2)  268 critical (2)  512 SQES  513 CQES  514 commands (2)
                 516 namespaces (4)  520 ONCS (2)  524 format attributes  525 write cache  526 AWUN (2)  528 AWUPF (2)
                 768 NVM subsystem name (256)  2048 power states (32 each)
    namespace    0 size (8)  8 capacity (8)  16 use (8)  25 formats  26 format in use  33 DLFEAT
                 104 NGUID (16)  120 EUI64 (8)  128 formats (4 each): | size, a power of two 23:16 | metadata 15:0 |
    descriptors  of each: type, length, 2 reserved, then the identifier; zeros end them

Limits and numbers of entries are less 1; text is ASCII, padded with spaces.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

__all__ = [
    "IDENTIFY_SIZE",
    "ControllerIdentity",
    "Identify",
    "NamespaceIdentity",
    "OptionalCommand",
    "namespace_descriptors",
    "namespace_list",
    "parse_namespace_list",
]

IDENTIFY_SIZE: Final = 1 << 12
_LIST_LENGTH: Final = IDENTIFY_SIZE // 4
_HEAD: Final = struct.Struct("<HH20s40s8s")
_IO_CONTROLLER: Final = 1
_EXTENDED_LOGS: Final = 1 << 2
_ENTRY_SIZES: Final = b"\x66\x44"  # 64 and 16 bytes, required and largest
_SIZES_AT, _DESCRIPTOR_UUID, _DESCRIPTOR_EUI64 = 512, 3, 1


class Identify(IntEnum):
    """What is asked for (CNS)."""

    NAMESPACE = 0x00
    CONTROLLER = 0x01
    NAMESPACES = 0x02
    DESCRIPTORS = 0x03


class OptionalCommand(IntFlag):
    """Bits of ONCS."""

    COMPARE = 1 << 0
    WRITE_UNCORRECTABLE = 1 << 1
    DATASET_MANAGEMENT = 1 << 2
    WRITE_ZEROES = 1 << 3
    SELECT = 1 << 4


def _text(text: str, length: int) -> bytes:
    return text.encode("ascii", "replace")[:length].ljust(length)


def _put(data: bytearray, at: int, value: int, width: int) -> None:
    data[at : at + width] = value.to_bytes(width, "little")


def _get(data: bytes, at: int, width: int) -> int:
    return int.from_bytes(data[at : at + width], "little")


@dataclass(frozen=True, slots=True)
class ControllerIdentity:
    """An I/O controller.  `transfer` is MDTS: data of a command, as a power of two of the least page; 0: no limit.

    `optional` are bits of `OptionalCommand`.  `errors`, `aborts` and `events`: entries of the error log, and commands
    under way, at most.
    """

    vendor: int
    subsystem_vendor: int
    serial: str
    model: str
    firmware: str
    subsystem: str
    transfer: int = 7
    version: int = 0
    namespaces: int = 1
    optional: int = 0
    errors: int = 4
    aborts: int = 4
    events: int = 4
    write_cache: bool = True
    warning_temperature: int = 343
    critical_temperature: int = 373

    def pack(self) -> bytes:
        """The 4 KiB."""
        data = bytearray(IDENTIFY_SIZE)
        serial, model, firmware = _text(self.serial, 20), _text(self.model, 40), _text(self.firmware, 8)
        _HEAD.pack_into(data, 0, self.vendor, self.subsystem_vendor, serial, model, firmware)
        data[77] = self.transfer
        _put(data, 80, self.version, 4)
        data[111] = _IO_CONTROLLER
        data[258], data[259] = self.aborts - 1, self.events - 1
        data[260] = 1 << 1 | 1  # one slot, read-only
        data[261], data[262] = _EXTENDED_LOGS, self.errors - 1
        _put(data, 266, self.warning_temperature, 2)
        _put(data, 268, self.critical_temperature, 2)
        data[_SIZES_AT : _SIZES_AT + 2] = _ENTRY_SIZES
        _put(data, 516, self.namespaces, 4)
        _put(data, 520, self.optional, 2)
        data[525] = int(self.write_cache)
        name = self.subsystem.encode("utf-8")[:255]
        data[768 : 768 + len(name)] = name
        return bytes(data)

    @classmethod
    def parse(cls, data: bytes) -> ControllerIdentity:
        """From the 4 KiB."""
        vendor, subsystem_vendor, serial, model, firmware = _HEAD.unpack_from(data)
        return cls(
            vendor,
            subsystem_vendor,
            serial.decode("ascii", "replace").rstrip(),
            model.decode("ascii", "replace").rstrip(),
            firmware.decode("ascii", "replace").rstrip(),
            data[768:1024].split(b"\0")[0].decode("utf-8", "replace"),
            transfer=data[77],
            version=_get(data, 80, 4),
            namespaces=_get(data, 516, 4),
            optional=_get(data, 520, 2),
            errors=data[262] + 1,
            aborts=data[258] + 1,
            events=data[259] + 1,
            write_cache=bool(data[525] & 1),
            warning_temperature=_get(data, 266, 2),
            critical_temperature=_get(data, 268, 2),
        )


@dataclass(frozen=True, slots=True)
class NamespaceIdentity:
    """A namespace of `blocks` logical blocks of 2 to `order` bytes, each with `metadata` bytes.

    `zeroes`: what was deallocated reads as zeros.
    """

    blocks: int
    order: int
    eui64: bytes = bytes(8)
    zeroes: bool = True
    metadata: int = 0

    def pack(self) -> bytes:
        """The 4 KiB."""
        data = bytearray(IDENTIFY_SIZE)
        for at in (0, 8, 16):
            _put(data, at, self.blocks, 8)
        data[33] = int(self.zeroes)
        data[120:128] = self.eui64
        _put(data, 128, self.order << 16 | self.metadata, 4)
        return bytes(data)

    @classmethod
    def parse(cls, data: bytes) -> NamespaceIdentity | None:
        """From the 4 KiB; None for a namespace that is not active: zeros."""
        used = data[26] & 0xF
        order = data[128 + 4 * used + 2]
        if not order:
            return None
        return cls(_get(data, 0, 8), order, bytes(data[120:128]), data[33] & 7 == 1, _get(data, 128 + 4 * used, 2))


def namespace_list(nsids: list[int]) -> bytes:
    """A list of namespaces (CNS 02h): at most 1024, in order."""
    return b"".join(nsid.to_bytes(4, "little") for nsid in sorted(nsids)[:_LIST_LENGTH]).ljust(IDENTIFY_SIZE, b"\0")


def parse_namespace_list(data: bytes) -> list[int]:
    """The namespaces of a list, up to the first 0."""
    found: list[int] = []
    for at in range(0, len(data), 4):
        nsid = _get(data, at, 4)
        if not nsid:
            break
        found.append(nsid)
    return found


def namespace_descriptors(*, eui64: bytes, uuid: bytes) -> bytes:
    """The identifiers of a namespace: 8 and 16 bytes; zeros are left out."""
    data = b""
    for kind, number in ((_DESCRIPTOR_EUI64, eui64), (_DESCRIPTOR_UUID, uuid)):
        if any(number):
            data += bytes((kind, len(number), 0, 0)) + number
    return data.ljust(IDENTIFY_SIZE, b"\0")
