"""pciehp, deed by deed: lines of its log, events, errnos, what it waits for.  All orders are in `test_pciehp_orders`.

Source: ``drivers/pci/hotplug/pciehp_{ctrl,hpc,core,pci}.c``, ``drivers/pci/probe.c`` (bus numbers), 6.12.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import threading
import time

import pytest
from slot_rig import ADDRESS, SLOT, SlotRig, slot_spec

from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_extended_regs import DpcControl
from pyvfio.abi.vfio import IrqSetFlags, PciIrq
from pyvfio.errors import Misuse, NoSuchDevice
from pyvfio.process import EventFd
from pyvfio.testing import requests
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.modes import MODES, open_device
from pyvfio_backends.software.description import PcieBusSpec, PcieFunctionSpec
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pciehp import SlotPhase
from pyvfio_backends.software.machine import Machine

SWITCH = [
    PcieFunctionSpec("x3130-upstream", "card", id="up"),
    PcieFunctionSpec("xio3130-downstream", "up", id="d0", slot=20),
    PcieFunctionSpec("xio3130-downstream", "up", at="01.0", id="d1", slot=20),
    PcieFunctionSpec("edu", "d0"),
]
PAIR = [PcieFunctionSpec("e1000e", "card"), PcieFunctionSpec("e1000e", "card", at="00.1")]


class Rig(SlotRig):
    def indicators(self) -> list[tuple[float, str]]:
        """What the power indicator did, and when."""
        return [(when, text.rpartition(" ")[2]) for when, text in self.events if text.startswith("indicator")]


# ---- cards -----------------------------------------------------------------------------------------------------------


def test_a_press_powers_on_after_five_seconds() -> None:
    rig = Rig()
    rig.plug()
    rig.write("attention", "0")  # the end of a command has presence looked at
    rig.pass_time(1)
    rig.slots.pull("port")
    rig.pass_time(3)
    rig.lines()
    rig.events.clear()
    rig.slots.press("port")
    rig.pass_time(4.9)
    assert rig.phase is SlotPhase.BLINKING_ON
    rig.pass_time(2)
    assert rig.lines() == ["Slot(7): Button press: will power on in 5 sec", "Slot(7): Card not present"]
    assert [text for _, text in rig.indicators()] == ["blink", "off"]


def test_the_lines_and_times_of_a_card_that_comes_and_goes() -> None:
    rig = Rig()
    rig.plug(press=True)
    rig.pass_time(1)
    assert rig.lines() == ["Slot(7): Button press: will power on in 5 sec", "Slot(7): Card present"]
    assert rig.indicators() == [(0.0, "blink"), (0.21, "on")]
    rig.slots.press("port")
    rig.pass_time(2)
    rig.slots.press("port")
    rig.slots.press("port")
    rig.pass_time(10)
    assert rig.lines() == [
        "Slot(7): Button press: will power off in 5 sec",
        "Slot(7): Button press: canceling request to power off",
        "Slot(7): Button press: will power off in 5 sec",
    ]
    assert rig.indicators()[2:] == [(1.0, "blink"), (3.0, "on"), (3.0, "blink"), (9.0, "off")]
    assert rig.told() == [f"add {ADDRESS}.0", f"remove {ADDRESS}.0"]


def test_a_card_of_several_functions_goes_from_the_last_function_on() -> None:
    rig = Rig()
    rig.plug(PAIR, press=True)
    rig.pass_time(1)
    assert rig.told() == [f"add {ADDRESS}.0", f"add {ADDRESS}.1"]
    rig.slots.pull("port")
    assert rig.told() == [f"remove {ADDRESS}.1", f"remove {ADDRESS}.0"]
    rig.pass_time(2)
    assert rig.lines()[-2:] == ["Slot(7): Link Down", "Slot(7): Card not present"]


def test_a_slot_without_a_button_needs_none() -> None:
    rig = Rig(button=False)
    rig.plug()
    rig.pass_time(1)
    assert rig.lines() == ["Slot(7): Card present"]
    assert rig.there()
    with pytest.raises(Misuse, match="no attention button"):
        rig.slots.press("port")


def test_a_slot_without_hotplug_is_none_of_sysfs() -> None:
    rig = Rig(hotplug=False)
    assert rig.host.listdir("/sys/bus/pci/slots") == []


def test_files_are_there_for_what_the_slot_has() -> None:
    assert "latch" in Rig(latch=True).host.listdir(SLOT)
    assert "attention" not in Rig(attention=False).host.listdir(SLOT)
    with pytest.raises(Misuse, match="a slot has no option colour"):
        Rig(colour=True)


# ---- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_card_whose_link_does_not_come_up() -> None:
    rig = Rig()
    rig.slot.hardware.link_delay = 10
    rig.plug(press=True)
    rig.pass_time(5)
    assert rig.lines()[-1] == "Slot(7): No link"
    assert (rig.read("attention"), rig.read("power")) == ("1", "0")
    assert rig.write("power", "1") == errno.EPERM
    rig.slot.hardware.link_delay = 0.5
    assert rig.write("power", "1") == 0
    assert rig.read("attention") == "0"


def test_a_power_fault_is_told_and_the_card_comes_again() -> None:
    rig = Rig()
    rig.on()
    rig.lines()
    rig.slots.fault("port")
    rig.pass_time(5)
    assert rig.lines() == [
        "Slot(7): Power fault",
        "Slot(7): Link Down",
        "Slot(7): Card present",
    ]
    assert rig.phase is SlotPhase.ON
    rig.slots.fault("port", lasting=True)
    rig.pass_time(10)
    assert rig.phase is SlotPhase.OFF
    assert rig.read("attention") == "1"


def test_a_latch_that_is_open() -> None:
    rig = Rig(latch=True)
    rig.slots.open_latch("port")
    rig.plug(press=True)
    rig.pass_time(5)
    assert rig.lines()[-1] == "Slot(7): Latch open"
    assert rig.write("power", "1") == errno.ENODEV
    assert rig.read("latch") == "1"
    rig.slots.open_latch("port", opened=False)
    assert rig.write("power", "1") == 0
    assert rig.read("latch") == "0"


def test_commands_that_take_their_time_or_never_end() -> None:
    """``pcie_wait_cmd``: the next command waits for the one before, a second at most."""
    rig = Rig()
    rig.slot.hardware.command_delay = 0.3
    rig.plug(press=True)
    rig.pass_time(3)
    assert rig.phase is SlotPhase.ON
    assert not [line for line in rig.lines() if "Timeout" in line]
    rig.slot.hardware.command_delay = 5
    assert rig.write("attention", "1") == 0
    assert rig.write("attention", "0") == 0
    assert [line[:26] for line in rig.lines()] == ["Timeout on hotplug command"]


@pytest.mark.parametrize("completion", [True, False])
def test_command_completed_is_asked_for_where_it_is_told(completion: bool) -> None:
    rig = Rig(completion=completion)
    control = rig.controller.port.control
    assert bool(control & express.PCI_EXP_SLTCTL_CCIE) is completion
    assert control & express.PCI_EXP_SLTCTL_DLLSCE
    rig.on()


def test_there_is_one_interrupt_for_all_events() -> None:
    rig = Rig()
    lines = rig.machine.kernel.interrupts.show().splitlines()
    (line,) = (line for line in lines if "pciehp" in line)
    before = int(line.split()[1])
    rig.slots.press("port")
    (line,) = (line for line in rig.machine.kernel.interrupts.show().splitlines() if "pciehp" in line)
    assert int(line.split()[1]) > before


def test_a_link_that_containment_took_down_and_recovery_brought_back_means_nothing() -> None:
    """``pci_dpc_recovered``: the slot stays on, and its function with its driver."""
    rig = Rig(containment=True)
    rig.on()
    rig.told()
    rig.lines()
    port = rig.slot.port
    at = port.offset(extended.PCI_EXT_CAP_ID_DPC, extended=True)
    assert at is not None
    control = port.config.read(at + extended.PCI_EXP_DPC_CTL, 2)
    port.config.write(at + extended.PCI_EXP_DPC_CTL, 2, control | DpcControl.SOFTWARE_TRIGGER)
    assert not port.link_up
    rig.pass_time(5)
    assert "Slot(7): Link Down/Up ignored (recovered by DPC)" in rig.lines()
    assert rig.phase is SlotPhase.ON
    assert port.link_up
    assert rig.told() == []
    rig.slots.pull("port")
    rig.pass_time(3)
    assert rig.told() == [f"remove {ADDRESS}.0"]


# ---- programs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orderly", [True, False])
def test_a_function_in_use_stays_until_the_program_lets_it_go(orderly: bool) -> None:
    rig = Rig()
    rig.on()
    bound = BoundFunction(rig.host, f"{ADDRESS}.0")
    bound.take("vfio-pci")
    flags = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER
    device = rig.machine.kernel.buses["pci"].devices[f"{ADDRESS}.0"]
    assert isinstance(device, PciDevice)
    with OpenFiles(rig.host) as files, EventFd() as asked:
        opened = open_device(rig.host, files, bound, MODES[1])
        requests.set_irqs(rig.host, opened.fd, PciIrq.REQ, flags, [asked.fileno()])
        if orderly:
            rig.slots.press("port")
            rig.pass_time(4.9)
            assert asked.read() == 0
        else:
            rig.slots.pull("port")
        rig.pass_time(0.2)
        assert asked.read() == 1
        rig.pass_time(10)
        assert asked.read() == 1
        assert rig.there()
        assert rig.phase is SlotPhase.POWERING_OFF
        config = requests.region_info(rig.host, opened.fd, 7)[0].offset
        assert rig.host.pread(opened.fd, 4, config).hex() == "8680d310"  # kept by vfio-pci, in any case
        assert rig.host.pread(opened.fd, 4, config + 8).hex() == ("00000002" if orderly else "ffffffff")
        assert device.disconnected is not orderly, "nothing is asked of a card that is not there"
        assert rig.write("power", "1") == errno.ENODEV
        assert rig.write("power", "0") == errno.ENODEV
        assert rig.lines()[-2:] == ["Slot(7): Already enabled", "Slot(7): Already in powering off state"]
        rig.slots.press("port")  # waits until the thread has time for it
        assert rig.lines() == []
        files.close(opened.fd)
        assert not rig.there()
    rig.pass_time(1.5)
    rig.lines()
    assert rig.phase is SlotPhase.BLINKING_ON


def test_power_0_waits_for_the_program_and_then_for_the_second() -> None:
    rig = Rig()
    rig.on()
    bound = BoundFunction(rig.host, f"{ADDRESS}.0")
    bound.take("vfio-pci")
    with OpenFiles(rig.host) as files:
        opened = open_device(rig.host, files, bound, MODES[1])
        results: list[int] = []
        writer = threading.Thread(target=lambda: results.append(rig.write("power", "0")))
        writer.start()
        assert not results
        while not rig.machine.clock.holds(writer):
            time.sleep(0.01)
        files.close(opened.fd)
    writer.join(10)
    assert results == [0]
    assert rig.phase is SlotPhase.OFF


def test_a_card_that_keeps_its_power_is_quiet_when_it_is_taken_away() -> None:
    """``pciehp_unconfigure_device``: no bus master, no interrupt pin."""
    rig = Rig(power=False)
    card = rig.plug(press=True)[0]
    rig.pass_time(2)
    card.config.write(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_MASTER | regs.PCI_COMMAND_SERR | regs.PCI_COMMAND_MEMORY)
    assert rig.write("power", "0") == 0
    assert not rig.there()
    assert rig.slot.port.link_up
    bits = regs.PCI_COMMAND_MASTER | regs.PCI_COMMAND_SERR | regs.PCI_COMMAND_INTX_DISABLE
    assert card.config.command & bits == regs.PCI_COMMAND_INTX_DISABLE
    assert rig.write("power", "1") == 0
    assert rig.there()


# ---- switches and bus numbers ----------------------------------------------------------------------------------------


def switch_rig(buses: int) -> SlotRig:
    class Wide(SlotRig):
        def __init__(self) -> None:
            spec = dataclasses.replace(slot_spec(), slot_buses=buses)
            self.adopt(Machine(spec))

    return Wide()


def test_a_switch_gets_bus_numbers_and_its_slots_work() -> None:
    rig = switch_rig(8)
    rig.plug(SWITCH, press=True)
    rig.pass_time(2)
    there = [name for name in rig.host.listdir("/sys/bus/pci/devices") if not name.startswith("0000:00")]
    assert there == ["0000:01:00.0", "0000:02:00.0", "0000:02:01.0", "0000:03:00.0"]
    assert sorted(rig.host.listdir("/sys/bus/pci/slots")) == ["20", "20-1", "7"], "the second one of a name"
    second = rig.host.readlink("/sys/bus/pci/devices/0000:02:01.0")
    assert second.endswith("0000:01:00.0/0000:02:01.0")
    rig.slots.plug("0000:02:01.0", "edu", press=True)
    rig.pass_time(3)
    added = [name for name in rig.host.listdir("/sys/bus/pci/devices") if name not in there]
    assert [name for name in added if not name.startswith("0000:00")] == ["0000:06:00.0"], "numbers are shared out"
    rig.slots.pull("port")
    rig.pass_time(3)
    assert rig.host.listdir("/sys/bus/pci/slots") == ["7"]
    assert not [name for name in rig.host.listdir("/sys/bus/pci/devices") if not name.startswith("0000:00")]
    rig.plug(SWITCH, press=True)
    rig.pass_time(3)
    assert rig.there("/sys/bus/pci/devices/0000:03:00.0")


def test_a_switch_without_bus_numbers_is_left_alone() -> None:
    rig = switch_rig(0)
    rig.plug(SWITCH, press=True)
    rig.pass_time(2)
    assert rig.there()
    assert not rig.there("/sys/bus/pci/devices/0000:02:00.0")
    assert any(line.endswith("No bus number available for hot-added bridge") for line in rig.log.lines)


# ---- at boot, and names ----------------------------------------------------------------------------------------------


def test_a_card_in_a_slot_at_boot_is_there_and_an_empty_slot_is_off() -> None:
    spec = slot_spec()
    spec.pcie_buses.append(PcieBusSpec(0x40))
    spec.pcie_functions += [
        PcieFunctionSpec("pcie-root-port", "0000:40", id="other", slot=7),
        PcieFunctionSpec("e1000e", "other"),
    ]
    rig = SlotRig.__new__(SlotRig)
    rig.adopt(Machine(spec))
    assert sorted(rig.host.listdir("/sys/bus/pci/slots")) == ["7", "7-1"]
    assert (rig.read("power"), rig.read("adapter")) == ("0", "0")
    with pytest.raises(Misuse, match="several ports have it"):
        rig.slots.find("7")
    with pytest.raises(NoSuchDevice):
        rig.slots.find("8")
    assert rig.slots.find("other").state.power


# ---- real time -------------------------------------------------------------------------------------------------------


def test_a_paced_machine_takes_its_time() -> None:
    rig = SlotRig.__new__(SlotRig)
    rig.adopt(Machine(slot_spec(), paced=True))
    with contextlib.closing(rig.host):
        rig.plug(press=True)
        assert not rig.there(), "the link takes a tenth of a second"
        deadline = time.monotonic() + 10
        while rig.phase is not SlotPhase.ON and time.monotonic() < deadline:
            time.sleep(0.02)
        assert rig.there()
        assert rig.write("power", "0") == 0  # a second, really
        assert not rig.there()
        assert rig.phase is SlotPhase.OFF
