"""The channel-attached devices: what each refuses, then what it answers."""

from __future__ import annotations

import pytest
from css_rig import DATA, SCHID, Bench

from pyvfio.css import Cstat, Dstat, SenseId
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.css import VIRTUAL, ControlUnit
from pyvfio_backends.software.hardware.devices.dasd import Dasd3390
from pyvfio_backends.software.hardware.devices.echo import Echo
from pyvfio_backends.software.hardware.devices.eckd_volume import EmptyVolume
from pyvfio_backends.software.hardware.devices.qdio import fcp, osa
from pyvfio_backends.software.hardware.devices.terminal3270 import Terminal3270
from pyvfio_backends.software.hardware.devices.virtio_ccw import VirtioCcw
from pyvfio_backends.software.hardware.devices.virtio_models import (
    virtio_9p,
    virtio_blk,
    virtio_console,
    virtio_rng,
)

ENDED = Dstat.CHANNEL_END | Dstat.DEVICE_END
CHECKED = ENDED | Dstat.UNIT_CHECK
#: DEFINE EXTENT for the whole volume, writes inhibited; LOCATE RECORD for cylinder 0 head 0 record 3, one read.
DX = "40c0000000000000 00000000 7562000e"
LR = "06000001 00000000 0000000003 ff 0000"


def located(read: str, dx: str = DX, lr: str = LR) -> tuple[Bench, str]:
    bench = Bench(Dasd3390())
    bench.put(DATA, dx)
    bench.put(DATA + 0x10, lr)
    return bench, f"6340001000020000 4740001000020010 {read}"


@pytest.mark.parametrize(
    ("volser", "cylinders"), [("", 10), ("TOOLONG", 10), ("VOL001", 0), ("VOL001", 65521), ("中", 10)]
)
def test_a_volume_that_cannot_be(volser: str, cylinders: int) -> None:
    with pytest.raises(Misuse):
        EmptyVolume(volser, cylinders)


@pytest.mark.parametrize("code", ["05", "0d", "11", "15", "19", "1d", "85", "8d", "9d"])
def test_a_read_only_disk_takes_no_writes(code: str) -> None:
    irb = Bench(Dasd3390()).start(f"{code}20001000020000")
    assert irb.scsw.dstat == CHECKED
    assert irb.sense[:2].hex() == "8002"


@pytest.mark.parametrize(
    ("command", "parameters", "sense"),
    [
        ("9920000800020000", "", "8000000000000001"),  # unknown command
        ("4720001000020000", LR, "8000000000000002"),  # LOCATE RECORD without an extent
        ("de20001000020000", "", "8000000000000002"),  # READ TRACK without a domain
        ("6320001000020000", "40c0" + "00" * 6 + "00000000 7563000e", "8000000000000004"),  # beyond the volume
        ("6320001000020000", "40c0" + "00" * 6 + "00000000 0000000f", "8000000000000004"),  # no such head
        ("6320001000020000", "40c0" + "00" * 6 + "00010000 00000000", "8000000000000004"),  # backwards
        ("6320001000020000", "4000" + "00" * 6 + "00000000 00000000", "8000000000000004"),  # not extended CKD
        ("6320000800020000", DX, "8000000000000003"),  # too few parameters
        ("0720000600020000", "000075630000", "8000000000000004"),  # SEEK beyond the volume
        ("0720000600020000", "00000000000f", "8000000000000004"),
        ("0720000600020000", "010000000000", "8000000000000004"),
        ("0720000200020000", "0000", "8000000000000003"),
    ],
)
def test_the_disk_refuses(command: str, parameters: str, sense: str) -> None:
    bench = Bench(Dasd3390())
    bench.put(DATA, parameters)
    irb = bench.start(command)
    assert irb.scsw.dstat == CHECKED
    assert irb.sense[:8].hex() == sense


