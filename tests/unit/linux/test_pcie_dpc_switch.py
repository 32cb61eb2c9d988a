"""Containment at the ports of a switch, which Linux has to be told of.

Source: ``pcie_ports=dpc-native`` in ``portdrv.c``, 6.12.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import error_rig
import pytest
from error_rig import DOWNSTREAM, LEFT, RIGHT, SWITCH, Errors
from pci_fixture import BUS

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.description import MachineSpec, PcieFunctionSpec

TOLD = "pcie_ports=dpc-native"
EXPRESS = "/sys/bus/pci_express/drivers/dpc"


@pytest.fixture(params=[TOLD, "", "pcie_ports=native"])
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Errors]:
    """The first port of its switch is able to contain."""

    def spec(model: str, behind: str, at: str, name: str, *, options: dict[str, object]) -> PcieFunctionSpec:
        return PcieFunctionSpec(model, behind, at, name, options={"containment": True} if name == "left" else options)

    monkeypatch.setattr(error_rig, "PcieFunctionSpec", spec)
    errors = Errors(host=dataclasses.replace(MachineSpec(name="any").host, cmdline=request.param))
    yield errors
    errors.host.close()


def test_a_switch_contains_if_linux_was_told(made: Errors) -> None:
    told = made.kernel.cmdline == TOLD
    services = [name for name in made.host.listdir(EXPRESS) if name.startswith(DOWNSTREAM)]
    assert services == ([f"{DOWNSTREAM}:pcie208"] if told else [])
    function = made.hardware(DOWNSTREAM)
    at = function.offset(extended.PCI_EXT_CAP_ID_DPC, extended=True)
    assert at is not None
    enabled = function.config.read(at + extended.PCI_EXP_DPC_CTL, 2) & extended.PCI_EXP_DPC_CTL_EN_FATAL
    assert bool(enabled) == told
    made.inject(LEFT, "DLP")
    contained = f"pcieport {DOWNSTREAM}: DPC: containment event, status:0x0005, ERR_FATAL received from {LEFT}"
    assert (contained in made.log) == told
    assert made.messages(SWITCH) == ((0, 0, 0) if told else (0, 0, 1))
    assert made.log[-1] == f"pcieport {DOWNSTREAM}: AER: device recovery successful"
    assert {name for name, *_ in made.answers.asked} == {LEFT}
    assert made.attr(LEFT, "vendor") == made.attr(RIGHT, "vendor") == "0x1af4"
    made.inject(RIGHT, "DLP")  # the other port is not able to
    assert made.messages(SWITCH) == ((0, 0, 1) if told else (0, 0, 2))


@pytest.mark.parametrize("made", [TOLD], indirect=True)
def test_a_port_with_containment_alone_needs_its_message_alone(made: Errors) -> None:
    """``pcie_message_numbers``: the message of slots counts where a service goes by it."""
    device, function = made.device(DOWNSTREAM), made.hardware(DOWNSTREAM)
    at = function.offset(extended.PCI_EXT_CAP_ID_DPC, extended=True)
    assert at is not None
    before = len(device.msi.irqs)
    made.write(f"{BUS}/drivers/pcieport/unbind", DOWNSTREAM)
    function.config.data[device.express + regs.PCI_EXP_FLAGS + 1] |= 3 << 1  # its slot's would be the fourth
    made.write(f"{BUS}/drivers/pcieport/bind", DOWNSTREAM)
    assert [name for name in made.host.listdir(EXPRESS) if name.startswith(DOWNSTREAM)] == [f"{DOWNSTREAM}:pcie208"]
    assert len(device.msi.irqs) == before == 1
