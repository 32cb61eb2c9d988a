"""Configuration space through vfio-pci: refusals, then each field as the recorded kernel virtualises it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pci_fixture import BELL, NET, Device, Pci, errno_of

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.vfio import VFIO_DEVICE_RESET
from pyvfio_backends.software.description import FunctionSpec
from pyvfio_backends.software.hardware.pcie.capabilities import PowerManagement


@pytest.fixture
def net(pci: Pci) -> Iterator[Device]:
    device = pci.open(NET)
    yield device
    device.close()


def after(device: Device, offset: int, data: str, count: int | None = None) -> str:
    """Write, then read the same bytes back."""
    raw = bytes.fromhex(data)
    assert device.write(raw, offset) == len(raw)
    return device.read(count or len(raw), offset).hex()


@pytest.mark.parametrize(("offset", "count"), [(0xFC, 8), (0x100, 1), (0x100, 4), (0, 257), (0xFFF, 1)])
def test_nothing_lies_outside(net: Device, offset: int, count: int) -> None:
    assert errno_of(net.read, count, offset) == "EFAULT"
    assert errno_of(net.write, bytes(count), offset) == "EFAULT"


def test_a_write_that_ends_outside_writes_nothing(net: Device) -> None:
    assert errno_of(net.write, b"\xff" * 8, 0xFC) == "EFAULT"
    assert net.read(4, 0xFC) == bytes(4)


def test_no_bytes_are_no_error_anywhere(net: Device) -> None:
    assert net.read(0, 0x5000) == b""
    assert net.write(b"", 0x5000) == 0


@pytest.mark.parametrize(
    ("offset", "data"),
    [(0x00, "ffffffff"), (0x06, "ffff"), (0x08, "ffffffff"), (0x28, "ffffffff"), (0x2C, "ffffffff"), (0x34, "ff"),
     (0x38, "ffffffff"), (0x3D, "02"), (0x3E, "ffff"), (0x98, "ffffffff"), (0x9C, "ffffffff"), (0xA0, "ffffffff"),
     (0x40, "ff" * 16), (0x10, "ffffffff"), (0x18, "ffffffff"), (0x30, "ffffffff")],
)  # fmt: skip
def test_fields_that_stay(net: Device, offset: int, data: str) -> None:
    count = len(data) // 2
    before = net.read(count, offset).hex()
    assert after(net, offset, data) == before


def test_reads_of_any_length(net: Device) -> None:
    assert [net.read(n, 0).hex() for n in (1, 3, 8)] == ["f4", "f41a00", "f41a001002001000"]
    assert net.read(7, 1).hex() == "1a001002001000"
    assert net.read(4, 0xFC) == bytes(4)


def test_interrupt_pin_and_io_bar_are_hidden(pci: Pci, net: Device) -> None:
    own, real = net.read(256, 0), bytes.fromhex(pci.config(NET, 0, 256))
    assert [offset for offset in range(256) if own[offset] != real[offset]] == [0x10, 0x3D]


def test_the_command_register_reaches_the_device(pci: Pci, net: Device) -> None:
    assert after(net, 4, "ffff") == "0705" == pci.config(NET, 4, 2)
    assert after(net, 4, "0000") == "0000" == pci.config(NET, 4, 2)
    assert after(net, 4, "06") == "06"
    assert after(net, 5, "04") == "04"
    assert pci.config(NET, 4, 2) == "0604"
    assert after(net, 5, "00") == "00"
    assert pci.config(NET, 4, 2) == "0600"


def test_lost_bars_are_brought_back_when_decoding_is_switched_on(pci: Pci, net: Device) -> None:
    path = f"/sys/bus/pci/devices/{NET}/config"
    fd = pci.host.open(path, 2)
    pci.host.pwrite(fd, b"\xff" * 4, 0x20)
    pci.host.pwrite(fd, bytes(2), 4)
    net.write(b"\2\0", 4)
    assert pci.config(NET, 0x20, 4) == "0c000000"
    pci.host.close(fd)


@pytest.mark.parametrize(
    ("offset", "sized"),
    [(0x14, "00f0ffff"), (0x20, "0cc0ffff"), (0x24, "ffffffff")],
)
def test_bars_can_be_sized_without_touching_the_device(pci: Pci, net: Device, offset: int, sized: str) -> None:
    assert after(net, offset, "ffffffff") == sized
    assert pci.config(NET, offset, 4) == ("0c000000" if offset == 0x20 else "00000000")
    assert after(net, offset, "00000000") == ("0c000000" if offset == 0x20 else "00000000")


def test_unaligned_pieces_of_a_bar(net: Device) -> None:
    net.write(b"\xff" * 3, 0x15)
    assert net.read(24, 0x10).hex() == "0000000000f0ffff00000000000000000c00000000000000"


def test_small_fields(pci: Pci, net: Device) -> None:
    assert after(net, 0x0C, "ffffffff") == "ff000000" == pci.config(NET, 0x0C, 4)
    assert after(net, 0x3C, "0b") == "0b"
    assert pci.config(NET, 0x3C, 1) == "00"


def test_vendor_capabilities_and_unclaimed_bytes_are_the_programs_own(pci: Pci, net: Device) -> None:
    assert after(net, 0x84, "ff" * 20) == "09701405ff000000ffffffffffffffffffffffff"
    net.write(b"\4" + bytes(15), 0x88)
    assert after(net, 0xB0, "aa55aa55") == "aa55aa55" == pci.config(NET, 0xB0, 4)


def test_the_window_capability_reads_live(net: Device) -> None:
    net.write(bytes.fromhex("040000000400000004000000"), 0x88)
    assert net.read(4, 0x94).hex() == "01010000"


def test_the_copy_begins_anew_at_each_opening(pci: Pci, net: Device) -> None:
    net.write(b"\x0b", 0x3C)
    second = net.get(NET)
    pci.host.close(net.fd)
    net.fd = second
    assert net.read(1, 0x3C).hex() == "0b"
    pci.host.close(net.fd)
    net.fd = net.get(NET)
    assert net.read(1, 0x3C).hex() == "00"


def test_a_virtual_function_seems_to_decode_memory() -> None:
    lab = Pci(FunctionSpec(0x99, 0x99, "virtio-bell", vfn=1))
    device = lab.open("0099:00:00.0")
    device.write(bytes(2), 4)
    assert device.read(4, 0x3C, 0).hex() == "4c4c4542"
    lab.host.close()


def test_a_function_with_power_management_can_be_put_to_sleep(pci: Pci) -> None:
    function = pci.machine.zpci.function(0x60)
    at = function.config.add(PowerManagement(pme=regs.PCI_PM_CAP_PME_D0), 0x80)
    function.config.seal()
    device = pci.open(BELL)
    assert (device.read(8, at).hex(), pci.config(BELL, at, 8)) == ("0140030008000000", "0140030808000000")
    device.write(b"\3", at + regs.PCI_PM_CTRL)
    assert (device.read(1, at + 4).hex(), pci.attr(BELL, "power_state")) == ("0b", "D3hot")
    assert errno_of(device.read, 4, 0x3C, 0) == "EIO"
    device.write(b"\0", at + regs.PCI_PM_CTRL)
    assert (device.read(4, 0x3C, 0).hex(), pci.attr(BELL, "power_state")) == ("4c4c4542", "D0")


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_sleeping_function_is_woken(pci: Pci, how: str) -> None:
    function = pci.machine.zpci.function(0x60)
    at = function.config.add(PowerManagement(no_soft_reset=False), 0x80)
    function.config.seal()
    device = pci.open(BELL)
    device.write(b"\3", at + regs.PCI_PM_CTRL)
    assert pci.attr(BELL, "power_state") == "D3hot"
    if how == "reset":
        assert device.host.ioctl(device.fd, VFIO_DEVICE_RESET, 0) == 0
    else:
        device.close()
    assert pci.attr(BELL, "power_state") == "D0"
    assert not function.config.read(at + regs.PCI_PM_CTRL, 2) & regs.PCI_PM_CTRL_STATE_MASK


def test_a_capability_that_vfio_hides_is_skipped(pci: Pci) -> None:
    function = pci.machine.zpci.function(0x60)
    function.config.add_capability(0x80, regs.PCI_CAP_ID_SSVID, bytes(6))
    function.config.seal()
    device = pci.open(BELL)
    assert (device.read(1, 0x34).hex(), pci.config(BELL, 0x34, 1)) == ("40", "80")
