"""The address space of a guest's function as VFIO mappings: the guest's tables, followed refresh by refresh.

A guest tells its machine of every change of its translation tables with REFRESH PCI TRANSLATIONS.  Each time the
tables are read for that range only, and the mappings of the device's address space are made the same: first what is no
longer valid is unmapped, then what is new is mapped, neighbours in one call.  So a guest that maps 1 GiB at once costs
one call and not one for each of its 262,144 pages.

The kernel takes mappings away only as they were made.  When a guest invalidates a part of what it refreshed as a whole,
the rest is unmapped with it and mapped again at once; a DMA access of the rest in between fails.  A guest that maps and
unmaps the same ranges, as Linux does, never gets there.

Source: ``hw/s390x/s390-pci-inst.c`` of QEMU (``rpcit_service_call``: unmap first, the status for exhausted mappings);
``drivers/vfio/vfio_iommu_type1.c`` (no splitting of mappings).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from sortedcontainers import SortedDict

from pyvfio.errors import KernelRefused, Misuse, PyvfioError
from pyvfio.iommu.address_space import AddressSpace
from pyvfio.passthrough.memory import GuestStorage
from pyvfio.zpci.event import ErrorCode
from pyvfio.zpci.function import InsufficientMappings
from pyvfio.zpci.run import Run, runs
from pyvfio.zpci.table import FRAME, Iota, TranslationFault

__all__ = ["ShadowMappings"]

_EXHAUSTED: Final = (errno.ENOSPC, errno.ENOMEM)


class ShadowMappings:
    """DMA addresses from `pba` to `pal` (inclusive) by the guest's tables (implements `pyvfio.zpci.function.Space`).

    `calls` counts the map and unmap calls that were made.  What the tables map to addresses where the guest has no
    storage is not mapped: the device cannot use it.  Raise `Misuse` when the host's pages are larger than the guest's.
    """

    def __init__(self, space: AddressSpace, storage: GuestStorage, iota: Iota, pba: int, pal: int) -> None:
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
        self._runs: SortedDict[int, Run] = SortedDict()

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
        if first >= end:
            return
        wanted: list[Run] = []
        fault = None
        try:
            for run in runs(self._storage, self.iota, first, end):
                wanted += self._inside(run)
        except TranslationFault as error:
            fault, end = error, max(first, error.iova & -FRAME)
        self._follow(first, end, wanted)
        if fault is not None:
            raise fault

    def _inside(self, run: Run) -> Iterator[Run]:
        """The parts of a run that are storage of the guest, each within one area."""
        for area in self._storage.areas():
            low = max(run.address, area.start)
            high = min(run.address + run.length, area.start + area.length)
            if low < high:
                yield Run(run.iova + low - run.address, low, high - low, run.protected)

    def _overlapping(self, first: int, end: int) -> list[Run]:
        low = self._runs.bisect_right(first) - 1
        found = [self._runs.peekitem(low)[1]] if low >= 0 else []
        found += [self._runs[key] for key in self._runs.irange(first, end, inclusive=(False, False))]
        return [run for run in found if run.iova < end and run.iova + run.length > first]

    def _follow(self, first: int, end: int, wanted: list[Run]) -> None:
        kept: list[tuple[int, int]] = []
        again: list[Run] = []
        for run in self._overlapping(first, end):
            low, high = max(run.iova, first), min(run.iova + run.length, end)
            if _says(wanted, run, low, high):
                kept.append((low, high))
                continue
            self._unmap(run)
            if run.iova < low:
                again.append(Run(run.iova, run.address, low - run.iova, run.protected))
            if high < run.iova + run.length:
                rest = run.iova + run.length - high
                again.append(Run(high, run.address + high - run.iova, rest, run.protected))
        new = sorted((*again, *_without(wanted, kept)), key=lambda run: run.iova)
        short = False
        for run in new:
            short = not self._map(run) or short
        if short:
            raise InsufficientMappings

    def _map(self, run: Run) -> bool:
        """Map a run; whether there was room for it."""
        area = next(one for one in self._storage.areas() if one.start <= run.address < one.start + one.length)
        self.calls += 1
        try:
            self._space.map(
                area.address + run.address - area.start, run.length, run.iova, read=True, write=not run.protected
            )
        except KernelRefused as error:
            if error.errno in _EXHAUSTED:
                return False
            raise TranslationFault(ErrorCode.OUT_OF_RANGE, run.iova) from error
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


def _says(wanted: list[Run], run: Run, low: int, high: int) -> bool:
    """Whether the tables say of the addresses from `low` to `high` what `run` has mapped."""
    at = low
    for one in wanted:
        if one.iova + one.length <= at:
            continue
        same = one.address - one.iova == run.address - run.iova and one.protected == run.protected
        if one.iova > at or not same:
            return False
        at = one.iova + one.length
        if at >= high:
            return True
    return at >= high


def _without(wanted: list[Run], kept: list[tuple[int, int]]) -> Iterator[Run]:
    """The runs without the ranges of addresses that are mapped already (both ascending)."""
    for run in wanted:
        at, stop = run.iova, run.iova + run.length
        for low, high in kept:
            if high <= at or low >= stop:
                continue
            if low > at:
                yield Run(at, run.address + at - run.iova, low - at, run.protected)
            at = high
        if at < stop:
            yield Run(at, run.address + at - run.iova, stop - at, run.protected)
