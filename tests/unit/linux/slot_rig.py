"""A machine with one slot, which has these features or not, and what a test sees of it."""

from __future__ import annotations

import errno
import os

from pyvfio.errors import Misuse
from pyvfio.pci.slot_state import SlotEvent
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import MachineSpec, PcieBusSpec, PcieFunctionSpec
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.linux.kernel_log import kernel_log
from pyvfio_backends.software.linux.pciehp import Controller, SlotPhase
from pyvfio_backends.software.linux.pcieport import PortDriver
from pyvfio_backends.software.machine import Machine
from pyvfio_backends.software.pcie_slots import Card, MachineSlot

NUMBER, ADDRESS = "7", "0000:01:00"
SLOT = f"/sys/bus/pci/slots/{NUMBER}"
FUNCTION = f"/sys/bus/pci/devices/{ADDRESS}.0"


def slot_spec(**features: bool) -> MachineSpec:
    return MachineSpec(
        name="one-slot",
        architecture="x86_64",
        memory=0x40000000,
        modules=["vfio", "vfio_iommu_type1", "vfio_pci"],
        pcie_buses=[PcieBusSpec()],
        pcie_functions=[
            PcieFunctionSpec("q35-host", "0000:00"),
            PcieFunctionSpec(
                "pcie-root-port", "0000:00", at="01.0", id="port", slot=int(NUMBER), options=dict(features)
            ),
        ],
    )


class SlotRig:
    """The machine; `events` are the hardware's, with their time."""

    def __init__(self, **features: bool) -> None:
        self.adopt(Machine(slot_spec(**features)))

    def adopt(self, machine: Machine) -> None:
        """Look at this machine."""
        self.machine = machine
        self.host = SoftwareBackend(self.machine)
        self.slots = self.machine.slots
        self.uevents = self.host.uevents()
        self.events: list[tuple[float, str]] = []
        self.slots.subscribe(self._note)
        self.log = kernel_log(self.machine.kernel)
        self.log.records.clear()

    def _note(self, slot: MachineSlot, event: SlotEvent) -> None:
        self.events.append((round(self.machine.clock.now, 2), str(event)))

    @property
    def controller(self) -> Controller:
        driver = self.machine.kernel.buses["pci"].drivers["pcieport"]
        assert isinstance(driver, PortDriver)
        return next(iter(driver.hotplug.controllers.values()))

    @property
    def phase(self) -> SlotPhase:
        return self.controller.phase

    @property
    def slot(self) -> MachineSlot:
        return self.slots.find("port")

    # what people do

    def plug(self, card: Card = "e1000e", *, press: bool = False) -> dict[int, Function]:
        return self.slots.plug("port", card, press=press)

    def try_plug(self, card: Card = "e1000e") -> bool:
        try:
            self.plug(card)
        except Misuse:
            return False
        return True

    def try_pull(self) -> bool:
        try:
            self.slots.pull("port")
        except Misuse:
            return False
        return True

    def pass_time(self, seconds: float) -> None:
        self.machine.clock.advance(seconds)

    def on(self) -> None:
        """Have a card in it, with power and functions."""
        self.plug(press=self.slot.state.button)
        self.pass_time(1)
        assert self.phase is SlotPhase.ON

    # sysfs

    def read(self, name: str) -> str:
        fd = self.host.open(f"{SLOT}/{name}", os.O_RDONLY)
        try:
            return self.host.read(fd, 100).decode().strip()
        finally:
            self.host.close(fd)

    def write(self, name: str, text: str, path: str = SLOT) -> int:
        """0 or the errno."""
        fd = self.host.open(f"{path}/{name}", os.O_WRONLY)
        try:
            self.host.write(fd, text.encode())
        except OSError as error:
            return error.errno or errno.EIO
        finally:
            self.host.close(fd)
        return 0

    def there(self, path: str = FUNCTION) -> bool:
        try:
            self.host.stat(path)
        except FileNotFoundError:
            return False
        return True

    def told(self) -> list[str]:
        """The uevents of functions that came since the last look: action and address."""
        found = []
        while (event := self.uevents.read(0)) is not None:
            if event.subsystem == "pci" and event.action in ("add", "remove"):
                found.append(f"{event.action} {event.name}")
        return found

    def lines(self) -> list[str]:
        """What the log has got since the last look, without whom it is about."""
        found = [line.partition("pciehp: ")[2] for line in self.log.lines if "pciehp: " in line]
        self.log.records.clear()
        return found

    def close(self) -> None:
        self.host.close()
