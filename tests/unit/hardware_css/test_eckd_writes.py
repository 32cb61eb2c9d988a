"""What a 3390 writes, what it refuses to write, and that all of it is on the volume: in memory and in an image."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from css_rig import DATA, SCHID
from eckd_rig import ENDED, SEEK_0_1, Programs, ckd, disk, extent, locate
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvfio.css import Cstat, Dstat
from pyvfio.errors import Misuse, NotModelled
from pyvfio_backends.software.hardware.devices.ckd_image import BadImage, create_image
from pyvfio_backends.software.hardware.devices.ckd_track import Record, Track, empty_track
from pyvfio_backends.software.hardware.devices.dasd import Dasd3390, make_dasd
from pyvfio_backends.software.hardware.devices.eckd_volume import EmptyVolume, ImageVolume, label_track
from pyvfio_backends.software.hardware.devices.path_group import PathGroup
from pyvfio_backends.software.hardware.devices.reservation import Reservation

WHOLE = (0, 0), (19, 14)


@pytest.mark.parametrize(
    ("commands", "sense"),
    [
        (((0x05, "00"),), "8000000000000002"),  # no search before
        (((0x07, SEEK_0_1), (0x05, "00")), "8000000000000002"),
        (((0x07, SEEK_0_1), (0x29, "00"), (0x05, "00")), "0008000000000100"),  # no record has a key
        (((0x07, SEEK_0_1), (0x31, "0000000101"), (0x06, 8), (0x05, "00")), "8000000000000002"),
        (((0x07, SEEK_0_1), (0x12, 8), (0x05, "00")), "8000000000000002"),
        (((0x07, SEEK_0_1), (0x12, 8), (0x1D, "00" * 8)), "8000000000000002"),
        (((0x1F, "40"), (0x07, SEEK_0_1), (0x31, "0000000101"), (0x05, "00")), "8000000000000002"),
        (((0x1F, "80"), (0x07, SEEK_0_1), (0x31, "0000000101"), (0x1D, "00" * 8)), "8000000000000002"),
        (((0x07, SEEK_0_1), (0x39, "00000001"), (0x15, "00" * 16)), "8000000000000002"),  # mask 00: no R0
        (((0x1F, "c0"), (0x07, SEEK_0_1), (0x19, "0000000002")), "8000000000000004"),  # another track's
        (((0x1F, "c0"), (0x07, SEEK_0_1), (0x19, "00")), "8000000000000003"),
        (((0x1F, "c0"), (0x07, SEEK_0_1), (0x39, "00000001"), (0x15, "0000000101000008" + "00" * 8)),
         "8000000000000004"),
        (((0x07, SEEK_0_1), (0x31, "0000000101"), (0x1D, "000000010200ffff")), "0040000000000100"),  # too long
        (((0x07, SEEK_0_1), (0x31, "000000010c"), (0x1D, "000000010d001000" + "00" * 4096)), "0040000000000100"),
        ((extent(0x80, *WHOLE), locate(0x03, 1, (0, 1), 0), (0x1D, "00" * 8)), "8000000000000002"),
        ((extent(0x40, *WHOLE), locate(0x01, 1, (0, 1), 1, 4096), (0x05, "00")), "8000000000000002"),
        ((extent(0x40, *WHOLE), locate(0x01, 1, (0, 1), 1, 4096), (0x85, "00")), "8000000000000002"),
        ((extent(0xC0, *WHOLE), locate(0x01, 2, (0, 1), 1, 4096), (0x05, "00"), (0x05, "00")), "8000000000000002"),
        ((extent(0xC0, *WHOLE), locate(0x03, 1, (0, 1), 0), (0x11, "00" * 8)), "8000000000000002"),
        ((extent(0xC0, *WHOLE), locate(0x43, 1, (0, 1), 0), (0x1D, "00" * 8)), "8000000000000002"),  # not over R0
        ((extent(0x80, *WHOLE), locate(0x01, 1, (0, 1), 1), (0x85, "00")), "0040000000000100"),  # not 57334 long
        ((extent(0xC0, *WHOLE), locate(0x01, 1, (0, 1), 1, 100), (0x05, "00")), "0040000000000100"),
        ((extent(0xC0, *WHOLE), locate(0x01, 1, (0, 1), 1), (0x1D, "00" * 8)), "8000000000000002"),
        ((extent(0xC0, *WHOLE), locate(0x06, 1, (0, 1), 1), (0x05, "00")), "8000000000000002"),
        ((extent(0xC0, *WHOLE), locate(0x01, 1, (0, 1), 1), (0x06, 8)), "8000000000000002"),
        ((extent(0xC0, *WHOLE), locate(0x01, 2, (0, 1), 1, 4096), (0x85, "00")), "8100000000000100"),
        ((extent(0xC0, *WHOLE), locate(0x01, 2, (0, 1), 1), locate(0x01, 1, (0, 1), 1)), "8000000000000002"),
        ((extent(0xC0, *WHOLE), (0x1F, "00")), "8000000000000002"),
        (((0x1F, "00"), extent(0xC0, *WHOLE)), "8000000000000002"),
        (((0x1F, "20"),), "8000000000000004"),
        ((extent(0x20, *WHOLE),), "8000000000000004"),
        ((extent(0xC0, (0, 1), (0, 2)), extent(0xC0, (0, 1), (0, 3))), "8000000000000002"),
        ((extent(0xC0, (0, 1), (0, 2)), extent(0x80, (0, 1), (0, 1))), "8000000000000002"),
        (((0x1D, "00" * 8),), "8000000000000002"),
        (((0x01, "00" * 8),), "8000000000000002"),
        (((0x19, "00" * 5),), "8000000000000002"),
        (((0x07, SEEK_0_1), (0x19, "00" * 5)), "0004000000000100"),  # the mask does not allow it
        (((0x06, 8),), "8000000000000002"),  # no seek before
        (((0x31, "0000000101"),), "8000000000000002"),
        (((0x1B, SEEK_0_1),), "8000000000000002"),
        (((0x23, "00"),), "8000000000000002"),
        (((0x9D, "00" * 8),), "8000000000000002"),
        ((extent(0xC0, (0, 1), (0, 1)), locate(0x01, 13, (0, 1), 1, 4096), *[(0x85, "00")] * 13), "0004000000000100"),
        (((0x07, SEEK_0_1), (0x23, "e0")), "8000000000000004"),
        (((0x1F, "08"), (0x07, SEEK_0_1)), "0004000000000000"),
        (((0x1F, "10"), (0x0B, SEEK_0_1)), "0004000000000000"),
        (((0x13, ""),), "8000000000000001"),  # a 3390 has no RECALIBRATE
        (((0x3E, 8),), "8000000000000002"),
        (((0x27, "18" + "00" * 5 + "52" + "00" * 5),), "8000000000000004"),
        (((0x27, "99" + "00" * 11),), "8000000000000004"),
        (((0x27, "18"),), "8000000000000003"),
        (((0xE7, "03" + "00" * 63),), "8000000000000004"),
        (((0xE7, "00" * 11),), "8000000000000003"),
    ],
)  # fmt: skip
def test_refused(commands: tuple[tuple[int, str], ...], sense: str) -> None:
    programs = Programs(disk())
    sensed = programs.refused(*commands)
    assert (sensed[:4], sensed[14:]) == (sense[:4], sense[14:])
    domains_begun = sense.startswith(("81", "0004")) and commands[-1][0] == 0x85
    assert domains_begun or programs.device.volume.version == 0, "nothing was written"


def test_a_device_that_another_system_reserved() -> None:
    programs = Programs(disk())
    programs.device.reserve_elsewhere()
    irb, _ = programs.run((0x07, SEEK_0_1))
    assert irb.scsw.dstat == Dstat.BUSY
    assert programs.run((0x64, 64))[0].scsw.ok
    assert programs.run((0x14, 32))[0].scsw.ok
    assert programs.device.subsystem.reserved
    assert programs.run((0x07, SEEK_0_1))[0].scsw.ok
    assert programs.run((0x94, 32))[0].scsw.ok
    assert not programs.device.subsystem.reserved


def test_sense_path_group_id_tells_of_a_reservation() -> None:
    programs = Programs(disk())
    state = lambda: programs.run((0x34, 12))[1][0][:2]  # noqa: E731
    assert state() == "00"
    programs.device.reserve_elsewhere()
    assert state() == "20"
    assert programs.run((0xAF, "8000112233445566778899aa"))[0].scsw.ok
    assert state() == "e8", "grouped, reserved elsewhere, multipath"
    assert programs.run((0x14, 32))[0].scsw.ok
    assert state() == "f8", "reserved by this system"
    assert programs.run((0x94, 32))[0].scsw.ok
    assert state() == "c8"


def test_each_path_has_a_state_of_its_own() -> None:
    group, name = PathGroup(), bytes(range(1, 12))
    assert group.set(b"\x80" + name, 0x80)
    assert group.set(b"\x80" + name, 0x40)
    assert not group.set(b"\x80" + bytes(10) + b"\1", 0x40), "in another group"
    assert group.set(b"\x40" + name, 0x40)
    assert [group.state(path) for path in (0x80, 0x40, 0x20)] == [b"\xc8" + name, b"\x80" + bytes(11), bytes(12)]
    assert group.set(b"\x20" + bytes(11), 0x20)
    assert group.state(0x40) == b"\x80" + bytes(11), "no member of a group that is disbanded"
    assert group.set(b"\x80" + name, 0x40)
    assert group.set(b"\x20" + name, 0x80)
    assert group.state(0x80) == group.state(0x40) == bytes(12)


def test_two_systems_reserve_one_disk() -> None:
    freed: list[str] = []
    shared = Reservation(lambda: freed.append("device end is owed"))
    volume = EmptyVolume("SHARED", 20, readonly=False)
    one, other = (Programs(Dasd3390(volume, reservation=shared)) for _ in range(2))
    assert one.run((0xB4, 32))[0].scsw.ok
    assert other.run((0xB4, 32))[0].scsw.dstat == Dstat.BUSY
    assert other.run((0x94, 32))[0].scsw.dstat == Dstat.BUSY
    assert one.run((0x07, SEEK_0_1), (0x31, "0000000101"), (0x05, "c1" * 8))[0].scsw.ok
    assert other.run((0x14, 32))[0].scsw.ok, "the lock is stolen"
    assert one.run((0x07, SEEK_0_1))[0].scsw.dstat == Dstat.BUSY
    assert other.run((0x07, SEEK_0_1), (0x06, 8))[1] == ["c1" * 8], "one medium"
    assert freed == []
    assert other.run((0x94, 32))[0].scsw.ok
    assert freed == ["device end is owed"]
    assert one.run((0x5B, ""), (0xB4, 32))[0].scsw.ok
    assert one.refused((0x03, ""), (0xB4, 32))[14:] == "02"
    assert one.refused((0x1F, "00"), (0x94, 32))[14:] == "02"
    assert str(shared) == "reserved"


def test_a_device_that_becomes_free_says_so() -> None:
    programs = Programs(disk())
    device, bench = programs.device, programs.bench
    device.present = lambda dstat: bench.css.present_status(SCHID, int(dstat))
    device.release_elsewhere()
    device.reserve_elsewhere()
    device.release_elsewhere()
    bench.clock.settle()
    assert bench.irb().scsw.dstat == Dstat.DEVICE_END


def test_write_data_after_a_search() -> None:
    programs = Programs(disk())
    assert programs.run((0x07, SEEK_0_1), (0x31, "0000000103"), (0x05, "c1c2"))[0].scsw.ok
    _, (data,) = programs.run((0x07, SEEK_0_1), (0x31, "0000000103"), (0x06, 4))
    assert data == "c1c20000", "the rest of the record is zeros"


def test_keys_are_written_searched_and_read() -> None:
    programs = Programs(disk())
    keys = [b"AAAA", b"CCCC", b"EEEE"]
    records = [(0x1D, ckd((0, 1), number, key, key * 2)) for number, key in enumerate(keys, 1)]
    assert programs.run((0x07, SEEK_0_1), (0x31, "0000000100"), *records)[0].scsw.ok
    for search, wanted, found in (
        (0x29, b"CCCC", 1), (0x49, b"AAAA", 1), (0x49, b"CCCC", 2), (0x69, b"CCCC", 1), (0x69, b"DDDD", 2),
    ):  # fmt: skip
        irb, (data,) = programs.run((0x07, SEEK_0_1), (search, wanted.hex()), (0x06, 8))
        assert irb.scsw.ok
        assert bytes.fromhex(data) == keys[found] * 2
    irb, (data,) = programs.run((0x07, SEEK_0_1), (0x51, "0000000101"), (0x0E, 12))
    assert bytes.fromhex(data) == b"CCCC" * 3
    assert programs.run((0x07, SEEK_0_1), (0x31, "0000000102"), (0x0D, b"DDDDdata".hex()))[0].scsw.ok
    irb, (data,) = programs.run((0x07, SEEK_0_1), (0x29, b"DDDD".hex()), (0x06, 8))
    assert bytes.fromhex(data) == b"data\0\0\0\0"


def test_formatting_a_track_takes_away_what_was_there() -> None:
    programs = Programs(disk())
    irb, _ = programs.run(
        extent(0xC0, (2, 3), (2, 3)),
        locate(0x03, 2, (2, 3), 0),
        (0x1D, ckd((2, 3), 1, b"", b"one")),
        (0x1D, ckd((2, 3), 2, b"", b"two")),
    )
    assert irb.scsw.ok
    track = programs.device.volume.read(2, 3)
    assert [record.data for record in track.records] == [bytes(8), b"one", b"two"]
    irb, (whole,) = programs.run(
        extent(0x40, (2, 3), (2, 3)), locate(0x0C, 1, (2, 3), 0), (0xDE, 64)
    )  # READ TRACK: the records and an end mark
    assert whole.startswith((track.records[1].to_bytes() + track.records[2].to_bytes() + b"\xff" * 8).hex())
    assert programs.run((0x07, "000000020003"), (0x31, "0002000301"), (0x11, "00" * 8))[0].scsw.ok
    assert len(programs.device.volume.read(2, 3).records) == 2


def test_a_record_without_data_is_the_end_of_a_file() -> None:
    programs = Programs(disk())
    search = (0x07, SEEK_0_1), (0x31, "0000000100")
    assert programs.run(*search, (0x1D, ckd((0, 1), 1, b"", b"")), (0x1D, ckd((0, 1), 2, b"", b"x")))[0].scsw.ok
    for code in (0x06, 0x0E, 0x1E):
        irb, _ = programs.run((0x07, SEEK_0_1), (code, 8))
        assert irb.scsw.dstat == ENDED | Dstat.UNIT_EXCEPTION
    irb, (count,) = programs.run((0x07, SEEK_0_1), (0x12, 8))
    assert (irb.scsw.ok, count) == (True, "0000000101000000")


def test_home_address_and_r0() -> None:
    programs = Programs(disk())
    r0 = ckd((0, 1), 0, b"", b"new R0!!")
    assert programs.run((0x1F, "c0"), (0x07, SEEK_0_1), (0x19, "0000000001"), (0x15, r0))[0].scsw.ok
    irb, (home, record) = programs.run((0x07, SEEK_0_1), (0x1A, 5), (0x16, 16))
    assert irb.scsw.ok
    assert (home, record) == ("0000000001", r0)
    irb, (count,) = programs.run((0x07, SEEK_0_1), (0x9E, 8))  # no record but R0: multitrack finds the next head's R1
    assert count == "0000000201001000"


def test_a_domain_goes_over_tracks_and_cylinders() -> None:
    programs = Programs(disk())
    start, count = (0, 14), 14
    writes = [(0x85, f"{number:02x}" * 4) for number in range(1, count + 1)]
    assert programs.run(extent(0x80, (0, 14), (1, 0)), locate(0x01, count, start, 1, 4096), *writes)[0].scsw.ok
    reads = [(0x86, 4)] * count
    irb, data = programs.run(extent(0x40, (0, 14), (1, 0)), locate(0x06, count, start, 1), *reads)
    assert irb.scsw.ok
    assert data == [f"{number:02x}" * 4 for number in range(1, count + 1)]
    assert programs.device.volume.read(1, 0).records[2].data[:4] == b"\x0e" * 4


def test_prefix_is_extent_and_location_in_one() -> None:
    programs = Programs(disk())
    whole = bytes.fromhex(extent(0xC0, *WHOLE)[1]).ljust(32, b"\0")
    place = bytes.fromhex(locate(0x01, 1, (1, 1), 2, 4096)[1]).ljust(20, b"\0")
    prefix = (0xE7, (bytes([1, 0x80]).ljust(12, b"\0") + whole + place).hex())
    assert programs.run(prefix, (0x05, "11" * 4096))[0].scsw.ok
    assert programs.device.volume.read(1, 1).records[2].data == b"\x11" * 4096
    only_extent = (0xE7, (bytes([0, 0x80]).ljust(12, b"\0") + whole + bytes(20)).hex())
    irb, (data,) = programs.run(only_extent, (0x4B, locate(0x06, 1, (1, 1), 2)[1] + "00000000"), (0x06, 4))
    assert (irb.scsw.ok, data) == (True, "11111111")


def test_what_linux_asks_when_it_sets_a_volume_online() -> None:
    programs = Programs(disk())
    irb, (features,) = programs.run((0x27, "18" + "00" * 5 + "41" + "00" * 5), (0x3E, 256))
    assert irb.scsw.ok
    assert int(features[16:18], 16) & 1, "PREFIX"
    irb, (units,) = programs.run((0x27, "18" + "00" * 5 + "0e" + "00" * 5), (0x3E, 512))
    assert units[:4] == "0100"
    assert programs.run((0x27, "1d00000000004088" + "00" * 58))[0].scsw.ok, "set subsystem characteristics: PAV"
    irb, (status,) = programs.run((0x54, 40))
    assert (irb.scsw.ok, len(status)) == (True, 80)


def test_sense_says_where_the_mechanism_is() -> None:
    programs = Programs(disk())
    irb, _ = programs.run((0x07, "00000012000b"), (0x99, "00"))
    assert (irb.sense[5:7].hex(), irb.sense[27], irb.sense[29:32].hex()) == ("120b", 0x80, "00120b")


@pytest.mark.parametrize(
    ("options", "model", "cylinders"),
    [
        ({"model": "3390-1"}, 0x02, 1113),
        ({"model": "3390-2"}, 0x06, 2226),
        ({"model": "3390-3"}, 0x0A, 3339),
        ({"model": "3390-9"}, 0x0C, 10017),
        ({}, 0x0C, 30051),
        ({"cylinders": 2000}, 0x06, 2000),
    ],
)
def test_models_by_geometry(options: dict[str, int], model: int, cylinders: int) -> None:
    device = make_dasd(**options)  # type: ignore[arg-type]
    assert (device.sense_id.dev_model, device.volume.cylinders) == (model, cylinders)


def test_options_that_cannot_be(tmp_path: Path) -> None:
    path = str(create_image(tmp_path / "a", "3390-1", 2, [label_track("REAL01")]).path)
    for options in (
        {"model": "3390-5"}, {"control_unit": "3880"}, {"serial": "much too long a number"},
        {"image": path, "cylinders": 3}, {"image": path, "volser": "OTHER"}, {"image": path, "model": "3390-1"},
    ):  # fmt: skip
        with pytest.raises(Misuse):
            make_dasd(**options)
    with pytest.raises(BadImage):
        make_dasd(image=str(tmp_path / "none"))
    for model in ("3380-A", "3390-A"):
        with pytest.raises(NotModelled):
            make_dasd(model=model)
    assert make_dasd(image=path, volser="REAL01", cylinders=2).volume.volser == "REAL01"


def test_a_volume_in_a_file(tmp_path: Path) -> None:
    image = create_image(tmp_path / "a", "3390-1", 2, [label_track("FILE01")])
    programs = Programs(make_dasd(image=str(image.path)))
    irb, _ = programs.run(
        extent(0xC0, (1, 3), (1, 3)), locate(0x03, 1, (1, 3), 0), (0x1D, ckd((1, 3), 1, b"KEY", b"kept"))
    )
    assert irb.scsw.ok
    assert image.read(1, 3).records[1] == Record(1, 3, 1, b"KEY", b"kept")
    reader = Programs(make_dasd(image=str(image.path), readonly=True))
    irb, (data,) = reader.run((0x07, "000000010003"), (0x29, b"KEY".hex()), (0x06, 4))
    assert bytes.fromhex(data) == b"kept"
    assert reader.refused((0x07, "000000010003"), (0x31, "0001000301"), (0x05, "00"))[:4] == "8002"


def test_a_damaged_or_lost_medium(tmp_path: Path) -> None:
    image = create_image(tmp_path / "a", "3390-1", 2)
    with image.path.open("r+b") as file:
        file.seek(512 + 15 * image.track_size)
        file.write(b"\xee" * 100)
    programs = Programs(make_dasd(image=str(image.path)))
    assert programs.refused((0x07, "000000010000"), (0x12, 8))[:4] == "0040"
    image.path.unlink()
    assert programs.refused((0x07, "000000010001"), (0x12, 8))[:4] == "4000"


TRACKS = [(0, 1), (0, 2), (3, 14)]
blocks = st.lists(st.tuples(st.binary(max_size=9), st.binary(min_size=1, max_size=60)), min_size=1, max_size=6)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("format"), st.sampled_from(TRACKS), st.integers(0, 5), blocks),
        st.tuples(st.just("update"), st.sampled_from(TRACKS), st.integers(1, 6), st.binary(min_size=1, max_size=80)),
        st.tuples(st.just("erase"), st.sampled_from(TRACKS), st.integers(0, 5), st.just(b"")),
    ),
    max_size=12,
)


@given(steps=steps, located=st.booleans(), in_file=st.booleans())
@settings(max_examples=60, deadline=None)
def test_random_writes_against_a_model_of_tracks(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, tuple[int, int], int, object]], located: bool,
    in_file: bool,
) -> None:  # fmt: skip
    if in_file:
        path = tmp_path_factory.mktemp("random") / "image"
        create_image(path, "3390-1", 4)
        programs = Programs(Dasd3390(ImageVolume(path)))
    else:
        programs = Programs(disk())
        for track in TRACKS:
            programs.device.volume.write(empty_track(*track))
    model: dict[tuple[int, int], list[tuple[bytes, bytes]]] = {track: [] for track in TRACKS}
    for verb, track, number, what in steps:
        records = model[track]
        seek, search = (0x07, struct.pack(">HHH", 0, *track).hex()), struct.pack(">HHB", *track, number).hex()
        there = number <= len(records)
        if verb == "format":
            assert isinstance(what, list)
            writes = [(0x1D, ckd(track, number + n, key, data)) for n, (key, data) in enumerate(what, 1)]
            head = (
                (extent(0xC0, track, track), locate(0x03, len(writes), track, number))
                if located
                else (seek, (0x31, search))
            )
            irb, _ = programs.run(*head, *writes)
            if there:
                records[number:] = what
        elif verb == "update":
            assert isinstance(what, bytes)
            size = len(records[number - 1][1]) if there else 4096
            head = (
                (extent(0x80, track, track), locate(0x01, 1, track, number, size))
                if located
                else (seek, (0x31, search))
            )
            irb, _ = programs.run(*head, (0x05, what.hex()))
            if there:
                key, old = records[number - 1]
                records[number - 1] = key, what[: len(old)].ljust(len(old), b"\0")
        else:
            irb, _ = programs.run(seek, (0x31, search), (0x11, "00" * 8))
            if there:
                del records[number:]
        if there:
            assert (irb.scsw.dstat, irb.scsw.cstat) == (ENDED, 0)
        else:
            assert irb.sense[:2].hex() == "0008"
    for track, records in model.items():
        on_volume = programs.device.volume.read(*track)
        assert isinstance(on_volume, Track)
        assert [(record.key, record.data) for record in on_volume.records[1:]] == records
        reads = [(0x1E, 200)] * len(records)
        if reads:
            irb, data = programs.run((0x07, struct.pack(">HHH", 0, *track).hex()), *reads)
            assert irb.scsw.cstat == Cstat(0)
            for text, (key, content) in zip(data, records, strict=True):
                assert bytes.fromhex(text)[8 : 8 + len(key) + len(content)] == key + content


@given(st.lists(st.tuples(st.integers(1, 255), st.binary(max_size=70)), max_size=6))
@settings(max_examples=150, deadline=None)
def test_no_program_does_harm(commands: list[tuple[int, bytes]]) -> None:
    """Any commands with any parameters end, and what is on the volume are tracks still."""
    programs = Programs(disk())
    chosen = [(code, raw.hex()) for code, raw in commands if code & 0x0F not in (0, 8)]
    if not chosen:
        return
    bench = programs.bench
    at, text = DATA, ""
    for number, (code, raw) in enumerate(chosen):
        bench.put(at, raw)
        text += f"{code:02x}{0x60 if number + 1 < len(chosen) else 0x20:02x}{len(raw) // 2:04x}{at:08x}"
        at += 0x100
    irb = bench.start(text)
    assert irb.scsw.dstat or irb.scsw.cstat
    for track in ((0, 0), (0, 1)):
        assert programs.device.volume.read(*track).records[0].number == 0
