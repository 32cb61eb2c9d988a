"""Formats and arithmetic of IODA: each against a slow way to say the same, or against what another source says."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from pyvfio.abi import eeh, opal_diag, vfio_spapr
from pyvfio.abi.opal import OpalBusCompare, OpalFreezeState
from pyvfio.errors import MalformedAnswer, Misuse
from pyvfio.ioda.diagnosis import Diagnosis
from pyvfio.ioda.message import interrupt_of, is_message, message_32, message_64
from pyvfio.ioda.operations import PeOperation, pe_state
from pyvfio.ioda.pest import Cause, PestEntry, Transfer, freeze_state
from pyvfio.ioda.routing import ROUTING_IDS, RidMatch
from pyvfio.ioda.segments import Segments
from pyvfio.ioda.tce import BypassEntry, TableEntry, TceAccess, tce, tce_address, tve_from_int
from pyvfio.ioda.window import DmaWindow

RIDS = st.integers(0, ROUTING_IDS - 1)


@given(RIDS, st.sampled_from(OpalBusCompare), st.booleans(), st.booleans(), RIDS)
def test_routing_ids_are_compared_bit_by_bit(
    rid: int, bus: OpalBusCompare, device: bool, function: bool, other: int
) -> None:
    bits = {OpalBusCompare.ANY: 0, OpalBusCompare.ALL: 8}.get(bus) or (int(bus) + 1 if bus else 0)
    same = (rid >> 8) >> 8 - bits == (other >> 8) >> 8 - bits
    same = same and (not device or rid >> 3 & 31 == other >> 3 & 31) and (not function or rid & 7 == other & 7)
    assert (other in RidMatch(rid, bus, device, function)) == same


@given(RIDS, st.sampled_from([OpalBusCompare.ALL, OpalBusCompare.BITS_7]), st.booleans(), st.booleans())
def test_the_routing_ids_of_a_match_are_listed(rid: int, bus: OpalBusCompare, device: bool, function: bool) -> None:
    match = RidMatch(rid, bus, device, function)
    assert list(match) == [one for one in range(ROUTING_IDS) if one in match]


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16, 32])
def test_buses_of_a_power_of_two(count: int) -> None:
    """pnv_ioda_configure_pe: the number of buses behind a bridge is what is compared."""
    assert list(RidMatch.of_buses(count * 2, count)) == list(range(count * 2 << 8, count * 3 << 8))


def test_other_counts_of_buses_are_one() -> None:
    """pnv_ioda_configure_pe: "Do an exact match only"."""
    assert list(RidMatch.of_buses(3, 3)) == list(range(0x300, 0x400))


@given(st.integers(0, 1 << 36), st.sampled_from([0, 0x80000000]), st.integers(1, 512), st.integers(12, 24), st.data())
def test_segments(base: int, bus: int, count: int, shift: int, data: st.DataObject) -> None:
    window = Segments(base, bus, count << shift, count)
    segment = data.draw(st.integers(0, count - 1))
    inside = data.draw(st.integers(0, window.segment_size - 1))
    address = window.start(segment) + inside
    assert window.contains(address)
    assert window.segment(address) == segment
    assert window.from_bus(window.to_bus(address)) == address
    assert window.contains_bus(window.to_bus(address))
    last = data.draw(st.integers(address, base + window.size - 1))
    reached = {(one - base) >> shift for one in range(address, last + 1, 1 << shift)} | {(last - base) >> shift}
    assert set(window.of_bus_range(window.to_bus(address), window.to_bus(last))) == reached
    assert window.of_bus_range(window.to_bus(address), bus + 2 * window.size) == range(segment, count)
    assert window.of_bus_range(bus + window.size, bus + 2 * window.size) == range(0)


def test_segments_that_are_not_equal_are_none() -> None:
    with pytest.raises(Misuse):
        Segments(0, 0, 1000, 128)


def possible(size: int, shift: int, levels: int, host: int = 12) -> DmaWindow:
    """A window, unless its tables would cover too many bits."""
    try:
        return DmaWindow(size, shift, levels, host)
    except Misuse:
        entries = -(-(size.bit_length() - 1 - shift) // levels)
        assert max(entries, host - 3) * levels + shift >= 55
        reject()


SHIFTS = st.sampled_from([12, 16, 21, 24, 30])


@given(SHIFTS, st.integers(0, 20), st.integers(1, 5), st.data())
def test_a_page_is_found_by_its_indices(shift: int, order: int, levels: int, data: st.DataObject) -> None:
    window = possible(1 << shift + order, shift, levels)
    page = data.draw(st.integers(0, window.pages - 1))
    number = 0
    for index in window.indices(page):
        assert 0 <= index < window.level_entries
        number = number * window.level_entries + index
    assert number == page
    assert window.level_entries**levels >= window.pages


@given(SHIFTS, st.integers(0, 20), st.integers(1, 5), st.sampled_from([12, 16]))
def test_memory_of_tables_is_what_linux_counts(shift: int, order: int, levels: int, host: int) -> None:
    """pnv_pci_ioda2_get_table_size, from the bottom: tables of a level, then entries for them on the next one up."""
    window = possible(1 << shift + order, shift, levels, host)
    size, total = 1 << window.level_shift, 0
    left = max(0x1000, 8 << order)
    for _ in range(levels):
        tables = (left + size - 1) // size
        total += tables * size
        left = max(left // size * 8, size)
    assert window.table_bytes == 2 * total


@pytest.mark.parametrize(
    ("size", "shift", "levels"),
    [(3 << 20, 12, 1), (0, 12, 1), (1 << 30, 12, 0), (1 << 30, 12, 6), (1 << 10, 12, 1), (1 << 58, 12, 1), (8, -1, 1)],
)
def test_windows_that_linux_refuses(size: int, shift: int, levels: int) -> None:
    """pnv_pci_ioda2_table_alloc_pages: EINVAL."""
    with pytest.raises(Misuse):
        DmaWindow(size, shift, levels)


@given(st.integers(0, (1 << 40) - 1), st.integers(1, 5), st.integers(12, 40), SHIFTS)
def test_entries_with_tables_keep_what_they_say(page: int, levels: int, order: int, shift: int) -> None:
    entry = TableEntry(page << 12, levels, 1 << order, shift)
    assert tve_from_int(int(entry)) == entry
    assert int(entry) < 1 << 64


@given(st.integers(0, (1 << 26) - 2), st.integers(1, 1 << 20))
def test_entries_without_tables_keep_what_they_say(first: int, length: int) -> None:
    entry = BypassEntry(first << 24, min(first + length, (1 << 26) - 1) << 24)
    assert tve_from_int(int(entry)) == entry


def test_no_window() -> None:
    assert tve_from_int(0) is None


def test_an_entry_as_skiboot_has_it() -> None:
    """phb4_map_pe_dma_window: 2 GiB of 4 KiB pages in two levels, whose tables are 8 KiB, at 0x1234000."""
    value = (0x1234000 >> 12) << 16 | 1 << 13 | (13 - 11) << 8 | 1
    assert tve_from_int(value) == TableEntry(0x1234000, 2, 0x2000, 12)


@given(st.integers(0, (1 << 40) - 1), st.sampled_from(TceAccess))
def test_tces(page: int, access: TceAccess) -> None:
    entry = tce(page << 12, access)
    assert tce_address(entry) == page << 12
    assert entry & 3 == access


@given(st.integers(0, 0x7FF))
def test_messages_of_32_bits(interrupt: int) -> None:
    address, data = message_32(interrupt)
    assert is_message(address)
    assert 0xFFFF0000 <= address < 1 << 32
    assert interrupt_of(address, data) == interrupt


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFF))
def test_messages_of_64_bits(interrupt: int, other: int, offset: int) -> None:
    address, data = message_64(interrupt)
    assert is_message(address)
    assert interrupt_of(address, data) == interrupt
    assert other == data or interrupt_of(address, other) != interrupt
    assert not offset or interrupt_of(address ^ offset, data) != interrupt


def test_where_messages_are_not() -> None:
    assert not any(is_message(one) for one in (0, 0xFFFEFFFF, 1 << 32, 1 << 59, 2 << 60))


@given(
    st.sampled_from(Transfer), st.sampled_from(list(Cause)), RIDS, st.integers(0, (1 << 61) - 1), st.integers(0, 0xFFFF)
)
def test_what_froze_an_endpoint_is_kept(transfer: Transfer, cause: Cause, rid: int, address: int, data: int) -> None:
    entry = PestEntry(transfer, cause, rid, address, data)
    assert PestEntry.decode(*entry.encode(frozen=True, stopped=True)) == entry


def test_states() -> None:
    entry = PestEntry(Transfer.LOAD, Cause.MMIO)
    states = [freeze_state(*entry.encode(frozen=bool(n & 1), stopped=bool(n & 2))) for n in range(4)]
    assert states == list(OpalFreezeState)[:4]
    assert entry.encode(frozen=False, stopped=False) == (0, 0)
    assert entry.encode(frozen=False, stopped=True)[0] == entry.encode(frozen=True, stopped=False)[1] == 0


@pytest.mark.parametrize("kind", opal_diag.ERROR_DATA)
def test_error_logs_keep_what_they_say(kind: type[opal_diag.PhbErrorData]) -> None:
    log = Diagnosis(kind.TYPE, {"brdgCtl": 2, "lemFir": 1 << 63}, {0: (1 << 63, 0), kind.ENDPOINTS - 1: (3, 4)})
    data = log.to_bytes()
    assert Diagnosis.parse(data) == log
    assert (len(data), int.from_bytes(data[8:12], "big")) == (ctypes.sizeof(kind),) * 2


def test_sizes_of_error_logs() -> None:
    """``sizeof`` of ``struct OpalIoP7IOCPhbErrorData`` and its successors, by ``opal-api.h`` of Linux 6.12."""
    assert [ctypes.sizeof(one) for one in opal_diag.ERROR_DATA] == [2320, 4392, 8576]


@pytest.mark.parametrize("data", [b"", bytes(8576), (3).to_bytes(8, "big") + bytes(100)])
def test_what_is_no_error_log(data: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        Diagnosis.parse(data)


def test_numbers_of_vfio_and_of_powerpc_are_the_same() -> None:
    """`vfio_spapr` is from ``vfio.h``, `eeh` from ``asm/eeh.h``."""
    names = ("NORMAL", "RESET", "STOPPED_DMA", "UNAVAIL")
    ours = [getattr(eeh, f"EEH_PE_STATE_{one}") for one in names]
    assert ours == [vfio_spapr.EehState[one] for one in names]
    assert eeh.EEH_PE_STATE_STOPPED_IO_DMA == vfio_spapr.EehState.STOPPED
    assert [int(one) for one in eeh.EehErrorFunction] == list(range(eeh.EEH_ERR_FUNC_MAX + 1))


def test_states_as_linux_tells_them() -> None:
    """eeh_pe_get_state, over pnv_eeh_get_pe_state: which of "MMIO enabled" and "DMA enabled" the state stands for."""
    told = [int(pe_state(one)) for one in OpalFreezeState]
    assert told == [0, 5, 4, 2, 1, 2, 2]


def test_operations() -> None:
    assert [int(one) for one in PeOperation] == list(range(10))


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (Diagnosis(9), "no kind 9"),
        (Diagnosis(opal_diag.OPAL_PHB_ERROR_DATA_TYPE_PHB4, {"portStatusReg": 1}), "has no portStatusReg"),
        (Diagnosis(opal_diag.OPAL_PHB_ERROR_DATA_TYPE_PHB4, {"len": 1}), "has no len"),
        (Diagnosis(opal_diag.OPAL_PHB_ERROR_DATA_TYPE_PHB3, {}, {256: (1, 1)}), "has no 256"),
    ],
)
def test_error_logs_that_cannot_be(log: Diagnosis, words: str) -> None:
    with pytest.raises(Misuse, match=words):
        log.to_bytes()
