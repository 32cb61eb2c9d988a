"""The hypervisor of a guest on POWER: tables of TCEs, DMA windows, messages, windows of host bridges, firmware.

Numbers are those of the POWER lab's recording of its pseries guest; where it shows nothing, the source is named.
"""

from __future__ import annotations

import pytest

from pyvfio.abi import papr
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.description import PcieFunctionSpec, PciePhbSpec
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.pcie.block import Memory
from pyvfio_backends.software.hardware.pcie.request import Space
from pyvfio_backends.software.hardware.pcie.upstream import Source
from pyvfio_backends.software.hardware.spapr.hypervisor import Hypervisor, LogicalBridges
from pyvfio_backends.software.hardware.spapr.phb import LogicalPhb
from pyvfio_backends.software.memory import HostMemory
from pyvfio_backends.software.spapr_tree import build_bridges, start_bridges

PAGE = 1 << 12
SECOND = 1 << 59
ME = Source(0, 0x10)


class Guest:
    """Two bridges over memory of their own, with functions of the models by place on the first."""

    def __init__(self, **functions: str) -> None:
        self.memory = HostMemory(PAGE)
        self.real = self.memory.allocate(4 * PAGE)
        rows = [PcieFunctionSpec(model, "phb0", place[1:].replace("_", ".")) for place, model in functions.items()]
        phbs = [PciePhbSpec(segment) for segment in (0, 1)]
        self.bridges, self.hypervisor = build_bridges(phbs, rows, self.memory)

    @property
    def phb(self) -> LogicalPhb:
        return self.bridges.phbs[0]


@pytest.fixture
def guest() -> Guest:
    return Guest()


LIOBN = 0x80000000


def test_an_entry_is_what_a_device_reaches(guest: Guest) -> None:
    call, dma = guest.hypervisor, guest.phb.dma
    guest.memory.write(guest.real + 8, b"through")
    assert call.put_tce(LIOBN, 5 * PAGE, guest.real | 3) == papr.H_SUCCESS
    assert call.get_tce(LIOBN, 5 * PAGE + 7) == (papr.H_SUCCESS, guest.real | 3)
    assert dma.read(ME, 5 * PAGE + 8, 7) == b"through"
    dma.write(ME, 5 * PAGE + 8, b"THROUGH")
    assert guest.memory.read(guest.real + 8, 7) == b"THROUGH"
    assert call.put_tce(LIOBN, 5 * PAGE, 0) == papr.H_SUCCESS
    with pytest.raises(DmaFault):
        dma.read(ME, 5 * PAGE + 8, 7)


@pytest.mark.parametrize(("bits", "reads", "writes"), [(1, True, False), (2, False, True), (3, True, True)])
def test_what_an_entry_permits(guest: Guest, bits: int, reads: bool, writes: bool) -> None:
    guest.hypervisor.put_tce(LIOBN, 0, guest.real | bits)
    for may, ask in (
        (reads, lambda: guest.phb.dma.read(ME, 0, 4)),
        (writes, lambda: guest.phb.dma.write(ME, 0, b"1234")),
    ):
        if may:
            ask()
        else:
            with pytest.raises(DmaFault):
                ask()


def test_nothing_is_moved_unless_all_is_mapped(guest: Guest) -> None:
    guest.hypervisor.put_tce(LIOBN, 0, guest.real | 3)
    with pytest.raises(DmaFault):
        guest.phb.dma.write(ME, PAGE - 2, b"half")
    assert guest.memory.read(guest.real + PAGE - 2, 2) == bytes(2)
    guest.hypervisor.put_tce(LIOBN, PAGE, guest.real + 3 * PAGE | 3)
    guest.phb.dma.write(ME, PAGE - 2, b"half")
    assert guest.memory.read(guest.real + PAGE - 2, 2) + guest.memory.read(guest.real + 3 * PAGE, 2) == b"half"


