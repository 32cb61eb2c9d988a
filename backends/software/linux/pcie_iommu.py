"""The IOMMU of an x86 machine as Linux has it: ``dmarN`` of class ``iommu`` (``drivers/iommu/intel/iommu.c``, 6.12).

It takes the functions of its segment when the PCI buses have been scanned, gives each a group, and tells the hardware
(`RemappingUnit`) what the DMA of a group sees: nothing, or all addresses as they are (type ``identity``), until a
program attaches an address space.  The host's own drivers do no DMA here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pyvfio.abi import iommufd as abi
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.pcie.dmar import DeviceScope, ReservedMemory
from pyvfio_backends.software.hardware.pcie.remapping import NOTHING
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.iommu_group import IommuAbilities, IommuGroup, Region
from pyvfio_backends.software.linux.nodes import Attribute, Node, StaticDirectory, Symlink
from pyvfio_backends.software.linux.pcie_alias import dma_aliases
from pyvfio_backends.software.linux.pcie_faults import FaultLog
from pyvfio_backends.software.linux.pcie_groups import find_group
from pyvfio_backends.software.linux.pcie_irq import PcieMessages
from pyvfio_backends.software.linux.vtd_nested import VtdNesting

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.dma import DmaSpace
    from pyvfio_backends.software.hardware.pcie.remapping import RemappingUnit
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pcie_bus import PcieHostBridge
    from pyvfio_backends.software.linux.pcie_function import PcieFunction

__all__ = ["PcieIommu", "boot_iommus", "default_type", "iommu_off"]

_MESSAGES = Region(0xFEE00000, 0xFEEFFFFF, "msi")
_USB, _DISPLAY = 0x0C03, 0x03
_ISA_BRIDGE, _ISA_DMA = 0x0601, Region(0, (1 << 24) - 1, "direct-relaxable")
_OFF, _SCALABLE = "intel_iommu=off", "intel_iommu=sm_on"
_KEPT_DOMAINS = 2
_FLUSH_QUEUE, _STRICT, _IDENTITY = "DMA-FQ", "DMA", "identity"


def iommu_off(cmdline: str) -> bool:
    """Whether the kernel's command line forbids to use the IOMMU."""
    return _OFF in cmdline.split()


def default_type(cmdline: str, *, caching: bool) -> str:
    """The type of the groups' domains at boot (`iommu_subsys_init`, `intel_iommu_init`).

    ``iommu.passthrough=1`` or ``iommu=pt`` for identity; ``iommu.strict=1`` or an emulated unit for no flush queue.
    """
    words = cmdline.split()
    if "iommu=pt" in words or "iommu.passthrough=1" in words:
        return _IDENTITY
    return _STRICT if caching or "iommu.strict=1" in words else _FLUSH_QUEUE


def boot_iommus(
    kernel: Kernel,
    units: Mapping[int, RemappingUnit],
    bridges: Sequence[PcieHostBridge],
    reserved: Sequence[ReservedMemory] = (),
) -> None:
    """Take the units into use, by the segment that each is for, and all functions below the bridges.

    `reserved` is the memory that firmware has reserved for some of these.
    """
    iommus = {segment: PcieIommu(kernel, unit, n, reserved) for n, (segment, unit) in enumerate(sorted(units.items()))}
    log = FaultLog(kernel)
    for number, (segment, unit) in enumerate(sorted(units.items())):
        unit.on_fault = log.report
        log.add_line(segment, number)
    for bridge in bridges:
        if isinstance(bridge.messages, PcieMessages):
            bridge.messages.unit.on_fault = log.report_message
    for bridge in bridges:
        bridge.iommu = iommus[bridge.domain]
        for function in bridge.root.found():
            bridge.iommu.probe(function)


