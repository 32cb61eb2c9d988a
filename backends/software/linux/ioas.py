"""An I/O address space of iommufd (``drivers/iommu/iommufd/io_pagetable.c``)."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.dma_domain import DmaDomain
from pyvfio_backends.software.linux.iommufd_pages import Area, Pages
from pyvfio_backends.software.linux.iova_ranges import ADDRESS_LAST, Occupancy, Ranges, exclude
from pyvfio_backends.software.linux.iova_tree import IovaTree
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.iommu_group import IommuGroup
    from pyvfio_backends.software.linux.iommufd_access import Access
    from pyvfio_backends.software.linux.iommufd_tables import HwPageTable
    from pyvfio_backends.software.linux.vfio_core import VfioCore

__all__ = ["IoPageTable"]

_MOST_TRIES = 100
Slice = tuple[Pages, int, int]
"""Pages, the first byte in them, and how many bytes."""


class IoPageTable:
    """Areas by address; what is reserved (with its owner) and allowed; the domains and accesses that use it.

    `alignment` is what addresses and lengths must be a multiple of: 1 as long as nobody uses the table.
    """

    def __init__(self, core: VfioCore) -> None:
        self.core = core
        self.areas: IovaTree[Area] = IovaTree()
        self._taken = Occupancy()
        self.reserved: list[tuple[int, int, object]] = []
        self.allowed: Ranges = []
        self.domains: dict[HwPageTable, IommuGroup] = {}
        """Who brought a domain in -> the group whose IOMMU it is."""
        self.accesses: list[Access] = []
        self.space: DmaDomain = DmaDomain(self.areas)
        self.alignment = 1
        self.large_pages = True
        self._page = core.kernel.page_size

    # addresses

    def holes(self) -> Ranges:
        """The ranges that are not reserved."""
        return exclude([(0, ADDRESS_LAST)], [(start, last) for start, last, _ in self.reserved])

    def _is_reserved(self, start: int, last: int) -> bool:
        return any(a <= last and b >= start for a, b, _ in self.reserved)

    def reserve(self, start: int, last: int, owner: object) -> None:
        """Take a range away.  Raise OSError EADDRINUSE when it is mapped or was promised."""
        if self.areas.overlap(start, last) or any(a <= last and b >= start for a, b in self.allowed):
            raise fail(errno.EADDRINUSE)
        self.reserved.append((start, last, owner))

    def unreserve(self, owner: object) -> None:
        """Give back what an owner reserved."""
        self.reserved = [entry for entry in self.reserved if entry[2] is not owner]

    def allow(self, ranges: Ranges) -> None:
        """Promise ranges.  Raise OSError EADDRINUSE when one is reserved."""
        if any(self._is_reserved(start, last) for start, last in ranges):
            raise fail(errno.EADDRINUSE)
        self.allowed = sorted(ranges)

    def choose(self, address: int, length: int) -> int:
        """A free address for `length` bytes of memory at `address`, never 0.  Raise OSError ENOSPC and others."""
        if length == 0 or length >= ADDRESS_LAST // 2:
            raise fail(errno.EOVERFLOW)
        natural = 1 << (length - 1).bit_length()
        alignment = min(natural, address & -address) if address else natural
        alignment = min(alignment, max(self.core.kernel.huge_page_size, self._page))
        if alignment < self.alignment:
            raise fail(errno.EINVAL)
        offset = address % self._page
        for start, last in self.allowed or [(self._page, ADDRESS_LAST - self._page)]:
            start, last = max(start, self._page), min(last, ADDRESS_LAST - self._page)
            for free, end in exclude([(start, last)], [(first, final) for first, final, _ in self.reserved]):
                for hole in self._taken.holes(free, end):
                    chosen = _fit(*hole, length, alignment, offset)
                    if chosen is not None:
                        return chosen
        raise fail(errno.ENOSPC)

    def _check(self, iova: int, length: int) -> None:
        if iova & (self.alignment - 1):
            raise fail(errno.EINVAL)
        last = iova + length - 1
        if last > ADDRESS_LAST:
            raise fail(errno.EOVERFLOW)
        if self._is_reserved(iova, last):
            raise fail(errno.EINVAL)
        if self.areas.overlap(iova, last):
            raise fail(errno.EEXIST)

    # mapping

    def map(self, slices: list[Slice], iova: int | None, *, read: bool, write: bool) -> int:
        """Map pages one behind the other at `iova` (None: anywhere); the address.

        Raise OSError EINVAL, EEXIST, EOVERFLOW, ENOSPC, EPERM (pages that are not writable), EFAULT or ENOMEM.
        """
        length = sum(count for _, _, count in slices)
        if not length or length & (self.alignment - 1):
            raise fail(errno.EINVAL)
        if not (read or write) and any(group.abilities.needs_access for group in self.domains.values()):
            raise fail(errno.EINVAL)
        if iova is None:
            iova = self.choose(slices[0][0].origin + slices[0][1], length)
        else:
            self._check(iova, length)
        areas: list[Area] = []
        at = iova
        for pages, start, count in slices:
            if write and not pages.writable:
                raise fail(errno.EPERM)
            area = Area(self._page, at, at + count - 1, pages, start, read=read, write=write)
            if area.page_offset & (self.alignment - 1):
                raise fail(errno.EINVAL)
            areas.append(area)
            at += count
        if self.domains:
            for table in self.domains:
                _permit(table, areas)
            _fill(areas)
        for place, area in enumerate(areas):
            try:
                self.areas.add(area)
            except OSError:  # the IOMMU has no room
                for other in areas[:place]:
                    self.areas.remove(other)
                for other in areas:
                    other.unfill()
                raise
            if self.domains:
                self.space.mapped(area.size // self._page)
        self._taken.add(iova, at - 1)
        return iova

    def slices(self, iova: int, length: int) -> list[Slice]:
        """The pages under a range, for a copy.  Raise OSError EINVAL, EOVERFLOW, or ENOENT for a hole."""
        if not length:
            raise fail(errno.EINVAL)
        last = iova + length - 1
        if last > ADDRESS_LAST:
            raise fail(errno.EOVERFLOW)
        found: list[Slice] = []
        at = iova
        while at <= last:
            area = self.areas.find(at)
            if area is None:
                raise fail(errno.ENOENT)
            end = min(last, area.last)
            found.append((area.pages, area.byte(at), end - at + 1))
            at = end + 1
        return found

    def unmap(self, iova: int, length: int) -> int:
        """Unmap a range that covers areas as a whole (ENOENT else); the bytes unmapped.  Raise OSError also EINVAL."""
        if not length:
            raise fail(errno.EINVAL)
        last = iova + length - 1
        if last > ADDRESS_LAST:
            raise fail(errno.EOVERFLOW)
        unmapped, code = self.unmap_range(iova, last)
        if code:
            raise fail(code)
        return unmapped

    def unmap_range(self, start: int, last: int) -> tuple[int, int]:
        """Unmap all areas of a range: the bytes unmapped, and 0 or the errno that ended it.

        ENOENT for an area that would be cut, EDEADLK for a device that does not unpin.
        """
        unmapped = tries = 0
        while (area := self.areas.first(start, last)) is not None:
            if area.iova < start or area.last > last:
                return unmapped, errno.ENOENT
            if area.iova != start:
                tries = 0
            if area.pins:
                start = area.iova
                area.prevented = True
                for access in tuple(self.accesses):
                    access.notify(area.iova, area.size)
                tries += 1
                if tries > _MOST_TRIES:
                    return unmapped, errno.EDEADLK
                continue
            area.unfill()
            self.areas.remove(area)
            self._taken.remove(area.iova, area.last)
            unmapped += area.size
            if self.domains:
                self.space.unmapped(area.size // self._page)
            if area.last >= last:
                break
            start = area.last + 1
        return unmapped, 0

    def cut(self, iova: int) -> None:
        """Split the area that has `iova` behind it.  Raise OSError EBUSY, EINVAL (``iopt_area_split``)."""
        area = self.areas.find(iova)
        if area is None or iova in (area.iova, area.last):
            return
        if area.prevented:
            raise fail(errno.EBUSY)
        second = iova + 1
        if second & (self.alignment - 1) or area.byte(second) & (self.alignment - 1) or area.pins:
            raise fail(errno.EINVAL)
        if area.pin is not None and self.large_pages:
            raise fail(errno.EINVAL)
        filled = area.pin is not None
        parts = [
            Area(self._page, area.iova, iova, area.pages, area.start, read=area.read, write=area.write),
            Area(self._page, second, area.last, area.pages, area.byte(second), read=area.read, write=area.write),
        ]
        if filled:
            _fill(parts)
        area.unfill()
        self.areas.remove(area)
        for part in parts:
            self.areas.add(part)

    # users

    def add_domain(self, owner: HwPageTable, group: IommuGroup) -> None:
        """Give all areas to an IOMMU.  Raise OSError EADDRINUSE, EINVAL, EFAULT or ENOMEM; nothing is changed then."""
        sizes = group.page_sizes or self._page
        alignment = max(sizes & -sizes, self.alignment)
        if alignment > self._page:
            raise fail(errno.EINVAL)
        if alignment != self.alignment:
            self._check_alignment(alignment)
        start, last = group.aperture or (0, ADDRESS_LAST)
        try:
            if start:
                self.reserve(0, start - 1, owner)
            if last != ADDRESS_LAST:
                self.reserve(last + 1, ADDRESS_LAST, owner)
            _permit(owner, self.areas)
            if not self.domains:
                _fill(self.areas)
        except BaseException:  # also for what is not modelled nothing is changed
            self.unreserve(owner)
            raise
        self.alignment = alignment
        self.domains[owner] = group

    def remove_domain(self, owner: HwPageTable) -> None:
        """Take the areas from an IOMMU."""
        del self.domains[owner]
        if not self.domains:
            for area in self.areas:
                area.unfill()
        self.unreserve(owner)
        self._update_alignment()

    def add_access(self, access: Access) -> None:
        """A mediated device comes.  Raise OSError EADDRINUSE when an area is not aligned to pages."""
        self.accesses.append(access)
        try:
            self._update_alignment()
        except OSError:
            self.accesses.remove(access)
            raise

    def remove_access(self, access: Access) -> None:
        """It goes."""
        self.accesses.remove(access)
        self._update_alignment()

    def use_large_pages(self, yes: bool) -> None:
        """IOMMU_OPTION_HUGE_PAGES.  Raise OSError EINVAL when an IOMMU has areas already."""
        if not yes and self.large_pages and self.domains and len(self.areas):
            raise fail(errno.EINVAL)
        before, self.large_pages = self.large_pages, yes
        try:
            self._update_alignment()
        except OSError:
            self.large_pages = before
            raise

    def _update_alignment(self) -> None:
        alignment = 1 if self.large_pages and not self.accesses else self._page
        for group in self.domains.values():
            sizes = group.page_sizes or self._page
            alignment = max(alignment, sizes & -sizes)
        if alignment > self.alignment:
            self._check_alignment(alignment)
        self.alignment = alignment

    def _check_alignment(self, alignment: int) -> None:
        if any((area.iova | area.size | area.page_offset) & (alignment - 1) for area in self.areas):
            raise fail(errno.EADDRINUSE)


def _fit(start: int, last: int, length: int, alignment: int, offset: int) -> int | None:
    """The first address of a hole that is aligned and has room."""
    at = (start + alignment - 1) & ~(alignment - 1) | offset
    return None if at >= last or last - at < length - 1 else at


def _permit(table: HwPageTable, areas: Iterable[Area]) -> None:
    """Raise OSError EINVAL for areas that may be read only, where page tables of programs can be nested."""
    nesting = table.group.abilities.nesting
    if table.nest_parent and nesting is not None and not all(area.write for area in areas):
        nesting.refuse_read_only()
        raise fail(errno.EINVAL)


def _fill(areas: Iterable[Area]) -> None:
    """Pin the pages of areas, of all or of none."""
    done: list[Area] = []
    try:
        for area in areas:
            area.fill()
            done.append(area)
    except BaseException:
        for area in done:
            area.unfill()
        raise
