"""Command chaining, data chaining, TIC, status modifier, suspension: what the channel does with a program of a disk.

z/Architecture Principles of Operation, "Chaining", "Channel-Command Word", "Program Check".
"""

from __future__ import annotations

import pytest

from pyvfio.css import Ccw, CcwFlag, Cstat, Dstat
from pyvfio.testing.disk import (
    CD,
    FILL,
    NONE,
    READ_DATA,
    SKIP,
    SLI,
    Disk,
    Step,
    define_extent,
    jump,
    locate_record,
    read,
    search,
    seek,
    write,
)

ENDED = Dstat.CHANNEL_END | Dstat.DEVICE_END
NO_CHECK = Cstat(0)
SENSE_ID, CHARACTERISTICS, NOP, READ, SET_MASK = 0xE4, 0x64, 0x03, 0x06, 0x1F
LABEL = 80
FILLED = bytes([FILL])


def label(*steps: Step) -> tuple[Step, ...]:
    """A program that reads the record with the volume label."""
    return (define_extent(), locate_record(READ_DATA, (0, 0), 3), *steps)


def whole(disk: Disk) -> bytes:
    """The data of that record."""
    ended = disk.run(*label(read(READ, LABEL)))
    assert ended.ok
    return ended.areas[2]


# data chaining

PARTS = [(40, 40), (32, 16, 32), (1, 79), (79, 1), (1, 1, 1, 77), (16, 16, 16, 16, 16)]


@pytest.mark.parametrize("parts", PARTS, ids=lambda parts: "+".join(map(str, parts)))
def test_data_in_parts(disk: Disk, parts: tuple[int, ...]) -> None:
    steps = [read(READ if number == 0 else 0, part, CD) for number, part in enumerate(parts[:-1])]
    ended = disk.run(*label(*steps, read(0, parts[-1])))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.residual == 0
    assert ended.steps == 2 + len(parts)
    assert b"".join(ended.areas[2:]) == whole(disk)


@pytest.mark.parametrize("flags", [NONE, SLI], ids=["exact", "sli"])
def test_parts_that_are_too_short(disk: Disk, flags: CcwFlag) -> None:
    ended = disk.run(*label(read(READ, 32, CD), read(0, 16, flags)))
    assert ended.status == (ENDED, NO_CHECK if flags else Cstat.INCORRECT_LENGTH)
    assert ended.residual == 0


def test_parts_that_are_too_long(disk: Disk) -> None:
    """The record ends in the second part: incorrect length whatever SLI says there, for data chaining goes on."""
    ended = disk.run(*label(read(READ, 60, CD | SLI), read(0, 40, CD | SLI), read(0, 40, SLI)))
    assert ended.status == (ENDED, Cstat.INCORRECT_LENGTH)
    assert (ended.residual, ended.steps) == (20, 4)
    assert ended.areas[3] == whole(disk)[60:] + FILLED * 20
    assert ended.areas[4] == FILLED * 40


@pytest.mark.parametrize("skipped", [(0,), (1,), (2,), (0, 2), (0, 1, 2)], ids=str)
def test_parts_that_are_skipped(disk: Disk, skipped: tuple[int, ...]) -> None:
    flags = [(CD if number < 2 else NONE) | (SKIP if number in skipped else NONE) for number in range(3)]
    ended = disk.run(*label(read(READ, 32, flags[0]), read(0, 16, flags[1]), read(0, 32, flags[2])))
    assert ended.status == (ENDED, NO_CHECK)
    there = whole(disk)
    for number, part in enumerate((there[:32], there[32:48], there[48:])):
        assert ended.areas[2 + number] == (FILLED * len(part) if number in skipped else part)


@pytest.mark.parametrize("cmd", [0x00, 0x06, 0x31, 0xFF])
def test_the_command_of_a_further_part_is_not_looked_at(disk: Disk, cmd: int) -> None:
    ended = disk.run(*label(read(READ, 40, CD), read(cmd, 40)))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.areas[2] + ended.areas[3] == whole(disk)


def test_a_part_without_bytes(disk: Disk) -> None:
    ended = disk.run(*label(read(READ, 80, CD), read(0, 0)))
    assert Cstat.PROGRAM_CHECK in ended.status[1]


def test_parameters_in_parts(disk: Disk) -> None:
    extent = define_extent().out
    ended = disk.run(
        write(0x63, extent[:6], CD), write(0, extent[6:]), locate_record(READ_DATA, (0, 0), 3), read(READ, LABEL)
    )
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.areas[3] == whole(disk)


