"""The machine `lab-x86`, its files, and vfio-pci requests as Python calls."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

from pci_fixture import BUS, Pci

from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import MachineSpec
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.loader import load_machine, machine_files
from pyvfio_backends.software.machine import Machine

EDU, NVME, BEHIND_BRIDGE = "0000:00:06.0", "0000:04:00.0", "0000:0a:01.0"


@cache
def lab_spec() -> MachineSpec:
    return load_machine(machine_files()["lab-x86"])


class Pcie(Pci):
    """The machine; `machine_changes` are fields of its description."""

    def __init__(self, **machine_changes: Any) -> None:
        self.machine = Machine(dataclasses.replace(lab_spec(), **machine_changes))
        self.kernel = self.machine.kernel
        self.host = SoftwareBackend(self.machine)
        self.events = self.host.uevents()
        self.complex = self.machine.pcie

    def hardware(self, name: str) -> Function:
        """What answers at the address of a function."""
        segment, bus, rest = name.split(":")
        device, number = rest.split(".")
        found = self.complex.function(int(segment, 16), int(bus, 16) << 8 | int(device, 16) << 3 | int(number))
        assert found is not None
        return found

    def device(self, name: str) -> PciDevice:
        """What Linux has of a function."""
        found = self.kernel.buses["pci"].devices[name]
        assert isinstance(found, PciDevice)
        return found

    def group_of(self, name: str) -> int:
        return int(self.host.readlink(f"{BUS}/devices/{name}/iommu_group").rsplit("/", 1)[-1])
