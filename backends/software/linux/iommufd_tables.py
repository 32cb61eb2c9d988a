"""Objects of iommufd: address spaces, and hardware page tables, of the kernel and of programs.

Source: ``drivers/iommu/iommufd/hw_pagetable.c``.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Protocol

from pyvfio_backends.software.linux.dirty_space import DirtySpace
from pyvfio_backends.software.linux.ioas import IoPageTable
from pyvfio_backends.software.linux.iova_ranges import ADDRESS_LAST
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyvfio_backends.software.hardware.dma import DmaSpace
    from pyvfio_backends.software.linux.dma_domain import DmaDomain
    from pyvfio_backends.software.linux.iommu_group import IommuGroup
    from pyvfio_backends.software.linux.iommufd import IommufdContext

__all__ = ["HwPageTable", "Ioas", "IommufdObject", "NestedDomain", "NestedPageTable", "NestingDriver"]


class IommufdObject:
    """Anything with a number in a context; `users` is 1 when nobody but the context refers to it."""

    def __init__(self, context: IommufdContext) -> None:
        self.context = context
        self.users = 1
        self.id = context.add(self)

    def destroy(self) -> None:
        """It was removed from the context."""


class Ioas(IommufdObject):
    """An address space and the hardware page tables that follow it."""

    def __init__(self, context: IommufdContext) -> None:
        super().__init__(context)
        self.table = IoPageTable(context.core)
        self.tables: list[HwPageTable] = []

    def destroy(self) -> None:
        self.table.unmap_range(0, ADDRESS_LAST)


class HwPageTable(IommufdObject):
    """A page table of the IOMMU of `group` that follows `ioas`; `automatic` ones go with their last device.

    `dirty` notes what was written, None for a table that cannot; `coherent`: all DMA by it snoops; `nest_parent`:
    tables of programs may be nested in it.
    """

    def __init__(
        self,
        context: IommufdContext,
        ioas: Ioas,
        group: IommuGroup,
        *,
        automatic: bool,
        dirty: bool = False,
        nest_parent: bool = False,
    ) -> None:
        super().__init__(context)
        self.ioas = ioas
        self.group = group
        self.automatic = automatic
        self.coherent = group.abilities.enforces_coherency
        self.dirty = DirtySpace(ioas.table.space, context.core.kernel.page_size) if dirty else None
        self.nest_parent = nest_parent
        self.filled = False
        ioas.users += 1
        ioas.tables.append(self)

    @property
    def space(self) -> DmaDomain | DirtySpace:
        """What devices that are attached to it see."""
        return self.ioas.table.space if self.dirty is None else self.dirty

    def suits(self, group: IommuGroup) -> bool:
        """Whether the IOMMU of a group can use it: it has its addresses, and snoops and notes writes if it has to."""
        abilities = group.abilities
        coherent = abilities.enforces_coherency or not self.coherent
        return self.fits(group) and coherent and (abilities.tracks_dirty or self.dirty is None)

    def fits(self, group: IommuGroup) -> bool:
        """Whether the IOMMU of a group has all its addresses."""
        mine, theirs = self.group.aperture, group.aperture
        return mine is None or theirs is None or mine[1] <= theirs[1]

    def check(self, group: IommuGroup) -> None:
        """Raise OSError EINVAL unless the IOMMU of a group can use it."""
        if not self.suits(group):
            raise fail(errno.EINVAL)

    def flush(self) -> None:
        """It was given to a device, or taken away: the mappings are looked up each time."""

    def fill(self) -> None:
        """Connect it to the address space.  Raise OSError EADDRINUSE, EINVAL, EFAULT or ENOMEM."""
        self.ioas.table.add_domain(self, self.group)
        self.filled = True

    def destroy(self) -> None:
        self.ioas.tables.remove(self)
        if self.filled:
            self.ioas.table.remove_domain(self)
        self.ioas.users -= 1

    def put(self) -> None:
        """A device has left it."""
        self.users -= 1
        if self.automatic and self.users == 1:
            self.context.remove(self)


class NestedDomain(Protocol):
    """What an IOMMU's driver has of a program's page table (a domain of type ``IOMMU_DOMAIN_NESTED``)."""

    @property
    def space(self) -> DmaSpace:
        """What devices that are attached to it see."""

    def check(self, group: IommuGroup) -> None:
        """Raise OSError with the errno of an attach when the IOMMU of a group cannot use it (``attach_dev``)."""

    def flush(self) -> None:
        """It was given to a device, or taken away: forget what the hardware has of it."""

    def invalidate(self, kind: int, count: int, read: Callable[[int, int, int], bytes]) -> tuple[int, int]:
        """Do `count` entries of a `kind` (``cache_invalidate_user``): how many were done, and 0 or an errno.

        `read` takes the number of an entry, and the least and the most bytes that it can have; it raises OSError.
        """


class NestingDriver(Protocol):
    """The half of an IOMMU's driver that makes these (``domain_alloc_user`` with a parent)."""

    def allocate(self, parent: HwPageTable, kind: int, read: Callable[[int, int], bytes]) -> NestedDomain:
        """A table in `parent`, from data of a `kind`.  Raise OSError EOPNOTSUPP, EINVAL or EFAULT.

        `read` takes the least and the most bytes that the data can have; it raises OSError.
        """

    def refuse_read_only(self) -> None:
        """Say that a device may write everything that is mapped where others nest, or nothing is mapped."""


class NestedPageTable(IommufdObject):
    """A program's page table, whose addresses are those of `parent`."""

    def __init__(self, context: IommufdContext, parent: HwPageTable, domain: NestedDomain) -> None:
        super().__init__(context)
        self.parent = parent
        self.domain = domain
        parent.users += 1

    @property
    def ioas(self) -> Ioas:
        """Where the reserved regions of its devices go."""
        return self.parent.ioas

    @property
    def space(self) -> DmaSpace:
        """What devices that are attached to it see."""
        return self.domain.space

    def check(self, group: IommuGroup) -> None:
        """See `NestedDomain.check`."""
        self.domain.check(group)

    def flush(self) -> None:
        """See `NestedDomain.flush`."""
        self.domain.flush()

    def destroy(self) -> None:
        self.parent.users -= 1

    def put(self) -> None:
        """A device has left it."""
        self.users -= 1