@pytest.mark.parametrize(
    ("dx", "lr", "sense"),
    [
        (DX, "3f" + LR[2:], "8000000000000004"),  # unknown operation
        (DX, LR.replace("06000001", "06000000", 1), "8000000000000004"),  # count 0
        (DX, LR.replace("06000001", "06000101", 1), "8000000000000004"),  # byte 2
        (DX, LR[:-4] + "0010", "8000000000000004"),  # length factor without its flag
        (DX, LR.replace("ff 0000", "e0 0000"), "8000000000000004"),  # no such sector
        (DX, "86800001" + LR[8:], "8000000000000004"),  # length factor 0
        (DX, "4601" + LR[4:], "8000000000000004"),  # READ COUNT suffixed to a read of data
        (DX, "c6" + LR[2:], "8000000000000004"),  # read data cannot orient to the index
        (DX, "00" + LR[2:], "8000000000000004"),  # orient has no transfers
        (DX, "46" + LR[2:].replace("0000000003", "0000000103"), "0008000000000000"),  # another home address
        (DX, LR.replace(" 00000000 ", " 0000000f "), "8000000000000004"),  # no such head
        ("80" + DX[2:], LR.replace("06000001", "01000001", 1), "8002000000000000"),  # a read-only disk
        (DX.replace("7562000e", "00000000"), LR.replace(" 00000000 ", " 00000001 "), "0004000000000000"),
        (DX, LR.replace("0000000003", "0000000063"), "0008000000000000"),  # no such record
    ],
)
def test_locate_record_refuses(dx: str, lr: str, sense: str) -> None:
    bench, program = located("0620005000020100", dx, lr)
    irb = bench.start(program)
    assert (irb.scsw.dstat, irb.scsw.cpa) == (CHECKED, 0x11010)
    assert irb.sense[:8].hex() == sense


def test_the_domain_has_to_be_used_up_exactly() -> None:
    bench, program = located("0620005000020100", lr=LR.replace("06000001", "06000002", 1))
    assert bench.start(program).sense[:1].hex() == "81"
    bench, program = located("0660005000020100 0620005000020200")
    assert bench.start(program).scsw.ok, "behind the domain a read takes the next record"
    for command in ("0320000100020000", "0420002000020100", "e420000700020100", "6420004000020100", "fa20010000020100"):
        bench, program = located(command)
        assert bench.start(program).sense[:8].hex() == "8000000000000002"
    bench, program = located("6320001000020000")
    assert bench.start(program).sense[:8].hex() == "8000000000000002"


def test_the_end_of_the_last_head() -> None:
    bench = Bench(Dasd3390())
    bench.put(DATA, "00000000000e")
    chain = "".join("9260000800020100" for _ in range(13))
    irb = bench.start("0740000600020000" + chain)
    assert irb.sense[:2].hex() == "0020"
    assert irb.scsw.cpa == 0x11000 + 14 * 8


@pytest.mark.parametrize("code", ["06", "0e", "12", "1e", "86", "92"])
def test_reads_wander_over_tracks_for_ever(code: str) -> None:
    """A chain of reads that loops never hangs the machine, and ends only by end of cylinder."""
    bench = Bench(Dasd3390())
    bench.put(0x11000, f"0740000600020008 {code}60000100020000 0800000000011008")
    assert bench.ssch() == 0
    bench.clock.settle()
    cc, irb = bench.css.tsch(SCHID)
    if code in ("86", "92"):
        assert irb.sense[:2].hex() == "0020"
    elif code == "12":
        assert irb.sense[:2].hex() == "0008", "a read of counts alone passes the index twice only"
    else:
        assert cc == 1
        bench.css.csch(SCHID)
        bench.clock.settle()
        assert bench.css.tsch(SCHID)[0] == 0


def test_the_volume_label() -> None:
    bench, program = located("0600005000020100")
    scsw = bench.start(program).scsw
    assert (scsw.dstat, scsw.cstat, scsw.count, scsw.cpa) == (ENDED, 0, 0, 0x11018)
    label = bytes.fromhex(bench.data(80, 0x20100)).decode("cp037")
    assert label[:10] == "VOL10X3F3F"
    assert bench.data(16, 0x20100) == "e5d6d3f1f0e7f3c6f3c6400000000101"


def test_the_disk_says_what_it_is() -> None:
    bench = Bench(Dasd3390())
    assert bench.start("e420000c00020000").scsw.ok
    assert bench.data(12) == "ff3990e933900c0040fa0100"
    assert bench.start("6400004000020000").scsw.ok
    rdc = bytes.fromhex(bench.data(64))
    assert rdc[:6].hex() == "3990e933900c"
    assert (int.from_bytes(rdc[12:14], "big"), rdc[15], rdc[16]) == (30051, 15, 224)
    assert bench.start("fa00010000020000").scsw.ok
    assert bytes.fromhex(bench.data(30)).decode("cp037")[4:] == "  339000CIBM75000000000001"
    assert "0X3F3F of 30051 cylinders" in str(bench.device)


