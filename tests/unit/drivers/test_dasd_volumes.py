"""Volumes made, checked, partitioned, copied and resumed by the DASD driver; the same for asyncio and for a guest."""

from __future__ import annotations

import asyncio
import inspect
import json
from pathlib import Path

import pytest
from dasd_machine import NUMBER, channel, disk, machine

import pyvfio
from pyvfio import CcwDevice
from pyvfio.channel_program import ProgramResult
from pyvfio.drivers import AsyncDasd, CkdFile, Dasd, FormatMode, GuestChannel, LabelKind, TrackImage, TrackRecord
from pyvfio.drivers.copy_state import CopyState
from pyvfio.drivers.failures import VerifyFailed
from pyvfio.drivers.ibm_partitions import Partition, scan, scan_blocks
from pyvfio.drivers.layout import DiskLayout, LayoutKind
from pyvfio.drivers.operations import Request
from pyvfio.drivers.track_work import TrackWork
from pyvfio.drivers.vtoc import DataSet, FreeTracks
from pyvfio.errors import Misuse
from pyvfio.passthrough import GuestChannelSubsystem, GuestMemory
from pyvfio_backends.software.hardware.devices.ckd_image import create_image
from pyvfio_backends.software.hardware.devices.eckd_volume import EmptyVolume

SIZE = 4 * 1024
FEW = 8 * 15


# refusals


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"serial": "TOOLONG"}, "1 to 6 characters"),
        ({"serial": "X", "kind": "ldl", "partition": True}, "needs a label and the compatible layout"),
        ({"serial": None, "partition": True}, "needs a label and the compatible layout"),
        ({"serial": "X", "block_size": 2048, "mode": "quick"}, "needs a disk that is formatted in this layout"),
    ],
)
def test_a_volume_that_cannot_be_made(words: dict[str, object], why: str) -> None:
    with disk() as found:
        with pytest.raises(Misuse, match=why):
            found.format_volume(**words)  # type: ignore[arg-type]
        assert found.label is not None
        assert found.label.volser == "UNIT01"


@pytest.mark.parametrize(
    "parts", [[(1, 5)], [(2, 9), (9, 20)], [(2, FEW)], [(5, 4)], [(2 + n, 2 + n) for n in range(20)]]
)
def test_partitions_that_cannot_be(parts: list[tuple[int, int]]) -> None:
    with disk() as found, pytest.raises(Misuse):
        found.write_partitions(parts)


def test_a_quick_format_looks_at_the_tracks() -> None:
    with disk() as found:
        found.write_track(TrackImage(5, 0, (TrackRecord(5, 0, 1, b"", b"other"),)))
        with pytest.raises(Misuse, match="track 75 is not formatted"):
            found.format_volume("X", mode="quick")


def test_what_comes_back_as_something_else_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with disk() as found:
        honest = TrackWork.read_tracks

        def wrong(self: TrackWork, first: int, count: int):  # type: ignore[no-untyped-def]
            images = yield from honest(self, first, count)
            return [TrackImage(one.cylinder, one.head, one.records[1:]) for one in images]

        image = found.read_track(3)
        monkeypatch.setattr(TrackWork, "read_tracks", wrong)
        with pytest.raises(VerifyFailed, match="track 3 is not what was written"):
            found.write_tracks([image], verify=True)


# volumes


@pytest.mark.parametrize("block_size", [512, 1024, 2048, SIZE])
@pytest.mark.parametrize("kind", ["cdl", "ldl"])
def test_a_volume_is_made(tmp_path: Path, kind: str, block_size: int) -> None:
    create_image(tmp_path / "raw.ckd", "3390-1", 3)
    steps: list[int] = []
    with disk(image=str(tmp_path / "raw.ckd")) as found:
        found.format_volume("NEW001", kind=kind, block_size=block_size, partition=kind == "cdl", progress=steps.append)
        assert sum(steps) == 45
        layout, label = found.layout, found.label
        assert layout is not None
        assert label is not None
        assert (layout.kind, layout.block_size) == (kind, block_size)
        assert (label.kind, label.volser) == (LabelKind.VOL1 if kind == "cdl" else LabelKind.LNX1, "NEW001")
        assert list(found.check()) == []
        first = 2 * layout.per_track if kind == "cdl" else 3
        assert [(one.first, one.count) for one in found.partitions()] == [(first, layout.blocks - first)]
        assert found.messages()[-1] == f" dasda:{'VOL1' if kind == 'cdl' else 'LNX1'}/  NEW001: dasda1"
        found.write_blocks(first, b"d" * block_size)
        found.format_volume("NEW002", kind=kind, block_size=block_size, mode=FormatMode.QUICK)
        assert found.read_blocks(first) == b"d" * block_size or kind == "ldl"
        assert found.label is not None
        assert found.label.volser == "NEW002"
        found.relabel("NEW003")
        assert found.label.volser == "NEW003"


