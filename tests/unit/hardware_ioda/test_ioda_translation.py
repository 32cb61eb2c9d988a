"""DMA windows: translation by tables in memory against a dictionary of pages, and who may use which window."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ioda_rig import READ_WRITE, RealMemory, rig

from pyvfio.abi import opal as api
from pyvfio.abi.opal import OpalTceKill
from pyvfio.errors import Misuse
from pyvfio.ioda.message import is_message
from pyvfio.ioda.pest import Cause, PestEntry
from pyvfio.ioda.table import TceTable
from pyvfio.ioda.tce import TceAccess
from pyvfio.ioda.window import SECOND_WINDOW, DmaWindow
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.ioda.inbound import Inbound
from pyvfio_backends.software.hardware.ioda.model import P7IOC, PHB3, PHB4
from pyvfio_backends.software.hardware.pcie.upstream import Source

PE, RID = 5, 0x100
WHO = Source(0, RID)


class Sparse:
    """Memory of which a byte says where it is: without one's own bytes, real address a has byte ``hash`` of a."""

    def __init__(self) -> None:
        self.tables = RealMemory(1 << 24)
        self.written: dict[int, int] = {}
        self.limit = 1 << 24

    def byte(self, address: int) -> int:
        return self.written.get(address, (address * 0x9E3779B1 >> 13) & 0xFF)

    def read(self, iova: int, count: int) -> bytes:
        if iova < self.limit:
            return self.tables.read(iova, count)
        return bytes(self.byte(one) for one in range(iova, iova + count))

    def write(self, iova: int, data: bytes) -> None:
        if iova < self.limit:
            self.tables.write(iova, data)
        else:
            self.written.update(zip(range(iova, iova + len(data)), data, strict=True))

    def copy(self, target: int, source: int, count: int) -> None:
        self.write(target, self.read(source, count))


@st.composite
def windows(draw: st.DrawFn) -> DmaWindow:
    shift = draw(st.sampled_from([12, 16, 21, 30]))
    levels = draw(st.integers(1, 5))
    order = draw(st.integers(0, 12 if levels == 1 else 16))
    try:
        return DmaWindow(1 << shift + order, shift, levels)
    except Misuse:
        return DmaWindow(1 << shift + order, shift, 1)


@settings(max_examples=150, deadline=None)
@given(windows(), st.booleans(), st.data())
def test_tables_translate_as_a_dictionary_does(window: DmaWindow, second: bool, data: st.DataObject) -> None:
    memory = Sparse()
    failed: list[tuple[int, PestEntry]] = []
    inbound = Inbound(PHB4, memory, lambda rid: PE, lambda pe, entry: failed.append((pe, entry)))
    table = TceTable(window, memory, memory.tables.allocate)
    inbound.entries[2 * PE + second] = table.entry
    pages: dict[int, tuple[int, TceAccess]] = {}
    near = data.draw(st.integers(0, window.pages - 1))
    numbers = st.integers(max(0, near - 3), min(window.pages - 1, near + 3))
    for page in data.draw(st.sets(numbers, min_size=1, max_size=6)):
        real = (data.draw(st.integers(1, 1 << 10)) << window.page_shift) + (1 << 50)
        access = data.draw(st.sampled_from([TceAccess.READ, READ_WRITE, READ_WRITE]))
        pages[page] = real, access
        table.set(page, real, access)
        assert table.get(page) == real | access
    start = SECOND_WINDOW if second else 0
    for _ in range(5):
        page = data.draw(numbers)
        offset = data.draw(st.sampled_from([0, 5, window.page_size - 8]))
        count = data.draw(st.integers(1, 16))
        first = (page << window.page_shift) + offset
        write = data.draw(st.booleans())
        wanted: list[int] | None = []
        for one in range(first, first + count):
            real, access = pages.get(one >> window.page_shift, (0, TceAccess.NONE))
            if wanted is None or not access & (TceAccess.WRITE if write else TceAccess.READ):
                wanted = None
            else:
                wanted.append(real + (one & window.page_size - 1))
        if is_message(start + first):
            wanted = None
        before = dict(memory.written)
        failed.clear()
        if wanted is None:
            with pytest.raises(DmaFault):
                inbound.write(WHO, start + first, bytes(count)) if write else inbound.read(WHO, start + first, count)
            assert memory.written == before
            assert [(pe, entry.rid, entry.address) for pe, entry in failed] == [(PE, RID, start + first)]
        elif write:
            content = bytes(range(1, count + 1))
            inbound.write(WHO, start + first, content)
            assert memory.written == before | dict(zip(wanted, content, strict=True))
        else:
            assert inbound.read(WHO, start + first, count) == bytes(memory.byte(one) for one in wanted)


