"""The driver for DASDs reads and writes blocks: numbered as in the kernel's block device."""

from __future__ import annotations

import asyncio

import pytest

from pyvfio.ccw import CcwDevice
from pyvfio.channel_program import Read, Write
from pyvfio.drivers import AsyncDasd, Dasd
from pyvfio.drivers.layout import FILLER
from pyvfio.errors import Misuse
from pyvfio.testing.disk import READ_DATA, define_extent, locate_record

SIZE, PER_TRACK = 4096, 12
ALL = 1113 * 15 * PER_TRACK
FIRST = 300 * 15 * PER_TRACK
"""The first block of a cylinder that nobody else uses."""


def pattern(blocks: int, seed: int = 1) -> bytes:
    """Bytes that differ from block to block."""
    return b"".join(bytes((seed + number + at) % 251 for at in range(256)) * (SIZE // 256) for number in range(blocks))


# refusals


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (ALL, 1), (ALL - 1, 2), (0, ALL + 1), (5, -1)])
def test_blocks_that_are_not_there(dasd: Dasd, first: int, count: int) -> None:
    with pytest.raises(Misuse):
        dasd.read_blocks(first, count)


@pytest.mark.parametrize("size", [1, 4095, 4097])
def test_parts_of_blocks(dasd: Dasd, size: int) -> None:
    with pytest.raises(Misuse):
        dasd.write_blocks(FIRST, bytes(size))


def test_writing_past_the_end(dasd: Dasd) -> None:
    with pytest.raises(Misuse):
        dasd.write_blocks(ALL - 1, bytes(2 * SIZE))


# both ways


@pytest.mark.parametrize("count", [1, 2, 11, 12, 13, 24, 60])
@pytest.mark.parametrize("offset", [0, 5])
def test_written_and_read(dasd: Dasd, count: int, offset: int) -> None:
    data = pattern(count, offset + count)
    dasd.write_blocks(FIRST + offset, data)
    assert dasd.read_blocks(FIRST + offset, count) == data


def test_blocks_beside_it_stay(dasd: Dasd) -> None:
    dasd.write_blocks(FIRST + 100, pattern(3))
    dasd.write_blocks(FIRST + 101, bytes(SIZE))
    assert dasd.read_blocks(FIRST + 100) == pattern(1)
    assert dasd.read_blocks(FIRST + 102) == pattern(3)[2 * SIZE :]


def test_in_pieces(dasd: Dasd) -> None:
    data = pattern(40)
    dasd.write_blocks(FIRST + 200, data)
    pieces = list(dasd.blocks(FIRST + 200, 40))
    assert b"".join(pieces) == data


def test_progress(dasd: Dasd) -> None:
    told: list[int] = []
    dasd.write_blocks(FIRST, pattern(30), told.append)
    assert sum(told) == 30


def test_verified(dasd: Dasd) -> None:
    dasd.write_blocks(FIRST, pattern(15, 3), verify=True)
    assert dasd.read_blocks(FIRST, 15) == pattern(15, 3)


@pytest.mark.parametrize("block", [0, 1, 2, 3, 23, 24, ALL - 1])
def test_any_block_can_be_read(dasd: Dasd, block: int) -> None:
    assert len(dasd.read_blocks(block)) == SIZE


@pytest.mark.parametrize(("block", "key", "data"), [(0, 4, 24), (1, 4, 144), (2, 4, 80), (12, 44, 96), (15, 44, 96)])
def test_the_short_records_of_the_first_tracks(dasd: Dasd, block: int, key: int, data: int) -> None:
    found = dasd.read_blocks(block)
    assert found[key + data :] == FILLER * (SIZE - key - data)
    assert found[: key + data] != FILLER * (key + data)


def test_the_label_is_block_2(dasd: Dasd) -> None:
    assert dasd.read_blocks(2)[:14] == "VOL1VOL1LAB001".encode("cp037")


def test_of_a_short_record_as_much_is_written_as_it_holds(dasd: Dasd) -> None:
    before = dasd.read_blocks(0)
    try:
        dasd.write_blocks(0, before[:4] + b"\x01" * (SIZE - 4))
        assert dasd.read_blocks(0) == before[:4] + b"\x01" * 24 + FILLER * (SIZE - 28)
    finally:
        dasd.write_blocks(0, before)
    assert dasd.read_blocks(0) == before


def test_the_last_block(dasd: Dasd) -> None:
    before = dasd.read_blocks(ALL - 1)
    dasd.write_blocks(ALL - 1, pattern(1, 9))
    assert dasd.read_blocks(ALL - 1) == pattern(1, 9)
    dasd.write_blocks(ALL - 1, before)


def test_it_is_still_there_when_the_disk_is_opened_again(dasd_channel: CcwDevice) -> None:
    with Dasd(dasd_channel) as disk:
        disk.write_blocks(FIRST + 7, pattern(2, 77))
    with Dasd(dasd_channel) as disk:
        assert disk.read_blocks(FIRST + 7, 2) == pattern(2, 77)


def test_a_program_without_the_driver_reads_the_same(dasd: Dasd, dasd_channel: CcwDevice) -> None:
    dasd.write_blocks(FIRST, pattern(1, 5))
    place = (300, 0)
    steps = (define_extent(0x40, place, place), locate_record(READ_DATA, place, 1))
    commands = [Write(step.cmd, step.out) for step in steps]
    assert dasd_channel.run([*commands, Read(0x06, SIZE)]).data == pattern(1, 5)


def test_asyncio(dasd_channel: CcwDevice) -> None:
    async def both() -> bytes:
        async with AsyncDasd(dasd_channel) as disk:
            await disk.write_blocks(FIRST + 50, pattern(14, 4))
            return await disk.read_blocks(FIRST + 50, 14)

    assert asyncio.run(both()) == pattern(14, 4)
