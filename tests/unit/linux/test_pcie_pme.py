"""A function that sleeps asks for attention, and Linux wakes it (``drivers/pci/pcie/pme.c``, ``pci.c``, 6.12)."""

from __future__ import annotations

import dataclasses
import errno
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from pci_fixture import BUS, VFIO, Device, errno_of
from pcie_fixture import Pcie, lab_spec

from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_feature
from pyvfio.errors import Misuse
from pyvfio.process import EventFd
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import MachineSpec, PcieBusSpec, PcieFunctionSpec
from pyvfio_backends.software.hardware.pcie.capabilities import PowerManagement
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.linux.kernel_log import kernel_log
from pyvfio_backends.software.linux.pci_msi import PciMsi
from pyvfio_backends.software.linux.vfs import fail
from pyvfio_backends.software.loader import load_machine, machine_files
from pyvfio_backends.software.machine import Machine

ENTRY = vfio_feature.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY
WAKEUP = vfio_feature.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP
SET = abi.VFIO_DEVICE_FEATURE_SET
EVENT, ALLOWED = regs.PCI_PM_CTRL_PME_STATUS, regs.PCI_PM_CTRL_PME_ENABLE


class Switch(Pcie):
    """The machine `q35-switch`, whose pair of NICs can raise events."""

    def __init__(self) -> None:
        self.machine = Machine(load_machine(machine_files()["q35-switch"]))
        self.kernel = self.machine.kernel
        self.host = SoftwareBackend(self.machine)
        self.events = self.host.uevents()
        self.complex = self.machine.pcie
        devices = self.host.listdir(f"{BUS}/devices")
        self.nic, self.other = [name for name in devices if self.attr(name, "device") == "0x10f2"]
        for name in (self.nic, self.other):
            if self.driver(name) is not None:
                self.write(f"{BUS}/devices/{name}/driver/unbind", name)
            self.write(f"{BUS}/devices/{name}/driver_override", "vfio-pci")
            self.write(f"{BUS}/drivers_probe", name)
        self.port = self.host.readlink(f"{BUS}/devices/{self.nic}").split("/")[-2]

    def control(self, name: str) -> int:
        function = self.hardware(name)
        return function.config.read(_power(function) + regs.PCI_PM_CTRL, 2)

    def root(self, register: int, size: int = 4) -> int:
        function = self.hardware(self.port)
        return function.config.read((function.offset(regs.PCI_CAP_ID_EXP) or 0) + register, size)

    def raise_event(self, name: str) -> bool:
        with self.machine.lock:
            done = self.hardware(name).raise_event()
            self.machine.clock.settle()
        return done

    def state(self, name: str) -> tuple[str, str]:
        return self.attr(name, "power_state"), self.attr(name, "power/runtime_status")

    @property
    def log(self) -> list[str]:
        return [text for text in kernel_log(self.kernel).lines if "PME" in text and "Signaling" not in text]


def _power(function: Function) -> int:
    at = function.offset(regs.PCI_CAP_ID_PM)
    assert at is not None
    return at


@pytest.fixture
def lab() -> Iterator[Switch]:
    made = Switch()
    yield made
    made.host.close()


def feature(device: Device, flags: int, data: bytes = b"") -> str:
    room = bytearray(struct.pack("=II", 8 + len(data), flags) + data)
    return errno_of(device.host.ioctl, device.fd, abi.VFIO_DEVICE_FEATURE, room)


def test_a_sleeping_function_may_raise_events(lab: Switch) -> None:
    assert lab.state(lab.nic) == ("D3hot", "suspended")
    assert lab.control(lab.nic) & (EVENT | ALLOWED) == ALLOWED
    assert lab.root(express.PCI_EXP_RTCTL, 2) & express.PCI_EXP_RTCTL_PMEIE
    device = Device(lab, lab.nic)
    assert not lab.control(lab.nic) & (EVENT | ALLOWED)
    device.close()
    assert lab.control(lab.nic) & ALLOWED
    lab.write(f"{VFIO}/unbind", lab.nic)
    assert not lab.control(lab.nic) & ALLOWED


