"""The address space of a guest's function as VFIO mappings: the guest's tables, followed refresh by refresh.

A guest tells its machine of every change of its translation tables with REFRESH PCI TRANSLATIONS.  Each time the
tables are read for that range only, and the mappings of the device's address space are made the same: first what is no
longer valid is unmapped, then what is new is mapped, neighbours in one call.  So a guest that maps 1 GiB at once costs
one call and not one for each of its 262,144 pages.

The kernel takes mappings away only as they were made.  When a guest invalidates a part of what it refreshed as a whole,
the rest is unmapped with it and mapped again at once; a DMA access of the rest in between fails.  A guest that maps and
unmaps the same ranges, as Linux does, never gets there.  When the kernel takes no more mappings, what was unmapped so
and could not be mapped again is owed: each later refresh tries it first, and is not done before it is mapped.

Source: ``hw/s390x/s390-pci-inst.c`` of QEMU (``rpcit_service_call``: unmap first, the status for exhausted mappings);
``drivers/vfio/vfio_iommu_type1.c`` (no splitting of mappings).
"""

from __future__ import annotations

import errno
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Final

from sortedcontainers import SortedDict

from pyvfio.errors import KernelRefused, Misuse, PyvfioError
from pyvfio.iommu.address_space import AddressSpace
from pyvfio.passthrough.memory import GuestStorage, MemoryArea
from pyvfio.zpci.event import ErrorCode
from pyvfio.zpci.function import InsufficientMappings
from pyvfio.zpci.run import Run, runs
from pyvfio.zpci.table import FRAME, Iota, TranslationFault

__all__ = ["ShadowMappings"]

_EXHAUSTED: Final = (errno.ENOSPC, errno.ENOMEM)
_WRONG: Final = (errno.EINVAL, errno.EOVERFLOW, errno.EEXIST, errno.EFAULT)

#: How many runs a refresh takes without asking the kernel whether it would; and how many it adds where there is no
#: limit (iommufd): as many as a type 1 container takes, so that it ends; the guest refreshes again, and gets further.
_UNASKED: Final = 1 << 12
_MOST: Final = 1 << 16

#: How many runs a refresh looks at where the guest has no storage: a few tables can name any number of them.
_STRAYS: Final = 1 << 16


