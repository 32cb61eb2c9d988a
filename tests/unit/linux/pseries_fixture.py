"""The machine `power9-pseries`."""

from __future__ import annotations

import dataclasses
from typing import Any

from pcie_fixture import Pcie
from pnv_fixture import power_spec

from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.hardware.spapr.hypervisor import Hypervisor, LogicalBridges
from pyvfio_backends.software.hardware.spapr.phb import LogicalPhb
from pyvfio_backends.software.linux.pci import PciBus
from pyvfio_backends.software.linux.pseries_boot import HYPERVISOR
from pyvfio_backends.software.linux.pseries_function import PseriesFunction
from pyvfio_backends.software.linux.pseries_host import PseriesHostBridge
from pyvfio_backends.software.linux.pseries_table_group import PseriesTableGroup
from pyvfio_backends.software.machine import Machine

E1000E, EDU, NVME, TESTDEV = "0001:00:01.0", "0001:00:02.0", "0001:00:03.0", "0002:00:01.0"


class Pseries(Pcie):
    """The machine; `machine_changes` are fields of its description."""

    def __init__(self, **machine_changes: Any) -> None:
        self.machine = Machine(dataclasses.replace(power_spec("power9-pseries"), **machine_changes))
        self.kernel = self.machine.kernel
        self.host = SoftwareBackend(self.machine)
        self.events = self.host.uevents()
        self.complex = self.machine.pcie

    def phb(self, domain: int) -> LogicalPhb:
        """The host bridge of a domain."""
        assert isinstance(self.machine.pcie, LogicalBridges)
        return self.machine.pcie.phbs[domain]

    @property
    def hypervisor(self) -> Hypervisor:
        """The hypervisor."""
        return self.kernel.subsystems[HYPERVISOR]

    def bridge(self, domain: int) -> PseriesHostBridge:
        """What Linux has of a host bridge."""
        bus = self.kernel.buses["pci"]
        assert isinstance(bus, PciBus)
        found = next(one for one in bus.bridges if one.domain == domain)
        assert isinstance(found, PseriesHostBridge)
        return found

    def function(self, name: str) -> PseriesFunction:
        """What Linux has behind a device."""
        found = self.device(name).sysdata
        assert isinstance(found, PseriesFunction)
        return found

    def tables(self, domain: int) -> PseriesTableGroup:
        """The table group of a domain."""
        found = self.bridge(domain).group.table_group
        assert isinstance(found, PseriesTableGroup)
        return found
