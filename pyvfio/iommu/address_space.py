"""An address space: which process memory a device sees, and at which addresses.

The kernel has ways to say it: containers, of type 1 or (on POWER) with TCE tables, and iommufd.  Each fills the same
small table, `IommuTable`; all above the table does not know which one is in use.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from sortedcontainers import SortedDict

from pyvfio import causes
from pyvfio.arguments import require_numbers
from pyvfio.backend import Backend
from pyvfio.errors import KernelRefused, Misuse, NotAvailable, PartialUnmap, PyvfioError
from pyvfio.iommu.allocator import IovaAllocator
from pyvfio.iommu.buffer import DmaBuffer

if TYPE_CHECKING:
    from pyvfio.iommu.dirty_log import DirtyLog
    from pyvfio.iommu.file_mapping import FileMapping
    from pyvfio.iommu.plan import DmaPlan

__all__ = ["AddressSpace", "IommuTable", "IovaRange", "Mapping"]

_M = TypeVar("_M", bound="Mapping")

_WORDS = 1 << 64


@dataclass(frozen=True, slots=True)
class IovaRange:
    """Addresses that can be mapped: `start` to `last`, both included."""

    start: int
    last: int

    def __str__(self) -> str:
        return f"{self.start:#x}-{self.last:#x}"


@dataclass(frozen=True, slots=True)
class Mapping:
    """`length` bytes of this process at `address`, which the device sees at `iova`.

    `read` and `write` say what the *device* may do.
    """

    iova: int
    length: int
    address: int
    read: bool = True
    write: bool = True


class IommuTable(Protocol):
    """What a kernel way provides.  All methods raise the class of `pyvfio.errors` for the errno."""

    @property
    def kind(self) -> str:
        """``type1``, ``type1v2``, ``tce``, ``tcev2`` or ``iommufd``."""

    @property
    def name(self) -> str:
        """The words for errors."""

    def map(self, mapping: Mapping) -> None:
        """Make a mapping."""

    def unmap(self, iova: int, length: int) -> int:
        """Remove the mappings in a range; the number of bytes removed."""

    def unmap_all(self) -> int | None:
        """Remove all mappings in one call; the number of bytes, or None when this kernel cannot."""

    def ranges(self) -> list[IovaRange]:
        """What can be mapped, by address.  `NotAvailable` when the kernel does not say."""

    def page_sizes(self) -> int:
        """A bitmap of page sizes; its lowest bit is the smallest alignment of a mapping."""

    def available(self) -> int | None:
        """How many more mappings the kernel will take, None when there is no limit."""

    def close(self) -> None:
        """Give up the kernel's object if the table owns it."""


