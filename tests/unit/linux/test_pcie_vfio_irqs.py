"""VFIO_DEVICE_SET_IRQS of a PCI Express function: pin, MSI and MSI-X, from `edu` and others to eventfds.

Where no other source is named, it is what the x86 lab's kernel answered (``fixtures/golden/x86/lab/edu_end_to_end``).
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from pci_fixture import BOOL, EVENTFD, MSIX, NONE, REQ, TRIGGER, Device, errno_of
from pcie_fixture import BEHIND_BRIDGE, EDU, NVME, Pcie

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.pci import edu
from pyvfio.process import EventFd
from pyvfio_backends.software.hardware.pcie.capabilities import Msi
from pyvfio_backends.software.hardware.pcie.endpoints import ENDPOINTS
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pcie_irq import PcieMessages

INTX, MSI, ERR = abi.VFIO_PCI_INTX_IRQ_INDEX, abi.VFIO_PCI_MSI_IRQ_INDEX, abi.VFIO_PCI_ERR_IRQ_INDEX
MASK, UNMASK = abi.VFIO_IRQ_SET_ACTION_MASK, abi.VFIO_IRQ_SET_ACTION_UNMASK
IGB, E1000E = "0000:03:00.0", "0000:41:00.0"
DISABLE = regs.PCI_COMMAND_INTX_DISABLE


class Edu:
    """An open `edu` and an eventfd."""

    def __init__(self, lab: Pcie, name: str = EDU) -> None:
        self.lab, self.name = lab, name
        self.device = lab.open(name)
        self.command(regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_MASTER)
        self.event = EventFd()

    def command(self, value: int) -> None:
        self.device.write(value.to_bytes(2, "little"), regs.PCI_COMMAND)

    def store(self, offset: int, value: int) -> None:
        self.device.write(value.to_bytes(4, "little"), offset, 0)

    def trigger(self, index: int = INTX) -> None:
        self.device.eventfds(index, 0, self.event.fileno())

    def ask(self, action: int, data: bytes = b"") -> int:
        return self.device.set_irqs((BOOL if data else NONE) | action, INTX, 0, 1, data)

    @property
    def bits(self) -> tuple[int, int]:
        """The INTx disable bit as the program sees it, and as the device has it."""
        own = int.from_bytes(self.device.read(2, regs.PCI_COMMAND), "little")
        real = bytes.fromhex(self.lab.config(self.name, regs.PCI_COMMAND, 2))
        return int(own & DISABLE != 0), int(int.from_bytes(real, "little") & DISABLE != 0)

    def lines(self) -> list[str]:
        return [line.split(":", 1)[1] for line in self.lab.text("/proc/interrupts").splitlines() if "vfio" in line]


@pytest.fixture
def lab() -> Iterator[Pcie]:
    pcie = Pcie()
    with pcie.host:
        yield pcie


@pytest.fixture
def dev(lab: Pcie) -> Edu:
    return Edu(lab)


def test_a_pin_is_masked_when_it_fires(dev: Edu) -> None:
    dev.trigger()
    assert dev.lines() == ["          0  IR-IO-APIC  22-fasteoi   vfio-intx(0000:00:06.0)"]
    dev.store(edu.RAISE, 1)
    assert (dev.event.read(), dev.bits) == (1, (0, 1))
    dev.store(edu.RAISE, 2)
    assert dev.event.read() == 0
    assert dev.lines() == ["          1  IR-IO-APIC  22-fasteoi   vfio-intx(0000:00:06.0)"]
    dev.store(edu.ACK, 3)
    dev.ask(UNMASK)
    assert dev.bits == (0, 0)
    dev.store(edu.RAISE, 1)
    assert dev.event.read() == 1


def test_unmasking_a_pending_one_tells_again_and_stays_masked(dev: Edu) -> None:
    dev.trigger()
    dev.store(edu.RAISE, 1)
    assert dev.event.read() == 1
    for _ in range(2):
        dev.ask(UNMASK)
        assert (dev.event.read(), dev.bits) == (1, (0, 1))


def test_a_program_masks_by_itself(dev: Edu) -> None:
    dev.trigger()
    dev.ask(MASK)
    dev.store(edu.RAISE, 1)
    assert (dev.event.read(), dev.bits) == (0, (0, 1))
    dev.ask(UNMASK)
    assert dev.event.read() == 1
    dev.store(edu.ACK, 1)
    dev.ask(MASK, b"\0")
    dev.ask(UNMASK, b"\1")
    dev.store(edu.RAISE, 1)
    assert dev.event.read() == 1


def test_an_eventfd_unmasks(dev: Edu) -> None:
    resample = EventFd()
    dev.trigger()
    dev.device.set_irqs(EVENTFD | UNMASK, INTX, 0, 1, struct.pack("=i", resample.fileno()))
    busy = dev.device.set_irqs, EVENTFD | UNMASK, INTX, 0, 1, struct.pack("=i", resample.fileno())
    assert errno_of(*busy) == "EBUSY"
    dev.store(edu.RAISE, 1)
    assert dev.event.read() == 1
    resample.signal()
    assert dev.event.wait(5) == 1  # on the kernel's own thread, still pending
    dev.store(edu.ACK, 1)
    resample.signal()
    dev.store(edu.RAISE, 1)  # a call looks at eventfds first
    assert dev.event.wait(5) == 1
    assert resample.read() == 0
    dev.device.set_irqs(EVENTFD | UNMASK, INTX, 0, 1, struct.pack("=i", -1))
    dev.store(edu.ACK, 1)
    resample.signal()
    dev.store(edu.RAISE, 1)
    assert (dev.event.read(), resample.read()) == (0, 1)


def test_an_eventfd_signalled_before_unmasks_at_once_and_is_not_read(dev: Edu) -> None:
    """``vfio_virqfd_enable`` in drivers/vfio/virqfd.c."""
    resample = EventFd(2)
    dev.trigger()
    dev.store(edu.RAISE, 1)
    assert dev.event.read() == 1
    dev.device.set_irqs(EVENTFD | UNMASK, INTX, 0, 1, struct.pack("=i", resample.fileno()))
    assert (dev.event.read(), resample.read()) == (1, 2)


def test_the_programs_own_bit_forbids_it(dev: Edu) -> None:
    dev.trigger()
    dev.command(regs.PCI_COMMAND_MEMORY | DISABLE)
    assert dev.bits == (1, 1)
    dev.store(edu.RAISE, 1)
    dev.ask(UNMASK)
    dev.ask(TRIGGER)
    assert (dev.event.read(), dev.bits) == (0, (1, 1))
    dev.command(regs.PCI_COMMAND_MEMORY)
    assert dev.event.read() == 1
    dev.store(edu.ACK, 1)
    dev.ask(UNMASK)
    assert dev.bits == (0, 0)


def test_a_loopback_signals_without_masking(dev: Edu) -> None:
    dev.trigger()
    for data in (b"", b"\1", b"\0"):
        dev.ask(TRIGGER, data)
    assert (dev.event.read(), dev.bits) == (2, (0, 0))


def test_the_eventfd_is_replaced_and_left_out(dev: Edu) -> None:
    dev.device.eventfds(INTX, 0, -1)
    dev.store(edu.RAISE, 1)
    assert dev.bits == (0, 1)
    dev.trigger()
    dev.ask(UNMASK)
    assert dev.event.read() == 1


@pytest.mark.parametrize(
    ("flags", "index", "start", "count", "data", "answer"),
    [
        (NONE | MASK, MSI, 0, 1, b"", "ENOTTY"),
        (NONE | UNMASK, INTX, 0, 1, b"", "EINVAL"),
        (NONE | TRIGGER, MSI, 0, 1, b"", "EINVAL"),
        (EVENTFD | TRIGGER, MSIX, 0, 1, bytes(4), "EINVAL"),
        (EVENTFD | TRIGGER, MSI, 0, 2, bytes(8), "EINVAL"),
        (EVENTFD | TRIGGER, MSI, 1, 1, bytes(4), "EINVAL"),
        (EVENTFD | TRIGGER, INTX, 0, 2, bytes(8), "EINVAL"),
        (NONE, INTX, 0, 1, b"", "ENOTTY"),
        (NONE | TRIGGER | MASK, INTX, 0, 1, b"", "ENOTTY"),
        (TRIGGER, INTX, 0, 1, b"", "EINVAL"),
        (EVENTFD | NONE | TRIGGER, INTX, 0, 1, bytes(4), "EINVAL"),
        (EVENTFD | TRIGGER, INTX, 0, 1, struct.pack("=i", 1000), "EBADF"),
        (EVENTFD | TRIGGER, MSI, 0, 0, b"", "ERANGE"),
        (EVENTFD | TRIGGER, ERR, 0, 1, bytes(4), "EINVAL"),
        (NONE | MASK, REQ, 0, 1, b"", "ENOTTY"),
        (EVENTFD | MASK, INTX, 0, 1, bytes(4), "EINVAL"),
        (EVENTFD | TRIGGER, INTX, 0, 1, struct.pack("=i", -1), "0"),
    ],
)
def test_misuse(dev: Edu, flags: int, index: int, start: int, count: int, data: bytes, answer: str) -> None:
    assert errno_of(dev.device.set_irqs, flags, index, start, count, data) == answer


def test_one_kind_at_a_time(dev: Edu) -> None:
    dev.trigger()
    assert errno_of(dev.device.eventfds, MSI, 0, dev.event.fileno()) == "EINVAL"
    dev.device.set_irqs(NONE | TRIGGER, INTX, 0, 0)
    assert errno_of(dev.device.set_irqs, NONE | TRIGGER, INTX, 0, 0) == "EINVAL"
    assert dev.lines() == []
    assert dev.lab.attr(EDU, "irq") == "22"
    dev.trigger(MSI)
    assert errno_of(dev.trigger) == "EINVAL"
    number = dev.lab.attr(EDU, "irq")
    assert dev.lab.irqs(EDU) == [number]
    assert dev.lab.attr(EDU, f"msi_irqs/{number}") == "msi"
    assert dev.lines() == ["          0  IR-PCI-MSI-0000:00:06.0   0-edge      vfio-msi[0](0000:00:06.0)"]
    dev.store(edu.RAISE, 1)
    assert dev.event.read() == 1
    dev.device.set_irqs(NONE | TRIGGER, MSI, 0, 0)
    assert dev.lab.irqs(EDU) == []
    dev.device.close()
    assert "msi_irqs" in dev.lab.host.listdir(f"/sys/bus/pci/devices/{EDU}")


def test_msi_is_shown_to_the_program_as_its_own(dev: Edu) -> None:
    """The device has the message and is enabled; the program sees its own flags (``msi_enable_bit_virt_phys``)."""
    at = 0x40
    dev.device.write(b"\x81\x00", at + regs.PCI_MSI_FLAGS)
    assert dev.device.read(2, at + regs.PCI_MSI_FLAGS).hex() == "8000"
    dev.trigger(MSI)
    assert dev.device.read(2, at + regs.PCI_MSI_FLAGS).hex() == "8000"
    assert dev.lab.config(EDU, at + regs.PCI_MSI_FLAGS, 2) == "8100"
    assert dev.device.read(12, at + regs.PCI_MSI_ADDRESS_LO) == bytes(12)
    dev.device.write(b"\x81\x00", at + regs.PCI_MSI_FLAGS)
    assert dev.device.read(2, at + regs.PCI_MSI_FLAGS).hex() == "8100"


def test_what_a_program_writes_into_the_message_does_not_reach_the_device(dev: Edu) -> None:
    dev.trigger(MSI)
    before = dev.lab.config(EDU, 0x44, 12)
    dev.device.write(b"\x00\x00\xe0\xfe" + bytes(8), 0x44)
    assert dev.lab.config(EDU, 0x44, 12) == before
    dev.store(edu.RAISE, 1)
    assert dev.event.read() == 1


def test_a_reset_of_the_bus_gives_msi_back(lab: Pcie) -> None:
    dev = Edu(lab, "0000:02:00.0")
    dev.trigger(MSI)
    assert lab.host.ioctl(dev.device.fd, abi.VFIO_DEVICE_RESET) == 0
    dev.command(regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_MASTER)
    dev.store(edu.RAISE, 1)
    assert dev.event.read() == 1


def test_pins_are_turned_by_bridges_and_shared(lab: Pcie) -> None:
    """Behind 0b.0, and behind a bridge to conventional PCI: 20 + (11 + 1) modulo 4, the line of 0000:02:00.0, too."""
    one, other = Edu(lab, BEHIND_BRIDGE), Edu(lab, "0000:02:00.0")
    for each in (one, other):
        each.trigger()
    assert one.lines() == [
        "          0  IR-IO-APIC  20-fasteoi   " + f"vfio-intx({BEHIND_BRIDGE}), vfio-intx({other.name})"
    ]
    other.store(edu.RAISE, 1)
    assert (one.event.read(), other.event.read()) == (0, 1)
    assert (one.bits, other.bits) == ((0, 0), (0, 1))
    one.store(edu.RAISE, 1)
    assert (one.event.read(), other.event.read()) == (1, 0)


def test_a_line_is_given_to_another_processor() -> None:
    pcie = Pcie(processors=2)
    with pcie.host:
        dev = Edu(pcie)
        dev.trigger()
        pcie.write("/proc/irq/22/smp_affinity", "2")
        dev.store(edu.RAISE, 1)
        assert dev.event.read() == 1
        assert dev.lines() == ["          0          1  IR-IO-APIC  22-fasteoi   vfio-intx(0000:00:06.0)"]


def test_no_thread_is_left() -> None:
    pcie = Pcie()
    with pcie.host:
        dev, resample = Edu(pcie), EventFd()
        dev.trigger()
        dev.device.set_irqs(EVENTFD | UNMASK, INTX, 0, 1, struct.pack("=i", resample.fileno()))
        (thread,) = (one for one in threading.enumerate() if one.name == "pyvfio-virqfd")
    thread.join(5)
    assert not thread.is_alive()


class TestLines:
    """Devices whose disable bit does nothing, or is not to be used: the line itself is masked."""

    @pytest.fixture
    def lab(self) -> Iterator[Pcie]:
        pcie = Pcie()
        pcie.write("/sys/module/vfio_pci/parameters/nointxmask", "1")
        with pcie.host:
            yield pcie

    def test_the_line_is_masked(self, lab: Pcie) -> None:
        dev = Edu(lab)
        dev.trigger()
        dev.store(edu.RAISE, 1)
        assert (dev.event.read(), dev.bits) == (1, (0, 0))
        dev.ask(UNMASK)
        assert dev.event.read() == 1
        dev.store(edu.ACK, 1)
        dev.ask(UNMASK)
        assert dev.event.read() == 0
        dev.ask(MASK)
        dev.store(edu.RAISE, 1)
        assert dev.event.read() == 0
        dev.ask(UNMASK)
        assert dev.event.read() == 1

    def test_the_line_must_be_its_own(self, lab: Pcie) -> None:
        one, other = Edu(lab, BEHIND_BRIDGE), Edu(lab, "0000:02:00.0")
        one.trigger()
        assert errno_of(other.trigger) == "EBUSY"
        one.device.set_irqs(NONE | TRIGGER, INTX, 0, 0)
        other.trigger()
        other.store(edu.RAISE, 1)
        assert other.event.read() == 1

    def test_a_program_that_forbids_it_before(self, lab: Pcie) -> None:
        dev = Edu(lab)
        dev.command(regs.PCI_COMMAND_MEMORY | DISABLE)
        dev.trigger()
        dev.store(edu.RAISE, 1)
        assert dev.event.read() == 0
        dev.command(regs.PCI_COMMAND_MEMORY)
        assert dev.event.read() == 1


def test_a_device_whose_disable_bit_does_not_work(lab: Pcie) -> None:
    """``pci_intx_mask_supported`` in drivers/pci/pci.c."""
    config = lab.hardware(EDU).config
    writable = int.from_bytes(config.writable[regs.PCI_COMMAND : regs.PCI_COMMAND + 2], "little")
    config.allow(regs.PCI_COMMAND, 2, writable & ~DISABLE)
    dev = Edu(lab)
    dev.trigger()
    dev.store(edu.RAISE, 1)
    assert dev.event.read() == 1
    dev.store(edu.ACK, 1)
    dev.ask(UNMASK)
    dev.store(edu.RAISE, 1)
    assert (dev.event.read(), dev.bits) == (1, (0, 0))


def test_a_line_that_nobody_cares_for_is_given_up(lab: Pcie) -> None:
    """``note_interrupt`` in kernel/irq/spurious.c: another device asserts the line, whose driver is not there."""
    dev = Edu(lab)
    dev.trigger()
    lab.complex.root_buses[0].intx(6 << 3, 1, True, lab.hardware("0000:00:07.0"))
    dev.store(edu.RAISE, 1)
    assert dev.event.read() == 0
    assert dev.lines() == ["     100000  IR-IO-APIC  22-fasteoi   vfio-intx(0000:00:06.0)"]


def info(lab: Pcie, name: str, index: int) -> tuple[int, int]:
    found = abi.IrqInfo.sized(index=index)
    device = lab.open(name)
    device.ask(abi.VFIO_DEVICE_GET_IRQ_INFO, found)
    device.close()
    return int(found.flags), int(found.count)


def test_msix_grows_while_it_is_on(lab: Pcie) -> None:
    """Recorded on the lab's kernel: 0 and 1, then 3 in a further request; only MSI-X can be resized."""
    assert [info(lab, IGB, index) for index in (INTX, MSI, MSIX, ERR, REQ)] == [(7, 1), (9, 1), (1, 10), (9, 1), (9, 1)]
    device = lab.open(IGB)
    device.write(b"\x06\x00", regs.PCI_COMMAND)
    events = [EventFd() for _ in range(4)]
    device.eventfds(MSIX, 0, events[0].fileno(), events[1].fileno())
    assert len(lab.irqs(IGB)) == 2
    device.eventfds(MSIX, 3, events[3].fileno())
    assert len(lab.irqs(IGB)) == 3
    device.eventfds(MSIX, 1, -1)
    for vector in (0, 1, 3):
        lab.hardware(IGB).signal(vector)
    assert [event.read() for event in events] == [1, 0, 0, 1]
    names = [line.split()[-2:] for line in lab.text("/proc/interrupts").splitlines() if "vfio" in line]
    assert names == [["0-edge", f"vfio-msix[0]({IGB})"], ["3-edge", f"vfio-msix[3]({IGB})"]]
    device.set_irqs(NONE | TRIGGER, MSIX, 1, 1)  # a loopback where no eventfd is
    device.eventfds(MSIX, 1, events[1].fileno())
    assert events[1].read() == 1  # it was pending


