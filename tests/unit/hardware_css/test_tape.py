"""The 3490 drive and the AWSTAPE files that it reads and writes."""

from __future__ import annotations

import os
import resource
import struct
from pathlib import Path

import pytest
from css_rig import DATA, SCHID, Bench
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvfio.css import Cstat, Dstat, Irb
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.devices.aws_tape import AwsTape
from pyvfio_backends.software.hardware.devices.ckd_image import BadImage
from pyvfio_backends.software.hardware.devices.tape import make_tape

ENDED = Dstat.CHANNEL_END | Dstat.DEVICE_END


def chunk(data: bytes, before: int, flags: int) -> bytes:
    return struct.pack("<HHBB", len(data), before, flags, 0) + data


class Drive:
    """A bench with a drive; each call is one command."""

    def __init__(self, path: Path | None, **options: object) -> None:
        self.unit = make_tape(image=str(path) if path else "", **options)  # type: ignore[arg-type]
        self.bench = Bench(self.unit)

    def do(self, code: int, data: bytes = b"", count: int = 1) -> Irb:
        self.bench.put(DATA, data.hex())
        return self.bench.start(f"{code:02x}20{len(data) or count:04x}{DATA:08x}")

    def read(self, count: int = 100) -> tuple[Irb, bytes]:
        irb = self.bench.start(f"0220{count:04x}{DATA + 0x100:08x}")
        return irb, bytes.fromhex(self.bench.data(count - irb.scsw.count, DATA + 0x100))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a.aws").write_bytes(b"")
    return tmp_path / "a.aws"


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"\0", "block 0 has no whole header"),
        (chunk(b"abc", 0, 0xA0)[:-1], "beyond the end of the file, 1 bytes"),
        (chunk(b"abc", 7, 0xA0), "7 bytes are before it, not 0"),
        (chunk(b"abc", 0, 0x80), "does not end"),
        (chunk(b"abc", 0, 0x20), "has not begun"),
        (chunk(b"abc", 0, 0x80) + chunk(b"d", 3, 0xA0), "within another"),
        (chunk(b"abc", 0, 0x40), "tape mark with data"),
        (chunk(b"abc", 0, 0x80) + chunk(b"", 3, 0x40), "within a block"),
        (chunk(b"abc", 0, 0xA1), "not modelled: a compressed tape (HET)"),
        (chunk(b"abc", 0, 0xA0) + chunk(b"abc", 3, 0xA2), "not modelled: a compressed tape (HET)"),
    ],
)
def test_what_is_no_tape(path: Path, content: bytes, cause: str) -> None:
    path.write_bytes(content)
    with pytest.raises(BadImage) as caught:
        AwsTape(path)
    assert cause in caught.value.cause
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="No such file"):
        make_tape(image=str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("code", "sense"),
    [
        (0x02, (0x10, 0x48, 0x36)),  # end of data
        (0x27, (0x00, 0x48, 0x39)),  # backward at the load point
        (0x2F, (0x00, 0x48, 0x39)),
        (0x0C, (0x00, 0x48, 0x39)),
        (0x37, (0x10, 0x48, 0x36)),
        (0x3F, (0x10, 0x48, 0x36)),
        (0x99, (0x80, 0x48, 0x27)),
        (0x97, (0x80, 0x48, 0x27)),  # not after ERASE GAP
        (0xE3, (0x80, 0x48, 0x27)),  # CONTROL ACCESS
        (0x3E, (0x80, 0x48, 0x27)),  # nothing was prepared
        (0x77, (0x80, 0x48, 0x27)),
        (0xB7, (0x80, 0x48, 0x27)),  # too few parameters
        (0xAF, (0x80, 0x48, 0x27)),
    ],
)
def test_what_an_empty_tape_cannot_do(path: Path, code: int, sense: tuple[int, int, int]) -> None:
    irb = Drive(path).do(code)
    assert irb.scsw.dstat == (Dstat.UNIT_CHECK if sense[0] == 0x80 else ENDED | Dstat.UNIT_CHECK)
    assert (irb.sense[0], irb.sense[1], irb.sense[3]) == sense
    assert (irb.sense[2], irb.sense[7], irb.sense[25], irb.sense[27]) == (0x20, 0x20, 0x06, 0xEC)


