"""Bus numbers and addresses: of a machine made by hand, and of random trees."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from pcie_rig import DEVICE, IO, MEMORY32, PREFETCH64, VENDOR, Host, endpoint, rig, trees

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pcie.allocation import Pool, lay_out
from pyvfio_backends.software.hardware.pcie.bridge import Bridge
from pyvfio_backends.software.hardware.pcie.enumeration import Reserve
from pyvfio_backends.software.hardware.pcie.express import Slot
from pyvfio_backends.software.hardware.pcie.extended import Ari
from pyvfio_backends.software.hardware.pcie.firmware import Apertures, Arrange, Firmware
from pyvfio_backends.software.hardware.pcie.layout_downwards import lay_out_downwards
from pyvfio_backends.software.hardware.pcie.models import (
    ioh3420,
    q35_host,
    root_port,
    x3130_upstream,
    xio3130_downstream,
)
from pyvfio_backends.software.hardware.pcie.request import Request, Space
from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex
from pyvfio_backends.software.hardware.pcie.sriov import Sriov, VfBar, VirtualFunctions


def test_buses_are_numbered_depth_first() -> None:
    made = rig()
    assert [function.name for function in made.setup.functions()] == [
        "0000:00:00.0",
        "0000:01:00.0",
        "0000:02:00.0",
        "0000:03:00.0",
        "0000:02:01.0",
        "0000:04:00.0",
        "0000:00:01.0",
        "0000:05:00.0",
        "0000:05:00.1",
        "0000:00:02.0",
        "0000:06:00.0",
        "0000:07:01.0",
        "0000:07:02.0",
        "0000:00:03.0",
    ]
    assert made.rp[0].buses == range(1, 5)
    assert made.a.rid == 0x300
    assert made.f.rid == 0x710


def test_the_description_is_for_people() -> None:
    text = rig().setup.describe().splitlines()
    at = text.index("0000:07:01.0 1234:5678")
    assert text[at : at + 3] == [
        "0000:07:01.0 1234:5678",
        "    I/O 0x4000-0x40ff register 0x14",
        "    memory 0xc0600000-0xc0600fff register 0x10",
    ]


def test_setting_up_again_changes_nothing() -> None:
    made = rig()
    before = [bytes(function.config.data) for _, function in made.complex.functions()]
    again = Firmware().set_up(made.complex)
    assert again.describe() == made.setup.describe()
    after = [bytes(function.config.data) for _, function in made.complex.functions()]
    master = regs.PCI_COMMAND_MASTER
    assert [data[:4] + data[5:] for data in after] == [data[:4] + data[5:] for data in before]
    assert all(one[4] | master == two[4] | master for one, two in zip(after, before, strict=True))


def test_a_hotplug_slot_keeps_bus_numbers_and_windows() -> None:
    complex_ = RootComplex(Host())
    bus = complex_.add_root_bus()
    kept, plain = bus.plug(ioh3420(Slot(1)), 1), bus.plug(ioh3420(), 2)
    Firmware(reserve=Reserve(3, 0x2000, 0x300000, 0x400000)).set_up(complex_)
    assert isinstance(kept, Bridge)
    assert isinstance(plain, Bridge)
    assert (kept.buses, plain.buses) == (range(1, 5), range(5, 6))
    (low, high), (first, last) = kept.memory_windows()
    assert (high - low + 1, last - first + 1) == (0x300000, 0x400000)
    assert kept.io_window()[1] - kept.io_window()[0] + 1 == 0x2000
    assert plain.memory_windows() == []
    assert plain.io_window()[0] > plain.io_window()[1]


def test_reservations_go_first_when_there_is_not_enough() -> None:
    complex_ = RootComplex(Host())
    bus = complex_.add_root_bus()
    for device in range(20):
        port = bus.plug(root_port(Slot(device)), device)
        if device == 7:
            port.plug(endpoint([(0x20, IO)]))
    setup = Firmware().set_up(complex_)
    assert setup.layout.unplaced == []
    io = [one for one in setup.layout.placed if one.pool is Pool.IO]
    assert [(one.function.name, one.size) for one in io] == [("0000:00:07.0", 0x1000), ("0000:08:00.0", 0x20)]


def test_what_has_no_room_stays_off_and_is_told() -> None:
    complex_ = RootComplex(Host())
    bus = complex_.add_root_bus()
    big = bus.plug(endpoint([(0x400000, MEMORY32)]), 1)
    small = bus.plug(endpoint([(0x1000, MEMORY32), (0x20, IO)]), 2)
    setup = Firmware(apertures=Apertures(memory=range(0xC0000000, 0xC0100000))).set_up(complex_)
    assert [(function.name, pool) for function, _, pool in setup.layout.unplaced] == [("0000:00:01.0", Pool.MEMORY)]
    assert not big.config.command & regs.PCI_COMMAND_MEMORY
    assert small.config.command & regs.PCI_COMMAND_MEMORY
    assert complex_.load(small.address(small.bars[0]), 4) == 0


def test_a_bridge_too_many_is_left_without_numbers() -> None:
    complex_ = RootComplex(Host())
    bus = complex_.add_root_bus(0, 0xFD)
    for device in range(3):
        port = bus.plug(ioh3420(), device)
        port.plug(endpoint())
    setup = Firmware().set_up(complex_)
    assert [function.behind is None for function in setup.functions() if function.bridge] == [False, False, True]
    assert complex_.function(0, 0xFF00) is not None


def test_alternative_routing_ids_are_followed_where_the_port_forwards_them() -> None:
    complex_ = RootComplex(Host())
    port = complex_.add_root_bus().plug(root_port(), 1)
    for number, following in ((0, 9), (9, 40), (40, 0)):
        function = endpoint()
        function.add(Ari(following))
        port.plug(function, number & 7, device=number >> 3)
    setup = Firmware().set_up(complex_)
    assert [function.rid for function in setup.functions()] == [0x8, 0x100, 0x109, 0x128]


def test_virtual_functions_get_buses_and_addresses() -> None:
    complex_ = RootComplex(Host())
    port = complex_.add_root_bus().plug(root_port(), 0)
    physical = port.plug(endpoint())
    bars = [VfBar(0, 0x4000, PREFETCH64)]
    VirtualFunctions(physical, Sriov(8, 0x10CA, 250, 2, bars), lambda number: None)  # type: ignore[arg-type,return-value]
    physical.config.seal()
    setup = Firmware().set_up(complex_)
    assert setup.functions()[0].behind is not None
    assert setup.functions()[0].behind.last == 2
    virtual = [one for one in setup.layout.placed if one.bar is not None and one.bar.virtual]
    assert [(one.size, one.pool) for one in virtual] == [(0x20000, Pool.PREFETCHABLE)]


def test_interrupt_lines_are_those_of_q35() -> None:
    """As SeaBIOS gave them to the lab's machine: 00:06.0 11, 00:08.0 10, behind 00:0b.0 and a bridge at 01.0 10."""
    complex_ = RootComplex(Host())
    bus = complex_.add_root_bus()
    bus.plug(q35_host(), 0)
    six = bus.plug(endpoint(), 6)
    port = bus.plug(ioh3420(Slot(1)), 8)
    Firmware().set_up(complex_)
    assert six.config.data[regs.PCI_INTERRUPT_LINE] == 11
    assert port.config.data[regs.PCI_INTERRUPT_LINE] == 10


