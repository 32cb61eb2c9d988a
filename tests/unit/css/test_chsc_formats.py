"""The blocks of CHSC, of measurement and of interruptions: wrong ones, known ones, and that all survive a round trip.

Layouts: ``drivers/s390/cio/chsc.c``, ``chsc.h``, ``cmf.c``; ``arch/s390/include/asm/{chpid,css_chars,qdio,tpi}.h``.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvfio.address import SubchannelId
from pyvfio.css.chsc import ChscCode, ChscRequest, ChscResponse, request_problem
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
from pyvfio.css.interruption import Interruptions, IoInterruption, subclass_mask
from pyvfio.css.measurement import ChannelMonitor, ExtendedMeasurementBlock, MeasurementBlock
from pyvfio.errors import Misuse

BYTE, HALF, WORD, DOUBLE = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 64))
NIBBLE = st.integers(0, 15)
BIT = st.booleans()
NO_ZEROS = st.just((0, 0, 0))
SCHIDS = st.builds(SubchannelId, BYTE, st.integers(0, 3), HALF)

REQUESTS = st.one_of(
    st.builds(StorePaths, BYTE, BYTE, BYTE, BIT, BIT, NIBBLE, NIBBLE),
    st.builds(StoreSubchannels, st.integers(0, 3), HALF, HALF, NIBBLE),
    st.builds(StoreQdio, st.integers(0, 3), HALF, HALF, NIBBLE),
    st.builds(InitiateLogging, SCHIDS, WORD, WORD),
    st.builds(StoreCharacteristics, BYTE, BIT, NIBBLE),
    st.builds(EnableFacility, HALF, NIBBLE, st.binary(min_size=1008, max_size=1008)),
    st.builds(StoreEvents, DOUBLE, WORD),
    st.builds(StoreImages, BYTE),
    st.builds(StoreMeasurement, BYTE, BYTE),
    st.builds(SetMeasurement, BIT, st.tuples(DOUBLE, DOUBLE), BIT, NIBBLE, st.tuples(DOUBLE, DOUBLE, DOUBLE, DOUBLE)),
)
BLOCKS = st.one_of(
    st.builds(
        SubchannelDescription, HALF, BIT, BIT, st.integers(0, 7), BYTE, HALF, BYTE, BYTE,
        st.binary(min_size=8, max_size=8), st.tuples(*[HALF] * 8),
    ),
    st.builds(
        QdioDescription, HALF, BIT, BIT, BYTE, BYTE, BYTE, BYTE, BYTE, BYTE, BYTE, BYTE, HALF, DOUBLE, BYTE, BYTE, HALF,
        BYTE,
    ),
    st.builds(
        MeasurementCharacteristics, BYTE, BYTE, BIT, BIT, BIT, st.integers(0, 31), NIBBLE, BYTE, HALF,
        st.tuples(*[WORD] * 5),
    ),
    st.builds(Characteristics, st.frozensets(st.integers(0, 16319)), st.frozensets(st.integers(0, 16255))),
    st.builds(MeasurementBlock, HALF, HALF, *[WORD] * 5),
    st.builds(ExtendedMeasurementBlock, *[WORD] * 9),
    st.builds(IoInterruption, SCHIDS, WORD, st.integers(0, 7)),
    st.builds(ChscResponse, HALF, st.binary(max_size=64), WORD),
)  # fmt: skip


# -- wrong ones ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "block",
    [
        b"",
        bytes(15),
        bytes.fromhex("00080010") + bytes(60),
        bytes.fromhex("00110010") + bytes(60),
        bytes.fromhex("0ff90010") + bytes(4092),
        bytes.fromhex("10000010") + bytes(4092),
        bytes.fromhex("00200010") + bytes(12),
    ],
)
def test_requests_that_are_operand_exceptions(block: bytes) -> None:
    assert request_problem(block)
    with pytest.raises(Misuse):
        ChscRequest.from_bytes(block)


@pytest.mark.parametrize("block", [b"", bytes(7), bytes(8), bytes.fromhex("0020000100000000")])
def test_responses_that_are_too_short(block: bytes) -> None:
    with pytest.raises(Misuse):
        ChscResponse.from_bytes(block)


def test_fields_that_do_not_fit() -> None:
    for build in (
        lambda: ChscRequest(0x10000).to_bytes(),
        lambda: ChscRequest(0x10, bytes(5)).to_bytes(),
        lambda: StorePaths(0x100, 0).request(),
        lambda: StoreSubchannels(4, 0, 0).request(),
        lambda: PathDescription(0, 0).to_bytes(2),
        lambda: PathDescription.from_bytes(bytes(8), 1),
        lambda: PathDescription.list_from(bytes(9), 0),
        lambda: Characteristics.of([1 << 20]).to_bytes(),
        lambda: StoreEvents.of(64),
        lambda: subclass_mask(8),
        lambda: IoInterruption.from_bytes(bytes(8) + bytes.fromhex("80000000")),
        lambda: SetMeasurement.from_request(ChscRequest(0x16, b"\xc0" + bytes(75))),
        lambda: MeasurementCharacteristics(0, words=(0,)).to_bytes(),
        lambda: SubchannelDescription(0, links=(1,)).to_bytes(),
    ):
        with pytest.raises(Misuse):
            build()


# -- known ones: what Linux builds -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "block"),
    [
        (StoreCharacteristics(), "00100010 00000000 00000000 00000000"),
        (StorePaths(0x40, 0x40, c=True, rfmt=1), "00100002 10000140 00000040 00000000"),
        (StoreSubchannels(2, 0x1234, 0x1234), "00100004 00201234 00001234 00000000"),
        (StoreQdio(1, 5, 5), "00100024 00100005 00000005 00000000"),
        (StoreEvents.of(0, 2), "0010000e 00000000 a0000000 00000000"),
        (StoreMeasurement(0x40, 0x41), "00100022 00000040 00000041 00000000"),
        (InitiateLogging(SubchannelId(0, 1, 5)), "00100046 80000000 00030005 00000000"),
        (StoreImages(), "00200034 04000000" + "00" * 24),
        (EnableFacility(Facility.SUBCHANNEL_SETS), "04000031 00000002" + "00" * 1016),
        (SetMeasurement(False, (1 << 12, 2 << 12), True), "00500016 50000000 00000000 0000000000001000 0000000000002000"
         + "00" * 52),
    ],
)  # fmt: skip
def test_requests_of_linux(wish: Any, block: str) -> None:
    assert wish.request().to_bytes() == bytes.fromhex(block)
    assert type(wish).from_request(ChscRequest.from_bytes(bytes.fromhex(block))) == wish


def test_bits_are_numbered_from_the_left() -> None:
    raw = Characteristics.of([Characteristic.MULTIPLE_IMAGES], [CallCharacteristic.SET_CHANNEL_MEASUREMENT]).to_bytes()
    assert raw[:8].hex() == "0000000000040000"
    assert raw[2040:2056].hex() == "00000000000000000000080000000000"


def test_speed() -> None:
    """``scmc_get_speed``: the power of ten is 8 when it is not told."""
    assert MeasurementCharacteristics(0, cmgs=16, cmgp=9).speed == 16 * 10**9
    assert MeasurementCharacteristics(0, cmgs=80).speed == 8 * 10**9


def test_interruptions_by_subclass_then_by_arrival() -> None:
    pending = Interruptions()
    first, second, third = (SubchannelId(0, 0, number) for number in range(3))
    for schid, isc in ((first, 5), (second, 3), (third, 3)):
        pending.request(schid, 0x10 + isc, isc)
    assert pending.take(subclass_mask(0, 1, 2, 4, 6, 7)) is None
    assert pending.take(subclass_mask(5)) == IoInterruption(first, 0x15, 5)
    pending.request(second, 0x20, 3)  # another status of the same subchannel: it keeps its place
    assert pending.take(0xFF) == IoInterruption(second, 0x20, 3)
    pending.withdraw(third)
    pending.withdraw(third)
    assert pending.take(0xFF) is None
    assert len(pending) == 0


def test_words() -> None:
    assert str(ChscResponse(ChscCode.COMPLETED, bytes(32))) == "CHSC response 0001: completed, 32 bytes"
    assert str(ChscRequest(0x7777)) == "CHSC command 7777, 16 bytes"
    assert str(ChannelMonitor()) == "channel monitor: off"
    assert str(QdioDescription(5)) == "subchannel 0005: no QDIO"


# -- all of them -----------------------------------------------------------------------------------------------------


@given(REQUESTS)
def test_requests_survive(wish: Any) -> None:
    again = type(wish).from_request(ChscRequest.from_bytes(wish.request().to_bytes()))
    assert again == wish
    assert str(again)


@given(BLOCKS)
def test_blocks_survive(block: Any) -> None:
    assert type(block).from_bytes(block.to_bytes()) == block
    assert str(block)


@given(st.sampled_from([0, 1, 3]), st.data())
def test_path_descriptions_survive(fmt: int, data: st.DataObject) -> None:
    short: dict[str, st.SearchStrategy[Any]] = {"lsn": BYTE, "chpp": BYTE, "valid": BIT}
    if fmt == 0:
        short |= {"swla": BYTE, "chla": BYTE}
    else:
        chid = data.draw(st.one_of(st.none(), HALF))
        short |= {"chid": st.just(chid), "mdc": HALF, "esc": BYTE, "rsf": st.integers(0, 7)}
        short["external"] = BIT if chid is not None else st.just(False)
    if fmt == 3:
        short["utility"] = st.binary(min_size=64, max_size=64)
    path = data.draw(st.builds(PathDescription, BYTE, BYTE, **short))
    assert PathDescription.from_bytes(path.to_bytes(fmt), fmt) == path
    assert str(path)


@given(WORD, DOUBLE)
def test_registers_survive(one: int, two: int) -> None:
    assert ChannelMonitor.from_registers(one, two).registers == (one, two)
