"""CHSC: what is refused, what is answered, and that the hardware does what it says.

Rules: ``drivers/s390/cio/chsc.c`` (what Linux asks and expects), QEMU: ``ioinst.c`` (0002, 000e, 0010, 0031).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import pytest
from css_rig import SCHID, Bench

from pyvfio.address import SubchannelId
from pyvfio.css import Configure, Crw, EventContent, OperandException, Sei
from pyvfio.css.chsc import ChscCode, ChscRequest, ChscResponse
from pyvfio.css.chsc_machine import (
    CallCharacteristic,
    Characteristic,
    Characteristics,
    EnableFacility,
    Facility,
    StoreCharacteristics,
    StoreEvents,
    StoreImages,
)
from pyvfio.css.chsc_measurement import MeasurementCharacteristics, SetMeasurement, StoreMeasurement
from pyvfio.css.chsc_paths import PathDescription, StorePaths
from pyvfio.css.chsc_subchannels import (
    InitiateLogging,
    QdioDescription,
    StoreQdio,
    StoreSubchannels,
    SubchannelDescription,
)
from pyvfio_backends.software.hardware.css import MAINFRAME, VIRTUAL, ChannelPath, CssModel, SubchannelConfig
from pyvfio_backends.software.hardware.devices.echo import Echo

PATHS = (0x44, 0x45, 0, 0, 0, 0, 0, 0)


class Asks(Protocol):
    def request(self) -> ChscRequest: ...


def make(model: CssModel = MAINFRAME) -> Bench:
    bench = Bench(Echo(), model, chpids=PATHS, pim=0xC0, pam=0xC0, unit_address=0x21, links=(0x1101, *[0] * 7))
    bench.css.add_path(ChannelPath(0x44, cmg=2, speed=16 * 10**9, chid=0x120, switch=(3, 0x21), shared=True))
    bench.css.add_path(ChannelPath(0x45, utility=b"\xe3\xc5\xe2\xe3"))
    return bench


@pytest.fixture
def bench() -> Bench:
    return make()


def ask(bench: Bench, what: Asks | ChscRequest) -> ChscResponse:
    request = what if isinstance(what, ChscRequest) else what.request()
    cc, block = bench.css.chsc(request.to_bytes())
    assert cc == 0
    return ChscResponse.from_bytes(block)


@pytest.mark.parametrize(
    "block", [b"", bytes(16), bytes.fromhex("000c0010") + bytes(12), bytes.fromhex("0ff90010") * 1024]
)
def test_lengths_that_are_operand_exceptions(bench: Bench, block: bytes) -> None:
    with pytest.raises(OperandException):
        bench.css.chsc(block)


@pytest.mark.parametrize("command", [0x0001, 0x003D, 0x0021, 0x004C, 0x004B, 0x0012, 0xFFFF])
def test_commands_that_are_not_provided(bench: Bench, command: int) -> None:
    assert ask(bench, ChscRequest(command)).code == ChscCode.NOT_PROVIDED


@pytest.mark.parametrize(
    "request_",
    [
        ChscRequest(0x0010, bytes(20)),
        StoreCharacteristics(zeros=(0x80000000, 0, 0)).request(),
        StoreCharacteristics(zeros=(0, 1, 0)).request(),
        StorePaths(0x45, 0x44).request(),
        StorePaths(0x44, 0x44, zeros=(0, 0x100, 0)).request(),
        StoreSubchannels(0, 6, 5).request(),
        StoreSubchannels(0, 5, 5, zeros=(0x8000, 0)).request(),
        EnableFacility(1).request(),
        EnableFacility(0, zeros=(0x10, 0, 0, 0)).request(),
        StoreMeasurement(0x45, 0x44).request(),
        StoreImages(3).request(),
        InitiateLogging(SubchannelId(0, 0, 0x77)).request(),
        InitiateLogging(SCHID, zeros=1).request(),
    ],
    ids=str,
)
def test_requests_that_are_not_valid(bench: Bench, request_: ChscRequest) -> None:
    assert ask(bench, request_).code == ChscCode.INVALID_REQUEST


def test_formats_and_images_that_are_not_there(bench: Bench) -> None:
    for wish in (StorePaths(0, 0, fmt=1), StorePaths(0, 0, rfmt=2), StoreSubchannels(0, 0, 0, fmt=1)):
        assert ask(bench, wish).code == ChscCode.INVALID_FORMAT
    for image in (StorePaths(0, 0, cssid=1, m=True), StoreCharacteristics(cssid=2, m=True), StoreCharacteristics(1)):
        assert ask(bench, image).code == ChscCode.INVALID_IMAGE


def test_channel_paths_are_described_in_three_formats(bench: Bench) -> None:
    for fmt, wish in ((0, StorePaths(0, 0xFF)), (1, StorePaths(0, 0xFF, c=True)), (3, StorePaths(0, 0xFF, rfmt=3))):
        response = ask(bench, wish)
        assert (response.ok, response.parameters) == (True, fmt)
        first, second = PathDescription.list_from(response.data, fmt)
        assert (first.chpid, first.type, first.valid, first.lsn) == (0x44, 0x1B, True, 3)
        assert first.chid == (0x120 if fmt else None)
        assert second.chpid == 0x45
        if fmt == 3:
            assert second.utility.startswith(b"\xe3\xc5\xe2\xe3\0")
    assert ask(bench, StorePaths(0x50, 0x50)).data == b""


def test_a_list_ends_where_the_page_ends(bench: Bench) -> None:
    for chpid in range(0x100):
        bench.css.add_path(ChannelPath(chpid))
    request = StorePaths(0, 0xFF, rfmt=3).request()
    response = ask(bench, request)
    assert len(PathDescription.list_from(response.data, 3)) == (4096 - 16 - 8) // 96
    assert request.length + len(response.to_bytes()) <= 4096


def test_characteristics_say_what_is_there() -> None:
    """QEMU's words: 03000000 00079000 .. 00080000; 40000000 .. 00040000."""
    raw = ask(make(VIRTUAL), StoreCharacteristics()).data
    assert raw[:16].hex() == "03000000000790000000000000080000"
    assert raw[2040:2056].hex() == "40000000000000000000000000040000"
    main = Characteristics.from_bytes(ask(make(), StoreCharacteristics()).data)
    assert Characteristic.UTILITY_STRING in main.general
    assert not {Characteristic.TRANSPORT_MODE, Characteristic.ADAPTER_INTERRUPTION} & main.general
    assert CallCharacteristic.SET_CHANNEL_MEASUREMENT in main.calls


