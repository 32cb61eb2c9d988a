"""The 3390's commands on tracks as a whole, the storage control's, and READ IPL: refusals first, then the answers."""

from __future__ import annotations

import struct

import pytest
from eckd_rig import ENDED, SEEK_0_1, Programs, ckd, disk, extent, locate

from pyvfio.css import Dstat
from pyvfio_backends.software.hardware.devices.dasd import make_dasd

WHOLE = (0, 0), (19, 14)
READ, ALL = extent(0x40, *WHOLE), extent(0xC0, *WHOLE)


def locate_extended(
    op: int, count: int, track: tuple[int, int], record: int, length: int = 0, *, ext: int = 0, more: str = ""
) -> tuple[int, str]:
    aux = 0x80 if length else 0
    head = struct.pack(">BBBBHHHHBBH", op, aux, 0, count, *track, *track, record, 0xFF, length).hex()
    return 0x4B, head + f"00{ext:02x}{len(more) // 2:04x}" + more


@pytest.mark.parametrize(
    ("commands", "sense"),
    [
        ((READ, locate_extended(0x00, 1, (0, 1), 0)), "8000000000000004"),  # there is no orient
        ((READ, locate_extended(0x06, 1, (0, 1), 1, ext=1)), "8000000000000004"),
        ((READ, locate_extended(0x3F, 1, (0, 1), 1, ext=0x77)), "8000000000000004"),
        ((READ, locate_extended(0x3F, 1, (0, 1), 1, ext=0x0A)), "8000000000000004"),  # one more byte is needed
        ((READ, locate_extended(0x3F, 1, (0, 1), 1, ext=0x0A, more="02")), "8000000000000004"),
        ((READ, locate_extended(0x3F, 2, (0, 1), 0, ext=0x0E, more="60")), "8000000000000004"),  # not the first track
        ((READ, locate_extended(0x3F, 1, (0, 1), 0, ext=0x0E, more="c0")), "8000000000000004"),  # two tracks, count 1
        ((extent(0x40, (0, 1), (0, 2)), locate_extended(0x3F, 2, (0, 1), 0, ext=0x0E, more="a0")), "0004000000000100"),
        ((READ, (0x4B, locate_extended(0x3F, 1, (0, 1), 0, ext=0x0E, more="80")[1][:-2])), "8000000000000003"),
        ((READ, locate_extended(0x3F, 2, (0, 1), 0, ext=0x0E, more="c0"), (0x86, 8), (0x03, "")), "8000000000000002"),
        ((READ, locate(0x0C, 2, (0, 1), 0), (0xDE, 8), (0x86, 8)), "8000000000000002"),
        ((READ, locate(0x0C, 1, (0, 1), 0), (0xA5, "00")), "8000000000000002"),
        ((READ, locate(0x06, 1, (0, 1), 0), (0x5E, 8)), "8000000000000002"),
        ((READ, locate(0x06, 1, (0, 1), 1, 0), (0x86, 8)), "8000000000000004"),  # length factor 0
        ((extent(0x40, *WHOLE, 512), locate(0x06, 1, (0, 1), 1, 513), (0x86, 8)), "8000000000000004"),
        ((extent(0x40, *WHOLE, 57335),), "8000000000000004"),  # no block is that long
        ((ALL, locate_extended(0x3F, 1, (0, 1), 0, ext=0x11, more="80"), (0x95, "ff" * 8)), "0040000000000100"),
        ((ALL, locate_extended(0x3F, 1, (0, 1), 0, ext=0x11, more="80"), (0x95, ckd((0, 1), 1, b"", b"x"))),
         "0040000000000100"),
        ((ALL, locate_extended(0x3F, 1, (0, 1), 1, 512, ext=0x23), (0xA5, "00")), "0040000000000100"),
        ((ALL, (0x02, 24)), "8000000000000002"),
        (((0x1F, "00"), (0x02, 24)), "8000000000000002"),
        (((0x02, 24), ALL), "8000000000000002"),
        (((0x64, 64), (0x12, 8)), "8000000000000002"),
        (((0x03, ""), (0x54, 44)), "8000000000000002"),
        (((0x03, ""), (0xA4, 32)), "8000000000000002"),
        (((0x87, "0200"),), "8000000000000004"),
        (((0x87, "00"),), "8000000000000003"),
        (((0xF3, "10000000"),), "8000000000000005"),
        (((0xF3, "70000000"),), "8000000000000004"),
        (((0xF3, "1000"),), "8000000000000003"),
        (((0x27, "1b00"), (0x03, "")), "8000000000000002"),
        (((0x27, "1d80" + "00" * 64),), "8000000000000004"),
        (((0x27, "1d00" + "00" * 63),), "8000000000000003"),
        (((0x07, SEEK_0_1), (0x39, "00000001"), (0x15, ckd((0, 1), 0, b"", bytes(8)))), "8000000000000002"),
        (((0x27, "1b01"),), "8000000000000004"),
        (((0x27, "b0ff0000"),), "8000000000000004"),
        (((0x27, "18" + "00" * 3 + "0a07" + "52" + "00" * 5),), "8000000000000004"),  # volume storage query
        (((0x27, "18" + "00" * 5 + "1c" + "00" * 5),), "8000000000000004"),  # query host access
        (((0x27, "18" + "00" * 5 + "41" + "00" * 5), (0x64, 64)), "8000000000000002"),
        (((0xE7, "0020" + "07" + "00" * 41),), "8000000000000004"),  # an alias of another base
        (((0x0A, 28),), "8000000000000001"),  # READ SPECIAL HOME ADDRESS
        (((0xF7, "00"),), "8000000000000001"),  # space-efficient volumes
        (((0xC4, 8),), "8000000000000001"),  # diagnostic sense
    ],
)  # fmt: skip
def test_refused(commands: tuple[tuple[int, str], ...], sense: str) -> None:
    programs = Programs(disk())
    sensed = programs.refused(*commands)
    assert (sensed[:4], sensed[14:]) == (sense[:4], sense[14:])
    assert programs.device.volume.version == 0, "nothing was written"