def _scopes(function: PcieFunction) -> Iterator[DeviceScope]:
    """How firmware would name the function, and the bridges above it.  It names no virtual functions."""
    numbers: list[int] = []
    above: list[PcieFunction] = []
    at: PcieFunction | None = function
    while at is not None:
        numbers.insert(0, at.devfn)
        above.insert(0, at)
        at = at.on.above
    for length, one in enumerate(above, 1):
        if one.pdev is None or not one.pdev.is_virtual:
            yield DeviceScope(function.bridge.domain, above[0].bus_number, tuple(numbers[:length]))


class _DirectMappings:
    """Page tables of the kernel's own that have some addresses of `memory`, each as it is (`hardware.dma.DmaSpace`)."""

    def __init__(self, memory: DmaSpace) -> None:
        self._memory = memory
        self._regions: list[Region] = []

    def add(self, regions: Iterable[Region]) -> None:
        """Map more (``iommu_create_device_direct_mappings``); they stay when the device goes."""
        self._regions = sorted({*self._regions, *regions})

    def read(self, iova: int, count: int) -> bytes:
        """See `DmaSpace.read`."""
        self._check(iova, count, write=False)
        return self._memory.read(iova, count)

    def write(self, iova: int, data: bytes) -> None:
        """See `DmaSpace.write`."""
        self._check(iova, len(data), write=True)
        self._memory.write(iova, data)

    def copy(self, target: int, source: int, count: int) -> None:
        """See `DmaSpace.copy`."""
        self.write(target, self.read(source, count))

    def _check(self, iova: int, count: int, *, write: bool) -> None:
        at, end = iova, iova + count
        for region in self._regions:
            if region.first <= at <= region.last:
                at = region.last + 1
        if at < end or at == iova:
            raise DmaFault(iova, count, write=write)