@pytest.mark.parametrize(("liobn", "address"), [(LIOBN, 1 << 30), (LIOBN + 1, 0), (0x80000200, 0), (0, 0)])
def test_entries_that_are_not_there(guest: Guest, liobn: int, address: int) -> None:
    """``h_put_tce``: outside of the window, a table that is not in use, one that is no bridge's."""
    assert guest.hypervisor.put_tce(liobn, address, 3) == papr.H_PARAMETER
    assert guest.hypervisor.get_tce(liobn, address) == (papr.H_PARAMETER, 0)


def test_dynamic_windows(guest: Guest) -> None:
    """``lb=2000000000 ps=107 wn=1``, and LIOBN 0x80000001 at 0x800000000000000 of pages of 16 MiB."""
    call, buid = guest.hypervisor, guest.phb.buid
    assert buid == 0x800000020000000
    code, left = call.query_windows(buid)
    assert (code, left.largest_block, left.page_sizes, left.windows) == (0, 0x2000000000, 0x107, 1)
    code, table = call.create_window(buid, 24, 31)
    assert table is not None
    assert (code, table.liobn, table.start, table.pages) == (0, 0x80000001, SECOND, 128)
    assert call.query_windows(buid)[1].windows == 0
    assert call.create_window(buid, 12, 30) == (papr.RTAS_HARDWARE_ERROR, None)
    assert call.put_tce(0x80000001, SECOND + (1 << 24), 1 << 24 | 3) == papr.H_SUCCESS
    assert call.remove_window(0x80000001) == papr.RTAS_SUCCESS
    assert call.remove_window(0x80000001) == papr.RTAS_INVALID_PARAMETER
    assert call.create_window(buid, 24, 31)[1] is table
    assert call.get_tce(0x80000001, SECOND + (1 << 24)) == (papr.H_SUCCESS, 0)


@pytest.mark.parametrize(("page_shift", "window_shift"), [(13, 30), (25, 30), (24, 23)])
def test_windows_that_cannot_be(guest: Guest, page_shift: int, window_shift: int) -> None:
    """``rtas_ibm_create_pe_dma_window``: a size of pages that is not offered, a window below a page."""
    asked = guest.hypervisor.create_window(guest.phb.buid, page_shift, window_shift)
    assert asked == (papr.RTAS_INVALID_PARAMETER, None)


def test_calls_for_no_bridge(guest: Guest) -> None:
    call = guest.hypervisor
    assert call.query_windows(1)[0] == call.create_window(1, 12, 30)[0] == papr.RTAS_INVALID_PARAMETER
    assert call.reset_windows(1) == papr.RTAS_INVALID_PARAMETER


def test_without_any_window_the_first_begins_at_0_and_a_reset_brings_the_default_back(guest: Guest) -> None:
    """``rtas_ibm_create_pe_dma_window``, ``spapr_phb_dma_reset``."""
    call, buid = guest.hypervisor, guest.phb.buid
    call.put_tce(LIOBN, 0, guest.real | 3)
    assert call.remove_window(LIOBN) == papr.RTAS_SUCCESS
    _, table = call.create_window(buid, 16, 32)
    assert table is not None
    assert (table.liobn, table.start) == (LIOBN, 0)
    assert call.reset_windows(buid) == papr.RTAS_SUCCESS
    assert [(one.liobn, one.start, one.page_shift, one.pages) for one in guest.phb.dma.active] == [
        (LIOBN, 0, 12, 1 << 18)
    ]
    assert call.get_tce(LIOBN, 0) == (papr.H_SUCCESS, 0)


def test_a_bridge_has_tables_of_its_own(guest: Guest) -> None:
    guest.hypervisor.put_tce(0x80000100, 0, guest.real | 3)
    guest.bridges.phbs[1].dma.read(ME, 0, 4)
    with pytest.raises(DmaFault):
        guest.phb.dma.read(ME, 0, 4)


