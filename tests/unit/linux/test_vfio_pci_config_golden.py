"""vfio-pci's view of four real devices, access by access, as Linux 6.12 answered (golden x86/config_virtualisation).

The devices are models of `pcie.endpoints`, with what their registers held.  Like QEMU's, they take writes to bytes that
belong to no capability.
"""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest
from config_card import Card, conventional, extended

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pcie.endpoints import ENDPOINTS, add_igb_functions
from pyvfio_backends.software.linux.resource import Resource, ResourceFlag
from pyvfio_fixtures import golden

GOLDEN: dict[str, Any] = json.loads(golden("x86/config_virtualisation.json").read_text(encoding="utf-8"))["device"]
NAMES = sorted(GOLDEN)
CARE = {regs.PCI_COMMAND, regs.PCI_COMMAND + 1}
PROBED = {1: range(2, 8), 5: range(2, 14), 0x10: range(2, 0x34), 0x11: range(2, 12)}
PROBED_EXTENDED = range(4, 0x20)


def card(name: str) -> Card:
    model, recorded = ENDPOINTS[name], GOLDEN[name]
    function = model.build(name=name)
    if name == "igb":
        add_igb_functions(function)
    config, size = function.config, recorded["config_size"]
    physical = bytes.fromhex(recorded["physical"]).ljust(size, b"\0")
    claimed = {at for start, end in config._used for at in range(start, end)} | set(range(64))
    for at in set(range(64, size)) - claimed:
        config.allow(at, 1, 0xFF)
    config.data[:] = physical
    config.seal()
    resources = [Resource() for _ in range(regs.PCI_STD_NUM_BARS + 1)]
    for bar in function.bars.values():
        start = function.address(bar)
        if bar.is_io:
            flags = ResourceFlag.IO
        else:
            flags = ResourceFlag.MEM | (ResourceFlag.MEM_64 if bar.flags & regs.PCI_BASE_ADDRESS_MEM_TYPE_64 else 0)
        resources[bar.index] = Resource(start, start + bar.size - 1, flags)
    rom = config.read(regs.PCI_ROM_ADDRESS, 4)
    if model.rom_size:
        resources[6] = Resource(rom, rom + model.rom_size - 1, ResourceFlag.MEM)
    return Card(config, resources)


def physical(device: Card, offset: int, count: int) -> str:
    return bytes(device.config.data[offset : offset + count]).hex()


@pytest.mark.parametrize("name", NAMES)
def test_every_byte(name: str) -> None:
    recorded = GOLDEN[name]
    view = card(name).open()
    assert view.read(recorded["config_size"], 0).hex().rstrip("0") == recorded["config"].rstrip("0")


@pytest.mark.parametrize("name", NAMES)
def test_reads_of_every_length(name: str) -> None:
    view = card(name).open()
    for place, answer in GOLDEN[name]["read (position, count)"].items():
        position, count = map(int, place.split(","))
        try:
            got = view.read(count, position).hex()
        except OSError as error:
            got = errno.errorcode[error.errno or 0]
        assert (place, got) == (place, answer)


@pytest.mark.parametrize("name", NAMES)
def test_base_addresses_can_be_sized(name: str) -> None:
    device = card(name)
    view = device.open()
    for place, answers in GOLDEN[name]["bar_sizing"].items():
        offset = int(place, 16)
        got = [view.read(4, offset).hex()]
        for value in (b"\xff" * 4, bytes(4), bytes.fromhex(got[0])):
            view.write(value, offset)
            got.append(view.read(4, offset).hex())
        assert (place, [*got, physical(device, offset, 4)]) == (place, answers)


@pytest.mark.parametrize("name", NAMES)
def test_which_bits_can_be_written(name: str) -> None:
    device = card(name)
    view = device.open()
    probed = set(range(regs.PCI_STD_HEADER_SIZEOF)) - CARE
    for at, number in conventional(view):
        probed |= {at + offset for offset in PROBED[number] if at + offset < 256}
        if number == regs.PCI_CAP_ID_PM:
            probed -= {at + regs.PCI_PM_CTRL}
        if number == regs.PCI_CAP_ID_EXP:
            probed -= {at + regs.PCI_EXP_DEVCTL, at + regs.PCI_EXP_DEVCTL + 1}
    for at, _ in extended(view):
        probed |= {at + offset for offset in PROBED_EXTENDED}
    got: dict[str, str] = {}
    for offset in sorted(probed):
        initial = view.read(1, offset)
        view.write(b"\xff", offset)
        high = view.read(1, offset)[0], device.config.data[offset]
        view.write(b"\0", offset)
        low = view.read(1, offset)[0], device.config.data[offset]
        view.write(initial, offset)
        virtual, real = high[0] ^ low[0], high[1] ^ low[1]
        if virtual or real:
            got[f"{offset:#x}"] = f"{virtual:02x} {real:02x} {initial.hex()}"
    assert got == GOLDEN[name]["writable (virtual, physical, initial)"]


@pytest.mark.parametrize("name", NAMES)
def test_each_bit_of_the_command_register(name: str) -> None:
    device = card(name)
    view = device.open()
    got = []
    for bit in range(11):
        view.write((1 << bit).to_bytes(2, "little"), regs.PCI_COMMAND)
        got.append(f"{view.read(2, regs.PCI_COMMAND).hex()} {physical(device, regs.PCI_COMMAND, 2)}")
    assert got == GOLDEN[name]["command_bits (virtual, physical)"]


@pytest.mark.parametrize("name", NAMES)
def test_status_and_interrupt_registers(name: str) -> None:
    device = card(name)
    view = device.open()
    taken = view.write(b"\xff\xff", regs.PCI_STATUS)
    assert [taken, view.read(2, regs.PCI_STATUS).hex()] == GOLDEN[name]["status_write_ff"]
    pins = [view.read(2, regs.PCI_INTERRUPT_LINE).hex(), physical(device, regs.PCI_INTERRUPT_LINE, 2)]
    assert pins == GOLDEN[name]["interrupt_pin_line (virtual, physical)"]


@pytest.mark.parametrize("name", [name for name in NAMES if "pm_d0" in GOLDEN[name]])
def test_power_states(name: str) -> None:
    device = card(name)
    view = device.open()
    control = device.find_capability(regs.PCI_CAP_ID_PM) + regs.PCI_PM_CTRL
    view.write(b"\3\0", control)
    refused = None if view.memory_enabled else {"errno": "EIO"}
    now = [view.read(2, control).hex(), device.power_state, view.read(4, 0).hex(), refused]
    assert now == GOLDEN[name]["pm_d3hot"]
    view.write(b"\0\0", control)
    assert (view.read(2, control).hex(), device.power_state) == (GOLDEN[name]["pm_d0"], "D0")
    assert view.read(24, regs.PCI_BASE_ADDRESS_0).hex() == "".join(
        GOLDEN[name]["bar_sizing"][f"{offset:#x}"][0] for offset in range(0x10, 0x28, 4)
    )
    assert physical(device, 0x10, 24) == GOLDEN[name]["physical"][32:80]