def test_formatting_goes_on_behind_what_is_formatted(tmp_path: Path) -> None:
    create_image(tmp_path / "raw.ckd", "3390-1", 3)
    with disk(image=str(tmp_path / "raw.ckd")) as found:
        found.format(0, 20)
        assert [one.track for one in found.check()] == list(range(20, 45))
        steps: list[int] = []
        found.format_volume("X", mode="expand", progress=steps.append)
        assert sum(steps) == 25
        assert list(found.check()) == []


def test_formatting_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    create_image(tmp_path / "raw.ckd", "3390-1", 5)

    def stop(step: int) -> None:
        steps.append(step)
        if sum(steps) >= 40:
            raise KeyboardInterrupt

    steps: list[int] = []
    with disk(image=str(tmp_path / "raw.ckd")) as found:
        with pytest.raises(KeyboardInterrupt):
            found.format_volume("X", progress=stop)
        found.online()
        assert (found.layout, found.label) == (None, None)
        with pytest.raises(Misuse, match="is not formatted in this layout"):
            found.format_volume("X", mode="quick")
        found.format(2 + sum(steps))
        found.format_volume("X", mode="quick")
        assert list(found.check()) == []
        assert found.label is not None


def test_checking_says_what_is_wrong() -> None:
    with disk() as found:
        records = found.read_track(7).records
        found.write_track(TrackImage(0, 7, records[:5]))
        found.write_track(TrackImage(0, 9, ()))
        found.write_track(TrackImage(1, 0, (TrackRecord(1, 0, 1, b"key", b""),)))
        assert [(one.track, one.words) for one in found.check()] == [
            (7, "it has 5 records, not 12"),
            (9, "it has 0 records, not 12"),
            (15, "record 1 has key length 3 and data length 0"),
        ]


