"""A vfio-ccw device through the seam: its regions, its interrupts, its states."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading
from collections.abc import Iterator

import pytest
from ccw_fixture import ASYNC, BASE, CRW, CSS, DATA, IO, IO_SIZE, PROGRAM, ROOM, SCHIB, START, CcwHost, Channel, refused

from pyvfio.abi import vfio as abi
from pyvfio.address import SubchannelId
from pyvfio.css import Actl, Ccw, CcwFlag, Command, Crw, Cstat, Dstat, Fctl, Irb, Orb, Program, Schib, Stctl
from pyvfio.css.trace import Step

BLK = SubchannelId(0, 0, 5)
SENSE_ID = Ccw(Command.SENSE_ID, CcwFlag.SLI, 64, DATA)
NOP = Ccw(Command.NOP, CcwFlag.SLI | CcwFlag.CC, 1, DATA)
SUSPENDED = Ccw(Command.SENSE_ID, CcwFlag.SLI | CcwFlag.SUSPEND, 64, DATA)


@pytest.fixture
def host() -> Iterator[CcwHost]:
    with CcwHost() as host:
        yield host


@pytest.fixture
def channel(host: CcwHost) -> Iterator[Channel]:
    channel = host.open_channel()
    yield channel
    channel.close()


# what is refused


@pytest.mark.parametrize(
    ("offset", "count", "writing"),
    [
        (IO, 125, False),
        (IO + 120, 5, False),
        (IO, 125, True),
        (ASYNC, 9, False),
        (ASYNC + 4, 8, True),
        (SCHIB, 53, False),
        (SCHIB, 52, True),
        (CRW, 9, False),
        (CRW, 8, True),
        (4 << 10, 4, False),
        (4 << 10, 4, True),
        (1 << 40, 1, False),
    ],
)
def test_reads_and_writes_stay_within_a_region(channel: Channel, offset: int, count: int, writing: bool) -> None:
    with refused(errno.EINVAL):
        if writing:
            channel.host.pwrite(channel.fd, bytes(count), offset)
        else:
            channel.host.pread(channel.fd, count, offset)


@pytest.mark.parametrize(
    ("ccws", "code"),
    [
        ([Ccw(0xE4, CcwFlag.SLI, 64, 0x7000000)], errno.EINVAL),
        ([Ccw(0xE4, CcwFlag.SLI, 64, BASE + ROOM - 16)], errno.EINVAL),
        ([Ccw(0xE4, CcwFlag.SLI, 64, 0x80020000)], errno.EINVAL),
        ([NOP, Ccw(Command.TIC, CcwFlag(0), 0, 0x6000000)], errno.EINVAL),
        ([Ccw(0xE4, CcwFlag.SLI | CcwFlag.IDA, 64, 0x7000000)], errno.EINVAL),
        ([Ccw(0xE4, CcwFlag.SLI | CcwFlag.IDA, 64, DATA)], errno.EINVAL),
        ([NOP] * 256 + [SENSE_ID], errno.EINVAL),
    ],
)
def test_programs_that_cannot_be_translated(channel: Channel, ccws: list[Ccw], code: int) -> None:
    channel.put(DATA, b"\x70\0\0\0\x70\0\0\0")
    with refused(code):
        channel.start(*ccws)
    assert channel.ret_code() == -code
    assert channel.io.read() == 0
    assert channel.start(SENSE_ID) == IO_SIZE


@pytest.mark.parametrize("at", [0x7000000, BASE + ROOM - 8])
def test_two_kib_of_ccws_must_be_readable(channel: Channel, at: int) -> None:
    with refused(errno.EINVAL):
        channel.start(orb=Orb(cpa=at, pfch=True))


def test_seventeen_chains_are_too_many(channel: Channel) -> None:
    def programs(count: int) -> None:
        for index in range(count):
            at = PROGRAM + index * 0x1000
            more = index + 1 < count
            channel.put(
                at, NOP.to_bytes() + (Ccw(Command.TIC, CcwFlag(0), 0, at + 0x1000) if more else SENSE_ID).to_bytes()
            )

    programs(16)
    assert channel.start() == IO_SIZE
    programs(17)
    with refused(errno.EINVAL):
        channel.start()


@pytest.mark.parametrize("flags", [1, 2])
def test_pages_are_pinned_for_reading_and_writing(channel: Channel, flags: int) -> None:
    channel.map(channel.memory.address, 0x300000, 0x1000, flags)
    with refused(errno.EPERM):
        channel.start(Ccw(0xE4, CcwFlag.SLI, 64, 0x300000))


def test_a_wild_address_of_the_program_is_a_fault(channel: Channel) -> None:
    channel.map(0x1000, 0x400000, 0x1000)
    with refused(errno.EFAULT):
        channel.start(Ccw(0xE4, CcwFlag.SLI, 64, 0x400000))


@pytest.mark.parametrize(("function", "code"), [(0x2000, errno.EOPNOTSUPP), (0x1000, errno.EOPNOTSUPP)])
def test_halt_and_clear_are_not_for_the_io_region(channel: Channel, function: int, code: int) -> None:
    with refused(code):
        channel.host.pwrite(channel.fd, bytes(12) + struct.pack(">I", function) + bytes(108), IO)


def test_transport_mode_is_refused(channel: Channel) -> None:
    with refused(errno.EOPNOTSUPP):
        channel.start(SENSE_ID, orb=Orb(cpa=PROGRAM, pfch=True, tm=True))


@pytest.mark.parametrize("command", [0, 3, 4])
def test_async_commands_there_are_two_of(channel: Channel, command: int) -> None:
    with refused(errno.EINVAL):
        channel.command(command)


def test_a_pending_program_refuses_another(channel: Channel) -> None:
    channel.start(SUSPENDED, orb=Orb(cpa=PROGRAM, pfch=True, spnd=True))
    assert channel.io.read() == 0
    with refused(errno.EBUSY):
        channel.start(SENSE_ID)
    assert channel.clear() == 8
    assert channel.io.read() == 1
    assert channel.irb().scsw.fctl == Fctl.CLEAR
    assert channel.start(SENSE_ID) == IO_SIZE


@pytest.mark.parametrize(
    ("index", "flags", "start", "count", "fd", "code"),
    [
        (3, 0x24, 0, 1, 0, errno.EINVAL),
        (0, 0x24, 0, 2, 0, errno.EINVAL),
        (0, 0x24, 1, 1, 0, errno.EINVAL),
        (0, 0x09, 0, 1, 0, errno.EINVAL),
        (0, 0x11, 0, 1, 0, errno.EINVAL),
        (0, 0x20, 0, 1, 0, errno.EINVAL),
        (0, 0x24, 0, 1, -2, errno.EINVAL),
        (0, 0x24, 0, 1, 1 << 20, errno.EBADF),
    ],
)
def test_set_irqs_refuses(channel: Channel, index: int, flags: int, start: int, count: int, fd: int, code: int) -> None:
    with refused(code):
        channel.host.ioctl(
            channel.fd, abi.VFIO_DEVICE_SET_IRQS, bytearray(struct.pack("=IIIIIi", 24, flags, index, start, count, fd))
        )


@pytest.mark.parametrize(
    ("request_", "buffer", "code"),
    [
        (abi.VFIO_DEVICE_GET_INFO, struct.pack("=IIII", 15, 0, 0, 0), errno.EINVAL),
        (abi.VFIO_DEVICE_GET_REGION_INFO, struct.pack("=IIIIQQ", 31, 0, 1, 0, 0, 0), errno.EINVAL),
        (abi.VFIO_DEVICE_GET_REGION_INFO, struct.pack("=IIIIQQ", 32, 0, 4, 0, 0, 0), errno.EINVAL),
        (abi.VFIO_DEVICE_GET_IRQ_INFO, struct.pack("=IIII", 15, 0, 0, 0), errno.EINVAL),
        (abi.VFIO_DEVICE_GET_IRQ_INFO, struct.pack("=IIII", 16, 0, 3, 0), errno.EINVAL),
        (abi.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, bytes(12), errno.ENOTTY),
        (0x3B7F, bytes(8), errno.ENOTTY),
    ],
)
def test_requests_that_are_refused(channel: Channel, request_: int, buffer: bytes, code: int) -> None:
    with refused(code):
        channel.host.ioctl(channel.fd, request_, bytearray(buffer))


# what is done


def test_infos(channel: Channel) -> None:
    info = abi.DeviceInfo.sized()
    channel.host.ioctl(channel.fd, abi.VFIO_DEVICE_GET_INFO, info)
    assert (info.flags, info.num_regions, info.num_irqs, info.cap_offset) == (17, 4, 3, 0)
    seen = []
    for index in range(4):
        buffer = bytearray(struct.pack("=IIIIQQ", 48, 0, index, 0, 0, 0) + bytes(16))
        channel.host.ioctl(channel.fd, abi.VFIO_DEVICE_GET_REGION_INFO, buffer)
        seen.append(struct.unpack("=IIIIQQ HHIII", buffer))
    assert seen[0] == (48, 3, 0, 0, 124, 0, 0, 0, 0, 0, 0)
    assert seen[1:] == [
        (48, 11, 1, 32, 8, 0x400, 2, 1, 0, 2, 1),
        (48, 9, 2, 32, 52, 0x800, 2, 1, 0, 2, 2),
        (48, 9, 3, 32, 8, 0xC00, 2, 1, 0, 2, 3),
    ]
    short = abi.RegionInfo.sized(index=1)
    channel.host.ioctl(channel.fd, abi.VFIO_DEVICE_GET_REGION_INFO, short)
    assert (short.argsz, short.cap_offset) == (ctypes.sizeof(abi.RegionInfo) + 16, 0)


@pytest.mark.parametrize(("flags", "word", "count", "signals"), [
    (0x21, 0, 1, 1), (0x21, 0, 0, 1), (0x22, 1, 1, 1), (0x22, 0, 1, 0), (0x29, 0, 1, 1),
])  # fmt: skip
def test_loopback(channel: Channel, flags: int, word: int, count: int, signals: int) -> None:
    buffer = bytearray(struct.pack("=IIIII", 24, flags, 1, 0, count) + bytes([word, 0, 0, 0]))
    channel.host.ioctl(channel.fd, abi.VFIO_DEVICE_SET_IRQS, buffer)
    assert channel.crw.read() == signals


def test_without_an_eventfd_nothing_is_signalled(channel: Channel) -> None:
    channel.set_irq(0, -1)
    channel.set_irq(0, -1)
    channel.start(SENSE_ID)
    assert channel.io.read() == 0
    assert channel.irb().scsw.ok


def test_sense_id(channel: Channel) -> None:
    irb = channel.run(
        Program(PROGRAM).add(Command.NOP, CcwFlag.SLI, 1, DATA).add(Command.SENSE_ID, CcwFlag.SLI, 64, DATA)
    )
    assert irb.scsw.cpa == PROGRAM + 16
    assert irb.scsw.dstat == Dstat.CHANNEL_END | Dstat.DEVICE_END
    assert channel.get(DATA, 8) == bytes.fromhex("ff38320200000000")


@pytest.mark.parametrize(
    ("orb", "words", "size"),
    [
        (Orb(cpa=PROGRAM, pfch=True), (DATA + 0x7FC, DATA + 0x800), 4),
        (Orb(cpa=PROGRAM, pfch=True, c64=True, i2k=True), (DATA + 0x7FC, DATA + 0x800), 8),
        (Orb(cpa=PROGRAM, pfch=True, c64=True), (DATA + 0xFFC, DATA + 0x1000), 8),
    ],
)
def test_indirect_data(channel: Channel, orb: Orb, words: tuple[int, ...], size: int) -> None:
    channel.put(DATA + 0x4000, b"".join(word.to_bytes(size, "big") for word in words))
    channel.start(Ccw(Command.SENSE_ID, CcwFlag.SLI | CcwFlag.IDA, 64, DATA + 0x4000), orb=orb)
    assert channel.irb().scsw.ok
    assert channel.get(words[0], 8) == bytes.fromhex("ff38320200000000")


def test_data_across_pages_and_a_format_0_program(channel: Channel) -> None:
    ccw = Ccw(Command.SENSE_ID, CcwFlag.SLI, 64, DATA + 0xFFD, fmt=0)
    channel.start(ccw, orb=Orb(cpa=PROGRAM, fmt=0))
    assert channel.irb().scsw.ok
    assert channel.get(DATA + 0xFFD, 8) == bytes.fromhex("ff38320200000000")


@pytest.mark.parametrize("ccw", [
    Ccw(Command.SENSE_ID, CcwFlag.SLI, 0, 0x7000000),
    Ccw(Command.SENSE_ID, CcwFlag.SLI | CcwFlag.SKIP, 64, 0x7000000),
    Ccw(Command.NOP, CcwFlag.SLI, 1, 0x7000000),
])  # fmt: skip
def test_no_page_is_pinned_where_no_data_move(channel: Channel, ccw: Ccw) -> None:
    assert channel.start(ccw) == IO_SIZE
    assert channel.irb().scsw.ok


def test_a_tic_back_into_the_chain_belongs_to_it(channel: Channel) -> None:
    back = Ccw(Command.TIC, CcwFlag(0), 0, PROGRAM)
    channel.start(NOP, back, SENSE_ID)
    assert channel.io.read() == 0  # NOP, TIC, NOP, TIC ... without end
    assert Schib.from_bytes(channel.host.pread(channel.fd, 52, SCHIB)).scsw.actl & Actl.SUBCHANNEL_ACTIVE
    channel.halt()
    assert channel.io.read() == 1
    assert channel.irb().scsw.fctl & Fctl.HALT


def test_a_write_of_any_part_is_a_request(channel: Channel) -> None:
    channel.start(SENSE_ID)
    channel.io.read()
    assert channel.host.pwrite(channel.fd, bytes(4), IO) == 4
    assert channel.io.read() == 1
    # Without a function the word that was written for the result stays.
    with refused(errno.ENXIO):
        channel.host.pwrite(channel.fd, bytes(120) + struct.pack("=i", -errno.ENXIO), IO)
    assert channel.host.pwrite(channel.fd, bytes(120) + struct.pack("=i", 7), IO) == 7


def test_halt_and_clear_of_an_idle_device(channel: Channel) -> None:
    assert channel.halt() == 8
    assert channel.io.read() == 1
    assert channel.irb().scsw.fctl == Fctl.HALT
    assert channel.clear() == 8
    assert channel.irb().scsw.fctl == Fctl.CLEAR
    assert channel.irb().scsw.stctl == Stctl.PENDING


def test_the_schib_is_read_fresh(host: CcwHost, channel: Channel) -> None:
    schib = Schib.from_bytes(channel.host.pread(channel.fd, 52, SCHIB))
    assert (schib.pmcw.devno, schib.pmcw.ena, schib.pmcw.isc) == (0x1001, True, 3)
    channel.start(Ccw(0x6F, CcwFlag.SLI, 1, DATA))
    assert Schib.from_bytes(channel.host.pread(channel.fd, 52, SCHIB)).scsw.dstat == Dstat.UNIT_CHECK
    channel.close_device()
    cc, after = host.machine.css.stsch(BLK)
    assert cc == 0
    assert after is not None
    assert not after.pmcw.ena


def test_closing_stops_a_program_and_frees_everything(host: CcwHost) -> None:
    channel = host.open_channel()
    channel.start(SUSPENDED, orb=Orb(cpa=PROGRAM, pfch=True, spnd=True))
    channel.close_device()
    cc, schib = host.machine.css.stsch(BLK)
    assert schib is not None
    assert (cc, schib.pmcw.ena, int(schib.scsw.fctl)) == (0, False, 0)
    assert not host.machine.memory._blocks
    channel.close()
    assert host.read("0.0.0005/mdev_supported_types/vfio_ccw-io/available_instances") == "0\n"
    again = Channel(host.host)
    assert again.start(SENSE_ID) == IO_SIZE
    again.close_device()
    again.close()


def test_unmapping_the_memory_of_a_running_program_resets_the_device(channel: Channel) -> None:
    channel.map(channel.memory.address, 0x300000, 0x1000)
    channel.start(
        Ccw(Command.SENSE_ID, CcwFlag.SLI | CcwFlag.SUSPEND, 64, 0x300000), orb=Orb(cpa=PROGRAM, pfch=True, spnd=True)
    )
    with refused(errno.EBUSY):
        channel.start(SENSE_ID)
    assert channel.unmap(0x300000, 0x1000) == 0x1000
    assert channel.start(SENSE_ID) == IO_SIZE


def test_reset(channel: Channel) -> None:
    channel.start(SUSPENDED, orb=Orb(cpa=PROGRAM, pfch=True, spnd=True))
    assert channel.host.ioctl(channel.fd, abi.VFIO_DEVICE_RESET, 0) == 0
    assert channel.start(SENSE_ID) == IO_SIZE


def test_no_path_is_reported_with_a_deferred_condition_code(channel: Channel) -> None:
    channel.start(SENSE_ID, orb=Orb(cpa=PROGRAM, pfch=True, lpm=0x40))
    assert channel.irb().scsw.cc == 3
    channel.start(SENSE_ID, orb=Orb(cpa=PROGRAM, pfch=True, lpm=0))
    assert channel.irb().scsw.ok


def test_channel_path_reports(host: CcwHost, channel: Channel) -> None:
    assert channel.host.pread(channel.fd, 8, CRW) == bytes(8)
    with host.machine.lock:
        host.machine.css.set_path_online(0, 0, False)
        host.machine.css.set_path_online(0, 0, True)
    host.settle()
    assert channel.crw.read() >= 1
    crws = [Crw.from_bytes(channel.host.pread(channel.fd, 8, CRW)[:4]) for _ in range(2)]
    assert [(crw.rsc, crw.erc, crw.rsid) for crw in crws] == [(4, 6, 0), (4, 2, 0)]
    assert channel.crw.read() == 1
    assert channel.host.pread(channel.fd, 8, CRW) == bytes(8)


def test_a_subchannel_that_goes_away_while_it_is_open(host: CcwHost) -> None:
    channel = host.open_channel()
    host.heard()
    with host.machine.lock:
        host.machine.css.remove_subchannel(BLK)
    host.settle()
    assert channel.request.read() == 1
    assert (channel.io.read(), channel.crw.read()) == (0, 0)
    assert not host.exists(f"{CSS}/devices/0.0.0005")
    assert channel.host.pread(channel.fd, 8, CRW) == bytes(8)
    with refused(errno.ENODEV):
        channel.host.pread(channel.fd, 52, SCHIB)
    with refused(errno.EIO):
        channel.start(SENSE_ID)
    for command in (channel.halt, channel.clear):
        with refused(errno.EIO):
            command()
    with refused(errno.EINVAL):
        channel.host.ioctl(channel.fd, abi.VFIO_DEVICE_RESET, 0)
    channel.host.ioctl(channel.fd, abi.VFIO_DEVICE_GET_INFO, abi.DeviceInfo.sized())
    channel.close_device()
    channel.host.listdir("/sys")
    assert host.heard()[-4:] == [
        "remove css0/0.0.0005/66826a94-72c4-557f-beca-d135a70628e9",
        "change css0/0.0.0005",
        "unbind css0/0.0.0005",
        "remove css0/0.0.0005",
    ]
    channel.close()


def test_a_unit_check_brings_sense(channel: Channel) -> None:
    channel.start(Ccw(0x6F, CcwFlag.SLI, 1, DATA))
    irb = channel.irb()
    assert (irb.scsw.dstat, irb.scsw.cstat) == (Dstat.UNIT_CHECK, Cstat(0))
    assert irb.sense[0] == 0x80


def test_the_steps_of_the_kernel_can_be_watched(host: CcwHost, channel: Channel) -> None:
    steps: list[Step] = []
    host.machine.ccw_trace.append(steps.append)
    channel.run(Program(PROGRAM).add(Command.SENSE_ID, CcwFlag.SLI, 64, DATA + 0xFFD))
    assert [step.name for step in steps] == ["K1", "K2", "K3", "K4", "K5", "K6", "K7"]
    copy, translate, issue, answer, taken, fixed, _ = steps
    assert [str(line) for line in copy.program] == [f"0x11000: SENSE ID  e4 SLI count=64 @{DATA + 0xFFD:#x}"]
    assert translate.orb is not None
    assert translate.orb.c64
    (line,) = translate.program
    assert line.ccw.flags & CcwFlag.IDA
    page = host.machine.page_size
    assert [word % page for word in line.idaws] == [0xFFD, 0]
    assert (issue.condition_code, answer.result) == (0, 0)
    assert taken.irb is not None
    assert fixed.irb is not None
    assert (taken.irb.scsw.cpa, fixed.irb.scsw.cpa) == (translate.orb.cpa + 8, PROGRAM + 8)
    assert str(steps[0]).startswith("K1 ")


def test_the_volume_label_of_a_dasd(host: CcwHost) -> None:
    channel = host.open_channel("0.1.0001")
    search = PROGRAM + 8
    channel.put(DATA, bytes(6) + bytes(4) + b"\x03")  # cylinder 0, head 0, record 3
    program = (
        Program(PROGRAM)
        .add(0x07, CcwFlag(0), 6, DATA)
        .add(0x31, CcwFlag(0), 5, DATA + 6)
        .tic(search)
        .add(0x06, CcwFlag(0), 80, DATA + 0x100)
    )
    irb = channel.run(program)
    assert irb.scsw.ok, irb
    assert channel.get(DATA + 0x100, 10).decode("cp037") == "VOL10X3F3F"
    channel.close()


def test_open_files_of_a_module_are_counted(host: CcwHost) -> None:
    channel = host.open_channel()
    assert host.read("/sys/module/vfio_ccw/refcnt") == "1\n"
    channel.close_device()
    assert host.read("/sys/module/vfio_ccw/refcnt") == "0\n"
    assert os.path.basename(host.host.readlink("/sys/module/vfio_ccw/drivers/css:vfio_ccw")) == "vfio_ccw"
    channel.close()


def test_reading_a_whole_region_shows_the_answer(channel: Channel) -> None:
    channel.start(SENSE_ID)
    region = channel.host.pread(channel.fd, IO_SIZE, IO)
    assert region[12:24] == START
    assert Irb.from_bytes(region[24:120]).scsw.ok


def test_on_a_paced_machine_the_answer_comes_from_a_thread_that_ends_with_it() -> None:
    with CcwHost(paced=True) as host:
        channel = host.open_channel()
        for _ in range(3):
            channel.start(SENSE_ID)
            assert channel.io.wait(10) == 1
            assert channel.irb().scsw.ok
        channel.start(SUSPENDED, orb=Orb(cpa=PROGRAM, pfch=True, spnd=True))
        channel.close_device()
        channel.close()
    assert "pyvfio-machine" not in [thread.name for thread in threading.enumerate()]


def test_the_position_of_the_file_stays(channel: Channel) -> None:
    channel.start(SENSE_ID)
    first = channel.host.read(channel.fd, 12)
    assert first == channel.host.read(channel.fd, 12) == channel.host.pread(channel.fd, 12, IO)
    assert channel.host.write(channel.fd, first) == 12
    assert channel.host.write(channel.fd, first) == 12
    assert channel.io.read() == 3
