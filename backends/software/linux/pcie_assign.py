"""Addresses that Linux gives by itself (``drivers/pci/setup-bus.c``, ``setup-res.c``, ``bus.c``, 6.12).

::

    assign_unassigned   at boot: what firmware placed is kept, what has no address gets one (all root buses)
    assign_bus          after a rescan: what was found anew on a bus and behind it gets addresses, whatever it had
    assign_behind       the same behind one port, after its slot was switched on

A resource that is `Resource.claimed` keeps its place, and a window its size.  `pcie_sizing` says what windows ask for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.pci_device import RESOURCES, ROM, PciDevice
from pyvfio_backends.software.linux.pci_iov import FIRST_IOV
from pyvfio_backends.software.linux.pcie_sizing import Optional, alignment, size_bridges
from pyvfio_backends.software.linux.resource import Resource, ResourceFlag

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pcie_bus import PcieBus

__all__ = ["assign_behind", "assign_bus", "assign_unassigned"]

_IO, _MEMORY, _PREFETCHABLE = RESOURCES, RESOURCES + 1, RESOURCES + 2
_TYPES = ResourceFlag.IO | ResourceFlag.MEM
_LEAST_IO, _ISA_HOLE, _ISA_STEP = 1 << 12, 0x300, 0x400
_FOUR_GIB = 1 << 32
_WORD = 0xFFFFFFFF
_UNTOUCHED_CLASSES = (0x0000, 0x0600)
"""Neither what has no class nor a host bridge is given anything."""

_Item = tuple[PciDevice, int]


def assign_unassigned(roots: Iterable[PcieBus]) -> None:
    """Claim what firmware placed, and give addresses to all else (``pcibios_assign_resources``)."""
    known = list(roots)
    for root in known:
        for function in root.walk():
            for resource in function.pdev.resources if function.pdev is not None else ():
                placed = resource.flags and not resource.flags & ResourceFlag.STARTALIGN
                resource.claimed = bool(placed and resource.start)
    for root in known:
        assign_bus(root)


def assign_bus(bus: PcieBus) -> None:
    """Give addresses to what has none on a bus and behind it (``pci_assign_unassigned_bus_resources``)."""
    optional = Optional()
    for function in bus.functions.values():
        if function.pdev is not None and function.subordinate is not None:
            size_bridges(function.subordinate, optional)
    _assign(bus, optional)


def assign_behind(bus: PcieBus) -> None:
    """Give addresses to what is behind the bridge above `bus` (``pci_assign_unassigned_bridge_resources``).

    The windows of that bridge are as large as they are.
    """
    optional = Optional()
    size_bridges(bus, optional)
    _assign(bus, optional)
    if bus.above is not None and bus.above.pdev is not None:
        bus.bridge.set_up_windows(bus.above.pdev)
        _set_up_bridge(bus.above.pdev)


# ---- a bus and what is behind it -------------------------------------------------------------------------------------


def _assign(bus: PcieBus, optional: Optional) -> None:
    """``__pci_bus_assign_resources``: the largest alignment first."""
    items: list[_Item] = []
    for device in bus.devices():
        if device.class_code >> 8 in _UNTOUCHED_CLASSES:
            continue
        for index, resource in enumerate(device.resources):
            if resource.flags and not resource.claimed and alignment(device, index):
                items.append((device, index))
    items.sort(key=lambda item: -alignment(*item))
    _assign_sorted(bus, items, optional)
    for function in tuple(bus.functions.values()):
        if function.pdev is None or function.subordinate is None:
            continue
        _assign(function.subordinate, optional)
        if not function.pdev.enable_count:
            bus.bridge.set_up_windows(function.pdev)
            _set_up_bridge(function.pdev)


def _assign_sorted(bus: PcieBus, items: list[_Item], optional: Optional) -> None:
    """``__assign_resources_sorted``: with all that was optional if that fits, else what has to be comes first."""
    if optional and items:
        before = {item: (resource.start, resource.end, resource.flags) for item, resource in _resources(items)}
        items = _widen(items, optional)
        failed = [item for item, resource in _resources(items) if not _place(bus, *item) and resource.flags]
        if not failed:
            for _, resource in _resources(items):
                optional.drop(resource)
            return
        kinds = {kind for item in failed for kind in _to_release(before[item][2])}
        for item, resource in _resources(list(items)):
            if resource.claimed and _kind(bus, resource) not in kinds:
                optional.drop(resource)
                items.remove(item)
        for item, resource in _resources(items):
            resource.claimed = False
            resource.start, resource.end, resource.flags = before[item]
        items.sort(key=lambda item: -alignment(*item))
    for item, resource in _resources(items):
        if resource.size and not _place(bus, *item):
            resource.clear()
    for device, index, resource, size, align in optional.take(items):
        _add(bus, device, index, resource, size, align)


def _resources(items: list[_Item]) -> list[tuple[_Item, Resource]]:
    return [((device, index), device.resources[index]) for device, index in items]


def _widen(items: list[_Item], optional: Optional) -> list[_Item]:
    """Add what is optional to each; the alignment of a window may grow with it, and its place in the order."""
    for _, resource in _resources(items):
        size, align = optional.of(resource)
        resource.end += size
        if resource.flags & ResourceFlag.STARTALIGN and align > resource.start:
            resource.end += align - resource.start
            resource.start = align
    return sorted(items, key=lambda item: -alignment(*item))


def _to_release(flags: int) -> Iterator[str]:
    """What is tried again when one of these has found no place (``pci_fail_res_type_mask``)."""
    if flags & ResourceFlag.IO:
        yield "io"
    elif flags & ResourceFlag.PREFETCH:
        yield from ("prefetchable", "memory")
    else:
        yield "memory"


def _kind(bus: PcieBus, resource: Resource) -> str:
    if resource.flags & ResourceFlag.IO:
        return "io"
    if resource.flags & ResourceFlag.PREFETCH:
        above = next((one for one in _windows(bus) if one.start <= resource.start <= one.end), None)
        return "prefetchable" if above is not None and above.flags & ResourceFlag.PREFETCH else "memory"
    return "memory"


def _add(bus: PcieBus, device: PciDevice, index: int, resource: Resource, size: int, align: int) -> None:
    """Add what is optional to one that has its place by now, or give it one (``reassign_resources_sorted``)."""
    if not resource.flags:
        return
    if not resource.size:
        resource.start, resource.end = align, align + size - 1
        if not _place(bus, device, index):
            resource.clear()
        return
    kept = resource.start, resource.end, resource.flags
    resource.claimed = False
    resource.start, resource.end = align, align + resource.size + size - 1
    resource.flags |= ResourceFlag.STARTALIGN
    if not _place(bus, device, index):
        resource.start, resource.end, resource.flags = kept
        resource.claimed = True


# ---- one resource ----------------------------------------------------------------------------------------------------


def _place(bus: PcieBus, device: PciDevice, index: int) -> bool:
    """Find a place for a resource and write it (``pci_assign_resource``); False, and nothing changed, without one."""
    resource = device.resources[index]
    size, align = resource.size, alignment(device, index)
    wide = ResourceFlag.PREFETCH | ResourceFlag.MEM_64
    masks = [wide]
    if resource.flags & wide == wide:
        masks.append(ResourceFlag.PREFETCH)
    if resource.flags & wide:
        masks.append(0)
    for mask in masks:
        start = _find(bus, resource, size, align, mask | _TYPES)
        if start is not None:
            resource.start, resource.end = start, start + size - 1
            resource.flags &= ~(ResourceFlag.STARTALIGN | ResourceFlag.UNSET)
            resource.claimed = True
            _write(device, index, resource)
            return True
    return False


def _find(bus: PcieBus, resource: Resource, size: int, align: int, mask: int) -> int | None:
    """``pci_bus_alloc_resource``: above 4 GiB first for what can be there."""
    regions = [range(_FOUR_GIB)]
    if resource.flags & ResourceFlag.MEM_64:
        regions = [range(_FOUR_GIB, 1 << 64), range(1 << 64)]
    used = [
        one
        for device in bus.devices()
        if not device.is_virtual
        for one in device.resources
        if one.claimed and one is not resource
    ]
    for region in regions:
        for window in _windows(bus):
            offset = window.start - bus.bridge.bus_address(window.start)
            if (resource.flags ^ window.flags) & mask:
                continue
            if window.flags & ResourceFlag.PREFETCH and not resource.flags & ResourceFlag.PREFETCH:
                continue
            start, stop = max(window.start, region.start + offset), min(window.end + 1, region.stop + offset)
            if not start and resource.flags & ResourceFlag.IO:
                start = _LEAST_IO
            place = _lowest(used, range(start, max(start, stop)), size, align, io=bool(window.flags & ResourceFlag.IO))
            if place is not None:
                return place
    return None


def _windows(bus: PcieBus) -> list[Resource]:
    """The addresses that reach a bus (``pci_bus_for_each_resource``)."""
    if bus.above is None or bus.above.pdev is None:
        return bus.bridge.windows
    own = bus.above.pdev.resources
    return [own[index] for index in (_IO, _MEMORY, _PREFETCHABLE) if own[index].claimed]


def _lowest(used: Iterable[Resource], room: range, size: int, align: int, *, io: bool) -> int | None:
    """The lowest aligned place that none of the resources has; ports of ISA devices are left out, in every KiB."""

    def aligned(place: int) -> int:
        place = -(-place // align) * align
        return -(-place // _ISA_STEP) * _ISA_STEP if io and place & _ISA_HOLE else place

    place = aligned(room.start)
    for resource in sorted(used, key=lambda one: one.start):
        if bool(resource.flags & ResourceFlag.IO) is io and resource.start < place + size and resource.end >= place:
            place = aligned(resource.end + 1)
    return place if place + size <= room.stop else None


def _write(device: PciDevice, index: int, resource: Resource) -> None:
    """Put an address into its register (``pci_update_resource``): not that of a ROM, which is off."""
    if index == ROM or index >= RESOURCES:
        return
    if index >= FIRST_IOV:
        if device.sriov is not None and not device.sriov.num_vfs:
            device.sriov.write_bars()
        return
    register = regs.PCI_BASE_ADDRESS_0 + 4 * index
    start = device.sysdata.bus_address(resource.start)
    command = device.command
    wide = bool(resource.flags & ResourceFlag.MEM_64)
    if wide:
        device.write_config(regs.PCI_COMMAND, 2, command & ~regs.PCI_COMMAND_MEMORY)
    device.write_config(register, 4, start & _WORD)
    if wide:
        device.write_config(register + 4, 4, start >> 32)
        device.write_config(regs.PCI_COMMAND, 2, command)


def _on_bus(device: PciDevice, resource: Resource) -> Resource:
    """A resource by its addresses on the bus."""
    start = device.sysdata.bus_address(resource.start) if resource.flags else resource.start
    return Resource(start, start + resource.end - resource.start, resource.flags)


def _set_up_bridge(device: PciDevice) -> None:
    """Put the windows of a bridge into its registers (``pci_setup_bridge``)."""
    io, memory, wide = (_on_bus(device, device.resources[index]) for index in (_IO, _MEMORY, _PREFETCHABLE))
    low = io.start >> 8 & 0xF0 | io.end & 0xF000 if io.flags & ResourceFlag.IO else 0x00F0
    upper = io.start >> 16 | io.end & 0xFFFF0000 if io.flags & ResourceFlag.IO else 0
    device.write_config(bridge_regs.PCI_IO_BASE_UPPER16, 4, 0x0000FFFF)
    device.write_config(bridge_regs.PCI_IO_BASE, 2, low)
    device.write_config(bridge_regs.PCI_IO_BASE_UPPER16, 4, upper)
    value = memory.start >> 16 & 0xFFF0 | memory.end & 0xFFF00000 if memory.flags & ResourceFlag.MEM else 0x0000FFF0
    device.write_config(bridge_regs.PCI_MEMORY_BASE, 4, value)
    there = bool(wide.flags & ResourceFlag.PREFETCH)
    value = wide.start >> 16 & 0xFFF0 | wide.end & 0xFFF00000 if there else 0x0000FFF0
    high = there and bool(wide.flags & ResourceFlag.MEM_64)
    device.write_config(bridge_regs.PCI_PREF_LIMIT_UPPER32, 4, 0)
    device.write_config(bridge_regs.PCI_PREF_MEMORY_BASE, 4, value)
    device.write_config(bridge_regs.PCI_PREF_BASE_UPPER32, 4, wide.start >> 32 if high else 0)
    device.write_config(bridge_regs.PCI_PREF_LIMIT_UPPER32, 4, wide.end >> 32 if high else 0)
