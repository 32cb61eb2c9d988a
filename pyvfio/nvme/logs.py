"""Log pages.  Source: NVM Express 1.4, 5.14.1.

::

    get log page  dword 10: | dwords, low 31:16 | keep the event 15 | page 7:0 |   11: dwords, high 15:0, all less 1
                  dwords 12 and 13: the offset in bytes, a multiple of 4
    error         64 bytes each, the newest first: 0 count (8)  8 queue (2)  10 command (2)  12 status and phase (2)
                  14 location (2)  16 LBA (8)  24 namespace (4)
    health        512 bytes: 0 warnings  1 temperature, K (2)  3 spare, %  4 threshold  5 used, %  32 units read (16)
                  48 units written (16)  64 reads (16)  80 writes (16)  112 power cycles (16)  160 media errors (16)
                  176 error log entries (16); a unit is 1000 times 512 bytes, rounded up
    firmware      512 bytes: 0 active slot  8 revision of slot 1 (8)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

__all__ = ["KEEP_EVENT", "ErrorEntry", "Health", "LogPage", "firmware_log"]

KEEP_EVENT: Final = 1 << 15
_ERROR: Final = struct.Struct("<QHHHHQI36x")
_UNIT: Final = 1000 * 512
_HEALTH_SIZE: Final = 512
_COUNTERS: Final = (32, 48, 64, 80, 112, 160, 176)


class LogPage(IntEnum):
    """Log pages of every controller."""

    ERROR = 0x01
    HEALTH = 0x02
    FIRMWARE = 0x03


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """A command that failed.  `count` numbers errors from 1 on; an entry with 0 is empty."""

    count: int
    queue: int
    command: int
    status: int
    location: int = 0xFFFF
    lba: int = 0
    nsid: int = 0

    def pack(self) -> bytes:
        """The 64 bytes."""
        status = self.status << 1
        return _ERROR.pack(self.count, self.queue, self.command, status, self.location, self.lba, self.nsid)

    @classmethod
    def parse(cls, data: bytes) -> ErrorEntry:
        """From 64 bytes."""
        count, queue, command, status, location, lba, nsid = _ERROR.unpack(data)
        return cls(count, queue, command, status >> 1, location, lba, nsid)


@dataclass(slots=True)
class Health:
    """SMART / health information.  `bytes_read` and `bytes_written` are shown in units."""

    warnings: int = 0
    temperature: int = 323
    spare: int = 100
    threshold: int = 10
    used: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    reads: int = 0
    writes: int = 0
    power_cycles: int = 1
    media_errors: int = 0
    errors: int = 0

    def pack(self) -> bytes:
        """The 512 bytes."""
        data = bytearray(_HEALTH_SIZE)
        data[0] = self.warnings
        data[1:3] = self.temperature.to_bytes(2, "little")
        data[3:6] = bytes((self.spare, self.threshold, self.used))
        units = (-(-self.bytes_read // _UNIT), -(-self.bytes_written // _UNIT))
        counters = (*units, self.reads, self.writes, self.power_cycles, self.media_errors, self.errors)
        for at, value in zip(_COUNTERS, counters, strict=True):
            data[at : at + 16] = value.to_bytes(16, "little")
        return bytes(data)

    @classmethod
    def parse(cls, data: bytes) -> Health:
        """From the 512 bytes; bytes are whole units then."""
        counters = [int.from_bytes(data[at : at + 16], "little") for at in _COUNTERS]
        counters[0] *= _UNIT
        counters[1] *= _UNIT
        return cls(data[0], int.from_bytes(data[1:3], "little"), *data[3:6], *counters)


def firmware_log(revision: str) -> bytes:
    """One slot, active, with a revision of at most 8 characters."""
    data = bytes((1,)).ljust(8, b"\0") + revision.encode("ascii", "replace")[:8].ljust(8)
    return data.ljust(_HEALTH_SIZE, b"\0")
