"""The TCE IOMMU of a container on POWER, versions 1 and 2 (``drivers/vfio/vfio_iommu_spapr_tce.c``).

The kernel maps in windows, replaces what is mapped already, and takes any range to unmap.  It checks the first page of
a range only: a longer one goes on behind the window's table.  So what is mapped is noted here, a range that leaves its
window is not asked for (ENXIO), and neither is one that is mapped (EEXIST, as of type 1).

The default window is for 32-bit addresses, from 0 on: 2 GiB on bare metal, 1 GiB in a guest.  When nothing fits into
it, version 2 makes a second one, far above (0x800000000000000), for those devices that can address it.

Version 2 wants memory to be registered before it is mapped, which is done here as it is needed.  A region is let go
after its last mapping, as the kernel (6.12) keeps it locked for good when it is let go before.  Version 1 has all of
its window count as locked memory, whatever is mapped.
"""

from __future__ import annotations

import errno
from typing import NoReturn

from sortedcontainers import SortedDict

from pyvfio import causes
from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_spapr as spapr
from pyvfio.abi import vfio_type1 as type1
from pyvfio.call import Call
from pyvfio.errors import KernelRefused, NotAvailable, PermissionDenied, PyvfioError
from pyvfio.ioda.window import ENTRY_SIZE
from pyvfio.iommu.address_space import IovaRange, Mapping

__all__ = ["TCE_PREFERENCE", "SpaprTable"]

