"""ECKD programs that identify, seek, search and read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .eckd_program import SKIP, SLI, Program, at_track

__all__ = ["identity", "reads", "searches", "seeks"]


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
    here = at_track(3, 2)
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
        for place in (here, at_track(3, 3)):
            program = Program(f"SEARCH HA {code:02x} {place.hex()}, READ R0").seek(3, 2, 0).write(code, place)
            yield program.read(0x16, 16, SLI).line()
    program = Program("SEARCH ID, SEARCH KEY, READ DATA").seek(0, 0, 0).search(0x31, at_track(0, 0) + b"\3")
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
        .search(0x31, at_track(3, 14) + b"\x0c")
        .read(0x92, 8)
        .line()
    )
    yield (
        Program("READ COUNT MT beyond the extent")
        .define(first=(3, 2), last=(3, 2))
        .seek(3, 2)
        .search(0x31, at_track(3, 2) + b"\x0c")
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
        .search(0x31, at_track(0, 0) + b"\3")
        .read(0x06, 80)
        .chained(16, 32, 32)
        .line()
    )
    yield (
        Program("READ CKD in pieces")
        .seek(0, 0, 0)
        .search(0x31, at_track(0, 0) + b"\3")
        .read(0x1E, 92)
        .chained(8, 4, 80)
        .line()
    )
    yield (
        Program("READ DATA, skipped first")
        .seek(0, 0, 0)
        .search(0x31, at_track(0, 0) + b"\3")
        .read(0x06, 80, SKIP)
        .line()
    )
    yield Program("READ IPL after SEEK").seek(3, 2, 0).read(0x02, 24, SLI).line()
    yield (
        Program("READ SECTOR after READ")
        .seek(3, 2, 0)
        .search(0x31, at_track(3, 2) + b"\5")
        .read(0x06, 16, SLI)
        .read(0x22, 1)
        .line()
    )
