"""Links and slots, pins, resets, the ways to configuration space; and every register written at random."""

from __future__ import annotations

import random

import pytest
from pcie_rig import MEMORY32, Host, Rig, endpoint, rig

from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.pci.bar import Bar, Unmapped
from pyvfio_backends.software.hardware.pcie.block import Block, Memory
from pyvfio_backends.software.hardware.pcie.bridge import Bridge
from pyvfio_backends.software.hardware.pcie.capabilities import Msix, PowerManagement
from pyvfio_backends.software.hardware.pcie.express import Express, Slot
from pyvfio_backends.software.hardware.pcie.firmware import Firmware
from pyvfio_backends.software.hardware.pcie.function import ROM, Function
from pyvfio_backends.software.hardware.pcie.models import root_port
from pyvfio_backends.software.hardware.pcie.request import Request, Space
from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex

ECAM = 0xB0000000


def slot_status(port: Function) -> int:
    at = port.offset(regs.PCI_CAP_ID_EXP)
    assert at is not None
    return port.config.read(at + express.PCI_EXP_SLTSTA, 2)


def link_active(port: Function) -> bool:
    at = port.offset(regs.PCI_CAP_ID_EXP)
    assert at is not None
    return bool(port.config.read(at + regs.PCI_EXP_LNKSTA, 2) & express.PCI_EXP_LNKSTA_DLLLA)


# ---- links and slots -------------------------------------------------------------------------------------------------


def test_a_device_that_comes_and_goes_is_seen_in_the_slot() -> None:
    port = root_port(Slot(4))
    RootComplex().add_root_bus().plug(port, 1)
    present, changed, link_changed = (
        express.PCI_EXP_SLTSTA_PDS,
        express.PCI_EXP_SLTSTA_PDC,
        express.PCI_EXP_SLTSTA_DLLSC,
    )
    assert (slot_status(port), link_active(port)) == (0, False)
    device = port.plug(endpoint())
    assert (slot_status(port), link_active(port)) == (present | changed | link_changed, True)
    at = port.offset(regs.PCI_CAP_ID_EXP)
    assert at is not None
    port.config.write(at + express.PCI_EXP_SLTSTA, 2, changed | link_changed)
    assert slot_status(port) == present
    device.config.write(regs.PCI_COMMAND, 2, 6)
    assert port.unplug() == [device]
    assert (slot_status(port), link_active(port)) == (changed | link_changed, False)
    assert device.config.command == 0
    assert device.bus is None


def test_the_power_controller_takes_the_link_down() -> None:
    complex_ = RootComplex()
    port = root_port(Slot(4))
    complex_.add_root_bus().plug(port, 1)
    port.plug(endpoint())
    Firmware().set_up(complex_)
    at = port.offset(regs.PCI_CAP_ID_EXP)
    assert at is not None
    port.config.write(at + express.PCI_EXP_SLTCTL, 2, express.PCI_EXP_SLTCTL_PCC)
    assert not link_active(port)
    assert complex_.config_read(0, 0x100, 0, 2) == 0xFFFF
    assert slot_status(port) & express.PCI_EXP_SLTSTA_PDS
    port.config.write(at + express.PCI_EXP_SLTCTL, 2, 0)
    assert link_active(port)
    assert complex_.config_read(0, 0x100, 0, 2) == 0x1234


def test_a_place_is_taken_once() -> None:
    bus = RootComplex().add_root_bus()
    function = bus.plug(endpoint(), 3)
    with pytest.raises(Misuse, match="taken"):
        bus.plug(endpoint(), 3)
    with pytest.raises(Misuse, match="on a bus already"):
        bus.plug(function, 4)


def test_a_device_of_several_functions_is_plugged_in_one_step_or_not_at_all() -> None:
    port = root_port(Slot(4))
    RootComplex().add_root_bus().plug(port, 1)
    elsewhere = RootComplex().add_root_bus().plug(endpoint())
    with pytest.raises(Misuse, match="on a bus already"):
        port.plug_all({0: endpoint(), 1: elsewhere})
    assert not port.present
    assert not link_active(port)
    functions = {number: endpoint() for number in (0, 1, 9)}
    port.plug_all(functions)
    assert sorted(port.secondary.functions) == [0, 1, 9]
    assert port.unplug() == list(functions.values())


def test_nothing_gets_through_a_bridge_that_holds_its_bus_in_reset() -> None:
    made = rig()
    for port, function in ((made.rp[1], made.c), (made.f.bus.bridge, made.f)):  # type: ignore[union-attr]
        assert port is not None
        rid = function.rid
        port.config.write(0x3E, 2, 0x40)
        assert made.complex.config_read(0, rid, 0, 4) == 0xFFFFFFFF
        port.config.write(0x3E, 2, 0)
        assert made.complex.config_read(0, rid, 0, 4) == 0x56781234
        assert not function.config.command


