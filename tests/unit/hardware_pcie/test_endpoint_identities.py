"""Endpoints beside what QEMU's look like to a real kernel, byte for byte.

``fixtures/golden/x86/endpoints.json`` is their configuration space after Linux had set it up; what software can write
is left out of the comparison, but for base addresses only the address.
"""

from __future__ import annotations

import json

import pytest
from pcie_rig import Host

from pyvfio.abi import pci_regs as regs
from pyvfio.errors import NotModelled
from pyvfio_backends.software.hardware.pcie.block import Memory
from pyvfio_backends.software.hardware.pcie.endpoints import ENDPOINTS, add_igb_functions
from pyvfio_backends.software.hardware.pcie.firmware import Firmware
from pyvfio_backends.software.hardware.pcie.models import root_port
from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex
from pyvfio_fixtures import golden

GOLDEN = json.loads(golden("x86/endpoints.json").read_text(encoding="utf-8"))
MULTIFUNCTION = ("pci-testdev", "ich9-lpc", "ich9-ahci", "ich9-smbus")
DIFFERENT = {
    "ich9-lpc": dict.fromkeys(range(0x40, 0x100), 0xFF),  # the chipset's own registers, not modelled
    "ich9-smbus": {0x40: 0xFF},  # its host configuration register, likewise
    "ich9-ahci": {0x81: 0xFF, 0x90: 0xFF, **dict.fromkeys(range(0xA8, 0xB0), 0xFF)},  # the SATA capability, likewise
    "e1000e": dict.fromkeys(range(0x144, 0x14C), 0xFF),  # the serial number is each card's own
}


@pytest.mark.parametrize("name", GOLDEN["config"])
def test_it_looks_like_qemus(name: str) -> None:
    function = ENDPOINTS[name].build()
    if name == "igb":
        add_igb_functions(function)
    if name in MULTIFUNCTION:
        function.config.mark_multifunction()
    theirs = bytes.fromhex(GOLDEN["config"][name]).ljust(GOLDEN["size"][name], b"\0")
    ours, writable = function.config.data, function.config.writable
    assert len(ours) == len(theirs)
    differing: dict[str, tuple[str, str]] = {}
    for at in range(len(ours)):
        care = 0xFF & ~(writable[at] if at < len(writable) else 0) & ~DIFFERENT.get(name, {}).get(at, 0)
        if (ours[at] ^ theirs[at]) & care:
            differing[hex(at)] = (hex(ours[at]), hex(theirs[at]))
    assert differing == {}


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("edu", {0x10: 0xFFF00000}),
        ("e1000e", {0x10: 0xFFFE0000, 0x14: 0xFFFE0000, 0x18: 0xFFFFFFE1, 0x1C: 0xFFFFC000, 0x30: 0xFFFC0001}),
        ("igb", {0x10: 0xFFFE0000, 0x14: 0xFFFE0000, 0x18: 0xFFFFFFE1, 0x1C: 0xFFFFC004, 0x20: 0xFFFFFFFF}),
        ("nvme", {0x10: 0xFFFFC004, 0x14: 0xFFFFFFFF}),
    ],
)
def test_base_addresses_tell_the_sizes_that_linux_read(name: str, sizes: dict[int, int]) -> None:
    """The values after writing ones, as vfio-pci on the lab's kernel read them back."""
    config = ENDPOINTS[name].build().config
    for at in (*range(0x10, 0x28, 4), 0x30):
        config.write(at, 4, 0xFFFFFFFF)
    assert {at: config.read(at, 4) for at in (*range(0x10, 0x28, 4), 0x30) if config.read(at, 4)} == sizes


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        (
            "e1000e",
            {0xCD: 0x1E, 0x108: 0x30, 0x109: 0xF0, 0x10A: 0xFF, 0x10B: 0x3, 0x114: 0xC1, 0x115: 0xF1, 0x118: 0x40},
        ),
        ("igb", {0x45: 0x1E, 0xC9: 0x80, 0x108: 0x30, 0x109: 0xF0, 0x10A: 0xFF, 0x10C: 0x30, 0x10F: 0x3, 0x119: 0x1}),
        ("nvme", {0xA9: 0x80, 0xC: 0xFF}),
        ("edu", {0xC: 0xFF}),
    ],
)
def test_the_bits_that_stuck_in_qemus_stick_here(name: str, bits: dict[int, int]) -> None:
    writable = ENDPOINTS[name].build().config.writable
    assert {at: writable[at] for at in bits} == bits


def test_registers_are_given_or_not_modelled_and_the_msix_table_is_there() -> None:
    complex_ = RootComplex(Host())
    bus = complex_.add_root_bus()
    given, bare = ENDPOINTS["nvme"].build({0: Memory(0x2000)}), ENDPOINTS["nvme"].build()
    bus.plug(given, 1)
    bus.plug(bare, 2)
    Firmware().set_up(complex_)
    for function in (given, bare):
        base = function.address(function.bars[0])
        assert complex_.load(base + 0x200C, 4) == regs.PCI_MSIX_ENTRY_CTRL_MASKBIT
        assert complex_.load(base + 0x3000, 8) == 0
    assert complex_.load(given.address(given.bars[0]), 4) == 0
    with pytest.raises(NotModelled, match="registers of nvme, BAR 0, offset 0x1c"):
        complex_.load(bare.address(bare.bars[0]) + 0x1C, 4)


def test_the_functions_of_igb_are_where_they_are_on_the_card() -> None:
    complex_ = RootComplex(Host())
    port = complex_.add_root_bus().plug(root_port(), 1)
    card = ENDPOINTS["igb"].build(name="igb0")
    virtual = add_igb_functions(card)
    port.plug(card)
    Firmware().set_up(complex_)
    card.config.write(virtual.offset + regs.PCI_SRIOV_NUM_VF, 2, 2)
    card.config.write(virtual.offset + regs.PCI_SRIOV_CTRL, 2, regs.PCI_SRIOV_CTRL_VFE | regs.PCI_SRIOV_CTRL_MSE)
    assert [one.rid for one in virtual.active] == [0x180, 0x182]
    assert complex_.config_read(0, 0x180, 0, 4) == 0xFFFFFFFF, "the ids of a virtual function are in the capability"
    assert complex_.config_read(0, 0x180, regs.PCI_CLASS_REVISION, 4) == 0x02000001
    table = virtual.bar_address(3) + 0x4000
    assert complex_.load(table + 0xC, 4) == regs.PCI_MSIX_ENTRY_CTRL_MASKBIT
