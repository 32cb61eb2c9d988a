"""Lists of addresses (IDAWs) in programs of a disk: both formats, blocks of 2 and 4 KiB, both ways, in data chains.

z/Architecture Principles of Operation, "CCW Indirect Data Addressing".
"""

from __future__ import annotations

from errno import EINVAL

import pytest

from pyvfio.css import Ccw, CcwFlag, Cstat, Dstat
from pyvfio.testing.disk import READ_DATA, WRITE_DATA, Disk, define_extent, locate_record
from pyvfio.testing.expect import fails

ENDED = Dstat.CHANNEL_END | Dstat.DEVICE_END
PLACE = (210, 3)
SIZE = 4096
RECORD = bytes(number * 7 % 251 for number in range(SIZE))
FORMATS = [(True, False, 4096, 8), (True, True, 2048, 8), (False, False, 2048, 4)]
NAMES = ["format-2-4k", "format-2-2k", "format-1"]
IDA, CC, SLI, SKIP, CD = CcwFlag.IDA, CcwFlag.CC, CcwFlag.SLI, CcwFlag.SKIP, CcwFlag.CD


@pytest.fixture
def written(disk: Disk) -> Disk:
    """The disk with `RECORD` at record 1 of `PLACE`."""
    disk.format(PLACE, (1, b"", RECORD))
    return disk


