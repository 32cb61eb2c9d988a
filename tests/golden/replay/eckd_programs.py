"""The channel programs of ``dasd-3390-more``: every ECKD command, alone and in chains, systematically and at random.

The programs write on cylinders 1000 to 1039 of the volume and leave the others alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

__all__ = ["programs"]

CD, CC, SLI, SKIP, IDA = 0x80, 0x40, 0x20, 0x10, 0x04
_PROGRAM, _DATA, _STEP, _LISTS = 0x11000, 0x20000, 0x1000, 0x18000
_BIG = 0x50000  # where whole tracks go
_CYLINDER = 1000


def _at(cylinder: int, head: int) -> bytes:
    return cylinder.to_bytes(2, "big") + head.to_bytes(2, "big")


def extent(mask: int = 0, first: tuple[int, int] = (0, 0), last: tuple[int, int] = (1112, 14), attributes: int = 0xC0,
           size: int = 0) -> bytes:  # fmt: skip
    """The data of DEFINE EXTENT."""
    return bytes([mask, attributes]) + size.to_bytes(2, "big") + bytes(4) + _at(*first) + _at(*last)


def locate(operation: int, cylinder: int, head: int, record: int = 0, count: int = 1, length: int | None = None,
           auxiliary: int = 0, sector: int = 0xFF) -> bytes:  # fmt: skip
    """The data of LOCATE RECORD."""
    if length is not None:
        auxiliary |= 0x80
    place = _at(cylinder, head)
    return (
        bytes([operation, auxiliary, 0, count])
        + place
        + place
        + bytes([record, sector])
        + (length or 0).to_bytes(2, "big")
    )


def count_area(cylinder: int, head: int, record: int, key: int, data: int) -> bytes:
    """A count area."""
    return _at(cylinder, head) + bytes([record, key]) + data.to_bytes(2, "big")


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
        return self.write(0x07, bytes(2) + _at(cylinder, head))

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


def identity() -> Iterator[Any]:
    """What the control unit says of itself, with all kinds of counts."""
    for name, code, counts in (
        ("SENSE ID", 0xE4, (1, 3, 4, 7, 8, 11, 12, 20, 256)),
        ("READ DEVICE CHARACTERISTICS", 0x64, (1, 32, 63, 64, 65, 256)),
        ("READ CONFIGURATION DATA", 0xFA, (4, 255, 256, 257, 300)),
        ("SENSE", 0x04, (1, 8, 24, 31, 32, 33, 64)),
        ("SENSE PATH GROUP ID", 0x34, (11, 12, 13)),
        ("SENSE SUBSYSTEM STATUS", 0x54, (16, 40, 44, 64)),
        ("READ BUFFERED LOG", 0x24, (32, 128)),
        ("READ SECTOR", 0x22, (1, 2)),
    ):
        for count in counts:
            for flags in (0, SLI):
                words = ", SLI" if flags else ""
                yield Program(f"{name}, count {count}{words}").read(code, count, flags).line()
    for count in (0, 1, 8):
        yield Program(f"NOP, count {count}, no SLI").control(0x03, 0, count).line()
    for name, code in (("RECALIBRATE", 0x13), ("RESTORE", 0x17), ("RELEASE", 0x94), ("RESET ALLEGIANCE", 0x44)):
        yield Program(f"{name}, count 1").control(code).line()
    yield Program("RESERVE, READ, RELEASE").read(0xB4, 24, SLI).read(0x64, 64).read(0x94, 24, SLI).line()
    yield Program("RESERVE").read(0xB4, 24, SLI).line()
    yield Program("RESERVE again, count 32, no SLI").read(0xB4, 32).line()
    yield Program("UNCONDITIONAL RESERVE").read(0x14, 24, SLI).line()
    yield Program("RELEASE afterwards, count 24, no SLI").read(0x94, 24).line()
    for code in (0x00, 0x10, 0x21, 0x33, 0x3E, 0x43, 0x4F, 0x5B, 0x65, 0x73, 0x99, 0xA4, 0xC4, 0xF7, 0xFF):
        yield Program(f"command {code:02x}").read(code, 12, SLI).line()
    yield Program("NOP, command 99, NOP").control(0x03).read(0x99, 4, SLI).control(0x03).line()
    yield Program("SENSE after a reject").read(0x04, 32).line()
    for name, order in (("18 05", "1800050000000000"), ("short", "1800"), ("unknown", "ff00000000000000")):
        yield Program(f"PERFORM SUBSYSTEM FUNCTION {name}").write(0x27, bytes.fromhex(order)).line()
    yield Program("READ SUBSYSTEM DATA alone").read(0x3E, 64, SLI).line()
    yield Program("RDC in format 0").read(0x64, 64).line(format_0=True)
    yield Program("RDC over two pages").read(0x64, 64).line(idaws=(0x30FE0, 0x31000))
    yield Program("RDC in pieces").read(0x64, 64).chained(10, 20, 34).line()
    yield Program("RDC, skipped").read(0x64, 64, SKIP).line()
    yield Program("RDC in pieces, too long").read(0x64, 70).chained(32, 38).line()
    yield Program("RDC in pieces, too short").read(0x64, 50).chained(32, 18).line()
    yield Program("RDC in pieces, too short, SLI").read(0x64, 50).chained(32, 18, last=SLI).line()


def seeks() -> Iterator[Any]:
    """Seeks and what moves no data."""
    for code in (0x07, 0x0B, 0x1B):
        for name, place in (
            ("cylinder 5 head 3", "000000050003"), ("head 15", "00000005000f"), ("cylinder 1112", "000004580000"),
            ("cylinder 1113", "000004590000"), ("bytes not zero", "000100050003"), ("cylinder ffff", "0000ffff0000"),
        ):  # fmt: skip
            program = Program(f"SEEK {code:02x} {name}, READ COUNT").write(code, bytes.fromhex(place))
            yield program.read(0x12, 8).line()
        yield Program(f"SEEK {code:02x} count 5").write(code, bytes(5)).line()
        yield Program(f"SEEK {code:02x} count 8").write(code, bytes(8)).line()
        yield Program(f"SEEK {code:02x} count 8, SLI").write(code, bytes(8), SLI).read(0x12, 8).line()
    for mask in (0x00, 0x08, 0x10, 0x18, 0x40, 0x80, 0xC0, 0x04, 0x20, 0x01, 0x02):
        program = Program(f"SET FILE MASK {mask:02x}, SEEK, READ COUNT").seek(3, 2, mask)
        yield program.read(0x12, 8).line()
        yield (
            Program(f"SET FILE MASK {mask:02x}, SEEK HEAD")
            .seek(3, 2)
            .write(0x1F, bytes([mask]))
            .write(0x1B, bytes.fromhex("000000030004"))
            .line()
        )
    yield Program("SET FILE MASK twice").write(0x1F, b"\0").write(0x1F, b"\0").line()
    yield Program("SET FILE MASK, count 2").write(0x1F, b"\0\0").line()
    yield Program("DEFINE EXTENT, SET FILE MASK").define().write(0x1F, b"\0").line()
    yield Program("SET FILE MASK, DEFINE EXTENT").write(0x1F, b"\0").define().line()
    for sector in (0, 1, 100, 223, 224, 255):
        program = Program(f"SET SECTOR {sector}, READ COUNT").seek(3, 2).write(0x23, bytes([sector]))
        yield program.read(0x12, 8).line()
    yield Program("SET SECTOR, count 2").seek(3, 2).write(0x23, b"\0\0").line()
    yield Program("SEEK, RECALIBRATE, READ COUNT").seek(3, 2, 0).control(0x13).read(0x12, 8).line()
    yield Program("SPACE COUNT, READ DATA").seek(3, 2, 0).read(0x0F, 3, SLI).read(0x06, 16, SLI).line()


def searches() -> Iterator[Any]:
    """Searches of all kinds."""
    here = _at(3, 2)
    for code in (0x31, 0x51, 0x71, 0xB1, 0xD1, 0xF1):
        for record in (1, 5, 12, 13):
            program = Program(f"SEARCH ID {code:02x} record {record}, READ DATA").seek(3, 2, 0)
            yield program.search(code, here + bytes([record])).read(0x06, 16, SLI).line()
        program = Program(f"SEARCH ID {code:02x} once, READ COUNT").seek(3, 2, 0).write(code, here + b"\x04")
        yield program.read(0x12, 8).line()
        program = Program(f"SEARCH ID {code:02x} count 4, SLI").seek(3, 2, 0).write(code, here, SLI)
        yield program.read(0x12, 8).line()
    for code in (0x29, 0x49, 0x69, 0xA9, 0xC9, 0xE9):
        for key in (b"\xe5\xd6\xd3\xf1", b"\xc9\xd7\xd3\xf2", b"\0\0\0\0", b"\xff\xff\xff\xff"):
            program = Program(f"SEARCH KEY {code:02x} {key.hex()}, READ DATA").seek(0, 0, 0)
            yield program.search(code, key).read(0x06, 16, SLI).line()
        program = Program(f"SEARCH KEY {code:02x} count 3").seek(0, 0, 0).write(code, b"\xe5\xd6\xd3")
        yield program.read(0x12, 8, SLI).line()
    for code in (0x39, 0xB9):
        for place in (here, _at(3, 3)):
            program = Program(f"SEARCH HA {code:02x} {place.hex()}, READ R0").seek(3, 2, 0).write(code, place)
            yield program.read(0x16, 16, SLI).line()
    program = Program("SEARCH ID, SEARCH KEY, READ DATA").seek(0, 0, 0).search(0x31, _at(0, 0) + b"\3")
    yield program.write(0x29, b"\xe5\xd6\xd3\xf1").control(0x03).read(0x06, 80, SLI).line()


def reads() -> Iterator[Any]:
    """Every read, after SEEK and in a domain of LOCATE RECORD, with counts."""
    sizes = {0x06: 4096, 0x0E: 4096, 0x12: 8, 0x16: 16, 0x1A: 5, 0x1E: 4104, 0x02: 24, 0x5E: 0x2000, 0xDE: 0xF000}
    for code, size in sizes.items():
        for multi in (0, 0x80):
            if code in (0x02, 0x5E, 0xDE) and multi:
                continue
            for track in ((0, 0), (3, 2)):
                for count, flags in ((size, 0), (size, SLI), (4, 0), (4, SLI), (size + 4, 0)):
                    if flags != SLI or track == (3, 2):
                        words = ", SLI" if flags else ""
                        name = f"READ {code | multi:02x} at {track[0]}.{track[1]}, count {count}{words}"
                        yield Program(name).seek(*track, mask=0).read(code | multi, count, flags).line()
        yield Program(f"READ {code:02x} twice").seek(0, 0, 0).read(code, 64, SLI).read(code, 64, SLI).line()
    program = Program("13 READ COUNT").seek(3, 2, 0)
    for _ in range(13):
        program.read(0x12, 8)
    yield program.line()
    program = Program("14 READ COUNT MT over the end of the track").seek(3, 2, 0)
    for _ in range(14):
        program.read(0x92, 8)
    yield program.line()
    yield (
        Program("READ COUNT MT beyond the cylinder")
        .seek(3, 14, 0)
        .search(0x31, _at(3, 14) + b"\x0c")
        .read(0x92, 8)
        .line()
    )
    yield (
        Program("READ COUNT MT beyond the extent")
        .define(first=(3, 2), last=(3, 2))
        .seek(3, 2)
        .search(0x31, _at(3, 2) + b"\x0c")
        .read(0x92, 8)
        .line()
    )
    yield Program("READ HA, READ R0, READ COUNT").seek(3, 2, 0).read(0x1A, 5).read(0x16, 16).read(0x12, 8).line()
    yield (
        Program("READ R0, READ CKD, READ DATA")
        .seek(0, 0, 0)
        .read(0x16, 16)
        .read(0x1E, 36, SLI)
        .read(0x06, 24, SLI)
        .line()
    )
    yield (
        Program("READ COUNT, READ DATA, READ KEY AND DATA")
        .seek(0, 0, 0)
        .read(0x12, 8)
        .read(0x06, 24)
        .read(0x0E, 148)
        .line()
    )
    yield (
        Program("READ DATA in pieces")
        .seek(0, 0, 0)
        .search(0x31, _at(0, 0) + b"\3")
        .read(0x06, 80)
        .chained(16, 32, 32)
        .line()
    )
    yield (
        Program("READ CKD in pieces")
        .seek(0, 0, 0)
        .search(0x31, _at(0, 0) + b"\3")
        .read(0x1E, 92)
        .chained(8, 4, 80)
        .line()
    )
    yield Program("READ DATA, skipped first").seek(0, 0, 0).search(0x31, _at(0, 0) + b"\3").read(0x06, 80, SKIP).line()
    yield Program("READ IPL after SEEK").seek(3, 2, 0).read(0x02, 24, SLI).line()
    yield (
        Program("READ SECTOR after READ")
        .seek(3, 2, 0)
        .search(0x31, _at(3, 2) + b"\5")
        .read(0x06, 16, SLI)
        .read(0x22, 1)
        .line()
    )


def locates() -> Iterator[Any]:
    """LOCATE RECORD: operations, orientations, counts, lengths, places."""
    for operation in bytes.fromhex("000204060a0c0e101620 40464a4c56 80868a c0c6caccd6"):
        for record in (0, 3):
            base = Program(f"LR {operation:02x} record {record}, READ DATA").define()
            yield base.locate(operation, 0, 0, record).read(0x06, 80, SLI).line()
        yield Program(f"LR {operation:02x}, READ COUNT").define().locate(operation, 3, 2).read(0x12, 8, SLI).line()
        yield Program(f"LR {operation:02x}, READ CKD").define().locate(operation, 0, 0).read(0x1E, 36, SLI).line()
    for operation in (0x06, 0x16):
        for count in (0, 1, 2, 3, 12, 13, 255):
            program = Program(f"LR {operation:02x} count {count}, 2 READ DATA MT").define()
            program.locate(operation, 3, 2, 1, count=count).read(0x86, 16, SLI).read(0x86, 16, SLI)
            yield program.line()
    for length in (0, 1, 16, 4096, 4097):
        program = Program(f"LR 06 length {length}, READ DATA").define().locate(0x06, 3, 2, 1, length=length)
        yield program.read(0x06, 16, SLI).line()
    for auxiliary in (0x01, 0x04, 0x08, 0x10, 0x20, 0x40):
        program = Program(f"LR 06 auxiliary {auxiliary:02x}, READ DATA").define()
        yield program.locate(0x06, 3, 2, 1, auxiliary=auxiliary).read(0x06, 16, SLI).line()
    for place in ((1113, 0), (3, 15), (0xFFFF, 0)):
        yield Program(f"LR 06 at {place}").define().locate(0x06, *place, 1).read(0x06, 16, SLI).line()
    for sector in (0, 10, 223, 224, 254):
        yield Program(f"LR 06 sector {sector}").define().locate(0x06, 3, 2, 1, sector=sector).read(0x06, 16, SLI).line()
    for size in (8, 15, 17, 20):
        data = locate(0x06, 3, 2, 1).ljust(20, b"\0")[:size]
        yield Program(f"LR of {size} bytes").define().write(0x47, data).read(0x06, 16, SLI).line()
        data = extent().ljust(20, b"\0")[:size]
        yield Program(f"DX of {size} bytes").write(0x63, data).locate(0x06, 3, 2, 1).read(0x06, 16, SLI).line()
    yield (
        Program("LR of 20 bytes, SLI")
        .define()
        .write(0x47, locate(0x06, 3, 2, 1) + bytes(4), SLI)
        .read(0x06, 16, SLI)
        .line()
    )
    for mask in (0x00, 0x01, 0x02, 0x04, 0x08, 0x10, 0x18, 0x20, 0x40, 0x80, 0xC0):
        program = Program(f"DX mask {mask:02x}, LR, READ DATA").define(mask).locate(0x06, 3, 2, 1)
        yield program.read(0x06, 16, SLI).line()
    for attributes in (0x00, 0x04, 0x40, 0x80, 0xC0, 0xC4, 0xC8, 0xCC, 0xD0, 0xDF, 0xE0, 0xC1, 0xC2):
        program = Program(f"DX attributes {attributes:02x}").define(attributes=attributes).locate(0x06, 3, 2, 1)
        yield program.read(0x06, 16, SLI).line()
    for first, last in (
        ((5, 0), (4, 0)),
        ((3, 3), (3, 2)),
        ((3, 0), (3, 15)),
        ((1112, 14), (1113, 0)),
        ((3, 2), (3, 2)),
    ):
        program = Program(f"DX {first} to {last}").define(first=first, last=last).locate(0x06, 3, 2, 1)
        yield program.read(0x06, 16, SLI).line()
    yield Program("DX twice").define().define().locate(0x06, 3, 2, 1).read(0x06, 16, SLI).line()
    yield Program("DX, READ DATA without LR").define().read(0x06, 16, SLI).line()
    yield Program("DX, SEEK, READ DATA").define().seek(3, 2).read(0x06, 16, SLI).line()
    yield Program("DX, SEEK outside").define(first=(3, 2), last=(3, 2)).seek(3, 3).read(0x06, 16, SLI).line()
    yield Program("DX, LR, SEEK").define().locate(0x06, 3, 2, 1).seek(3, 2).line()
    yield Program("DX, LR, NOP, READ DATA").define().locate(0x06, 3, 2, 1).control(0x03).read(0x06, 16, SLI).line()
    yield Program("DX, LR, SENSE ID").define().locate(0x06, 3, 2, 1).read(0xE4, 7, SLI).line()
    yield (
        Program("DX, LR, LR, READ DATA").define().locate(0x06, 3, 2, 1).locate(0x06, 3, 2, 2).read(0x06, 16, SLI).line()
    )
    yield (
        Program("DX, LR, READ, LR, READ")
        .define()
        .locate(0x06, 3, 2, 1)
        .read(0x06, 16, SLI)
        .locate(0x06, 4, 1, 2)
        .read(0x06, 16, SLI)
        .line()
    )
    yield Program("DX, LR, READ, READ").define().locate(0x06, 3, 2, 1).read(0x06, 16, SLI).read(0x06, 16, SLI).line()
    yield Program("DX, LR 06, WRITE DATA").define(0x80).locate(0x06, 1000, 0, 1).write(0x05, text(16)).line()
    yield Program("DX, LR 01, READ DATA").define(0x80).locate(0x01, 1000, 0, 1, length=4096).read(0x06, 16, SLI).line()
    yield Program("DX, LR 06, READ KEY AND DATA").define().locate(0x06, 0, 0, 3).read(0x0E, 84).line()
    yield (
        Program("DX, LR 06, 3 READ CKD")
        .define()
        .locate(0x16, 0, 0, 1, count=3)
        .read(0x1E, 36, SLI)
        .read(0x1E, 156, SLI)
        .read(0x1E, 92, SLI)
        .line()
    )
    yield (
        Program("DX, LR 16, READ COUNT, READ DATA")
        .define()
        .locate(0x16, 0, 0, 2, count=2)
        .read(0x12, 8)
        .read(0x06, 144, SLI)
        .line()
    )
    yield (
        Program("DX, LR 0C count 2, READ TRACK")
        .define()
        .locate(0x0C, 3, 2, count=2)
        .read(0xDE, 0x1100, SLI)
        .read(0xDE, 0x1200, SLI)
        .line()
    )


def writes() -> Iterator[Any]:
    """Format, update, erase; each followed by a look at the track."""
    c = _CYLINDER
    for number, (key, size) in enumerate(((0, 16), (4, 16), (8, 0), (0, 4096), (255, 100), (0, 1))):
        head = number
        program = Program(f"format a record of key {key} data {size}").define(0xC0).locate(0x03, c, head, count=1)
        yield program.write(0x1D, count_area(c, head, 1, key, size) + text(key + size, number)).line()
        yield dump(c, head)
    program = Program("format five records").define(0xC0).locate(0x03, c, 6, count=5)
    for record in range(1, 6):
        program.write(0x1D, count_area(c, 6, record, 4, 40) + text(44, record))
    yield program.line()
    yield dump(c, 6)
    program = Program("format after record 3").define(0xC0).locate(0x03, c, 6, 3, count=1)
    yield program.write(0x1D, count_area(c, 6, 9, 0, 10) + text(10)).line()
    yield dump(c, 6)
    for size, flags in ((39, 0), (40, 0), (41, 0), (20, SLI), (60, SLI)):
        words = ", SLI" if flags else ""
        program = Program(f"update 40 bytes with {size}{words}").define(0x80).locate(0x01, c, 6, 2, length=size)
        yield program.write(0x05, text(size, 77), flags).line()
        yield dump(c, 6)
    program = Program("update, length factor 40").define(0x80).locate(0x01, c, 6, 2, length=40)
    yield program.write(0x85, text(40, 5)).line()
    program = Program("update key and data").define(0x80).locate(0x01, c, 6, 1, length=44)
    yield program.write(0x0D, text(44, 9)).line()
    yield dump(c, 6)
    program = Program("update key and data, 8D").define(0x80).locate(0x01, c, 6, 1, length=44)
    yield program.write(0x8D, text(44, 10)).line()
    program = Program("update two records").define(0x80).locate(0x01, c, 6, 1, count=2, length=40)
    yield program.write(0x85, text(40, 1)).write(0x85, text(40, 2)).line()
    yield dump(c, 6)
    for mask in (0x00, 0x40, 0x80, 0xC0):
        program = Program(f"mask {mask:02x}: update").define(mask).locate(0x01, c, 6, 1, length=40)
        yield program.write(0x05, text(40, 3)).line()
        program = Program(f"mask {mask:02x}: format").define(mask).locate(0x03, c, 7, count=1)
        yield program.write(0x1D, count_area(c, 7, 1, 0, 24) + text(24)).line()
        program = Program(f"file mask {mask:02x}: update").seek(c, 6, mask).search(0x31, _at(c, 6) + b"\1")
        yield program.write(0x05, text(40, 3)).line()
        program = Program(f"file mask {mask:02x}: format").seek(c, 7, mask).search(0x39, _at(c, 7)).control(0x03)
        yield program.write(0x1D, count_area(c, 7, 1, 0, 24) + text(24)).line()
    yield dump(c, 7)
    program = Program("SEARCH ID, WRITE CKD behind it").seek(c, 6, 0xC0).search(0x31, _at(c, 6) + b"\2")
    yield program.write(0x1D, count_area(c, 6, 3, 0, 8) + text(8)).line()
    yield dump(c, 6)
    program = Program("WRITE CKD without SEARCH").seek(c, 6, 0xC0)
    yield program.write(0x1D, count_area(c, 6, 3, 0, 8) + text(8)).line()
    program = Program("WRITE DATA without SEARCH").seek(c, 6, 0xC0)
    yield program.write(0x05, text(40)).line()
    program = Program("SEARCH KEY, WRITE DATA").seek(c, 6, 0xC0).search(0x29, text(44, 2)[:4])
    yield program.write(0x05, text(40, 50)).line()
    program = Program("SEARCH ID, WRITE KEY AND DATA").seek(c, 6, 0xC0).search(0x31, _at(c, 6) + b"\1")
    yield program.write(0x0D, text(44, 60)).line()
    yield dump(c, 6)
    program = Program("ERASE behind record 1").seek(c, 6, 0xC0).search(0x31, _at(c, 6) + b"\1")
    yield program.write(0x11, count_area(c, 6, 2, 0, 8)).line()
    yield dump(c, 6)
    program = Program("LR 08 ERASE").define(0xC0).locate(0x0B, c, 5, 0)
    yield program.write(0x11, count_area(c, 5, 1, 0, 8)).line()
    yield dump(c, 5)
    program = Program("end of file").define(0xC0).locate(0x03, c, 5, count=1)
    yield program.write(0x1D, count_area(c, 5, 1, 0, 0)).line()
    yield Program("read the end of file").define().locate(0x06, c, 5, 1).read(0x06, 16, SLI).line()
    yield Program("read the end of file after SEEK").seek(c, 5, 0).search(0x31, _at(c, 5) + b"\1").read(0x06, 16).line()
    program = Program("WRITE R0").seek(c, 8, 0xC0).search(0x39, _at(c, 8)).control(0x03)
    yield program.write(0x15, count_area(c, 8, 0, 0, 8) + text(8)).line()
    yield (
        Program("SEARCH HA once, WRITE R0")
        .seek(c, 8, 0xC0)
        .search(0x39, _at(c, 8))
        .write(0x15, count_area(c, 8, 0, 0, 8) + text(8))
        .line()
    )
    yield dump(c, 8)
    yield Program("WRITE HA").seek(c, 8, 0xC0).write(0x19, b"\0" + _at(c, 8)).line()
    yield (
        Program("WRITE SPECIAL CKD")
        .seek(c, 8, 0xC0)
        .search(0x31, _at(c, 8) + b"\0")
        .write(0x01, count_area(c, 8, 1, 0, 8) + text(8))
        .line()
    )
    for key, size in ((0, 0xFFFF), (0, 56664), (0, 56665), (0, 30000)):
        program = Program(f"format a record of {size} that is given 100 bytes").define(0xC0).locate(0x03, c, 9, count=1)
        yield program.write(0x1D, count_area(c, 9, 1, key, size) + text(100)).line()
    yield dump(c, 9)
    program = Program("format more than a track holds").define(0xC0).locate(0x03, c, 9, count=14)
    for record in range(1, 15):
        program.write(0x1D, count_area(c, 9, record, 0, 4096) + text(16, record), SLI)
    yield program.line()
    yield dump(c, 9)
    yield Program("WRITE CKD of 7 bytes").define(0xC0).locate(0x03, c, 10, count=1).write(0x1D, bytes(7)).line()
    yield (
        Program("WRITE CKD of 8 bytes for 24")
        .define(0xC0)
        .locate(0x03, c, 10, count=1)
        .write(0x1D, count_area(c, 10, 1, 0, 24))
        .line()
    )
    yield dump(c, 10)
    yield (
        Program("WRITE CKD too long")
        .define(0xC0)
        .locate(0x03, c, 10, count=1)
        .write(0x1D, count_area(c, 10, 1, 0, 24) + text(30))
        .line()
    )
    yield (
        Program("WRITE CKD of another track")
        .define(0xC0)
        .locate(0x03, c, 10, count=1)
        .write(0x1D, count_area(7, 7, 77, 0, 24) + text(24))
        .line()
    )
    yield dump(c, 10)
    yield Program("find it").define().locate(0x06, c, 10, 77).read(0x06, 24).line()
    yield (
        Program("WRITE CKD in pieces")
        .define(0xC0)
        .locate(0x03, c, 11, count=1)
        .write(0x1D, count_area(c, 11, 1, 4, 40) + text(44))
        .chained(8, 4, 40)
        .line()
    )
    yield (
        Program("WRITE DATA in pieces")
        .define(0x80)
        .locate(0x01, c, 11, 1, length=40)
        .write(0x05, text(40, 8))
        .chained(1, 38, 1)
        .line()
    )
    yield dump(c, 11)
    yield Program("LR 0B WRITE TRACK DATA").define(0xC0).locate(0x0B, c, 12, count=1).write(0xA5, text(64)).line()
    yield dump(c, 12)
    for code in (0x9D, 0x1D):
        program = Program(f"WRITE {code:02x}, two tracks").define(0xC0).locate(0x03, c, 13, count=2)
        program.write(code, count_area(c, 13, 1, 0, 16) + text(16)).write(
            code, count_area(c, 14, 1, 0, 16) + text(16, 1)
        )
        yield program.line()
    yield dump(c, 13)


_READS = ((0x06, 0), (0x86, 0), (0x0E, 0), (0x12, 8), (0x92, 8), (0x1E, 60), (0x9E, 60), (0x16, 16), (0x1A, 5))


def _random_read(chance: random.Random, program: Program) -> None:
    code, size = chance.choice(_READS)
    program.read(code, chance.choice((size or 48, 8, 52, 64)), chance.choice((SLI, SLI, 0)))


def at_random(number: int, seed: int = 3390) -> Iterator[Any]:
    """Programs of valid orders in an order that may not be; on tracks that earlier ones formatted."""
    chance = random.Random(seed)
    c = 1020
    for head in range(6):
        program = Program(f"format for the random ones, head {head}").define(0xC0).locate(0x03, c, head, count=6)
        for record in range(1, 7):
            program.write(0x1D, count_area(c, head, record, head % 3 * 4, 48) + text(48 + head % 3 * 4, record))
        yield program.line()
    for n in range(number):
        head = chance.randrange(6)
        record = chance.randrange(0, 8)
        kind = chance.choice(("seek", "seek", "locate", "locate", "update", "format", "format"))
        program = Program(f"random {n}: {kind}")
        if kind == "seek":
            program.seek(c, head, chance.choice((0, 0xC0, 0x80, 0x40, 0x18)))
            if chance.random() < 0.6:
                program.search(chance.choice((0x31, 0x31, 0x51, 0x71, 0xB1)), _at(c, head) + bytes([record]))
            for _ in range(chance.randrange(1, 4)):
                _random_read(chance, program)
        elif kind == "locate":
            operation = chance.choice((0x06, 0x16, 0x0E, 0x0A, 0x86, 0x46, 0xC6))
            number_of = chance.randrange(1, 4)
            program.define(chance.choice((0, 0x80, 0xC0)), first=(c, 0), last=(c, chance.choice((3, 5, 14))))
            program.locate(operation, c, head, record, count=number_of, sector=chance.choice((0xFF, 0)))
            for _ in range(chance.choice((number_of, number_of, number_of - 1, number_of + 1)) or 1):
                _random_read(chance, program)
        elif kind == "update":
            size = chance.choice((48, 48, 40, 52))
            program.define(chance.choice((0x80, 0x80, 0xC0, 0)), first=(c, 0), last=(c, 14))
            program.locate(0x01, c, head, record, length=size).write(chance.choice((0x05, 0x85, 0x0D)), text(size, n),
                                                                     chance.choice((0, SLI)))  # fmt: skip
        else:
            key, size = chance.choice(((0, 48), (4, 20), (0, 0), (8, 48)))
            many = chance.randrange(1, 3)
            program.define(0xC0, first=(c, 0), last=(c, 14)).locate(0x03, c, head, record, count=many)
            for m in range(many):
                data = count_area(c, head, record + 1 + m, key, size) + text(key + size, n + m)
                program.write(chance.choice((0x1D, 0x1D, 0x9D)), data)
        yield program.line()
        if n % 12 == 11:
            yield from (dump(c, head) for head in range(6))


def programs(random_ones: int = 150) -> Iterator[Any]:
    """All of them, in their order."""
    for part in (identity(), seeks(), searches(), reads(), locates(), writes(), at_random(random_ones)):
        yield from part