def test_an_event_wakes_it_until_it_may_sleep_again(lab: Switch) -> None:
    states: list[str] = []
    lab.hardware(lab.nic).on_power.append(lambda: states.append(lab.attr(lab.nic, "power_state")))
    assert lab.raise_event(lab.nic)
    assert len(states) == 2  # awake, and as nobody uses it asleep
    assert lab.state(lab.nic) == ("D3hot", "suspended")
    assert lab.control(lab.nic) & (EVENT | ALLOWED) == ALLOWED
    assert not lab.root(express.PCI_EXP_RTSTA) & express.PCI_EXP_RTSTA_PME
    assert lab.root(express.PCI_EXP_RTCTL, 2) & express.PCI_EXP_RTCTL_PMEIE
    assert lab.log == []
    assert lab.raise_event(lab.nic)
    assert len(states) == 4


def test_the_program_is_told(lab: Switch) -> None:
    device = Device(lab, lab.nic)
    with EventFd() as wakeup:
        assert feature(device, WAKEUP | SET, struct.pack("=iI", wakeup.fileno(), 0)) == "0"
        assert (lab.state(lab.nic), wakeup.read()) == (("D3hot", "suspended"), 0)
        assert lab.raise_event(lab.nic)
        assert (lab.state(lab.nic), wakeup.read()) == (("D0", "active"), 1)  # and low power is over
        assert lab.raise_event(lab.nic)  # Linux lets it raise none while it is awake
        assert not lab.control(lab.nic) & ALLOWED
        assert wakeup.read() == 0
        assert feature(device, ENTRY | SET) == "0"
        lab.raise_event(lab.nic)
        assert (lab.state(lab.nic), wakeup.read()) == (("D3hot", "suspended"), 0)


def test_interrupts_name_the_service(lab: Switch) -> None:
    def count() -> int:
        (line,) = (text for text in lab.text("/proc/interrupts").splitlines() if f"-{lab.port} " in text)
        assert "PCIe PME, aerdrv, pciehp" in line
        return int(line.split()[1])

    before = count()
    lab.raise_event(lab.nic)
    assert count() == before + 1


def test_several_at_once_wait_for_each_other(lab: Switch) -> None:
    """Both are below one port, as far as that can tell: the second one's event is pending."""
    port, device = lab.hardware(lab.port), Device(lab, lab.nic)
    seen: list[int] = []
    with EventFd() as wakeup:
        assert feature(device, WAKEUP | SET, struct.pack("=iI", wakeup.fileno(), 0)) == "0"
        with lab.machine.lock:
            port.forward_power_event(0x7700)  # type: ignore[attr-defined]
            lab.hardware(lab.nic).raise_event()
            seen.append(lab.root(express.PCI_EXP_RTSTA))
            lab.machine.clock.settle()
        assert seen == [0x7700 | express.PCI_EXP_RTSTA_PME | express.PCI_EXP_RTSTA_PENDING]
        assert wakeup.read() == 1
    assert lab.root(express.PCI_EXP_RTSTA) & ~express.PCI_EXP_RTSTA_PME_RQ_ID == 0


def test_without_its_driver_nobody_is_woken(lab: Switch) -> None:
    device = Device(lab, lab.nic)
    with EventFd() as wakeup:
        assert feature(device, WAKEUP | SET, struct.pack("=iI", wakeup.fileno(), 0)) == "0"
        lab.write(f"{BUS}/drivers/pcieport/unbind", lab.port)
        assert not lab.root(express.PCI_EXP_RTCTL, 2) & express.PCI_EXP_RTCTL_PMEIE
        lab.raise_event(lab.nic)
        assert (lab.state(lab.nic), wakeup.read()) == (("D3hot", "suspended"), 0)
        assert lab.root(express.PCI_EXP_RTSTA) & express.PCI_EXP_RTSTA_PME
        lab.write(f"{BUS}/drivers/pcieport/bind", lab.port)  # old events are forgotten
        assert not lab.root(express.PCI_EXP_RTSTA) & express.PCI_EXP_RTSTA_PME