def test_several_partitions_and_a_large_volume() -> None:
    with disk(cylinders=5000) as found:
        found.write_partitions([(2, 100), (200, 300), (301, 74999)])
        assert [(one.number, one.first // 12, one.count // 12) for one in found.partitions()] == [
            (1, 2, 99),
            (2, 200, 101),
            (3, 301, 74699),
        ]
        assert found.messages()[-1] == " dasda:VOL1/  UNIT01: dasda1 dasda2 dasda3"
        dscbs = [one.dscb for one in found.vtoc()]
        assert [one.format for one in dscbs] == ["4", "5", "7", "1", "1", "1"]
        assert isinstance(dscbs[2], FreeTracks)
        assert dscbs[2].free == ((101, 200),)
        names = [one.name for one in dscbs if isinstance(one, DataSet)]
        assert names[1] == "LINUX.VUNIT01.PART0002.NATIVE"


# the kernel's rules

CDL = DiskLayout(LayoutKind.CDL, SIZE, 12, 45)


def found_in(layout: DiskLayout, blocks: dict[int, bytes]) -> tuple[list[str], tuple[Partition, ...]]:
    found = scan_blocks(scan(layout, 3, 15), lambda number: blocks.get(number, bytes(SIZE)))
    return found.lines("dasdb"), found.partitions


def test_without_a_label() -> None:
    assert found_in(CDL, {}) == ([" dasdb:"], ())
    layout = DiskLayout(LayoutKind.LDL, SIZE, 12, 45)
    assert found_in(layout, {}) == ([" dasdb:(nonl) dasdb1"], (Partition(1, "", 3, 537),))


@pytest.mark.parametrize("form", "4579")
def test_what_is_passed_over(form: str) -> None:
    label = EmptyVolume("SCAN01", 3).read(0, 0).records[3]
    part = DataSet.build("P", "SCAN01", (0, 2), (2, 14), SIZE, 2026, 1).raw
    other = bytes(44) + form.encode("cp037") + bytes(95)
    blocks = {2: label.key + label.data, 13: other, 14: part, 16: part}
    assert found_in(CDL, blocks)[0] == [" dasdb:VOL1/  SCAN01: dasdb1"]
    blocks[15] = bytes(44) + "3".encode("cp037") + bytes(95)  # this ends it
    assert len(found_in(CDL, blocks)[1]) == 1


def test_a_block_that_cannot_be_read() -> None:
    label = EmptyVolume("SCAN01", 3).read(0, 0).records[3]
    found = scan_blocks(scan(CDL, 3, 15), {2: label.key + label.data}.get)
    assert found.lines("dasdb") == [" dasdb:VOL1/  SCAN01:", " unable to read partition table"]


def test_minidisks_of_cms() -> None:
    layout = DiskLayout(LayoutKind.LDL, SIZE, 12, 45)
    words = ["CMS1".encode("cp037"), "CMS001".encode("cp037"), bytes(2), SIZE.to_bytes(4, "big"), bytes(12)]
    head = b"".join([*words, (500).to_bytes(4, "big")]).ljust(52, b"\0")
    assert found_in(layout, {2: (head + (40).to_bytes(4, "big")).ljust(SIZE, b"\0")}) == (
        [" dasdb:CMS1/  CMS001(MDSK): dasdb1"],
        (Partition(1, "CMS001", 40, 459),),
    )
    assert found_in(layout, {2: head.ljust(SIZE, b"\0")}) == (
        [" dasdb:CMS1/  CMS001: dasdb1"],
        (Partition(1, "CMS001", 3, 497),),
    )


# copies


def _stopped(state: CopyState, image: CkdFile) -> None:
    with state.kept(0, FEW, image.flush) as told:
        told(30)
        raise Misuse("stop")


def test_a_copy_can_be_verified_and_resumed(tmp_path: Path) -> None:
    with disk() as found:
        found.write_blocks(24 * 5, b"c" * SIZE * 12)
        with CkdFile.create(tmp_path / "a.ckd", 0x3390, 8) as image:
            state = CopyState(tmp_path / "a.ckd", str(found.configuration), "to image")
            with pytest.raises(Misuse, match="30 of 120 tracks were copied; --resume goes on with track 30"):
                _stopped(state, image)
            assert json.loads((tmp_path / "a.ckd.copy").read_text())["first"] == 30
            assert state.load() == (30, 90)
            with pytest.raises(Misuse, match="that copy's disk is"):
                CopyState(tmp_path / "a.ckd", "OTHER", "to image").load()
            found.copy_to(image, 0, None, verify=True)
            with state.kept(30, 90, image.flush):
                pass
            with pytest.raises(Misuse, match="no copy was interrupted"):
                state.load()
        with CkdFile(tmp_path / "a.ckd") as image:
            assert image.read(10) == found.read_track(10)
            before = [found.read_track(number) for number in range(20)]
            found.write_blocks(24, b"x" * SIZE * 40)
            done: list[int] = []
            found.copy_from(image, verify=True, changed=True, progress=done.append)
            assert sum(done) == FEW
            assert [found.read_track(number) for number in range(20)] == before


# asyncio


def test_it_has_every_method_of_the_other() -> None:
    for name, method in inspect.getmembers(Dasd, inspect.isfunction):
        if name.startswith("_"):
            continue
        other = getattr(AsyncDasd, name)
        assert list(inspect.signature(other).parameters) == list(inspect.signature(method).parameters), name


def test_volumes_without_blocking(tmp_path: Path) -> None:
    async def work(opened: CcwDevice) -> None:
        async with AsyncDasd(opened, name=NUMBER) as found:
            assert await found.partitions() == []
            await found.format_volume("ASYNC1", partition=True)
            assert (await found.messages())[-1] == " dasda:VOL1/  ASYNC1: dasda1"
            assert [one async for one in found.check()] == []
            assert [one.head async for one in found.tracks(0, 3)] == [0, 1, 2]
            async with found.reserved():
                await found.write_blocks(24, b"r" * SIZE, verify=True)
            with CkdFile.create(tmp_path / "a.ckd", 0x3390, 8) as image:
                await found.copy_to(image)
                await found.copy_from(image, changed=True)

    with channel() as opened:
        asyncio.run(work(opened))


# reservations


def test_reservations() -> None:
    with disk() as found:
        assert found.work.grouped
        with found.reserved():
            found.write_blocks(24, b"r" * SIZE)
        found.steal()
        found.release()
        assert found.read_blocks(24) == b"r" * SIZE


# a guest


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_guest_drives_the_same_disk(asynchronous: bool) -> None:
    async def work(guest: GuestChannel) -> None:
        async with AsyncDasd(guest) as found:
            await found.format_volume("GUEST1", partition=True)
            await found.write_blocks(24, b"g" * SIZE * 30, verify=True)
            assert await found.read_blocks(24, 48) == b"g" * SIZE * 30 + bytes(SIZE * 18)

    with (
        pyvfio.open_backend("software", machine=machine()) as backend,
        pyvfio.Host(backend) as host,
        GuestMemory(16 << 20) as memory,
        GuestChannelSubsystem(memory) as css,
    ):
        pyvfio.ccw_take(host, NUMBER)
        schid = css.attach(pyvfio.open_device(host, NUMBER), "0.0.1234")
        guest = GuestChannel(css, schid, memory, 0x10000, wait=css.wait)
        if asynchronous:
            asyncio.run(work(guest))
        with Dasd(guest) as found:
            if not asynchronous:
                found.format_volume("GUEST1", partition=True)
                found.write_blocks(24, b"g" * SIZE * 30, verify=True)
            assert found.read_blocks(24, 30) == b"g" * SIZE * 30
            assert found.messages()[-1] == " dasda:VOL1/  GUEST1: dasda1"
            assert found.characteristics.cylinders == 8
        with pytest.raises(Misuse, match="below 2 GiB"):
            GuestChannel(css, schid, memory, 0x7FFF_F000).prepare(1 << 20)


# speed


def test_whole_tracks_are_read_in_few_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_image(tmp_path / "raw.ckd", "3390-1", 10)
    with disk(image=str(tmp_path / "raw.ckd")) as found:
        found.format()
        data = bytes(number % 251 for number in range(SIZE * 12)) * 40
        found.write_blocks(24, data)
        started: list[str] = []
        perform = Dasd._perform

        def counted(self: Dasd, request: Request) -> ProgramResult:
            started.append(request.words)
            return perform(self, request)

        monkeypatch.setattr(Dasd, "_perform", counted)
        assert found.read_blocks(24, 480) == data
        assert started == ["read tracks 2 to 33", "read tracks 34 to 41"]
