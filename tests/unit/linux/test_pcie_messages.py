"""Interrupt messages of PCI Express functions: from the write of a device to a handler, by address and data alone.

Lines and addresses are those of the x86 lab's kernel (6.12).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pcie.capabilities import Msi
from pyvfio_backends.software.hardware.pcie.endpoints import ENDPOINTS
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.interrupt_remapping import InterruptFault, remapped_message
from pyvfio_backends.software.linux import pcie_irq
from pyvfio_backends.software.linux.ida import Ida
from pyvfio_backends.software.linux.kernel_log import kernel_log
from pyvfio_backends.software.linux.nodes import Directory
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pcie_function import PcieFunction
from pyvfio_backends.software.linux.pcie_irq import PcieMessages
from pyvfio_backends.software.linux.pcieport import PortDriver
from pyvfio_backends.software.loader import find_machine, load_machine
from pyvfio_backends.software.machine import Machine

EDU, NVME, IGB, BEHIND_BRIDGE = "0000:00:06.0", "0000:04:00.0", "0000:03:00.0", "0000:0a:01.0"


class Rig:
    """The machine of the lab, with functions that may send."""

    def __init__(self) -> None:
        self.machine = Machine(replace(load_machine(find_machine("lab-x86")), processors=2))
        ports = self.machine.kernel.buses["pci"].drivers["pcieport"]
        assert isinstance(ports, PortDriver)
        with self.machine.lock:
            for name in list(ports.devices):  # their own interrupts are not what this is about
                device = ports.devices[name]
                assert isinstance(device, PciDevice)
                ports.hotplug.stop(device)
                ports.hotplug.free(device)
        self.taken: list[str] = []

    def device(self, name: str) -> PciDevice:
        found = self.machine.kernel.buses["pci"].devices[name]
        assert isinstance(found, PciDevice)
        found.enable()
        found.set_master(True)
        return found

    def hardware(self, device: PciDevice) -> Function:
        assert isinstance(device.sysdata, PcieFunction)
        return device.sysdata.hardware

    def messages(self, device: PciDevice) -> PcieMessages:
        domain = device.sysdata.msi_domain
        assert isinstance(domain, PcieMessages)
        return domain

    def request(self, device: PciDevice, vector: int) -> None:
        name = f"{device.name}[{vector}]"
        device.msi.request(vector, lambda: self.taken.append(name), name)

    def lines(self) -> list[str]:
        shown = self.machine.kernel.interrupts.show().splitlines()
        return [line for line in shown if "PCI-MSI" in line and "pciehp" not in line and "aerdrv" not in line]


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.machine.close()


def listed(device: PciDevice) -> list[str]:
    directory = device.attributes()["msi_irqs"]
    assert isinstance(directory, Directory)
    return list(directory.names())


def test_msix_reaches_its_handlers(rig: Rig) -> None:
    device = rig.device(IGB)
    assert device.msi.allocate(1, 3) == 3
    rig.request(device, 0)
    rig.request(device, 2)
    numbers = [device.msi.irqs[vector] for vector in range(3)]
    for vector in (2, 0, 2):
        rig.hardware(device).signal(vector)
    assert rig.taken == [f"{IGB}[2]", f"{IGB}[0]", f"{IGB}[2]"]
    assert rig.lines() == [
        f"{numbers[0]:3}:          1          0  IR-PCI-MSIX-0000:03:00.0   0-edge      {IGB}[0]",
        f"{numbers[2]:3}:          2          0  IR-PCI-MSIX-0000:03:00.0   2-edge      {IGB}[2]",
    ]
    assert listed(device) == [str(number) for number in numbers]
    device.msi.free()
    assert rig.lines() == []
    assert listed(device) == []


def test_msi_reaches_its_handler(rig: Rig) -> None:
    device = rig.device(EDU)
    before = device.sysdata.irq
    assert device.msi.allocate(1, 1, msix=False) == 1
    rig.request(device, 0)
    number = device.msi.irqs[0]
    at = device.msi.plain_capability
    address = device.read_config(at + regs.PCI_MSI_ADDRESS_LO, 4)
    assert address & 0xFFF0001F == 0xFEE00018
    assert device.read_config(at + regs.PCI_MSI_DATA_64, 2) == 0
    rig.hardware(device).signal(0)
    assert rig.taken == [f"{EDU}[0]"]
    assert rig.lines() == [f"{number:3}:          1          0  IR-PCI-MSI-0000:00:06.0   0-edge      {EDU}[0]"]
    assert device.command & regs.PCI_COMMAND_INTX_DISABLE
    assert device.msi.first_message == number
    device.msi.free()
    assert device.msi.first_message == 0
    assert device.sysdata.irq == before
    assert not device.command & regs.PCI_COMMAND_INTX_DISABLE
    rig.hardware(device).signal(0)
    assert len(rig.taken) == 1


def test_what_is_signalled_while_masked_comes_later(rig: Rig) -> None:
    device = rig.device(IGB)
    device.msi.allocate(1, 2)
    rig.request(device, 1)
    device.msi.release(1)
    rig.hardware(device).signal(1)
    assert rig.taken == []
    table = rig.hardware(device).msix
    assert table is not None
    assert table.read(table.pending_offset, 8) == 2
    rig.request(device, 1)
    assert rig.taken == [f"{IGB}[1]"]
    assert table.read(table.pending_offset, 8) == 0


def test_msi_that_can_be_masked_is_until_it_is_asked_for(rig: Rig) -> None:
    device = rig.device(IGB)
    device.msi.allocate(1, 1, msix=False)
    rig.hardware(device).signal(0)
    assert rig.taken == []
    assert device.read_config(device.msi.plain_capability + regs.PCI_MSI_PENDING_64, 4) == 1
    rig.request(device, 0)
    assert rig.taken == [f"{IGB}[0]"]


def test_a_message_is_known_by_its_numbers_and_its_sender(rig: Rig) -> None:
    device, other = rig.device(IGB), rig.device(NVME)
    device.msi.allocate(1, 1)
    rig.request(device, 0)
    bar, offset = device.msi.table
    address, data = device.load_bar(bar, offset, 8), device.load_bar(bar, offset + 8, 4)
    rig.hardware(device).send_message(address, data)
    assert rig.taken == [f"{IGB}[0]"]
    unit = rig.messages(device).unit
    rig.hardware(other).send_message(address, data)
    rig.hardware(device).send_message(*remapped_message(0x4000))
    rig.hardware(device).send_message(0xFEE00000, 0x41)
    assert len(rig.taken) == 1
    reasons = [InterruptFault.WRONG_SOURCE, InterruptFault.NOT_PRESENT, InterruptFault.BLOCKED_COMPATIBLE]
    assert [fault[3] for fault in unit.faults] == reasons
    dmar = next(line for line in rig.machine.kernel.interrupts.lines.values() if line.name == "dmar0")
    assert dmar.counts[0] == 3
    entry = (address >> 5) & 0x7FFF
    assert [line for line in kernel_log(rig.machine.kernel).lines if "INTR-REMAP" in line] == [
        f"DMAR: [INTR-REMAP] Request device [04:00.0] fault index {entry:#x} [fault reason 0x26] "
        "Blocked an interrupt request due to source-id verification failure",
        "DMAR: [INTR-REMAP] Request device [03:00.0] fault index 0x4000 [fault reason 0x22] "
        "Present field in the IRTE entry is clear",
        "DMAR: [INTR-REMAP] Request device [03:00.0] fault index 0x0 [fault reason 0x25] "
        "Blocked a compatibility format interrupt request",
    ]


def test_a_bridge_to_conventional_pci_sends_in_its_own_name(rig: Rig) -> None:
    device = rig.device(BEHIND_BRIDGE)
    for name in ("0000:00:0b.0", "0000:09:00.0"):
        rig.device(name)
    device.msi.allocate(1, 1, msix=False)
    rig.request(device, 0)
    (entry,) = rig.messages(device).unit.entries.values()
    assert entry.rid == 0x0A00
    rig.hardware(device).signal(0)
    assert rig.taken == [f"{BEHIND_BRIDGE}[0]"]


def test_an_interrupt_is_given_to_another_processor_without_telling_the_device(rig: Rig) -> None:
    device = rig.device(IGB)
    device.msi.allocate(1, 1)
    rig.request(device, 0)
    bar, offset = device.msi.table
    before = device.load_bar(bar, offset, 8)
    number = device.msi.irqs[0]
    line = rig.machine.kernel.interrupts.lines[number]
    assert line.move is not None
    line.move(1)
    rig.hardware(device).signal(0)
    assert line.counts == [0, 1]
    assert device.load_bar(bar, offset, 8) == before


def test_vectors_are_added_while_msix_is_on(rig: Rig) -> None:
    device = rig.device(IGB)
    device.msi.allocate(1, 1)
    device.msi.allocate_at(7)
    rig.request(device, 7)
    rig.hardware(device).signal(7)
    assert rig.taken == [f"{IGB}[7]"]
    assert sorted(device.msi.irqs) == [0, 7]
    for vector, code in ((7, errno.EBUSY), (10, errno.EBUSY)):
        with pytest.raises(OSError) as caught:
            device.msi.allocate_at(vector)
        assert caught.value.errno == code


def test_a_processor_has_so_many_vectors(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """They end at ``FIRST_SYSTEM_VECTOR`` (arch/x86/include/asm/irq_vectors.h)."""
    monkeypatch.setattr(pcie_irq, "_END_VECTORS", 0x31)
    device = rig.device(NVME)
    device.msi.allocate(1, 65)
    for vector in range(0x30 - 0x21):
        rig.request(device, vector)
    with pytest.raises(OSError) as caught:
        rig.request(device, 64)
    assert caught.value.errno == errno.ENOSPC
    device.msi.release(3)
    rig.request(device, 64)
    rig.hardware(device).signal(64)
    assert rig.taken == [f"{NVME}[64]"]


def test_without_a_remapping_unit_the_message_names_the_vector(rig: Rig) -> None:
    device = rig.device(EDU)
    assert isinstance(device.sysdata, PcieFunction)
    device.sysdata.bridge.messages = PcieMessages(rig.machine.kernel, rig.machine.pcie, remaps=False)
    assert device.msi.allocate(1, 4, msix=False) == 1
    rig.request(device, 0)
    at = device.msi.plain_capability
    assert device.read_config(at + regs.PCI_MSI_ADDRESS_LO, 4) == 0xFEE00000
    assert device.read_config(at + regs.PCI_MSI_DATA_64, 2) == 0x21
    rig.hardware(device).signal(0)
    assert rig.taken == [f"{EDU}[0]"]
    assert "  PCI-MSI-0000:00:06.0   0-edge" in rig.lines()[0]


def test_numbers_in_a_row() -> None:
    numbers = Ida(3)
    assert [numbers.take() for _ in range(4)] == [3, 4, 5, 6]
    for number in (4, 6):
        numbers.free(number)
    assert numbers.take_block(2) == 6
    assert numbers.take() == 4
    assert numbers.take_block(2) == 8
    assert numbers.take() == 10


class TestSeveral:
    """MSI with several messages: an `edu` that has eight, which can be masked.  Source: drivers/pci/msi/msi.c."""

    @pytest.fixture
    def rig(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
        model = replace(ENDPOINTS["edu"], capabilities=((0x40, Msi(8, maskable=True)),))
        monkeypatch.setitem(ENDPOINTS, "edu", model)
        made = Rig()
        yield made
        made.machine.close()

    def test_they_are_a_block(self, rig: Rig) -> None:
        other, device = rig.device(IGB), rig.device(EDU)
        other.msi.allocate(1, 1)
        assert device.msi.allocate(1, 3, msix=False) == 3
        numbers = [device.msi.irqs[vector] for vector in range(3)]
        assert numbers == list(range(numbers[0], numbers[0] + 3))
        at = device.msi.plain_capability
        flags = device.read_config(at + regs.PCI_MSI_FLAGS, 2)
        assert (flags & regs.PCI_MSI_FLAGS_QSIZE) >> 4 == 2
        rig.request(device, 1)
        rig.request(device, 2)
        assert device.read_config(at + regs.PCI_MSI_MASK_64, 4) == 0b11111001
        for vector in (1, 2, 0):
            rig.hardware(device).signal(vector)
        assert rig.taken == [f"{EDU}[1]", f"{EDU}[2]"]
        assert device.read_config(at + regs.PCI_MSI_PENDING_64, 4) == 1
        rig.request(device, 0)
        assert rig.taken[-1] == f"{EDU}[0]"
        assert [line.split()[-2] for line in rig.lines()] == ["0-edge", "1-edge", "2-edge"]

    def test_a_reset_brings_them_back(self, rig: Rig) -> None:
        device = rig.device(EDU)
        device.msi.allocate(1, 8, msix=False)
        rig.request(device, 7)
        saved = device.save_state()
        rig.hardware(device).reset()
        rig.hardware(device).signal(7)
        assert rig.taken == []
        device.restore_state(saved)
        device.set_master(True)
        rig.hardware(device).signal(7)
        assert rig.taken == [f"{EDU}[7]"]

    def test_more_than_there_are(self, rig: Rig) -> None:
        device = rig.device(EDU)
        assert device.msi.allocate(1, 9, msix=False) == 8
        device.msi.free()
        with pytest.raises(OSError) as caught:
            device.msi.allocate(9, 9, msix=False)
        assert caught.value.errno == errno.ENOSPC