def test_a_virtual_machine_has_fewer_commands() -> None:
    bench = make(VIRTUAL)
    assert ask(bench, StorePaths(0x44, 0x44)).ok
    for wish in (StoreSubchannels(0, 5, 5), StoreMeasurement(0x44, 0x44), StoreImages(), InitiateLogging(SCHID)):
        assert ask(bench, wish).code == ChscCode.NOT_PROVIDED


def test_subchannels_are_described(bench: Bench) -> None:
    data = ask(bench, StoreSubchannels(0, 5, 6)).data
    first, second = (SubchannelDescription.from_bytes(data[at : at + 32]) for at in (0, 32))
    assert first == SubchannelDescription(
        5,
        devno=0x1001,
        unit_address=0x21,
        path_mask=0xC0,
        link_mask=0x80,
        chpids=bytes(PATHS),
        links=(0x1101, *[0] * 7),
    )
    assert not second.valid
    assert not QdioDescription.from_bytes(ask(bench, StoreQdio(0, 5, 5)).data).capable
    bench.css.add_subchannel(SubchannelConfig(SubchannelId(0, 0, 9), 9, qdio=True))
    assert QdioDescription.from_bytes(ask(bench, StoreQdio(0, 9, 9)).data).capable


def test_facilities_are_enabled() -> None:
    """Before, only set 0 of the default image is there (``css_init`` of Linux enables the sets)."""
    bench = make()
    far, other = SubchannelId(0, 3, 7), SubchannelId(2, 0, 7)
    for schid in (far, other):
        bench.css.add_subchannel(SubchannelConfig(schid, 1, device=Echo()))
    bench.css.reset()
    assert [bench.css.stsch(schid)[0] for schid in (SCHID, far, other)] == [0, 3, 3]
    bench.css.remove_subchannel(far)
    assert bench.css.stcrw() is None  # nobody can see it
    bench.css.add_subchannel(SubchannelConfig(far, 1, device=Echo()))
    assert ask(bench, EnableFacility(Facility.SUBCHANNEL_SETS)).ok
    assert [bench.css.stsch(schid)[0] for schid in (SCHID, far, other)] == [0, 0, 3]
    assert ask(bench, EnableFacility(Facility.IMAGES)).ok
    assert bench.css.stsch(other)[0] == 0
    bench.css.remove_subchannel(other)
    assert [bench.css.stcrw(), bench.css.stcrw()] == [Crw(3, 4, 7, chn=True), Crw(3, 4, 0x200)]