def test_other_tracks_hold_twelve_blocks() -> None:
    bench = Bench(Dasd3390())
    bench.put(DATA, "000075620003")
    counts = "".join(f"1260000800{0x20100 + 8 * n:06x}" for n in range(12))
    scsw = bench.start("0740000600020000" + counts + "0620100000030000").scsw
    assert scsw.ok
    assert bench.data(8, 0x20100 + 88) == "756200030c001000"


def test_path_groups_are_kept() -> None:
    bench = Bench(Dasd3390())
    bench.put(DATA, "8000112233445566778899aa")
    assert bench.start("af40000c00020000 3400000c00020100").scsw.ok
    assert bench.data(12, 0x20100) == "c800112233445566778899aa", "grouped, multipath"
    bench.put(DATA, "80ff112233445566778899aa")
    assert bench.start("af40000c00020000 3400000c00020100").sense[:1].hex() == "80", "in another group"
    for function, state in (("40", "80"), ("20", "00")):
        bench.put(DATA, function)
        assert bench.start("af40000c00020000 3400000c00020100").scsw.ok
        assert bench.data(12, 0x20100) == state + "00" * 11


def test_an_echo_keeps_no_more_than_its_size() -> None:
    bench = Bench(Echo(size=4))
    scsw = bench.start("0100000600020000").scsw
    assert (scsw.cstat, scsw.count) == (Cstat.INCORRECT_LENGTH, 2)


@pytest.mark.parametrize(
    ("device", "data", "text"),
    [
        (osa(), "ff173101173201", "OSA 1732/01 (1731/01), queues not modelled"),
        (fcp(), "ff173103173203", "FCP 1732/03 (1731/03), queues not modelled"),
        (Terminal3270(), "ff327000000000", "3270 terminal 3270/00, connected"),
        (virtio_blk(), "ff383202000000", "virtio-ccw 3832/02, revision open, status 00"),
        (virtio_console(), "ff383203000000", "virtio-ccw 3832/03, revision open, status 00"),
        (virtio_rng(), "ff383204000000", "virtio-ccw 3832/04, revision open, status 00"),
        (virtio_9p("lab"), "ff383209000000", "virtio-ccw 3832/09, revision open, status 00"),
        (ControlUnit(SenseId(0x1234, 5)), "ff123405000000", "control unit 1234/05"),
    ],
)
def test_sense_id(device: ControlUnit, data: str, text: str) -> None:
    bench = Bench(device)
    assert str(device) == text
    assert bench.start("e420000700020000").scsw.ok
    assert bench.data(7) == data


def test_queues_are_not_modelled() -> None:
    assert Bench(osa(), qdio=True).start("1b20004000020000").sense[:1].hex() == "80"
    assert Bench(osa(), qdio=True).schib().pmcw.qf


class Virtio:
    """A virtio device on a virtual channel subsystem; `do` runs one command."""

    def __init__(self, device: VirtioCcw, revision: int | None = 2) -> None:
        self.bench = Bench(device, VIRTUAL)
        if revision is not None:
            assert self.do("83", f"{revision:04x}0000") == (ENDED, 0)

    def do(self, code: str, data: str = "", count: int | None = None, sli: bool = False) -> tuple[Dstat, Cstat]:
        size = len(data) // 2 if count is None else count
        self.bench.put(DATA, data)
        scsw = self.bench.start(f"{code}{0x20 if sli else 0:02x}{size:04x}00020000").scsw
        return scsw.dstat, scsw.cstat

    def data(self, count: int) -> str:
        return self.bench.data(count)


CHECK = (Dstat(0), Cstat.PROGRAM_CHECK)
REJECT = (Dstat.UNIT_CHECK, Cstat(0))
DONE = (ENDED, Cstat(0))


