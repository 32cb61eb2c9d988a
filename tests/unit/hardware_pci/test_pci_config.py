"""Configuration space: what can be written, how BARs are sized, and the chain of capabilities."""

from __future__ import annotations

import pytest

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.zpci.sriov import Sriov, make_express


@pytest.fixture
def config() -> ConfigSpace:
    return ConfigSpace(Identity(0x1AF4, 0x10F0, 0x1AF4, 0x0001, 0x020304, 5), interrupt_pin=1)


@pytest.mark.parametrize("offset", [regs.PCI_VENDOR_ID, regs.PCI_CLASS_REVISION, regs.PCI_SUBSYSTEM_VENDOR_ID, 0x38])
def test_identity_and_reserved_fields_cannot_be_written(config: ConfigSpace, offset: int) -> None:
    before = config.read(offset, 4)
    config.write(offset, 4, 0xFFFFFFFF)
    assert config.read(offset, 4) == before


def test_only_known_command_bits_can_be_set(config: ConfigSpace) -> None:
    config.write(regs.PCI_COMMAND, 2, 0xFFFF)
    assert config.command == 0x0507
    config.write(regs.PCI_COMMAND + 1, 1, 0)
    assert config.command == 0x0007


def test_fields_lie_little_endian(config: ConfigSpace) -> None:
    assert bytes(config.data[:4]) == bytes.fromhex("f41af010")
    assert config.read(regs.PCI_CLASS_REVISION, 4) == 0x02030405
    assert config.read(regs.PCI_INTERRUPT_PIN, 1) == 1


@pytest.mark.parametrize(
    ("size", "flags", "sized"),
    [
        (0x20, regs.PCI_BASE_ADDRESS_SPACE_IO, 0xFFFFFFE1),
        (0x1000, 0, 0xFFFFF000),
        (0x4000, regs.PCI_BASE_ADDRESS_MEM_TYPE_64 | regs.PCI_BASE_ADDRESS_MEM_PREFETCH, 0xFFFFC00C),
    ],
)
def test_a_bar_tells_its_size(config: ConfigSpace, size: int, flags: int, sized: int) -> None:
    config.set_bar(2, size, flags)
    at = regs.PCI_BASE_ADDRESS_2
    config.write(at, 4, 0xFFFFFFFF)
    assert config.read(at, 4) == sized
    config.write(at + 4, 4, 0xFFFFFFFF)
    assert config.read(at + 4, 4) == (0xFFFFFFFF if flags & regs.PCI_BASE_ADDRESS_MEM_TYPE_64 else 0)


def test_the_rom_register_tells_its_size(config: ConfigSpace) -> None:
    config.set_rom(0x40000)
    config.write(regs.PCI_ROM_ADDRESS, 4, 0xFFFFFFFF)
    assert config.read(regs.PCI_ROM_ADDRESS, 4) == 0xFFFC0001


def test_a_new_capability_becomes_the_head_of_the_chain(config: ConfigSpace) -> None:
    assert not config.data[regs.PCI_STATUS] & regs.PCI_STATUS_CAP_LIST
    config.add_capability(0x40, regs.PCI_CAP_ID_VNDR, b"\x10ab")
    config.add_capability(0x50, regs.PCI_CAP_ID_MSIX, b"cd")
    assert config.data[regs.PCI_STATUS] & regs.PCI_STATUS_CAP_LIST
    assert config.data[regs.PCI_CAPABILITY_LIST] == 0x50
    assert bytes(config.data[0x50:0x54]) == b"\x11\x40cd"
    assert bytes(config.data[0x40:0x45]) == b"\x09\0\x10ab"


def test_a_reset_brings_back_what_was_sealed(config: ConfigSpace) -> None:
    config.seal()
    config.write(regs.PCI_COMMAND, 2, 6)
    config.reset()
    assert config.command == 0


def test_writes_are_told_and_live_bytes_are_made_when_read(config: ConfigSpace) -> None:
    told: list[tuple[int, int]] = []
    config.changed = lambda offset, length: told.append((offset, length))
    config.live = (0x60, 0x64)
    config.refresh = lambda: config.data.__setitem__(0x60, config.data[0x60] + 1)
    config.write(regs.PCI_COMMAND, 2, 6)
    assert told == [(regs.PCI_COMMAND, 2)]
    assert [config.read(0x5C, 4), config.read(0x60, 4), config.read(0x5E, 4)] == [0, 1, 2 << 16]


@pytest.mark.parametrize(("asked", "there"), [(0, 0), (1, 1), (3, 3), (4, 3), (0xFFFF, 3)])
def test_there_are_never_more_virtual_functions_than_in_all(config: ConfigSpace, asked: int, there: int) -> None:
    make_express(config)
    told: list[int] = []
    sriov = Sriov(config, 3, 0x1041)
    sriov.on_enable = told.append
    at = regs.PCI_CFG_SPACE_SIZE
    assert config.read(at + regs.PCI_SRIOV_TOTAL_VF, 2) == 3
    config.write(at + regs.PCI_SRIOV_NUM_VF, 2, asked)
    assert sriov.number == 0
    config.write(at + regs.PCI_SRIOV_CTRL, 2, regs.PCI_SRIOV_CTRL_VFE)
    assert (sriov.number, told) == (there, [there])
    config.write(at + regs.PCI_SRIOV_CTRL, 2, 0)
    assert (sriov.number, told[-1]) == (0, 0)