def test_events(bench: Bench) -> None:
    assert ask(bench, StoreEvents()).code == ChscCode.NO_INFORMATION
    bench.css.request_path(0, 0x44, Configure.DECONFIGURE)
    bench.css.inject_event(Sei(EventContent.RESOURCE_ACCESSIBILITY, rs=4, rsid=0x45))
    bench.css.inject_event(Sei(2, nt=2))
    assert bench.css.stcrw() == Crw(rsc=0xB)
    assert bench.css.stcrw() is None
    events = []
    while (response := ask(bench, StoreEvents.of(0))).ok:
        events.append(Sei.from_bytes(response.parameters.to_bytes(4, "big") + response.data))
    assert [(event.cc, event.chpids, event.more) for event in events] == [(8, (0x44,), True), (2, (0x45,), False)]
    last = ask(bench, StoreEvents.of(0, 2))
    assert (last.ok, last.parameters) == (True, 2)
    with pytest.raises(Exception, match="no such channel path"):
        bench.css.request_path(0, 0x99)


def test_events_that_are_lost(bench: Bench) -> None:
    for number in range(600):
        bench.css.inject_event(Sei(EventContent.RESOURCE_ACCESSIBILITY, rs=4, rsid=number & 0xFF))
    first = ask(bench, StoreEvents())
    assert Sei.from_bytes(first.parameters.to_bytes(4, "big") + first.data).lost
    second = ask(bench, StoreEvents())
    assert not Sei.from_bytes(second.parameters.to_bytes(4, "big") + second.data).lost


def test_measurement_of_channel_paths(bench: Bench) -> None:
    """``chp_measurement_copy_block`` reads these areas; utilization is not modelled, so they are zero."""
    first = MeasurementCharacteristics.from_bytes(ask(bench, StoreMeasurement(0x44, 0x44)).data)
    assert (first.cmg, first.shared, first.valid, first.speed) == (2, True, True, 16 * 10**9)
    assert not MeasurementCharacteristics.from_bytes(ask(bench, StoreMeasurement(0x45, 0x45)).data).valid
    assert ask(bench, SetMeasurement(False)).code == ChscCode.MEASUREMENT_STATE
    assert ask(bench, SetMeasurement(True, (0x30800, 0x31000))).code == ChscCode.MEASUREMENT_AREA
    assert ask(bench, SetMeasurement(True, (1 << 40, 0x31000))).code == ChscCode.MEASUREMENT_AREA
    bench.memory.write(0x30000, b"\xff" * 0x1000)
    assert ask(bench, SetMeasurement(True, (0x30000, 0x31000))).ok
    assert bench.memory.read(0x30000 + 32 * 0x44, 64) == bytes(64)
    assert bench.memory.read(0x30000, 32) == b"\xff" * 32
    assert ask(bench, SetMeasurement(True, (0x30000, 0x31000))).code == ChscCode.MEASUREMENT_STATE
    assert ask(bench, SetMeasurement(False)).ok


def test_logging_and_images(bench: Bench) -> None:
    assert ask(bench, InitiateLogging(SCHID)).ok
    assert bench.css.calls.logged == [SCHID]
    assert StoreImages.entries(ask(bench, StoreImages()).data) == [(0, 0)]


def test_reset_forgets_what_the_program_did(bench: Bench) -> None:
    schib = bench.schib()
    bench.css.set_path_online(0, 0x44, False)
    assert bench.css.rchp(0, 0x45) == 0
    bench.start("e420000700020000")
    bench.css.reset()
    bench.clock.settle()
    assert bench.css.stcrw() is None
    after = bench.schib()
    assert (after.pmcw.ena, after.pmcw.intparm, after.pmcw.pam) == (False, 0, 0x40)
    assert bench.css.msch(SCHID, replace(schib, pmcw=replace(schib.pmcw, ena=True))) == 0
    assert bench.start("e420000700020000").lpum == 0x40