class AddressSpace:
    """The mappings of one table.  Made by `Container.set_iommu` or `Iommufd.allocate`; a context manager.

    Mappings belong to the address space and outlive the devices in it.  The kernel drops all mappings of a container
    when its last group leaves; they are made again when a group comes back.  `close` removes all mappings.

    `gone` says whether the kernel has dropped them because the devices were taken away (a program that lets go of a
    device on another thread): then there is nothing to unmap.  `grow` is asked for more addresses when so many bytes
    have no place; it says whether there are more now.  `places` are the ranges that addresses are chosen from (default:
    all of them).

    Several threads may map and unmap at once; each waits for the others.
    """

    def __init__(
        self,
        table: IommuTable,
        backend: Backend,
        *,
        gone: Callable[[], bool] = lambda: False,
        grow: Callable[[int], bool] = lambda length: False,
        places: Callable[[], list[IovaRange]] | None = None,
    ) -> None:
        self.table = table
        self._gone = gone
        self._grow = grow
        self._places = table.ranges if places is None else places
        self._backend = backend
        self._lock = threading.RLock()
        """Held for each change, the kernel's part of it too, so that what is noted here is what the kernel has."""
        self._allocator: IovaAllocator | None = None
        self._mappings: SortedDict[int, Mapping] = SortedDict()
        self._available: int | None = None
        self._granule = 0
        self._present = True
        self._closed = False

    @property
    def kind(self) -> str:
        """``type1``, ``type1v2``, ``tce``, ``tcev2`` or ``iommufd``."""
        return self.table.kind

    @property
    def page_sizes(self) -> int:
        """The IOMMU's page sizes, as a bitmap."""
        return self.table.page_sizes()

    @property
    def granule(self) -> int:
        """The alignment of IOVA, length and process address: the larger of the smallest IOMMU page and the host's."""
        if not self._granule:
            sizes = self.page_sizes
            self._granule = max(sizes & -sizes, self._backend.sysconf("SC_PAGE_SIZE"))
        return self._granule

    @property
    def available(self) -> int | None:
        """How many more mappings the kernel will take, None when there is no limit."""
        return self.table.available()

    @property
    def allocator(self) -> IovaAllocator:
        """Gives out IOVAs inside the kernel's ranges.  Raise `NotAvailable` when the kernel does not say its ranges."""
        with self._lock:
            if self._allocator is None:
                allocator = IovaAllocator(((one.start, one.last) for one in self._places()), self.granule)
                for mapping in self._mappings.values():
                    self._reserve(allocator, mapping)
                self._allocator = allocator
            return self._allocator

    def ranges(self) -> list[IovaRange]:
        """What can be mapped, by address, as the kernel says it now."""
        return self.table.ranges()

    def mappings(self) -> list[Mapping]:
        """The mappings made here, by IOVA."""
        with self._lock:
            return list(self._mappings.values())

    def map(
        self,
        address: int,
        length: int,
        iova: int | None = None,
        *,
        read: bool = True,
        write: bool = True,
        below: int | None = None,
        alignment: int | None = None,
    ) -> Mapping:
        """Let the device see `length` bytes at `address` of this process.

        Without `iova` one is chosen inside the kernel's ranges, ending at or before `below` (what the device can
        address: ``1 << 28`` for one of 28 bits), a multiple of `alignment`.

        Raise `NotAvailable` when there is no such place, `KernelRefused` with errno ENOSPC before asking when no
        mapping is left, else the class for the kernel's errno with the rule that was broken.
        """
        require_numbers("map", address=address, length=length)
        require_numbers("map", optional=True, iova=iova, below=below, alignment=alignment)
        wanted = Mapping(iova or 0, length, address, read, write)
        return self._make(wanted, self._place_memory, choose=iova is None, below=below, alignment=alignment)

    def map_file(
        self,
        fd: int,
        offset: int,
        length: int,
        iova: int | None = None,
        *,
        read: bool = True,
        write: bool = True,
        below: int | None = None,
        alignment: int | None = None,
    ) -> FileMapping:
        """Let the device see `length` bytes from `offset` of the memory file behind descriptor `fd`.

        The kernel takes the file itself where it can, so that the mapping does not depend on this process's addresses
        (iommufd from Linux 6.13 on); elsewhere the file is mapped here, too.  `FileMapping.by_file` says which.  From
        6.19 on it may be a dma-buf (`Device.export_dma_buf`): then one device reaches the other's memory.

        The descriptor may be closed afterwards.  Errors: as of `map`; `Misuse` also for a file that is no memory, or
        too short.
        """
        from pyvfio.iommu.file_mapping import place_file, refused_file

        require_numbers("map_file", fd=fd, offset=offset, length=length)
        require_numbers("map_file", optional=True, iova=iova, below=below, alignment=alignment)
        self._require_words("map file for DMA", offset)

        def place(mapping: Mapping) -> FileMapping:
            try:
                return place_file(self.table, fd, offset, mapping)
            except PyvfioError as error:
                why = refused_file(error, fd, offset, length)
                if not why.sentence or isinstance(error, Misuse):
                    raise
                error.cause, error.next_step = why.sentence, why.next_step
                raise

        wanted = Mapping(iova or 0, length, offset, read, write)
        return self._make(wanted, place, choose=iova is None, below=below, alignment=alignment, source="file offset")

    def _place_memory(self, mapping: Mapping) -> Mapping:
        self.table.map(mapping)
        return mapping

    def _make(
        self,
        wanted: Mapping,
        place: Callable[[Mapping], _M],
        *,
        choose: bool,
        below: int | None,
        alignment: int | None,
        source: str = "process address",
    ) -> _M:
        """Have `place` make a mapping, where `wanted` says or (`choose`) somewhere; `source`: what its address is."""
        with self._lock:
            self._check_limit()
            length, chosen = wanted.length, wanted.iova
            self._require_words("map DMA", wanted.address, length, chosen)
            if choose:
                chosen = self._choose(length, below, alignment)
            mapping = Mapping(chosen, length, wanted.address, wanted.read, wanted.write)
            try:
                made = place(mapping)
            except PyvfioError as error:
                if choose:
                    self.allocator.free(chosen)
                raise self._map_refused(error, mapping, source) from error
            if not choose and self._allocator is not None:
                self._reserve(self._allocator, made)
            self._mappings[chosen] = made
            if self._available is not None:
                self._available -= 1
            return made

    def unmap(self, iova: int, length: int) -> int:
        """Remove the mappings in `length` bytes at `iova`; the number of bytes removed, which is `length`.

        Raise `PartialUnmap` when the kernel removed another number of bytes (type 1 version 1 answers so for a part of
        a mapping), else the class for the errno.  What was removed is forgotten here in either case.
        """
        require_numbers("unmap", iova=iova, length=length)
        self._require_words("unmap DMA", iova, length)
        with self._lock:
            if not self._present or self._closed:
                self._forget(iova, length, length)  # the kernel has dropped it already
                return length
            try:
                done = self.table.unmap(iova, length)
            except PyvfioError:
                if not (self._gone() or self._closed):
                    raise
                done = length
            self._forget(iova, length, done)
            if done != length:
                raise PartialUnmap("unmap DMA", f"{self.table.name} IOVA {iova:#x}", asked=length, done=done)
            return done

    def _require_words(self, operation: str, *values: int) -> None:
        """Raise `Misuse` for what the kernel has no room for; which of the others are wrong it says itself."""
        for value in values:
            if not 0 <= value < _WORDS:
                raise Misuse(operation, self.table.name, cause=f"{value:#x} is no number of 64 bits")

    def unmap_all(self) -> int:
        """Remove all mappings; the number of bytes removed."""
        with self._lock:
            done = self.table.unmap_all()
            if done is None:
                done = sum(self.table.unmap(mapping.iova, mapping.length) for mapping in self.mappings())
            self._mappings.clear()
            self._allocator = None
            self._available = None
            return done

    def buffer(
        self,
        length: int,
        *,
        iova: int | None = None,
        below: int | None = None,
        alignment: int | None = None,
        read: bool = True,
        write: bool = True,
        huge: bool | int = False,
    ) -> DmaBuffer:
        """New zeroed memory which the device sees; `length` is rounded up to `granule`.  A context manager.

        Where it is mapped is said as for `map`; `alignment` is that of the IOVA alone.

        With `huge` it is made of the largest huge pages that it fills, and of ordinary ones where there are none
        (`DmaBuffer.no_huge` says why); with a number, of huge pages of so many bytes or not at all (`NotAvailable`).
        Then `length` is rounded up to that.
        """
        require_numbers("buffer", length=length)
        require_numbers("buffer", optional=True, iova=iova, below=below, alignment=alignment)
        return DmaBuffer(self, length, iova=iova, below=below, alignment=alignment, read=read, write=write, huge=huge)

    def plan(self, lengths: Iterable[int], *, below: int | None = None, alignment: int | None = None) -> DmaPlan:
        """What so many buffers would need, and what there is, before anything is mapped (`pyvfio.iommu.plan`)."""
        from pyvfio.iommu.plan import make_plan

        return make_plan(self, self._backend, list(lengths), below=below, alignment=alignment)

    def dirty_log(self) -> DirtyLog:
        """Log what the devices write from now on, until the log is closed (`pyvfio.iommu.dirty_log`).

        Raise `NotAvailable` when this kind of address space, or the IOMMU, cannot.
        """
        from pyvfio.iommu.dirty_log import DirtyLog

        sizes = self.page_sizes
        return DirtyLog(self.table, self, self.table.name, sizes & -sizes)

    def spans(self) -> list[tuple[int, int]]:
        """The mappings made here, (IOVA, length) of each, by IOVA."""
        return [(one.iova, one.length) for one in self.mappings()]

    def forget(self, iova: int, length: int) -> None:
        """The mappings within a range are gone: something else unmapped them."""
        with self._lock:
            self._forget(iova, length, length)

    def mapping_at(self, iova: int) -> Mapping | None:
        """The mapping that begins at `iova`, if there is one."""
        found: Mapping | None = self._mappings.get(iova)
        return found

    def holding(self, iova: int, length: int) -> Mapping:
        """The mapping that holds all of a range.  Raise `Misuse` when there is none."""
        with self._lock:
            index = self._mappings.bisect_right(iova) - 1
            mapping: Mapping | None = self._mappings.peekitem(index)[1] if index >= 0 else None
        if mapping is not None and iova + length <= mapping.iova + mapping.length:
            return mapping
        raise Misuse("look up IOVA", f"{iova:#x}", cause=f"no mapping holds {length:#x} bytes there")

    def close(self) -> None:
        """Remove all mappings and give up the kernel's object if it belongs to this; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                if self._mappings and self._present:
                    try:
                        self.unmap_all()
                    except PyvfioError:
                        if not self._gone():
                            raise
            finally:
                self._mappings.clear()
                self.table.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<AddressSpace {self.table.name} {self.kind}, {len(self._mappings)} mappings>"

    # what the container or iommufd tells

    def left(self, again: Callable[[], None]) -> None:
        """`refresh`, and have `again` make what the kernel dropped when a group left, before anybody maps."""
        with self._lock:
            self.refresh()
            again()

    def refresh(self) -> None:
        """A device joined or left: the kernel's ranges and limits may be others now."""
        with self._lock:
            self._allocator = None
            self._available = None
            self._granule = 0

    def dropped(self) -> None:
        """The kernel dropped all mappings (the container's last group left)."""
        with self._lock:
            self._present = False
            self.refresh()

    def restore(self) -> None:
        """Make all mappings again after `dropped`.  Raise the class for the errno."""
        with self._lock:
            self._present = True
            self.refresh()
            for mapping in self.mappings():
                self.table.map(mapping)

    # inside

    def _choose(self, length: int, below: int | None, alignment: int | None) -> int:
        """A free place."""
        try:
            return self.allocator.allocate(length, below=below, alignment=alignment)
        except NotAvailable:
            if below is not None or not self._grow(max(length, alignment or 0)):
                raise
        self.refresh()
        return self.allocator.allocate(length, below=below, alignment=alignment)

    def _check_limit(self) -> None:
        if self._closed or not self._present:
            cause = "it was closed" if self._closed else "no device is in it"
            raise Misuse("map DMA", self.table.name, cause=cause)
        if not self._available:  # None: not asked yet; 0: others may have unmapped meanwhile
            self._available = self.table.available()
        if self._available == 0:
            why = causes.entry_limit(len(self._mappings))
            raise KernelRefused(
                "map DMA (not asked)",
                self.table.name,
                errno=errno.ENOSPC,
                cause=why.sentence,
                next_step=why.next_step,
            )

    def _map_refused(self, error: PyvfioError, mapping: Mapping, source: str) -> PyvfioError:
        if error.errno is None:
            return error
        why = causes.Cause()
        if error.errno in (errno.EINVAL, errno.EOVERFLOW):  # iommufd: EOVERFLOW past the end
            why = causes.map_invalid(
                mapping.iova,
                mapping.length,
                mapping.address,
                granule=self.granule,
                ranges=self._known_ranges(),
                permitted=mapping.read or mapping.write,
                source=source,
            )
        elif error.errno == errno.ENOSPC:
            why = causes.entry_limit(len(self._mappings))
        elif error.errno == errno.ENOMEM:
            locked = sum(one.length for one in self._mappings.values())
            why = causes.memlock(mapping.length, self._backend.sysconf("RLIMIT_MEMLOCK"), locked)
        elif error.errno == errno.EFAULT:
            why = causes.Cause(f"no memory of this process with these permissions is at {mapping.address:#x}")
            if self.kind == "iommufd":
                other = f"{why.sentence}, or it is a device's, which iommufd does not map"
                step = 'for memory of a device: way="group", or its dma-buf with map_file() from Linux 6.19 on'
                why = causes.Cause(other, step)
        elif error.errno == errno.EEXIST:
            why = causes.Cause("another mapping has some of these IOVAs", "unmap it first, or leave the IOVA out")
        return type(error)(
            "map DMA",
            f"{self.table.name} IOVA {mapping.iova:#x} length {mapping.length:#x}",
            path=error.path,
            errno=error.errno,
            cause=why.sentence or error.cause,
            next_step=why.next_step or error.next_step,
        )

    def _reserve(self, allocator: IovaAllocator, mapping: Mapping) -> None:
        """Take the granules of a mapping out.

        An IOAS without a device takes mappings of single bytes (``iopt_calculate_iova_alignment`` in
        ``drivers/iommu/iommufd/io_pagetable.c``), so two of them may share a granule, which is out already then.
        """
        start = mapping.iova // self.granule * self.granule
        with contextlib.suppress(Misuse):
            allocator.reserve(start, mapping.iova + mapping.length - start)

    def _known_ranges(self) -> list[tuple[int, int]]:
        try:
            return [(one.start, one.last) for one in self.ranges()]
        except PyvfioError:
            return []

    def _forget(self, iova: int, length: int, done: int) -> None:
        left = done
        for start in list(self._mappings.irange(iova, iova + length - 1)):
            mapping = self._mappings[start]
            if mapping.length > left:
                break
            left -= mapping.length
            del self._mappings[start]
            if self._available is not None:
                self._available += 1
            if self._allocator is None:
                continue
            if start % self.granule or mapping.length % self.granule:
                self._allocator = None  # its granules may hold other mappings; it is made again when it is needed
            else:
                with contextlib.suppress(Misuse):  # of a place that is never chosen
                    self._allocator.free(start)
