"""The firmware's calls that set a bridge up: what they do, and what they refuse without changing anything.

The checks of arguments are those of skiboot's ``hw/phb4.c`` and ``core/pci-opal.c``.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ioda_rig import M32_BASE, M32_BUS, PE_A, PE_B, IodaRig, rig

from pyvfio.abi import opal as api
from pyvfio.abi.opal import OpalBusCompare, OpalM64Action, OpalTceKill, OpalWindow
from pyvfio.errors import Misuse
from pyvfio.ioda.grouping import BusResources, group
from pyvfio.ioda.message import is_message, message_32, message_64
from pyvfio.ioda.segments import Segments
from pyvfio.ioda.tce import TableEntry
from pyvfio.ioda.window import MOST_LEVELS, SECOND_WINDOW
from pyvfio_backends.software.hardware.ioda.hub import Hub
from pyvfio_backends.software.hardware.ioda.model import P7IOC, PHB3, PHB4, PhbModel
from pyvfio_backends.software.hardware.ioda.placement import apertures
from pyvfio_backends.software.hardware.ioda.windows import Windows
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.request import Request, Space

BAD, NOT_HERE, TOO_LATE = api.OPAL_PARAMETER, api.OPAL_UNSUPPORTED, api.OPAL_PARTIAL
M64_BASE, M64_SIZE = 0x6000000000000, 1 << 34
Call = Callable[[IodaRig], int]


def state(r: IodaRig) -> object:
    """All that the calls fill in."""
    windows = [r.phb.windows.m32, *r.phb.windows.m64]
    shown = [(one.type, one.number, tuple(one.owners), one.segments, one.enabled, one.single) for one in windows]
    inbound = r.phb.inbound
    return bytes(r.phb.rids), shown, tuple(inbound.entries), tuple(inbound.owners), tuple(inbound.slices)


REFUSED: dict[str, tuple[int, Call]] = {
    "a bridge that is not there": (BAD, lambda r: r.opal.pci_set_pe(9, 1, 0, 7, 1, 1, 1)),
    "an endpoint that is not there": (BAD, lambda r: r.opal.pci_set_pe(0, 512, 0, 7, 1, 1, 1)),
    "a routing id of 17 bits": (BAD, lambda r: r.opal.pci_set_pe(0, 1, 1 << 16, 7, 1, 1, 1)),
    "a comparison of 2 bits": (BAD, lambda r: r.opal.pci_set_pe(0, 1, 0, 1, 1, 1, 1)),
    "a comparison of devices": (BAD, lambda r: r.opal.pci_set_pe(0, 1, 0, 7, 2, 1, 1)),
    "an action": (BAD, lambda r: r.opal.pci_set_pe(0, 1, 0, 7, 1, 1, 2)),
    "a child that is not there": (BAD, lambda r: r.opal.pci_set_peltv(0, 1, 512, 1)),
    "placing the 32-bit window": (NOT_HERE, lambda r: r.opal.pci_set_phb_mem_window(0, 1, 0, M64_BASE, 0, M64_SIZE)),
    "64-bit window 0": (BAD, lambda r: r.opal.pci_set_phb_mem_window(0, 2, 0, M64_BASE, 0, M64_SIZE)),
    "64-bit window 32": (BAD, lambda r: r.opal.pci_set_phb_mem_window(0, 2, 32, M64_BASE, 0, M64_SIZE)),
    "a size that is no power of two": (BAD, lambda r: r.opal.pci_set_phb_mem_window(0, 2, 1, 0, 0, 3 << 30)),
    "a size of 0": (BAD, lambda r: r.opal.pci_set_phb_mem_window(0, 2, 1, 0, 0, 0)),
    "an address that is not aligned": (BAD, lambda r: r.opal.pci_set_phb_mem_window(0, 2, 1, 1 << 20, 0, M64_SIZE)),
    "a window that is on": (TOO_LATE, lambda r: r.opal.pci_set_phb_mem_window(0, 2, 31, 0, 0, M64_SIZE)),
    "a window that nobody placed": (TOO_LATE, lambda r: r.opal.pci_phb_mmio_enable(0, 2, 1, OpalM64Action.SPLIT)),
    "one endpoint's, with segments": (BAD, lambda r: r.opal.pci_phb_mmio_enable(0, 2, 31, OpalM64Action.NON_SPLIT)),
    "an unknown mode": (BAD, lambda r: r.opal.pci_phb_mmio_enable(0, 2, 31, 3)),
    "the 32-bit window on": (NOT_HERE, lambda r: r.opal.pci_phb_mmio_enable(0, 1, 0, 1)),
    "a segment that is not there": (BAD, lambda r: r.opal.pci_map_pe_mmio_window(0, 1, 1, 0, 512)),
    "a second 32-bit window": (BAD, lambda r: r.opal.pci_map_pe_mmio_window(0, 1, 1, 1, 0)),
    "I/O segments": (NOT_HERE, lambda r: r.opal.pci_map_pe_mmio_window(0, 1, 3, 0, 0)),
    "an unknown window": (BAD, lambda r: r.opal.pci_map_pe_mmio_window(0, 1, 4, 0, 0)),
    "a window that is on, for one": (TOO_LATE, lambda r: r.opal.pci_map_pe_mmio_window(0, 1, 2, 31, 0)),
    "a DMA window of another": (BAD, lambda r: r.opal.pci_map_pe_dma_window(0, 1, 4, 1, 0, 0x1000, 0x1000)),
    "no levels": (BAD, lambda r: r.opal.pci_map_pe_dma_window(0, 1, 2, 0, 0, 0x1000, 0x1000)),
    "six levels": (BAD, lambda r: r.opal.pci_map_pe_dma_window(0, 1, 2, 6, 0, 0x1000, 0x1000)),
    "half a page of table": (BAD, lambda r: r.opal.pci_map_pe_dma_window(0, 1, 2, 1, 0, 0x800, 0x1000)),
    "a table of no power of two": (BAD, lambda r: r.opal.pci_map_pe_dma_window(0, 1, 2, 1, 0, 0x3000, 0x1000)),
    "pages of 16 MiB": (BAD, lambda r: r.opal.pci_map_pe_dma_window(0, 1, 2, 1, 0, 0x1000, 16 << 20)),
    "pages of 3 bytes": (BAD, lambda r: r.opal.pci_map_pe_dma_window(0, 1, 2, 1, 0, 0x1000, 3)),
    "real addresses, wrong half": (BAD, lambda r: r.opal.pci_map_pe_dma_window_real(0, 1, 2, SECOND_WINDOW, 1 << 30)),
    "real addresses, 1 MiB": (BAD, lambda r: r.opal.pci_map_pe_dma_window_real(0, 1, 2, 0, 1 << 20)),
    "real addresses, too many": (BAD, lambda r: r.opal.pci_map_pe_dma_window_real(0, 1, 2, 0, 1 << 50)),
    "killing what": (BAD, lambda r: r.opal.pci_tce_kill(0, 3, 1, 0x1000, 0, 1)),
    "killing pages of 16 MiB": (BAD, lambda r: r.opal.pci_tce_kill(0, OpalTceKill.PAGES, 1, 16 << 20, 0, 1)),
    "killing half a page": (BAD, lambda r: r.opal.pci_tce_kill(0, OpalTceKill.PAGES, 1, 0x10000, 0x1000, 1)),
    "an interrupt that is not there": (BAD, lambda r: r.opal.pci_set_xive_pe(0, 1, 4088)),
    "a message of it": (BAD, lambda r: r.opal.get_msi_64(0, 1, 4088)[0]),
    "two messages at once": (BAD, lambda r: r.opal.get_msi_32(0, 1, 5, 2)[0]),
    "freezing nothing": (BAD, lambda r: r.opal.pci_eeh_freeze_set(0, 1, 0)),
    "freezing what": (BAD, lambda r: r.opal.pci_eeh_freeze_set(0, 1, 4)),
    "clearing of no endpoint": (BAD, lambda r: r.opal.pci_eeh_freeze_clear(0, 512, 3)),
    "the state of no endpoint": (BAD, lambda r: r.opal.pci_eeh_freeze_status(0, 512).code),
    "the next error of no bridge": (BAD, lambda r: r.opal.pci_next_error(1).code),
    "a log that has no room": (BAD, lambda r: r.opal.pci_get_phb_diag_data(0, 8575)[0]),
    "the log of no bridge": (BAD, lambda r: r.opal.pci_get_phb_diag_data(1, 8576)[0]),
    "configuration, not aligned": (BAD, lambda r: r.opal.pci_config_read(0, 0x300, 2, 4)[0]),
    "configuration beyond 4 KiB": (BAD, lambda r: r.opal.pci_config_write(0, 0x300, 0x1000, 4, 0)),
    "a second function on the root bus": (api.OPAL_HARDWARE, lambda r: r.opal.pci_config_read(0, 8, 0, 4)[0]),
}


def with_wide_window(model: PhbModel = PHB4) -> IodaRig:
    r = rig(model)
    last = model.m64_windows - 1
    assert not r.opal.pci_set_phb_mem_window(0, OpalWindow.M64, last, M64_BASE, 0, M64_SIZE)
    assert not r.opal.pci_phb_mmio_enable(0, OpalWindow.M64, last, OpalM64Action.SPLIT)
    return r


def test_refusals_change_nothing() -> None:
    r = with_wide_window()
    before = state(r)
    answers = {name: call(r) for name, (_, call) in REFUSED.items()}
    assert answers == {name: code for name, (code, _) in REFUSED.items()}
    assert state(r) == before
    assert not r.phb.endpoints.troubled()


def test_routing_ids_go_back_to_the_reserved_endpoint() -> None:
    r = rig(PHB4)
    assert not r.opal.pci_set_pe(0, PE_A, 0x300, OpalBusCompare.ALL, 0, 0, api.OPAL_UNMAP_PE)
    assert r.pe(r.a) == PHB4.reserved
    assert not r.opal.pci_set_pe(0, 33, r.c.rid, OpalBusCompare.ALL, 1, 1, api.OPAL_MAP_PE)
    assert (r.pe(r.b), r.pe(r.c)) == (PE_B, 33)


def test_functions_of_one_bus_can_be_endpoints_of_their_own() -> None:
    """As virtual functions are: matched by device and function, with segments in a 64-bit window."""
    r = rig(PHB4)
    assert not r.opal.pci_set_pe(0, 33, r.c.rid, OpalBusCompare.ALL, 1, 1, api.OPAL_MAP_PE)
    r.c.dma_write(0, b"x")
    assert r.phb.endpoints.frozen == {33}
    r.b.dma_write(0, b"ok")
    assert r.memory.read(r.real(PE_B), 2) == b"ok"


def test_a_wide_window_is_in_segments_by_number() -> None:
    r = with_wide_window()
    size = M64_SIZE // 512
    found = r.phb.windows.find(Space.MEMORY, M64_BASE + 7 * size + 5)
    assert found is not None
    assert found.owner(M64_BASE + 7 * size + 5) == 7


def test_a_lower_window_comes_first_and_is_one_endpoints() -> None:
    """pci-sriov.c: virtual functions get windows of their own over the large one."""
    r = with_wide_window()
    assert not r.opal.pci_set_phb_mem_window(0, OpalWindow.M64, 3, M64_BASE, 0, 1 << 20)
    assert not r.opal.pci_map_pe_mmio_window(0, 77, OpalWindow.M64, 3, 0)
    assert r.opal.pci_phb_mmio_enable(0, OpalWindow.M64, 3, OpalM64Action.SPLIT) == BAD
    assert not r.opal.pci_phb_mmio_enable(0, OpalWindow.M64, 3, OpalM64Action.NON_SPLIT)
    owners = []
    for address in (M64_BASE, M64_BASE + (1 << 20) - 1, M64_BASE + (1 << 20)):
        found = r.phb.windows.find(Space.MEMORY, address)
        assert found is not None
        owners.append(found.owner(address))
    assert owners == [77, 77, 0]
    for address, bus in ((M64_BASE, M64_BASE), (M32_BASE, M32_BUS), (None, 0x1000)):
        assert r.phb.windows.from_bus(Space.MEMORY, bus) == address
    assert r.phb.windows.from_bus(Space.IO, 0) is None
    assert not r.opal.pci_phb_mmio_enable(0, OpalWindow.M64, 3, OpalM64Action.DISABLE)
    found = r.phb.windows.find(Space.MEMORY, M64_BASE)
    assert found is not None
    assert found.number == 31


def test_p7ioc_maps_the_segments_of_its_wide_windows() -> None:
    r = with_wide_window(P7IOC)
    assert not r.opal.pci_map_pe_mmio_window(0, 99, OpalWindow.M64, 15, 7)
    found = r.phb.windows.find(Space.MEMORY, M64_BASE + M64_SIZE - 1)
    assert found is not None
    assert found.owner(M64_BASE + M64_SIZE - 1) == 99


@pytest.mark.parametrize(("model", "count"), [(P7IOC, 128), (PHB3, 256), (PHB4, 512)])
def test_the_32_bit_window_has_equal_segments(model: PhbModel, count: int) -> None:
    """As many as there are endpoints: 128 of the first bridges.  What is given anew is the new endpoint's at once."""
    r = rig(model)
    segments = r.phb.windows.m32.segments
    assert segments is not None
    assert (segments.count, segments.segment_size * count) == (count, segments.size)
    assert r.opal.pci_map_pe_mmio_window(0, PE_A, OpalWindow.M32, 0, count) == BAD
    assert r.opal.pci_map_pe_mmio_window(0, PE_A, OpalWindow.M32, 0, -1) == BAD
    r.phb.endpoints.set(PE_B, frozen=True)
    assert r.phb.load(r.at(r.b), 4) == 0xFFFFFFFF
    for endpoint, value in ((PE_A, 0), (PE_B, 0xFFFFFFFF), (PE_A, 0)):
        assert not r.opal.pci_map_pe_mmio_window(0, endpoint, OpalWindow.M32, 0, segments.segment(r.at(r.b)))
        assert r.phb.load(r.at(r.b), 4) == value


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from([P7IOC, PHB3, PHB4]),
    st.lists(st.tuples(st.integers(0, 127), st.integers(0, 127)), max_size=30),
    st.lists(st.integers(0, (1 << 31) - 1), min_size=1, max_size=10),
)
def test_any_number_of_segments_goes_to_an_endpoint(
    model: PhbModel, given_: list[tuple[int, int]], offsets: list[int]
) -> None:
    """The last one that was said of a segment counts: against a dictionary."""
    windows = Windows(model, Segments(M32_BASE, M32_BUS, 1 << 31, model.segments))
    owners: dict[int, int] = {}
    for segment, endpoint in given_:
        windows.m32.owners[segment] = owners[segment] = endpoint
    for offset in offsets:
        found = windows.find(Space.MEMORY, M32_BASE + offset)
        assert found is not None
        assert found.owner(M32_BASE + offset) == owners.get(offset // ((1 << 31) // model.segments), 0)
        end = M32_BASE + offset + found.same_owner(M32_BASE + offset)
        assert (end - M32_BASE) % found.size == 0
    assert windows.find(Space.MEMORY, M32_BASE - 1) is windows.find(Space.MEMORY, M32_BASE + (1 << 31)) is None


def test_an_io_window_where_there_is_none() -> None:
    with pytest.raises(Misuse):
        Windows(PHB4, Segments(M32_BASE, M32_BUS, 1 << 31, 512), Segments(0, 0, 1 << 16, 512))


def test_messages_that_belong_to_an_endpoint() -> None:
    r = rig(PHB4)
    for interrupt in (0, 31, 32, 4087):
        assert not r.opal.pci_set_xive_pe(0, PE_A, interrupt)
        assert r.opal.get_msi_64(0, PE_A, interrupt) == (0, *message_64(interrupt))
        assert r.opal.get_msi_32(0, PE_A, interrupt) == (0, *message_32(interrupt))
        r.a.send_message(*message_64(interrupt))
        r.a.send_message(*message_32(interrupt))
    assert [one for _, one in r.interrupts] == [0, 0, 31, 31, 32, 32, 4087, 4087]


def test_a_dma_window_comes_and_goes() -> None:
    r = rig(PHB4)
    assert not r.opal.pci_map_pe_dma_window(0, PE_A, 2 * PE_A + 1, 5, 0x12345000, 0x10000, 1 << 30)
    assert r.phb.inbound.entries[2 * PE_A + 1] == TableEntry(0x12345000, 5, 0x10000, 30)
    assert not r.opal.pci_map_pe_dma_window(0, PE_A, 2 * PE_A + 1, 0, 0, 0, 0)
    assert r.phb.inbound.entries[2 * PE_A + 1] is None


def test_requests_that_span_segments_go_in_pieces() -> None:
    r = rig(PHB4)
    size = r.phb.windows.m32.size
    block = r.at(r.b)
    assert block % size == 0
    r.phb.endpoints.set(PE_A, frozen=True)
    assert r.at(r.a) + size <= block
    assert not r.phb.transfer(Request.read(block - 8, 16)).ok
    answer = r.phb.transfer(Request.read(block, 16))
    assert answer.ok
    assert len(answer.data) == 16


def test_several_bridges_are_one_machine() -> None:
    r = rig(PHB4)
    hub = Hub([r.phb])
    assert hub.load(r.at(r.a), 4) == 0
    hub.store(r.at(r.a), 4, 7)
    assert r.phb.load(r.at(r.a), 4) == 7
    assert hub.config_read(0, r.a.rid, 0, 4) == 0x56781234
    assert hub.config_read(5, r.a.rid, 0, 4) == hub.load(0x1000, 4) == 0xFFFFFFFF
    assert hub.function(0, r.b.rid) is r.b
    assert [function.name for _, function in hub.functions()][-3:] == ["dn1", "b", "c"]
    with pytest.raises(Misuse):
        Hub([r.phb, r.phb])


def test_bridges_are_aligned_to_segments() -> None:
    """So the endpoints of buses have segments of their own, as `group` gives them."""
    for model in (P7IOC, PHB3, PHB4):
        r = rig(model)
        size = r.phb.windows.m32.size
        for port in (r.phb.port, *r.down):
            first, last = port.memory_window()
            assert first % size == 0
            assert (last + 1) % size == 0
        segments = r.phb.windows.m32.segments
        assert segments is not None
        buses = [
            BusResources(bus, bus, parent, memory=[ends(one) for one in functions])
            for bus, parent, functions in ((3, 2, [r.a]), (4, 2, [r.b, r.c]))
        ]
        one, two = group(buses, model.endpoints, segments)
        assert one.memory
        assert two.memory
        assert not set(one.memory) & set(two.memory)


def ends(function: Function) -> tuple[int, int]:
    """The range of addresses on the bus that a function has."""
    bar = function.bars[0]
    return function.address(bar), function.address(bar) + bar.size - 1


def test_what_a_kernel_tells_of_its_windows() -> None:
    """VFIO_IOMMU_SPAPR_TCE_GET_INFO on a PHB4 (Linux 6.12): page sizes, levels, where the second begins."""
    assert PHB4.page_sizes == 0x40211000
    assert MOST_LEVELS == 5
    assert SECOND_WINDOW == 0x800000000000000


def test_nothing_is_placed_where_messages_go() -> None:
    """The last 64 KiB below 4 GiB: a base address there would take the messages of all functions below its bridge."""
    memory = apertures(rig().phb).memory
    assert (memory.start, memory.stop) == (M32_BUS, (1 << 32) - 0x10000)
    assert is_message(memory.stop)
    assert not is_message(memory.stop - 1)