@pytest.mark.parametrize("arrange", [lay_out, lay_out_downwards])
@settings(max_examples=40, deadline=None)
@given(complex_=trees())
def test_random_trees_are_found_whole_and_laid_out_soundly(arrange: Arrange, complex_: RootComplex) -> None:
    setup = Firmware(arrange=arrange).set_up(complex_)
    everything = [function for _, function in complex_.functions()]
    found = setup.functions()
    assert [complex_.function(one.segment, one.rid) for one in found] == everything
    assert len({(one.segment, one.rid) for one in found}) == len(found)
    for one in found:
        if one.behind is not None:
            assert one.rid >> 8 < one.behind.number <= one.behind.last
            assert all(inner.rid >> 8 in range(one.behind.number, one.behind.last + 1) for inner in one.behind.walk())
    _check_layout(setup.layout.placed, setup.layout.ranges)


@pytest.mark.parametrize("arrange", [lay_out, lay_out_downwards])
def test_windows_that_are_no_multiple_of_what_is_in_them_are_aligned_all_the_same(arrange: Arrange) -> None:
    complex_ = RootComplex(Host())
    switch = complex_.add_root_bus().plug(root_port(), 1).plug(x3130_upstream())
    for number in range(3):
        port = switch.secondary.plug(xio3130_downstream(), number)
        for function in range(2):
            port.plug(endpoint([(0x400000, MEMORY32), (0x100000, MEMORY32), (0x400000, PREFETCH64)]), function)
    setup = Firmware(arrange=arrange).set_up(complex_)
    assert not setup.layout.unplaced
    ours = [one for one in setup.layout.placed if one.bar is not None and one.function.device == DEVICE]
    assert len(ours) == 3 * 2 * 3
    _check_layout(setup.layout.placed, setup.layout.ranges)


