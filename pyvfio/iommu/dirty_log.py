"""The log of an address space: which mapped memory its devices may have written.  Made by `AddressSpace.dirty_log`.

===========  ==========================================================================================================
type 1       ``VFIO_IOMMU_DIRTY_PAGES``, version 2.  For a device behind an IOMMU every page of every mapping is dirty,
             always (the kernel cannot know); for mediated devices it is what they pinned or were given.
iommufd      ``IOMMU_HWPT_SET_DIRTY_TRACKING``, where the IOMMU itself notes writes (AMD, Arm, Intel from 2023 on) and
             devices were attached with `dirty_tracking`.
===========  ==========================================================================================================
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol, Self, runtime_checkable

from pyvfio.errors import Misuse, NotAvailable
from pyvfio.iommu.dirty import DirtyBitmap, DirtyRange

__all__ = ["DirtyLog", "DirtyTable", "LoggedSpace"]


@runtime_checkable
class DirtyTable(Protocol):
    """What a kernel way provides for logs.  All methods raise the class of `pyvfio.errors` for the errno."""

    def start_dirty(self) -> None:
        """Log from now on.  `NotAvailable` when it cannot."""

    def stop_dirty(self) -> None:
        """Log no more."""

    def take_dirty(self, bitmap: DirtyBitmap) -> None:
        """Add what was written in the bitmap's range, and forget it."""

    def unmap_dirty(self, bitmap: DirtyBitmap) -> int:
        """Remove the mappings of the bitmap's range, and add what was written there; the number of bytes removed."""


class LoggedSpace(Protocol):
    """What a log needs of its address space."""

    def spans(self) -> list[tuple[int, int]]:
        """The mappings, (IOVA, length) of each."""

    def forget(self, iova: int, length: int) -> None:
        """The mappings of a range are gone."""


class DirtyLog:
    """A log that is on.  A context manager; `close` switches it off.  `page_size` is what is logged by.

    A range that is asked for may not cut a mapping in two (type 1 refuses that with EINVAL).
    """

    def __init__(self, table: object, space: LoggedSpace, name: str, page_size: int) -> None:
        self._table = _table(table, name)
        self._space = space
        self._name = name
        self.page_size = page_size
        self._table.start_dirty()
        self._on = True

    def take(self, iova: int, length: int) -> DirtyBitmap:
        """What was written in a range since it was last taken.  Raise `Misuse` after `close`, or the errno's class."""
        bitmap = self._bitmap("read dirty log", iova, length)
        self._table.take_dirty(bitmap)
        return bitmap

    def dirty(self) -> Iterator[DirtyRange]:
        """What was written in all that is mapped, by IOVA; each mapping is taken as it is come to."""
        for iova, length in self._space.spans():
            yield from self.take(iova, length).ranges()

    def unmap(self, iova: int, length: int) -> DirtyBitmap:
        """Remove the mappings of a range, and tell what was written there up to that moment.

        With iommufd these are two calls: a device that writes between them is missed, so it must be at rest.
        """
        bitmap = self._bitmap("unmap with dirty log", iova, length)
        done = self._table.unmap_dirty(bitmap)
        self._space.forget(iova, done)
        return bitmap

    def _bitmap(self, operation: str, iova: int, length: int) -> DirtyBitmap:
        if not self._on:
            raise Misuse(operation, self._name, cause="the log was closed")
        return DirtyBitmap(iova, length, self.page_size)

    def close(self) -> None:
        """Log no more; a second call does nothing."""
        if self._on:
            self._on = False
            with contextlib.suppress(Misuse):  # the device was closed, and its address space, which kept the log
                self._table.stop_dirty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _table(table: object, name: str) -> DirtyTable:
    if isinstance(table, DirtyTable):
        return table
    raise NotAvailable("log DMA", name, cause="this kind of address space keeps no log of what was written")
