"""Configuration space read at once is what reading it word by word gives, also through vfio-pci."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pcie_fixture import EDU, Pcie

from pyvfio_backends.software.linux.pci_device import PciDevice


@pytest.fixture
def lab() -> Iterator[Pcie]:
    pcie = Pcie()
    with pcie.host:
        yield pcie


def words(device: PciDevice) -> bytes:
    return b"".join(device.load_config(at, 4).to_bytes(4, "little") for at in range(0, device.config_size, 4))


def test_all_functions(lab: Pcie) -> None:
    for device in lab.kernel.buses["pci"].devices.values():
        assert isinstance(device, PciDevice)
        live = lab.hardware(device.name).config.refresh is not None  # virtio's window into a BAR
        found = device.config_at_once(0, device.config_size)
        assert found is None if live else found == words(device), device.name
        assert device.config_at_once(0x3D, 0x42) == words(device)[0x3D:0x42]


def test_registers_that_reading_makes_are_read(lab: Pcie) -> None:
    device = lab.kernel.buses["pci"].devices[EDU]
    assert isinstance(device, PciDevice)
    config, reads = lab.hardware(EDU).config, []
    config.refresh, config.live = lambda: reads.append(1), (0x54, 0x58)
    for first, end, at_once in ((0x50, 0x54, True), (0x58, 0x60, True), (0x54, 0x55, False), (0x50, 0x60, False)):
        assert (device.config_at_once(first, end) is not None) == at_once, hex(first)
    assert reads == []
    opened = lab.open(EDU)
    opened.read(0x10, 0x50)
    assert reads == [1]


@pytest.mark.parametrize("why", ["hung", "gone", "another"])
def test_who_does_not_answer_is_asked(lab: Pcie, why: str) -> None:
    device, hardware = lab.kernel.buses["pci"].devices[EDU], lab.hardware(EDU)
    assert isinstance(device, PciDevice)
    if why == "hung":
        hardware.hung = True
    else:
        del lab.complex.root_buses[0].functions[hardware.devfn]
    if why == "another":
        lab.complex.root_buses[0].functions[hardware.devfn] = lab.hardware("0000:00:07.0")
    assert device.config_at_once(0, 4) is None


def test_past_the_end_it_is_asked(lab: Pcie) -> None:
    device = lab.kernel.buses["pci"].devices[EDU]
    assert isinstance(device, PciDevice)
    assert device.config_at_once(0xFC, 0x104) is None