def test_no_tape_and_a_protected_one(path: Path) -> None:
    empty = Drive(None)
    for code in (0x01, 0x02, 0x07, 0x1F, 0x22):
        irb = empty.do(code)
        assert (irb.sense[0], irb.sense[3]) == (0x40, 0x43)
    assert empty.do(0x9F, b"HELLO").scsw.ok
    assert empty.unit.display == b"HELLO"
    protected = Drive(path, readonly=True)
    for code in (0x01, 0x1F, 0x17):
        irb = protected.do(code)
        assert (irb.sense[0], irb.sense[1] & 2, irb.sense[3]) == (0x80, 2, 0x30)
    assert path.read_bytes() == b""


def test_blocks_and_marks(path: Path) -> None:
    drive = Drive(path)
    assert drive.do(0x01, b"first").scsw.ok
    assert drive.do(0x01, b"second block").scsw.ok
    assert drive.do(0x1F).scsw.ok
    assert drive.do(0x01, b"other file").scsw.ok
    written = chunk(b"first", 0, 0xA0) + chunk(b"second block", 5, 0xA0) + chunk(b"", 12, 0x40)
    assert path.read_bytes() == written + chunk(b"other file", 0, 0xA0)


def test_reading_over_a_mark(path: Path) -> None:
    drive = Drive(path)
    for data in (b"first", b"second block"):
        drive.do(0x01, data)
    drive.do(0x1F)
    drive.do(0x01, b"other file")
    drive.do(0x07)
    irb, data = drive.read()
    assert (irb.scsw.dstat, irb.scsw.count, data) == (ENDED, 95, b"first")
    assert drive.read()[1] == b"second block"
    irb, data = drive.read()
    assert (irb.scsw.dstat, irb.scsw.count, data) == (ENDED | Dstat.UNIT_EXCEPTION, 100, b"")
    assert drive.read()[1] == b"other file"
    assert drive.read()[0].sense[3] == 0x36
    assert drive.do(0x2F).scsw.ok  # before the mark
    assert drive.do(0x27).scsw.ok
    assert drive.read()[1] == b"second block"
    assert drive.do(0x37).scsw.dstat == ENDED | Dstat.UNIT_EXCEPTION
    assert drive.do(0x27).scsw.dstat == ENDED | Dstat.UNIT_EXCEPTION
    assert drive.do(0x3F).scsw.ok
    irb = drive.bench.start(f"22000008{DATA:08x}")
    assert drive.bench.data(8) == "01000003" * 2
    assert drive.do(0x4F, bytes.fromhex("01000001")).scsw.ok
    assert drive.read()[1] == b"second block"
    assert drive.do(0x4F, b"\0").sense[3] == 0x27
    assert drive.do(0x4F, bytes.fromhex("00c00001")).sense[3] == 0x27
    irb = drive.do(0x4F, bytes.fromhex("00000099"))
    assert (irb.sense[1] & 0x80, irb.sense[3]) == (0x80, 0x44)
    irb = drive.do(0x02)
    assert (irb.sense[0], irb.sense[3]) == (0x12, 0x47), "fenced until it is rewound"
    assert drive.do(0x07).scsw.ok
    assert drive.read()[1] == b"first"


def test_lengths(path: Path) -> None:
    drive = Drive(path)
    drive.do(0x01, b"0123456789")
    drive.do(0x07)
    scsw = drive.bench.start(f"02000004{DATA:08x}").scsw
    assert (scsw.cstat, scsw.count) == (Cstat.INCORRECT_LENGTH, 0)
    drive.do(0x07)
    scsw = drive.bench.start(f"02000014{DATA:08x}").scsw
    assert (scsw.cstat, scsw.count) == (Cstat.INCORRECT_LENGTH, 10)


def test_a_write_cuts_off_what_was_behind(path: Path) -> None:
    drive = Drive(path)
    for data in (b"one", b"two", b"three"):
        drive.do(0x01, data)
    drive.do(0x4F, bytes(3) + b"\1")
    assert drive.do(0x1F).scsw.ok
    assert path.read_bytes() == chunk(b"one", 0, 0xA0) + chunk(b"", 3, 0x40)
    drive.do(0x07)
    drive.bench.put(DATA, "00")
    assert drive.bench.start("1760000100020000 9720000100020000").scsw.ok
    assert path.read_bytes() == b""


