"""The type 1 IOMMU of a VFIO container (``drivers/vfio/vfio_iommu_type1.c``), versions 1 and 2.

Mappings are made and found here; `type1_pages` holds their pages, `type1_dirty` tells which of them were written.

One deviation is on purpose: a mapping that ends with the last address of all is found and unmapped like any other,
while Linux 6.12 loses it in the overflow of ``iova + size`` (repaired later).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_type1 as type1
from pyvfio.abi.layout import native_struct
from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux.dma_domain import DmaDomain
from pyvfio_backends.software.linux.iova_ranges import ADDRESS_LAST, Ranges, exclude, intersect
from pyvfio_backends.software.linux.iova_tree import IovaTree
from pyvfio_backends.software.linux.type1_dirty import DirtyPages
from pyvfio_backends.software.linux.type1_info import answer_info
from pyvfio_backends.software.linux.type1_pages import Type1Mapping, Type1Pages
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.vfio_core import VfioCore, VfioDevice
    from pyvfio_backends.software.linux.vfio_group import VfioGroup

__all__ = ["Type1"]

_MAP, _UNMAP = type1.PACK_DMA_MAP, type1.PACK_DMA_UNMAP
_BITMAP = native_struct(type1.Bitmap)
_READ, _WRITE = type1.VFIO_DMA_MAP_FLAG_READ, type1.VFIO_DMA_MAP_FLAG_WRITE
_VADDR = type1.VFIO_DMA_MAP_FLAG_VADDR
_MAP_FLAGS = _READ | _WRITE | _VADDR
_UNMAP_DIRTY = type1.VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP
_UNMAP_ALL, _UNMAP_VADDR = type1.VFIO_DMA_UNMAP_FLAG_ALL, type1.VFIO_DMA_UNMAP_FLAG_VADDR
_UNMAP_FLAGS = _UNMAP_DIRTY | _UNMAP_ALL | _UNMAP_VADDR
_KINDS = (abi.VFIO_TYPE1_IOMMU, abi.VFIO_TYPE1v2_IOMMU, abi.VFIO_TYPE1_NESTING_IOMMU)
_MOST_RETRIES = 10


class Type1:
    """The IOMMU of one container, of the `kind` that VFIO_SET_IOMMU named.  Raise OSError EINVAL for another kind.

    Groups with an IOMMU share one `domain`; mappings are pinned while there is such a group.
    """

    def __init__(self, core: VfioCore, kind: int) -> None:
        if kind not in _KINDS:
            raise fail(errno.EINVAL)
        self.core = core
        self.version2 = kind != abi.VFIO_TYPE1_IOMMU
        self.nesting = kind == abi.VFIO_TYPE1_NESTING_IOMMU
        self.available = core.dma_entry_limit
        self.tree: IovaTree[Type1Mapping] = IovaTree()
        self.groups: dict[VfioGroup, bool] = {}
        """The groups; False while one may have written anywhere (no dirty tracking by pinned pages)."""
        self.domain: DmaDomain | None = None
        self.devices: list[VfioDevice] = []
        self.ranges: Ranges = []
        self.invalid = 0
        self._page = core.kernel.page_size
        self._page_mask = ADDRESS_LAST & ~(self._page - 1)
        self.page_sizes = self._page_mask
        self.page_size = self._page
        self.pages = Type1Pages(self)
        self.dirty = DirtyPages(self)

    # what VFIO_CHECK_EXTENSION says

    @staticmethod
    def offers(extension: int) -> bool:
        """Whether type 1 has the extension at all, before a container has it."""
        return extension in _KINDS or extension == abi.VFIO_UNMAP_ALL

    def check_extension(self, extension: int) -> int:
        """1 or 0."""
        if extension == abi.VFIO_UPDATE_VADDR:
            return int(not any(group.emulated for group in self.groups))
        if extension == abi.VFIO_DMA_CC_IOMMU:
            physical = [group.iommu_group for group in self.groups if not group.emulated]
            return int(all(group.abilities.enforces_coherency for group in physical))
        return int(self.offers(extension))

    # groups and devices

    def attach_group(self, group: VfioGroup) -> None:
        """Take a group in; its mappings are pinned and given to its IOMMU.

        Raise OSError EBUSY while addresses are invalid, EINVAL when the IOMMU's addresses do not fit, EFAULT or ENOMEM
        when a mapping cannot be pinned.
        """
        if self.invalid:
            raise fail(errno.EBUSY)
        if group in self.groups:
            raise fail(errno.EINVAL)
        if group.emulated:
            self.groups[group] = True
            return
        if self.nesting:
            raise fail(errno.EINVAL)  # no driver of the machine has `enable_nesting`
        ranges = self._ranges_with(group)
        if self.domain is None:
            self.pages.pin_all()
            self.domain = DmaDomain(self.tree)
        self.ranges = ranges
        self.groups[group] = False
        self._update_page_sizes()
        group.set_dma(self.domain)

    def _ranges_with(self, group: VfioGroup) -> Ranges:
        start, last = group.iommu_group.aperture or (0, ADDRESS_LAST)
        reserved = group.iommu_group.reserved
        before = self.ranges
        if before:
            if start > before[-1][1] or last < before[0][0]:
                raise fail(errno.EINVAL)
            lower = start > before[0][0] and self.tree.overlap(before[0][0], start - 1)
            upper = last < before[-1][1] and self.tree.overlap(last + 1, before[-1][1])
            if lower or upper:
                raise fail(errno.EINVAL)
        if any(self.tree.overlap(first, end) for first, end in reserved):
            raise fail(errno.EINVAL)
        ranges = exclude(intersect(before, start, last) if before else [(start, last)], reserved)
        if not ranges:
            raise fail(errno.EINVAL)
        return ranges

    def detach_group(self, group: VfioGroup) -> None:
        """Let a group go.  With the last group with an IOMMU the pages go, with the last group all mappings."""
        tracked = self.groups.pop(group)
        if not group.emulated:
            group.set_dma(None)
            physical = [other.iommu_group for other in self.groups if not other.emulated]
            if physical:
                # All groups share one domain, so the aperture stays, and the regions reserved for this group come back.
                whole = [(self.ranges[0][0], self.ranges[-1][1])]
                self.ranges = exclude(whole, [region for other in physical for region in other.reserved]) or self.ranges
            else:
                self.domain = None
                self.pages.unpin_all()
                self.ranges = [(0, ADDRESS_LAST)]
            self._update_page_sizes()
        if not self.groups:
            self._remove_all()
        if not tracked and self.dirty.tracking:
            self.dirty.mark_everything()

    def _update_page_sizes(self) -> None:
        sizes = ADDRESS_LAST
        for group in self.groups:
            if not group.emulated:
                sizes &= group.iommu_group.page_sizes or self._page
        if self.domain is None:
            sizes = ADDRESS_LAST
        if sizes & ~self._page_mask:
            sizes = sizes & self._page_mask | self._page
        self.page_sizes = sizes
        self.page_size = sizes & -sizes

    @property
    def writes_anywhere(self) -> bool:
        """Whether a group may have written to any mapping without telling."""
        return not all(self.groups.values())

    def register_device(self, device: VfioDevice) -> None:
        """A device is open: it hears of unmaps if it can pin."""
        if device.pins:
            self.devices.insert(0, device)

    def unregister_device(self, device: VfioDevice) -> None:
        """The device is closed."""
        if device in self.devices:
            self.devices.remove(device)

    def close(self) -> None:
        """The container has no group any more."""
        self._remove_all()

    # requests

    def ioctl(self, request: int, argument: Argument) -> int:
        """Answer a request of the container's descriptor."""
        if request == type1.VFIO_IOMMU_MAP_DMA:
            return self._map(argument)
        if request == type1.VFIO_IOMMU_UNMAP_DMA:
            return self._unmap(argument)
        if request == type1.VFIO_IOMMU_GET_INFO:
            return answer_info(self, argument)
        if request == type1.VFIO_IOMMU_DIRTY_PAGES:
            return self.dirty.ioctl(argument)
        raise fail(errno.ENOTTY)

    def _map(self, argument: Argument) -> int:
        argsz, flags, vaddr, iova, size = _MAP.unpack(argument.read(0, _MAP.size))
        if argsz < _MAP.size or flags & ~_MAP_FLAGS:
            raise fail(errno.EINVAL)
        rights = flags & (_READ | _WRITE)
        if bool(rights) == bool(flags & _VADDR):
            raise fail(errno.EINVAL)
        last = iova + size - 1
        if not size or (size | iova | vaddr) & (self.page_size - 1):
            raise fail(errno.EINVAL)
        if last > ADDRESS_LAST or vaddr + size - 1 > ADDRESS_LAST:
            raise fail(errno.EINVAL)
        other = self.tree.overlap(iova, last)
        if flags & _VADDR:
            return self._map_again(other, iova, last, vaddr, argument)
        if other is not None:
            raise fail(errno.EEXIST)
        if not self.available:
            raise fail(errno.ENOSPC)
        if self.ranges and not any(start <= iova and last <= end for start, end in self.ranges):
            raise fail(errno.EINVAL)
        mapping = Type1Mapping(iova, last, argument.caller, vaddr, bool(flags & _READ), bool(flags & _WRITE))
        if self.domain is not None:
            self.pages.pin_mapping(mapping)
        if self.dirty.tracking:
            self.dirty.start_mapping(mapping)
        try:
            self.tree.add(mapping)
        except OSError:
            self.pages.unpin_mapping(mapping)  # the IOMMU has no room
            raise
        self.available -= 1
        if self.domain is not None:
            self.domain.mapped(mapping.size // self._page)
        return 0

    def _map_again(self, mapping: Type1Mapping | None, iova: int, last: int, vaddr: int, argument: Argument) -> int:
        # VFIO_DMA_MAP_FLAG_VADDR: the memory is the same, a new program has it at another address
        if mapping is None:
            raise fail(errno.ENOENT)
        if not mapping.invalid or mapping.iova != iova or mapping.last != last:
            raise fail(errno.EINVAL)
        self.pages.change_owner(mapping, argument.caller, vaddr)
        mapping.invalid = False
        self.invalid -= 1
        return 0

    def _unmap(self, argument: Argument) -> int:
        argsz, flags, iova, size = _UNMAP.unpack(argument.read(0, _UNMAP.size))
        if argsz < _UNMAP.size or flags & ~_UNMAP_FLAGS:
            raise fail(errno.EINVAL)
        bitmap = 0
        if flags & _UNMAP_DIRTY:
            if flags & (_UNMAP_ALL | _UNMAP_VADDR) or argsz < _UNMAP.size + _BITMAP.size:
                raise fail(errno.EINVAL)
            page, room, bitmap = _BITMAP.unpack(argument.read(_UNMAP.size, _BITMAP.size))
            self.dirty.check_size(size, page, room)
        if flags & _UNMAP_VADDR and any(group.emulated for group in self.groups):
            raise fail(errno.EBUSY)
        if iova & (self.page_size - 1):
            raise fail(errno.EINVAL)
        last = iova + size - 1
        if flags & _UNMAP_ALL:
            if iova or size:
                raise fail(errno.EINVAL)
            last = ADDRESS_LAST
        elif not size or size & (self.page_size - 1) or last > ADDRESS_LAST:
            raise fail(errno.EINVAL)
        if flags & _UNMAP_DIRTY and (not self.dirty.tracking or page != self.page_size):
            raise fail(errno.EINVAL)
        if flags & _UNMAP_VADDR:
            unmapped = self._invalidate(self._covered(iova, last, bool(flags & _UNMAP_ALL)))
        else:
            unmapped = self._remove(iova, last, flags, argument, bitmap)
        argument.write(0, _UNMAP.pack(argsz, flags, iova, unmapped))
        return 0

    def _covered(self, iova: int, last: int, everything: bool) -> list[Type1Mapping]:
        """The mappings that an unmap of this range means.  Version 2 refuses to cut one (EINVAL)."""
        found = self.tree.between(iova, last)
        if found and not everything:
            if self.version2:
                if found[0].iova < iova or found[-1].last > last:
                    raise fail(errno.EINVAL)
            elif found[0].iova < iova:
                return []
        return found

    def _remove(self, iova: int, last: int, flags: int, argument: Argument, bitmap: int) -> int:
        """Remove the mappings of a range, each after the mediated devices have let its pages go; bytes removed."""
        unmapped = 0
        held: Type1Mapping | None = None
        retries = 0
        while True:
            for mapping in self._covered(iova, last, bool(flags & _UNMAP_ALL)):
                if mapping.pins:
                    retries = retries + 1 if mapping is held else 0
                    held = mapping
                    break
                if flags & _UNMAP_DIRTY:
                    self.dirty.report(argument.caller, bitmap, mapping, iova)
                unmapped += mapping.size
                self._remove_mapping(mapping)
            else:
                return unmapped
            if retries > _MOST_RETRIES:
                raise NotModelled("a kernel that stops because a driver does not unpin")  # BUG_ON
            for device in tuple(self.devices):
                device.dma_unmap(held.iova, held.size)

    def _invalidate(self, mappings: list[Type1Mapping]) -> int:
        """VFIO_DMA_UNMAP_FLAG_VADDR: the memory is going to move; all or none (EINVAL).  Bytes invalidated."""
        if any(mapping.invalid for mapping in mappings):
            # The kernel first invalidates what comes before and then takes it back.
            raise fail(errno.EINVAL)
        for mapping in mappings:
            mapping.invalid = True
        self.invalid += len(mappings)
        return sum(mapping.size for mapping in mappings)

    def _remove_mapping(self, mapping: Type1Mapping) -> None:
        self.pages.unpin_mapping(mapping)
        self.tree.remove(mapping)
        if self.domain is not None:
            self.domain.unmapped(mapping.size // self._page)
        if mapping.invalid:
            self.invalid -= 1
        self.available += 1

    def _remove_all(self) -> None:
        for mapping in list(self.tree):
            self._remove_mapping(mapping)
