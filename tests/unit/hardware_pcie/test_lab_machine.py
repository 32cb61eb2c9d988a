"""The machine of the x86 lab: every function gets the bus numbers, addresses and interrupt lines that SeaBIOS gave it.

``fixtures/golden/x86/headers.json`` is what a real kernel showed after boot, so some values are Linux's and left out:
those that firmware leaves at 0 (`BY_LINUX`), and what chipset firmware sets by itself (`FIXED`).
"""

from __future__ import annotations

import json

import pytest
from pcie_rig import IO, MEMORY32, PREFETCH64, Host

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.hardware.pci.bar import Bar
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pcie.block import Memory
from pyvfio_backends.software.hardware.pcie.endpoints import ENDPOINTS, add_igb_functions
from pyvfio_backends.software.hardware.pcie.express import Express, Slot
from pyvfio_backends.software.hardware.pcie.firmware import Firmware, Setup
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.layout_downwards import lay_out_downwards
from pyvfio_backends.software.hardware.pcie.models import (
    ioh3420,
    pcie_pci_bridge,
    pxb_host,
    q35_host,
    root_port,
    x3130_upstream,
    xio3130_downstream,
)
from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex
from pyvfio_fixtures import golden

HEADERS = {
    name: bytes.fromhex(text) for name, text in json.loads(golden("x86/headers.json").read_text())["header"].items()
}
BY_LINUX = {
    f"0000:00:{port}": range(bridge_regs.PCI_IO_BASE, bridge_regs.PCI_IO_LIMIT + 1)
    for port in ("08.1", "09.1", "0c.0", "0f.0")  # slots without I/O below them
}
FIXED = {"0000:00:1f.3": range(regs.PCI_BASE_ADDRESS_4, regs.PCI_BASE_ADDRESS_4 + 4)}


def virtio(device: int, *, legacy: bool = False) -> Function:
    bars = [Bar(1, 0x1000, MEMORY32, Memory(0x1000)), Bar(4, 0x4000, PREFETCH64, Memory(0x4000))]
    if legacy:
        bars.insert(0, Bar(0, 0x20, IO, Memory(0x20)))
    config = ConfigSpace(Identity(0x1AF4, device, 0x1AF4, 0x1100, 0x020000, 1), interrupt_pin=1)
    function = Function(config, bars, rom_size=0 if legacy else 0x40000)
    if not legacy:
        function.add(Express(ExpressType.ENDPOINT))
    return function


def make(name: str) -> Function:
    return ENDPOINTS[name].build()


@pytest.fixture(scope="module")
def lab() -> tuple[RootComplex, Setup]:
    complex_ = RootComplex(Host())
    bus = complex_.add_root_bus()
    bus.plug(q35_host(), 0)
    for device in (2, 3):
        bus.plug(virtio(0x1009, legacy=True), device)
    bus.plug(make("edu"), 6)
    for number in (0, 1):
        bus.plug(make("pci-testdev"), 7, number)
    for number, name in enumerate(("e1000e", "edu")):
        port = ioh3420(Slot(number + 1))
        bus.plug(port, 8, number)
        port.plug(make(name))
    ports = {}
    for slot, (device, number) in enumerate([(9, 0), (9, 1), (10, 0), (11, 0), (12, 0), (13, 0)], start=3):
        ports[device, number] = root_port(Slot(slot))
        bus.plug(ports[device, number], device, number)
    igb = make("igb")
    add_igb_functions(igb)
    ports[9, 0].plug(igb)
    ports[9, 1].plug(make("nvme"))
    up = x3130_upstream()
    ports[10, 0].plug(up)
    for number, device in enumerate((make("e1000e"), virtio(0x1041))):
        down = xio3130_downstream(Slot(6 + number))
        up.secondary.plug(down, number)
        down.plug(device)
    conventional = pcie_pci_bridge()
    ports[11, 0].plug(conventional)
    conventional.secondary.plug(make("edu"), 1)
    conventional.secondary.plug(make("pci-testdev"), 2)
    for number in (0, 1):
        ports[13, 0].plug(make("e1000e"), number)
    bus.plug(pxb_host(), 14)
    last = root_port(Slot(12))
    bus.plug(last, 15)
    last.plug(virtio(0x1041))
    for number, name in ((0, "ich9-lpc"), (2, "ich9-ahci"), (3, "ich9-smbus")):
        bus.plug(make(name), 31, number)
    expander = root_port(Slot(11))
    complex_.add_root_bus(0, 0x40).plug(expander, 0)
    expander.plug(make("e1000e"))
    return complex_, Firmware(arrange=lay_out_downwards).set_up(complex_)


def function_at(complex_: RootComplex, name: str) -> Function:
    domain, bus, rest = name.split(":")
    device, number = rest.split(".")
    found = complex_.function(int(domain, 16), int(bus, 16) << 8 | int(device, 16) << 3 | int(number))
    assert found is not None, name
    return found


def test_it_has_the_functions_of_the_lab(lab: tuple[RootComplex, Setup]) -> None:
    complex_, setup = lab
    assert sorted(one.name for one in setup.functions()) == sorted(HEADERS)
    for name, header in HEADERS.items():
        if header[:4] != bytes.fromhex("f41a0910"):
            assert bytes(function_at(complex_, name).config.data[:4]) == header[:4], name


@pytest.mark.parametrize("name", HEADERS)
def test_addresses_are_seabios(lab: tuple[RootComplex, Setup], name: str) -> None:
    ours, theirs = function_at(lab[0], name).config.data, HEADERS[name]
    if theirs[regs.PCI_HEADER_TYPE] & 1:
        places = (range(0x10, 0x1E), range(0x20, 0x34))
    else:
        places = (range(0x10, 0x28), range(regs.PCI_ROM_ADDRESS, regs.PCI_ROM_ADDRESS + 4))
    left_out = [*BY_LINUX.get(name, ()), *FIXED.get(name, ()), bridge_regs.PCI_SEC_LATENCY_TIMER]
    compared = [at for place in places for at in place if at not in left_out]
    assert {hex(at): hex(ours[at]) for at in compared if ours[at] != theirs[at]} == {}, bytes(theirs[0x10:0x34]).hex()
    assert ours[regs.PCI_INTERRUPT_PIN] == theirs[regs.PCI_INTERRUPT_PIN]
    if theirs[regs.PCI_INTERRUPT_PIN]:
        assert ours[regs.PCI_INTERRUPT_LINE] == theirs[regs.PCI_INTERRUPT_LINE]
