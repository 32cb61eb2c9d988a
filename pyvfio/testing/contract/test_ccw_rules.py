"""The checker and a device's channel: what the one reports, the other answers with a program check, at the same CCW.

Only rules that QEMU knows are run here (it does not look at the boundaries of IDAWs); the unit tests know all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pyvfio.ccw import CcwDevice
from pyvfio.channel_program import ChannelCommand, Control, Read, Tic
from pyvfio.css import Ccw, CcwFlag, Cstat, Dstat, Irb, Orb, Program, Rule, StorageError, Violation, check
from pyvfio.testing.channel import Channel, nop, sense_id, tic

SLI, CC, IDA = CcwFlag.SLI, CcwFlag.CC, CcwFlag.IDA
Build = Callable[[Channel], list[Ccw]]


class Mapped:
    """The channel's storage for the checker."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def read(self, address: int, count: int) -> bytes:
        if not self.channel.origin <= address <= address + count <= self.channel.end:
            raise StorageError(address, count, "read")
        return self.channel.get(address, count)

    def write(self, address: int, data: bytes) -> None:
        raise StorageError(address, len(data), "write")


def checked(channel: Channel, ccws: list[Ccw], **orb: int) -> tuple[list[Violation], Irb]:
    """What the checker says of a program, and how it ends."""
    channel.load(ccws)
    found = check(channel.orb(**orb), Mapped(channel))
    channel.write(channel.orb(**orb))
    return found, channel.irb()


def tic_to_tic(channel: Channel) -> list[Ccw]:
    channel.put(channel.idal, tic(channel.idal + 8).to_bytes() + sense_id(channel.data).to_bytes())
    return [nop(channel.data, chained=True), tic(channel.idal)]


def tic_off_its_boundary(channel: Channel) -> list[Ccw]:
    channel.put(channel.idal, bytes(4) + nop(channel.data).to_bytes())
    return [nop(channel.data, chained=True), tic(channel.idal + 4)]


@pytest.mark.parametrize(
    ("build", "rule", "index"),
    [
        (lambda channel: [Ccw(0x00, SLI, 1, channel.data)], Rule.COMMAND_CODE, 0),
        (lambda channel: [nop(channel.data, chained=True), Ccw(0x00, SLI, 1, channel.data)], Rule.COMMAND_CODE, 1),
        (tic_to_tic, Rule.TIC_TO_TIC, 2),
        (lambda channel: [sense_id(channel.data, flags=SLI | CcwFlag.SUSPEND)], Rule.SUSPEND_CONTROL, 0),
    ],
    ids=["code", "second-code", "tic-to-tic", "suspend"],
)
def test_what_the_checker_reports_is_a_program_check(channel: Channel, build: Build, rule: Rule, index: int) -> None:
    found, irb = checked(channel, build(channel), c64=True)
    assert [(one.rule, one.index) for one in found] == [(rule, index)]
    assert irb.scsw.cstat == Cstat.PROGRAM_CHECK


def test_vfio_ccw_hides_a_tic_off_its_boundary(channel: Channel) -> None:
    # it copies the chain at the target to a boundary and leads the TIC there
    found, irb = checked(channel, tic_off_its_boundary(channel))
    assert [(one.rule, one.index) for one in found] == [(Rule.TIC_BOUNDARY, 1)]
    assert irb.scsw.ok


def list_of_two(channel: Channel) -> list[Ccw]:
    block = 4 * 1024
    words = (channel.data + block - 4, channel.data + 2 * block)
    channel.put(channel.idal, b"".join(word.to_bytes(8, "big") for word in words))
    return [nop(channel.data, chained=True), Ccw(0xE4, SLI | IDA, 8, channel.idal)]


def over_a_tic(channel: Channel) -> list[Ccw]:
    channel.put(channel.idal, sense_id(channel.data).to_bytes())
    return [nop(channel.data, chained=True), tic(channel.idal)]


@pytest.mark.parametrize(
    "build",
    [
        lambda channel: [nop(channel.hole)],
        lambda channel: [Ccw(0x03, SLI, 0, channel.data)],
        lambda channel: [sense_id(channel.data, flags=SLI | CcwFlag.SKIP)],
        list_of_two,
        over_a_tic,
    ],
    ids=["nop", "nop-without-count", "skip", "list", "tic"],
)
def test_what_the_checker_passes_runs(channel: Channel, build: Build) -> None:
    found, irb = checked(channel, build(channel), c64=True)
    assert found == []
    assert irb.scsw.ok


def test_a_built_program(channel: Channel) -> None:
    program = Program(channel.program).nop().sli.then.sense_id((channel.data, 64)).sli.by_idaws(channel.idal)
    for address, part in program.parts:
        channel.put(address, part)
    assert program.check(Mapped(channel)) == []
    channel.write(replace(program.orb(), intparm=5))
    assert channel.irb().scsw.ok
    assert channel.get(channel.data, 1) == b"\xff"


def test_the_library_checks_commands(ccw_client: CcwDevice) -> None:
    good: list[ChannelCommand] = [Control(0x03), Read(0xE4, 64, SLI)]
    assert ccw_client.check(good) == []
    assert [one.rule for one in ccw_client.check([Tic(1), *good])] == [Rule.TIC_FIRST]
    assert [one.index for one in ccw_client.check([*good, Control(0x10)])] == [2]
    assert ccw_client.device.space.mappings() == []
    assert ccw_client.run(good).data[0] == 0xFF


def test_the_library_checks_and_runs_a_built_program(ccw_client: CcwDevice) -> None:
    page = ccw_client.device.space.granule
    with ccw_client.device.space.buffer(8 * page, below=1 << 31) as memory:
        code, lists, data = memory.iova, memory.iova + page, memory.iova + 4 * page
        bad = Program(code).nop().sli.tic(code + 4)
        assert [one.rule for one in ccw_client.check(bad)] == [Rule.TIC_BOUNDARY]
        good = Program(code).nop().sli.then.sense_id((data - 4, 64)).sli.by_idaws(lists)
        assert ccw_client.check(good) == []
        assert ccw_client.start(good).scsw.dstat == Dstat.CHANNEL_END | Dstat.DEVICE_END
        assert ccw_client.check(Orb(cpa=code + 1))[0].rule == Rule.ORB
        with pytest.raises(StorageError):
            ccw_client.check(Program(0x7000_0000).nop())