def test_messages_are_numbers_of_interrupts(guest: Guest) -> None:
    """``spapr_msi_write``; numbers begin at 0x1300 (``include/hw/ppc/spapr_irq.h``)."""
    told: list[int] = []
    guest.phb.dma.deliver = lambda source, interrupt: told.append(interrupt)
    first = guest.hypervisor.take_messages(4)
    assert first == 0x1300
    assert guest.hypervisor.take_messages(1) == 0x1304
    assert guest.hypervisor.take_messages(4) == 0x1308
    guest.hypervisor.give_messages(first, 4)
    assert guest.hypervisor.take_messages(2) == 0x1300
    address, data = guest.hypervisor.message(0x1304)
    guest.phb.dma.message(ME, address, data)
    assert told == [0x1304]
    assert guest.hypervisor.take_messages(1 << 12) is None


def test_windows_of_the_processor(guest: Guest) -> None:
    """``ranges`` of the recorded device tree."""
    one = guest.bridges.phbs[1]
    assert one.to_bus(0x200000010080) == (Space.IO, 0x80)
    assert one.to_bus(0x200100000010) == (Space.MEMORY, 0x80000010)
    assert one.to_bus(0x220000000000) == (Space.MEMORY, 0x220000000000)
    assert one.to_bus(0x200080000000) is None
    assert one.from_bus(0x80000010) == 0x200100000010
    assert one.from_bus(0x1000) is None
    assert guest.bridges.at(0x200100000010) is one
    assert guest.bridges.at(0x300000000000) is None
    assert guest.bridges.load(0x200100000010, 4) == 0xFFFFFFFF


def addresses(phb: LogicalPhb, devfn: int) -> list[int]:
    function = phb.root_bus.functions[devfn]
    return [function.config.read(regs.PCI_BASE_ADDRESS_0 + 4 * bar, 4) for bar in range(6)]


def test_firmware_gives_addresses() -> None:
    """Of bridge 1 as recorded: Ethernet, edu and NVMe, one after the other."""
    guest = Guest(d01_0="e1000e", d02_0="edu", d03_0="nvme")
    start_bridges(guest.bridges)
    assert addresses(guest.phb, 0x08) == [0x80000000, 0x80020000, 0x21, 0x80040000, 0, 0]
    assert guest.phb.root_bus.functions[0x08].config.read(regs.PCI_ROM_ADDRESS, 4) == 0x80080000
    assert addresses(guest.phb, 0x10)[0] == 0x80100000
    assert addresses(guest.phb, 0x18)[:2] == [0x80200004, 0]
    assert guest.phb.root_bus.functions[0x18].config.command == regs.PCI_COMMAND_SERR


def test_firmware_leaves_file_systems_out_but_keeps_their_room() -> None:
    """Of bridge 0 as recorded: 02.0 and 03.0 have no addresses, and 04.0 begins 128 KiB further on."""
    guest = Guest(d02_0="virtio-9p-pci", d03_0="virtio-9p-pci", d04_0="virtio-rng-pci")
    start_bridges(guest.bridges)
    assert addresses(guest.phb, 0x10) == [1, 0, 0, 0, 0xC, 0]
    assert addresses(guest.phb, 0x20)[1] == 0x80020000
    assert addresses(guest.phb, 0x20)[4:] == [0x2000C, 0x2100]


def test_a_load_reaches_a_function_by_the_window_of_its_bridge() -> None:
    guest = Guest(d02_0="edu")
    start_bridges(guest.bridges)
    guest.phb.config_write(0, 0x10, regs.PCI_COMMAND, 2, regs.PCI_COMMAND_MEMORY)
    assert guest.bridges.load(0x200080000000, 4) == 0x010000ED
    assert guest.bridges.load(0x200100000000, 4) == 0xFFFFFFFF


def test_bridges_are_by_segment() -> None:
    phbs = [LogicalPhb(Memory(PAGE), segment=segment) for segment in (0, 3)]  # type: ignore[arg-type]
    assert list(LogicalBridges(phbs).segments) == [0, 3]
    assert Hypervisor(phbs).query_windows(0x800000020000003)[0] == papr.RTAS_SUCCESS
