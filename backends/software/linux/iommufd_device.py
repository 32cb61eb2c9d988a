"""Objects of iommufd: address spaces, hardware page tables, and physical devices that are bound.

Source: ``drivers/iommu/iommufd/device.c`` and ``hw_pagetable.c``, ``drivers/vfio/iommufd.c``.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.dirty_space import DirtySpace
from pyvfio_backends.software.linux.ioas import IoPageTable
from pyvfio_backends.software.linux.iova_ranges import ADDRESS_LAST
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.dma import DmaSpace
    from pyvfio_backends.software.linux.iommu_group import IommuGroup
    from pyvfio_backends.software.linux.iommufd import IommufdContext
    from pyvfio_backends.software.linux.vfio_core import VfioDevice

__all__ = ["Binding", "BoundDevice", "BoundGroup", "HwPageTable", "Ioas", "IommufdObject"]


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

    `dirty` notes what was written, None for a table that cannot; `coherent`: all DMA by it snoops.
    """

    def __init__(
        self, context: IommufdContext, ioas: Ioas, group: IommuGroup, *, automatic: bool, dirty: bool = False
    ) -> None:
        super().__init__(context)
        self.ioas = ioas
        self.group = group
        self.automatic = automatic
        self.coherent = group.abilities.enforces_coherency
        self.dirty = DirtySpace(ioas.table.space, context.core.kernel.page_size) if dirty else None
        self.filled = False
        ioas.users += 1
        ioas.tables.append(self)

    @property
    def space(self) -> DmaSpace:
        """What devices that are attached to it see."""
        return self.ioas.table.space if self.dirty is None else self.dirty

    def suits(self, group: IommuGroup) -> bool:
        """Whether the IOMMU of a group can use it: it has all its addresses, and can snoop if it has to."""
        mine, theirs = self.group.aperture, group.aperture
        fits = mine is None or theirs is None or mine[1] <= theirs[1]
        return fits and (group.abilities.enforces_coherency or not self.coherent)

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


class BoundGroup:
    """An IOMMU group in a context: its devices that are attached, all to the same page table."""

    def __init__(self, group: IommuGroup) -> None:
        self.group = group
        self.bound = 0
        self.attached: list[BoundDevice] = []
        self.table: HwPageTable | None = None


class Binding(IommufdObject):
    """What a VFIO device has in a context: a `BoundDevice` or an `Access`."""

    def __init__(self, context: IommufdContext, device: VfioDevice) -> None:
        super().__init__(context)
        self.users += 1  # the driver
        self.device = device
        context.hold()

    def attach(self, id_: int) -> int:
        """Attach, or move, to the object with this number; the number of what it is attached to then."""
        raise fail(errno.EINVAL)

    def detach(self) -> None:
        """Detach; nothing happens if it is not attached."""

    def unbind(self) -> None:
        """Detach and leave the context."""
        self.detach()
        self.device.iommufd = None
        self.users -= 1
        self.context.remove(self)


class BoundDevice(Binding):
    """A physical device, whose DMA its context owns.

    Raise OSError EPERM when somebody else does, EINVAL when a device needs memory that firmware reserves.
    """

    def __init__(self, context: IommufdContext, device: VfioDevice) -> None:
        group = device.group
        if group is None:
            raise fail(errno.ENODEV)
        if group.iommu_group.owner is not context and group.claimed:
            raise fail(errno.EPERM)
        if group.iommu_group.owner is not context:
            group.iommu_group.take_ownership(context)
        super().__init__(context, device)
        self.vfio_group = group
        self.group = context.groups.setdefault(group.iommu_group, BoundGroup(group.iommu_group))
        self.group.bound += 1

    def destroy(self) -> None:
        self.group.bound -= 1
        if not self.group.bound:
            self.group.group.owner = None
            del self.context.groups[self.group.group]
        self.context.release()

    @property
    def is_attached(self) -> bool:
        """Whether this device was attached (others of its group may be)."""
        return self in self.group.attached

    def attach(self, id_: int) -> int:
        target = self.context.get(id_)
        if isinstance(target, HwPageTable):
            self._enter(target)
            return target.id
        if not isinstance(target, Ioas):
            raise fail(errno.EINVAL)
        for table in target.tables:
            if not table.automatic:
                continue
            try:
                self._enter(table)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    continue  # this table does not suit the device; another may
                raise
            return table.id
        return self._enter_new(target)

    def _enter_new(self, ioas: Ioas) -> int:
        table = HwPageTable(self.context, ioas, self.group.group, automatic=True)
        try:
            if self.is_attached:
                table.fill()
                self._enter(table)
            else:
                self._enter(table)
                try:
                    table.fill()
                except OSError:
                    self._leave()
                    table.users -= 1
                    raise
        except OSError:
            self.context.remove(table)
            raise
        return table.id

    def _enter(self, table: HwPageTable) -> None:
        if self.is_attached:
            self._replace(table)
            return
        group = self.group
        if (group.table is not None and group.table is not table) or not table.suits(group.group):
            raise fail(errno.EINVAL)
        self._reserve(table, [self])
        if group.table is None:
            group.table = table
            self.vfio_group.set_dma(table.space)
        table.users += 1
        self.users += 1
        group.attached.append(self)

    def _replace(self, table: HwPageTable) -> None:
        group, old = self.group, self.group.table
        if old is None or table is old:
            return
        if not table.suits(group.group):
            raise fail(errno.EINVAL)
        if table.ioas is not old.ioas:
            self._reserve(table, group.attached)
            for device in group.attached:
                old.ioas.table.unreserve(device)
        group.table = table
        self.vfio_group.set_dma(table.space)
        table.users += len(group.attached)
        for _ in group.attached:
            old.put()

    def _reserve(self, table: HwPageTable, devices: list[BoundDevice]) -> None:
        space = table.ioas.table
        try:
            for device in devices:
                for start, last in self.group.group.reserved:
                    space.reserve(start, last, device)
        except OSError:
            for device in devices:
                space.unreserve(device)
            raise

    def _leave(self) -> HwPageTable | None:
        """Detach without dropping the table; the table, or None when it was not attached."""
        group, table = self.group, self.group.table
        if table is None or not self.is_attached:
            return None
        group.attached.remove(self)
        if not group.attached:
            group.table = None
            self.vfio_group.set_dma(None)
        table.ioas.table.unreserve(self)
        self.users -= 1
        return table

    def detach(self) -> None:
        table = self._leave()
        if table is not None:
            table.put()
