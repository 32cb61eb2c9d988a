"""Channel programs through vfio_ccw: what the kernel refuses, with its errno, and what runs.

Only programs on which QEMU's devices and the architecture agree are run to their end (SENSE ID with SLI, NOP, TIC).
"""

from __future__ import annotations

from errno import EACCES, EFAULT, EINVAL, ENOENT, EOPNOTSUPP, EPERM

import pytest

from pyvfio.backend import Backend
from pyvfio.css import Ccw, CcwFlag, Cstat, Dstat, Fctl, SenseId, Stctl
from pyvfio.testing.channel import Channel, nop, sense_id, tic
from pyvfio.testing.devices import BoundMdev, BoundSubchannel
from pyvfio.testing.expect import fails

MAPPED_BY_IOMMUFD = ("compat-type1", "compat-type1v2", "iommufd")
LIMIT = 256  # CCWs of one program, drivers/s390/cio/vfio_ccw_cp.h


def no_mapping(channel: Channel) -> int:
    """What an access without mapping gives: type 1 and iommufd differ."""
    return ENOENT if channel.device.mode in MAPPED_BY_IOMMUFD else EINVAL


def refused(channel: Channel, number: int, *ccws: Ccw, **orb: int) -> None:
    """Start a program that the kernel refuses; the errno is also the region's return code."""
    channel.load(ccws)
    with fails(number):
        channel.write(channel.orb(**orb))
    assert channel.ret_code == -number
    assert channel.event.read() == 0
    assert channel.untouched()


def test_a_program_in_a_hole(channel_in_mode: Channel) -> None:
    refused(channel_in_mode, no_mapping(channel_in_mode), cpa=channel_in_mode.hole)


def test_data_in_a_hole(channel_in_mode: Channel) -> None:
    refused(channel_in_mode, no_mapping(channel_in_mode), sense_id(channel_in_mode.hole))


def test_data_that_ends_in_a_hole(channel_in_mode: Channel) -> None:
    refused(channel_in_mode, no_mapping(channel_in_mode), sense_id(channel_in_mode.end - 8))


def test_a_program_at_the_end_of_the_mapping(channel_in_mode: Channel) -> None:
    # the kernel copies 2 KiB of CCWs at once
    channel = channel_in_mode
    refused(channel, no_mapping(channel), cpa=channel.end - 8)


def test_a_tic_into_a_hole(channel_in_mode: Channel) -> None:
    channel = channel_in_mode
    refused(channel, no_mapping(channel), nop(channel.data, chained=True), tic(channel.hole))


def test_too_many_commands(channel: Channel) -> None:
    ccws = [nop(channel.data, chained=True)] * LIMIT
    refused(channel, EINVAL, *ccws, nop(channel.data))


def test_transport_mode(channel: Channel) -> None:
    refused(channel, EOPNOTSUPP, sense_id(channel.data), tm=True)


@pytest.mark.parametrize("fctl", [Fctl.HALT, Fctl.CLEAR, Fctl.HALT | Fctl.CLEAR])
def test_no_halt_and_no_clear_in_the_io_region(channel: Channel, fctl: Fctl) -> None:
    channel.load([sense_id(channel.data)])
    with fails(EOPNOTSUPP):
        channel.write(channel.orb(), fctl)
    assert channel.ret_code == -EOPNOTSUPP


def test_an_address_of_more_than_31_bits(channel: Channel) -> None:
    refused(channel, EINVAL, sense_id(0x80000000 | channel.data))


def test_a_list_of_addresses_in_a_hole(channel: Channel) -> None:
    ccw = sense_id(channel.hole, flags=CcwFlag.SLI | CcwFlag.IDA)
    refused(channel, EINVAL, ccw, c64=True)


def test_a_list_that_leads_into_a_hole(channel: Channel) -> None:
    channel.put(channel.idal, channel.hole.to_bytes(8, "big"))
    refused(channel, EINVAL, sense_id(channel.idal, flags=CcwFlag.SLI | CcwFlag.IDA), c64=True)


def test_version_1_of_type_1_pins_nothing(backend: Backend, mdev: BoundMdev) -> None:
    with Channel(backend, mdev, "type1") as channel:
        refused(channel, EACCES, sense_id(channel.data))
        refused(channel, EINVAL, cpa=channel.hole)  # the program itself it can read
        assert channel.run(nop(channel.data)).scsw.ok


@pytest.mark.parametrize("permission", ["read", "write"])
def test_memory_without_the_permission(channel: Channel, permission: str) -> None:
    # type 1 wants both, whichever way the data go
    channel.device.map(
        channel.hole, channel.storage.address, channel.page, read=permission == "read", write=permission == "write"
    )
    refused(channel, EPERM, sense_id(channel.hole))