@pytest.mark.parametrize("command", [(0x4B, "00" * 20), (0xE7, "00" * 64), (0x95, "00"), (0x44, 32), (0x87, "0000")])
def test_an_older_control_unit_has_fewer_commands(command: tuple[int, str]) -> None:
    programs = Programs(make_dasd(control_unit="3990-2", cylinders=20, readonly=False))
    assert programs.refused(command) == "8000000000000001"
    assert programs.refused((0x27, "b0000000")) == "8000000000000004"
    assert programs.refused((0x27, "11" + "00" * 11)) == "8000000000000004"


def test_read_ipl_is_the_beginning_of_a_domain() -> None:
    programs = Programs(disk())
    irb, (psw, ccws) = programs.run((0x02, 24), (0x06, 144))
    assert irb.scsw.ok
    assert (psw[:4], len(ccws)) == ("0006", 288)
    irb, (_, count) = programs.run((0x02, 24), (0x12, 8))
    assert (irb.scsw.ok, count) == (True, "0000000002040090")
    assert programs.run((0x02, 24), (0x03, ""))[0].scsw.ok
    irb, _ = programs.run((0x02, 24), (0x12, 8), (0x07, "000000000000"), (0x29, b"\xe5\xd6\xd3\xf1".hex()))
    assert irb.scsw.ok


def test_a_track_set_is_read_where_its_bits_are_on() -> None:
    programs = Programs(disk())
    sets = locate_extended(0x3F, 3, (0, 13), 0, ext=0x0E, more="b000")
    irb, tracks = programs.run(READ, sets, (0xDE, 8), (0xDE, 8), (0xDE, 8))
    assert irb.scsw.ok
    assert tracks == ["0000000d01001000", "0001000000000008", "0001000100000008"], "after the first one with R0"


def test_read_tracks_from_the_home_address_brings_r0_too() -> None:
    programs = Programs(disk())
    irb, (track,) = programs.run(READ, locate(0x4C, 1, (2, 3), 0), (0xDE, 64))
    assert irb.scsw.ok
    assert track.startswith("0002000300000008" + "00" * 8 + "0002000301001000")


