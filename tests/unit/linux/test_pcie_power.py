"""Functions that nobody uses sleep, and a program can leave its own alone for a while.

Expected values are what Linux 6.12.107 answered for the same requests on the x86 lab's machine, of its e1000e.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from error_rig import FIRST, Errors
from pci_fixture import BUS, VFIO, Device, errno_of
from pcie_fixture import Pcie

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_feature
from pyvfio.process import EventFd

NIC, EDU = "0000:41:00.0", "0000:02:00.0"
ENTRY = vfio_feature.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY
WAKEUP = vfio_feature.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP
EXIT = vfio_feature.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT
SET, GET, PROBE = abi.VFIO_DEVICE_FEATURE_SET, abi.VFIO_DEVICE_FEATURE_GET, abi.VFIO_DEVICE_FEATURE_PROBE
ASLEEP, AWAKE = ("D3hot", "suspended", "auto"), ("D0", "active", "auto")
PM = 0xC8


def bind(lab: Pcie, name: str) -> None:
    if lab.driver(name) is not None:
        lab.write(f"{BUS}/devices/{name}/driver/unbind", name)
    lab.write(f"{BUS}/devices/{name}/driver_override", "vfio-pci")
    lab.write(f"{BUS}/drivers_probe", name)


def state(lab: Pcie, name: str = NIC) -> tuple[str, ...]:
    return tuple(lab.attr(name, path) for path in ("power_state", "power/runtime_status", "power/control"))


def feature(device: Device, flags: int, data: bytes = b"") -> str:
    room = bytearray(struct.pack("=II", 8 + len(data), flags) + data)
    return errno_of(device.host.ioctl, device.fd, abi.VFIO_DEVICE_FEATURE, room)


@pytest.fixture
def lab() -> Iterator[Pcie]:
    made = Pcie()
    for name in (NIC, EDU):
        bind(made, name)
    yield made
    made.host.close()


@pytest.fixture
def nic(lab: Pcie) -> Device:
    device = Device(lab, NIC)
    device.write(b"\x06\x00", regs.PCI_COMMAND)
    return device


def test_who_is_not_open_sleeps(lab: Pcie) -> None:
    assert state(lab) == ASLEEP
    assert state(lab, EDU) == ("D0", "suspended", "auto")  # it has no power management
    assert lab.config(NIC, 0, 8) == "8680d31007007000"[:8] + lab.config(NIC, 4, 4)
    assert state(lab) == ASLEEP  # configuration space is read without waking it
    device = Device(lab, NIC)
    assert state(lab) == AWAKE
    device.close()
    assert state(lab) == ASLEEP


def test_a_reset_by_its_file_wakes_it_meanwhile(lab: Pcie) -> None:
    seen: list[str] = []
    lab.hardware(NIC).on_reset.append(lambda: seen.append(lab.attr(NIC, "power_state")))
    lab.write(f"{BUS}/devices/{NIC}/reset", "1")
    assert "D0" in seen
    assert state(lab) == ASLEEP


def test_control_keeps_it_awake(lab: Pcie) -> None:
    path = f"{BUS}/devices/{NIC}/power"
    lab.write(f"{path}/control", "on")
    assert state(lab) == ("D0", "active", "on")
    assert errno_of(lab.write, f"{path}/control", "offff") == "EINVAL"
    lab.write(f"{path}/control", "auto\n")
    assert state(lab) == ASLEEP
    assert errno_of(lab.text, f"{path}/autosuspend_delay_ms") == "EIO"
    assert sorted(lab.host.listdir(path)) == sorted(
        ["autosuspend_delay_ms", "control", "runtime_active_time", "runtime_status", "runtime_suspended_time"]
    )


def test_without_driver_it_is_called_suspended_and_nothing_else(lab: Pcie) -> None:
    lab.write(f"{VFIO}/unbind", NIC)
    assert state(lab) == ("unknown", "active", "on")
    lab.write(f"{BUS}/devices/{NIC}/power/control", "auto")
    assert state(lab) == ("unknown", "suspended", "auto")
    lab.write(f"{BUS}/devices/{NIC}/power/control", "on")
    lab.write(f"{BUS}/devices/{NIC}/enable", "1")
    assert state(lab) == ("D0", "active", "on")


def test_what_people_allowed_outlives_a_driver() -> None:
    """vfio-pci alone forbids it again (``vfio_pci_core_unregister_device``); ``pci_device_remove`` does not."""
    lab, name = Errors(), FIRST
    path = f"{BUS}/devices/{name}/power/control"
    lab.write(path, "auto")
    assert state(lab, name) == ("D0", "active", "auto")  # its driver does not manage power here
    lab.write(f"{BUS}/drivers/answers/unbind", name)
    assert state(lab, name) == ("unknown", "suspended", "auto")
    lab.write(f"{BUS}/drivers/answers/bind", name)
    assert state(lab, name) == ("D0", "active", "auto")
    lab.host.close()


def test_the_parameter_is_looked_at_when_the_module_is_loaded(lab: Pcie) -> None:
    path = "/sys/module/vfio_pci/parameters/disable_idle_d3"
    assert lab.text(path) == "N\n"
    lab.write(path, "Y")
    assert lab.text(path) == "Y\n"
    lab.write(f"{VFIO}/unbind", NIC)
    bind(lab, NIC)
    assert state(lab) == ASLEEP


def test_times_go_on(lab: Pcie) -> None:
    path = f"{BUS}/devices/{NIC}/power"
    lab.machine.clock.advance(2.5)
    asleep = int(lab.text(f"{path}/runtime_suspended_time"))
    lab.machine.clock.advance(1)
    assert int(lab.text(f"{path}/runtime_suspended_time")) == asleep + 1000
    active = int(lab.text(f"{path}/runtime_active_time"))
    device = Device(lab, NIC)
    lab.machine.clock.advance(3)
    assert int(lab.text(f"{path}/runtime_active_time")) >= active + 3000
    device.close()


def test_an_access_wakes_it_for_as_long_as_it_takes(lab: Pcie, nic: Device) -> None:
    assert feature(nic, ENTRY | PROBE | SET) == "0"
    assert feature(nic, ENTRY | GET) == feature(nic, ENTRY) == "EINVAL"
    assert feature(nic, ENTRY | SET) == "0"
    assert state(lab) == ASLEEP
    assert nic.read(4, 0).hex() == "8680d310"
    assert state(lab) == ASLEEP
    assert feature(nic, ENTRY | SET) == "EINVAL"
    assert nic.host.ioctl(nic.fd, abi.VFIO_DEVICE_RESET) == 0
    assert state(lab) == ASLEEP
    assert feature(nic, EXIT | SET) == "0"
    assert state(lab) == AWAKE
    assert feature(nic, EXIT | SET) == "0"
    assert nic.read(2, regs.PCI_COMMAND).hex() == "0600"


def test_the_program_is_told_of_what_wakes_it(lab: Pcie, nic: Device) -> None:
    with EventFd() as wakeup:
        ask = struct.pack("=iI", wakeup.fileno(), 0)
        assert feature(nic, WAKEUP | SET, bytes(4)) == "EINVAL"
        assert feature(nic, WAKEUP | SET, struct.pack("=iI", -1, 0)) == "EINVAL"
        assert feature(nic, WAKEUP | SET, struct.pack("=iI", 999, 0)) == "EBADF"
        assert feature(nic, WAKEUP | SET, ask) == "0"
        assert (state(lab), wakeup.read()) == (ASLEEP, 0)
        assert nic.read(4, 0).hex() == "8680d310"
        assert (state(lab), wakeup.read()) == (AWAKE, 1)  # and low power is over
        assert nic.read(4, 0).hex() == "8680d310"
        assert wakeup.read() == 0
        assert feature(nic, WAKEUP | SET, ask) == "0"
        assert lab.config(NIC, 0, 4) == "8680d310"
        assert (state(lab), wakeup.read()) == (ASLEEP, 0)
        assert feature(nic, EXIT | SET) == "0"
        assert (state(lab), wakeup.read()) == (AWAKE, 1)


def test_a_state_that_the_program_chose_is_left_for_sleep(lab: Pcie, nic: Device) -> None:
    nic.write(b"\3\0", PM + regs.PCI_PM_CTRL)
    assert state(lab) == ("D3hot", "active", "auto")
    assert nic.read(2, PM + regs.PCI_PM_CTRL).hex() == "0300"
    assert errno_of(nic.read, 4, 0, 0) == "EIO"
    assert nic.read(2, regs.PCI_COMMAND).hex() == "0600"
    assert feature(nic, ENTRY | SET) == "0"
    assert state(lab) == ASLEEP
    assert nic.read(2, PM + regs.PCI_PM_CTRL).hex() == "0000"
    assert feature(nic, EXIT | SET) == "0"
    assert state(lab) == AWAKE
    nic.write(b"\3\0", PM + regs.PCI_PM_CTRL)
    assert nic.host.ioctl(nic.fd, abi.VFIO_DEVICE_RESET) == 0
    assert state(lab) == AWAKE
    nic.write(b"\3\0", PM + regs.PCI_PM_CTRL)
    nic.write(b"\0\0", PM + regs.PCI_PM_CTRL)
    assert nic.read(2, regs.PCI_COMMAND).hex() == "0600"  # it had reset itself, and got everything back


def test_closing_ends_low_power(lab: Pcie, nic: Device) -> None:
    with EventFd() as wakeup:
        assert feature(nic, WAKEUP | SET, struct.pack("=iI", wakeup.fileno(), 0)) == "0"
        nic.close()
        assert state(lab) == ASLEEP
        again = Device(lab, NIC)
        assert state(lab) == AWAKE
        again.close()


def test_a_pin_is_masked_while_its_function_sleeps(lab: Pcie) -> None:
    """``pm_intx_masked`` in ``vfio_pci_core.c``: what was let through before is let through again."""
    device = Device(lab, EDU)
    with EventFd() as fired:
        device.eventfds(abi.VFIO_PCI_INTX_IRQ_INDEX, 0, fired.fileno())
        disabled = regs.PCI_COMMAND_INTX_DISABLE
        assert not lab.device(EDU).command & disabled
        assert feature(device, ENTRY | SET) == "0"
        assert lab.device(EDU).command & disabled
        assert feature(device, EXIT | SET) == "0"
        assert not lab.device(EDU).command & disabled
        mask = abi.VFIO_IRQ_SET_DATA_NONE | abi.VFIO_IRQ_SET_ACTION_MASK
        device.set_irqs(mask, abi.VFIO_PCI_INTX_IRQ_INDEX, 0, 1)
        assert feature(device, ENTRY | SET) == "0"
        assert feature(device, EXIT | SET) == "0"
        assert lab.device(EDU).command & disabled  # the program's own mask stays
    device.close()


def test_enabling_a_function_lets_its_pin_interrupt() -> None:
    """``do_pci_enable_device`` in ``drivers/pci/pci.c``: not while it has messages."""
    lab = Pcie()
    device, path = lab.device("0000:00:06.0"), f"{BUS}/devices/0000:00:06.0/enable"
    assert device.enable_count == 0
    device.set_intx(False)
    lab.write(path, "1")
    assert not device.command & regs.PCI_COMMAND_INTX_DISABLE
    lab.write(path, "0")
    with lab.machine.lock:
        device.msi.allocate(1, 1, msix=False)
    device.set_intx(False)
    lab.write(path, "1")
    assert device.command & regs.PCI_COMMAND_INTX_DISABLE
    lab.host.close()