def test_memory_that_is_not_there(channel_in_mode: Channel, wild: int) -> None:
    # nothing is pinned for a mediated device before a program uses it
    channel = channel_in_mode
    channel.device.map(channel.hole, wild, channel.page)
    refused(channel, EFAULT, sense_id(channel.hole))


def test_after_an_unmap(channel_in_mode: Channel) -> None:
    channel = channel_in_mode
    channel.load([sense_id(channel.data)])
    assert channel.device.unmap(channel.origin, channel.storage.length) == channel.storage.length
    with fails(no_mapping(channel)):
        channel.write(channel.orb())
    channel.device.map(channel.origin, channel.storage.address, channel.storage.length)
    assert channel.run(sense_id(channel.data)).scsw.ok


def test_a_refused_program_leaves_the_subchannel_usable(channel_in_mode: Channel) -> None:
    channel = channel_in_mode
    refused(channel, no_mapping(channel), sense_id(channel.hole))
    assert channel.run(sense_id(channel.data)).scsw.ok
    assert channel.ret_code == 0


def test_no_function(channel: Channel) -> None:
    channel.load([sense_id(channel.data)])
    channel.write(channel.orb(), Fctl(0))
    assert channel.event.read() == 0
    assert channel.untouched()


@pytest.mark.parametrize("code", [0x00], ids=["zero"])
def test_a_command_that_is_none(channel: Channel, code: int) -> None:
    irb = channel.run(Ccw(code, CcwFlag.SLI, 1, channel.data))
    assert irb.scsw.cstat == Cstat.PROGRAM_CHECK
    assert Stctl.ALERT in irb.scsw.stctl
    assert channel.ret_code == 0


def test_a_tic_to_a_tic(channel: Channel) -> None:
    channel.put(channel.idal, tic(channel.idal + 8).to_bytes() + sense_id(channel.data).to_bytes())
    irb = channel.run(nop(channel.data, chained=True), tic(channel.idal))
    assert irb.scsw.cstat == Cstat.PROGRAM_CHECK


def test_a_tic_to_an_odd_address(channel: Channel) -> None:
    # the kernel copies what is there to a doubleword boundary, so the channel never sees the odd address
    odd = channel.idal + 4
    channel.put(odd, sense_id(channel.data).to_bytes())
    irb = channel.run(nop(channel.data, chained=True), tic(odd))
    assert irb.scsw.ok
    assert irb.scsw.cpa == odd + 8
    assert not channel.untouched()


def test_suspend_without_permission(channel: Channel) -> None:
    irb = channel.run(sense_id(channel.data, flags=CcwFlag.SLI | CcwFlag.SUSPEND))
    assert irb.scsw.cstat == Cstat.PROGRAM_CHECK
    assert channel.untouched()


def test_a_command_the_device_rejects(channel: Channel) -> None:
    irb = channel.run(Ccw(0x6F, CcwFlag.SLI, 1, channel.data))
    assert Dstat.UNIT_CHECK in irb.scsw.dstat
    assert Stctl.ALERT in irb.scsw.stctl
    assert irb.ecw[0] & 0x80  # command reject, by concurrent sense
    assert channel.run(sense_id(channel.data)).scsw.ok


def test_a_rejected_command_ends_the_chain(channel: Channel) -> None:
    flags = CcwFlag.SLI | CcwFlag.CC
    irb = channel.run(nop(channel.data, chained=True), Ccw(0x6F, flags, 1, channel.data), sense_id(channel.data))
    assert Dstat.UNIT_CHECK in irb.scsw.dstat
    assert irb.scsw.cpa == channel.program + 16
    assert channel.untouched()


def test_sense_id(backend: Backend, channel_in_mode: Channel, subchannel: BoundSubchannel) -> None:
    channel = channel_in_mode
    irb = channel.run(sense_id(channel.data))
    scsw = irb.scsw
    assert scsw.ok
    assert scsw.fctl == Fctl.START
    assert not scsw.actl
    assert scsw.stctl == Stctl.PENDING | Stctl.PRIMARY | Stctl.SECONDARY
    assert scsw.dstat == Dstat.CHANNEL_END | Dstat.DEVICE_END
    assert scsw.cpa == channel.program + 8
    answer = SenseId.from_bytes(channel.get(channel.data, 7))
    assert answer.cu == subchannel.cutype_before


@pytest.mark.parametrize("count", [4, 7, 8, 64])
def test_counts(channel: Channel, count: int) -> None:
    irb = channel.run(sense_id(channel.data, count))
    assert irb.scsw.ok
    assert irb.scsw.count == 0 or count > 7
    assert channel.get(channel.data, 1) == b"\xff"
    assert channel.get(channel.data + count, 8) == b"\xee" * 8


