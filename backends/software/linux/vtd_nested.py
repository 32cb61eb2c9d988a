"""Page tables of programs in Intel's IOMMU (``drivers/iommu/intel/nested.c``, ``pasid.c`` and ``cache.c``, 6.12)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pyvfio.abi import iommufd as abi
from pyvfio.errors import NotModelled
from pyvfio_backends.software.hardware.pcie.first_stage import EVERYTHING, FirstStage, NestedSpace
from pyvfio_backends.software.linux.kernel_log import ERROR, kernel_log, say
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.remapping import Abilities
    from pyvfio_backends.software.linux.iommu_group import IommuGroup
    from pyvfio_backends.software.linux.iommufd_tables import HwPageTable
    from pyvfio_backends.software.linux.kernel import Kernel

__all__ = ["VtdNested", "VtdNesting", "flushed_range"]

_PAGE_SHIFT: Final = 12  # of the unit, VTD_PAGE_SHIFT
_WORD: Final = 1 << 64
_LEVELS: Final = {48: 4, 57: 5}
"""ADDR_WIDTH_4LEVEL and ADDR_WIDTH_5LEVEL."""
_SIZE: Final = 24
"""Bytes of both structures: there is one version of each yet."""


class VtdNesting:
    """A unit that nests (`NestingDriver`), called `name`."""

    def __init__(self, kernel: Kernel, name: str, abilities: Abilities) -> None:
        self._kernel = kernel
        self.name = name
        self.abilities = abilities

    def allocate(self, parent: HwPageTable, kind: int, read: Callable[[int, int], bytes]) -> VtdNested:
        """See `NestingDriver.allocate` (`intel_nested_domain_alloc`): most of the data is looked at by the attach."""
        if kind != abi.IOMMU_HWPT_DATA_VTD_S1:
            raise fail(errno.EOPNOTSUPP)
        return VtdNested(self, parent, abi.HwptVtdS1.from_buffer_copy(read(_SIZE, _SIZE)))

    def refuse_read_only(self) -> None:
        """See `NestingDriver.refuse_read_only` (`__domain_mapping`)."""
        text = "Read-only mapping is disallowed on the domain which serves as the parent in a nested configuration"
        kernel_log(self._kernel).add(ERROR, f"DMAR: {text}, due to HW errata (ERRATA_772415_SPR17)")

    def say(self, text: str) -> None:
        """Write about the unit (``pr_err``)."""
        kernel_log(self._kernel).add(ERROR, f"DMAR: {text} on {self.name}")


class VtdNested:
    """A first-stage table of a program, described by `given` (`NestedDomain`).

    Units that share it also share what they keep of it.
    """

    def __init__(self, nesting: VtdNesting, parent: HwPageTable, given: abi.HwptVtdS1) -> None:
        self._parent = parent
        self._given = given
        abilities = nesting.abilities
        stage = FirstStage(
            root=given.pgtbl_addr,
            levels=_LEVELS.get(given.addr_width, 4),
            width=abilities.width,
            huge=abilities.huge,
            extended=bool(given.flags & abi.IOMMU_VTD_S1_EAFE),
        )
        self.space = NestedSpace(stage, parent.space)

    def check(self, group: IommuGroup) -> None:
        """See `NestedDomain.check` (`intel_nested_attach_dev`, `intel_pasid_setup_nested`): ENODEV or EINVAL."""
        device = next(iter(group.devices.values()))
        if not self._parent.fits(group):
            say(device, ERROR, "Adjusted guest address width not compatible")
            raise fail(errno.ENODEV)
        if not self._parent.suits(group):
            say(device, ERROR, "s2 domain is not compatible")
            raise fail(errno.EINVAL)
        nesting = group.abilities.nesting
        if not isinstance(nesting, VtdNesting):
            if group.abilities.tracks_dirty:
                raise NotModelled("a nested page table for a device whose IOMMU is in scalable mode and cannot nest")
            raise fail(errno.ENODEV)  # without the scalable mode there is no table of process address spaces
        width, flags, able = self._given.addr_width, self._given.flags, nesting.abilities
        if width not in _LEVELS:
            # The kernel prints an unsigned number as a signed one.
            say(device, ERROR, f"Invalid stage-1 address width {width - ((width & 1 << 31) << 1)}")
            raise fail(errno.EINVAL)
        if _LEVELS[width] == 5 and not able.five_levels:
            say(device, ERROR, "5-level paging not supported")
            raise fail(errno.EINVAL)
        if flags & abi.IOMMU_VTD_S1_SRE and not able.supervisor:
            nesting.say("No supervisor request support")
            raise fail(errno.EINVAL)
        if flags & abi.IOMMU_VTD_S1_EAFE and not able.extended:
            nesting.say("No extended access flag support")
            raise fail(errno.EINVAL)

    def flush(self) -> None:
        """See `NestedDomain.flush`: the entry of the device was torn down, or set up (`pasid_flush_caches`)."""
        self.space.flush()

    def invalidate(self, kind: int, count: int, read: Callable[[int, int, int], bytes]) -> tuple[int, int]:
        """See `NestedDomain.invalidate` (`intel_nested_cache_invalidate_user`)."""
        if kind != abi.IOMMU_HWPT_INVALIDATE_DATA_VTD_S1:
            return 0, errno.EINVAL
        for done in range(count):
            try:
                entry = abi.HwptVtdS1Invalidate.from_buffer_copy(read(done, _SIZE, _SIZE))
            except OSError as error:
                return done, error.errno or errno.EFAULT
            if entry.flags & ~abi.IOMMU_VTD_INV_FLAGS_LEAF or getattr(entry, "__reserved"):
                return done, errno.EOPNOTSUPP
            if entry.addr & (1 << _PAGE_SHIFT) - 1 or (entry.npages == _WORD - 1 and entry.addr):
                return done, errno.EINVAL
            start, length = flushed_range(entry.addr, entry.npages)
            self.space.invalidate(start, length, leaf=bool(entry.flags & abi.IOMMU_VTD_INV_FLAGS_LEAF))
        return count, 0


def flushed_range(address: int, pages: int) -> tuple[int, int]:
    """The first byte and the number of bytes that the hardware is told to forget, for `pages` from `address` on.

    It is a power of two of pages, aligned to its size, that has them all; lengths are of 64 bits, so that some are cut
    (`calculate_psi_aligned_address`).  Of no pages at all it is one, as x86 shifts.
    """
    pages = (pages << _PAGE_SHIFT) % _WORD >> _PAGE_SHIFT or 1
    order = (pages - 1).bit_length()
    number = address >> _PAGE_SHIFT
    if number & (1 << order) - 1:
        order = max(order, (number ^ number + pages - 1).bit_length())
    if order >= 64 - _PAGE_SHIFT:
        return 0, EVERYTHING
    size = 1 << order + _PAGE_SHIFT
    return address & -size, size
