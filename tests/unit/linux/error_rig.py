"""A machine with ports, a switch and functions that report errors, and a driver that says what it is told to."""

from __future__ import annotations

import os
from typing import Any

from pci_fixture import BUS
from pcie_fixture import Pcie

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.pci.aer import AerError, Severity
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import MachineSpec, PcieBusSpec, PcieFunctionSpec
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.kernel_log import kernel_log
from pyvfio_backends.software.linux.pci import PciBus
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pci_driver import PciDriver, PciId, Recovery
from pyvfio_backends.software.machine import Machine

FIRST, SECOND = "0000:01:00.0", "0000:01:00.1"
"""Two functions behind the root port `PORT`."""
PORT = "0000:00:01.0"
CONTAINED, CONTAINING = "0000:02:00.0", "0000:00:02.0"
"""A function behind a root port that contains errors."""
SWITCH, UPSTREAM, DOWNSTREAM, OTHER = "0000:00:03.0", "0000:03:00.0", "0000:04:00.0", "0000:04:01.0"
LEFT, RIGHT = "0000:05:00.0", "0000:06:00.0"
"""Functions behind the two ports of a switch."""
_SPEC = [
    ("q35-host", "0000:00", "00.0", "", {}),
    ("pcie-root-port", "0000:00", "01.0", "port", {}),
    ("virtio-net-pci", "port", "00.0", "", {}),
    ("virtio-net-pci", "port", "00.1", "", {}),
    ("pcie-root-port", "0000:00", "02.0", "containing", {"containment": True}),
    ("virtio-net-pci", "containing", "00.0", "", {}),
    ("ioh3420", "0000:00", "03.0", "root", {}),
    ("x3130-upstream", "root", "00.0", "up", {}),
    ("xio3130-downstream", "up", "00.0", "left", {}),
    ("xio3130-downstream", "up", "01.0", "right", {}),
    ("virtio-net-pci", "left", "00.0", "", {}),
    ("virtio-net-pci", "right", "00.0", "", {}),
]


class Answers(PciDriver):
    """A driver of all functions here: `said` are its answers by function and question, `asked` what it was asked."""

    table = (PciId(class_code=0x020000, class_mask=0xFF0000),)

    def __init__(self, bus: PciBus, name: str = "answers") -> None:
        super().__init__(bus, name)
        self.said: dict[tuple[str, str], Recovery] = {}
        self.asked: list[tuple[str, str, str]] = []

    def probe(self, device: Device) -> None:
        assert isinstance(device, PciDevice)
        device.enable()
        device.set_master(True)

    def remove(self, device: Device) -> None:
        assert isinstance(device, PciDevice)
        device.disable()

    def _ask(self, device: PciDevice, question: str, usual: Recovery) -> Recovery:
        self.asked.append((device.name, question, device.error_state.value))
        return self.said.get((device.name, question), usual)

    def error_detected(self, device: PciDevice) -> Recovery:
        return self._ask(device, "error_detected", Recovery.CAN_RECOVER)

    def mmio_enabled(self, device: PciDevice) -> Recovery | None:
        return self._ask(device, "mmio_enabled", Recovery.RECOVERED)

    def slot_reset(self, device: PciDevice) -> Recovery:
        return self._ask(device, "slot_reset", Recovery.RECOVERED)

    def resume(self, device: PciDevice) -> None:
        """Drivers set their devices up again; of that, reporting of errors."""
        self._ask(device, "resume", Recovery.RECOVERED)
        if device.aer is not None:
            device.aer.start()


class Deaf(PciDriver):
    """A driver that knows nothing of errors."""

    table = ()


class Errors(Pcie):
    """The machine; the driver `answers` has all functions that are no ports."""

    def __init__(self, **machine: Any) -> None:
        functions = [
            PcieFunctionSpec(model, behind, at, name, options=options) for model, behind, at, name, options in _SPEC
        ]
        modules = ("vfio", "vfio_iommu_type1", "vfio_pci", "aer_inject")
        spec = MachineSpec(
            name="errors",
            architecture="x86_64",
            memory=512 << 20,
            modules=modules,
            pcie_buses=[PcieBusSpec()],
            pcie_functions=functions,
            **machine,
        )
        self.machine = Machine(spec)
        self.kernel = self.machine.kernel
        self.host = SoftwareBackend(self.machine)
        self.complex = self.machine.pcie
        bus = self.kernel.buses["pci"]
        assert isinstance(bus, PciBus)
        self.bus = bus
        self.answers, self.deaf = Answers(bus), Deaf(bus, "deaf")
        with self.machine.lock:
            bus.register(self.answers)
            bus.register(self.deaf)
        self.events = self.host.uevents()
        self.booted = len(kernel_log(self.kernel).lines)

    def give(self, name: str, driver: str) -> None:
        """Give a function to another driver."""
        self.write(f"{BUS}/drivers/{self.answers.name}/unbind", name)
        self.write(f"{BUS}/devices/{name}/driver_override", driver)
        self.write(f"{BUS}/drivers_probe", name)

    def inject(self, name: str, *errors: str | AerError, **more: Any) -> None:
        self.machine.errors.inject(name, *errors, **more)

    def counters(self, name: str, severity: Severity) -> dict[str, int]:
        """Those that are not 0, without the total."""
        lines = (line.rsplit(None, 1) for line in self.attr(name, f"aer_dev_{severity.value}").splitlines())
        return {what: int(count) for what, count in lines if int(count) and not what.startswith("TOTAL")}

    def messages(self, port: str) -> tuple[int, int, int]:
        """Correctable, non-fatal and fatal ones that came to a root port."""
        names = ("cor", "nonfatal", "fatal")
        cor, nonfatal, fatal = (int(self.attr(port, f"aer_rootport_total_err_{name}")) for name in names)
        return cor, nonfatal, fatal

    def told(self) -> list[tuple[str, str]]:
        """The events of recovery since the last look."""
        return [
            (event.name, event.properties["ERROR_EVENT"]) for event in self.seen() if "ERROR_EVENT" in event.properties
        ]

    def register(self, name: str, register: int) -> int:
        """A register of AER, of the hardware."""
        function = self.hardware(name)
        at = function.offset(extended.PCI_EXT_CAP_ID_ERR, extended=True)
        assert at is not None
        return function.config.read(at + register, 4)

    def set_register(self, name: str, register: int, value: int) -> None:
        function = self.hardware(name)
        at = function.offset(extended.PCI_EXT_CAP_ID_ERR, extended=True)
        assert at is not None
        function.config.write(at + register, 4, value)

    @property
    def log(self) -> list[str]:
        """What the kernel has said since it was booted."""
        return kernel_log(self.kernel).lines[self.booted :]

    def write_node(self, path: str, data: bytes) -> int:
        fd = self.host.open(path, os.O_WRONLY)
        try:
            return self.host.write(fd, data)
        finally:
            self.host.close(fd)
