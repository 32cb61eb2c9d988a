"""A function behind a PCI Express root complex, as the PCI core is given it (x86: ``arch/x86/pci``).

Configuration space is reached by bus, device and function number, base addresses by the addresses that are in them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pcie.access import requests
from pyvfio_backends.software.hardware.pcie.bar_sizing import size_bars
from pyvfio_backends.software.hardware.pcie.request import Request, Space
from pyvfio_backends.software.linux import pcie_reset
from pyvfio_backends.software.linux.msi_domain import MsiDomain
from pyvfio_backends.software.linux.pci_device import RESOURCES, ROM, PciDevice
from pyvfio_backends.software.linux.pci_host import BarMemory, PciSysdata
from pyvfio_backends.software.linux.pci_iov import FIRST_IOV
from pyvfio_backends.software.linux.pci_sysfs import number
from pyvfio_backends.software.linux.pcie_aspm import LinkDirectory, aspm
from pyvfio_backends.software.linux.pcie_resources import bar_resource, bridge_windows
from pyvfio_backends.software.linux.pcie_vga import SHADOW, is_vga, shadow
from pyvfio_backends.software.linux.pcie_virtual import add_virtual, remove_virtual, virtual_resources
from pyvfio_backends.software.linux.resource import Resource, ResourceFlag
from pyvfio_backends.software.linux.vfs import Attribute, Node, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.dma import DmaSpace
    from pyvfio_backends.software.hardware.pci.config import ConfigSpace
    from pyvfio_backends.software.hardware.pcie.function import Function
    from pyvfio_backends.software.linux.device import Device
    from pyvfio_backends.software.linux.iommu_group import IommuGroup, Region
    from pyvfio_backends.software.linux.irq_line import IrqLine
    from pyvfio_backends.software.linux.pcie_bus import PcieBus, PcieHostBridge
    from pyvfio_backends.software.linux.pcie_iommu import PcieIommu

__all__ = ["PcieFunction"]


class PcieFunction(PciSysdata):
    """The function at `devfn` of `on`; `hardware` is what was found there when the bus was scanned."""

    has_intx = True
    runtime_power = True
    native_aer = True
    maps_registers = True
    keeps_addresses = True
    """Whether Linux leaves what firmware placed where it is; else it gives all addresses itself."""

    def __init__(self, on: PcieBus, devfn: int, hardware: Function) -> None:
        self.on = on
        self.bus = on.bridge.bus
        self.bridge: PcieHostBridge = on.bridge
        self.bus_number = on.number
        self.devfn = devfn
        self._hardware = hardware
        self.pdev: PciDevice | None = None
        self.number = 0
        """Of a virtual function: which one it is, from 0."""
        self.virtual: dict[int, PciDevice] = {}
        """Of a physical function: its virtual ones that are there."""
        self._shadow: bytes | None = None
        self.subordinate: PcieBus | None = None
        """The bus behind it."""
        self.iommu: PcieIommu | None = None
        self.added = False
        """Whether a driver was sought for it."""
        self._complex = on.bridge.complex
        self._segment = on.bridge.domain
        self._d3cold = self.hardware.offset(regs.PCI_CAP_ID_PM) is not None
        if self.config.data[regs.PCI_INTERRUPT_PIN]:
            self.irq = self.config.data[regs.PCI_INTERRUPT_LINE]

    def __repr__(self) -> str:
        return f"<PcieFunction {self.bus_number:02x}:{self.devfn:02x}>"

    @property
    def rid(self) -> int:
        """Bus, device and function number as one."""
        return self.bus_number << 8 | self.devfn

    @property
    def ari_enabled(self) -> bool:
        """See `PciSysdata.ari_enabled`."""
        return self.on.ari

    @property
    def isolates(self) -> bool:
        """See `PciSysdata.isolates`."""
        return self.bridge.isolate

    @property
    def numa_node(self) -> int:
        """See `PciSysdata.numa_node`."""
        return self.bridge.numa_node

    @property
    def hardware(self) -> Function:
        """What was found there.  A reset of a physical function makes all its virtual ones anew."""
        if self._hardware.virtual and self._hardware.bus is None:
            self._hardware = self._complex.function(self._segment, self.rid) or self._hardware
        return self._hardware

    @property
    def firmware_node(self) -> Device | None:
        """See `PciSysdata.firmware_node`."""
        from pyvfio_backends.software.linux.pcie_acpi import companion

        return companion(self)

    # configuration space

    @property
    def config(self) -> ConfigSpace:
        """See `PciSysdata.config`."""
        return self.hardware.config

    def config_read(self, where: int, size: int) -> int:
        """See `PciSysdata.config_read`: all ones, without an error, where nobody answers."""
        return self._complex.config_read(self._segment, self.rid, where, size)

    def config_write(self, where: int, size: int, value: int) -> None:
        """See `PciSysdata.config_write`: lost where nobody answers."""
        self._complex.config_write(self._segment, self.rid, where, size, value)

    def peek(self, position: int, count: int) -> bytes | None:
        """See `PciSysdata.peek`: what the function has there, if it would answer, but for registers that only come into
        being when they are looked at.
        """
        config, end = self.hardware.config, position + count
        if end > len(config.data) or self._complex.function(self._segment, self.rid) is not self.hardware:
            return None
        if config.refresh is not None and position & ~3 < config.live[1] and -(-end // 4) * 4 > config.live[0]:
            return None
        return bytes(config.data[position:end])

    # interrupts

    def irq_line(self) -> IrqLine | None:
        """See `PciSysdata.irq_line`."""
        return self.bridge.pins.line(self.irq) if self.irq else None

    def enable(self, device: PciDevice) -> None:
        """See `PciSysdata.enable`: the pin gets the number that ACPI tells (``pcibios_enable_irq``)."""
        self.irq = self.bridge.pins.number(self)
        known = aspm(self.bus.kernel)
        if known is not None:
            known.enable(self)

    # base address registers

    def map_resources(self, resources: list[Resource]) -> None:
        """See `PciSysdata.map_resources`: what firmware put into the registers (``pci_read_bases``)."""
        if self.virtual_of is not None:
            virtual_resources(self.virtual_of, self.number, resources)
            return
        bridge = len(resources) > RESOURCES
        for bar in size_bars(self._complex, self._segment, self.rid, bridge=bridge):
            index = ROM if bar.rom else (bar.register - regs.PCI_BASE_ADDRESS_0) // 4
            resources[index] = bar_resource(self.config_read, bar, place=self.keeps_addresses)
        if is_vga(self) and self.bus.vga_default in (None, self):
            self._shadow = shadow(self)
            if self._shadow is not None:
                self.bus.vga_default = self
                resources[ROM] = replace(SHADOW)
        iov = self.hardware.offset(regs.PCI_EXT_CAP_ID_SRIOV, extended=True)
        if iov:
            total = self.config_read(iov + regs.PCI_SRIOV_TOTAL_VF, 2)
            for bar in size_bars(self._complex, self._segment, self.rid, sriov=iov, count=total):
                resources[FIRST_IOV + (bar.register - iov - regs.PCI_SRIOV_BAR) // 4] = bar_resource(
                    self.config_read, bar, place=self.keeps_addresses
                )
        if bridge and self.keeps_addresses:
            resources[RESOURCES : RESOURCES + 3] = bridge_windows(self.config_read)

    def _place(self, bar: int, offset: int) -> tuple[int, Space]:
        resource = self.pdev.resources[bar] if self.pdev is not None else Resource()
        return resource.start + offset, Space.IO if resource.flags & ResourceFlag.IO else Space.MEMORY

    def bar_read(self, bar: int, offset: int, size: int) -> int:
        """See `PciSysdata.bar_read`."""
        if bar == ROM and self._shadow is not None:
            return int.from_bytes(self._shadow[offset : offset + size], "little")
        address, space = self._place(bar, offset)
        return self._complex.load(address, size, space=space)

    def bar_write(self, bar: int, offset: int, size: int, value: int) -> None:
        """See `PciSysdata.bar_write`."""
        address, space = self._place(bar, offset)
        self._complex.store(address, size, value, space=space)

    def peer_read(self, bar: int, offset: int, count: int) -> bytes:
        """See `PciSysdata.peer_read`: by requests that come down from the root complex."""
        data = b""
        for at, length in requests(offset, count):
            completion = self._complex.transfer(Request.read(self._place(bar, at)[0], length))
            if not completion.ok:
                raise fail(errno.EFAULT)
            data += completion.data
        return data

    def peer_write(self, bar: int, offset: int, data: bytes) -> None:
        """See `PciSysdata.peer_write`."""
        for at, length in requests(offset, len(data)):
            part = data[at - offset : at - offset + length]
            if not self._complex.transfer(Request.store(self._place(bar, at)[0], part)).ok:
                raise fail(errno.EFAULT)

    def bar_memory(self, bar: int) -> BarMemory | None:
        """See `PciSysdata.bar_memory`: that of devices which have some."""
        found = self.hardware.bars.get(bar)
        return None if found is None else found.memory

    def old_read(self, address: int, size: int, *, io: bool) -> int:
        """See `PciSysdata.old_read`: of whichever adapter has them now."""
        return self._complex.load(address, size, space=Space.IO if io else Space.MEMORY)

    def old_write(self, address: int, size: int, value: int, *, io: bool) -> None:
        """See `PciSysdata.old_write`."""
        self._complex.store(address, size, value, space=Space.IO if io else Space.MEMORY)

    # what x86 adds: ACPI has D3cold, and PCI Express links have power states

    def attributes(self, device: PciDevice) -> Mapping[str, Node]:
        """See `PciSysdata.attributes`."""
        found: dict[str, Node] = {
            "d3cold_allowed": Attribute(lambda: f"{int(self._d3cold)}\n", self._store_d3cold),
            "link": LinkDirectory(self),
        }
        if is_vga(self):
            found["boot_vga"] = Attribute(lambda: f"{int(self.bus.vga_default is self)}\n")
        return found

    def _store_d3cold(self, data: bytes) -> None:
        """``d3cold_allowed_store``: a function that sleeps wakes, and sleeps on; no port here may sleep for it."""
        self._d3cold = bool(number(data))
        if self.pdev is not None:
            self.pdev.runtime.event()

    # the tree

    def rescan(self) -> None:
        """See `PciSysdata.rescan`."""
        self.on.rescan()

    def children(self) -> list[PciDevice]:
        """See `PciSysdata.children`."""
        return self.subordinate.devices() if self.subordinate is not None else []

    # virtual functions

    @property
    def no_command_memory(self) -> bool:
        """See `PciSysdata.no_command_memory`: the physical one decides about its virtual ones."""
        return self.virtual_of is not None

    @property
    def last_bus(self) -> int:
        """See `PciSysdata.last_bus`: what the bridge above has, or the root bus."""
        return self.on.last

    def add_virtual(self, number: int) -> None:
        """See `PciSysdata.add_virtual`."""
        add_virtual(self, number)

    def remove_virtual(self, number: int) -> None:
        """See `PciSysdata.remove_virtual`."""
        remove_virtual(self, number)

    def physfn(self) -> PciDevice | None:
        """See `PciSysdata.physfn`."""
        return self.virtual_of

    def virtfns(self) -> dict[int, PciDevice]:
        """See `PciSysdata.virtfns`."""
        return dict(sorted(self.virtual.items()))

    # resets

    def reset_methods(self) -> tuple[str, ...]:
        """See `PciSysdata.reset_methods`."""
        return pcie_reset.methods(self)

    def reset(self, method: str) -> None:
        """See `PciSysdata.reset`."""
        pcie_reset.perform(self, method)

    def probe_reset_bus(self) -> bool:
        """See `PciSysdata.probe_reset_bus`: not on a root bus."""
        return self.on.above is not None

    def reset_bus(self) -> None:
        """See `PciSysdata.reset_bus`.  Raise OSError ENOTTY on a root bus, and when the function does not come back."""
        if self.on.above is None:
            raise fail(errno.ENOTTY)
        self.on.above.reset_behind()
        pcie_reset.wait_for(self)

    def reset_behind(self) -> None:
        """See `PciSysdata.reset_behind`."""
        pcie_reset.reset_behind(self)

    def reset_scope(self) -> list[PciDevice]:
        """See `PciSysdata.reset_scope`."""
        return pcie_reset.scope(self)

    def reset_key(self) -> object:
        """See `PciSysdata.reset_key`: nothing in common on a root bus, and for virtual functions."""
        if self.on.above is None or (self.pdev is not None and self.pdev.is_virtual):
            return self
        return (self.on, pcie_reset.in_slot(self))

    # the IOMMU and interrupts

    @property
    def iommu_device(self) -> Device | None:
        """See `PciSysdata.iommu_device`: none until the IOMMU has found the function."""
        return self.iommu

    def iommu_group(self) -> IommuGroup | None:
        """See `PciSysdata.iommu_group`."""
        return self.iommu.group(self) if self.iommu is not None else None

    def reserved_regions(self) -> Iterable[Region]:
        """See `PciSysdata.reserved_regions`."""
        return self.iommu.regions(self) if self.iommu is not None else ()

    def attach_dma(self, space: DmaSpace | None) -> None:
        """See `PciSysdata.attach_dma`."""
        if self.iommu is not None:
            self.iommu.attach(self, space)

    def iommu_release(self) -> None:
        """See `PciSysdata.iommu_release`."""
        known = aspm(self.bus.kernel)
        if known is not None:
            known.leave(self)
        if self.iommu is not None:
            self.iommu.release(self)

    @property
    def msi_domain(self) -> MsiDomain:
        """See `PciSysdata.msi_domain`."""
        return self.bridge.messages
