"""Which buses become an endpoint, with which number and which segments: as Linux groups what is below a host bridge.

::

    root bus                     an endpoint of its own, next to the reserved one
    bus behind a port            an endpoint: the number of its first 64-bit segment, or the highest free one
    bus behind a bridge to PCI   an endpoint, and all buses below it are of it too (`whole`)

A bus with several 64-bit segments takes all their numbers: the first is the master, the others are its slaves, frozen
with it.  Its 32-bit segments are those that the addresses of its functions touch; where two buses touch one, the inner
one has it, so windows of bridges are to be aligned to segments.  Source: ``platforms/powernv/pci-ioda.c`` of Linux 6.12
(pnv_ioda_setup_bus_PE, pnv_ioda_pick_m64_pe, pnv_ioda_setup_pe_seg, pnv_pci_configure_bus).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pyvfio.errors import Misuse
from pyvfio.ioda.routing import RidMatch
from pyvfio.ioda.segments import Segments

__all__ = ["BusEndpoint", "BusResources", "group"]


@dataclass(frozen=True, slots=True)
class BusResources:
    """A bus: its number, the last number behind it, and what is on it.

    `parent` is the number of the bus that its bridge is on (None: it is a root bus).  `whole`: its bridge leads to
    conventional PCI.  `memory`, `io` and `wide` (64-bit prefetchable) are ranges of addresses, first and last, of the
    functions on it; of a `whole` one also what the bridges on it forward.
    """

    number: int
    last: int
    parent: int | None = None
    whole: bool = False
    memory: Sequence[tuple[int, int]] = ()
    io: Sequence[tuple[int, int]] = ()
    wide: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True, slots=True)
class BusEndpoint:
    """An endpoint: its number, which routing ids it has, which segments, and what goes with it.

    `parents` are the endpoints of the buses above, whose errors take it along; `slaves` further numbers that it has.
    """

    number: int
    match: RidMatch
    buses: range
    memory: tuple[int, ...] = ()
    io: tuple[int, ...] = ()
    wide: tuple[int, ...] = ()
    slaves: tuple[int, ...] = ()
    parents: tuple[int, ...] = field(default=())


def group(
    buses: Iterable[BusResources],
    count: int,
    m32: Segments,
    m64: Segments | None = None,
    io: Segments | None = None,
) -> list[BusEndpoint]:
    """The endpoints of buses, outer ones first as given, on a bridge that has `count` of them (the last is reserved).

    Raise `Misuse` when there are not enough, or two buses that are not below each other share a 64-bit segment.
    """
    root, free = count - 2, set(range(count - 2))
    found: list[BusEndpoint] = []
    of_bus: dict[int, BusEndpoint] = {}
    for bus in buses:
        if bus.number in of_bus:
            continue
        wide = sorted({one for ends in bus.wide for one in m64.of_bus_range(*ends)}) if m64 is not None else []
        if bus.parent is None:
            number, wide = root, []
        elif wide:
            if not free.issuperset(wide):
                taken = ", ".join(f"{one:#x}" for one in wide if one not in free)
                raise Misuse("group buses", f"bus {bus.number:02x}", cause=f"64-bit segment {taken} is another's")
            number = wide[0]
        elif not free:
            raise Misuse("group buses", f"bus {bus.number:02x}", cause="there is no endpoint left")
        else:
            number = max(free)
        free.difference_update(wide or [number])
        behind = range(bus.number, (bus.last if bus.whole else bus.number) + 1)
        parents: list[int] = []
        above = of_bus.get(bus.parent) if bus.parent is not None else None
        if above is not None:
            parents = [above.number, *above.parents]
        made = BusEndpoint(
            number,
            RidMatch.of_buses(bus.number, len(behind)),
            behind,
            _segments(m32, bus.memory),
            _segments(io, bus.io) if io is not None else (),
            tuple(wide),
            tuple(wide[1:]),
            tuple(parents),
        )
        found.append(made)
        of_bus.update((one, made) for one in behind)
    return found


def _segments(window: Segments, ranges: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    return tuple(sorted({one for ends in ranges for one in window.of_bus_range(*ends)}))
