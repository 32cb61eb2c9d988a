"""Devices in slots: what comes while the machine runs, and a device that was written for zPCI."""

from __future__ import annotations

from pcie_rig import IO, MASTER, MEMORY, MEMORY32, PREFETCH64, Host, endpoint

from pyvfio.abi import pci_regs as regs
from pyvfio.pci import bell
from pyvfio_backends.software.hardware.devices.bell import Bell
from pyvfio_backends.software.hardware.pcie.aer import Aer
from pyvfio_backends.software.hardware.pcie.enumeration import Reserve
from pyvfio_backends.software.hardware.pcie.express import Slot
from pyvfio_backends.software.hardware.pcie.firmware import Firmware
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.models import pcie_pci_bridge, root_port, x3130_upstream, xio3130_downstream
from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex


def slotted(reserve: Reserve | None = None) -> tuple[RootComplex, Firmware]:
    complex_ = RootComplex(Host())
    bus = complex_.add_root_bus()
    for device in range(3):
        bus.plug(root_port(Slot(device + 1)), device)
    firmware = Firmware(reserve=reserve or Reserve())
    firmware.set_up(complex_)
    return complex_, firmware


def port_of(complex_: RootComplex, device: int):  # type: ignore[no-untyped-def]
    return complex_.root_buses[0].functions[device << 3]


def test_a_device_that_comes_later_is_set_up_within_its_slot() -> None:
    complex_, firmware = slotted()
    before = [bytes(port_of(complex_, device).config.data) for device in (0, 2)]
    device = port_of(complex_, 1).plug(endpoint([(0x1000, MEMORY32), (0x20, IO), (0x100000, PREFETCH64)]))
    setup = firmware.set_up_behind(complex_, port_of(complex_, 1))
    assert [one.name for one in setup.functions()] == ["0000:02:00.0"]
    assert setup.layout.unplaced == []
    assert device.config.command & MEMORY
    port = port_of(complex_, 1)
    first, last = port.memory_window()
    assert first <= device.address(device.bars[0]) <= last
    for index in (0, 2):
        complex_.store(device.address(device.bars[index]), 4, index + 7)
        assert complex_.load(device.address(device.bars[index]), 4) == index + 7
    assert device.config.data[regs.PCI_INTERRUPT_LINE] == 10, "device 1's pin A, as the port turns it"
    assert [bytes(port_of(complex_, device).config.data) for device in (0, 2)] == before


def test_a_switch_that_comes_later_needs_the_numbers_that_were_kept() -> None:
    for kept, found, with_buses in ((0, 1, 0), (3, 4, 3)):
        complex_, firmware = slotted(Reserve(kept, memory=0x1000000))
        up = port_of(complex_, 0).plug(x3130_upstream())
        for number in range(2):
            down = up.secondary.plug(xio3130_downstream(Slot(9)), number)
            if number == 0:
                down.plug(pcie_pci_bridge())
        setup = firmware.set_up_behind(complex_, port_of(complex_, 0))
        numbered = [one for one in setup.functions() if one.behind is not None]
        assert (len(setup.functions()), len(numbered)) == (found, with_buses)


def test_what_does_not_fit_into_the_slot_is_told() -> None:
    complex_, firmware = slotted(Reserve(memory=0x100000))
    port_of(complex_, 0).plug(endpoint([(0x400000, MEMORY32)]))
    setup = firmware.set_up_behind(complex_, port_of(complex_, 0))
    assert len(setup.layout.unplaced) == 1


def test_a_bell_rings_behind_a_root_port() -> None:
    """The device, its registers and its MSI-X are those that zPCI machines have."""
    host = Host()
    complex_ = RootComplex(host)
    port = complex_.add_root_bus().plug(root_port(Slot(1)), 0)
    device = Bell()
    function = Function(device.config, device.bars)
    function.add(Aer())
    function.use_msix(device.msix)
    device.attach(function)
    port.plug(function)
    Firmware().set_up(complex_)
    function.config.write(regs.PCI_COMMAND, 2, MEMORY | MASTER)
    function.config.write(device.msix.capability + regs.PCI_MSIX_FLAGS, 2, regs.PCI_MSIX_FLAGS_ENABLE)
    base, table = (function.address(function.bars[index]) for index in (0, 1))
    for offset, value in ((0, 0xFEE00000), (8, 0x21), (12, 0)):
        complex_.store(table + offset, 4, value)
    host.memory[0x100:0x105] = b"hello"
    for register, value in ((bell.SOURCE, 0x100), (bell.TARGET, 0x200), (bell.COUNT, 5), (bell.VECTOR, 0)):
        complex_.store(base + register, 4, value)
    complex_.store(base + bell.COMMAND, 4, bell.BellCommand.COPY)
    assert host.memory[0x200:0x205] == b"hello"
    assert complex_.load(base + bell.STATUS, 4) == bell.BellStatus.DONE
    assert [(source.rid, data) for source, _, data in host.messages] == [(function.rid, 0x21)]
