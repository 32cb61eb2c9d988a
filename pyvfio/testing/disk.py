"""Programs for a count-key-data disk, for the contract: their commands in order, their data, and how they ended.

::

    disk.run(define_extent(), locate_record(READ_DATA, (0, 0), 3), read(0x06, 80, SLI))

Each command is chained to the next one unless its flags say data chaining.  Areas of what is read are filled with
`FILL` beforehand.  Parameters are those of "3990/9390 Storage Control Reference" GA32-0274, written down here once
more, so that the contract tests the driver against something that is not the driver.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyvfio.css import CCW_SIZE, Ccw, CcwFlag, Command, Cstat, Dstat, Irb
from pyvfio.css.ccw import NO_FLAGS
from pyvfio.testing.channel import Channel

__all__ = [
    "CD",
    "FILL",
    "FORMAT_WRITE",
    "NONE",
    "READ_DATA",
    "SKIP",
    "SLI",
    "WRITE_DATA",
    "Disk",
    "Ended",
    "Place",
    "Step",
    "count_key_data",
    "define_extent",
    "jump",
    "locate_record",
    "read",
    "search",
    "seek",
    "write",
]

FILL = 0xEE
Place = tuple[int, int]
"""Cylinder and head."""
NONE, SLI, SKIP, CD = NO_FLAGS, CcwFlag.SLI, CcwFlag.SKIP, CcwFlag.CD
WRITE_DATA, FORMAT_WRITE, READ_DATA = 0x01, 0x03, 0x06
_ALIGNED = 16
_ANY_SECTOR = 0xFF


@dataclass(frozen=True)
class Step:
    """One CCW: a command that sends `out`, or takes `count` bytes (`to` is for a TIC: the number of a step)."""

    cmd: int
    out: bytes = b""
    count: int = 0
    flags: CcwFlag = NO_FLAGS
    to: int = -1

    @property
    def length(self) -> int:
        """The count of the CCW."""
        return len(self.out) or self.count


def read(cmd: int, count: int, flags: CcwFlag = NO_FLAGS) -> Step:
    """A command that takes bytes."""
    return Step(cmd, b"", count, flags)


def write(cmd: int, data: bytes, flags: CcwFlag = NO_FLAGS) -> Step:
    """A command that sends bytes."""
    return Step(cmd, data, 0, flags)


def jump(to: int) -> Step:
    """Transfer in channel to the step of this number."""
    return Step(Command.TIC, to=to)


def _track(place: Place) -> bytes:
    return struct.pack(">HH", *place)


def define_extent(
    mask: int = 0x40, first: Place = (0, 0), last: Place = (0, 14), *, attributes: int = 0xC0, size: int = 0
) -> Step:
    """DEFINE EXTENT; the mask says what may be written (40 nothing, 80 data, C0 all but home address and R0)."""
    return write(0x63, struct.pack(">BBHI", mask, attributes, size, 0) + _track(first) + _track(last))


def locate_record(
    operation: int, place: Place, record: int, count: int = 1, *, auxiliary: int = 0, length: int = 0
) -> Step:
    """LOCATE RECORD for `count` transfers from `record` on."""
    head = struct.pack(">BBBB", operation, auxiliary, 0, count)
    return write(0x47, head + _track(place) * 2 + struct.pack(">BBH", record, _ANY_SECTOR, length))


def seek(place: Place, cmd: int = 0x07) -> Step:
    """SEEK."""
    return write(cmd, struct.pack(">HHH", 0, *place))


def search(place: Place, record: int, cmd: int = 0x31) -> Step:
    """SEARCH ID EQUAL, or another search of an id."""
    return write(cmd, struct.pack(">HHB", *place, record))


def count_key_data(place: Place, record: int, key: bytes, data: bytes) -> bytes:
    """A record as WRITE COUNT, KEY AND DATA takes it."""
    return struct.pack(">HHBBH", *place, record, len(key), len(data)) + key + data


@dataclass(frozen=True)
class Ended:
    """How a program ended: the IRB, the areas of all steps as they are now, and where the program lies."""

    irb: Irb
    areas: tuple[bytes, ...]
    program: int

    @property
    def status(self) -> tuple[Dstat, Cstat]:
        """Device and subchannel status."""
        return self.irb.scsw.dstat, self.irb.scsw.cstat

    @property
    def residual(self) -> int:
        """The residual count."""
        return self.irb.scsw.count

    @property
    def steps(self) -> int:
        """How many CCWs the CCW address is behind the start of the program."""
        return (self.irb.scsw.cpa - self.program) // CCW_SIZE

    @property
    def sense(self) -> bytes:
        """The sense bytes that came with the status."""
        return self.irb.sense

    @property
    def ok(self) -> bool:
        """Whether it ended with channel end and device end, and nothing else."""
        return self.irb.scsw.ok

    @property
    def rejected(self) -> int:
        """The message of a command reject with format 0 (byte 7); -1 when it was none."""
        return self.sense[7] if self.sense and self.sense[0] & 0x80 else -1


class Disk:
    """Programs through an open channel device."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def lay(self, steps: Sequence[Step]) -> list[int]:
        """Put a program into storage; the addresses of the areas."""
        channel, at = self.channel, self.channel.data
        places: list[int] = []
        ccws: list[Ccw] = []
        for number, step in enumerate(steps):
            places.append(at)
            flags = step.flags
            if number < len(steps) - 1 and not flags & CD and step.cmd != Command.TIC:
                flags |= CcwFlag.CC
            where = channel.program + step.to * CCW_SIZE if step.to >= 0 else at
            ccws.append(Ccw(step.cmd, flags, step.length, where))
            channel.put(at, step.out or bytes([FILL]) * (step.count + _ALIGNED))
            at += -(-(step.length + _ALIGNED) // _ALIGNED) * _ALIGNED
        channel.put(channel.program, b"".join(ccw.to_bytes() for ccw in ccws))
        return places

    def run(self, *steps: Step, **orb: Any) -> Ended:
        """Run a program to its end."""
        places = self.lay(steps)
        self.channel.write(self.channel.orb(**orb))
        irb = self.channel.irb()
        areas = [self.channel.get(at, step.length) for at, step in zip(places, steps, strict=True)]
        return Ended(irb, tuple(areas), self.channel.program)

    # what other tests stand on

    def format(self, place: Place, *records: tuple[int, bytes, bytes]) -> None:
        """Write a track anew: (number, key, data) of each record."""
        steps = [write(0x1D, count_key_data(place, *record)) for record in records]
        ended = self.run(define_extent(0xC0, place, place), locate_record(FORMAT_WRITE, place, 0, len(records)), *steps)
        assert ended.ok, ended.irb

    def data(self, place: Place, record: int, count: int = 4 * 1024) -> bytes:
        """The data of a record, of at most `count` bytes."""
        ended = self.run(
            define_extent(0x40, place, place), locate_record(READ_DATA, place, record), read(6, count, SLI)
        )
        assert ended.ok, ended.irb
        return ended.areas[2][: count - ended.residual]
