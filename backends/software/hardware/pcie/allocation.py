"""Giving addresses: what each base address and each bridge window gets, in three pools.

::

    I/O             I/O base addresses                           windows of 4 KiB pages
    memory          32-bit memory, all that is not prefetchable  windows of 1 MiB
    prefetchable    64-bit prefetchable base addresses           windows of 1 MiB, above 4 GiB

In a window the largest alignment comes first, then the largest size, then the lowest function: so the layout only
depends on what is there.  What an aperture has no room for is not placed: its decoding stays off, and `Layout.unplaced`
tells it.  Reservations for hot-plug are the first to go: of a pool, when it would not fit with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio_backends.software.hardware.pcie.bar_sizing import FoundBar
from pyvfio_backends.software.hardware.pcie.config_mechanism import ConfigAccess
from pyvfio_backends.software.hardware.pcie.enumeration import Found, FoundBus, Reserve

__all__ = ["Layout", "Placed", "Pool", "lay_out", "pool_of", "write_layout"]

_IO_GRANULE, _MEMORY_GRANULE = 1 << 12, 1 << 20
_DWORD = 0xFFFFFFFF


class Pool(Enum):
    """A kind of addresses that are given together."""

    IO = "I/O"
    MEMORY = "memory"
    PREFETCHABLE = "prefetchable"

    @property
    def granule(self) -> int:
        """The smallest window."""
        return _IO_GRANULE if self is Pool.IO else _MEMORY_GRANULE


@dataclass(frozen=True, slots=True)
class Placed:
    """An address that was given: to a base address of `function`, or to its window when `bar` is None."""

    function: Found
    bar: FoundBar | None
    pool: Pool
    address: int
    size: int


@dataclass(slots=True)
class Layout:
    """What `lay_out` did: everything placed, in order of the functions, and what had no room.

    `ranges` are the addresses of a root bus, by segment, bus number and pool.
    """

    placed: list[Placed] = field(default_factory=list)
    unplaced: list[tuple[Found, FoundBar | None, Pool]] = field(default_factory=list)
    ranges: dict[tuple[int, int, Pool], range] = field(default_factory=dict)


@dataclass(slots=True)
class _Item:
    function: Found
    bar: FoundBar | None
    size: int
    align: int
    items: list[_Item] = field(default_factory=list)
    offset: int = 0


def pool_of(bar: FoundBar) -> Pool:
    """Where a base address goes."""
    if bar.io:
        return Pool.IO
    return Pool.PREFETCHABLE if bar.prefetchable and bar.wide else Pool.MEMORY


def lay_out(
    access: ConfigAccess,
    buses: list[FoundBus],
    apertures: dict[Pool, range],
    reserve: Reserve,
    granules: Mapping[Pool, int] | None = None,
) -> Layout:
    """Give addresses out of `apertures` to everything on these root buses and behind them, and write them.

    What belongs to a root bus lies together: `Layout.ranges` tells where.  `granules` are what windows of bridges begin
    and end with, where that is more than a bridge asks for.
    """
    layout = Layout()
    for pool in Pool:
        aperture = apertures[pool]
        granule = max(pool.granule, (granules or {}).get(pool, 0))
        items = [_measure(bus, pool, reserve, granule) for bus in buses]
        if _end(items, pool, aperture.start) > aperture.stop:
            items = [_measure(bus, pool, Reserve(0, 0, 0, 0), granule) for bus in buses]
        cursor = aperture.start
        for bus, own in zip(buses, items, strict=True):
            cursor = _place(bus, own, pool, range(cursor, aperture.stop), layout)
    write_layout(access, buses, layout)
    order = {id(function): place for place, function in enumerate(one for bus in buses for one in bus.walk())}
    layout.placed.sort(key=lambda one: (order[id(one.function)], one.pool.value, one.bar is None, one.address))
    return layout


def _end(buses: list[list[_Item]], pool: Pool, cursor: int) -> int:
    """Where the last address would be."""
    for items in buses:
        start = _up(cursor, max([pool.granule, *(item.align for item in items)]))
        cursor = _up(_pack(items, start), pool.granule) if items else cursor
    return cursor


def _measure(bus: FoundBus, pool: Pool, reserve: Reserve, granule: int) -> list[_Item]:
    """What the functions of a bus ask for, bridges for what is behind them."""
    items: list[_Item] = []
    for function in bus.functions:
        items += [_Item(function, bar, bar.size, bar.align) for bar in function.bars if pool_of(bar) is pool]
        if function.behind is None:
            continue
        behind = _measure(function.behind, pool, reserve, granule)
        kept = {Pool.IO: reserve.io, Pool.MEMORY: reserve.memory, Pool.PREFETCHABLE: reserve.prefetchable}[pool]
        size = max(_pack(behind, 0), kept if function.hotplug else 0)
        if size:
            size = _up(size, granule)
            align = max([granule, *(item.align for item in behind)])
            items.append(_Item(function, None, size, align, behind))
    return items


def _pack(items: list[_Item], base: int) -> int:
    """Order the items and set their offsets from `base`; where they end.  `base` must be aligned for the largest."""
    items.sort(key=lambda one: (-one.align, -one.size))
    cursor = base
    for item in items:
        item.offset = _up(cursor, item.align) - base
        cursor = base + item.offset + item.size
    return cursor


def _place(bus: FoundBus, items: list[_Item], pool: Pool, left: range, layout: Layout) -> int:
    """Place what is on a root bus in what is left of an aperture; where the rest begins."""
    if not items:
        return left.start
    _pack(items, 0)
    first = cursor = _up(left.start, max(pool.granule, items[0].align))
    for item in items:
        address = _up(cursor, item.align)
        if address + item.size > left.stop:
            _refuse(item, pool, layout)
            continue
        _settle(item, pool, address, layout)
        cursor = address + item.size
    if cursor > first:
        cursor = min(left.stop, _up(cursor, pool.granule))
        layout.ranges[bus.segment, bus.number, pool] = range(first, cursor)
        return cursor
    return left.start


def _settle(item: _Item, pool: Pool, address: int, layout: Layout) -> None:
    layout.placed.append(Placed(item.function, item.bar, pool, address, item.size))
    for inner in item.items:
        _settle(inner, pool, address + inner.offset, layout)


def _refuse(item: _Item, pool: Pool, layout: Layout) -> None:
    layout.unplaced.append((item.function, item.bar, pool))
    for inner in item.items:
        _refuse(inner, pool, layout)


def _up(value: int, align: int) -> int:
    return -(-value // align) * align


# ---- writing ---------------------------------------------------------------------------------------------------------


def write_layout(access: ConfigAccess, buses: list[FoundBus], layout: Layout) -> None:
    """Write all addresses of a layout, after closing every window behind these root buses."""
    for bus in buses:
        for function in bus.walk():
            if function.bridge:
                _close(access, function)
    for placed in layout.placed:
        function = placed.function
        if placed.bar is None:
            _WINDOWS[placed.pool](access, function, placed.address, placed.address + placed.size - 1)
            continue
        bar = placed.bar
        access.config_write(function.segment, function.rid, bar.register, 4, placed.address & _DWORD)
        if bar.wide:
            access.config_write(function.segment, function.rid, bar.register + 4, 4, placed.address >> 32)


def _close(access: ConfigAccess, function: Found) -> None:
    """Close the windows of a bridge: the first address comes after the last."""
    for write in _WINDOWS.values():
        write(access, function, _DWORD, 0)


def _io_window(access: ConfigAccess, function: Found, first: int, last: int) -> None:
    value = first >> 8 & 0xF0 | last & 0xF000
    access.config_write(function.segment, function.rid, bridge_regs.PCI_IO_BASE, 2, value)


def _memory_window(access: ConfigAccess, function: Found, first: int, last: int) -> None:
    value = first >> 16 & 0xFFF0 | last & 0xFFF00000
    access.config_write(function.segment, function.rid, bridge_regs.PCI_MEMORY_BASE, 4, value)


def _prefetchable_window(access: ConfigAccess, function: Found, first: int, last: int) -> None:
    def write(offset: int, value: int) -> None:
        access.config_write(function.segment, function.rid, offset, 4, value)

    write(bridge_regs.PCI_PREF_MEMORY_BASE, first >> 16 & 0xFFF0 | last & 0xFFF00000)
    write(bridge_regs.PCI_PREF_BASE_UPPER32, first >> 32)
    write(bridge_regs.PCI_PREF_LIMIT_UPPER32, last >> 32)


_WINDOWS: dict[Pool, Callable[[ConfigAccess, Found, int, int], None]] = {
    Pool.IO: _io_window,
    Pool.MEMORY: _memory_window,
    Pool.PREFETCHABLE: _prefetchable_window,
}
