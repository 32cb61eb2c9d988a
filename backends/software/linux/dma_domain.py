"""Memory as an IOMMU gives it to a device: mappings of a process's memory, and the accounting of locked pages."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pyvfio.process import Pin, ProcessMemory
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.linux.iova_tree import Watcher
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel

__all__ = ["DmaDomain", "IommuCounters", "LockedMemory", "Mapping", "Mappings"]


class Mapping:
    """`iova` to `last` (included) stand for the memory of `caller` from `address` on; `read` and `write` are the
    device's rights.

    `pin` holds the pages while an IOMMU knows them, `skip` bytes into it the mapping begins.  `pins` counts what
    mediated devices hold: number of the page within the mapping -> how often.
    """

    __slots__ = ("address", "caller", "iova", "last", "pin", "pins", "read", "skip", "write")

    def __init__(self, iova: int, last: int, caller: ProcessMemory, address: int, read: bool, write: bool) -> None:
        self.iova = iova
        self.last = last
        self.caller = caller
        self.address = address
        self.read = read
        self.write = write
        self.pin: Pin | None = None
        self.skip = 0
        self.pins: dict[int, int] = {}

    @property
    def size(self) -> int:
        """Bytes."""
        return self.last - self.iova + 1

    def close(self) -> None:
        """Let the pages go."""
        pin, self.pin = self.pin, None
        if pin is not None:
            pin.close()


class LockedMemory:
    """How many pages each account has locked; the limit is `Kernel.lock_limit`.

    An account is a process (type 1, ``mm->locked_vm``) or a user (iommufd, ``user->locked_vm``).
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._pages: dict[tuple[str, int], int] = {}

    @property
    def limited(self) -> bool:
        """Whether there is a limit (the caller has no CAP_IPC_LOCK)."""
        return self._kernel.lock_limit >= 0

    def room(self, account: tuple[str, int]) -> int | None:
        """How many more pages the account may lock; None: any number."""
        if self._kernel.lock_limit < 0:
            return None
        return max(0, self._kernel.lock_limit // self._kernel.page_size - self._pages.get(account, 0))

    def locked(self, account: tuple[str, int]) -> int:
        """The pages that the account has locked."""
        return self._pages.get(account, 0)

    def charge(self, account: tuple[str, int], pages: int) -> None:
        """Count pages.  Raise OSError ENOMEM when the limit would be passed."""
        room = self.room(account)
        if room is not None and pages > room:
            raise fail(errno.ENOMEM)
        self._pages[account] = self._pages.get(account, 0) + pages

    def pinned(self, pid: int, pages: int = 0) -> int:
        """Change how many pages iommufd holds of a process (``mm->pinned_vm``), and tell it; no limit is of them."""
        account = ("pinned", pid)
        self._pages[account] = self._pages.get(account, 0) + pages
        return self._pages[account]

    def release(self, account: tuple[str, int], pages: int) -> None:
        """Count pages back."""
        self._pages[account] = max(0, self._pages.get(account, 0) - pages)


class Mappings(Protocol):
    """An `IovaTree` of mappings of whatever kind."""

    @property
    def watchers(self) -> list[Any]:
        """Who follows what comes and goes."""

    def __iter__(self) -> Iterator[Mapping]:
        """All of them."""

    def find(self, iova: int) -> Mapping | None:
        """The mapping that has this address."""


@dataclass(slots=True)
class IommuCounters:
    """What s390's IOMMU counts of a domain (``struct zpci_iommu_ctrs``): pages, and refreshes of translations."""

    mapped_pages: int = 0
    unmapped_pages: int = 0
    global_rpcits: int = 0
    sync_map_rpcits: int = 0
    sync_rpcits: int = 0

    @property
    def values(self) -> tuple[int, ...]:
        """All of them, in the order of the structure."""
        return (
            *(self.mapped_pages, self.unmapped_pages),
            *(self.global_rpcits, self.sync_map_rpcits, self.sync_rpcits),
        )

    def clear(self) -> None:
        """Count anew."""
        self.mapped_pages = self.unmapped_pages = 0
        self.global_rpcits = self.sync_map_rpcits = self.sync_rpcits = 0


class DmaDomain:
    """A `hardware.dma.DmaSpace` over the mappings of `tree`: what an IOMMU's page table is to a device.

    `refreshes` are called for each refresh of translations, one function each (its PCI function's instruction).
    """

    __slots__ = ("_tree", "counters", "refreshes")

    def __init__(self, tree: Mappings) -> None:
        self._tree = tree
        self.counters = IommuCounters()
        self.refreshes: list[Callable[[], None]] = []

    def mapped(self, pages: int) -> None:
        """Pages were mapped: one refresh for each function, as of memory that is contiguous."""
        self.counters.mapped_pages += pages
        self.counters.sync_map_rpcits += len(self.refreshes)
        for refresh in self.refreshes:
            refresh()

    def unmapped(self, pages: int) -> None:
        """Pages were unmapped, with one refresh for each function."""
        self.counters.unmapped_pages += pages
        self.counters.sync_rpcits += len(self.refreshes)
        for refresh in self.refreshes:
            refresh()

    def watch(self, watcher: Watcher[Mapping]) -> None:
        """Tell `watcher` of all mappings, those that are there first.  Raise OSError when it refuses one of these."""
        done: list[Mapping] = []
        try:
            for mapping in self._tree:
                watcher.added(mapping)
                done.append(mapping)
        except OSError:
            for mapping in done:
                watcher.removed(mapping)
            raise
        self._tree.watchers.append(watcher)

    def unwatch(self, watcher: Watcher[Mapping]) -> None:
        """Tell it no more."""
        self._tree.watchers.remove(watcher)

    def _pieces(self, iova: int, count: int, write: bool) -> list[tuple[Pin, int, int]]:
        """The pins under a range: (pin, offset in it, bytes).  Raise `DmaFault` unless the whole range is allowed."""
        pieces: list[tuple[Pin, int, int]] = []
        at, end = iova, iova + count
        while at < end:
            mapping = self._tree.find(at)
            if mapping is None or not (mapping.write if write else mapping.read) or mapping.pin is None:
                raise DmaFault(iova, count, write=write)
            length = min(mapping.last + 1, end) - at
            pieces.append((mapping.pin, mapping.skip + at - mapping.iova, length))
            at += length
        return pieces

    def check(self, iova: int, count: int, *, write: bool) -> None:
        """Raise `DmaFault` unless all of a range may be read, or written."""
        self._pieces(iova, count, write)

    def read(self, iova: int, count: int) -> bytes:
        """See `DmaSpace.read`."""
        pieces = self._pieces(iova, count, False)
        try:
            if len(pieces) == 1:
                pin, offset, length = pieces[0]
                return pin.read(offset, length)
            return b"".join(pin.read(offset, length) for pin, offset, length in pieces)
        except OSError as error:  # memory that could not be held is gone
            raise DmaFault(iova, count, write=False) from error

    def write(self, iova: int, data: bytes) -> None:
        """See `DmaSpace.write`."""
        pieces = self._pieces(iova, len(data), True)
        try:
            if len(pieces) == 1:
                pieces[0][0].write(pieces[0][1], data)
                return
            view = memoryview(data)
            for pin, offset, length in pieces:
                pin.write(offset, view[:length])
                view = view[length:]
        except OSError as error:
            raise DmaFault(iova, len(data), write=True) from error

    def copy(self, target: int, source: int, count: int) -> None:
        """See `DmaSpace.copy`.  Overlapping ranges come out as if the source had been read first, per mapping."""
        sources = self._pieces(source, count, False)
        targets = self._pieces(target, count, True)
        try:
            if len(sources) == len(targets) == 1:  # most often
                (into, offset, _), (origin, from_, _) = targets[0], sources[0]
                into.copy_from(offset, origin, from_, count)
                return
            for into, offset, origin, from_, length in _steps(targets, sources):
                into.copy_from(offset, origin, from_, length)
        except OSError as error:
            raise DmaFault(target, count, write=True) from error


def _steps(
    targets: list[tuple[Pin, int, int]], sources: list[tuple[Pin, int, int]]
) -> Iterator[tuple[Pin, int, Pin, int, int]]:
    """Cut two lists of pieces of the same total length into steps within one piece of each."""
    inputs = iter(sources)
    origin, from_, left = next(inputs, (None, 0, 0))
    for into, offset, room in targets:
        while room and origin is not None:
            step = min(room, left)
            yield into, offset, origin, from_, step
            offset, room = offset + step, room - step
            from_, left = from_ + step, left - step
            if not left:
                origin, from_, left = next(inputs, (None, 0, 0))
