"""Hot-pluggable ports of a switch after an error above them was recovered from (``pcie_portdrv_slot_reset``, 6.12)."""

from __future__ import annotations

from collections.abc import Iterator

import error_rig
import pytest
from error_rig import DOWNSTREAM, LEFT, OTHER, RIGHT, UPSTREAM, Errors
from pci_fixture import BUS

from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.description import PcieFunctionSpec
from pyvfio_backends.software.hardware.pcie.port import DownstreamPort


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Errors]:
    """Its switch has slots 1 and 2."""
    slots = iter((1, 2))

    def spec(model: str, behind: str, at: str, name: str, *, options: dict[str, object]) -> PcieFunctionSpec:
        slot = next(slots) if model == "xio3130-downstream" else -1
        return PcieFunctionSpec(model, behind, at, name, slot=slot, options=options)

    monkeypatch.setattr(error_rig, "PcieFunctionSpec", spec)
    errors = Errors()
    yield errors
    errors.host.close()


def slot_register(made: Errors, name: str, register: int) -> int:
    device = made.device(name)
    return device.read_config(device.express + register, 2)


def test_slots_work_after_the_recovery_of_a_switch(made: Errors) -> None:
    before = [slot_register(made, name, express.PCI_EXP_SLTCTL) for name in (DOWNSTREAM, OTHER)]
    made.inject(UPSTREAM, "DLP")
    made.machine.clock.advance(1)
    assert any("Root Port link has been reset" in text for text in made.log)
    assert any("device recovery successful" in text for text in made.log)
    assert [slot_register(made, name, express.PCI_EXP_SLTCTL) for name in (DOWNSTREAM, OTHER)] == before
    assert not any("pciehp" in text for text in made.log)  # that the link was down is no event
    made.machine.slots.press("left")
    made.machine.clock.advance(8)
    there = made.host.listdir(f"{BUS}/devices")
    assert LEFT not in there
    assert RIGHT in there


def test_a_reset_does_not_change_whether_a_card_is_there(made: Errors) -> None:
    port = made.hardware(DOWNSTREAM)
    assert isinstance(port, DownstreamPort)
    assert port.slot is not None
    with made.machine.lock:
        port.reset()
    status = port.config.read(port.slot.at + express.PCI_EXP_SLTSTA, 2)
    assert status & (express.PCI_EXP_SLTSTA_PDS | express.PCI_EXP_SLTSTA_PDC) == express.PCI_EXP_SLTSTA_PDS


def test_enabling_a_function_enables_the_bridges_above(made: Errors) -> None:
    """``pci_enable_bridge`` in ``drivers/pci/pci.c``: also where a port has lost its driver meanwhile."""
    for name in (LEFT, RIGHT):
        made.write(f"{BUS}/drivers/answers/unbind", name)
    for port in (DOWNSTREAM, UPSTREAM):
        made.write(f"{BUS}/drivers/pcieport/unbind", port)
    ports = [made.device(port) for port in (DOWNSTREAM, UPSTREAM)]
    assert not any(port.command & regs.PCI_COMMAND_MASTER for port in ports)
    made.write(f"{BUS}/drivers/answers/bind", LEFT)
    assert all(port.command & regs.PCI_COMMAND_MASTER for port in ports)
    assert [port.enable_count for port in ports] == [1, 1]
    made.write(f"{BUS}/drivers/pcieport/bind", DOWNSTREAM)
    assert [port.enable_count for port in ports] == [2, 1]