def test_an_event_of_nobody_is_said(lab: Switch) -> None:
    port = lab.hardware(lab.port)
    number = lab.hardware(lab.nic).rid
    with lab.machine.lock:
        port.forward_power_event(number)  # type: ignore[attr-defined]
        lab.machine.clock.settle()
        port.forward_power_event(number | 7)  # type: ignore[attr-defined]
        lab.machine.clock.settle()
    spurious = f"pcieport {lab.port}: PME: Spurious native interrupt!"
    nobody = f"pcieport {lab.port}: PME: interrupt generated for non-existent device {number >> 8:02x}:00.7"
    assert lab.log == [spurious, nobody, spurious]


def test_by_the_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    allocate = PciMsi.allocate

    def refuse(msi: PciMsi, *wanted: Any, **more: Any) -> int:
        if msi.device.driver is not None and msi.device.driver.name == "pcieport":
            raise fail(errno.ENOSPC)
        return allocate(msi, *wanted, **more)

    with monkeypatch.context() as none:
        none.setattr(PciMsi, "allocate", refuse)
        lab = Switch()
    device = Device(lab, lab.nic)
    with EventFd() as wakeup:
        assert feature(device, WAKEUP | SET, struct.pack("=iI", wakeup.fileno(), 0)) == "0"
        lab.raise_event(lab.nic)
        assert (lab.state(lab.nic), wakeup.read()) == (("D0", "active"), 1)
    assert not lab.hardware(lab.port).pin.asserted
    lab.host.close()


def test_behind_a_bridge_to_conventional_pci_all_are_asked() -> None:
    """The message has the name of device 0 there, whoever it was."""
    functions, name = lab_spec().pcie_functions, "0000:0a:01.0"
    port = next(one.behind for one in functions if one.model == "pcie-pci-bridge")
    made = Pcie(
        pcie_functions=[
            dataclasses.replace(one, options={**one.options, "power_events": True}) if one.id == port else one
            for one in functions
        ]
    )
    function, device = made.hardware(name), made.device(name)
    with made.machine.lock:
        at = function.config.add(PowerManagement(pme=regs.PCI_PM_CAP_PME_D3hot))
        function.added(PowerManagement(pme=regs.PCI_PM_CAP_PME_D3hot), at)
        function._found = None
        function.config.seal()
    if made.driver(name) is not None:
        made.write(f"{BUS}/devices/{name}/driver/unbind", name)
    made.write(f"{BUS}/devices/{name}/driver_override", "vfio-pci")
    made.write(f"{BUS}/drivers_probe", name)
    assert made.attr(name, "power_state") == "D3hot"
    woken: list[bool] = []
    function.on_power.append(lambda: woken.append(device.runtime.suspended))
    with made.machine.lock:
        assert function.raise_event()
        made.machine.clock.settle()
    assert woken == [False, False]
    made.host.close()


@pytest.mark.parametrize(
    ("model", "value", "cause"),
    [("xio3130-downstream", True, "end at root ports"), ("pcie-root-port", "yes", "is true or false")],
)
def test_what_a_machine_file_may_say(model: str, value: object, cause: str) -> None:
    behind = "up" if model.startswith("xio") else "0000:00"
    functions = [
        PcieFunctionSpec("ioh3420", "0000:00", "01.0", "root"),
        PcieFunctionSpec("x3130-upstream", "root", "00.0", "up"),
        PcieFunctionSpec(model, behind, "02.0", options={"power_events": value}),
    ]
    spec = MachineSpec(name="odd", architecture="x86_64", pcie_buses=[PcieBusSpec()], pcie_functions=functions)
    with pytest.raises(Misuse, match=cause):
        Machine(spec)