def test_function_0_says_that_there_are_more() -> None:
    bus = RootComplex().add_root_bus()
    first, second = bus.plug(endpoint(), 3, 0), bus.plug(endpoint(), 3, 1)
    other = bus.plug(endpoint(), 4, 0)
    types = [function.config.data[regs.PCI_HEADER_TYPE] for function in (first, second, other)]
    assert types == [regs.PCI_HEADER_TYPE_MFD, 0, 0]
    first.reset(cold=True)
    assert first.config.data[regs.PCI_HEADER_TYPE] == regs.PCI_HEADER_TYPE_MFD


@pytest.mark.parametrize(("number", "last"), [(0, 5), (0x40, None), (0x3F, 0x41), (0x50, 0x60), (0x30, 0x20)])
def test_root_buses_do_not_overlap(number: int, last: int | None) -> None:
    complex_ = RootComplex()
    complex_.add_root_bus(0, 0, 0x2F)
    complex_.add_root_bus(0, 0x40, 0x5F)
    before = [(bus.number, bus.last) for bus in complex_.root_buses]
    with pytest.raises(Misuse, match="another's"):
        complex_.add_root_bus(0, number, last)
    assert [(bus.number, bus.last) for bus in complex_.root_buses] == before


def test_a_root_bus_between_shortens_the_one_before_it_when_that_went_to_the_end() -> None:
    complex_ = RootComplex()
    complex_.add_root_bus()
    complex_.add_root_bus(0, 0x40)
    complex_.add_root_bus(1, 0x40)
    assert [(bus.segment.number, bus.number, bus.last) for bus in complex_.root_buses] == [
        (0, 0, 0x3F),
        (0, 0x40, 0xFF),
        (1, 0x40, 0xFF),
    ]


# ---- pins ------------------------------------------------------------------------------------------------------------


def test_pins_are_turned_by_the_bridges() -> None:
    made = rig()
    told: list[tuple[int, int, bool, str]] = []
    made.complex.on_intx = lambda bus, devfn, pin, level, source: told.append((devfn >> 3, pin, level, source.name))
    made.f.set_intx(True)
    assert made.f.config.read(regs.PCI_STATUS, 2) & regs.PCI_STATUS_INTERRUPT
    made.f.config.write(regs.PCI_COMMAND, 2, made.f.config.command | regs.PCI_COMMAND_INTX_DISABLE)
    made.f.config.write(regs.PCI_COMMAND, 2, made.f.config.command & ~regs.PCI_COMMAND_INTX_DISABLE)
    made.f.set_intx(False)
    made.f.reset()
    made.g.set_intx(True)
    assert told == [(2, 3, True, "f"), (2, 3, False, "f"), (2, 3, True, "f"), (2, 3, False, "f"), (3, 1, True, "g")]


# ---- resets ----------------------------------------------------------------------------------------------------------


def test_function_level_reset_and_the_way_back_from_d3() -> None:
    function = endpoint(kind=None)
    at = function.add(Express(ExpressType.ENDPOINT, flr=True))
    power = function.add(PowerManagement(no_soft_reset=False))
    other = endpoint(kind=None)
    kept = other.add(PowerManagement(no_soft_reset=True))
    bus = RootComplex().add_root_bus()
    bus.plug(function, 1)
    bus.plug(other, 2)
    for write in (
        lambda: function.config.write(at + regs.PCI_EXP_DEVCTL, 2, regs.PCI_EXP_DEVCTL_BCR_FLR),
        lambda: [function.config.write(power + regs.PCI_PM_CTRL, 2, state) for state in (3, 0)],
    ):
        function.config.write(regs.PCI_COMMAND, 2, 7)
        write()
        assert function.config.command == 0
    assert not function.config.read(at + regs.PCI_EXP_DEVCTL, 2) & regs.PCI_EXP_DEVCTL_BCR_FLR
    other.config.write(regs.PCI_COMMAND, 2, 7)
    for state in (3, 1, 0):
        other.config.write(kept + regs.PCI_PM_CTRL, 2, state)
        assert other.power_state == (3 if state == 1 else state), "there is no D1"
    assert other.config.command == 7


# ---- the ways to configuration space ---------------------------------------------------------------------------------


def test_memory_mapped_configuration_space() -> None:
    made = rig()
    complex_ = made.complex
    complex_.place_ecam(0, ECAM)
    ecam = complex_.segments[0].ecam
    assert ecam is not None
    assert ecam.size == 0x10000000
    assert complex_.load(ecam.address(made.a.rid), 4) == 0x56781234
    assert complex_.load(ecam.address(made.a.rid, 0x100), 4) & 0xFFFF == 1
    complex_.store(ecam.address(made.a.rid, regs.PCI_INTERRUPT_LINE), 1, 0x5A)
    assert made.a.config.data[regs.PCI_INTERRUPT_LINE] == 0x5A
    assert complex_.load(ecam.address(0xFFFF), 4) == 0xFFFFFFFF
    assert not complex_.transfer(Request.read(ECAM, 8)).ok
    assert not complex_.transfer(Request.read(ECAM + 1, 2)).ok


