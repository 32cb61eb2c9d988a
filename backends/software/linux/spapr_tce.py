"""The IOMMU of VFIO containers on POWER (``drivers/vfio/vfio_iommu_spapr_tce.c``), versions 1 and 2.

Version 1 has one group and its 32-bit window, all of which counts as locked memory once the container is enabled.
Version 2 makes windows as programs ask (`SpaprWindows`) and maps only memory that was registered before
(`RegisteredMemory`).  Mappings are entries of TCE tables (`SpaprEntries`): mapping what is mapped replaces it, and
unmapping what is not is no error.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Protocol

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_spapr as spapr
from pyvfio.abi import vfio_type1 as type1
from pyvfio.abi.layout import native_struct, offset_of
from pyvfio.errors import NotModelled
from pyvfio.ioda.tce import TceAccess
from pyvfio.process import ProcessMemory
from pyvfio_backends.software.linux.spapr_entries import SpaprEntries
from pyvfio_backends.software.linux.spapr_memory import Region
from pyvfio_backends.software.linux.spapr_windows import SpaprWindows
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.iommu_group import IommuGroup
    from pyvfio_backends.software.linux.spapr_memory import RegisteredMemory
    from pyvfio_backends.software.linux.tce_table import IommuTable, TableGroup
    from pyvfio_backends.software.linux.vfio_core import VfioCore, VfioDevice
    from pyvfio_backends.software.linux.vfio_group import VfioGroup

__all__ = ["EehService", "SpaprTce"]

_MAP, _UNMAP = type1.PACK_DMA_MAP, type1.PACK_DMA_UNMAP
_REGISTER = native_struct(spapr.IommuSpaprRegisterMemory)
_REMOVE = native_struct(spapr.IommuSpaprTceRemove)
_INFO_LEAST = offset_of(spapr.IommuSpaprTceInfo, "ddw")
_READ, _WRITE = type1.VFIO_DMA_MAP_FLAG_READ, type1.VFIO_DMA_MAP_FLAG_WRITE
_ACCESS = {_READ: TceAccess.READ, _WRITE: TceAccess.WRITE, _READ | _WRITE: TceAccess.READ | TceAccess.WRITE}
_KINDS = (abi.VFIO_SPAPR_TCE_IOMMU, abi.VFIO_SPAPR_TCE_v2_IOMMU)
_ADDRESS_END = 1 << 64
_UNALIGNED = 1  # what the checks of a bus address answer in Linux 6.12: the truth of an error, not the error


class EehService(Protocol):
    """The kernel's half of EEH, as containers use it."""

    @property
    def enabled(self) -> bool:
        """Whether an adapter is under EEH (``eeh_enabled``)."""

    def pe_op(self, group: IommuGroup, argument: Argument) -> int:
        """Answer ``VFIO_EEH_PE_OP`` for one group.  Raise OSError, ENODEV for a group without an endpoint."""