def test_the_end_of_the_tape(path: Path) -> None:
    drive = Drive(path, capacity=320)
    assert drive.do(0x01, bytes(200)).scsw.ok
    assert drive.do(0x01, bytes(110)).scsw.dstat == ENDED | Dstat.UNIT_EXCEPTION, "the logical end; it is written"
    assert drive.do(0x1F).scsw.dstat == ENDED | Dstat.UNIT_EXCEPTION
    assert drive.do(0x1F).scsw.dstat == ENDED | Dstat.UNIT_EXCEPTION
    irb = drive.do(0x01, b"x")
    assert irb.scsw.dstat == ENDED | Dstat.UNIT_EXCEPTION
    assert drive.do(0x01, b"x").sense[3] == 0x38
    assert len(AwsTape(path)) == 5


def test_unloading_and_loading(path: Path) -> None:
    drive = Drive(path)
    drive.do(0x01, b"kept")
    irb = drive.do(0x0F)
    assert (irb.scsw.dstat, irb.sense[0], irb.sense[3]) == (ENDED | Dstat.UNIT_CHECK, 0x40, 0x2B)
    assert drive.do(0x02).sense[3] == 0x43
    assert drive.do(0x03).sense[3] == 0x43
    unit = drive.unit
    unit.present = lambda dstat: drive.bench.css.present_status(SCHID, int(dstat))
    unit.load(AwsTape(path))
    drive.bench.clock.settle()
    assert drive.bench.irb().scsw.dstat == Dstat.DEVICE_END
    assert drive.read()[1] == b"kept"
    path.unlink()
    drive.do(0x07)
    assert drive.read()[0].sense[3] == 0x35


def test_a_block_of_several_chunks(path: Path) -> None:
    path.write_bytes(chunk(b"abc", 0, 0x80) + chunk(b"def", 3, 0x00) + chunk(b"g", 3, 0x20))
    assert AwsTape(path).read() == b"abcdefg"
    tape = AwsTape(path)
    tape.write(bytes(70000))
    tape.position = 0
    assert tape.read() == bytes(70000)
    assert AwsTape(path).read() == bytes(70000)


def test_reading_backward(path: Path) -> None:
    drive = Drive(path)
    drive.do(0x01, b"first")
    drive.do(0x1F)
    drive.do(0x01, b"second")
    irb = drive.bench.start(f"0c200006{DATA + 5:08x}")
    assert (irb.scsw.dstat, irb.scsw.count) == (ENDED, 0)
    assert bytes.fromhex(drive.bench.data(6)) == b"second", "as it is on the tape, from its end on"
    assert drive.do(0x0C).scsw.dstat == ENDED | Dstat.UNIT_EXCEPTION
    irb = drive.bench.start(f"0c000003{DATA + 2:08x}")
    assert (irb.scsw.cstat, bytes.fromhex(drive.bench.data(3))) == (Cstat.INCORRECT_LENGTH, b"rst")
    assert drive.do(0x0C).sense[3] == 0x39


def test_who_has_the_drive(path: Path) -> None:
    drive = Drive(path)
    group = bytes.fromhex("0011223344556677889900aa")
    assert drive.do(0xAF, group).scsw.ok
    assert drive.do(0xAF, group[:-1] + b"\xbb").sense[3] == 0x27
    assert drive.bench.start("3420000c00020000").scsw.ok
    assert drive.bench.data(12) == "c011223344556677889900aa"
    assert drive.bench.start("0360000100020000 3420000c00020000").scsw.ok
    assert drive.bench.start("3460000c00020000 0320000100020000").sense[3] == 0x27, "it has to be alone"
    assert drive.do(0xB7, bytes(11)).scsw.ok
    assert drive.do(0xB7, group[1:]).scsw.ok
    assert drive.do(0xB7, b"\1" * 11).sense[3] == 0x27
    assert drive.do(0xC7, bytes(11)).scsw.ok
    drive.unit.assign_elsewhere()
    irb = drive.do(0x07)
    assert (irb.scsw.dstat, irb.sense[0], irb.sense[3]) == (Dstat.UNIT_CHECK, 0x01, 0x45)
    assert drive.do(0x64, count=64).scsw.ok
    drive.unit.assign_elsewhere(False)
    assert drive.do(0x07).scsw.ok