_DEFAULT_PAGE = 1 << 12  # IOMMU_PAGE_SHIFT_4K
_LARGEST_LEVEL = 8 << 20
"""Bytes of a table; the largest block that the kernel allocates is twice as large."""
_LEVEL_BITS = (_LARGEST_LEVEL // ENTRY_SIZE).bit_length() - 1


class SpaprTable:
    """An `IommuTable` of a container whose IOMMU is set; `start` comes first.  `version` is 1 or 2."""

    def __init__(self, call: Call, version: int) -> None:
        self._call = call
        self.version = version
        self._windows: list[tuple[IovaRange, int]] = []
        self._asked: list[tuple[int, int, int]] = []
        self._mapped: SortedDict[int, Mapping] = SortedDict()
        self._regions: SortedDict[int, int] = SortedDict()

    @property
    def kind(self) -> str:
        """``tce`` or ``tcev2``."""
        return "tcev2" if self.version > 1 else "tce"

    @property
    def name(self) -> str:
        """The words for errors."""
        return self._call.obj

    def start(self) -> None:
        """The IOMMU was set: nothing is mapped, and there is the default window.  Raise the class for the errno.

        Version 1 counts the window as locked memory now (ENOMEM).  Windows that were made before are made again.
        """
        self._mapped.clear()
        self._regions.clear()
        info = self.info()
        start, size = int(info.dma32_window_start), int(info.dma32_window_size)
        self._windows = [(IovaRange(start, start + size - 1), _DEFAULT_PAGE)]
        if self.version == 1:
            self._lock(size)
        asked, self._asked = self._asked, []
        for size, page_size, levels in asked:
            self.add_window(size, page_size, levels)

    def _lock(self, size: int) -> None:
        operation = "lock the DMA window"
        try:
            self._call(operation, type1.VFIO_IOMMU_ENABLE)
        except KernelRefused as error:
            if error.errno != errno.ENOMEM:
                raise
            limit = self._call.backend.sysconf("RLIMIT_MEMLOCK")
            raise _because(error, causes.tce_window(size, limit)) from error

    def info(self) -> spapr.IommuSpaprTceInfo:
        """What the kernel says of the default window, and (version 2) of those that can be made."""
        argument = bytearray(bytes(spapr.IommuSpaprTceInfo.sized()))
        self._call("read IOMMU info", spapr.VFIO_IOMMU_SPAPR_TCE_GET_INFO, argument)
        return spapr.IommuSpaprTceInfo.from_buffer_copy(argument)

    def add_window(self, size: int, page_size: int = _DEFAULT_PAGE, levels: int = 1) -> IovaRange:
        """Make a window of `size` bytes (a power of two) in pages of `page_size`, with tables of `levels` levels.

        One of pages larger than the host's maps only memory of huge pages as large as that (``AnonymousMemory(length,
        huge=page_size)``), and only where `AddressSpace.map` is told an address in it: none is chosen there.

        Raise `NotAvailable` for version 1, else the class for the errno: ENOSPC when there are two, EINVAL for what
        `info` does not name, ENOMEM for too much locked memory (its tables count), or for too few levels.
        """
        if self.version == 1:
            raise NotAvailable("make a DMA window", self.name, cause="version 1 of the TCE IOMMU makes none")
        shift = page_size.bit_length() - 1
        argument = bytearray(bytes(spapr.IommuSpaprTceCreate.sized(page_shift=shift, window_size=size, levels=levels)))
        self._call("make a DMA window", spapr.VFIO_IOMMU_SPAPR_TCE_CREATE, argument)
        start = int(spapr.IommuSpaprTceCreate.from_buffer_copy(argument).start_addr)
        made = IovaRange(start, start + size - 1)
        self._windows.append((made, page_size))
        self._asked.append((size, page_size, levels))
        return made

    def grow(self, length: int) -> bool:
        """Make another window, in which `length` bytes have room; False when this kernel makes none.

        It has pages as the host has, where it can, and as few levels as there is memory for: from the number on with
        which a table of one level is no larger than `_LARGEST_LEVEL`, as what the kernel (6.12) has counted for one
        that it could not allocate stays locked.
        """
        if self.version == 1:
            return False
        info = self.info()
        most = info.ddw.max_dynamic_windows_supported if info.flags & spapr.VFIO_IOMMU_SPAPR_INFO_DDW else 0
        if len(self._windows) >= most:
            return False
        page = self._call.backend.sysconf("SC_PAGE_SIZE")
        page = page if info.ddw.pgsizes & page else _DEFAULT_PAGE
        size = max(1 << (2 * length - 1).bit_length(), int(info.dma32_window_size))
        most_levels = max(int(info.ddw.levels), 1)
        entry_bits = (size // page).bit_length() - 1
        for levels in range(min(-(-entry_bits // _LEVEL_BITS), most_levels), most_levels + 1):
            try:
                self.add_window(size, page, levels)
            except PyvfioError as error:
                if error.errno != errno.ENOMEM:
                    return False
            else:
                return True
        return False

    # mappings

    def map(self, mapping: Mapping) -> None:
        """See `IommuTable.map`."""
        if mapping.length <= 0:
            self._refuse(errno.EINVAL, "the length is zero")  # as of type 1; this kernel maps nothing then
        last = mapping.iova + mapping.length - 1
        if not any(window.start <= mapping.iova and last <= window.last for window, _ in self._windows):
            self._refuse(errno.ENXIO, f"{mapping.iova:#x}-{last:#x} is not in a DMA window")
        if self._cuts(mapping.iova, mapping.length):
            self._refuse(errno.EEXIST, f"something is mapped in {mapping.iova:#x}-{last:#x}")
        added = self._register(mapping.address, mapping.length) if self.version > 1 else []
        try:
            self._enter(mapping)
        except PyvfioError:
            for address in added:
                self._unregister(address)
            raise
        self._mapped[mapping.iova] = mapping

    def _enter(self, mapping: Mapping) -> None:
        flags = mapping.read * type1.VFIO_DMA_MAP_FLAG_READ | mapping.write * type1.VFIO_DMA_MAP_FLAG_WRITE
        size = type1.PACK_DMA_MAP.size
        argument = bytearray(type1.PACK_DMA_MAP.pack(size, flags, mapping.address, mapping.iova, mapping.length))
        pages = (page for window, page in self._windows if window.start <= mapping.iova <= window.last)
        page = next(pages, _DEFAULT_PAGE)
        large = page > self._call.backend.sysconf("SC_PAGE_SIZE")
        try:
            answer = self._call("map DMA", type1.VFIO_IOMMU_MAP_DMA, argument)
        except KernelRefused as error:
            if not large or error.errno != errno.EINVAL:
                raise
            raise _because(error, causes.tce_large_pages(page)) from error
        except PermissionDenied as error:
            if self.version == 1 or large or error.errno != errno.EPERM:
                raise
            # The memory is registered: then only making the window says so.
            raise _because(error, causes.tce_window_of_groups()) from error
        if answer:
            self._refuse(errno.EINVAL, f"{mapping.iova:#x} is not the start of a page")  # the kernel answers 1

    def enter_again(self) -> None:
        """Make all mappings again, as they are: a group left, others stay, and the kernel (6.12) cleared all tables.

        DMA of the others is refused from then until this has been done.  Raise the class for the errno.
        """
        for mapping in self._mapped.values():
            self._enter(mapping)

    def _refuse(self, number: int, cause: str, operation: str = "map DMA") -> NoReturn:
        raise KernelRefused(operation, self.name, errno=number, cause=cause)

    def _cuts(self, iova: int, length: int) -> list[Mapping]:
        """The mappings that a range has some of."""
        found = [self._mapped[one] for one in self._mapped.irange(iova, iova + length - 1)]
        before = self._mapped.bisect_left(iova) - 1
        if before >= 0:
            mapping: Mapping = self._mapped.peekitem(before)[1]
            if mapping.iova + mapping.length > iova:
                found.insert(0, mapping)
        return found

    def unmap(self, iova: int, length: int) -> int:
        """See `IommuTable.unmap`; a part of a mapping can be removed."""
        done = 0
        for mapping in self._cuts(iova, length):
            first, end = max(iova, mapping.iova), min(iova + length, mapping.iova + mapping.length)
            size = type1.PACK_DMA_UNMAP.size
            argument = bytearray(type1.PACK_DMA_UNMAP.pack(size, 0, first, end - first))
            if self._call("unmap DMA", type1.VFIO_IOMMU_UNMAP_DMA, argument):
                self._refuse(errno.EINVAL, f"{first:#x} is not the start of a page", "unmap DMA")
            del self._mapped[mapping.iova]
            for at, to in ((mapping.iova, first), (end, mapping.iova + mapping.length)):
                if at < to:
                    address = mapping.address + at - mapping.iova
                    self._mapped[at] = Mapping(at, to - at, address, mapping.read, mapping.write)
            done += end - first
            self._let_go(mapping.address + first - mapping.iova, end - first)
        return done

    def unmap_all(self) -> int | None:
        """See `IommuTable.unmap_all`: this kernel cannot."""
        return None

    # registered memory

    def _register(self, address: int, length: int) -> list[int]:
        """Register what is not registered of a range; where the new regions begin."""
        added: list[int] = []
        at, end = address, address + length
        try:
            while at < end:
                before = self._regions.bisect_right(at) - 1
                if before >= 0:
                    start, size = self._regions.peekitem(before)
                    if start + size > at:
                        at = start + size
                        continue
                following = next(self._regions.irange(at, end), end)
                self._register_region(at, following - at)
                self._regions[at] = following - at
                added.append(at)
                at = following
        except PyvfioError:
            for one in added:
                self._unregister(one)
            raise
        return added

    def _register_region(self, address: int, length: int) -> None:
        operation = "register memory"
        request = spapr.IommuSpaprRegisterMemory.sized(vaddr=address, size=length)
        try:
            good = self._call(operation, spapr.VFIO_IOMMU_SPAPR_REGISTER_MEMORY, bytearray(bytes(request)))
        except KernelRefused as error:
            if error.errno != errno.EINVAL or (address | length) % self._call.backend.sysconf("SC_PAGE_SIZE"):
                raise
            cause = "another container of this process, or an earlier one, has registered a part of this memory"
            step = "use one container, or map exactly the same ranges in all of them"
            raise KernelRefused(operation, self.name, errno=error.errno, cause=cause, next_step=step) from error
        if good:
            # Linux 6.12 answers how many pages it could pin before a bad one, and registers none.
            cause = "a part of the memory is not there, or not to be written"
            raise KernelRefused(operation, self.name, errno=errno.EFAULT, cause=cause)

    def _unregister(self, address: int) -> None:
        request = spapr.IommuSpaprRegisterMemory.sized(vaddr=address, size=self._regions[address])
        self._call("unregister memory", spapr.VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, bytearray(bytes(request)))
        del self._regions[address]

    def _let_go(self, address: int, length: int) -> None:
        """Unregister what no mapping needs any more, of the regions that a range has some of."""
        before = self._regions.bisect_right(address) - 1
        starts = [self._regions.peekitem(before)[0]] if before >= 0 else []
        starts += self._regions.irange(address, address + length, inclusive=(False, False))
        for start in starts:
            end = start + self._regions[start]
            used = ((one.address, one.address + one.length) for one in self._mapped.values())
            if address < end and not any(first < end and start < last for first, last in used):
                self._unregister(start)

    # what there is

    def ranges(self) -> list[IovaRange]:
        """See `IommuTable.ranges`: the windows."""
        return sorted((window for window, _ in self._windows), key=lambda window: window.start)

    def places(self) -> list[IovaRange]:
        """The windows that any memory can be mapped in, by address: with pages no larger than the host's."""
        host = self._call.backend.sysconf("SC_PAGE_SIZE")
        found = (window for window, page in self._windows if page <= host)
        return sorted(found, key=lambda window: window.start)

    def page_sizes(self) -> int:
        """See `IommuTable.page_sizes`: of windows with different pages, the larger, but no larger than the host's."""
        host = self._call.backend.sysconf("SC_PAGE_SIZE")
        return max(page for _, page in self._windows if page <= host)

    def available(self) -> int | None:
        """See `IommuTable.available`: there is no limit."""
        return None

    def close(self) -> None:
        """Nothing to do: the container owns the descriptor."""


TCE_PREFERENCE = ((abi.VFIO_SPAPR_TCE_v2_IOMMU, 2), (abi.VFIO_SPAPR_TCE_IOMMU, 1))
"""The IOMMU types this table can drive, with their version, the better one first."""


def _because(error: PyvfioError, why: causes.Cause) -> PyvfioError:
    """The same error with a cause that was found out."""
    return type(error)(
        error.operation, error.obj, path=error.path, errno=error.errno, cause=why.sentence, next_step=why.next_step
    )