class ShadowMappings:
    """DMA addresses from `pba` to `pal` (inclusive) by the guest's tables (implements `pyvfio.zpci.function.Space`).

    `calls` counts the map and unmap calls that were made.  What the tables map to addresses where the guest has no
    storage is not mapped: the device cannot use it; a refresh that finds very many of those ends as one for which there
    were no mappings left.  What else the kernel refuses is raised inside `answering`; when
    that takes it, the refresh ends as one for which there were no mappings left.  Raise `Misuse` when the host's pages
    are larger than the guest's.
    """

    def __init__(
        self,
        space: AddressSpace,
        storage: GuestStorage,
        iota: Iota,
        pba: int,
        pal: int,
        *,
        answering: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        if space.granule > FRAME:
            raise Misuse(
                "give a guest DMA",
                space.table.name,
                cause=f"the host maps {space.granule} bytes at a time, not {FRAME}",
            )
        self.iota = iota
        self.pba = pba
        self.pal = pal
        self.calls = 0
        self._space = space
        self._storage = storage
        self._answering = answering
        self._runs: SortedDict[int, Run] = SortedDict()
        self._owed: list[Run] = []

    def mapped(self) -> list[Run]:
        """What is mapped now, by DMA address; `address` is the guest's."""
        return list(self._runs.values())

    def refresh(self, start: int, length: int) -> None:
        """Make the mappings of a range what the tables say.

        Raise `TranslationFault` when they are wrong (what was right before that place is mapped),
        `InsufficientMappings` when the kernel takes no more (all that is invalid now was unmapped).
        """
        first = max(start & -FRAME, self.pba)
        end = min(start + length + FRAME - 1 & -FRAME, self.pal + 1)
        if first >= end and not self._owed:
            return
        with self._answering():
            self._follow(first, max(first, end))
            return
        raise InsufficientMappings

    def _follow(self, first: int, end: int) -> None:
        areas = _Areas(self._storage.areas())
        found = self._told(first, end, areas)
        wanted: list[Run] = []
        fault, more = None, False
        try:
            wanted += islice(found, _UNASKED)
            if len(wanted) == _UNASKED:
                wanted += islice(found, max(0, self._most() - _UNASKED))
                more = next(found, None) is not None
        except TranslationFault as error:
            fault, end = error, max(first, error.iova & -FRAME)
        except _Astray:
            more = True
        kept: list[tuple[int, int]] = []
        again = _outside(self._owed, first, end)
        starts = [run.iova for run in wanted]
        looked_at = starts[-1] if starts else first - 1
        for run in self._overlapping(first, end):
            low, high = max(run.iova, first), min(run.iova + run.length, end)
            place = bisect_right(starts, low) - 1
            if place >= 0 and _says(wanted[place], run, low, high):
                kept.append((low, high))
            elif more and low > looked_at and self._still(run, low, high, areas):
                continue
            else:
                self._unmap(run)
                again += _outside([run], first, end)
        self._owed = self._map_all(areas.inside(again), areas)  # the guest may have lost storage of these
        left = wanted if self._owed else self._map_all(_without(wanted, kept), areas)
        if fault is not None:
            raise fault
        if self._owed or left or more:
            raise InsufficientMappings

    def _told(self, first: int, end: int, areas: _Areas) -> Iterator[Run]:
        return areas.inside(runs(self._storage, self.iota, first, end), _STRAYS)

    def _still(self, run: Run, low: int, high: int, areas: _Areas) -> bool:
        """Whether the tables say what is mapped, of a run beyond those that were looked at."""
        try:
            return any(_says(told, run, low, high) for told in islice(self._told(low, high, areas), 1))
        except (TranslationFault, _Astray):
            return False

    def _most(self) -> int:
        """The most runs that a refresh takes."""
        available = self._space.available
        return len(self._runs) + (_MOST if available is None else available) + 1

    def _overlapping(self, first: int, end: int) -> list[Run]:
        low = self._runs.bisect_right(first) - 1
        found = [self._runs.peekitem(low)[1]] if low >= 0 else []
        found += [self._runs[key] for key in self._runs.irange(first, end, inclusive=(False, False))]
        return [run for run in found if run.iova < end and run.iova + run.length > first]

    def _map_all(self, wanted: Iterable[Run], areas: _Areas) -> list[Run]:
        """Map runs; those from the first one on for which there was no room."""
        todo = iter(wanted)
        for run in todo:
            if not self._map(run, areas):
                return [run, *todo]
        return []

    def _map(self, run: Run, areas: _Areas) -> bool:
        """Map a run; whether there was room for it."""
        area = areas.at(run.address)
        self.calls += 1
        try:
            self._space.map(
                area.address + run.address - area.start, run.length, run.iova, read=True, write=not run.protected
            )
        except KernelRefused as error:
            if error.errno in _EXHAUSTED:
                return False
            if error.errno in _WRONG:
                raise TranslationFault(ErrorCode.OUT_OF_RANGE, run.iova) from error
            raise
        self._runs[run.iova] = run
        return True

    def _unmap(self, run: Run) -> None:
        del self._runs[run.iova]
        self.calls += 1
        self._space.unmap(run.iova, run.length)

    def close(self) -> None:
        """Unmap everything."""
        for run in self.mapped():
            try:
                self._unmap(run)
            except PyvfioError:
                # The device is gone, and its mappings with it.
                continue


class _Astray(Exception):
    """The tables map more and more that is no storage of the guest."""


class _Areas:
    """The guest's storage at the time of a refresh, found by guest address."""

    def __init__(self, areas: Sequence[MemoryArea]) -> None:
        self._areas = areas
        self._starts = [area.start for area in areas]

    def at(self, address: int) -> MemoryArea:
        """The area that has this address."""
        return self._areas[bisect_right(self._starts, address) - 1]

    def inside(self, found: Iterable[Run], strays: int | None = None) -> Iterator[Run]:
        """The parts of runs that are storage of the guest, each within one area.

        Raise `_Astray` for more than so many `strays`, in which there is none.
        """
        away = 0
        for run in found:
            start, end = run.address, run.address + run.length
            place = max(0, bisect_right(self._starts, start) - 1)
            here = False
            while place < len(self._areas) and self._starts[place] < end:
                area = self._areas[place]
                low, high = max(start, area.start), min(end, area.start + area.length)
                if low == start and high == end:
                    yield run
                    here = True
                elif low < high:
                    yield Run(run.iova + low - start, low, high - low, run.protected)
                    here = True
                place += 1
            away += not here
            if strays is not None and away > strays:
                raise _Astray


def _outside(given: Iterable[Run], first: int, end: int) -> list[Run]:
    """The parts of runs before `first` and from `end` on."""
    found = []
    for run in given:
        stop = run.iova + run.length
        if run.iova < first:
            found.append(Run(run.iova, run.address, min(stop, first) - run.iova, run.protected))
        if stop > end:
            low = max(run.iova, end)
            found.append(Run(low, run.address + low - run.iova, stop - low, run.protected))
    return found


def _says(told: Run, run: Run, low: int, high: int) -> bool:
    """Whether the tables' run `told` is from `low` to `high` what is mapped by `run`."""
    same = told.address - told.iova == run.address - run.iova and told.protected == run.protected
    return same and told.iova <= low and told.iova + told.length >= high


def _without(wanted: Iterable[Run], kept: Sequence[tuple[int, int]]) -> Iterator[Run]:
    """The runs without the ranges of addresses that are mapped already (both ascending)."""
    place = 0
    for run in wanted:
        at, stop = run.iova, run.iova + run.length
        while place < len(kept) and kept[place][0] < stop:
            low, high = kept[place]
            if low > at:
                yield Run(at, run.address + at - run.iova, low - at, run.protected)
            at = max(at, high)
            if high > stop:
                break
            place += 1
        if at < stop:
            yield Run(at, run.address + at - run.iova, stop - at, run.protected)
