"""The machine `lab-ppc64`, its files, and vfio-pci requests as Python calls."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from typing import Any

from pcie_fixture import Pcie

from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import MachineSpec
from pyvfio_backends.software.hardware.ioda.hub import Hub
from pyvfio_backends.software.hardware.ioda.opal import Opal
from pyvfio_backends.software.hardware.ioda.phb import Phb
from pyvfio_backends.software.linux.pci import PciBus
from pyvfio_backends.software.linux.pnv_boot import OPAL
from pyvfio_backends.software.linux.pnv_function import PnvFunction
from pyvfio_backends.software.linux.pnv_host import PnvHostBridge
from pyvfio_backends.software.linux.pnv_pe import PnvPe
from pyvfio_backends.software.loader import load_machine, machine_files
from pyvfio_backends.software.machine import Machine
from pyvfio_fixtures import golden

NVME, E1000E, EDU = "0002:01:00.0", "0003:01:00.0", "0004:01:00.0"


@cache
def power_spec(name: str) -> MachineSpec:
    """The description of a machine of POWER."""
    return load_machine(machine_files()[name])


@cache
def recorded() -> dict[str, Any]:
    """What the POWER lab's kernel showed of itself."""
    found: dict[str, Any] = json.loads(golden("ppc64/lab/platform.json").read_text())
    return found


class Pnv(Pcie):
    """The machine called `name`; `machine_changes` are fields of its description."""

    def __init__(self, name: str = "lab-ppc64", **machine_changes: Any) -> None:
        self.machine = Machine(dataclasses.replace(power_spec(name), **machine_changes))
        self.kernel = self.machine.kernel
        self.host = SoftwareBackend(self.machine)
        self.events = self.host.uevents()
        self.complex = self.machine.pcie

    def phb(self, domain: int) -> Phb:
        """The host bridge of a domain."""
        assert isinstance(self.machine.pcie, Hub)
        return self.machine.pcie.phbs[domain]

    @property
    def opal(self) -> Opal:
        """The firmware."""
        return self.kernel.subsystems[OPAL]

    def bridge(self, domain: int) -> PnvHostBridge:
        """What Linux has of a host bridge."""
        bus = self.kernel.buses["pci"]
        assert isinstance(bus, PciBus)
        found = next(one for one in bus.bridges if one.domain == domain)
        assert isinstance(found, PnvHostBridge)
        return found

    def function(self, name: str) -> PnvFunction:
        """What Linux has behind a device."""
        found = self.device(name).sysdata
        assert isinstance(found, PnvFunction)
        return found

    def pe(self, name: str) -> PnvPe:
        """The endpoint of a device."""
        found = self.function(name).pe
        assert found is not None
        return found