class Lists:
    """Areas of a program in blocks that do not follow each other; the first begins at `skew` in its block."""

    def __init__(self, disk: Disk, form: tuple[bool, bool, int, int], skew: int = 0) -> None:
        self.channel = disk.channel
        self.c64, self.i2k, self.block, self.width = form
        self.skew = skew

    def blocks(self, size: int) -> list[tuple[int, int]]:
        """Address and bytes of each piece of `size` bytes: every second block, the last one first."""
        pieces: list[tuple[int, int]] = []
        count = -(-(size + self.skew) // self.block)
        for number in range(count):
            at = self.channel.data + 2 * self.block * (count - number)
            begin = self.skew if number == 0 else 0
            pieces.append((at + begin, min(self.block - begin, size)))
            size -= pieces[-1][1]
        return pieces

    def put(self, size: int, at: int) -> list[tuple[int, int]]:
        """Write the list to `at`."""
        pieces = self.blocks(size)
        self.channel.put(at, b"".join(address.to_bytes(self.width, "big") for address, _ in pieces))
        return pieces

    def run(self, *ccws: Ccw) -> tuple[Dstat, Cstat, int]:
        """Run with the parameters that all programs here have."""
        channel = self.channel
        channel.put(channel.program, b"".join(ccw.to_bytes() for ccw in ccws))
        channel.write(channel.orb(c64=self.c64, i2k=self.i2k))
        scsw = channel.irb().scsw
        return scsw.dstat, scsw.cstat, scsw.count

    def parameters(self, operation: int, mask: int) -> list[Ccw]:
        """DEFINE EXTENT and LOCATE RECORD for record 1, whose parameters come without lists."""
        channel = self.channel
        extent = define_extent(mask, PLACE, PLACE).out
        given = {"auxiliary": 0x80, "length": SIZE} if operation == WRITE_DATA else {}
        where = locate_record(operation, PLACE, 1, **given).out
        channel.put(channel.end - 64, extent)
        channel.put(channel.end - 32, where)
        return [Ccw(0x63, CC, 16, channel.end - 64), Ccw(0x47, CC, 16, channel.end - 32)]


@pytest.mark.parametrize("skew", [0, 1, 8, 2040])
@pytest.mark.parametrize("form", FORMATS, ids=NAMES)
def test_reading_by_a_list(written: Disk, form: tuple[bool, bool, int, int], skew: int) -> None:
    lists, channel = Lists(written, form, skew), written.channel
    channel.put(channel.data, b"\xee" * 16 * SIZE)
    pieces = lists.put(SIZE, channel.idal)
    ccws = lists.parameters(READ_DATA, 0x40)
    assert lists.run(*ccws, Ccw(0x06, IDA, SIZE, channel.idal)) == (ENDED, Cstat(0), 0)
    assert b"".join(channel.get(address, count) for address, count in pieces) == RECORD
    for address, count in pieces:
        assert channel.get(address + count, 1) == b"\xee"


@pytest.mark.parametrize("skew", [0, 100])
@pytest.mark.parametrize("form", FORMATS, ids=NAMES)
def test_writing_by_a_list(written: Disk, form: tuple[bool, bool, int, int], skew: int) -> None:
    lists, channel = Lists(written, form, skew), written.channel
    pieces, mirrored, at = lists.put(SIZE, channel.idal), RECORD[::-1], 0
    for address, count in pieces:
        channel.put(address, mirrored[at : at + count])
        at += count
    ccws = lists.parameters(WRITE_DATA, 0x80)
    assert lists.run(*ccws, Ccw(0x05, IDA, SIZE, channel.idal)) == (ENDED, Cstat(0), 0)
    assert written.data(PLACE, 1) == mirrored


@pytest.mark.parametrize("form", FORMATS, ids=NAMES)
def test_parameters_by_a_list(written: Disk, form: tuple[bool, bool, int, int]) -> None:
    lists, channel = Lists(written, form), written.channel
    extent = define_extent(0x40, PLACE, PLACE).out
    first, second = channel.data + lists.block - 5, channel.data + 4 * lists.block
    channel.put(first, extent[:5])
    channel.put(second, extent[5:])
    channel.put(channel.idal, first.to_bytes(lists.width, "big") + second.to_bytes(lists.width, "big"))
    _, locate = lists.parameters(READ_DATA, 0x40)
    ccws = [Ccw(0x63, IDA | CC, 16, channel.idal), locate, Ccw(0x06, SLI, 16, channel.data + SIZE * 10)]
    assert lists.run(*ccws) == (ENDED, Cstat(0), 0)
    assert channel.get(channel.data + SIZE * 10, 16) == RECORD[:16]


@pytest.mark.parametrize("form", FORMATS, ids=NAMES)
def test_a_data_chain_with_and_without_lists(written: Disk, form: tuple[bool, bool, int, int]) -> None:
    lists, channel = Lists(written, form, 16), written.channel
    half = SIZE // 2
    plain = channel.data + 40 * SIZE
    pieces = lists.put(half, channel.idal)
    ccws = lists.parameters(READ_DATA, 0x40)
    assert lists.run(*ccws, Ccw(0x06, CD, half, plain), Ccw(0, IDA, half, channel.idal)) == (ENDED, Cstat(0), 0)
    assert channel.get(plain, half) == RECORD[:half]
    assert b"".join(channel.get(address, count) for address, count in pieces) == RECORD[half:]


@pytest.mark.parametrize("form", FORMATS, ids=NAMES)
def test_a_list_that_is_skipped(written: Disk, form: tuple[bool, bool, int, int]) -> None:
    lists, channel = Lists(written, form), written.channel
    channel.put(channel.data, b"\xee" * 16 * SIZE)
    pieces = lists.put(SIZE, channel.idal)
    ccws = lists.parameters(READ_DATA, 0x40)
    assert lists.run(*ccws, Ccw(0x06, IDA | SKIP, SIZE, channel.idal)) == (ENDED, Cstat(0), 0)
    assert all(channel.get(address, count) == b"\xee" * count for address, count in pieces)


@pytest.mark.parametrize("form", FORMATS, ids=NAMES)
def test_a_list_that_leads_nowhere(written: Disk, form: tuple[bool, bool, int, int]) -> None:
    lists, channel = Lists(written, form), written.channel
    words = (channel.data, channel.hole)
    channel.put(channel.idal, b"".join(word.to_bytes(lists.width, "big") for word in words))
    ccw = Ccw(0x64, IDA | SLI, lists.block + 64, channel.idal)
    channel.put(channel.program, ccw.to_bytes())
    with fails(EINVAL):
        channel.write(channel.orb(c64=lists.c64, i2k=lists.i2k))


@pytest.mark.parametrize("size", [1, 2048, 2049, 4095, 4096, 4097])
def test_lists_of_records_of_any_size(disk: Disk, size: int) -> None:
    data = bytes(number * 11 % 253 for number in range(size))
    disk.format(PLACE, (1, b"", data))
    lists, channel = Lists(disk, FORMATS[0], 4090), disk.channel
    pieces = lists.put(size, channel.idal)
    ccws = lists.parameters(READ_DATA, 0x40)
    assert lists.run(*ccws, Ccw(0x06, IDA, size, channel.idal)) == (ENDED, Cstat(0), 0)
    assert b"".join(channel.get(address, count) for address, count in pieces) == data


def test_an_area_across_pages(disk: Disk) -> None:
    """No list in the program: the kernel makes one of it."""
    data = bytes(number * 3 % 249 for number in range(12000))
    disk.format(PLACE, (1, b"", data))
    lists, channel = Lists(disk, FORMATS[0]), disk.channel
    ccws = lists.parameters(READ_DATA, 0x40)
    assert lists.run(*ccws, Ccw(0x06, CcwFlag(0), 12000, channel.data + 4000)) == (ENDED, Cstat(0), 0)
    assert channel.get(channel.data + 4000, 12000) == data