def test_a_full_track_is_written_as_it_is_read() -> None:
    programs = Programs(disk())
    images = [
        ckd((2, head), 0, b"", bytes(8)) + ckd((2, head), 1, b"key", b"data") + ckd((2, head), 2, b"", b"x") + "ff" * 8
        for head in (3, 4)
    ]
    where = locate_extended(0x3F, 2, (2, 3), 0, ext=0x11, more="c000")
    assert programs.run(ALL, where, (0x95, images[0] + "00" * 100), (0x95, images[1]))[0].scsw.ok
    irb, tracks = programs.run(READ, locate(0x4C, 2, (2, 3), 0), (0xDE, 64), (0xDE, 64))
    assert irb.scsw.ok
    assert [track[: len(image)] for track, image in zip(tracks, images, strict=True)] == images


def test_track_data_go_over_records_and_tracks() -> None:
    programs = Programs(disk())
    blocks = [f"{number:02x}" * 4096 for number in range(1, 5)]
    where = locate_extended(0x3F, 2, (0, 1), 11, 4096, ext=0x23)
    assert programs.run(ALL, where, (0xA5, blocks[0] + blocks[1]), (0xA5, blocks[2]))[0].scsw.ok
    first, second = (programs.device.volume.read(0, head).records for head in (1, 2))
    assert [record.data[:1].hex() for record in (first[11], first[12], second[1], second[2])] == [
        "01",
        "02",
        "03",
        "00",
    ]
    read = locate_extended(0x0C, 2, (0, 1), 11, 4096)
    irb, (one, two) = programs.run(READ, read, (0xA6, 8192), (0xA6, 4096))
    assert irb.scsw.ok
    assert irb.scsw.count == 0
    assert (one, two) == (blocks[0] + blocks[1], blocks[2])
    irb, (data,) = programs.run(READ, locate(0x06, 1, (0, 1), 12), (0xA6, 4096))
    assert (irb.scsw.ok, data) == (True, blocks[1]), "outside such a domain it reads the data of one record"
    assert programs.run(ALL, locate(0x01, 1, (0, 1), 12, 4096), (0xA5, blocks[3]))[0].scsw.ok


def test_a_record_without_data_is_not_updated() -> None:
    programs = Programs(disk())
    assert programs.run(ALL, locate(0x03, 1, (0, 1), 0), (0x1D, ckd((0, 1), 1, b"", b"")))[0].scsw.ok
    for code in (0x05, 0x0D):
        irb, _ = programs.run((0x07, SEEK_0_1), (0x31, "0000000101"), (code, "00"))
        assert irb.scsw.dstat == ENDED | Dstat.UNIT_EXCEPTION


def test_conversion_mode_takes_any_length() -> None:
    programs = Programs(disk())
    code, parameters = extent(0x80, *WHOLE)
    converting = (code, parameters[:2] + "e0" + parameters[4:])
    assert programs.run(converting, locate(0x01, 1, (0, 1), 1, 80), (0x85, "c1" * 80))[0].scsw.ok


def test_a_read_count_may_end_a_domain_of_writes() -> None:
    programs = Programs(disk())
    code, parameters = locate(0x01, 2, (0, 1), 3, 4096)
    suffixed = (code, parameters[:2] + "81" + parameters[4:])
    irb, (count,) = programs.run(ALL, suffixed, (0x05, "c1"), (0x92, 8))
    assert (irb.scsw.ok, count) == (True, "0000000104001000")


def test_searches_go_over_heads_but_not_over_cylinders() -> None:
    programs = Programs(disk())
    irb, _ = programs.run((0x07, SEEK_0_1), (0xB1, "0000000301"), (0x06, 4))
    assert irb.scsw.ok
    assert programs.refused((0x07, SEEK_0_1), (0xB1, "0001000301"), (0x06, 4))[:4] == "0020"
    assert programs.refused((0x1F, "18"), (0x02, 24))[:4] == "8000"
    still = extent(0x58, (0, 0), (0, 14)), locate(0x00, 0, (0, 1), 1)
    assert programs.refused(*still, (0xB1, "0000000301"), (0x06, 4))[:4] == "0004"