def test_the_table_is_the_kernels(lab: Pcie) -> None:
    device = lab.open(NVME)
    device.write(b"\x06\x00", regs.PCI_COMMAND)
    event = EventFd()
    device.eventfds(MSIX, 0, event.fileno())
    assert device.read(16, 0x2000, 0) == b"\xff" * 16
    assert device.write(b"\0" * 16, 0x2000, 0) == 16
    lab.hardware(NVME).signal(0)
    assert event.read() == 1


def test_closing_ends_what_is_on(dev: Edu) -> None:
    resample = EventFd()
    dev.trigger()
    dev.device.set_irqs(EVENTFD | UNMASK, INTX, 0, 1, struct.pack("=i", resample.fileno()))
    dev.device.close()
    assert dev.lines() == []
    resample.signal()
    assert resample.read() == 1


def test_no_pin_no_interrupt(lab: Pcie) -> None:
    assert info(lab, "0000:00:07.0", INTX) == (7, 0)
    device = lab.open("0000:00:07.0")
    assert errno_of(device.eventfds, INTX, 0, -1) == "EINVAL"


def test_a_pin_of_another_root_bus(lab: Pcie) -> None:
    """``fixtures/golden/x86/lab/sysfs_topology``: 11 for both functions of bus 0x40 and behind."""
    assert lab.attr("0000:40:00.0", "irq") == "11"
    device: Device = lab.open(E1000E)
    event = EventFd()
    device.eventfds(INTX, 0, event.fileno())
    assert lab.attr(E1000E, "irq") == "11"
    lab.hardware(E1000E).set_intx(True)
    assert event.read() == 1