def test_what_the_drive_says(path: Path) -> None:
    drive = Drive(path, serial=0x0580)
    assert drive.do(0x24, count=32).scsw.ok
    log = bytes.fromhex(drive.bench.data(32))
    assert (log[7], log[28:31].hex()) == (0x21, "005800")
    assert drive.do(0x64, count=64).scsw.ok
    assert drive.bench.data(12) == "349010349040000002c08080"
    assert drive.do(0xFA, count=160).scsw.ok
    assert bytes.fromhex(drive.bench.data(30)).decode("cp037")[4:] == "003490040IBM75000000000001"
    drive.bench.put(DATA, "18" + "00" * 5 + "03" + "00" * 5)
    assert drive.bench.start("7760000c00020000 3e20000900020100").scsw.ok
    assert drive.bench.data(9, 0x20100) == "000900000000000000"
    assert drive.do(0x9F, bytes.fromhex("20") + "MOUNT   TAPE    ".encode("cp037")).scsw.ok
    assert drive.unit.display_text == "MOUNT"
    assert drive.do(0x12, count=10).scsw.count == 10
    for code in (0x13, 0x5B, 0xCB, 0xD3, 0x43, 0xC3):
        assert drive.do(code).scsw.ok
    drive.bench.put(DATA, "10")
    assert drive.bench.start("db60000100020000 5b20000100020000").sense[3] == 0x27, "no supervisor commands"


def test_a_3480(path: Path) -> None:
    drive = Drive(path, model="3480")
    assert drive.bench.start("e420000700020000").scsw.ok
    assert drive.bench.data(7) == "ff348031348031"
    irb = drive.do(0x02)
    assert (irb.sense[0], irb.sense[3], irb.sense[27]) == (0x08, 0x31, 0xFC)
    assert drive.do(0xFA, count=160).sense[3] == 0x27
    with pytest.raises(Misuse):
        make_tape(model="3420")
    with pytest.raises(Misuse):
        make_tape(serial=1 << 16)


def test_a_file_that_changes_or_has_no_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = Drive(path)
    drive.do(0x01, b"a block of some length")
    os.truncate(path, 10)
    drive.do(0x07)
    assert drive.read()[0].sense[3] == 0x35
    path.write_bytes(b"")
    drive = Drive(path)
    assert drive.do(0x01, bytes(100)).scsw.ok
    before = path.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, limit[1]))
    try:
        irb = drive.do(0x01, bytes(100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert (irb.sense[0], irb.sense[3]) == (0x10, 0x38)
    assert path.read_bytes() == before
    assert drive.do(0x1F).scsw.ok
    assert len(AwsTape(path)) == 2


@given(
    raw=st.binary(max_size=80), commands=st.lists(st.tuples(st.integers(1, 255), st.binary(max_size=20)), max_size=8)
)
@settings(max_examples=80, deadline=None)
def test_nothing_does_harm(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, commands: list[tuple[int, bytes]]
) -> None:
    """Any bytes are a tape or are said not to be; any commands end, and leave a tape."""
    path = tmp_path_factory.mktemp("any") / "tape"
    path.write_bytes(raw)
    try:
        AwsTape(path)
    except BadImage:
        assert path.read_bytes() == raw
        path.write_bytes(chunk(b"block", 0, 0xA0))
    drive = Drive(path)
    for code, data in commands:
        if code & 0x0F not in (0, 8):
            irb = drive.do(code, data)
            assert irb.scsw.dstat
    AwsTape(path)


@given(st.lists(st.one_of(st.binary(max_size=50), st.none(), st.integers(0, 8)), max_size=25))
@settings(max_examples=60, deadline=None)
def test_against_a_list(tmp_path_factory: pytest.TempPathFactory, steps: list[bytes | int | None]) -> None:
    path = tmp_path_factory.mktemp("tape") / "a"
    path.write_bytes(b"")
    tape = AwsTape(path)
    model: list[bytes | None] = []
    for step in steps:
        if isinstance(step, int):
            tape.position = min(step, len(tape))
            continue
        del model[tape.position :]
        model.append(step)
        if step is None:
            tape.write_mark()
        else:
            tape.write(step)
    again = AwsTape(path)
    assert [again.read() for _ in range(len(again))] == model
