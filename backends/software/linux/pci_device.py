"""A PCI function as Linux's PCI core knows it: resources, enabling, configuration accesses, state, reset.

The model is ``drivers/pci`` of the kernel.  What is not generic about a function its `PciSysdata` does.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_extended_regs as extended_regs
from pyvfio.abi import pci_ids as ids
from pyvfio.abi import pci_regs as regs
from pyvfio.address import PciAddress
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.pci_access import ErrorState, PciAccess
from pyvfio_backends.software.linux.pci_iov import PciSriov
from pyvfio_backends.software.linux.pci_msi import PciMsi
from pyvfio_backends.software.linux.pci_power import set_events
from pyvfio_backends.software.linux.pci_reset import reset_function
from pyvfio_backends.software.linux.pci_runtime import RuntimePower
from pyvfio_backends.software.linux.pci_state import SavedState, restore_state, save_state
from pyvfio_backends.software.linux.resource import Resource, ResourceFlag
from pyvfio_backends.software.linux.vfs import Node, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.dma import DmaSpace
    from pyvfio_backends.software.linux.iommu_group import Region
    from pyvfio_backends.software.linux.of_node import OfNode
    from pyvfio_backends.software.linux.pci import PciBus
    from pyvfio_backends.software.linux.pci_aer import PciAer
    from pyvfio_backends.software.linux.pci_host import PciSysdata
    from pyvfio_backends.software.linux.pci_vpd import PciVpd
    from pyvfio_backends.software.linux.pcie_rcec import Association

__all__ = ["ROM", "ErrorState", "PciDevice", "SavedState"]

ROM = 6
RESOURCES = 13
BRIDGE_RESOURCES = 17
"""Those of a bridge: after the others, the windows for I/O, memory, prefetchable memory, and one of CardBus."""
_ALL_ONES = 0xFFFFFFFF
_INTEL = 0x8086
_ISM = 0x1014, 0x04ED  # its BARs are not mappable (arch/s390/pci/pci_fixup.c, 6.15)


class PciDevice(PciAccess):
    """A function on the bus ``pci``; `sysdata` is what the architecture has behind it.

    `locked` says that somebody binds or unbinds the device, and a reset must not come between.
    """

    def __init__(self, sysdata: PciSysdata, parent: Device, bus: PciBus, address: PciAddress) -> None:
        super().__init__(sysdata, str(address), parent, bus)
        self.pci_bus = bus
        self.address = address
        self.sriov: PciSriov | None = None
        self.physfn: PciDevice | None = sysdata.virtual_of
        """Of a virtual function: the physical one, while both are linked."""
        self.locked = False
        self.driver_files: dict[str, Node] = {}
        """Files that its driver added, by name."""
        self.removed_files: set[str] = set()
        """Files that are not there any more, although the device is."""
        header = self.read_config(regs.PCI_HEADER_TYPE, 1)
        self.multifunction = bool(header & regs.PCI_HEADER_TYPE_MFD)
        """Whether its device has, or may have, other functions."""
        self.is_bridge = header & ~regs.PCI_HEADER_TYPE_MFD == regs.PCI_HEADER_TYPE_BRIDGE
        """Whether there is, or may be, a bus behind it."""
        self.vendor = self.read_config(regs.PCI_VENDOR_ID, 2)
        self.device_id = self.read_config(regs.PCI_DEVICE_ID, 2)
        if self.physfn is not None and self.physfn.sriov is not None:
            self.vendor, self.device_id = self.physfn.vendor, self.physfn.sriov.vf_device
        self.subsystem_vendor, self.subsystem_device = self._subsystem()
        self.revision = self.read_config(regs.PCI_REVISION_ID, 1)
        self.class_code = self.read_config(regs.PCI_CLASS_REVISION, 4) >> 8
        self.no_command_memory = sysdata.no_command_memory
        self.enable_count = 0
        self.power_state = "unknown"
        """As ``power_state`` shows it: D0 once somebody enables it, not known again when a driver has left."""
        self.no_msi = False
        self._vpd: PciVpd | None = None
        self.shares_vpd = bool(address.function) and self.vendor == _INTEL and self._shares_vpd()
        """Whether its vital product data are those of function 0."""
        self.dma_mask_bits = 32
        """Drivers widen it; it stays when they leave."""
        self.broken_parity = False
        self.numa_node = sysdata.numa_node
        """The NUMA node that it is near, -1: unknown; programs may say otherwise."""
        self.runtime = RuntimePower(self)
        self.rom_enabled = False
        self.msi = PciMsi(self)
        self.express = self.find_capability(regs.PCI_CAP_ID_EXP)
        set_events(self, on=False)  # pci_pm_init
        self.config_size = self.size_of_config()
        if self.is_bridge:  # pci_configure_serr
            control = self.read_config(bridge_regs.PCI_BRIDGE_CONTROL, 2)
            self.write_config(bridge_regs.PCI_BRIDGE_CONTROL, 2, control | bridge_regs.PCI_BRIDGE_CTL_SERR)
        self.aer = self._start_aer()
        """Its error reporting; None without, or where firmware keeps it to itself."""
        self.association = self._read_association()
        """Of an event collector: which integrated endpoints are its own; None of any other function."""
        self.collector: PciDevice | None = None
        """Of an integrated endpoint: the event collector where its messages end, once that has its driver."""
        at = self.find_extended_capability(regs.PCI_EXT_CAP_ID_SRIOV)
        self.sriov = PciSriov(self, at) if at else None
        self.resources = [Resource() for _ in range(BRIDGE_RESOURCES if self.is_bridge else RESOURCES)]
        sysdata.map_resources(self.resources)
        if self.sriov is not None:
            self.sriov.measure()
        # Attributes that only exist when the device had something to show when it was added:
        self.rom_size = self.resources[ROM].size
        self.maps_bars = bus.kernel.pci_mmap and (self.vendor, self.device_id) != _ISM
        self.reset_methods = list(sysdata.reset_methods())
        self.resettable = bool(self.reset_methods)

    def _subsystem(self) -> tuple[int, int]:
        """Vendor and device of the subsystem: a bridge has a capability for them (``pci_setup_device``)."""
        if not self.is_bridge:
            return self.read_config(regs.PCI_SUBSYSTEM_VENDOR_ID, 2), self.read_config(regs.PCI_SUBSYSTEM_ID, 2)
        at = self.find_capability(regs.PCI_CAP_ID_SSVID)
        if not at:
            return 0, 0
        vendor, device = bridge_regs.PCI_SSVID_VENDOR_ID, bridge_regs.PCI_SSVID_DEVICE_ID
        return self.read_config(at + vendor, 2), self.read_config(at + device, 2)

    def _shares_vpd(self) -> bool:
        from pyvfio_backends.software.linux.pci_vpd import shares_product_data

        return shares_product_data(self)

    def _start_aer(self) -> PciAer | None:
        """Have its errors reported, if it can and Linux handles them (``pci_aer_init``)."""
        at = self.find_extended_capability(extended_regs.PCI_EXT_CAP_ID_ERR) if self.sysdata.native_aer else 0
        if not at:
            return None
        from pyvfio_backends.software.linux.pci_aer import PciAer

        aer = PciAer(self, at)
        aer.start()
        return aer

    def _read_association(self) -> Association | None:
        """See `association` (``pci_rcec_init``)."""
        if self.class_code >> 8 != ids.PCI_CLASS_SYSTEM_RCEC:  # nothing else is loaded for most functions
            return None
        from pyvfio_backends.software.linux.pcie_rcec import read_association

        return read_association(self)

    @property
    def is_virtual(self) -> bool:
        """Whether it is a virtual function, and its physical one is there."""
        return self.physfn is not None

    @property
    def has_virtual_functions(self) -> bool:
        """Whether virtual functions of it are on."""
        return self.sriov is not None and bool(self.sriov.num_vfs)

    @property
    def vpd(self) -> PciVpd:
        """Its vital product data."""
        if self._vpd is None:
            from pyvfio_backends.software.linux.pci_vpd import PciVpd

            self._vpd = PciVpd(self)
        return self._vpd

    @property
    def product_data(self) -> PciVpd:
        """The vital product data that programs get: function 0's where both share them.

        Raise OSError ENODEV where function 0 is gone (``pci_read_vpd``).
        """
        if not self.shares_vpd:
            return self.vpd
        from pyvfio_backends.software.linux.pci_vpd import function_0

        first = function_0(self)
        if first is None:
            raise fail(errno.ENODEV)
        return first.vpd

    @property
    def modalias(self) -> str:
        """``pci:v...``."""
        return (
            f"pci:v{self.vendor:08X}d{self.device_id:08X}sv{self.subsystem_vendor:08X}sd{self.subsystem_device:08X}"
            f"bc{self.class_code >> 16:02X}sc{self.class_code >> 8 & 0xFF:02X}i{self.class_code & 0xFF:02X}"
        )

    @property
    def devfn(self) -> int:
        """Device and function number, as one."""
        return self.sysdata.devfn

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        from pyvfio_backends.software.linux.pci_sysfs import device_attributes

        found = device_attributes(self)
        found.update(self.driver_files)
        for name in self.removed_files:
            found.pop(name, None)
        return found

    def attribute(self, name: str) -> Node | None:
        """See `Device.attribute`."""
        from pyvfio_backends.software.linux.pci_sysfs import shown_attribute

        if name in self.removed_files:
            return None
        return shown_attribute(self, name) or super().attribute(name)

    def links(self) -> dict[str, str]:
        """See `Device.links`."""
        found = {}
        iommu = self.sysdata.iommu_device
        if iommu is not None:
            found["iommu"] = iommu.devpath
        companion = self.sysdata.firmware_node
        if companion is not None:
            found["firmware_node"] = companion.devpath
        if self.physfn is not None:
            found["physfn"] = self.physfn.devpath
        if self.sriov is not None:
            found.update(self.sriov.links())
        return found

    def of_node(self) -> OfNode | None:
        """See `Device.of_node`."""
        return self.sysdata.of_node()

    def reserved_regions(self) -> Iterable[Region]:
        """See `Device.reserved_regions`."""
        return self.sysdata.reserved_regions()

    def attach_dma(self, space: DmaSpace | None) -> None:
        """See `Device.attach_dma`."""
        self.sysdata.attach_dma(space)

    # resources

    def bar_mappable(self, bar: int) -> bool:
        """Whether programs may map a BAR: memory that has its pages for itself (``vfio_pci_probe_mmaps``)."""
        resource, page = self.resources[bar], self.kernel.page_size
        if not self.maps_bars or not resource.flags & ResourceFlag.MEM or not resource.size:
            return False
        if resource.size >= page:
            return True
        rest = range(resource.end + 1, resource.start + page)
        devices = [device for device in self.pci_bus.devices.values() if isinstance(device, PciDevice)]
        others = [one for device in devices for one in device.resources if one.flags & ResourceFlag.MEM and one.size]
        return resource.start % page == 0 and not any(one.start in rest for one in others)

    # enabling

    def enable(self, *, io: bool = True) -> None:
        """Enable the device once more (``pci_enable_device``; without `io`, ``pci_enable_device_mem``), the first time
        with the bridges above it.

        Raise OSError as `PciSysdata.enable`.
        """
        if not self.enable_count and isinstance(self.parent, PciDevice):
            self.parent.enable_bridge()
        self.enable_count += 1
        if self.enable_count == 1:
            self.power_state = "D0"
            try:
                self.sysdata.enable(self)
            except OSError:
                self.enable_count -= 1
                raise
            kinds = [resource.flags for resource in (*self.resources[:ROM], *self.resources[RESOURCES:])]
            memory = regs.PCI_COMMAND_MEMORY if any(flags & ResourceFlag.MEM for flags in kinds) else 0
            ports = regs.PCI_COMMAND_IO if io and any(flags & ResourceFlag.IO for flags in kinds) else 0
            self.set_command(0, memory | ports)
            if not self.msi.irqs and self.read_config(regs.PCI_INTERRUPT_PIN, 1):
                self.set_intx(True)  # do_pci_enable_device: whoever had it before may have left it off

    def enable_bridge(self) -> None:
        """Have it forward what is for and from a device behind it (``pci_enable_bridge``)."""
        if isinstance(self.parent, PciDevice):
            self.parent.enable_bridge()
        if not self.enable_count:
            self.enable()
        self.set_master(True)

    def disable(self) -> None:
        """Undo one `enable`; the last one ends bus mastering (``pci_disable_device``)."""
        self.enable_count -= 1
        if self.enable_count == 0:
            self.set_master(False)
            self.sysdata.disable(self)

    # state and reset (drivers/pci/pci.c)

    def set_power_state(self, state: int) -> bool:
        """Put it into D0 to D3hot (0 to 3), as far as it goes; False when it cannot be."""
        from pyvfio_backends.software.linux.pci_power import is_low, resets_on_wake, set_power_state

        lost = not state and is_low(self.power_state) and resets_on_wake(self)
        done = set_power_state(self, state)
        if done and lost:
            self._restore_bars()
        return done

    def _restore_bars(self) -> None:
        """Write base addresses again that the function has lost (``pci_restore_bars``)."""
        for index, resource in enumerate(self.resources[:ROM]):
            if resource.claimed and not self.is_virtual:
                register = regs.PCI_BASE_ADDRESS_0 + 4 * index
                start = self.sysdata.bus_address(resource.start)
                self.write_config(register, 4, start & _ALL_ONES)
                if resource.flags & ResourceFlag.MEM_64:
                    self.write_config(register + 4, 4, start >> 32)

    def save_state(self) -> SavedState:
        """Keep the configuration (``pci_save_state``)."""
        return save_state(self)

    def restore_state(self, saved: SavedState) -> None:
        """Bring the configuration back (``pci_restore_state``)."""
        restore_state(self, saved)

    def reset_function_locked(self) -> None:
        """Reset by the first method that works (``__pci_reset_function_locked``).

        Raise OSError ENOTTY when none does, EIO when the one that there is fails.
        """
        for method in self.reset_methods:
            try:
                self.sysdata.reset(method)
            except OSError as error:
                if error.errno != errno.ENOTTY:
                    raise
            else:
                return
        raise fail(errno.ENOTTY)

    def try_reset(self) -> None:
        """Reset and bring the configuration back (``pci_try_reset_function``).

        Raise OSError ENOTTY (no method), EAGAIN (somebody holds the device's lock) or EIO.
        """
        if not self.reset_methods:
            raise fail(errno.ENOTTY)
        if self.locked:
            raise fail(errno.EAGAIN)
        reset_function(self)

    def reset(self) -> None:
        """`try_reset`, once nobody else holds the device's lock (``pci_reset_function``)."""
        self.pci_bus.wait_unlocked(self)
        with self.runtime.awake():
            self.try_reset()
