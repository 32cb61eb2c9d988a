"""Commands with which a disk says what it is: how many bytes come, and what the channel makes of other counts.

A count that is not what the device has is incorrect length, unless the CCW says SLI: z/Architecture Principles of
Operation, "Suppress-Length-Indication Flag".  Commands: "3990/9390 Storage Control Reference" GA32-0274.
"""

from __future__ import annotations

import pytest

from pyvfio.css import CcwFlag, Cstat, Dstat, SenseId, Stctl
from pyvfio.testing.disk import FILL, NONE, SKIP, SLI, Disk, read, write

ENDED = Dstat.CHANNEL_END | Dstat.DEVICE_END
NO_CHECK = Cstat(0)
SENSE, SENSE_ID, CHARACTERISTICS, CONFIGURATION, NOP = 0x04, 0xE4, 0x64, 0xFA, 0x03
HAS = {SENSE_ID: 12, CHARACTERISTICS: 64, CONFIGURATION: 256, SENSE: 32}
LENGTHS = [
    (cmd, count) for cmd, has in HAS.items() for count in sorted({1, has // 2, has - 1, has, has + 1, 2 * has, 4096})
]


def ids(values: object) -> str | None:
    """Commands in hexadecimal."""
    return f"{values:02x}" if isinstance(values, int) and values in HAS else None


@pytest.mark.parametrize("suppressed", [False, True], ids=["exact", "sli"])
@pytest.mark.parametrize(("cmd", "count"), LENGTHS, ids=ids)
def test_counts(disk: Disk, cmd: int, count: int, suppressed: bool) -> None:
    ended = disk.run(read(cmd, count, SLI if suppressed else NONE))
    has = HAS[cmd]
    wrong = count != has and not suppressed
    assert ended.status == (ENDED, Cstat.INCORRECT_LENGTH if wrong else NO_CHECK)
    assert ended.residual == max(0, count - has)
    assert ended.steps == 1
    assert (Stctl.ALERT in ended.irb.scsw.stctl) == wrong
    assert ended.areas[0][has:] == bytes([FILL]) * (count - has)
    assert ended.areas[0][: min(has, count)] != bytes([FILL]) * min(has, count)


@pytest.mark.parametrize("cmd", HAS, ids=ids)
def test_nothing_is_stored_when_it_skips(disk: Disk, cmd: int) -> None:
    ended = disk.run(read(cmd, HAS[cmd], SKIP))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.residual == 0
    assert ended.areas[0] == bytes([FILL]) * HAS[cmd]


@pytest.mark.parametrize("cmd", HAS, ids=ids)
def test_half_of_it_and_then_another_command(disk: Disk, cmd: int) -> None:
    """Incorrect length that is suppressed does not end the chain."""
    ended = disk.run(read(cmd, HAS[cmd] // 2, SLI), read(SENSE_ID, 12))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.steps == 2
    assert ended.areas[1][0] == 0xFF


@pytest.mark.parametrize("cmd", HAS, ids=ids)
def test_more_than_it_has_ends_the_chain(disk: Disk, cmd: int) -> None:
    ended = disk.run(read(cmd, HAS[cmd] + 8), read(SENSE_ID, 12))
    assert ended.status == (ENDED, Cstat.INCORRECT_LENGTH)
    assert ended.steps == 1
    assert ended.areas[1] == bytes([FILL]) * 12


@pytest.mark.parametrize("suppressed", [False, True], ids=["exact", "sli"])
@pytest.mark.parametrize("count", [1, 2, 100])
def test_a_command_without_data_has_no_incorrect_length(disk: Disk, count: int, suppressed: bool) -> None:
    ended = disk.run(read(NOP, count, SLI if suppressed else NONE))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.residual == count


def test_a_count_of_zero(disk: Disk) -> None:
    ended = disk.run(read(CHARACTERISTICS, 0, SLI))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.residual == 0


def test_who_it_is(disk: Disk) -> None:
    raw = disk.run(read(SENSE_ID, 64, SLI)).areas[0]
    answer = SenseId.from_bytes(raw[:12])
    assert (answer.cu_type, answer.dev_type) == (0x3990, 0x3390)
    (ciw,) = answer.ciws
    assert (ciw.cmd, ciw.count) == (CONFIGURATION, 256)


def test_its_geometry(disk: Disk) -> None:
    raw = disk.run(read(CHARACTERISTICS, 64)).areas[0]
    assert raw[:5] == bytes.fromhex("3990c23390")
    assert raw[12:16] == bytes.fromhex("0459000f")  # 1113 cylinders of 15 tracks
    assert raw[16] == 224  # sectors


def test_its_configuration_names_device_and_control_unit(disk: Disk) -> None:
    raw = disk.run(read(CONFIGURATION, 256)).areas[0]
    elements = [raw[at : at + 32] for at in range(0, 256, 32)]
    ids = [element for element in elements if element[0] & 0xC0 == 0xC0]
    assert any(element[6:10].decode("cp037") == "3390" for element in ids)
    assert elements[-1][0] & 0xC0 == 0x80  # the general qualifier is last


def test_no_sense_is_left_after_a_good_end(disk: Disk) -> None:
    assert disk.run(read(NOP, 1, SLI)).ok
    ended = disk.run(read(SENSE, 32))
    assert ended.ok
    assert not any(ended.areas[0][:5])


@pytest.mark.parametrize("cmd", [0x94, 0xB4], ids=["release", "reserve"])
def test_reserve_and_release_give_sense(disk: Disk, cmd: int) -> None:
    ended = disk.run(read(cmd, 32), read(0x94, 32, CcwFlag(0)))
    assert ended.ok
    assert not any(ended.areas[0][:5])


def test_the_ipl_record(disk: Disk) -> None:
    """READ IPL: the first record of the disk."""
    ended = disk.run(read(0x02, 24, SLI))
    assert ended.ok
    assert ended.areas[0] == disk.data((0, 0), 1, 24)


def test_data_that_nobody_reads_do_no_harm(disk: Disk) -> None:
    """A control command takes no data from the channel."""
    assert disk.run(write(NOP, b"any", SLI), read(SENSE_ID, 12)).ok
