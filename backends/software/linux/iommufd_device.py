"""Physical devices that are bound to iommufd (``drivers/iommu/iommufd/device.c``, ``drivers/vfio/iommufd.c``)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.iommufd_tables import HwPageTable, Ioas, IommufdObject, NestedPageTable
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.iommu_group import IommuGroup
    from pyvfio_backends.software.linux.iommufd import IommufdContext
    from pyvfio_backends.software.linux.vfio_core import VfioDevice

__all__ = ["Binding", "BoundDevice", "BoundGroup"]


class BoundGroup:
    """An IOMMU group in a context: its devices that are attached, all to the same page table."""

    def __init__(self, group: IommuGroup) -> None:
        self.group = group
        self.bound = 0
        self.attached: list[BoundDevice] = []
        self.table: HwPageTable | NestedPageTable | None = None


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
        if isinstance(target, (HwPageTable, NestedPageTable)):
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

    def _enter(self, table: HwPageTable | NestedPageTable) -> None:
        if self.is_attached:
            self._replace(table)
            return
        group = self.group
        if group.table is not None and group.table is not table:
            raise fail(errno.EINVAL)
        table.check(group.group)
        self._reserve(table, [self])
        if group.table is None:
            group.table = table
            table.flush()
            self.vfio_group.set_dma(table.space)
        table.users += 1
        self.users += 1
        group.attached.append(self)

    def _replace(self, table: HwPageTable | NestedPageTable) -> None:
        group, old = self.group, self.group.table
        if old is None or table is old:
            return
        table.check(group.group)
        if table.ioas is not old.ioas:
            self._reserve(table, group.attached)
            for device in group.attached:
                old.ioas.table.unreserve(device)
        group.table = table
        old.flush()
        table.flush()
        self.vfio_group.set_dma(table.space)
        table.users += len(group.attached)
        for _ in group.attached:
            old.put()

    def _reserve(self, table: HwPageTable | NestedPageTable, devices: list[BoundDevice]) -> None:
        space = table.ioas.table
        try:
            for device in devices:
                for start, last in self.group.group.reserved:
                    space.reserve(start, last, device)
        except OSError:
            for device in devices:
                space.unreserve(device)
            raise

    def _leave(self) -> HwPageTable | NestedPageTable | None:
        """Detach without dropping the table; the table, or None when it was not attached."""
        group, table = self.group, self.group.table
        if table is None or not self.is_attached:
            return None
        group.attached.remove(self)
        if not group.attached:
            group.table = None
            table.flush()
            self.vfio_group.set_dma(None)
        table.ioas.table.unreserve(self)
        self.users -= 1
        return table

    def detach(self) -> None:
        table = self._leave()
        if table is not None:
            table.put()
