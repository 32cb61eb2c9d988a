"""Giving addresses as SeaBIOS does, so that a machine has them where QEMU's has: memory downwards from the end.

::

    pools      I/O; memory; prefetchable memory of any width, also below 4 GiB
    a window   in it the largest alignment first, then the largest size; base addresses as they were found, then
               bridges, the one with the highest bus number first; at least 4 KiB of I/O, 2 MiB of memory
    reserved   two windows of memory for a slot or a conventional bus with nothing in it, I/O only for the latter
    at the root  [memory][prefetchable] end at the end of the aperture, the one with the larger alignment is first
                 I/O from c000 if 16 KiB are enough, else from the start of the aperture

All root buses share the aperture.  Base addresses of virtual functions are left to the operating system.  What does not
fit is refused by pool: then nothing in it is placed.  Source: SeaBIOS 1.16, ``src/fw/pciinit.c``.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.hardware.pcie.allocation import Layout, Placed, Pool, write_layout
from pyvfio_backends.software.hardware.pcie.bar_sizing import FoundBar
from pyvfio_backends.software.hardware.pcie.config_mechanism import ConfigAccess
from pyvfio_backends.software.hardware.pcie.enumeration import Found, FoundBus, Reserve

__all__ = ["lay_out_downwards"]

_LEAST_BAR, _IO_WINDOW, _MEMORY_WINDOW = 1 << 12, 1 << 12, 1 << 21
_SMALL_IO, _SMALL_IO_BASE = 0x4000, 0xC000


@dataclass(slots=True)
class _Entry:
    function: Found
    bar: FoundBar | None
    size: int
    align: int


_Region = list[_Entry]


def _pool(bar: FoundBar) -> Pool:
    return Pool.IO if bar.io else Pool.PREFETCHABLE if bar.prefetchable else Pool.MEMORY


def lay_out_downwards(
    access: ConfigAccess, buses: list[FoundBus], apertures: dict[Pool, range], reserve: Reserve
) -> Layout:
    """Give addresses to everything on these root buses and behind them, and write them; `reserve` is not used.

    `apertures` are the ranges for I/O and for memory; the one for prefetchable memory is not used.
    """
    layout = Layout()
    regions = {pool: _regions(buses, pool) for pool in Pool}
    root = {pool: regions[pool][None] for pool in Pool}
    for pool, base in _bases(root, apertures).items():
        if base is None:
            layout.unplaced += [(one.function, one.bar, pool) for region in regions[pool].values() for one in region]
        elif root[pool]:
            _map(regions[pool], None, base, pool, layout)
            layout.ranges[buses[0].segment, buses[0].number, pool] = range(base, base + _sum(root[pool]))
    write_layout(access, buses, layout)
    order = {id(function): place for place, function in enumerate(one for bus in buses for one in bus.walk())}
    layout.placed.sort(key=lambda one: (order[id(one.function)], one.pool.value, one.bar is None, one.address))
    return layout


def _regions(buses: list[FoundBus], pool: Pool) -> dict[int | None, _Region]:
    """What is asked for on each bus, by the identity of the bridge above it; None are the root buses together."""
    functions = sorted((one for bus in buses for one in bus.walk()), key=lambda one: (one.segment, one.rid))
    regions: dict[int | None, _Region] = {None: []}
    for function in functions:
        region = regions.setdefault(_above(function), [])
        for bar in function.bars:
            if not bar.virtual and _pool(bar) is pool:
                size = bar.size if bar.io else max(bar.size, _LEAST_BAR)
                _insert(region, _Entry(function, bar, size, size))
    bridges = [one for one in functions if one.behind is not None]
    for bridge in sorted(bridges, key=lambda one: -one.behind.number if one.behind else 0):
        region = regions.get(id(bridge), [])
        least = _IO_WINDOW if pool is Pool.IO else _MEMORY_WINDOW
        align = max([least, *(entry.align for entry in region)])
        size = _sum(region)
        if not size and _keeps(bridge, pool):
            size = align
        if size:
            _insert(regions[_above(bridge)], _Entry(bridge, None, -(-size // align) * align, align))
    return regions


def _above(function: Found) -> int | None:
    return None if function.parent is None else id(function.parent)


def _keeps(bridge: Found, pool: Pool) -> bool:
    """Whether an empty bus gets a window: of a slot for memory, of a conventional bus for everything."""
    if bridge.kind is ExpressType.PCI_BRIDGE:
        return True
    return bridge.hotplug and pool is not Pool.IO


def _insert(region: _Region, entry: _Entry) -> None:
    place = next(
        (
            index
            for index, one in enumerate(region)
            if one.align < entry.align or (one.align == entry.align and one.size < entry.size)
        ),
        len(region),
    )
    region.insert(place, entry)


def _sum(region: _Region) -> int:
    return sum(entry.size for entry in region)


def _bases(root: dict[Pool, _Region], apertures: dict[Pool, range]) -> dict[Pool, int | None]:
    """Where the regions of the root begin; None where one does not fit."""
    io, memory = apertures[Pool.IO], apertures[Pool.MEMORY]
    size = _sum(root[Pool.IO])
    start = _SMALL_IO_BASE if size < _SMALL_IO and _SMALL_IO_BASE in io else io.start
    first, second = Pool.MEMORY, Pool.PREFETCHABLE
    if _align(root[first]) < _align(root[second]):
        first, second = second, first
    upper = _down(memory.stop - _sum(root[second]), _align(root[second]))
    lower = _down(upper - _sum(root[first]), _align(root[first]))
    fits = lower >= memory.start
    return {
        Pool.IO: start if start + size <= io.stop else None,
        first: lower if fits else None,
        second: upper if fits else None,
    }


def _align(region: _Region) -> int:
    return region[0].align if region else 1


def _down(value: int, align: int) -> int:
    return value // align * align


def _map(regions: dict[int | None, _Region], above: int | None, base: int, pool: Pool, layout: Layout) -> None:
    for entry in regions.get(above, []):
        layout.placed.append(Placed(entry.function, entry.bar, pool, base, entry.size))
        if entry.bar is None:
            _map(regions, id(entry.function), base, pool, layout)
        base += entry.size