class SpaprTce:
    """The IOMMU of one container, of the `kind` that VFIO_SET_IOMMU named.  Raise OSError EINVAL for another kind.

    `groups`, newest first, and `caller`, the process that set it up: no other may use it then (EPERM).
    """

    pages = None
    """Nobody reaches a program's memory through it: ``vfio_pin_pages`` and ``vfio_dma_rw`` are ENOTTY."""

    def __init__(self, core: VfioCore, kind: int) -> None:
        if kind not in _KINDS or core.registered is None:
            raise fail(errno.EINVAL)
        self.core = core
        self.version2 = kind == abi.VFIO_SPAPR_TCE_v2_IOMMU
        self.enabled = False
        self.caller: ProcessMemory | None = None
        self.groups: list[VfioGroup] = []
        self.registered: list[Region] = []
        self.memory: RegisteredMemory = core.registered
        self.entries = SpaprEntries(self)
        self.windows = SpaprWindows(self)
        self._locked = 0
        self._page = core.kernel.page_size

    # what VFIO_CHECK_EXTENSION says

    @staticmethod
    def offers(core: VfioCore, extension: int) -> bool:
        """Whether it has an extension, before and after a container has it."""
        eeh = extension == abi.VFIO_EEH and core.eeh is not None and core.eeh.enabled
        return extension in _KINDS or eeh

    def check_extension(self, extension: int) -> int:
        """1 or 0."""
        return int(self.offers(self.core, extension))

    # groups and devices

    @property
    def first(self) -> TableGroup | None:
        """The table group of the newest group: it answers for all of them."""
        return self.groups[0].iommu_group.table_group if self.groups else None

    @property
    def table_groups(self) -> list[TableGroup]:
        """Those of all groups."""
        found = [group.iommu_group.table_group for group in self.groups]
        return [one for one in found if one is not None]

    def attach_group(self, group: VfioGroup) -> None:
        """Take a group in; it gets the windows that there are.

        Raise OSError EINVAL for a mediated device's, or one without windows to make (version 2), ENODEV for one
        without tables, EBUSY for a second one (version 1), EPERM for one that cannot share tables with the others.
        """
        if group.emulated:
            raise fail(errno.EINVAL)
        table_group = group.iommu_group.table_group
        if table_group is None:
            raise fail(errno.ENODEV)
        if self.version2 and not table_group.max_windows:
            raise fail(errno.EINVAL)
        if (not self.version2 and self.groups) or group in self.groups:
            raise fail(errno.EBUSY)
        if any(other.kind != table_group.kind for other in self.table_groups):
            raise fail(errno.EPERM)
        try:
            self.windows.give_to(table_group)
        finally:
            if not self.groups and self.windows.tables[0] is None:
                self.windows.default_pending = True
        self.groups.insert(0, group)

    def detach_group(self, group: VfioGroup) -> None:
        """Let a group go.  All mappings go then, also those of the groups that stay."""
        self.groups.remove(group)
        table_group = group.iommu_group.table_group
        if table_group is not None:
            self.windows.take_from(table_group)

    def register_device(self, device: VfioDevice) -> None:
        """A device is open."""

    def unregister_device(self, device: VfioDevice) -> None:
        """It is closed."""

    def close(self) -> None:
        """The container has no group any more: tables and registered memory go."""
        self.windows.free()
        caller = self.caller
        if caller is not None:
            for region in self.registered:
                self._drop(caller, region)
        self.registered.clear()
        self._disable()

    # the process

    def bind(self, caller: ProcessMemory) -> ProcessMemory:
        """Have the container be this process's (``tce_iommu_mm_set``)."""
        if self.caller is None:
            self.caller = caller
        return self.caller

    def charge(self, pages: int) -> None:
        """Count pages as locked, or back when negative.  Raise OSError ENOMEM."""
        if self.caller is None:
            return
        account = ("process", self.caller.pid)
        if pages < 0:
            self.core.locked.release(account, -pages)
        else:
            self.core.locked.charge(account, pages)

    # requests

    def ioctl(self, request: int, argument: Argument) -> int:
        """Answer a request of the container's descriptor."""
        if self.caller is not None and self.caller.pid != argument.caller.pid:
            raise fail(errno.EPERM)
        if request == spapr.VFIO_IOMMU_SPAPR_TCE_GET_INFO:
            return self._get_info(argument)
        if request == type1.VFIO_IOMMU_MAP_DMA:
            return self._map(argument)
        if request == type1.VFIO_IOMMU_UNMAP_DMA:
            return self._unmap(argument)
        if request == spapr.VFIO_EEH_PE_OP:
            return self._eeh(argument)
        if self.version2:
            if request == spapr.VFIO_IOMMU_SPAPR_REGISTER_MEMORY:
                return self._register(argument)
            if request == spapr.VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY:
                return self._unregister(argument)
            if request == spapr.VFIO_IOMMU_SPAPR_TCE_CREATE:
                return self._create(argument)
            if request == spapr.VFIO_IOMMU_SPAPR_TCE_REMOVE:
                return self._remove(argument)
        elif request == type1.VFIO_IOMMU_ENABLE:
            return self._enable(argument)
        elif request == type1.VFIO_IOMMU_DISABLE:
            self._disable()
            return 0
        raise fail(errno.ENOTTY)

    def _get_info(self, argument: Argument) -> int:
        group = self.first
        if group is None:
            raise fail(errno.ENXIO)
        info = spapr.IommuSpaprTceInfo.from_buffer_copy(
            argument.read(0, _INFO_LEAST).ljust(native_struct(spapr.IommuSpaprTceInfo).size, b"\0")
        )
        if info.argsz < _INFO_LEAST:
            raise fail(errno.EINVAL)
        info.flags = 0
        info.dma32_window_start, info.dma32_window_size = group.dma32_start, group.dma32_size
        if group.max_windows and self.version2:
            info.flags = spapr.VFIO_IOMMU_SPAPR_INFO_DDW
            info.ddw.pgsizes = group.page_sizes
            info.ddw.max_dynamic_windows_supported = group.max_windows
            info.ddw.levels = group.max_levels
        answer = bytes(info)
        argument.write(0, answer if info.argsz >= len(answer) else answer[:_INFO_LEAST])
        return 0

    def _table(self, iova: int) -> IommuTable:
        self.windows.create_default()
        table = self.windows.find(iova)
        if table is None:
            raise fail(errno.ENXIO)
        return table

    def _map(self, argument: Argument) -> int:
        if not self.enabled:
            raise fail(errno.EPERM)
        argsz, flags, vaddr, iova, size = _MAP.unpack(argument.read(0, _MAP.size))
        if argsz < _MAP.size or flags & ~(_READ | _WRITE):
            raise fail(errno.EINVAL)
        table = self._table(iova)
        if (size | vaddr) & (table.page_size - 1) or not flags:
            raise fail(errno.EINVAL)
        if iova & (table.page_size - 1):
            return _UNALIGNED
        entry, pages = iova >> table.page_shift, size >> table.page_shift
        self._check_end(table, entry, pages)
        self.entries.build(table, entry, argument.caller, vaddr, pages, _ACCESS[flags])
        return 0

    def _unmap(self, argument: Argument) -> int:
        if not self.enabled:
            raise fail(errno.EPERM)
        argsz, flags, iova, size = _UNMAP.unpack(argument.read(0, _UNMAP.size))
        if argsz < _UNMAP.size or flags:
            raise fail(errno.EINVAL)
        table = self._table(iova)
        if size & (table.page_size - 1):
            raise fail(errno.EINVAL)
        if iova & (table.page_size - 1):
            return _UNALIGNED
        entry, pages = iova >> table.page_shift, size >> table.page_shift
        self._check_end(table, entry, pages)
        self.entries.clear(table, entry, pages)
        return 0

    def _check_end(self, table: IommuTable, entry: int, pages: int) -> None:
        if entry + pages > table.offset + table.entries:
            raise NotModelled("a kernel that goes on behind the end of a table of TCEs")  # only the first is checked

    def _enable(self, argument: Argument) -> int:
        if self.enabled:
            raise fail(errno.EBUSY)
        group = self.first
        if group is None:
            raise fail(errno.ENODEV)
        if not group.dma32_size:
            raise fail(errno.EPERM)
        self.bind(argument.caller)
        pages = group.dma32_size // self._page
        self.charge(pages)
        self._locked = pages
        self.enabled = True
        return 0

    def _disable(self) -> None:
        if self.enabled:
            self.enabled = False
            self.charge(-self._locked)

    def _eeh(self, argument: Argument) -> int:
        for group in self.groups:
            if self.core.eeh is None:
                raise fail(errno.ENODEV)
            answer = self.core.eeh.pe_op(group.iommu_group, argument)
            if answer:
                return answer
        return 0

    # version 2

    def _range(self, argument: Argument) -> tuple[int, int]:
        argsz, flags, vaddr, size = _REGISTER.unpack(argument.read(0, _REGISTER.size))
        if argsz < _REGISTER.size or flags or (vaddr | size) & (self._page - 1):
            raise fail(errno.EINVAL)
        return vaddr, size

    def _register(self, argument: Argument) -> int:
        caller = self.bind(argument.caller)
        vaddr, size = self._range(argument)
        if vaddr + size >= _ADDRESS_END:
            raise fail(errno.EINVAL)
        pages = size // self._page
        region: Region | int | None = self.memory.get(caller, vaddr, pages)
        if isinstance(region, Region) and region in self.registered:
            self.memory.put(caller, region)
            raise fail(errno.EBUSY)
        if region is None:
            region = self.memory.new(caller, vaddr, pages)
        if not isinstance(region, Region):
            return region
        self.registered.insert(0, region)
        self.enabled = True
        return 0

    def _unregister(self, argument: Argument) -> int:
        caller = self.caller
        if caller is None:
            raise fail(errno.EPERM)
        vaddr, size = self._range(argument)
        region = self.memory.get(caller, vaddr, size // self._page)
        if region is None:
            raise fail(errno.ENOENT)
        found = region in self.registered
        if found:
            # Never the last use, as `get` has just added one: so a region that is mapped is let go by the container
            # and stays for good, with what it locks.
            self.memory.put(caller, region)
            self.registered.remove(region)
        self._drop(caller, region)
        if not found:
            raise fail(errno.ENOENT)
        return 0

    def _drop(self, caller: ProcessMemory, region: Region) -> None:
        try:
            self.memory.put(caller, region)
        except OSError:  # mapped: it stays, and nobody asks
            return

    def _create(self, argument: Argument) -> int:
        self.bind(argument.caller)
        if not self.groups:
            raise fail(errno.ENXIO)
        layout = native_struct(spapr.IommuSpaprTceCreate)
        create = spapr.IommuSpaprTceCreate.from_buffer_copy(argument.read(0, layout.size))
        if create.argsz < layout.size or create.flags:
            raise fail(errno.EINVAL)
        self.windows.create_default()
        create.start_addr = self.windows.create(create.page_shift, create.window_size, create.levels)
        argument.write(0, bytes(create))
        return 0

    def _remove(self, argument: Argument) -> int:
        self.bind(argument.caller)
        if not self.groups:
            raise fail(errno.ENXIO)
        argsz, flags, start = _REMOVE.unpack(argument.read(0, _REMOVE.size))
        if argsz < _REMOVE.size or flags:
            raise fail(errno.EINVAL)
        if self.windows.default_pending and not start:
            self.windows.default_pending = False
            return 0
        self.windows.remove(start)
        return 0