@pytest.mark.parametrize(
    ("code", "data"),
    [
        ("11", "00000000"),
        ("12", "00000000"),
        ("12", "000000000000"),
        ("13", "00" * 16),
        ("31", "0000"),
        ("32", "00"),
        ("43", "00"),
        ("73", "00"),
        ("22", "00" * 61),
        ("21", "00" * 61),
        ("72", "00" * 2),
        ("83", "0002"),
        ("83", "00020000ff"),
        ("13", "00" * 12 + "0400" + "0000" + "00" * 16),  # no device can have this queue
        ("13", "00" * 7 + "01" + "00" * 4 + "0001" + "0080" + "00" * 16),  # this one has it not
        ("13", "00" * 7 + "01" + "00" * 4 + "0000" + "0200" + "00" * 16),  # larger than it can be
    ],
)
def test_virtio_checks_lengths(code: str, data: str) -> None:
    assert Virtio(virtio_blk()).do(code, data) == CHECK


@pytest.mark.parametrize(("code", "data"), [("99", "00"), ("83", "00010000")])
def test_virtio_rejects(code: str, data: str) -> None:
    assert Virtio(virtio_blk()).do(code, data, sli=True) == REJECT


def test_virtio_revision() -> None:
    virtio = Virtio(virtio_blk(), revision=None)
    assert virtio.do("83", "00630000") == REJECT
    assert virtio.do("6f", "00", sli=True) == REJECT
    assert virtio.do("83", "00020000") == REJECT  # the command before it fixed revision 0
    virtio.bench.enable(False)
    virtio.bench.enable()
    assert virtio.do("83", "00020000") == DONE
    assert virtio.do("33") == DONE
    assert virtio.do("83", "00020000") == REJECT


def test_virtio_features_need_a_revision() -> None:
    legacy = Virtio(virtio_blk(), revision=0)
    assert legacy.do("12", "0000000001") == DONE
    assert legacy.data(4) == "00000000"
    modern = Virtio(virtio_rng())
    assert modern.do("12", "0000000000") == DONE
    assert modern.data(4) == "00000030"
    assert modern.do("12", "0000000001") == DONE
    assert modern.data(4) == "01010000"


def test_virtio_configuration_changes_endianness_with_version_1() -> None:
    virtio = Virtio(virtio_blk())
    assert virtio.do("22", "00" * 8) == DONE
    assert virtio.data(8) == "0000000000000800"
    assert virtio.do("11", "0100000001") == DONE
    assert virtio.do("22", "00" * 8) == DONE
    assert virtio.data(8) == "0008000000000000"
    assert virtio.do("21", "0010") == DONE  # the capacity is not the driver's to change
    assert virtio.do("22", "00" * 8) == DONE
    assert virtio.data(8) == "0008000000000000"


def test_virtio_status_and_queues() -> None:
    device = virtio_blk()
    virtio = Virtio(device)
    for status in ("01", "03", "0b", "0f"):
        assert virtio.do("31", status) == DONE
        assert virtio.do("72", "ee") == DONE
        assert virtio.data(1) == status
    assert (
        virtio.do("13", "0000000000100000 00000000 0000 0080 0000000000200000 0000000000300000".replace(" ", ""))
        == DONE
    )
    queue = device.queues[0]
    assert (queue.desc, queue.size, queue.avail, queue.used) == (0x100000, 0x80, 0x200000, 0x300000)
    assert virtio.do("43", "00" * 8) == DONE
    assert virtio.do("53", "00" * 8) == DONE
    assert virtio.do("73", "00" * 25) == REJECT  # one kind excludes the other
    assert set(device.indicators) == {"classic", "configuration"}
    assert virtio.do("31", "00") == DONE
    assert virtio.do("73", "00" * 25) == DONE
    assert virtio.do("43", "00" * 8) == REJECT
    assert virtio.do("33") == DONE
    assert (device.status, device.indicators, device.queues[0].size) == (0, {}, 256)


def test_virtio_disk_sizes() -> None:
    for size in (0, 511, -512):
        with pytest.raises(Misuse):
            virtio_blk(size)
    assert virtio_blk(512 * 100).config[:8].hex() == "0000000000000064"
    assert len(virtio_blk().config) == 57
    wrong = ({"block_size": 1000}, {"block_size": 256}, {"queues": 0}, {"queues": 64})
    for options in wrong:
        with pytest.raises(Misuse):
            virtio_blk(**options)
    assert virtio_blk(1 << 23, 4096, 4).config[8:24].hex() == "00000000000000fe0010103800001000"