def _check_layout(placed: list, ranges: dict) -> None:  # type: ignore[type-arg]
    windows = {(id(one.function), one.pool): one for one in placed if one.bar is None}
    siblings: dict[tuple[object, Pool], list] = {}  # type: ignore[type-arg]
    for one in placed:
        align = one.bar.align if one.bar is not None else one.pool.granule
        assert one.address % align == 0
        above = one.function.parent
        if above is not None:
            window = windows[id(above), one.pool]
            assert window.address <= one.address
            assert one.address + one.size <= window.address + window.size
        root = one.function
        while root.parent is not None:
            root = root.parent
        if above is None:
            pools = [(segment, bus) for (segment, number, pool), bus in ranges.items() if pool is one.pool]
            mine = [bus for segment, bus in pools if segment == root.segment] or [bus for _, bus in pools]
            assert any(one.address in bus and one.address + one.size - 1 in bus for bus in mine)
        siblings.setdefault((None if above is None else id(above), one.pool), []).append(one)
    for group in siblings.values():
        for low, high in pairwise(sorted(group, key=lambda one: one.address)):
            assert low.address + low.size <= high.address


@pytest.mark.parametrize("arrange", [lay_out, lay_out_downwards])
@settings(max_examples=30, deadline=None)
@given(complex_=trees())
def test_what_is_allocated_is_reached_and_nothing_else(arrange: Arrange, complex_: RootComplex) -> None:
    setup = Firmware(arrange=arrange).set_up(complex_)
    for number, placed in enumerate(setup.layout.placed):
        if placed.bar is None or (placed.function.vendor, placed.function.device) != (VENDOR, DEVICE):
            continue
        space = Space.IO if placed.bar.io else Space.MEMORY
        last = placed.address + placed.bar.size - 4
        complex_.store(last, 4, number, space=space)
        assert complex_.load(last, 4, space=space) == number
        function = complex_.function(placed.function.segment, placed.function.rid)
        assert function is not None
        register = (placed.bar.register - regs.PCI_BASE_ADDRESS_0) // 4
        assert function.bars[register].registers.read(placed.bar.size - 4, 4) == number
    reached = [range(one.address, one.address + one.size) for one in setup.layout.placed if one.bar is not None]
    for window in (one for one in setup.layout.placed if one.bar is None):
        for address in (window.address, window.address + window.size - 4):
            if not any(address in one for one in reached):
                space = Space.IO if window.pool is Pool.IO else Space.MEMORY
                assert not complex_.transfer(Request.read(address, 4, space=space)).ok


def test_a_switch_without_ports_is_no_obstacle() -> None:
    complex_ = RootComplex(Host())
    complex_.add_root_bus().plug(ioh3420(), 0).plug(x3130_upstream())
    assert len(Firmware().set_up(complex_).functions()) == 2
