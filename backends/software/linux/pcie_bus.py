"""The buses below a PCI Express root complex: ``/sys/devices/pciDDDD:BB`` and what is behind each bridge.

Numbers and addresses are those that firmware gave (``drivers/pci/probe.c``, 6.12: `pci_scan_child_bus`,
`pci_scan_slot`, `pci_scan_bridge`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_express_regs as express_regs
from pyvfio.abi import pci_extended_regs as extended_regs
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.address import PciAddress
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.numa import NO_NODE
from pyvfio_backends.software.linux.pci_acs import enable_acs
from pyvfio_backends.software.linux.pci_bus_device import PciBusDevice
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pci_host import PciHostBridge
from pyvfio_backends.software.linux.pcie_assign import assign_behind, assign_bus
from pyvfio_backends.software.linux.pcie_function import PcieFunction
from pyvfio_backends.software.linux.pcie_numbers import add_bridge, scan_bridges
from pyvfio_backends.software.linux.pcie_sizing import hotplugs
from pyvfio_backends.software.linux.pcie_type import express_type

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.function import Function
    from pyvfio_backends.software.hardware.pcie.root_complex import RootBus, RootComplex
    from pyvfio_backends.software.linux.irq_line import IrqLine
    from pyvfio_backends.software.linux.msi_domain import MsiDomain
    from pyvfio_backends.software.linux.of_node import OfNode
    from pyvfio_backends.software.linux.pci import PciBus
    from pyvfio_backends.software.linux.pcie_iommu import PcieIommu
    from pyvfio_backends.software.linux.resource import Resource

__all__ = ["PcieBus", "PcieHostBridge", "Pins"]

_DEVFNS = 0x100
_FUNCTIONS = 8
_NOBODY = (0xFFFFFFFF, 0, 0x0000FFFF, 0xFFFF0000)


class Pins(Protocol):
    """Where the interrupt pins below a root lead."""

    def line(self, number: int) -> IrqLine:
        """A line by its number."""

    def number(self, function: PcieFunction) -> int:
        """The number that Linux has for the pin of a function, 0 without one."""


class PcieBus:
    """A bus (``struct pci_bus``) with its `number`; `above` is the bridge that it is behind, None for a root bus.

    `ari`: its one device has functions beyond the eighth, and the port above forwards to them.
    """

    def __init__(self, bridge: PcieHostBridge, number: int, parent: Device, above: PcieFunction | None = None) -> None:
        self.bridge = bridge
        self.number = number
        self.parent = parent
        self.above = above
        self.ari = False
        self.functions: dict[int, PcieFunction] = {}
        self.device = PciBusDevice(parent, bridge.domain, number, bridge.bus, self.rescan, bridge.numa_node)
        self.device.find_node = lambda: bridge.bus_node(self)

    def devices(self) -> list[PciDevice]:
        """The devices that are there, in the order in which they were found."""
        return [one.pdev for one in self.functions.values() if one.pdev is not None]

    @property
    def last(self) -> int:
        """The last bus number that is for this bus and what is behind it."""
        if self.above is not None:
            return self.above.config_read(bridge_regs.PCI_SUBORDINATE_BUS, 1)
        return self.bridge.last if self is self.bridge.root else self.number

    @property
    def has_slot(self) -> bool:
        """Whether the bus is a slot that its port can reset (``pciehp_reset_slot``)."""
        port = self.above.pdev if self.above is not None else None
        return port is not None and port.driver is not None and hotplugs(port)

    def walk(self) -> Iterator[PcieFunction]:
        """All functions here, each bridge before what is behind it."""
        for function in tuple(self.functions.values()):
            yield function
            if function.subordinate is not None:
                yield from function.subordinate.walk()

    def found(self) -> Iterator[PcieFunction]:
        """All functions, those of a bus before what is behind its bridges: as they were found."""
        yield from tuple(self.functions.values())
        for function in tuple(self.functions.values()):
            if function.subordinate is not None:
                yield from function.subordinate.found()

    def rescan(self) -> None:
        """Find what is new here and behind, and give it addresses; then drivers are sought (``pci_rescan_bus``)."""
        empty = not self.devices()
        self.scan(quiet=False)
        if empty and self.above is not None:
            assign_behind(self)
        else:
            assign_bus(self)
        self.seek_drivers()

    def rescan_behind(self) -> None:
        """Find what came into the slot of the port above, and give it numbers and addresses.

        ``pciehp_configure_device``: a bridge gets what is left of the numbers that the port has (`pci_hp_add_bridge`).
        """
        self._scan_slots(quiet=False)
        for function in self._bridges():
            if function.subordinate is None:
                add_bridge(self, function, self.number, self.last - self.number, quiet=False)
        assign_behind(self)
        self.seek_drivers()

    def seek_drivers(self) -> None:
        """Seek drivers for the devices here, then for those behind bridges (``pci_bus_add_devices``)."""
        bus = self.bridge.bus
        known = tuple(self.functions.values())
        for function in known:
            if function.pdev is not None and not function.added:
                function.added = True
                self.bridge.device_added(function)
                if bus.autoprobe:
                    bus.probe(function.pdev)
        for function in known:
            if function.pdev is not None and function.subordinate is not None:
                function.subordinate.seek_drivers()

    def scan(self, *, quiet: bool, spare: int = 0) -> int:
        """Find the devices of this bus, then those behind its bridges; the last number behind it.

        A bridge without a number gets the next one, and of the `spare` ones those with a slot get equal shares
        (``pci_scan_child_bus_extend``).  No drivers are sought yet.
        """
        self._scan_slots(quiet=quiet)
        return scan_bridges(self, self._bridges(), spare, quiet=quiet)

    def _scan_slots(self, *, quiet: bool) -> None:
        for slot in range(0, _FUNCTIONS if self._one_child else _DEVFNS, _FUNCTIONS):
            self._scan_slot(slot, quiet=quiet)

    def _bridges(self) -> list[PcieFunction]:
        return [one for one in self.functions.values() if one.pdev is not None and one.pdev.is_bridge]

    def add_child(self, function: PcieFunction, number: int, *, quiet: bool) -> PcieBus:
        """The bus behind a bridge on this one, new to Linux."""
        assert function.pdev is not None
        child = function.subordinate = PcieBus(self.bridge, number, function.pdev, function)
        self.bridge.bus.kernel.add_class_device(child.device, quiet=quiet)
        return child

    @property
    def _one_child(self) -> bool:
        """Whether there is but one device, below a port with a link (``only_one_child``)."""
        device = self.above.pdev if self.above is not None else None
        return device is not None and express_type(device) in (ExpressType.ROOT_PORT, ExpressType.DOWNSTREAM)

    def _scan_slot(self, slot: int, *, quiet: bool) -> None:
        """The functions of one device: one after the other, or as each names the next (ARI)."""
        first = self._find(slot, quiet=quiet)
        if first is None:
            return
        if slot == 0:
            self._configure_ari(first)
        if self.ari:
            at = slot
            while following := self._next(at):
                if following <= at:
                    return
                at = following
                self._find(at, quiet=quiet, multifunction=True)
        elif first.multifunction:
            for devfn in range(slot + 1, slot + _FUNCTIONS):
                self._find(devfn, quiet=quiet, multifunction=True)

    def _next(self, devfn: int) -> int:
        device = self.functions[devfn].pdev if devfn in self.functions else None
        at = device.find_extended_capability(extended_regs.PCI_EXT_CAP_ID_ARI) if device is not None else 0
        return device.read_config(at + extended_regs.PCI_ARI_CAP + 1, 1) if device is not None and at else 0

    def _configure_ari(self, device: PciDevice) -> None:
        """Have the port above forward to all functions of a device that has ARI (``pci_configure_ari``)."""
        port = self.above.pdev if self.above is not None else None
        if port is None or not port.express:
            return
        able = port.read_config(port.express + express_regs.PCI_EXP_DEVCAP2, 4) & express_regs.PCI_EXP_DEVCAP2_ARI
        if not able or not self._one_child:
            return
        self.ari = bool(device.find_extended_capability(extended_regs.PCI_EXT_CAP_ID_ARI))
        if self.ari and device.sriov is not None:
            device.sriov.use_ari()
        at = port.express + regs.PCI_EXP_DEVCTL2
        control = port.read_config(at, 2) & ~regs.PCI_EXP_DEVCTL2_ARI
        port.write_config(at, 2, control | regs.PCI_EXP_DEVCTL2_ARI * self.ari)

    def _find(self, devfn: int, *, quiet: bool, multifunction: bool = False) -> PciDevice | None:
        """The device at a place; a new one when somebody answers and it had none."""
        known = self.functions.get(devfn)
        if known is not None and known.pdev is not None:
            return known.pdev
        bridge = self.bridge
        rid = self.number << 8 | devfn
        hardware = bridge.complex.function(bridge.domain, rid)
        if hardware is None or not bridge.answers(rid):
            return None
        function = bridge.new_function(self, devfn, hardware)
        address = PciAddress(bridge.domain, self.number, devfn >> 3, devfn & 7)
        device = PciDevice(function, self.parent, bridge.bus, address)
        function.pdev = device
        bridge.device_found(function)
        self.functions.pop(devfn, None)  # whoever comes back is the last of the bus
        self.functions[devfn] = function
        device.multifunction = device.multifunction or multifunction
        enable_acs(device)
        if bridge.iommu is not None:
            bridge.iommu.probe(function)
        function.added = quiet
        bridge.bus.add(device, quiet=quiet, seek=False)
        return device


class PcieHostBridge(PciHostBridge):
    """A root bus of a root complex (`complex`) as Linux has it, `bus` being the bus type.

    `messages` delivers the interrupt messages of what is behind it, `pins` its interrupt pins; firmware tells the NUMA
    node that it is near (``_PXM``).
    """

    def __init__(
        self,
        bus: PciBus,
        complex_: RootComplex,
        hardware: RootBus,
        messages: MsiDomain,
        pins: Pins,
        numa_node: int = NO_NODE,
    ) -> None:
        self.bus = bus
        self.numa_node = numa_node
        self.messages = messages
        self.pins = pins
        self.complex = complex_
        self.domain = hardware.segment.number
        self.device = Device(bus.kernel, f"pci{self.domain:04x}:{hardware.number:02x}", None)
        self.windows: list[Resource] = []
        """The addresses that lead to the root bus."""
        self.last = hardware.last
        """The last bus number below the root."""
        self.virtual_buses: dict[int, PcieBus] = {}
        """Buses that no bridge leads to, by number: of virtual functions beyond the bus of their physical one."""
        self.root = PcieBus(self, hardware.number, self.device)
        self.isolate = False
        """Whether an IOMMU needs functions to be isolated (``pci_request_acs``)."""
        self.iommu: PcieIommu | None = None
        """Who takes new functions, once it has taken those that were there at boot."""

    # what a machine's host bridges differ in (``struct pci_controller_ops`` of powerpc)

    def new_function(self, on: PcieBus, devfn: int, hardware: Function) -> PcieFunction:
        """What Linux has of a function that it found."""
        return PcieFunction(on, devfn, hardware)

    def bus_node(self, bus: PcieBus) -> OfNode | None:
        """The node of a bus in the device tree, where firmware makes one."""
        return None

    def device_found(self, function: PcieFunction) -> None:
        """A function has its device, and no addresses yet (``pcibios_device_add``)."""
        return

    def answers(self, rid: int) -> bool:
        """Whether somebody answers at a routing id (``pci_bus_read_dev_vendor_id``)."""
        return self.complex.config_read(self.domain, rid, regs.PCI_VENDOR_ID, 4) not in _NOBODY

    def device_added(self, function: PcieFunction) -> None:
        """The device of a function has its addresses, and a driver is sought next (``pcibios_bus_add_device``)."""
        return

    def window_alignment(self, bus: PcieBus, flags: int) -> int:
        """What windows that lead to a bus have to be aligned to, besides what PCI asks (`pcibios_window_alignment`)."""
        return 1

    def bus_address(self, address: int) -> int:
        """See `PciSysdata.bus_address`."""
        return address

    def set_up_windows(self, port: PciDevice) -> None:
        """The windows of a bridge are written to its registers next (``pcibios_setup_bridge``)."""
        return

    def siblings(self) -> list[PcieHostBridge]:
        """The roots of its domain, itself included."""
        every = (one for one in self.bus.bridges if isinstance(one, PcieHostBridge))
        return [one for one in every if one.domain == self.domain]

    def add(self, *, quiet: bool) -> None:
        """Put the root into the tree and find its devices."""
        kernel = self.bus.kernel
        self.bus.bridges.append(self)
        kernel.add_root(self.device)
        kernel.add_class_device(self.root.device, quiet=quiet)
        self.scan(quiet=quiet)

    def scan(self, *, quiet: bool) -> None:
        """See `PciHostBridge.scan`."""
        with self.bus.rescan_remove():
            self.root.scan(quiet=quiet)

    def rescan(self) -> None:
        """See `PciHostBridge.rescan`."""
        self.root.rescan()

    def devices(self) -> list[PciDevice]:
        """All devices, each bridge before what is behind it."""
        return [function.pdev for function in self.root.walk() if function.pdev is not None]
