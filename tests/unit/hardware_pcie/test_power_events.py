"""Power management events of functions, and root status (PCI Express Base Specification, 6.0, 5.3.3, 6.1.5)."""

from __future__ import annotations

import pytest
from pcie_rig import Host

from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pcie.capabilities import PowerManagement
from pyvfio_backends.software.hardware.pcie.firmware import Firmware
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.models import root_port
from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex

EVENT, ALLOWED = regs.PCI_PM_CTRL_PME_STATUS, regs.PCI_PM_CTRL_PME_ENABLE
NOTED, PENDING = express.PCI_EXP_RTSTA_PME, express.PCI_EXP_RTSTA_PENDING
AT = 0x50


class Rig:
    """Two functions below a root port without messages: its pin tells what it interrupts for."""

    def __init__(self, states: int) -> None:
        self.complex, self.port = RootComplex(Host()), root_port()
        self.port.allow_power_events()
        self.complex.add_root_bus().plug(self.port, 1)
        self.functions = []
        for _ in range(2):
            function = Function(ConfigSpace(Identity(1, 2, class_code=0x020000)))
            function.add(PowerManagement(pme=states), AT)
            self.functions.append(function)
        self.port.plug_all(dict(enumerate(self.functions)))
        Firmware().set_up(self.complex)
        self.at = self.port.offset(regs.PCI_CAP_ID_EXP) or 0

    @property
    def status(self) -> int:
        return self.port.config.read(self.at + express.PCI_EXP_RTSTA, 4)

    def clear(self) -> None:
        self.port.config.write(self.at + express.PCI_EXP_RTSTA, 4, NOTED)

    def interrupts(self, on: bool) -> None:
        self.port.config.write(self.at + express.PCI_EXP_RTCTL, 2, express.PCI_EXP_RTCTL_PMEIE if on else 0)


def set_control(function: Function, value: int) -> None:
    function.config.write(AT + regs.PCI_PM_CTRL, 2, value)


def control(function: Function) -> int:
    return function.config.read(AT + regs.PCI_PM_CTRL, 2)


@pytest.fixture
def rig() -> Rig:
    return Rig(regs.PCI_PM_CAP_PME_D3hot)


def test_only_from_the_states_that_it_names(rig: Rig) -> None:
    function = rig.functions[0]
    set_control(function, ALLOWED)
    assert not function.raise_event()
    assert not control(function) & EVENT
    set_control(function, ALLOWED | 3)
    assert function.raise_event()
    assert (control(function) & EVENT, rig.status) == (EVENT, NOTED | function.rid)


def test_what_cannot_raise_any() -> None:
    rig = Rig(0)
    set_control(rig.functions[0], 0xFFFF)
    assert not control(rig.functions[0]) & (EVENT | ALLOWED)
    assert not rig.functions[0].raise_event()
    assert rig.status == 0


def test_an_event_is_sent_when_it_is_allowed(rig: Rig) -> None:
    function = rig.functions[1]
    set_control(function, 3)
    assert function.raise_event()
    assert rig.status == 0
    set_control(function, 3 | ALLOWED)  # "PME status" is cleared by ones only
    assert rig.status == NOTED | function.rid
    set_control(function, 3 | ALLOWED | EVENT)
    assert not control(function) & EVENT


def test_who_comes_later_waits(rig: Rig) -> None:
    for function in rig.functions:
        set_control(function, 3 | ALLOWED)
        function.raise_event()
    rig.functions[0].raise_event()  # one that has one has no more
    first, second = (function.rid for function in rig.functions)
    assert rig.status == NOTED | PENDING | first
    rig.clear()
    assert rig.status == NOTED | second
    rig.clear()
    assert not rig.status & (NOTED | PENDING)


def test_the_pin_is_asserted_while_there_is_one(rig: Rig) -> None:
    function = rig.functions[0]
    set_control(function, 3 | ALLOWED)
    function.raise_event()
    assert not rig.port.pin.asserted
    rig.interrupts(True)
    assert rig.port.pin.asserted
    rig.interrupts(False)
    assert not rig.port.pin.asserted
    rig.interrupts(True)
    rig.clear()
    assert not rig.port.pin.asserted


def test_software_cannot_have_interrupts_of_every_port() -> None:
    """Root control of QEMU's has no bit for it."""
    port = root_port()
    at = (port.offset(regs.PCI_CAP_ID_EXP) or 0) + express.PCI_EXP_RTCTL
    port.config.write(at, 2, 0xFFFF)
    assert port.config.read(at, 2) == 0x7
    port.allow_power_events()
    port.config.write(at, 2, 0xFFFF)
    assert port.config.read(at, 2) == 0xF


def test_a_reset_of_the_port_forgets_them(rig: Rig) -> None:
    for function in rig.functions:
        set_control(function, 3 | ALLOWED)
        function.raise_event()
    rig.interrupts(True)
    rig.port.reset()
    assert (rig.status, rig.port.pin.asserted) == (0, False)
    rig.clear()
    assert rig.status == 0
    assert not any(control(function) & EVENT for function in rig.functions)
