"""MSI-X: when a message is sent, when it stays pending, and what programs find in the table."""

from __future__ import annotations

import pytest

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pci.bar import Unmapped
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pci.msix import MsixTable

AT, PENDING = 0x40, 0x800
ON, MASK_ALL = regs.PCI_MSIX_FLAGS_ENABLE, regs.PCI_MSIX_FLAGS_MASKALL


class Rig:
    def __init__(self) -> None:
        self.config = ConfigSpace(Identity(1, 2, 3, 4, 5))
        self.table = MsixTable(self.config, AT, 1, 4, PENDING)
        self.sent: list[tuple[int, int]] = []
        self.table.send = lambda address, data: self.sent.append((address, data))
        for vector in range(4):
            self.table.write(16 * vector, 8, 0xFE00_0000_0000_0000)
            self.table.write(16 * vector + 8, 4, 100 + vector)
        self.config.write(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_MASTER)
        self.control(ON)

    def control(self, value: int) -> None:
        self.config.write(AT + regs.PCI_MSIX_FLAGS, 2, value)
        self.table.control_changed()

    def mask(self, vector: int, on: bool) -> None:
        self.table.write(16 * vector + 12, 4, int(on))

    @property
    def pending(self) -> int:
        return self.table.read(PENDING, 8)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_all_vectors_begin_masked_and_a_masked_vector_stays_pending(rig: Rig) -> None:
    rig.table.signal(2)
    assert (rig.sent, rig.pending) == ([], 4)
    rig.mask(2, False)
    assert (rig.sent, rig.pending) == ([(0xFE00_0000_0000_0000, 102)], 0)


@pytest.mark.parametrize("vector", [4, 1000])
def test_a_vector_past_the_table_is_lost(rig: Rig, vector: int) -> None:
    rig.table.signal(vector)
    assert (rig.sent, rig.pending) == ([], 0)


def test_nothing_is_sent_or_kept_while_msix_is_off(rig: Rig) -> None:
    rig.mask(0, False)
    rig.control(0)
    rig.table.signal(0)
    assert (rig.sent, rig.pending) == ([], 0)


def test_nothing_is_sent_without_bus_mastering(rig: Rig) -> None:
    rig.mask(0, False)
    rig.config.write(regs.PCI_COMMAND, 2, 0)
    rig.table.signal(0)
    assert rig.sent == []


def test_the_function_mask_holds_everything_back(rig: Rig) -> None:
    rig.mask(0, False)
    rig.control(ON | MASK_ALL)
    rig.table.signal(0)
    assert (rig.sent, rig.pending) == ([], 1)
    rig.control(ON)
    assert len(rig.sent) == 1


def test_a_message_waits_for_a_receiver(rig: Rig) -> None:
    send, rig.table.send = rig.table.send, None
    rig.mask(1, False)
    rig.table.signal(1)
    assert rig.pending == 2
    rig.table.send = send
    rig.table.control_changed()
    assert rig.sent == [(0xFE00_0000_0000_0000, 101)]


@pytest.mark.parametrize("offset", [0x40, 0x7F8, 0x808])
def test_nothing_answers_beside_the_table_and_the_pending_bits(rig: Rig, offset: int) -> None:
    with pytest.raises(Unmapped):
        rig.table.read(offset, 8)
    with pytest.raises(Unmapped):
        rig.table.write(offset, 8, 0)


def test_the_pending_bits_are_read_only(rig: Rig) -> None:
    rig.table.write(PENDING, 8, 0xFF)
    assert rig.pending == 0


def test_a_reset_masks_every_vector(rig: Rig) -> None:
    rig.mask(0, False)
    rig.table.signal(3)
    rig.table.reset()
    assert rig.pending == 0
    assert [rig.table.read(16 * vector + 12, 4) for vector in range(4)] == [1] * 4


def test_the_capability_names_table_and_pending_bits(rig: Rig) -> None:
    assert bytes(rig.config.data[AT : AT + 12]) == bytes.fromhex("110003800100000001080000")
