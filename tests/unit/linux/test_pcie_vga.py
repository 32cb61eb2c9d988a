"""The old addresses of a display adapter through vfio-pci (``vfio_pci_vga_rw``), and how they get there.

Asked of the x86 lab's kernel (6.12) with QEMU's VGA at 0000:00:1e.0.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pci_fixture import Device, errno_of
from pcie_fixture import EDU, Pcie, lab_spec

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio_backends.software.description import PcieFunctionSpec
from pyvfio_backends.software.hardware.devices.vga import VgaPorts

VGA = "0000:00:1e.0"
REGION = abi.VFIO_PCI_VGA_REGION_INDEX


def machine(behind: str = "0000:00", at: str = "1e.0") -> Pcie:
    spec = PcieFunctionSpec("VGA", behind=behind, at=at)
    return Pcie(pcie_functions=[*lab_spec().pcie_functions, spec])


@pytest.fixture
def device() -> Iterator[Device]:
    pcie = machine()
    with pcie.host:
        yield pcie.open(VGA)


def test_the_region(device: Device) -> None:
    info = abi.RegionInfo.sized(index=REGION)
    device.ask(abi.VFIO_DEVICE_GET_REGION_INFO, info)
    assert (info.flags, info.size, info.offset) == (3, 0xC0000, REGION << 40)


def test_only_of_display_adapters() -> None:
    pcie = machine()
    with pcie.host:
        other = pcie.open(EDU)
        assert errno_of(other.ask, abi.VFIO_DEVICE_GET_REGION_INFO, abi.RegionInfo.sized(index=REGION)) == "EINVAL"
        assert errno_of(other.read, 4, 0xB8000, REGION) == "EINVAL"


def test_memory(device: Device) -> None:
    assert device.write(b"A\x07B\x07", 0xB8000, REGION) == 4
    assert device.read(4, 0xB8000, REGION) == b"A\x07B\x07"
    assert len(device.read(8, 0xBFFFE, REGION)) == 2
    assert device.write(b"abcd", 0xBFFFE, REGION) == 2


def test_ports(device: Device) -> None:
    device.write(b"\x0e", 0x3D4, REGION)
    device.write(b"\x12", 0x3D5, REGION)
    assert device.read(2, 0x3D4, REGION) == b"\x0e\x12"
    device.write(b"\x01", 0x3C8, REGION)
    for part in (1, 2, 3):
        device.write(bytes([part]), 0x3C9, REGION)
    device.write(b"\x01", 0x3C7, REGION)
    assert [device.read(1, 0x3C9, REGION) for _ in range(3)] == [b"\1", b"\2", b"\3"]
    assert len(device.read(4, 0x3DF, REGION)) == 1


@pytest.mark.parametrize("place", [0, 0x3AF, 0x3BC, 0x3E0, 0x9FFFF, 0xC0000])
def test_nothing_is_in_between(device: Device, place: int) -> None:
    assert errno_of(device.read, 1, place, REGION) == "EINVAL"
    assert errno_of(device.write, b"\0", place, REGION) == "EINVAL"


def test_what_is_off_reads_as_ones(device: Device) -> None:
    """Memory that is off is not refused, unlike that of BARs."""
    device.write(b"hi", 0xB8000, REGION)
    device.write(b"\0\0", regs.PCI_COMMAND)
    assert device.read(2, 0xB8000, REGION) == b"\xff\xff"
    assert device.read(1, 0x3CC, REGION) == b"\xff"
    device.write(b"\3\0", regs.PCI_COMMAND)
    assert device.read(2, 0xB8000, REGION) == b"hi"
    assert device.read(1, 0x3CC, REGION) == b"\1"


def test_a_bridge_forwards_them_when_it_is_told_to() -> None:
    """``PCI_BRIDGE_CTL_VGA``: PCI-to-PCI Bridge Architecture Specification, 3.2.5.18."""
    pcie = machine("rpe", "00.0")
    with pcie.host:
        device = pcie.open("0000:0b:00.0")
        device.write(b"\3\0", regs.PCI_COMMAND)
        assert device.read(1, 0x3CC, REGION) == b"\xff"
        bridge = pcie.kernel.buses["pci"].devices["0000:00:0c.0"].sysdata  # type: ignore[attr-defined]
        control = bridge.config_read(bridge_regs.PCI_BRIDGE_CONTROL, 2)
        bridge.config_write(bridge_regs.PCI_BRIDGE_CONTROL, 2, control | bridge_regs.PCI_BRIDGE_CTL_VGA)
        assert device.read(1, 0x3CC, REGION) == b"\1"
        device.write(b"\x07", 0xA0000, REGION)
        assert device.read(1, 0xA0000, REGION) == b"\x07"
        bridge.config_write(bridge_regs.PCI_BRIDGE_CONTROL, 2, control)
        assert device.read(1, 0xA0000, REGION) == b"\xff"


def test_the_frame_buffer_and_the_registers_of_bochs(device: Device) -> None:
    device.write(b"\3\0", regs.PCI_COMMAND)
    area = device.host.mmap(device.fd, 4096)
    area[:4] = b"\1\2\3\4"
    assert device.read(4, 0, 0) == b"\1\2\3\4"
    area.close()
    assert device.read(2, 0x500, 2) == b"\xc5\xb0"
    assert device.read(2, 0x514, 2) == b"\0\1"
    device.write(b"\x80\x02", 0x502, 2)
    assert device.read(2, 0x502, 2) == b"\x80\x02"
    assert device.read(1, 0x40C, 2) == b"\1"


def test_the_rom_is_the_copy_that_firmware_made(device: Device) -> None:
    """Its image is there while memory is off, which is asked for all the same; the rest are ones."""
    rom = abi.VFIO_PCI_ROM_REGION_INDEX
    info = abi.RegionInfo.sized(index=rom)
    device.ask(abi.VFIO_DEVICE_GET_REGION_INFO, info)
    assert (info.flags, info.size) == (1, 0x20000)
    device.write(b"\0\0", regs.PCI_COMMAND)
    assert errno_of(device.read, 8, 0, rom) == "EIO"
    assert device.read(8, 0x1FFF8, rom) == b"\xff" * 8
    device.write(b"\3\0", regs.PCI_COMMAND)
    assert device.read(2, 0, rom) == b"\x55\xaa"
    assert device.read(8, 0x1FFF8, rom) == b"\xff" * 8


def test_sysfs() -> None:
    spec = PcieFunctionSpec("VGA", behind="0000:00", at="10.0", options={"size": 1 << 22})
    first = PcieFunctionSpec("VGA", behind="0000:00", at="04.0")
    pcie = Pcie(pcie_functions=[*lab_spec().pcie_functions, spec, first])
    with pcie.host:
        assert [pcie.attr(name, "boot_vga") for name in ("0000:00:04.0", "0000:00:10.0")] == ["1", "0"]
        lines = pcie.attr("0000:00:04.0", "resource").splitlines()
        assert lines[6] == "0x00000000000c0000 0x00000000000dffff 0x0000000000000212"
        assert pcie.attr("0000:00:10.0", "resource").splitlines()[6] != lines[6]
        assert "boot_vga" not in pcie.host.listdir(f"/sys/bus/pci/devices/{EDU}")
        pcie.write("/sys/bus/pci/devices/0000:00:04.0/rom", "1")
        assert pcie.bytes("/sys/bus/pci/devices/0000:00:04.0/rom", 2) == b"\x55\xaa"
        assert pcie.text("/sys/module/vfio_pci/parameters/disable_vga") == "N\n"


def test_the_ports_by_themselves() -> None:
    """IBM's VGA: which CRT controller there is, the index of the attribute controller, the palette."""
    ports = VgaPorts()
    ports.write(0x3B4, 1)
    assert ports.read(0x3B4) == 0xFF
    ports.write(0x3C2, 0)
    ports.write(0x3B4, 1)
    assert (ports.read(0x3B4), ports.read(0x3D4), ports.read(0x3CC)) == (1, 0xFF, 0)
    ports.read(0x3BA)
    ports.write(0x3C0, 3)
    ports.write(0x3C0, 9)
    assert (ports.read(0x3C0), ports.read(0x3C1)) == (3, 9)
    ports.write(0x3C4, 200)
    ports.write(0x3C5, 1)
    assert ports.read(0x3C5) == 0
    ports.write(0x3C6, 0x0F)
    assert ports.read(0x3C6) == 0x0F
