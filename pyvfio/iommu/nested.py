"""Page tables of a program's own for devices: nested in an address space of iommufd (Intel VT-d's first stage).

::

    address of the device -- the program's page table --> IOVA of the address space -- its mappings --> memory

A guest's IOMMU is served that way: its tables are used as they are, and only what it invalidates must be passed on.
The tables are x86-64's, of four or five levels; they lie in memory that is mapped in the address space, and their
entries, and the root, are IOVAs of it.  Everything that is mapped there must be writable for the device.

::

    parent = device.nest_parent(space)
    table = parent.table(root)
    device.attach_nested(table)
    ...                                     # change entries
    table.invalidate(iova, pages)
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, Self

from pyvfio.abi import iommufd as abi
from pyvfio.errors import Misuse, NotAvailable, PyvfioError
from pyvfio.iommu.iommufd import IoasTable

if TYPE_CHECKING:
    from pyvfio.iommu.address_space import AddressSpace
    from pyvfio.vfio.cdev import Cdev

__all__ = ["PAGE_SIZE", "Invalidation", "NestParent", "NestedTable"]

PAGE_SIZE = 1 << 12
"""What `NestedTable.invalidate` counts in, on every kernel: the smallest page of VT-d."""
_WORD = 1 << 64
_ALL = _WORD - 1


class Invalidation(NamedTuple):
    """What the hardware is to forget: `pages` of `PAGE_SIZE` from `iova` on.

    With `leaf` it may keep the entries that lead to tables: only translations themselves were changed.
    """

    iova: int
    pages: int
    leaf: bool = False


class NestParent:
    """A page table of `space` that others can be nested in, made for `device`; `number` is its number in iommufd.

    A context manager; close the tables in it first.  Raise `NotAvailable` where the device's IOMMU does not nest
    (EOPNOTSUPP) or may not, because a mapping is not writable (EINVAL), `Misuse` for another kind of address space or
    one of another iommufd, or the class for the errno.
    """

    def __init__(self, space: AddressSpace, device: Cdev) -> None:
        if not isinstance(space.table, IoasTable) or space.table.iommufd is not device.iommufd:
            cause = "the address space is not one of the iommufd that the device is bound to"
            raise Misuse("nest page tables", device.name, cause=cause)
        self.space = space
        self.ioas = space.table
        self._device = device.number
        self._call = space.table.iommufd.call(f"page table of {space.table.name}")
        argument = abi.HwptAlloc.sized(
            flags=abi.IOMMU_HWPT_ALLOC_NEST_PARENT, dev_id=device.number, pt_id=space.table.ioas_id
        )
        try:
            self._call("allocate page table to nest in", abi.IOMMU_HWPT_ALLOC, argument)
        except PyvfioError as error:
            if error.errno == errno.EOPNOTSUPP:
                cause, step = "the IOMMU in front of the device does not nest", "boot with intel_iommu=sm_on, if it can"
            elif error.errno == errno.EINVAL:
                cause, step = "something that the device may only read is mapped", "map all of it writable"
            else:
                raise
            raise NotAvailable(error.operation, device.name, errno=error.errno, cause=cause, next_step=step) from error
        self.number = int(argument.out_hwpt_id)

    def table(
        self, root: int, *, width: int = 48, supervisor: bool = False, extended: bool = False, protect: bool = False
    ) -> NestedTable:
        """A page table of this program, whose first table is at IOVA `root`; it translates `width` bits (48 or 57).

        `supervisor`: it is for requests of supervisor mode, too, with `protect` read-only pages are so for these;
        `extended`: the hardware also sets bit 10 of the entries that it uses.  Whether a device's IOMMU can do all that
        is known when a device is attached.  Raise `Misuse` for numbers that are none of 64 and 32 bits, or the class
        for the errno.
        """
        if not (0 <= root < _WORD and 0 <= width < 1 << 32):
            raise Misuse("make nested page table", f"root {root:#x}", cause="the root has 64 bits, the width 32")
        flags = supervisor * abi.IOMMU_VTD_S1_SRE | extended * abi.IOMMU_VTD_S1_EAFE | protect * abi.IOMMU_VTD_S1_WPE
        data = abi.HwptVtdS1(flags=flags, pgtbl_addr=root, addr_width=width)
        argument = abi.HwptAlloc.sized(
            dev_id=self._device,
            pt_id=self.number,
            data_type=abi.IOMMU_HWPT_DATA_VTD_S1,
            data_len=ctypes.sizeof(data),
            data_uptr=ctypes.addressof(data),
        )
        self._call("allocate nested page table", abi.IOMMU_HWPT_ALLOC, argument)
        return NestedTable(self, int(argument.out_hwpt_id), root, width)

    def close(self) -> None:
        """Destroy it; a second call does nothing.  Raise `DeviceBusy` while a table or a device uses it."""
        if self.number and self.ioas.iommufd.fileno() >= 0:
            self.ioas.iommufd.destroy(self.number)
        self.number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class NestedTable:
    """A page table of this program, with its `root` in `parent`.  Made by `NestParent.table`; a context manager."""

    def __init__(self, parent: NestParent, number: int, root: int, width: int) -> None:
        self.parent = parent
        self.number = number
        self.root = root
        self.width = width
        self._call = parent.ioas.iommufd.call(self.words)

    @property
    def words(self) -> str:
        """The words for errors."""
        return f"nested page table at {self.root:#x}, {self.width} bits"

    def invalidate(self, iova: int = 0, pages: int | None = None, *, leaf: bool = False) -> None:
        """Have the hardware forget `pages` of `PAGE_SIZE` from `iova`, None: all.  Errors as `invalidate_each`."""
        self.invalidate_each([Invalidation(iova, _ALL if pages is None else pages, leaf)])

    def invalidate_each(self, ranges: Iterable[Invalidation]) -> int:
        """Have it forget several ranges in one call; how many were done, which is all of them.

        Raise `Misuse` for what is no number of 64 bits or no page, else the class for the errno.
        """
        wanted = list(ranges)
        entries = (abi.HwptVtdS1Invalidate * max(len(wanted), 1))()
        for entry, one in zip(entries, wanted, strict=False):
            if not (0 <= one.iova < _WORD and 0 < one.pages < _WORD) or one.iova % PAGE_SIZE:
                cause = f"{one.pages} pages at {one.iova:#x} are none of {PAGE_SIZE} bytes within 64 bits"
                raise Misuse("invalidate", self.words, cause=cause)
            entry.addr, entry.npages = one.iova, one.pages
            entry.flags = one.leaf * abi.IOMMU_VTD_INV_FLAGS_LEAF
        argument = abi.HwptInvalidate.sized(
            hwpt_id=self.number,
            data_uptr=ctypes.addressof(entries),
            data_type=abi.IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
            entry_len=ctypes.sizeof(abi.HwptVtdS1Invalidate),
            entry_num=len(wanted),
        )
        self._call("invalidate nested page table", abi.IOMMU_HWPT_INVALIDATE, argument)
        return int(argument.entry_num)

    def close(self) -> None:
        """Destroy it; a second call does nothing.  Raise `DeviceBusy` while a device uses it."""
        if self.number and self.parent.ioas.iommufd.fileno() >= 0:
            self.parent.ioas.iommufd.destroy(self.number)
        self.number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
