"""A host bridge of bare-metal POWER as Linux has it (``struct pnv_phb``): its windows, and an endpoint for each bus.

Linux places everything behind the bridge itself: windows of bridges begin and end with segments, and what leads to the
first two buses has all that the host bridge has, for cards that come later.  A bus gets its endpoint when its first
device is added, and the endpoint its DMA windows with the first that is no bridge.
Source: ``arch/powerpc/platforms/powernv/pci-ioda.c`` of Linux 6.12.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from pyvfio.abi import opal as api
from pyvfio.abi.opal import OpalM64Action, OpalReset, OpalWindow
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.hardware.pcie.request import Space
from pyvfio_backends.software.linux.of_node import OfNode
from pyvfio_backends.software.linux.pci_device import RESOURCES, ROM
from pyvfio_backends.software.linux.pcie_bus import PcieBus
from pyvfio_backends.software.linux.pcie_type import express_type
from pyvfio_backends.software.linux.pnv_function import PnvFunction
from pyvfio_backends.software.linux.pnv_pe import PeFlag, PnvEndpoints, PnvPe
from pyvfio_backends.software.linux.pnv_sriov import fix_virtual
from pyvfio_backends.software.linux.pnv_table_group import PnvTableGroup
from pyvfio_backends.software.linux.powerpc_host import PowerHostBridge
from pyvfio_backends.software.linux.resource import Resource, ResourceFlag
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.ioda.opal import Opal
    from pyvfio_backends.software.hardware.ioda.phb import Phb
    from pyvfio_backends.software.hardware.pcie.function import Function
    from pyvfio_backends.software.linux.eeh import Eeh
    from pyvfio_backends.software.linux.msi_domain import MsiDomain
    from pyvfio_backends.software.linux.pci import PciBus
    from pyvfio_backends.software.linux.pci_device import PciDevice
    from pyvfio_backends.software.linux.pcie_bus import Pins
    from pyvfio_backends.software.linux.pcie_function import PcieFunction

__all__ = ["PnvHostBridge"]

_MESSAGES, _GRANULE = 0x10000, 0x100000
_WIDE = ResourceFlag.MEM | ResourceFlag.MEM_64 | ResourceFlag.PREFETCH
_M64_FLAGS = ResourceFlag.MEM_64 | ResourceFlag.PREFETCH
_KEPT_SEGMENTS = 2
_WINDOWS = range(RESOURCES, RESOURCES + 3)
_REGISTERS, _REGISTERS_SIZE = 0x600C3C0000000, 0x100000
_PHBS_OF_CHIP, _CHIP_SHIFT = 6, 42
_NODE_TYPE: Final = "pciex"
_COMPATIBLE: Final = {"PHB3": ("ibm,power8-pciex", "ibm,ioda2-phb"), "PHB4": ("ibm,power9-pciex", "ibm,ioda3-phb")}
"""By the model (``hw/phb3.c``, ``hw/phb4.c`` of skiboot)."""


class PnvHostBridge(PowerHostBridge):
    """Host bridge `phb` of domain ``phb.number``; `m64` is where its 64-bit memory is to be, empty for none."""

    def __init__(self, bus: PciBus, phb: Phb, opal: Opal, messages: MsiDomain, pins: Pins, m64: range) -> None:
        self.phb = phb
        self.opal = opal
        self.opal_id = phb.number
        self._m64 = m64
        super().__init__(bus, phb, messages, pins)
        self.endpoints = PnvEndpoints(opal, self.opal_id)
        """The endpoints, by number and by routing id."""
        self._given: dict[int, int] = {}
        """The segments of the 32-bit window that endpoints were given, each with the endpoint's number."""
        self.taken_m64: set[int] = set()
        """The 64-bit windows that virtual functions have, by number."""
        self.eeh: Eeh | None = None
        """Who is told of accesses that read only ones: that may be because the endpoint is frozen."""
        m32 = phb.windows.m32.segments
        assert m32 is not None
        self.m32 = m32
        window = Resource(m32.base, m32.base + m32.size - _MESSAGES - 1, ResourceFlag.MEM, claimed=True)
        self.windows = [window]
        opal.pci_reset(self.opal_id, OpalReset.PCI_IODA_TABLE, api.OPAL_ASSERT_RESET)
        if m64:
            self._init_m64()

    @property
    def of_path(self) -> str:
        """The node in the device tree."""
        chip, index = divmod(self.domain, _PHBS_OF_CHIP)
        return f"/pciex@{(_REGISTERS | chip << _CHIP_SHIFT) + index * _REGISTERS_SIZE:x}"

    def node_type(self, function: PcieFunction) -> str:
        """See `PowerHostBridge.node_type`."""
        return _NODE_TYPE if function.pdev is not None and function.pdev.is_bridge else ""

    def root_node(self) -> OfNode:
        """See `PowerHostBridge.root_node`."""
        return OfNode(self.of_path, _NODE_TYPE, _COMPATIBLE[self.phb.model.name.partition(" ")[0]])

    def _init_m64(self) -> None:
        """The last 64-bit window is for all, but not the segments of the last two endpoints (`pnv_ioda2_init_m64`)."""
        number, first, size = self.phb.model.m64_windows - 1, self._m64.start, len(self._m64)
        codes = (
            self.opal.pci_set_phb_mem_window(self.opal_id, OpalWindow.M64, number, first, 0, size),
            self.opal.pci_phb_mmio_enable(self.opal_id, OpalWindow.M64, number, OpalM64Action.SPLIT),
        )
        if not any(codes):
            last = self._m64.stop - 1 - _KEPT_SEGMENTS * self.m64_segment
            self.windows.append(Resource(first, last, _WIDE, claimed=True))

    @property
    def m64_segment(self) -> int:
        """Bytes of a segment of 64-bit memory; 0: there is none."""
        return len(self._m64) // self.phb.model.endpoints

    def is_m64(self, resource: Resource) -> bool:
        """Whether a resource is in the 64-bit window (``pnv_pci_is_m64``)."""
        return bool(self._m64) and resource.start in self._m64

    # addresses

    def bus_address(self, address: int) -> int:
        """See `PciSysdata.bus_address`: those of the 32-bit window begin at 2 GiB on the bus."""
        return address - self.m32.base + self.m32.bus_base if self.m32.contains(address) else address

    def cpu_address(self, address: int) -> int | None:
        """The processor's address of one on the bus (``pcibios_bus_to_resource``); None: no window reaches it."""
        return self.phb.windows.from_bus(Space.MEMORY, address)

    def window_alignment(self, bus: PcieBus, flags: int) -> int:
        """See `PcieHostBridge.window_alignment`: a segment, but below two bridges to conventional PCI."""
        bridges, above = 0, bus.above
        while above is not None:
            if above.pdev is not None and express_type(above.pdev) == ExpressType.PCI_BRIDGE:
                bridges += 1
                if bridges == 2:
                    return 1
            above = above.on.above
        if self.m64_segment and flags & _M64_FLAGS == _M64_FLAGS:
            return self.m64_segment
        return self.m32.segment_size if flags & ResourceFlag.MEM else 1

    def set_up_windows(self, port: PciDevice) -> None:
        """See `PcieHostBridge.set_up_windows` (``pnv_pci_fixup_bridge_resources``).

        The root port, and the bridge behind it, have all of the host bridge's memory, but the last megabyte of it,
        where messages go: of the 64-bit window too.
        """
        function = port.sysdata
        assert isinstance(function, PnvFunction)
        if function.on.above is not None and function.on.above.on.above is not None:
            return
        beside_messages = False
        for index in _WINDOWS:
            own = port.resources[index]
            if not own.claimed or not own.flags & ResourceFlag.MEM:
                continue
            wide = self.is_m64(own)
            whole = self.windows[1] if wide else self.windows[0]
            beside_messages = beside_messages or not wide
            own.start, own.end = whole.start, whole.end
            if beside_messages:
                own.end += _MESSAGES - _GRANULE

    # functions

    def new_function(self, on: PcieBus, devfn: int, hardware: Function) -> PcieFunction:
        """See `PcieHostBridge.new_function`."""
        return PnvFunction(self, on, devfn, hardware)

    def answers(self, rid: int) -> bool:
        """See `PcieHostBridge.answers`: not where EEH blocks configuration."""
        if self.eeh is not None and self.eeh.platform.blocks(self.domain, rid):
            return False
        return super().answers(rid)

    def scan(self, *, quiet: bool) -> None:
        """See `PciHostBridge.scan`: that nobody answers freezes nothing."""
        with self.phb.probing():
            super().scan(quiet=quiet)

    def rescan(self) -> None:
        """See `PciHostBridge.rescan`."""
        with self.phb.probing():
            super().rescan()

    def device_found(self, function: PcieFunction) -> None:
        """See `PcieHostBridge.device_found` (``pnv_pci_ioda_fixup_iov``, ``pnv_pci_default_alignment``).

        Each base address has its pages for itself.
        """
        device = function.pdev
        if device is None or not isinstance(function, PnvFunction):
            return
        page = self.bus.kernel.page_size
        for resource in device.resources[: ROM + 1]:
            if resource.flags & ResourceFlag.MEM and resource.size < page:
                resource.flags = resource.flags & ~ResourceFlag.SIZEALIGN | ResourceFlag.STARTALIGN
                resource.start, resource.end = page, page + resource.size - 1
        if device.sriov is not None:
            function.sriov = fix_virtual(self, function)

    def add_devices(self) -> None:
        """Give all that was found at boot an endpoint, those of a bus before what is behind it."""
        for function in self.root.found():
            self.device_added(function)

    def enable_bridges(self, bus: PcieBus | None = None) -> None:
        """Enable the bridges that something is behind (``pnv_pci_enable_bridges``): those of the root bus, always."""
        for function in (bus or self.root).functions.values():
            if function.pdev is not None and function.subordinate is not None:
                if function.subordinate.devices():
                    function.pdev.enable()
                    function.pdev.set_master(True)
                self.enable_bridges(function.subordinate)

    def device_added(self, function: PcieFunction) -> None:
        """See `PcieHostBridge.device_added` (``pnv_pci_ioda_dma_dev_setup``)."""
        device = function.pdev
        if device is None or not isinstance(function, PnvFunction):
            return
        function.find_irq()
        pe = self.endpoints.of(function.rid)
        if pe is None and not device.is_virtual:
            pe = self._configure_bus(function.on)
        if pe is None:
            return
        if pe.table_group is None and not device.is_bridge:
            self.set_up_dma(pe)
        function.pe = pe
        pe.devices += 1
        if pe.group is not None:
            self.join(pe.group, device)
        if self.eeh is not None:
            self.eeh.probe_device(device)

    # endpoints

    def _configure_bus(self, bus: PcieBus) -> PnvPe | None:
        """Give a bus its endpoint, and that the segments of what is on it (``pnv_pci_configure_bus``)."""
        above = bus.above.pdev if bus.above is not None else None
        whole = above is not None and express_type(above) == ExpressType.PCI_BRIDGE
        segments = self._m64_segments(bus, whole=whole)
        for number in segments:
            self.endpoints.reserve(number)
        if bus.above is None:
            pe: PnvPe | None = self.endpoints.every[self.endpoints.root]
        else:
            pe = self.endpoints.of_segments(segments) or self.endpoints.allocate()
        if pe is None:
            return None
        pe.flags |= PeFlag.BUS_ALL if whole else PeFlag.BUS
        pe.bus, pe.rid = bus, bus.number << 8
        if not self.endpoints.configure(pe):
            self.endpoints.free(pe)
            return None
        self._give_segments(pe, bus, whole=whole)
        return pe

    def _m64_segments(self, bus: PcieBus, *, whole: bool) -> set[int]:
        """The segments of 64-bit memory that devices of a bus have (``pnv_ioda_reserve_m64_pe``)."""
        found: set[int] = set()
        for device in bus.devices():
            for resource in device.resources[: ROM + 1]:
                if resource.claimed and self.is_m64(resource):
                    first, last = (at - self._m64.start for at in (resource.start, resource.end))
                    found.update(range(first // self.m64_segment, -(-last // self.m64_segment)))
            behind = device.sysdata
            if whole and isinstance(behind, PnvFunction) and behind.subordinate is not None:
                found |= self._m64_segments(behind.subordinate, whole=whole)
        return found

    def _give_segments(self, pe: PnvPe, bus: PcieBus, *, whole: bool) -> None:
        """Give an endpoint its segments of the 32-bit window (``pnv_ioda_setup_pe_seg``)."""
        for device in bus.devices():
            windows = device.resources[RESOURCES:] if whole and device.is_bridge else []
            for resource in (*device.resources[: ROM + 1], *windows):
                self._give_range(pe, resource)

    def _give_range(self, pe: PnvPe, resource: Resource) -> None:
        if not resource.flags & ResourceFlag.MEM or not resource.claimed or self.is_m64(resource):
            return
        first, last = (at - self.m32.base for at in (resource.start, resource.end))
        for segment in range(first // self.m32.segment_size, last // self.m32.segment_size + 1):
            if self.opal.pci_map_pe_mmio_window(self.opal_id, pe.number, OpalWindow.M32, 0, segment):
                break
            self._given[segment] = pe.number

    def set_up_dma(self, pe: PnvPe) -> None:
        """Give an endpoint DMA windows and an IOMMU group (``pnv_pci_ioda2_setup_dma_pe``)."""
        kernel = self.bus.kernel
        pe.table_group = PnvTableGroup(
            *(self.opal, self.opal_id, pe.number, kernel.memory),
            dma32_size=self.m32.bus_base,
            memory_size=kernel.storage_size,
        )
        pe.group = self.new_group(pe.number, pe.table_group)

    def device_gone(self, function: PcieFunction) -> None:
        """See `PowerHostBridge.device_gone` (``pnv_pci_release_device``)."""
        super().device_gone(function)
        if not isinstance(function, PnvFunction):
            return
        if self.eeh is not None and function.pdev is not None:
            self.eeh.remove_device(function.pdev)
        pe, function.pe = function.pe, None
        if pe is None or function.virtual_of is not None:
            return
        pe.devices -= 1
        if not pe.devices:
            self.release(pe)

    def release(self, pe: PnvPe) -> None:
        """Take an endpoint back: its DMA windows, segments and numbers (``pnv_ioda_release_pe``)."""
        if pe.table_group is not None:
            pe.table_group.take_ownership()
            pe.table_group = pe.group = None
        for segment in [segment for segment, number in self._given.items() if number == pe.number]:
            self.opal.pci_map_pe_mmio_window(self.opal_id, self.endpoints.reserved, OpalWindow.M32, 0, segment)
            del self._given[segment]
        slaves = list(pe.slaves)
        self.endpoints.deconfigure(pe)
        for slave in slaves:
            self.endpoints.free(slave)
        if pe.number == self.endpoints.root:
            pe.flags = PeFlag.NONE
        else:
            self.endpoints.free(pe)

    def take_m64(self) -> int | None:
        """Take the lowest free 64-bit window; None without (``pnv_pci_alloc_m64_bar``)."""
        model = self.phb.model
        free = (one for one in range(model.first_m64, model.m64_windows - 1) if one not in self.taken_m64)
        number = next(free, None)
        if number is not None:
            self.taken_m64.add(number)
        return number

    def check_enable(self, function: PnvFunction) -> None:
        """Raise OSError EINVAL for a device without an endpoint (``pnv_pci_enable_device_hook``)."""
        if function.pe is None:
            raise fail(errno.EINVAL)
