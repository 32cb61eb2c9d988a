"""What a bus knows of who answers which address is forgotten when that may change, and only then."""

from __future__ import annotations

import pytest

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pcie.block import Memory
from pyvfio_backends.software.hardware.pcie.endpoints import ENDPOINTS
from pyvfio_backends.software.hardware.pcie.firmware import Firmware
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex

BAR = regs.PCI_BASE_ADDRESS_0


@pytest.fixture
def card() -> tuple[RootComplex, Function]:
    machine = RootComplex()
    card = ENDPOINTS["edu"].build({0: Memory(0x100000)})
    machine.add_root_bus().plug(card, 3)
    Firmware().set_up(machine)
    return machine, card


def answers(machine: RootComplex, address: int) -> bool:
    return machine.load(address, 4) != 0xFFFFFFFF


def test_decoding_follows_every_way_of_changing_it(card: tuple[RootComplex, Function]) -> None:
    machine, function = card
    config, address = function.config, function.address(function.bars[0])
    assert answers(machine, address)
    for length, value in ((2, 0), (4, 2), (1, 0), (1, 2)):
        config.write(regs.PCI_COMMAND, length, value)
        assert answers(machine, address) == bool(value)
    config.write(BAR, 4, address + 0x100000)
    assert not answers(machine, address)
    assert answers(machine, address + 0x100000)
    config.write(BAR, 4, address)
    config.seal()
    function.reset()
    assert answers(machine, address)


def test_after_a_reset_memory_that_is_switched_on_again_answers(card: tuple[RootComplex, Function]) -> None:
    machine, function = card
    config, address = function.config, function.address(function.bars[0])
    config.write(regs.PCI_COMMAND, 2, 0)
    config.seal()
    config.write(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_MEMORY)
    assert answers(machine, address)
    function.reset()
    assert not answers(machine, address)
    config.write(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_MEMORY)
    assert answers(machine, address)


def test_other_bits_of_the_command_register_change_nothing(card: tuple[RootComplex, Function]) -> None:
    _, function = card
    forgotten: list[int] = []
    assert function.bus is not None
    function.bus.forget = lambda: forgotten.append(1)  # type: ignore[method-assign]
    config = function.config
    config.write(regs.PCI_COMMAND, 2, config.command)
    forgotten.clear()
    for bit in (regs.PCI_COMMAND_INTX_DISABLE, regs.PCI_COMMAND_MASTER, regs.PCI_COMMAND_SERR):
        config.write(regs.PCI_COMMAND, 2, config.command ^ bit)
        config.write(regs.PCI_COMMAND, 4, config.command ^ bit)
    assert forgotten == []
    config.write(regs.PCI_COMMAND, 2, config.command ^ regs.PCI_COMMAND_MEMORY)
    assert forgotten == [1]
