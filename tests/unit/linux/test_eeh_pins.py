"""Interrupt pins while an endpoint is frozen and recovered.

No pin is an endpoint's: the tables of a host bridge for pins have a processor and a priority (``phb3_lsi_set_xive`` of
skiboot).  So Linux switches lines off: ``eeh_set_irq_state``, ``eeh_disable_irq`` and ``eeh_enable_irq`` of
``arch/powerpc/kernel/eeh_driver.c``, 6.12.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from eeh_rig import EDU, LEFT, RIGHT, RIGHT1, EehRig, Opened
from pci_fixture import BUS, EVENTFD, TRIGGER

from pyvfio.abi import vfio as abi
from pyvfio.abi.eeh_state import EehDevMode
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.irq_line import IrqAction, IrqLine
from pyvfio_backends.software.linux.pci import PciBus
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pci_driver import PciDriver, Recovery


@pytest.fixture
def rig() -> Iterator[EehRig]:
    rig = EehRig()
    with rig.host:
        yield rig


def line_of(rig: EehRig, name: str) -> IrqLine:
    line = rig.function(name).irq_line()
    assert line is not None
    return line


class Pin:
    """The pin of a function, which its driver handles; `questions` are what the driver was asked, and the line then."""

    def __init__(self, rig: EehRig, name: str) -> None:
        self.rig, self.name, self.handled = rig, name, 0
        self.function = rig.hardware(name)
        self.line = line_of(rig, name)
        self.questions: list[tuple[str, bool]] = []
        self.line.request(self.handle, name)
        ask = rig.answers._ask

        def noted(device: PciDevice, question: str, usual: Recovery) -> Recovery:
            if device.name == name:
                self.questions.append((question, self.line.off))
            return ask(device, question, usual)

        rig.answers._ask = noted  # type: ignore[method-assign]

    def handle(self) -> bool:
        if not self.function.pin.asserted:
            return False
        self.handled += 1
        self.function.set_intx(False)
        return True

    def assert_it(self) -> None:
        with self.rig.machine.lock:
            self.function.set_intx(True)

    @property
    def switched_off(self) -> bool:
        return bool(self.rig.dev(self.name).mode & EehDevMode.IRQ_DISABLED)


def strike(rig: EehRig, name: str) -> None:
    with rig.machine.lock:
        rig.phb(int(name[:4], 16)).parity(rig.eeh_pe(name).address)
    rig.wait(0)


def test_a_frozen_function_goes_on_asserting_its_pin(rig: EehRig) -> None:
    """Nothing of the host bridge holds it: without a recovery the handler is called."""
    pin = Pin(rig, LEFT)
    rig.write("/sys/kernel/debug/powerpc/eeh_disable_recovery", "Y")
    strike(rig, LEFT)
    assert rig.phb(0).endpoints.frozen
    pin.assert_it()
    assert pin.handled == 1


def test_off_until_the_function_was_reset(rig: EehRig) -> None:
    """Before ``error_detected``, and on again before ``slot_reset``; what is asserted then is handled then."""
    pin = Pin(rig, LEFT)
    rig.answers.said[LEFT, "error_detected"] = Recovery.NEED_RESET
    strike(rig, LEFT)
    assert pin.switched_off
    pin.assert_it()
    assert pin.handled == 0
    rig.wait(60)
    assert pin.handled == 0, "the reset has taken it back"
    assert pin.questions == [("error_detected", True), ("slot_reset", False), ("resume", False)]
    assert not pin.switched_off
    pin.assert_it()
    assert pin.handled == 1


def test_off_until_it_resumes_where_nobody_needs_a_reset(rig: EehRig) -> None:
    pin = Pin(rig, LEFT)
    ask = rig.answers._ask

    def asserting(device: PciDevice, question: str, usual: Recovery) -> Recovery:
        if question == "mmio_enabled":
            pin.assert_it()
        return ask(device, question, usual)

    rig.answers._ask = asserting  # type: ignore[method-assign]
    strike(rig, LEFT)
    assert pin.questions == [("error_detected", True), ("mmio_enabled", True), ("resume", False)]
    assert pin.handled == 1
    assert not pin.switched_off


def test_off_for_good_where_recovery_fails(rig: EehRig) -> None:
    """``recover_failed``."""
    pin = Pin(rig, LEFT)
    rig.answers.said[LEFT, "error_detected"] = Recovery.DISCONNECT
    strike(rig, LEFT)
    rig.wait(60)
    assert not rig.there(LEFT)
    assert pin.questions == [("error_detected", True), ("error_detected", True)]
    assert pin.line.off


def test_not_where_nobody_handles_it(rig: EehRig) -> None:
    """``irq_has_action``."""
    strike(rig, LEFT)
    assert rig.asked(LEFT)[0] == "error_detected"
    assert not line_of(rig, LEFT).off


def test_not_of_a_function_with_messages(rig: EehRig) -> None:
    """MSI and MSI-X stop with DMA."""
    pin = Pin(rig, LEFT)
    with rig.machine.lock:
        rig.device(LEFT).msi.allocate(1, 1)
    strike(rig, LEFT)
    assert pin.questions[0] == ("error_detected", False)


def test_not_of_what_a_program_has(rig: EehRig) -> None:
    """``eeh_edev_actionable``; its interrupt comes, and VFIO masks it by configuration space."""
    program = Opened(rig)
    event = os.eventfd(0, os.EFD_NONBLOCK)
    data = event.to_bytes(4, "little")
    program.device.set_irqs(EVENTFD | TRIGGER, abi.VFIO_PCI_INTX_IRQ_INDEX, 0, 1, data)
    strike(rig, EDU)
    rig.wait(60)
    assert not line_of(rig, EDU).off
    with rig.machine.lock:
        rig.hardware(EDU).set_intx(True)
    assert os.eventfd_read(event) == 1
    assert not line_of(rig, EDU).given_up
    os.close(event)


class Sharing(PciDriver):
    """A driver that handles its line, and knows nothing of errors."""

    table = ()

    def __init__(self, rig: EehRig) -> None:
        bus = rig.kernel.buses["pci"]
        assert isinstance(bus, PciBus)
        super().__init__(bus, "sharing")
        self.rig = rig
        self.action: IrqAction | None = None

    def probe(self, device: Device) -> None:
        self.action = line_of(self.rig, device.name).request(lambda: False, "sharing")

    def remove(self, device: Device) -> None:
        assert self.action is not None
        line_of(self.rig, device.name).free(self.action)


def test_who_is_taken_away_leaves_the_line_off(rig: EehRig) -> None:
    """``eeh_pe_detach_dev`` forgets that the line was switched off for it: who shares it has no interrupts any more."""
    pin = Pin(rig, RIGHT)
    assert line_of(rig, RIGHT1) is pin.line
    rig.leave(RIGHT1)
    with rig.machine.lock:
        rig.kernel.buses["pci"].register(Sharing(rig))
    rig.write(f"{BUS}/devices/{RIGHT1}/driver_override", "sharing")
    rig.write(f"{BUS}/drivers_probe", RIGHT1)
    rig.answers.said[RIGHT, "error_detected"] = Recovery.NEED_RESET
    strike(rig, RIGHT)
    rig.wait(60)
    assert rig.there(RIGHT1)
    assert rig.works(RIGHT)
    assert pin.line.off
    pin.assert_it()
    assert pin.handled == 0
