"""The services of a PCI Express port: what of them ends when their drivers let them go, and begins again.

The port is that of an empty slot of native hotplug, so that nothing behind it misses its services meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from errno import EBUSY, EIO, ENODEV

import pytest

from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.backend import Backend
from pyvfio.devices import PciFunction
from pyvfio.pci.slot import SLOTS
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.expect import fails, let_pass
from pyvfio.testing.slot_hand import empty_slot, settles_in_time

SERVICES = "/sys/bus/pci_express"
PORTS = "/sys/bus/pci/drivers/pcieport"
HANDLERS = {"pcie_pme": "PCIe PME", "aer": "aerdrv", "pciehp": "pciehp"}
NUMBERS = {"pcie_pme": "001", "aer": "002", "pciehp": "004"}
MESSAGES = extended.PCI_ERR_ROOT_CMD_COR_EN | extended.PCI_ERR_ROOT_CMD_NONFATAL_EN | extended.PCI_ERR_ROOT_CMD_FATAL_EN


class Port:
    """A root port with the services of `HANDLERS` and an empty slot called `slot`."""

    def __init__(self, sysfs: Attributes, function: PciFunction, slot: str) -> None:
        self.sysfs, self.function, self.slot = sysfs, function, slot
        self.name = function.name

    def service(self, driver: str) -> str:
        return f"{self.name}:pcie{NUMBERS[driver]}"

    def driver(self, driver: str) -> str | None:
        return self.sysfs.link(f"{SERVICES}/devices/{self.service(driver)}/driver")

    def unbind(self, driver: str) -> None:
        self.sysfs.write(f"{SERVICES}/drivers/{driver}/unbind", self.service(driver))

    def bind(self, driver: str) -> None:
        self.sysfs.write(f"{SERVICES}/drivers/{driver}/bind", self.service(driver))

    def listens(self, driver: str) -> bool:
        """Whether the port interrupts for it.  Of ``pcie_pme`` nobody can tell where the bit is fixed, as in QEMU."""
        config = self.function.config
        capability = config.capability(regs.PCI_CAP_ID_EXP)
        assert capability is not None
        if driver == "aer":
            at = config.extended_capability(extended.PCI_EXT_CAP_ID_ERR)
            assert at is not None
            found = config.read_u32(at + extended.PCI_ERR_ROOT_COMMAND) & MESSAGES
            assert found in (0, MESSAGES)
            return found != 0
        register, bit = {
            "pcie_pme": (express.PCI_EXP_RTCTL, express.PCI_EXP_RTCTL_PMEIE),
            "pciehp": (express.PCI_EXP_SLTCTL, express.PCI_EXP_SLTCTL_HPIE),
        }[driver]
        return bool(config.read_u16(capability.offset + register) & bit)

    def handlers(self) -> set[str]:
        """Who handles the interrupts of the port, by ``/proc/interrupts``."""
        numbers = self.sysfs.backend.listdir(f"{self.function.path}/msi_irqs")
        found: set[str] = set()
        for line in self.sysfs.read("/proc/interrupts").splitlines():
            if line.partition(":")[0].strip() in numbers:
                found.update(name for name in HANDLERS.values() if name in line)
        return found


@pytest.fixture
def port(backend: Backend, sysfs: Attributes) -> Iterator[Port]:
    slot = empty_slot(backend)
    function = None if slot is None else slot.port
    if slot is None or function is None:
        pytest.skip("this host has no empty slot of native hotplug")
    found = Port(sysfs, function, slot.name)
    if {driver: found.driver(driver) for driver in HANDLERS} != {driver: driver for driver in HANDLERS}:
        pytest.skip("the port of the slot has not all services of a root port")
    yield found
    if function.driver is None:
        sysfs.write(f"{PORTS}/bind", found.name)
    for driver in HANDLERS:
        if found.driver(driver) is None:
            with contextlib.suppress(OSError):
                found.bind(driver)


@pytest.mark.parametrize("driver", HANDLERS)
def test_a_service_without_its_driver(port: Port, driver: str) -> None:
    others = {name for name in HANDLERS if name != driver}
    assert port.listens(driver) or driver == "pcie_pme"
    port.unbind(driver)
    assert port.driver(driver) is None
    assert not port.listens(driver)
    assert port.handlers() == {HANDLERS[name] for name in others}
    assert all(port.driver(name) == name for name in others)
    assert all(port.listens(name) for name in others - {"pcie_pme"})
    assert port.function.driver == "pcieport"
    port.bind(driver)
    assert port.driver(driver) == driver
    assert settles_in_time(port.sysfs.backend, lambda: port.listens(driver) or driver == "pcie_pme")
    assert port.handlers() == set(HANDLERS.values())


def test_all_of_them_leave_the_port_its_messages(port: Port) -> None:
    path = f"{port.function.path}/msi_irqs"
    numbers = port.sysfs.backend.listdir(path)
    for driver in HANDLERS:
        port.unbind(driver)
    assert port.handlers() == set()
    assert port.sysfs.backend.listdir(path) == numbers
    for driver in reversed(HANDLERS):
        port.bind(driver)
    assert port.handlers() == set(HANDLERS.values())
    assert port.sysfs.backend.listdir(path) == numbers


def test_the_slot_goes_and_comes(port: Port) -> None:
    path = f"{SLOTS}/{port.slot}"
    port.unbind("pciehp")
    assert not port.sysfs.exists(path)
    port.bind("pciehp")
    assert port.sysfs.read(f"{path}/adapter") == "0"


def test_what_is_refused(port: Port) -> None:
    with fails(EBUSY):
        port.bind("aer")
    for driver, service in (("aer", "pcie_pme"), ("pciehp", "aer")):
        for what in ("bind", "unbind"):
            with fails(ENODEV):
                port.sysfs.write(f"{SERVICES}/drivers/{driver}/{what}", port.service(service))
    port.unbind("aer")
    with fails(ENODEV):
        port.unbind("aer")
    with fails(ENODEV):
        port.sysfs.write(f"{SERVICES}/drivers/aer/bind", port.name)


def test_the_bus_finds_the_driver_again(port: Port) -> None:
    port.unbind("aer")
    port.sysfs.write(f"{SERVICES}/drivers_probe", port.service("aer"))
    assert port.driver("aer") == "aer"
    assert port.listens("aer")


def test_the_port_leaves_with_all_of_them(port: Port) -> None:
    port.unbind("aer")
    port.sysfs.write(f"{PORTS}/unbind", port.name)
    listed = port.sysfs.backend.listdir(f"{SERVICES}/devices")
    assert not [name for name in listed if name.startswith(port.name)]
    assert not any(port.listens(driver) for driver in HANDLERS)
    assert not port.sysfs.exists(f"{SLOTS}/{port.slot}")
    assert not port.sysfs.exists(f"{port.function.path}/msi_irqs")
    port.sysfs.write(f"{PORTS}/bind", port.name)
    assert all(port.driver(driver) == driver for driver in HANDLERS)
    assert port.handlers() == set(HANDLERS.values())
    assert port.sysfs.exists(f"{SLOTS}/{port.slot}")


def test_a_port_with_a_slot_stays_awake(port: Port) -> None:
    """Linux trusts no port that brings and takes cards with D3hot, unless firmware says so or it is Thunderbolt's."""
    power = f"{port.function.path}/power"
    assert port.sysfs.read(f"{power}/control") == "on"
    with fails(EIO):
        port.sysfs.read(f"{power}/autosuspend_delay_ms")
    try:
        port.sysfs.write(f"{power}/control", "auto")
        let_pass(port.sysfs.backend, 0.5)
        assert port.sysfs.read(f"{power}/runtime_status") == "active"
        assert port.sysfs.read(f"{port.function.path}/power_state") in ("D0", "unknown")
    finally:
        port.sysfs.write(f"{power}/control", "on")