def test_parts_and_then_another_command(disk: Disk) -> None:
    ended = disk.run(*label(read(READ, 40, CD), read(0, 40), read(SENSE_ID, 12)))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.areas[4][0] == 0xFF


def test_a_tic_between_parts(disk: Disk) -> None:
    ended = disk.run(*label(read(READ, 40, CD), jump(4), read(0, 40)))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.steps == 5
    assert ended.areas[2] + ended.areas[4] == whole(disk)


# TIC and status modifier


def test_a_tic_over_commands(disk: Disk) -> None:
    ended = disk.run(read(NOP, 1, SLI), jump(3), read(0x99, 8), read(SENSE_ID, 12))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.steps == 4


def test_a_tic_back(disk: Disk) -> None:
    ended = disk.run(jump_over := read(NOP, 1, SLI), jump(4), read(SENSE_ID, 12), jump(5), jump(2), read(NOP, 1, SLI))
    assert jump_over.cmd == NOP
    assert ended.status == (Dstat(0), Cstat.PROGRAM_CHECK)  # a TIC that leads to a TIC
    assert ended.areas[2] == FILLED * 12


def test_back_and_forth(disk: Disk) -> None:
    ended = disk.run(
        read(NOP, 1, SLI), jump(4), read(SENSE_ID, 12), jump(6), read(NOP, 1, SLI), jump(2), read(CHARACTERISTICS, 64)
    )
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.steps == 7
    assert ended.areas[2][0] == 0xFF


def test_a_tic_at_the_start(disk: Disk) -> None:
    ended = disk.run(jump(1), read(SENSE_ID, 12))
    assert ended.status == (Dstat(0), Cstat.PROGRAM_CHECK)
    assert ended.steps == 1
    assert ended.areas[1] == FILLED * 12


@pytest.mark.parametrize("before", [1, 2, 5])
def test_a_command_that_is_none(disk: Disk, before: int) -> None:
    ended = disk.run(*[read(SENSE_ID, 12)] * before, read(0x00, 8, SLI), read(SENSE_ID, 12))
    assert ended.status[1] == Cstat.PROGRAM_CHECK
    assert ended.steps == before + 1
    assert ended.areas[-1] == FILLED * 12


@pytest.mark.parametrize("record", [1, 2, 3, 4, 12])
def test_a_search_passes_over_its_tic(disk: Disk, record: int) -> None:
    ended = disk.run(seek((0, 0)), search((0, 0), record), jump(1), read(READ, 8, SLI))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.steps == 4
    assert ended.areas[3] == disk.data((0, 0), record, 8)


def test_a_search_that_does_not_find_goes_on_behind_it(disk: Disk) -> None:
    """Without the TIC back there is one comparison; the next command is for the record that it was made with."""
    ended = disk.run(seek((0, 0)), search((0, 0), 99), read(0x12, 8))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.steps == 3


def test_status_modifier_at_the_end_of_a_program(disk: Disk) -> None:
    """A search that finds is the last command: its status stays as it is."""
    ended = disk.run(seek((0, 0)), search((0, 0), 1), jump(1), read(NOP, 1, SLI))
    assert ended.ok


# suspension


def test_suspension_that_was_not_allowed(disk: Disk) -> None:
    steps = (read(NOP, 1, SLI), Step(NOP, b"", 1, SLI | CcwFlag.SUSPEND), read(CHARACTERISTICS, 64))
    ended = disk.run(*steps)
    assert ended.status[1] == Cstat.PROGRAM_CHECK
    assert ended.steps == 2
    assert ended.areas[2] == FILLED * 64


# long programs


@pytest.mark.parametrize("count", [2, 16, 60, 250])
def test_many_commands(disk: Disk, count: int) -> None:
    ended = disk.run(*[read(NOP, 1, SLI)] * (count - 1), read(SENSE_ID, 12))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.steps == count


def test_one_area_for_all(disk: Disk) -> None:
    channel = disk.channel
    ccws = [Ccw(cmd, CcwFlag.CC | SLI, 12, channel.data) for cmd in (CHARACTERISTICS, SENSE_ID)]
    irb = channel.run(*ccws, Ccw(NOP, SLI, 1, channel.data))
    assert irb.scsw.ok
    assert channel.get(channel.data, 3) == b"\xff\x39\x90"