def test_skip_stores_nothing(channel: Channel) -> None:
    assert channel.run(sense_id(channel.data, flags=CcwFlag.SLI | CcwFlag.SKIP)).scsw.ok
    assert channel.untouched()


@pytest.mark.parametrize("count", [0, 1])
def test_nop(channel: Channel, count: int) -> None:
    irb = channel.run(Ccw(0x03, CcwFlag.SLI, count, channel.data))
    assert irb.scsw.ok
    assert irb.scsw.cpa == channel.program + 8


def test_nop_with_data_in_a_hole(channel: Channel) -> None:
    # no data move, so no address is looked at
    assert channel.run(nop(channel.hole)).scsw.ok


def test_chained_commands(channel: Channel) -> None:
    irb = channel.run(nop(channel.data, chained=True), nop(channel.data, chained=True), sense_id(channel.data))
    assert irb.scsw.ok
    assert irb.scsw.cpa == channel.program + 24
    assert channel.get(channel.data, 1) == b"\xff"


@pytest.mark.parametrize("length", [2, 33, 100])
def test_long_programs(channel: Channel, length: int) -> None:
    irb = channel.run(*[nop(channel.data, chained=True)] * (length - 1), sense_id(channel.data))
    assert irb.scsw.ok
    assert irb.scsw.cpa == channel.program + 8 * length


def test_the_longest_program_is_taken(channel: Channel) -> None:
    irb = channel.run(*[nop(channel.data, chained=True)] * (LIMIT - 1), nop(channel.data))
    assert channel.ret_code == 0
    assert irb.scsw.fctl == Fctl.START


def test_tic(channel: Channel) -> None:
    channel.put(channel.idal, sense_id(channel.data).to_bytes())
    irb = channel.run(nop(channel.data, chained=True), tic(channel.idal))
    assert irb.scsw.ok
    assert irb.scsw.cpa == channel.idal + 8
    assert channel.get(channel.data, 1) == b"\xff"


@pytest.mark.parametrize("at", [0, 3, 0xFFD])
def test_data_of_any_alignment(channel: Channel, at: int) -> None:
    assert channel.run(sense_id(channel.data + at)).scsw.ok
    assert channel.get(channel.data + at, 1) == b"\xff"


@pytest.mark.parametrize(
    ("c64", "i2k", "block", "width"),
    [(True, False, 4096, 8), (True, True, 2048, 8), (False, False, 2048, 4)],
    ids=["format-2-4k", "format-2-2k", "format-1"],
)
def test_lists_of_addresses(channel: Channel, c64: bool, i2k: bool, block: int, width: int) -> None:
    first, second = channel.data + block - 4, channel.data + 16 * block
    channel.put(channel.idal, first.to_bytes(width, "big") + second.to_bytes(width, "big"))
    channel.put(second, b"\xee" * 8)
    irb = channel.run(sense_id(channel.idal, 8, CcwFlag.SLI | CcwFlag.IDA), c64=c64, i2k=i2k)
    assert irb.scsw.ok
    answer = channel.get(first, 4) + channel.get(second, 4)
    assert SenseId.from_bytes(answer).cu_type == SenseId.from_bytes(direct(channel)).cu_type


def direct(channel: Channel) -> bytes:
    """What SENSE ID gives without a list."""
    channel.run(sense_id(channel.data))
    return channel.get(channel.data, 7)


def test_format_0(channel: Channel) -> None:
    assert channel.run(sense_id(channel.data, fmt=0), fmt=0).scsw.ok
    assert channel.get(channel.data, 1) == b"\xff"


@pytest.mark.parametrize(
    "fields", [{"pfch": False}, {"intparm": 0xCAFEF00D}, {"lpm": 0x80}], ids=["pfch", "intparm", "lpm"]
)
def test_orbs(channel: Channel, fields: dict[str, int]) -> None:
    assert channel.run(sense_id(channel.data), **fields).scsw.ok


def test_one_after_the_other(channel: Channel) -> None:
    for _ in range(10):
        assert channel.run(sense_id(channel.data)).scsw.ok


def test_halt_and_clear_beside_start_are_ignored(channel: Channel) -> None:
    channel.load([sense_id(channel.data)])
    channel.write(channel.orb(), Fctl.START | Fctl.HALT | Fctl.CLEAR)
    assert channel.irb().scsw.fctl == Fctl.START


def test_the_program_interrupt_flag(channel: Channel) -> None:
    flags = CcwFlag.SLI | CcwFlag.CC | CcwFlag.PCI
    irb = channel.run(Ccw(0x03, flags, 1, channel.data), sense_id(channel.data))
    if not irb.scsw.ok:  # an intermediate status may come first
        assert Stctl.INTERMEDIATE in irb.scsw.stctl
        irb = channel.irb()
    assert irb.scsw.dstat == Dstat.CHANNEL_END | Dstat.DEVICE_END
