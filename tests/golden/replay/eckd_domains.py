"""ECKD programs in domains of LOCATE RECORD that read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .eckd_program import SLI, Program, extent, locate, text

__all__ = ["locates"]


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