def test_configuration_ports_reach_256_bytes_of_segment_0() -> None:
    made = rig()
    complex_ = made.complex
    assert complex_.port_in(0xCFC, 4) == 0xFFFFFFFF
    complex_.port_out(0xCF8, 4, 0x80000000 | made.a.rid << 8 | 0xFF)
    assert complex_.port_in(0xCF8, 4) == 0x80000000 | made.a.rid << 8 | 0xFC
    complex_.port_out(0xCF8, 4, 0x80000000 | made.a.rid << 8)
    assert complex_.port_in(0xCFC, 4) == 0x56781234
    assert complex_.port_in(0xCFE, 2) == 0x5678
    complex_.port_out(0xCF8, 4, 0x80000000 | made.a.rid << 8 | regs.PCI_INTERRUPT_LINE)
    complex_.port_out(0xCFC, 1, 0x77)
    assert made.a.config.data[regs.PCI_INTERRUPT_LINE] == 0x77
    complex_.port_out(0xCF8, 4, 0)
    complex_.port_out(0xCFC, 4, 0)
    assert complex_.port_in(0xCFC, 1) == 0xFF


# ---- what lies behind base addresses ---------------------------------------------------------------------------------


def test_a_rom_answers_when_it_is_on() -> None:
    rom = Memory(0x800)
    rom.data[:2] = b"\x55\xaa"
    plain = endpoint()
    function = Function(plain.config, list(plain.bars.values()), rom=rom, rom_size=0x800)
    complex_ = RootComplex(Host())
    complex_.add_root_bus().plug(function, 1)
    Firmware().set_up(complex_)
    at = function.config.read(regs.PCI_ROM_ADDRESS, 4)
    assert at
    assert complex_.load(at, 2) == 0xFFFF
    function.config.write(regs.PCI_ROM_ADDRESS, 4, at | 1)
    assert complex_.load(at, 2) == 0xAA55
    assert function.address(function.bars[ROM]) == at


def test_msix_with_its_table_inside_a_bar_of_other_things() -> None:
    host = Host()
    complex_ = RootComplex(host)
    block = Block(0x4000)
    block.place(0, Memory(0x1000))
    plain = endpoint()
    function = Function(plain.config, [Bar(0, block.size, MEMORY32, block)])
    block.place(0x2000, function.add_msix(Msix(3, 0, 0x2000, pending_offset=0x3000)))
    complex_.add_root_bus().plug(function, 1)
    Firmware().set_up(complex_)
    function.config.write(regs.PCI_COMMAND, 2, 6)
    base = function.address(function.bars[0])
    for offset, value in ((0x2010, 0xFEE00000), (0x2018, 0x33), (0x201C, 0)):
        complex_.store(base + offset, 4, value)
    at = function.offset(regs.PCI_CAP_ID_MSIX)
    assert at is not None
    function.config.write(at + regs.PCI_MSIX_FLAGS, 2, regs.PCI_MSIX_FLAGS_ENABLE | regs.PCI_MSIX_FLAGS_MASKALL)
    function.signal(1)
    assert complex_.load(base + 0x3000, 8) == 2
    assert not host.messages
    function.config.write(at + regs.PCI_MSIX_FLAGS, 2, regs.PCI_MSIX_FLAGS_ENABLE)
    assert [(address, data) for _, address, data in host.messages] == [(0xFEE00000, 0x33)]
    with pytest.raises(Unmapped):
        block.read(0x1800, 4)


# ---- anything, anywhere ----------------------------------------------------------------------------------------------


def everything(made: Rig) -> list[Function]:
    return [function for _, function in made.complex.functions()]


@pytest.mark.parametrize("seed", range(3))
def test_registers_written_at_random_break_nothing(seed: int) -> None:
    """No crash, whatever is written where; ids stay, and at the end everything can be set up again."""
    chance = random.Random(seed)
    made = rig(acs=bool(seed % 2))
    functions = everything(made)
    ids = [bytes(function.config.data[:4]) for function in functions]
    for _ in range(20_000):
        function = chance.choice(functions)
        length = chance.choice([1, 2, 4])
        offset = chance.randrange(0, min(len(function.config.data), 0x200), length)
        function.config.write(offset, length, chance.getrandbits(8 * length))
        what = chance.randrange(8)
        if what == 0:
            made.complex.transfer(Request.read(chance.getrandbits(33) & ~3, 4, space=chance.choice(list(Space))))
        elif what == 1:
            chance.choice(functions).send(Request.store(chance.getrandbits(32) & ~3, bytes(4)))
        elif what == 2:
            chance.choice(functions).signal(chance.randrange(4))
        elif what == 3:
            chance.choice(functions).set_intx(chance.random() < 0.5)
        elif what == 4:
            made.complex.config_read(0, chance.getrandbits(16), 0, 4)
    assert [bytes(function.config.data[:4]) for function in functions] == ids
    for function in functions:
        if not isinstance(function.bus.bridge if function.bus else None, Bridge):
            function.reset(cold=True)
    again = Firmware().set_up(made.complex)
    assert [one.name for one in again.functions()] == [one.name for one in made.setup.functions()]
    assert made.complex.load(made.at(made.a), 4) != 0xFFFFFFFF
