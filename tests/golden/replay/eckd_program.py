"""A channel program of ECKD commands as a line of ``dasd-3390-more``: CCWs, data, and where is looked afterwards."""

from __future__ import annotations

from typing import Any

__all__ = ["CYLINDER", "SKIP", "SLI", "Program", "at_track", "count_area", "dump", "extent", "locate", "text"]

CD, CC, SLI, SKIP, IDA = 0x80, 0x40, 0x20, 0x10, 0x04
_PROGRAM, _DATA, _STEP, _LISTS = 0x11000, 0x20000, 0x1000, 0x18000
_BIG = 0x50000  # where whole tracks go
CYLINDER = 1000  # the first that is written on


def at_track(cylinder: int, head: int) -> bytes:
    return cylinder.to_bytes(2, "big") + head.to_bytes(2, "big")


def extent(mask: int = 0, first: tuple[int, int] = (0, 0), last: tuple[int, int] = (1112, 14), attributes: int = 0xC0,
           size: int = 0) -> bytes:  # fmt: skip
    """The data of DEFINE EXTENT."""
    return bytes([mask, attributes]) + size.to_bytes(2, "big") + bytes(4) + at_track(*first) + at_track(*last)


def locate(operation: int, cylinder: int, head: int, record: int = 0, count: int = 1, length: int | None = None,
           auxiliary: int = 0, sector: int = 0xFF) -> bytes:  # fmt: skip
    """The data of LOCATE RECORD."""
    if length is not None:
        auxiliary |= 0x80
    place = at_track(cylinder, head)
    return (
        bytes([operation, auxiliary, 0, count])
        + place
        + place
        + bytes([record, sector])
        + (length or 0).to_bytes(2, "big")
    )


def count_area(cylinder: int, head: int, record: int, key: int, data: int) -> bytes:
    """A count area."""
    return at_track(cylinder, head) + bytes([record, key]) + data.to_bytes(2, "big")


def text(size: int, seed: int = 0) -> bytes:
    """Data to write."""
    return bytes((seed * 7 + n) & 0xFF for n in range(size))


class Program:
    """A channel program: commands one after the other, all chained; each has a data area of its own."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._ccws: list[list[int]] = []
        self._data: dict[int, bytes] = {}
        self._looks: dict[int, int] = {}

    def write(self, code: int, data: bytes, flags: int = 0, count: int | None = None) -> Program:
        """A command that gets `data`."""
        at = _DATA + _STEP * len(self._ccws)
        self._data[at] = data
        self._ccws.append([code, flags | CC, len(data) if count is None else count, at])
        return self

    def read(self, code: int, count: int, flags: int = 0) -> Program:
        """A command that brings data."""
        at = _BIG if count > _STEP else _DATA + _STEP * len(self._ccws)
        if count:
            self._looks[at] = count
        self._ccws.append([code, flags | CC, count, at])
        return self

    def control(self, code: int, flags: int = SLI, count: int = 1) -> Program:
        """A command without data."""
        self._ccws.append([code, flags | CC, count, _DATA + _STEP * len(self._ccws)])
        return self

    def search(self, code: int, data: bytes, flags: int = 0) -> Program:
        """A search that is repeated until it is satisfied."""
        self.write(code, data, flags)
        self._ccws.append([0x08, 0, 0, _PROGRAM + 8 * (len(self._ccws) - 1)])
        return self

    def define(self, mask: int = 0, **more: Any) -> Program:
        """DEFINE EXTENT."""
        return self.write(0x63, extent(mask, **more))

    def locate(self, operation: int, cylinder: int, head: int, record: int = 0, **more: Any) -> Program:
        """LOCATE RECORD."""
        return self.write(0x47, locate(operation, cylinder, head, record, **more))

    def seek(self, cylinder: int, head: int, mask: int | None = None) -> Program:
        """SEEK, after SET FILE MASK."""
        if mask is not None:
            self.write(0x1F, bytes([mask]))
        return self.write(0x07, bytes(2) + at_track(cylinder, head))

    def chained(self, *counts: int, last: int = 0) -> Program:
        """The last command's data in pieces of these sizes, by data chaining; `last`: flags of the last piece."""
        code, flags, _, at = self._ccws.pop()
        reads = self._looks.pop(at, 0)
        data = self._data.pop(at, b"")
        for number, count in enumerate(counts):
            here = at + number * 0x100
            end = number == len(counts) - 1
            self._ccws.append(
                [code if number == 0 else 0, (flags & ~CD | last) if end else flags & ~CC | CD, count, here]
            )
            if reads:
                self._looks[here] = count
            else:
                self._data[here] = data[:count]
                data = data[count:]
        return self

    def flags(self, more: int) -> Program:
        """Further flags of the last command."""
        self._ccws[-1][1] |= more
        return self

    def line(self, orb: str = "0000000000c2ff0000011000", idaws: tuple[int, ...] = (), format_0: bool = False) -> Any:
        """What is recorded of the question."""
        self._ccws[-1][1] &= ~CC
        memory = {hex(at): data.hex() for at, data in self._data.items() if data}
        if idaws:
            ccw = self._ccws[-1]
            memory[hex(_LISTS)] = "".join(f"{word:016x}" for word in idaws)
            self._looks.pop(ccw[3], None)
            left = ccw[2]
            for word in idaws:
                room = min(left, 0x1000 - word % 0x1000)
                self._looks[word] = room
                left -= room
            ccw[1] |= IDA
            ccw[3] = _LISTS
        if format_0:
            content = "".join(f"{c:02x}{a:06x}{f:02x}00{n:04x}" for c, f, n, a in self._ccws)
            orb = "000000000042ff0000011000"
        else:
            content = "".join(f"{c:02x}{f:02x}{n:04x}{a:08x}" for c, f, n, a in self._ccws)
        memory[hex(_PROGRAM)] = content
        looks = {hex(at): count for at, count in self._looks.items()}
        return {"what": self.what, "orb": orb, "memory": memory, "looks": looks}


def dump(cylinder: int, head: int) -> Any:
    """A whole track."""
    program = Program(f"the whole track {cylinder}.{head}")
    return program.define().locate(0x0C, cylinder, head).read(0xDE, 0xF000, SLI).line()
