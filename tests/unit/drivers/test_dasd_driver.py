"""The DASD driver against the software machine's 3390: what it finds, blocks and tracks both ways, and refusals."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from dasd_machine import NUMBER, channel, disk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pyvfio
from pyvfio import CcwDevice
from pyvfio.css.irb import Irb
from pyvfio.css.scsw import Cstat, Dstat, Scsw
from pyvfio.drivers import AsyncDasd, Dasd, DasdFailed, LabelKind, TrackImage, TrackRecord
from pyvfio.drivers.layout import FILLER
from pyvfio.drivers.operations import Partition
from pyvfio.drivers.retries import Retries, with_sense
from pyvfio.drivers.vtoc import DataSet, TrackExtent, VolumeSpace
from pyvfio.errors import DeviceBusy, KernelRefused, MalformedAnswer, Misuse, NotAvailable
from pyvfio_backends.software.hardware.devices.ckd_image import create_image
from pyvfio_backends.software.hardware.devices.dasd import Dasd3390

FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SIZE = 4 * 1024


def taken(machine: str, number: str) -> list[str]:
    with pyvfio.Host("software", machine=machine) as host:
        pyvfio.ccw_take(host, number)
        with (
            pyvfio.open_device(host, number) as device,
            CcwDevice(device) as opened,
            Dasd(opened, name=number) as found,
        ):
            return found.messages()


# refusals


def test_another_device_is_none() -> None:
    with pyvfio.Host("software", machine="z15-lpar") as host:
        pyvfio.ccw_take(host, "0.0.0e00")
        with pyvfio.open_device(host, "0.0.0e00") as device, CcwDevice(device) as opened:
            with pytest.raises(Misuse, match="not an ECKD DASD"), Dasd(opened):
                pass
            assert device.space.mappings() == []


def test_before_online_and_after_close() -> None:
    with channel() as opened:
        closed = Dasd(opened)
        with pytest.raises(Misuse, match="it is not online"):
            _ = closed.characteristics
        with closed:
            pass
        with pytest.raises(Misuse, match="closed or was never set online"):
            closed.read_blocks(24)
        assert opened.device.space.mappings() == []


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (0, 8 * 15 * 12 + 1), (8 * 15 * 12, 1), (5, -1)])
def test_blocks_that_are_not_there(first: int, count: int) -> None:
    with disk() as found, pytest.raises(Misuse, match=r"it has 0 to 1439"):
        found.read_blocks(first, count)


def test_parts_of_a_block() -> None:
    with disk() as found, pytest.raises(Misuse, match="not whole blocks of 4096"):
        found.write_blocks(24, b"short")


def test_tracks_that_are_not_there() -> None:
    with disk() as found:
        for first, count in ((-1, 1), (119, 2), (120, 1)):
            with pytest.raises(Misuse, match="it has 0 to 119"):
                list(found.tracks(first, count))
            with pytest.raises(Misuse, match="it has 0 to 119"):
                found.format(first, count)
        with pytest.raises(Misuse, match="tracks 0 to 119"):
            found.write_track(TrackImage(8, 0, ()))


@pytest.mark.parametrize("words", [{"block_size": 4000}, {"kind": "xdl"}])
def test_a_format_that_linux_does_not_know(words: dict[str, object]) -> None:
    with disk() as found, pytest.raises(Misuse, match="layouts are cdl and ldl"):
        found.format(0, 1, **words)  # type: ignore[arg-type]


def test_a_read_only_volume_says_so() -> None:
    with disk(readonly=True) as found:
        with pytest.raises(DasdFailed, match="write inhibited") as caught:
            found.write_blocks(24, bytes(SIZE))
        assert caught.value.sense.write_inhibited
        assert caught.value.irb is not None
        assert caught.value.irb.scsw.dstat & Dstat.UNIT_CHECK
        assert caught.value.as_dict()["sense"] == caught.value.sense.raw.hex()
        assert found.read_blocks(24) == bytes(SIZE)


def test_a_track_that_does_not_fit() -> None:
    big = tuple(TrackRecord(1, 0, number, b"", bytes(30000)) for number in (1, 2))
    with disk() as found, pytest.raises(DasdFailed, match="invalid track format"):
        found.write_track(TrackImage(1, 0, big))


def test_a_disk_that_another_system_has(monkeypatch: pytest.MonkeyPatch) -> None:
    units: list[Dasd3390] = []
    begin = Dasd3390.__init__
    monkeypatch.setattr(Dasd3390, "__init__", lambda self, *a, **k: (begin(self, *a, **k), units.append(self))[0])
    with disk() as found:
        for unit in units:
            unit.reserve_elsewhere()
        found.timeout = 0.5
        with pytest.raises(DeviceBusy, match="another system may have reserved it"):
            found.read_blocks(24)


# what it finds


def test_it_says_what_a_guest_of_the_source_document_prints() -> None:
    assert taken("ccw-guest", "0.0.1234") == [
        "dasd-eckd 0.0.1234: A channel path to the device has become operational",
        "dasd-eckd 0.0.1234: New DASD 3390/0C (CU 3990/01) with 30051 cylinders, 15 heads, 224 sectors",
        "dasd-eckd 0.0.1234: DASD with 4 KB/block, 21636720 KB total size, 48 KB/track, compatible disk layout",
        " dasda:VOL1/  0X3F3F: dasda1",
    ]


def test_it_says_what_a_real_kernel_printed() -> None:
    """The lines of the golden file dasd-3390.jsonl (kmsg)."""
    assert taken("hercules-lab", "0.0.0a00") == [
        "dasd-eckd 0.0.0a00: A channel path to the device has become operational",
        "dasd-eckd 0.0.0a00: New DASD 3390/02 (CU 3990/02) with 1113 cylinders, 15 heads, 224 sectors",
        "dasd-eckd 0.0.0a00: DASD with 4 KB/block, 801360 KB total size, 48 KB/track, compatible disk layout",
        " dasda:VOL1/  LAB001:",
    ]


def test_an_unformatted_image(tmp_path: Path) -> None:
    create_image(tmp_path / "new.ckd", "3390-1", 3)
    with disk(image=str(tmp_path / "new.ckd")) as found:
        assert (found.layout, found.label, found.vtoc(), found.partitions()) == (None, None, [], [])
        assert found.messages()[-1] == f"dasd-eckd {NUMBER}: The DASD is not formatted"
        assert all(track.records == () for track in found.tracks(0, 45))
        with pytest.raises(Misuse, match="not formatted in blocks"):
            found.read_blocks(0)
        found.format()
        assert found.layout is not None
        assert str(found.layout) == "DASD with 4 KB/block, 2160 KB total size, 48 KB/track, compatible disk layout"
        shapes = [(len(one.key), len(one.data)) for one in found.read_track(0).records]
        assert shapes == [(4, 24), (4, 144), (4, 80), *[(0, SIZE)] * 9]
        assert [(len(one.key), len(one.data)) for one in found.read_track(1).records] == [(44, 96)] * 12


def test_both_paths_lead_to_the_disk() -> None:
    with disk() as found:
        assert found.paths == 0xC0
        assert str(found.configuration) == "IBM.75000000000001.0a00.00"


def test_a_volume_with_a_partition() -> None:
    with disk() as found:
        found.format(0, 2)
        volume = VolumeSpace.build(8, 15, 58786, TrackExtent(1, 0, (0, 1), (0, 1)), 9)
        part = DataSet.build("LINUX.VUNIT01.PART0001.NATIVE", "UNIT01", (0, 2), (7, 14), SIZE, 2026, 325)
        keys = [(b"IPL1", 24), (b"IPL2", 144)]
        first = [TrackRecord(0, 0, number, key, bytes(size)) for number, (key, size) in enumerate(keys, 1)]
        text = "VOL1".encode("cp037") + "UNIT01".encode("cp037") + b"\x40" + bytes.fromhex("0000000101")
        first.append(TrackRecord(0, 0, 3, "VOL1".encode("cp037"), text.ljust(80, b"\x40")))
        first += [TrackRecord(0, 0, number, b"", bytes(SIZE)) for number in range(4, 13)]
        found.write_track(TrackImage(0, 0, tuple(first)))
        table = [volume.raw, part.raw, *[bytes(140)] * 10]
        records = [TrackRecord(0, 1, number, raw[:44], raw[44:]) for number, raw in enumerate(table, 1)]
        found.write_track(TrackImage(0, 1, tuple(records)))
        found.online()
        assert found.label is not None
        assert (found.label.kind, found.label.vtoc) == (LabelKind.VOL1, (0, 1, 1))
        assert [one.dscb for one in found.vtoc()] == [volume, part]
        assert found.partitions() == [Partition(1, "LINUX.VUNIT01.PART0001.NATIVE", 24, 118 * 12)]
        assert found.messages()[-1] == " dasda:VOL1/  UNIT01: dasda1"
        found.write_track(TrackImage(0, 1, tuple(records[1:])))  # the label now points to nothing
        assert found.vtoc() == []
        swapped = TrackRecord(0, 1, 1, records[1].key, records[1].data)
        found.write_track(TrackImage(0, 1, (swapped,)))
        with pytest.raises(MalformedAnswer, match="no format-4 DSCB"):
            found.vtoc()


# blocks


def test_the_first_tracks_are_filled_up() -> None:
    with disk() as found:
        label = found.read_blocks(2)
        assert label[:8] == "VOL1VOL1".encode("cp037")
        assert label[84:] == FILLER * (SIZE - 84)


@pytest.mark.parametrize("kind", ["cdl", "ldl"])
@pytest.mark.parametrize("block_size", [512, SIZE])
def test_blocks_come_back(kind: str, block_size: int) -> None:
    with disk() as found:
        found.format(0, 30, kind=kind, block_size=block_size)
        layout = found.layout
        assert layout is not None
        assert (layout.kind, layout.block_size) == (kind, block_size)
        first = layout.first_plain
        data = bytes(number * 7 % 251 for number in range(block_size * layout.per_track * 3))
        found.write_blocks(first + 1, data)
        assert found.read_blocks(first + 1, layout.per_track * 3) == data
        assert b"".join(found.read_blocks(first + 1 + number) for number in range(20)) == data[: 20 * block_size]


def test_a_track_of_another_shape_is_an_error_not_other_data() -> None:
    with disk() as found:
        found.write_track(TrackImage(0, 3, (TrackRecord(0, 3, 1, b"", b"x" * 100),)))
        assert found.read_blocks(24, 12) == bytes(12 * SIZE)
        with pytest.raises(DasdFailed, match="incorrect length"):
            found.read_blocks(24, 36)


@FEW
@given(st.lists(st.tuples(st.integers(24, 130), st.binary(min_size=1, max_size=9), st.integers(1, 40)), max_size=6))
def test_random_writes_are_read_again(writes: list[tuple[int, bytes, int]]) -> None:
    expected = bytearray(180 * SIZE)
    with disk() as found:
        for first, pattern, count in writes:
            data = (pattern * (SIZE * count))[: SIZE * count]
            found.write_blocks(first, data)
            expected[first * SIZE : (first + count) * SIZE] = data
        assert found.read_blocks(24, 156) == bytes(expected[24 * SIZE :])


# tracks

RECORDS = st.lists(st.tuples(st.binary(max_size=255), st.binary(max_size=3000)), max_size=10)


@FEW
@given(RECORDS, st.integers(0, 7), st.integers(0, 14))
def test_tracks_come_back(parts: list[tuple[bytes, bytes]], cylinder: int, head: int) -> None:
    records = tuple(TrackRecord(cylinder, head, number, *part) for number, part in enumerate(parts, 1))
    image = TrackImage(cylinder, head, records)
    with disk() as found:
        found.write_track(image)
        assert found.read_track(cylinder * 15 + head) == image


# asyncio


def test_the_same_without_blocking() -> None:
    async def work(opened: CcwDevice) -> None:
        async with AsyncDasd(opened) as found:
            await found.write_blocks(30, b"a" * SIZE * 30)
            assert await found.read_blocks(24, 48) == bytes(6 * SIZE) + b"a" * SIZE * 30 + bytes(12 * SIZE)
            track = await found.read_track(3)
            await found.write_track(TrackImage(0, 4, track.records))
            assert (await found.read_track(4)).records == track.records
            assert await found.partitions() == before
            with pytest.raises(Misuse, match="whole blocks"):
                await found.write_blocks(30, b"a")
        with pytest.raises(Misuse, match="closed"):
            await found.read_blocks(24)

    with channel() as opened:
        with Dasd(opened) as found:
            before = found.partitions()
        asyncio.run(work(opened))


# retries


def status(sense: str = "", dstat: Dstat = Dstat.UNIT_CHECK, cstat: Cstat = Cstat(0)) -> Irb:  # noqa: B008
    irb = Irb(Scsw(dstat=Dstat.CHANNEL_END | Dstat.DEVICE_END | dstat, cstat=cstat))
    return with_sense(irb, bytes.fromhex(sense).ljust(32, b"\0")) if sense else irb


@pytest.mark.parametrize(
    ("irb", "again"),
    [
        (status("1000"), True),  # equipment check
        (status("0800"), True),  # data check
        (status("1080"), False),  # the same, permanent
        (status("000010"), True),  # environmental data
        (status("8000"), False),
        (status("0008"), False),
        (status("4000"), True),  # intervention required: somebody may make it ready
        (status("1002"), False),  # write inhibited
        (status(dstat=Dstat.BUSY), True),
        (status(dstat=Dstat(0), cstat=Cstat.INTERFACE_CONTROL_CHECK), True),
        (status(dstat=Dstat(0), cstat=Cstat.PROGRAM_CHECK), False),
        (status(dstat=Dstat(0)), False),  # it went well
    ],
)
def test_what_is_tried_again(irb: Irb, again: bool) -> None:
    assert (Retries(2, 5.0).pause(irb) is not None) is again


def test_it_is_not_tried_for_ever() -> None:
    tries = Retries(2, 0.0)
    assert [tries.pause(status("1000")) for _ in range(3)] == [0.0, 0.0, None]
    assert "tried 3 times" in str(tries.error("read", "x", status("1000")))
    assert Retries(2, 0.0).pause(status(dstat=Dstat.BUSY)) is None


def test_a_start_that_may_come_later_is_asked_again() -> None:
    tries = Retries(1, 1.0)
    assert tries.refused(KernelRefused("start", errno=11)) > 0
    with pytest.raises(KernelRefused):
        tries.refused(KernelRefused("start", errno=11))
    with pytest.raises(NotAvailable):
        Retries(5, 1.0).refused(NotAvailable("start", errno=6))
