"""The hot-plug controller of the bridge to conventional PCI, and ``shpchp``: slots, switching them, buttons.

The slots are held to ``iommu_groups.json`` by the golden facts; here is what they do
(``drivers/pci/hotplug/shpchp_*.c``).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest
from pci_fixture import errno_of
from pcie_fixture import BEHIND_BRIDGE, Pcie, lab_spec

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.pci import shpc
from pyvfio.pci.shpc import Command, Indicator, Mask, SlotState, Status
from pyvfio.testing import requests
from pyvfio_backends.software.hardware.pcie.block import Block
from pyvfio_backends.software.hardware.pcie.hotplug_controller import HotPlugController
from pyvfio_backends.software.linux.kernel_log import kernel_log
from pyvfio_backends.software.linux.pci_msi import PciMsi
from pyvfio_backends.software.linux.vfs import fail

BRIDGE, OTHER = "0000:09:00.0", "0000:0a:02.0"
SLOTS = "/sys/bus/pci/slots"
EDU_SLOT, EMPTY = f"{SLOTS}/1-1", f"{SLOTS}/3-1"
POWER_OFF = SlotState.DISABLED | Indicator.OFF << 2


@pytest.fixture
def lab() -> Iterator[Pcie]:
    pcie = Pcie(modules=(*lab_spec().modules, "shpchp"))
    with pcie.host:
        yield pcie


@pytest.fixture
def controller(lab: Pcie) -> HotPlugController:
    block = lab.hardware(BRIDGE).bars[0].registers
    assert isinstance(block, Block)
    (found,) = block.parts
    assert isinstance(found, HotPlugController)
    return found


def slot(lab: Pcie, path: str) -> dict[str, str]:
    return {name: lab.text(f"{path}/{name}").strip() for name in lab.host.listdir(path)}


def indicators(controller: HotPlugController, index: int) -> tuple[Indicator, Indicator]:
    word = controller.read(shpc.SLOTS + 4 * index, 2)
    return Indicator(word >> 2 & 3), Indicator(word >> 4 & 3)


def said(lab: Pcie) -> list[str]:
    return [line.removeprefix(f"shpchp {BRIDGE}: ") for line in kernel_log(lab.kernel).lines if "shpchp" in line]


# the controller


def test_numbers_and_slots(controller: HotPlugController) -> None:
    configuration = controller.read(shpc.CONFIGURATION, 4)
    assert configuration & shpc.NUMBER_MASK == 31 == len(controller.bridge.secondary.functions) + 29
    assert configuration >> shpc.FIRST_DEVICE_SHIFT & shpc.NUMBER_MASK == 1
    assert [controller.occupied(index) for index in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("target", "code", "status"),
    [
        (0, SlotState.DISABLED, Status.INVALID_COMMAND),
        (1, SlotState.POWER_ONLY, Status.INVALID_COMMAND),
        (3, SlotState.POWER_ONLY, 0),
        (1, Command.SET_SPEED, 0),
        (1, Command.SET_SPEED + 1, Status.INVALID_SPEED),
        (1, Command.POWER_ALL, Status.INVALID_COMMAND),
        (1, Command.ENABLE_ALL, Status.INVALID_COMMAND),
        (1, 0x60, Status.INVALID_COMMAND),
    ],
)
def test_commands(controller: HotPlugController, target: int, code: int, status: int) -> None:
    controller.write(shpc.MASKS, 4, Mask.COMMAND | Mask.COMMAND_DETECTED)
    controller.write(shpc.COMMAND, 2, target << 8 | code)
    assert controller.read(shpc.STATUS, 2) == status
    assert controller.read(shpc.MASKS, 4) & Mask.COMMAND_DETECTED


def test_all_slots_at_once(controller: HotPlugController) -> None:
    for target in (1, 2):
        controller.write(shpc.COMMAND, 2, target << 8 | SlotState.DISABLED)  # their power indicators stay on
    controller.write(shpc.COMMAND, 2, 1 << 8 | Command.ENABLE_ALL)
    assert controller.read(shpc.STATUS, 2) == 0
    states = [SlotState(controller.read(shpc.SLOTS + 4 * index, 1) & 3) for index in range(31)]
    assert states == [SlotState.ENABLED] * 2 + [SlotState.DISABLED] * 29


def test_the_window_in_configuration_space(lab: Pcie, controller: HotPlugController) -> None:
    bridge = lab.device(BRIDGE)
    at = bridge.find_capability(regs.PCI_CAP_ID_SHPC)
    for number in range((shpc.SLOTS + 4 * 31) // 4):
        bridge.write_config(at + shpc.DWORD_SELECT, 1, number)
        assert bridge.read_config(at + shpc.DWORD_DATA, 4) == controller.read(4 * number, 4)
    bridge.write_config(at + shpc.DWORD_SELECT, 1, 0xFF)
    assert bridge.read_config(at + shpc.DWORD_DATA, 4) == 0
    bridge.write_config(at + shpc.DWORD_SELECT, 1, shpc.COMMAND // 4)
    bridge.write_config(at + shpc.DWORD_DATA, 4, 3 << 8 | Indicator.BLINK << 4)
    assert indicators(controller, 2)[1] is Indicator.BLINK


def test_registers_that_are_not_there(controller: HotPlugController) -> None:
    end = shpc.SLOTS + 4 * 31
    assert not controller.takes(end, 4)
    assert controller.takes(end - 4, 4)


# slots


def test_a_slot_with_a_card_and_one_without(lab: Pcie) -> None:
    common = {"attention": "0", "cur_bus_speed": "33 MHz PCI", "max_bus_speed": "33 MHz PCI"}
    assert slot(lab, EDU_SLOT) == {**common, "address": "0000:0a:01", "adapter": "1", "latch": "0", "power": "1"}
    assert slot(lab, EMPTY) == {**common, "address": "0000:0a:03", "adapter": "0", "latch": "1", "power": "0"}
    assert len(lab.host.listdir(SLOTS)) == 12 + 31


def test_the_attention_indicator(lab: Pcie, controller: HotPlugController) -> None:
    for value, shown in ((1, Indicator.ON), (2, Indicator.BLINK), (0, Indicator.OFF)):
        lab.write(f"{EDU_SLOT}/attention", str(value))
        assert indicators(controller, 0)[1] is shown
        assert lab.text(f"{EDU_SLOT}/attention") == f"{value}\n"
    lab.write(f"{EDU_SLOT}/attention", "7")
    assert indicators(controller, 0)[1] is Indicator.OFF


def test_a_slot_is_switched_off_for_good(lab: Pcie) -> None:
    """The card leaves with the power, as with QEMU."""
    lab.write(f"{EDU_SLOT}/power", "0")
    assert BEHIND_BRIDGE not in lab.host.listdir("/sys/bus/pci/devices")
    assert OTHER in lab.host.listdir("/sys/bus/pci/devices")
    assert lab.complex.function(0, 0x0A08) is None
    assert {key: slot(lab, EDU_SLOT)[key] for key in ("adapter", "attention", "latch", "power")} == {
        "adapter": "0",
        "attention": "0",
        "latch": "1",
        "power": "0",
    }
    for value in "01":
        assert errno_of(lab.write, f"{EDU_SLOT}/power", value) == "ENODEV"
    assert said(lab)[-1] == "No adapter on slot(1-1)"
    assert errno_of(lab.write, f"{EDU_SLOT}/power", "2") == "EINVAL"


def test_a_slot_that_is_on_already(lab: Pcie) -> None:
    assert errno_of(lab.write, f"{EDU_SLOT}/power", "1") == "ENODEV"
    assert said(lab)[-1] == "Already enabled on slot(1-1)"


def test_a_card_that_came_is_switched_on(lab: Pcie, controller: HotPlugController) -> None:
    bus = controller.bridge.secondary
    card = lab.hardware(BEHIND_BRIDGE)
    lab.write(f"{EDU_SLOT}/power", "0")
    bus.plug(card, 1)
    assert slot(lab, EDU_SLOT)["adapter"] == "1"
    lab.write(f"{EDU_SLOT}/power", "1")
    assert BEHIND_BRIDGE in lab.host.listdir("/sys/bus/pci/devices")
    assert indicators(controller, 0) == (Indicator.ON, Indicator.OFF)
    assert lab.group_of(BEHIND_BRIDGE) == lab.group_of(BRIDGE)


def test_the_button(lab: Pcie, controller: HotPlugController) -> None:
    controller.press(0)
    lab.text("/proc/version")
    assert indicators(controller, 0) == (Indicator.BLINK, Indicator.OFF)
    lab.machine.clock.advance(3)
    controller.press(0)  # taken back
    lab.machine.clock.advance(10)
    assert indicators(controller, 0) == (Indicator.ON, Indicator.OFF)
    assert BEHIND_BRIDGE in lab.host.listdir("/sys/bus/pci/devices")
    assert said(lab)[-5:] == [
        "Button pressed on Slot(1-1)",
        "PCI slot #1-1 - powering off due to button press",
        "Button pressed on Slot(1-1)",
        "Button cancel on Slot(1-1)",
        "PCI slot #1-1 - action canceled due to button press",
    ]
    controller.press(0)
    lab.machine.clock.advance(6)
    assert BEHIND_BRIDGE not in lab.host.listdir("/sys/bus/pci/devices")
    assert slot(lab, EDU_SLOT)["power"] == "0"


def test_the_driver_leaves(lab: Pcie, controller: HotPlugController) -> None:
    lab.write("/sys/bus/pci/drivers/shpchp/unbind", BRIDGE)
    assert "ctrl" not in lab.host.listdir(f"/sys/bus/pci/devices/{BRIDGE}")
    assert len(lab.host.listdir(SLOTS)) == 12
    controller.press(0)
    assert controller.read(shpc.INTERRUPTS, 4) == 0  # masked
    lab.write("/sys/bus/pci/drivers/shpchp/bind", BRIDGE)
    assert slot(lab, EDU_SLOT)["power"] == "1"


def test_what_the_bridge_has_left(lab: Pcie) -> None:
    lines = lab.text(f"/sys/bus/pci/devices/{BRIDGE}/ctrl").splitlines()
    assert [line for line in lines if line.startswith("Free")] == [
        "Free resources: memory",
        "Free resources: prefetchable memory",
        "Free resources: IO",
        "Free resources: bus numbers",
    ]
    assert "start = fba00000, length = 00200000" in lines


# who owns the group's DMA


def test_it_keeps_what_is_behind_the_bridge_from_programs(lab: Pcie) -> None:
    """As in ``resets.json``: EPERM with every endpoint on vfio-pci, until the bridge is free."""
    for name in (BEHIND_BRIDGE, OTHER):
        lab.take(name)
    host = lab.host
    container, group = host.open("/dev/vfio/vfio", os.O_RDWR), host.open(f"/dev/vfio/{lab.group_of(OTHER)}", os.O_RDWR)
    assert requests.group_flags(host, group) == 0
    assert errno_of(requests.set_container, host, group, container) == "EPERM"
    lab.write("/sys/bus/pci/drivers/shpchp/unbind", BRIDGE)
    assert requests.group_flags(host, group) == abi.VFIO_GROUP_FLAGS_VIABLE
    requests.set_container(host, group, container)
    assert errno_of(lab.write, "/sys/bus/pci/drivers/shpchp/bind", BRIDGE) == "EBUSY"


def test_without_a_message_the_pin_tells_of_buttons(monkeypatch: pytest.MonkeyPatch) -> None:
    """``shpc_init``: "Use INTx for the hotplug controller"."""

    def refuse(msi: PciMsi, *wanted: object, **more: object) -> int:
        raise fail(errno.ENOSPC)

    with monkeypatch.context() as none:
        none.setattr(PciMsi, "allocate", refuse)
        pcie = Pcie(modules=(*lab_spec().modules, "shpchp"))
    with pcie.host:
        (line,) = (text for text in pcie.text("/proc/interrupts").splitlines() if "shpchp" in text)
        assert "IO-APIC" in line
        block = pcie.hardware(BRIDGE).bars[0].registers
        assert isinstance(block, Block)
        (controller,) = block.parts
        assert isinstance(controller, HotPlugController)
        with pcie.machine.lock:
            controller.press(0)
            pcie.machine.clock.settle()
        assert "Button pressed on Slot(1-1)" in said(pcie)
        assert not controller.bridge.pin.asserted
        pcie.write("/sys/bus/pci/drivers/shpchp/unbind", BRIDGE)
        assert "shpchp" not in pcie.text("/proc/interrupts")


@pytest.mark.parametrize("booting", [True, False])
def test_without_an_interrupt_it_gives_up_and_keeps_nothing(monkeypatch: pytest.MonkeyPatch, booting: bool) -> None:
    """``shpc_init``: "Can't get irq", and ``shpc_probe`` fails with ENODEV; there is no way back to the pin."""

    def refuse(msi: PciMsi, *wanted: object, **more: object) -> None:
        raise fail(errno.ENOSPC)

    modules = (*lab_spec().modules, "shpchp")
    with monkeypatch.context() as none:
        if booting:
            none.setattr(PciMsi, "request", refuse)
            pcie = Pcie(modules=modules)
        else:
            pcie = Pcie(modules=modules)
            pcie.write("/sys/bus/pci/drivers/shpchp/unbind", BRIDGE)
            none.setattr(PciMsi, "request", refuse)
            assert errno_of(pcie.write, "/sys/bus/pci/drivers/shpchp/bind", BRIDGE) == "ENODEV"
    with pcie.host:
        assert any(text.startswith("Can't get irq ") for text in said(pcie))
        assert "Use INTx for the hotplug controller" not in said(pcie)
        assert not pcie.device(BRIDGE).msi.irqs
        assert "shpchp" not in pcie.text("/proc/interrupts")
        assert not {"driver", "msi_irqs"} & set(pcie.host.listdir(f"/sys/bus/pci/devices/{BRIDGE}"))
        assert BRIDGE not in pcie.host.listdir("/sys/bus/pci/drivers/shpchp")
        pcie.write("/sys/bus/pci/drivers/shpchp/bind", BRIDGE)
        assert len([line for line in pcie.text("/proc/interrupts").splitlines() if "shpchp" in line]) == 1