class PcieIommu(Device):
    """``dmarN`` (`number`), with links to the devices behind it; `unit` is the hardware.

    `reserved` is memory that firmware has reserved for devices, of this unit or others.
    """

    def __init__(
        self, kernel: Kernel, unit: RemappingUnit, number: int = 0, reserved: Sequence[ReservedMemory] = ()
    ) -> None:
        super().__init__(kernel, f"dmar{number}", None, cls=kernel.class_("iommu"))
        self.unit = unit
        self._reserved = reserved
        unit.enabled = True
        unit.scalable = unit.abilities.scalable and _SCALABLE in kernel.cmdline.split()
        self._nesting = (
            VtdNesting(kernel, f"dmar{number}", unit.abilities) if unit.scalable and unit.abilities.nests else None
        )
        self._functions: dict[str, PcieFunction] = {}
        kernel.add_class_device(self, quiet=True)

    def probe(self, function: PcieFunction) -> None:
        """Take a function: it joins a group, and has its DMA from there (``iommu_probe_device``)."""
        device = function.pdev
        if device is None:
            return
        function.iommu = self
        self._functions[device.name] = function
        group = function.iommu_group()
        if group is not None:
            self.kernel.groups.join(group, device)
            self._map_directly(group, [region for region in self.regions(function) if region.mapped])
            self.attach(function, group.space)

    def _map_directly(self, group: IommuGroup, regions: Sequence[Region]) -> None:
        """Map what a device needs in the group's own domain, for whoever is in the group."""
        if not regions:
            return
        domain = group.domains.get(_STRICT)
        if not isinstance(domain, _DirectMappings):
            domain = _DirectMappings(self.unit.memory)
            group.domains = {_IDENTITY: self.unit.memory, _STRICT: domain, _FLUSH_QUEUE: domain}
            for device in group.devices.values():
                device.attach_dma(group.space)
        domain.add(regions)

    def release(self, function: PcieFunction) -> None:
        """The function's device has left its group (``iommu_release_device``)."""
        self.attach(function, None)
        function.iommu = None
        if function.pdev is not None:
            self._functions.pop(function.pdev.name, None)
        for other in self._functions.values():
            if other.on is function.on and other.pdev is not None and other.pdev.iommu_group is not None:
                self.attach(other, other.pdev.iommu_group.space)  # it may have shared a name with the one that is gone

    def group(self, function: PcieFunction) -> IommuGroup:
        """The group for a function's device: one that it shares (`find_group`), or a new one."""
        found = find_group(function)
        if found is not None:
            return found
        abilities = self.unit.abilities
        type_ = default_type(self.kernel.cmdline, caching=abilities.caching)
        group = self.kernel.groups.create(type_=type_)
        group.aperture = (0, (1 << abilities.width) - 1)
        group.page_sizes = abilities.page_sizes
        group.abilities = self._abilities()
        group.domains = {_IDENTITY: self.unit.memory, _STRICT: NOTHING, _FLUSH_QUEUE: NOTHING}
        return group

    def _abilities(self) -> IommuAbilities:
        abilities = self.unit.abilities
        registers = abi.HwInfoVtd(
            flags=abi.IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17,
            cap_reg=abilities.capability,
            ecap_reg=abilities.extended_capability,
        )
        return IommuAbilities(
            hardware=(abi.IOMMU_HW_INFO_TYPE_INTEL_VTD, bytes(registers)),
            user_domains=True,
            needs_access=True,
            enforces_coherency=abilities.snoops,
            tracks_dirty=abilities.dirty and self.unit.scalable,
            nesting=self._nesting,
        )

    def regions(self, function: PcieFunction) -> list[Region]:
        """What is not for mappings (`intel_iommu_get_resv_regions`).

        It is what firmware reserves, which USB controllers and display adapters are thought not to use any more
        (`device_rmrr_is_relaxable`); of an ISA bridge its devices' DMA; and messages.
        """
        device = function.pdev
        class_code = 0 if device is None else device.class_code
        relaxable = class_code >> 8 == _USB or class_code >> 16 == _DISPLAY
        kind = "direct-relaxable" if relaxable else "direct"
        scopes = set(_scopes(function)) if self._reserved else set()
        kept = [Region(one.first, one.last, kind) for one in self._reserved if scopes.intersection(one.scopes)]
        legacy = [_ISA_DMA] if class_code >> 8 == _ISA_BRIDGE else []
        return [*kept, *legacy, _MESSAGES]

    def attach(self, function: PcieFunction, space: DmaSpace | None) -> None:
        """What the function's DMA sees, by whatever routing id it comes (``domain_context_mapping``)."""
        segment = function.bridge.domain
        for _, rid in dma_aliases(function):
            if space is None:
                self.unit.contexts.pop((segment, rid), None)
            else:
                self.unit.contexts[segment, rid] = space

    # sysfs

    @property
    def domains_used(self) -> int:
        """How many domain numbers are taken: of all groups that have a domain, and two that Linux keeps.

        One is for what is not present, one for all that is not translated (`iommu_init_domains`).
        """
        groups = {one.pdev.iommu_group for one in self._functions.values() if one.pdev is not None}
        spaces = {id(group) if group.space is NOTHING else id(group.space) for group in groups if group is not None}
        return len(spaces - {id(None), id(self.unit.memory)}) + _KEPT_DOMAINS

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        links: dict[str, Node] = {
            name: Symlink(f"../../../..{one.pdev.devpath.removeprefix('/devices')}")
            for name, one in self._functions.items()
            if one.pdev is not None
        }
        unit, abilities = self.unit, self.unit.abilities
        registers: dict[str, Node] = {
            "address": Attribute(lambda: f"{unit.address:x}\n"),
            "cap": Attribute(lambda: f"{abilities.capability:x}\n"),
            "domains_supported": Attribute(lambda: f"{1 << abilities.domain_bits}\n"),
            "domains_used": Attribute(lambda: f"{self.domains_used}\n"),
            "ecap": Attribute(lambda: f"{abilities.extended_capability:x}\n"),
            "version": Attribute(lambda: f"{abilities.version >> 4}:{abilities.version & 0xF}\n"),
        }
        return {"devices": StaticDirectory(links), "intel-iommu": StaticDirectory(registers)}
