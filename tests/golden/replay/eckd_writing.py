"""ECKD programs that format, update and erase, each followed by a look at the track."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .eckd_program import CYLINDER, SLI, Program, at_track, count_area, dump, text

__all__ = ["writes"]


def writes() -> Iterator[Any]:
    """Format, update, erase; each followed by a look at the track."""
    c = CYLINDER
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
        program = Program(f"file mask {mask:02x}: update").seek(c, 6, mask).search(0x31, at_track(c, 6) + b"\1")
        yield program.write(0x05, text(40, 3)).line()
        program = Program(f"file mask {mask:02x}: format").seek(c, 7, mask).search(0x39, at_track(c, 7)).control(0x03)
        yield program.write(0x1D, count_area(c, 7, 1, 0, 24) + text(24)).line()
    yield dump(c, 7)
    program = Program("SEARCH ID, WRITE CKD behind it").seek(c, 6, 0xC0).search(0x31, at_track(c, 6) + b"\2")
    yield program.write(0x1D, count_area(c, 6, 3, 0, 8) + text(8)).line()
    yield dump(c, 6)
    program = Program("WRITE CKD without SEARCH").seek(c, 6, 0xC0)
    yield program.write(0x1D, count_area(c, 6, 3, 0, 8) + text(8)).line()
    program = Program("WRITE DATA without SEARCH").seek(c, 6, 0xC0)
    yield program.write(0x05, text(40)).line()
    program = Program("SEARCH KEY, WRITE DATA").seek(c, 6, 0xC0).search(0x29, text(44, 2)[:4])
    yield program.write(0x05, text(40, 50)).line()
    program = Program("SEARCH ID, WRITE KEY AND DATA").seek(c, 6, 0xC0).search(0x31, at_track(c, 6) + b"\1")
    yield program.write(0x0D, text(44, 60)).line()
    yield dump(c, 6)
    program = Program("ERASE behind record 1").seek(c, 6, 0xC0).search(0x31, at_track(c, 6) + b"\1")
    yield program.write(0x11, count_area(c, 6, 2, 0, 8)).line()
    yield dump(c, 6)
    program = Program("LR 08 ERASE").define(0xC0).locate(0x0B, c, 5, 0)
    yield program.write(0x11, count_area(c, 5, 1, 0, 8)).line()
    yield dump(c, 5)
    program = Program("end of file").define(0xC0).locate(0x03, c, 5, count=1)
    yield program.write(0x1D, count_area(c, 5, 1, 0, 0)).line()
    yield Program("read the end of file").define().locate(0x06, c, 5, 1).read(0x06, 16, SLI).line()
    yield (
        Program("read the end of file after SEEK")
        .seek(c, 5, 0)
        .search(0x31, at_track(c, 5) + b"\1")
        .read(0x06, 16)
        .line()
    )
    program = Program("WRITE R0").seek(c, 8, 0xC0).search(0x39, at_track(c, 8)).control(0x03)
    yield program.write(0x15, count_area(c, 8, 0, 0, 8) + text(8)).line()
    yield (
        Program("SEARCH HA once, WRITE R0")
        .seek(c, 8, 0xC0)
        .search(0x39, at_track(c, 8))
        .write(0x15, count_area(c, 8, 0, 0, 8) + text(8))
        .line()
    )
    yield dump(c, 8)
    yield Program("WRITE HA").seek(c, 8, 0xC0).write(0x19, b"\0" + at_track(c, 8)).line()
    yield (
        Program("WRITE SPECIAL CKD")
        .seek(c, 8, 0xC0)
        .search(0x31, at_track(c, 8) + b"\0")
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