class TestSeveralMessages:
    """MSI with more than one message, which no function of the lab has: drivers/vfio/pci/vfio_pci_intrs.c (6.12)."""

    @pytest.fixture
    def lab(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pcie]:
        monkeypatch.setitem(ENDPOINTS, "edu", replace(ENDPOINTS["edu"], capabilities=((0x40, Msi(8)),)))
        pcie = Pcie()
        with pcie.host:
            yield pcie

    def test_each_has_its_eventfd(self, lab: Pcie) -> None:
        dev, events = Edu(lab), [EventFd() for _ in range(3)]
        assert info(lab, "0000:02:00.0", MSI) == (9, 8)
        dev.device.eventfds(MSI, 0, *(event.fileno() for event in events))
        for vector in (0, 2, 2, 1, 3):
            lab.hardware(EDU).signal(vector)
        assert [event.read() for event in events] == [1, 1, 2]
        assert errno_of(dev.device.eventfds, MSI, 3, events[0].fileno()) == "EINVAL"
        dev.device.set_irqs(BOOL | TRIGGER, MSI, 0, 3, b"\1\0\1")
        assert [event.read() for event in events] == [1, 0, 1]

    def test_the_program_sees_no_more_than_it_asked_for(self, lab: Pcie) -> None:
        """``msi_qmax``: the size that it writes is cut to a power of two."""
        dev, event = Edu(lab), EventFd()
        dev.device.eventfds(MSI, 0, event.fileno(), -1, -1)
        dev.device.write(b"\xb7\x00", 0x42)
        assert dev.device.read(2, 0x42) == b"\xa7\x00"
        dev.device.set_irqs(NONE | TRIGGER, MSI, 0, 0)
        dev.device.write(b"\x87\x00", 0x42)
        assert dev.device.read(2, 0x42) == b"\x86\x00"

    def test_fewer_than_asked_for_are_none(self, lab: Pcie) -> None:
        """Without interrupt remapping MSI has one message; the request tells so, and nothing is on."""
        bridge = lab.kernel.buses["pci"].devices[EDU].sysdata.bridge  # type: ignore[attr-defined]
        bridge.messages = PcieMessages(lab.kernel, lab.complex, remaps=False)
        dev, event = Edu(lab), EventFd()
        assert dev.device.eventfds(MSI, 0, event.fileno(), -1) == 1
        assert errno_of(dev.device.set_irqs, NONE | TRIGGER, MSI, 0, 0) == "EINVAL"
        assert dev.device.eventfds(MSI, 0, event.fileno()) == 0
        lab.hardware(EDU).signal(0)
        assert event.read() == 1


def test_virtual_functions_interrupt(lab: Pcie) -> None:
    """A virtual function sends with its own routing id; it has no command bit for memory."""
    physical = lab.kernel.buses["pci"].devices[IGB]
    assert isinstance(physical, PciDevice)
    assert physical.sriov is not None
    physical.enable()
    physical.set_master(True)
    physical.sriov.enable(2)
    names = [lab.host.readlink(f"/sys/bus/pci/devices/{IGB}/virtfn{at}").rsplit("/", 1)[-1] for at in range(2)]
    one, other = (lab.open(name) for name in names)
    events = [EventFd() for _ in range(4)]
    for device, pair in ((one, events[:2]), (other, events[2:])):
        device.write(b"\x04\x00", regs.PCI_COMMAND)
        device.eventfds(MSIX, 0, *(event.fileno() for event in pair))
    lab.hardware(names[1]).signal(1)
    lab.hardware(names[0]).signal(0)
    assert [event.read() for event in events] == [1, 0, 0, 1]
