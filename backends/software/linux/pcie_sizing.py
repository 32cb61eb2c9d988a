"""How large the windows of bridges are to be, by what is behind them (``pbus_size_io``, ``pbus_size_mem``, 6.12).

A window asks for what the functions behind it need, and if there is room also for what is optional: the base addresses
of virtual functions, and something for who comes into a slot later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_express_regs as express_regs
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.pci_device import RESOURCES, PciDevice
from pyvfio_backends.software.linux.pci_iov import FIRST_IOV
from pyvfio_backends.software.linux.resource import Resource, ResourceFlag

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pcie_bus import PcieBus

__all__ = ["Optional", "alignment", "hotplugs", "size_bridges"]

_IO, _MEMORY, _PREFETCHABLE = RESOURCES, RESOURCES + 1, RESOURCES + 2
_IO_GRANULE, _MEMORY_GRANULE = 1 << 12, 1 << 20
_SLOT_IO, _SLOT_MEMORY, _SLOT_PREFETCHABLE = 1 << 8, 1 << 21, 1 << 21
"""What a slot keeps for who comes later (``pci_hotplug_io_size`` and so on)."""
_PREFETCH = ResourceFlag.MEM | ResourceFlag.PREFETCH
_WIDE = _PREFETCH | ResourceFlag.MEM_64


class Optional:
    """What is asked for besides, in the order in which it was noted (``realloc_head``)."""

    def __init__(self) -> None:
        self._wanted: dict[int, tuple[PciDevice, int, Resource, int, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._wanted)

    def note(self, device: PciDevice, index: int, size: int, align: int) -> None:
        """Resource `index` of a device could be this much larger."""
        resource = device.resources[index]
        self._wanted[id(resource)] = device, index, resource, size, align

    def of(self, resource: Resource) -> tuple[int, int]:
        """The size and alignment noted for a resource, 0 and 0 without."""
        found = self._wanted.get(id(resource))
        return (found[3], found[4]) if found is not None else (0, 0)

    def drop(self, resource: Resource) -> None:
        """It got it."""
        self._wanted.pop(id(resource), None)

    def take(self, items: list[tuple[PciDevice, int]]) -> list[tuple[PciDevice, int, Resource, int, int]]:
        """What is left for these resources; it is not noted any more."""
        own = {id(device.resources[index]) for device, index in items}
        found = [one for key, one in self._wanted.items() if key in own or not one[2].flags]
        self._wanted = {key: one for key, one in self._wanted.items() if key not in own and one[2].flags}
        return found


def alignment(device: PciDevice, index: int) -> int:
    """The alignment of a resource that has no place yet (``pci_resource_alignment``)."""
    resource = device.resources[index]
    if device.sriov is not None and FIRST_IOV <= index < RESOURCES:
        return device.sysdata.iov_alignment(index - FIRST_IOV)
    if resource.flags & ResourceFlag.SIZEALIGN:
        return resource.end - resource.start + 1
    return resource.start if resource.flags & ResourceFlag.STARTALIGN else 0


def size_bridges(bus: PcieBus, optional: Optional) -> None:
    """Size the windows that lead to a bus, and before that those behind it (``__pci_bus_size_bridges``)."""
    for function in bus.functions.values():
        if function.pdev is not None and function.subordinate is not None:
            size_bridges(function.subordinate, optional)
    bridge = bus.above.pdev if bus.above is not None else None
    if bridge is None:
        return
    _check_ranges(bridge)
    slot = hotplugs(bridge)
    _size_io(bus, bridge, _SLOT_IO if slot else 0, optional)
    memory, prefetchable = (_SLOT_MEMORY, _SLOT_PREFETCHABLE) if slot else (0, 0)
    flags = bridge.resources[_PREFETCHABLE].flags
    mask = ResourceFlag.MEM
    others: tuple[int, ...] = (ResourceFlag.MEM,)
    if flags & ResourceFlag.MEM_64:
        _size_memory(bus, bridge, _PREFETCHABLE, _WIDE, (_WIDE,), prefetchable, optional)
        mask, others = _WIDE, (ResourceFlag.MEM, _PREFETCH, ResourceFlag.MEM | ResourceFlag.MEM_64)
    elif flags & ResourceFlag.PREFETCH:
        _size_memory(bus, bridge, _PREFETCHABLE, _PREFETCH, (_PREFETCH,), prefetchable, optional)
        mask = _PREFETCH
    else:
        memory += prefetchable
    _size_memory(bus, bridge, _MEMORY, mask, others, memory, optional)


def hotplugs(device: PciDevice) -> bool:
    """Whether a port has a hot-pluggable slot (``set_pcie_hotplug_bridge``)."""
    if not device.express or not device.read_config(device.express + regs.PCI_EXP_FLAGS, 2) & regs.PCI_EXP_FLAGS_SLOT:
        return False
    slot = device.read_config(device.express + express_regs.PCI_EXP_SLTCAP, 4)
    return bool(slot & express_regs.PCI_EXP_SLTCAP_HPC)


def _check_ranges(bridge: PciDevice) -> None:
    """Which windows it has at all (``pci_read_bridge_windows``, ``pci_bridge_check_ranges``)."""

    def there(register: int, length: int, ones: int) -> int:
        value = bridge.read_config(register, length)
        if not value:
            bridge.write_config(register, length, ones)
            value = bridge.read_config(register, length)
            bridge.write_config(register, length, 0)
        return value

    resources = bridge.resources
    resources[_MEMORY].flags |= ResourceFlag.MEM
    if not resources[_IO].claimed and there(bridge_regs.PCI_IO_BASE, 2, 0xE0F0):
        resources[_IO].flags |= ResourceFlag.IO
    if not resources[_PREFETCHABLE].claimed:
        value = there(bridge_regs.PCI_PREF_MEMORY_BASE, 4, 0xFFE0FFF0)
        if value:
            resources[_PREFETCHABLE].flags |= _PREFETCH
        if value & bridge_regs.PCI_PREF_RANGE_TYPE_MASK == bridge_regs.PCI_PREF_RANGE_TYPE_64:
            resources[_PREFETCHABLE].flags |= ResourceFlag.MEM_64 | bridge_regs.PCI_PREF_RANGE_TYPE_64


def _size_io(bus: PcieBus, bridge: PciDevice, slot: int, optional: Optional) -> None:
    window = bridge.resources[_IO]
    if window.claimed or not window.flags & ResourceFlag.IO:
        return
    size = more = 0
    align = _IO_GRANULE
    for device in bus.devices():
        for index, resource in enumerate(device.resources):
            if not resource.claimed and resource.flags & ResourceFlag.IO:
                size += resource.end - resource.start + 1
                align = max(align, alignment(device, index))
                more += optional.of(resource)[0]
    align = max(align, bus.bridge.window_alignment(bus, window.flags))
    _ask(bridge, _IO, size, slot, more, align, align, optional)


def _size_memory(
    bus: PcieBus,
    bridge: PciDevice,
    index: int,
    mask: int,
    kinds: tuple[int, ...],
    slot: int,
    optional: Optional,
) -> None:
    """Size one window for all resources behind it whose flags, under the mask, are one of these kinds."""
    if bridge.resources[index].claimed:
        return
    size = more = optional_align = 0
    aligns: dict[int, int] = {}
    for device in bus.devices():
        for number, resource in enumerate(device.resources):
            if resource.claimed or not resource.flags or resource.flags & mask not in kinds:
                continue
            own = resource.end - resource.start + 1
            align = alignment(device, number)
            if device.sriov is not None and FIRST_IOV <= number < RESOURCES:
                optional_align = max(optional_align, align)
                resource.end = resource.start - 1
                optional.note(device, number, own, 0)
                more += own
                continue
            order = max(_MEMORY_GRANULE, align)
            aligns.setdefault(order, 0)
            size += max(own, align)
            if own <= align:
                aligns[order] += align
            added, added_align = optional.of(resource)
            more += added
            optional_align = max(optional_align, added_align)
    least = bus.bridge.window_alignment(bus, bridge.resources[index].flags)
    align = max(_common_alignment(aligns), _MEMORY_GRANULE, least)
    _ask(bridge, index, size, slot, more, align, max(align, optional_align), optional)


def _common_alignment(aligns: dict[int, int]) -> int:
    """``calculate_mem_align``: less than that of the largest where smaller ones can be before it."""
    total = least = 0
    order = _MEMORY_GRANULE
    while order <= max(aligns, default=0):
        if not total:
            least = order
        elif _up(total + least, least) < order:
            least = order >> 1
        total += aligns.get(order, 0)
        order <<= 1
    return least


def _ask(
    bridge: PciDevice, index: int, size: int, slot: int, more: int, align: int, most: int, optional: Optional
) -> None:
    """Note what a window asks for: its size and its alignment are in the resource itself."""
    window = bridge.resources[index]
    old = window.size if window.end > window.start else 0
    least = _up(max(size, old), align)
    largest = _up(max(max(size, slot) + more, old), most) if slot or more else least
    if not least and not largest:
        window.flags = 0
        return
    window.start, window.end = align, align + least - 1
    window.flags |= ResourceFlag.STARTALIGN
    if largest > least:
        optional.note(bridge, index, largest - least, most)


def _up(value: int, align: int) -> int:
    return -(-value // align) * align