def test_alternate_cylinders_are_there_and_not_counted() -> None:
    programs = Programs(make_dasd(model="3390-9", readonly=False))
    assert programs.device.volume.cylinders == 10017
    irb, (home,) = programs.run((0x07, "00002723000e"), (0x1A, 5))
    assert (irb.scsw.ok, home) == (True, "002723000e")
    assert programs.refused((0x07, "000027240000"))[14:] == "04"
    irb, (rdc,) = programs.run((0x64, 64))
    assert (rdc[24:28], rdc[56:64], rdc[22:24]) == ("2721", "2721002d", "32")


def test_what_the_storage_control_says() -> None:
    programs = Programs(disk(unit_address=7))
    for suborder, size, begins in (("00", 24, "c080"), ("01", 96, "00"), ("03", 9, "00090000"), ("0e", 512, "00")):
        irb, (data,) = programs.run((0x27, "18" + "00" * 5 + suborder + "00" * 5), (0x3E, size))
        assert (irb.scsw.ok, irb.scsw.count) == (True, 0)
        assert data.startswith(begins)
    assert data[28:32] == "0107", "unit 7 is a base"
    irb, (_, status) = programs.run((0x64, 64), (0x54, 44))
    assert (irb.scsw.ok, status[:6], status[76:80]) == (True, "01071f", "0a00")
    assert programs.run((0xA4, 32))[1] == ["00" * 32]
    assert programs.run((0x87, "0000"))[0].scsw.ok
    assert programs.run((0x44, 32))[0].scsw.ok
    assert programs.run((0x1F, "02"), (0xF3, "10000000"))[0].scsw.ok
    assert programs.run((0x27, "1b00"))[0].scsw.ok
    irb, (nodes,) = programs.run((0x27, "b0000000"), (0x3E, 96))
    assert bytes.fromhex(nodes)[4:30].decode("cp037").strip() == "003990   IBM75000000000001"
    irb, (identity,) = programs.run((0xE4, 20))
    assert identity[16:] == "40fa010041270004423e0060"


def test_a_track_has_no_room_for_more_than_its_bytes() -> None:
    programs = Programs(disk())
    r0 = ckd((0, 1), 0, b"", bytes(50000))
    search = (0x1F, "c0"), (0x07, SEEK_0_1), (0x39, "00000001")
    assert programs.run(*search, (0x15, r0))[0].scsw.ok
    long = ckd((0, 1), 1, b"", bytes(7000))
    assert programs.refused((0x1F, "c0"), (0x07, SEEK_0_1), (0x31, "0000000100"), (0x1D, long))[:4] == "0040"
    fits = ckd((0, 1), 1, b"", bytes(6000))
    assert programs.run((0x1F, "c0"), (0x07, SEEK_0_1), (0x31, "0000000100"), (0x1D, fits))[0].scsw.ok


def test_read_multiple_goes_on_to_the_next_track() -> None:
    programs = Programs(disk())
    irb, (first, second) = programs.run((0x07, "00000000000d"), (0x5E, 8), (0x5E, 8))
    assert irb.scsw.ok
    assert (first, second) == ("0000000d01001000", "0000000e01001000")
    irb, (_, count) = programs.run((0x07, "00000000000d"), (0x5E, 8), (0x12, 8))
    assert count == "0000000e01001000"
    assert programs.refused((0x07, "00000000000e"), (0x5E, 8), (0x5E, 8))[:4] == "0020"


def test_a_count_that_is_cut_is_filled_with_zeros() -> None:
    programs = Programs(disk())
    assert programs.run((0x07, SEEK_0_1), (0x31, "0000000100"), (0x1D, "000000010500"))[0].scsw.ok
    assert programs.run((0x07, SEEK_0_1), (0x12, 8))[1] == ["0000000105000000"]


def test_sense_id_of_a_few_bytes() -> None:
    assert Programs(disk()).run((0xE4, 2))[1] == ["ff39"]
