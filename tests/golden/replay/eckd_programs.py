"""The channel programs of ``dasd-3390-more``: every ECKD command, alone and in chains, systematically and at random.

They write on cylinders 1000 to 1039 of the volume and leave the others alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from .eckd_domains import locates
from .eckd_program import SLI, Program, at_track, count_area, dump, text
from .eckd_reading import identity, reads, searches, seeks
from .eckd_writing import writes

__all__ = ["programs"]


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
                program.search(chance.choice((0x31, 0x31, 0x51, 0x71, 0xB1)), at_track(c, head) + bytes([record]))
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