def table(shift: int = 12, order: int = 8, levels: int = 1) -> tuple[TceTable, RealMemory]:
    memory = RealMemory()
    return TceTable(DmaWindow(1 << shift + order, shift, levels), memory, memory.allocate), memory


@given(st.integers(1, 4), st.data())
def test_runs_are_the_same_as_pages_one_by_one(levels: int, data: st.DataObject) -> None:
    one, _ = table(order=11, levels=levels)
    two, _ = table(order=11, levels=levels)
    for _ in range(3):
        page = data.draw(st.integers(0, 2047))
        count = data.draw(st.integers(0, 2048 - page))
        if data.draw(st.booleans()):
            one.set_run(page, 0x10000, count, READ_WRITE)
            for index in range(count):
                two.set(page + index, 0x10000 + 0x1000 * index, READ_WRITE)
        else:
            one.clear(page, count)
            for index in range(count):
                two.set(page + index, 0, TceAccess.NONE)
    sample = data.draw(st.lists(st.integers(0, 2047), max_size=50))
    assert [one.get(page) for page in sample] == [two.get(page) for page in sample]


def test_pages_outside_of_a_window() -> None:
    made, memory = table()
    before = bytes(memory.data)
    for work in (
        lambda: made.set(256, 0, READ_WRITE),
        lambda: made.get(-1),
        lambda: made.set_run(255, 0, 2, READ_WRITE),
    ):
        with pytest.raises(Misuse):
            work()
    assert bytes(memory.data) == before


def test_tables_of_lower_levels_come_when_they_are_needed() -> None:
    made, _ = table(order=20, levels=3)
    assert len(made.tables) == 1
    assert made.get(5) == 0
    made.clear(0, 1 << 20)
    assert len(made.tables) == 1
    made.set(0, 0x1000, READ_WRITE)
    assert len(made.tables) == 3


def test_what_was_read_of_tables_is_kept_until_it_is_said_to_be_old() -> None:
    """So Linux calls ``opal_pci_tce_kill`` whenever it changes an entry (pnv_pci_ioda2_tce_invalidate)."""
    for kind, size, count in ((OpalTceKill.PAGES, 0x1000, 1), (OpalTceKill.PE, 0, 0), (OpalTceKill.ALL, 0, 0)):
        r = rig()
        other = r.real(20) + 0x2000
        r.memory.write(r.real(20), b"old")
        r.memory.write(other, b"new")
        assert r.a.dma_read(0, 3) == b"old"
        r.tables[20].set(0, other, READ_WRITE)
        assert r.a.dma_read(0, 3) == b"old"
        assert r.opal.pci_tce_kill(0, kind, 20, size, 0, count) == api.OPAL_SUCCESS
        assert r.a.dma_read(0, 3) == b"new"


def test_forgetting_one_page_forgets_no_other() -> None:
    for first, count in ((1, 1), (1, 1 << 40)):  # also more pages than are ever kept
        r = rig()
        r.a.dma_read(0, 0x2000)
        r.b.dma_read(0x1000, 4)
        for pe in (20, 21):
            r.tables[pe].clear(0, 2)
        assert r.opal.pci_tce_kill(0, OpalTceKill.PAGES, 20, 0x1000, first * 0x1000, count) == api.OPAL_SUCCESS
        assert r.a.dma_read(0, 4) == bytes(4)
        assert r.b.dma_read(0x1000, 4) == bytes(4)
        with pytest.raises(DmaFault):
            r.a.dma_read(0x1000, 4)


