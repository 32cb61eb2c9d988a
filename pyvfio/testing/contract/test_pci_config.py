"""Configuration space through vfio-pci: what is virtual, what reaches the function, what is refused.

The rules are those of ``drivers/vfio/pci/vfio_pci_config.c`` as a 6.12 kernel applies them.
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import EFAULT, EINVAL

import pytest

from pyvfio.abi import pci_regs, vfio
from pyvfio.backend import Backend
from pyvfio.testing import requests
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import OpenDevice


class Config:
    """Configuration space by VFIO and by sysfs; little-endian numbers."""

    def __init__(self, device: OpenDevice, path: str) -> None:
        self.backend, self.fd = device.backend, device.fd
        info, _ = requests.region_info(self.backend, self.fd, vfio.VFIO_PCI_CONFIG_REGION_INDEX)
        self.base, self.size = info.offset, info.size
        self.path = path

    def read(self, at: int, size: int) -> int:
        data = self.backend.pread(self.fd, size, self.base + at)
        assert len(data) == size
        return int.from_bytes(data, "little")

    def write(self, at: int, size: int, value: int) -> None:
        assert self.backend.pwrite(self.fd, value.to_bytes(size, "little"), self.base + at) == size

    def sysfs(self, at: int, size: int) -> int:
        with requests.opened_file(self.backend, f"{self.path}/config") as fd:
            return int.from_bytes(self.backend.pread(fd, size, at), "little")

    def capability(self, number: int) -> int:
        at = self.read(pci_regs.PCI_CAPABILITY_LIST, 1)
        while at and self.read(at, 1) != number:
            at = self.read(at + 1, 1)
        return at


@pytest.fixture
def config(opened: OpenDevice, function: BoundFunction) -> Iterator[Config]:
    found = Config(opened, function.path)
    command = found.read(pci_regs.PCI_COMMAND, 2)
    yield found
    found.write(pci_regs.PCI_COMMAND, 2, command)


def test_past_the_end(backend: Backend, config: Config) -> None:
    with fails(EFAULT):
        backend.pread(config.fd, 4, config.base + config.size)
    with fails(EFAULT):
        backend.pwrite(config.fd, b"1234", config.base + config.size)


def test_across_the_end(backend: Backend, config: Config) -> None:
    with fails(EFAULT):
        backend.pread(config.fd, 8, config.base + config.size - 4)


@pytest.mark.parametrize("index", [vfio.VFIO_PCI_VGA_REGION_INDEX, vfio.VFIO_PCI_NUM_REGIONS, 40])
def test_a_region_that_is_none(backend: Backend, config: Config, index: int) -> None:
    step = config.base // vfio.VFIO_PCI_CONFIG_REGION_INDEX
    with fails(EINVAL):
        backend.pread(config.fd, 4, step * index)
    with fails(EINVAL):
        backend.pwrite(config.fd, b"1234", step * index)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 64, 256])
@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_reads_of_any_size(backend: Backend, config: Config, size: int, at: int) -> None:
    if at + size > config.size:
        at = 0
    whole = backend.pread(config.fd, config.size, config.base)
    assert backend.pread(config.fd, size, config.base + at) == whole[at : at + size]


def test_nothing(backend: Backend, config: Config) -> None:
    assert backend.pread(config.fd, 0, config.base) == b""
    assert backend.pwrite(config.fd, b"", config.base) == 0


@pytest.mark.parametrize(
    ("at", "size"),
    [
        (pci_regs.PCI_VENDOR_ID, 2),
        (pci_regs.PCI_DEVICE_ID, 2),
        (pci_regs.PCI_REVISION_ID, 1),
        (pci_regs.PCI_CLASS_DEVICE, 2),
        (pci_regs.PCI_SUBSYSTEM_VENDOR_ID, 2),
        (pci_regs.PCI_SUBSYSTEM_ID, 2),
        (pci_regs.PCI_CAPABILITY_LIST, 1),
    ],
    ids=["vendor", "device", "revision", "class", "subsystem-vendor", "subsystem", "capability-pointer"],
)
def test_identity_is_read_only(config: Config, at: int, size: int) -> None:
    before = config.read(at, size)
    assert before == config.sysfs(at, size)
    config.write(at, size, (1 << 8 * size) - 1 - before)
    assert config.read(at, size) == before
    assert config.sysfs(at, size) == before


@pytest.mark.parametrize(
    "bit",
    [pci_regs.PCI_COMMAND_MEMORY, pci_regs.PCI_COMMAND_MASTER, pci_regs.PCI_COMMAND_INTX_DISABLE],
    ids=["memory", "master", "intx"],
)
def test_command_bits_reach_the_function(config: Config, bit: int) -> None:
    config.write(pci_regs.PCI_COMMAND, 2, 0)
    assert config.read(pci_regs.PCI_COMMAND, 2) == 0
    config.write(pci_regs.PCI_COMMAND, 2, bit)
    assert config.read(pci_regs.PCI_COMMAND, 2) == bit
    assert config.sysfs(pci_regs.PCI_COMMAND, 2) & bit == bit


def test_command_bits_that_are_none(config: Config) -> None:
    config.write(pci_regs.PCI_COMMAND, 2, 0xF800)
    assert config.read(pci_regs.PCI_COMMAND, 2) & 0xF800 == 0


def test_one_byte_of_the_command(config: Config) -> None:
    config.write(pci_regs.PCI_COMMAND, 2, pci_regs.PCI_COMMAND_INTX_DISABLE)
    config.write(pci_regs.PCI_COMMAND, 1, pci_regs.PCI_COMMAND_MEMORY)
    assert config.read(pci_regs.PCI_COMMAND, 2) == pci_regs.PCI_COMMAND_INTX_DISABLE | pci_regs.PCI_COMMAND_MEMORY


def test_status_is_not_changed(config: Config) -> None:
    before = config.read(pci_regs.PCI_STATUS, 2)
    config.write(pci_regs.PCI_STATUS, 2, 0xFFFF)
    assert config.read(pci_regs.PCI_STATUS, 2) == before


def test_cache_line_size_is_the_functions(config: Config) -> None:
    before = config.read(pci_regs.PCI_CACHE_LINE_SIZE, 1)
    config.write(pci_regs.PCI_CACHE_LINE_SIZE, 1, before ^ 0x10)
    assert config.read(pci_regs.PCI_CACHE_LINE_SIZE, 1) == before ^ 0x10
    assert config.sysfs(pci_regs.PCI_CACHE_LINE_SIZE, 1) == before ^ 0x10
    config.write(pci_regs.PCI_CACHE_LINE_SIZE, 1, before)


@pytest.mark.parametrize("bar", range(6))
def test_sizing_a_bar(config: Config, bar: int) -> None:
    at = pci_regs.PCI_BASE_ADDRESS_0 + 4 * bar
    info, _ = requests.region_info(config.backend, config.fd, bar)
    before, real = config.read(at, 4), config.sysfs(at, 4)
    upper = bar and config.read(at - 4, 4) & 7 == 4
    config.write(at, 4, 0xFFFFFFFF)
    sized = config.read(at, 4)
    config.write(at, 4, before)
    assert config.read(at, 4) == before
    assert config.sysfs(at, 4) == real  # only the copy was written
    if upper:
        assert sized == 0xFFFFFFFF
    elif info.size == 0:
        assert sized == 0
    else:
        assert sized & ~0xF == (1 << 32) - info.size
        assert sized & 0xF == before & 0xF


def test_a_bar_keeps_what_is_written(config: Config) -> None:
    for bar in range(6):
        info, _ = requests.region_info(config.backend, config.fd, bar)
        at = pci_regs.PCI_BASE_ADDRESS_0 + 4 * bar
        if info.size:
            before = config.read(at, 4)
            config.write(at, 4, 0x10000000)
            assert config.read(at, 4) & ~0xF == 0x10000000
            config.write(at, 4, before)
            return
    pytest.skip("the function has no memory BAR")


def test_no_rom_to_size(config: Config) -> None:
    if requests.region_info(config.backend, config.fd, vfio.VFIO_PCI_ROM_REGION_INDEX)[0].size:
        pytest.skip("the function has a ROM")
    config.write(pci_regs.PCI_ROM_ADDRESS, 4, 0xFFFFFFFF)
    assert config.read(pci_regs.PCI_ROM_ADDRESS, 4) == 0


def test_interrupt_line_is_virtual(config: Config) -> None:
    before, real = config.read(pci_regs.PCI_INTERRUPT_LINE, 1), config.sysfs(pci_regs.PCI_INTERRUPT_LINE, 1)
    config.write(pci_regs.PCI_INTERRUPT_LINE, 1, 0x0B)
    assert config.read(pci_regs.PCI_INTERRUPT_LINE, 1) == 0x0B
    assert config.sysfs(pci_regs.PCI_INTERRUPT_LINE, 1) == real
    config.write(pci_regs.PCI_INTERRUPT_LINE, 1, before)


def test_interrupt_pin_says_whether_there_is_intx(config: Config) -> None:
    count = requests.irq_info(config.backend, config.fd, vfio.VFIO_PCI_INTX_IRQ_INDEX).count
    pin = config.read(pci_regs.PCI_INTERRUPT_PIN, 1)
    assert bool(pin) == bool(count)
    config.write(pci_regs.PCI_INTERRUPT_PIN, 1, 2)
    assert config.read(pci_regs.PCI_INTERRUPT_PIN, 1) == pin


def test_the_msix_capability_is_read_only(config: Config) -> None:
    at = config.capability(pci_regs.PCI_CAP_ID_MSIX)
    if not at:
        pytest.skip("the function has no MSI-X")
    before = config.read(at, 12 - 4), config.read(at + 8, 4)
    config.write(at, 4, 0xFFFFFFFF)
    config.write(at + 4, 4, 0xFFFFFFFF)
    config.write(at + 8, 4, 0xFFFFFFFF)
    assert (config.read(at, 8), config.read(at + 8, 4)) == before
    assert config.sysfs(at + 2, 2) == before[0] >> 16 & 0xFFFF


def test_a_write_across_registers(config: Config) -> None:
    whole = config.read(pci_regs.PCI_COMMAND, 4)
    config.write(pci_regs.PCI_COMMAND, 4, pci_regs.PCI_COMMAND_MEMORY | 0xFFFF0000)
    assert config.read(pci_regs.PCI_COMMAND, 2) == pci_regs.PCI_COMMAND_MEMORY
    assert config.read(pci_regs.PCI_STATUS, 2) == whole >> 16


def test_the_rest_is_what_sysfs_shows(config: Config) -> None:
    own = (0x10, 0x28), (0x30, 0x34), (0x3C, 0x3E)  # BARs, ROM and interrupt line and pin are virtual
    mine, host = (read(0, 64).to_bytes(64, "little") for read in (config.read, config.sysfs))
    for at in range(64):
        if not any(start <= at < end for start, end in own):
            assert mine[at] == host[at], hex(at)