def test_a_window_of_many_pages_is_forgotten_at_once() -> None:
    """Linux says how many pages it removed: of a window of 2**55 bytes that is not one after the other."""
    r = rig()
    r.a.dma_read(0, 0x2000)
    r.b.dma_read(0, 4)
    r.tables[20].clear(0, 2)
    r.tables[21].clear(0, 2)
    assert r.opal.pci_tce_kill(0, OpalTceKill.PAGES, 20, 0x1000, 0x1000, 1 << 43) == api.OPAL_SUCCESS
    assert r.a.dma_read(0, 4) == bytes(4)
    with pytest.raises(DmaFault):
        r.a.dma_read(0x1000, 4)
    assert r.b.dma_read(0, 4) == bytes(4)  # another endpoint's


@pytest.mark.parametrize("model", [PHB3, PHB4])
def test_an_endpoint_cannot_use_the_window_of_another(model: object) -> None:
    r = rig(model)  # type: ignore[arg-type]
    r.a.dma_write(0, b"mine")
    r.b.dma_write(0, b"hers")
    assert r.memory.read(r.real(20), 4) == b"mine"
    assert r.memory.read(r.real(21), 4) == b"hers"


def test_p7ioc_chooses_windows_by_address_and_checks_who_it_is() -> None:
    """DMA is matched on the address, and validated by the routing id."""
    r = rig(P7IOC)
    start = 20 << 28
    r.a.dma_write(start, b"mine")
    assert r.memory.read(r.real(20), 4) == b"mine"
    r.b.dma_write(start, b"hers")
    assert r.memory.read(r.real(20), 4) == b"mine"
    assert r.phb.endpoints.frozen == {21}
    entry = r.phb.endpoints[21].entry
    assert entry is not None
    assert (entry.causes, entry.rid, entry.address) == (Cause.WINDOW, r.b.rid, start)


def test_p7ioc_checks_both_ends_of_a_transfer() -> None:
    """A table may be larger than its slice of addresses; what goes on into the next slice is another's."""
    r = rig(P7IOC)
    boundary = 21 << 28
    table = TceTable(DmaWindow(1 << 29, 12, 2), r.memory, r.memory.allocate)
    table.set_run((1 << 16) - 1, r.real(20), 2, READ_WRITE)
    entry = table.entry
    assert not r.opal.pci_map_pe_dma_window(0, 20, 20, entry.levels, entry.table, entry.table_size, 0x1000)
    r.phb.inbound.forget()
    r.a.dma_write(boundary - 2, b"ok")
    assert r.memory.read(r.real(20) + 0xFFE, 2) == b"ok"
    with pytest.raises(DmaFault):
        r.phb.inbound.write(Source(0, r.a.rid), boundary - 2, b"over")
    assert r.memory.read(r.real(20) + 0xFFE, 4) == b"ok\0\0"


def test_real_addresses() -> None:
    """Between its ends, as ``opal_pci_map_pe_dma_window_real`` gives them."""
    r = rig()
    size = 16 << 20
    assert r.opal.pci_map_pe_dma_window_real(0, 20, 41, SECOND_WINDOW, size) == api.OPAL_SUCCESS
    r.a.dma_write(SECOND_WINDOW + 0x5000, b"real")
    assert r.memory.read(0x5000, 4) == b"real"
    with pytest.raises(DmaFault):
        r.a.dma_read(SECOND_WINDOW + size, 4)
    assert r.phb.endpoints.frozen == {20}


def test_tables_that_lie_nowhere() -> None:
    r = rig()
    assert r.opal.pci_map_pe_dma_window(0, 20, 40, 1, 1 << 40, 0x1000, 0x1000) == api.OPAL_SUCCESS
    r.phb.inbound.forget()
    with pytest.raises(DmaFault):
        r.a.dma_read(0, 4)
    entry = r.phb.endpoints[20].entry
    assert entry is not None
    assert entry.causes == Cause.PAGE_FAULT


def test_addresses_beyond_the_tables_do_not_begin_again() -> None:
    r = rig()
    entry = r.tables[20].entry
    with pytest.raises(DmaFault):
        r.a.dma_read(1 << entry.address_bits, 4)
    found = r.phb.endpoints[20].entry
    assert found is not None
    assert found.causes == Cause.WINDOW
