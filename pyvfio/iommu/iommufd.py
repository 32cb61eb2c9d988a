"""iommufd: ``/dev/iommu`` and its address spaces (IOAS)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
from typing import TYPE_CHECKING, Self

from pyvfio.abi import iommufd as abi
from pyvfio.abi import iommufd_later as later
from pyvfio.arguments import require_host
from pyvfio.call import Call
from pyvfio.errors import DeviceBusy, NotAvailable, PyvfioError
from pyvfio.iommu.address_space import AddressSpace, IovaRange, Mapping
from pyvfio.iommu.dirty import DirtyBitmap
from pyvfio.node import open_node

if TYPE_CHECKING:
    from pyvfio.host import Host

__all__ = ["IoasTable", "Iommufd"]

_NODE = "/dev/iommu"
_WHOLE = (1 << 64) - 1


class Iommufd:
    """An open ``/dev/iommu``.  A context manager; close its devices and address spaces before it.

    With `fd` it is a descriptor that somebody else opened and handed over, which is this object's from then on.

    Raise `NotAvailable` when there is no iommufd, `PermissionDenied`, or the class for the errno.
    """

    def __init__(self, host: Host, *, fd: int | None = None) -> None:
        require_host("Iommufd", host)
        self.backend = host.backend
        self._fd = open_node(host.sysfs, _NODE, "open iommufd") if fd is None else fd
        self._calls = [Call(self.backend, self._fd, _NODE, _NODE)]

    def fileno(self) -> int:
        """The descriptor (-1 after `close`)."""
        return self._fd

    def allocate(self) -> AddressSpace:
        """A new, empty address space."""
        argument = abi.IoasAlloc.sized()
        self._calls[0]("allocate IOAS", abi.IOMMU_IOAS_ALLOC, argument)
        return AddressSpace(IoasTable(self, int(argument.out_ioas_id)), self.backend)

    def destroy(self, number: int) -> None:
        """Destroy an object by its number.  Raise `DeviceBusy` while a device uses it."""
        self._calls[0](f"destroy object {number}", abi.IOMMU_DESTROY, abi.Destroy.sized(id=number))

    def call(self, name: str) -> Call:
        """Calls with the words for an object of this iommufd; they end with it."""
        made = Call(self.backend, self._fd, name, _NODE)
        self._calls.append(made)
        return made

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        self._fd = -1
        first, *others = self._calls
        for call in others:
            call.end()
        first.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class IoasTable:
    """An `IommuTable` of the address space `ioas_id` of `iommufd`."""

    kind = "iommufd"

    def __init__(self, iommufd: Iommufd, ioas_id: int) -> None:
        self.iommufd = iommufd
        self.ioas_id = ioas_id
        self._call = iommufd.call(self.name)
        self._noting: list[int] = []
        self._takes_files = True

    @property
    def name(self) -> str:
        """The words for errors."""
        return f"IOAS {self.ioas_id}"

    def map(self, mapping: Mapping) -> None:
        """See `IommuTable.map`."""
        flags = abi.IOMMU_IOAS_MAP_FIXED_IOVA
        flags |= mapping.read * abi.IOMMU_IOAS_MAP_READABLE | mapping.write * abi.IOMMU_IOAS_MAP_WRITEABLE
        argument = abi.IoasMap.sized(
            flags=flags, ioas_id=self.ioas_id, user_va=mapping.address, length=mapping.length, iova=mapping.iova
        )
        self._call("map DMA", abi.IOMMU_IOAS_MAP, argument)

    def map_file(self, fd: int, offset: int, mapping: Mapping) -> bool:
        """See `FileTable.map_file`: before Linux 6.13 it is ENOTTY."""
        if not self._takes_files:
            return False
        flags = abi.IOMMU_IOAS_MAP_FIXED_IOVA
        flags |= mapping.read * abi.IOMMU_IOAS_MAP_READABLE | mapping.write * abi.IOMMU_IOAS_MAP_WRITEABLE
        argument = later.IoasMapFile.sized(
            flags=flags, ioas_id=self.ioas_id, fd=fd, start=offset, length=mapping.length, iova=mapping.iova
        )
        try:
            self._call("map file for DMA", later.IOMMU_IOAS_MAP_FILE, argument)
        except PyvfioError as error:
            if error.errno != errno.ENOTTY:
                raise
            self._takes_files = False
        return self._takes_files

    def unmap(self, iova: int, length: int) -> int:
        """See `IommuTable.unmap`."""
        argument = abi.IoasUnmap.sized(ioas_id=self.ioas_id, iova=iova, length=length)
        self._call("unmap DMA", abi.IOMMU_IOAS_UNMAP, argument)
        return int(argument.length)

    def unmap_all(self) -> int | None:
        """See `IommuTable.unmap_all`."""
        try:
            return self.unmap(0, _WHOLE)
        except PyvfioError as error:
            if error.errno == errno.ENOENT:
                return 0  # iommufd says so when nothing is mapped
            raise

    def ranges(self) -> list[IovaRange]:
        """See `IommuTable.ranges`: they shrink as devices are attached."""
        return self._ranges()[0]

    def page_sizes(self) -> int:
        """See `IommuTable.page_sizes`: iommufd tells only the smallest alignment."""
        return self._ranges()[1]

    def _ranges(self) -> tuple[list[IovaRange], int]:
        count = 1
        while True:
            array = (abi.IovaRange * count)()
            argument = abi.IoasIovaRanges.sized(
                ioas_id=self.ioas_id, num_iovas=count, allowed_iovas=ctypes.addressof(array)
            )
            try:
                self._call("read IOVA ranges", abi.IOMMU_IOAS_IOVA_RANGES, argument)
            except PyvfioError as error:
                if error.errno == errno.EMSGSIZE and argument.num_iovas > count:
                    count = int(argument.num_iovas)
                    continue
                raise
            used = array[: argument.num_iovas]
            return [IovaRange(int(one.start), int(one.last)) for one in used], int(argument.out_iova_alignment)

    def available(self) -> int | None:
        """See `IommuTable.available`: iommufd has no such limit."""
        return None

    # page tables that note what is written, and the log of them (`pyvfio.iommu.dirty_log.DirtyTable`)

    def page_table(self, device: int) -> int:
        """A page table of this address space for device number `device` that notes what is written; its number.

        It lives as long as the address space.  Raise `NotAvailable` when the device's IOMMU cannot (EOPNOTSUPP).
        """
        argument = abi.HwptAlloc.sized(flags=abi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING, dev_id=device, pt_id=self.ioas_id)
        try:
            self._call("allocate page table with dirty tracking", abi.IOMMU_HWPT_ALLOC, argument)
        except PyvfioError as error:
            raise self._no_log(error) from error
        self._noting.append(int(argument.out_hwpt_id))
        return self._noting[-1]

    def give_up(self, page_table: int) -> None:
        """Destroy a page table that `page_table` gave, of which no device came to make use."""
        self._noting.remove(page_table)
        self.iommufd.destroy(page_table)

    def _no_log(self, error: PyvfioError) -> PyvfioError:
        if error.errno != errno.EOPNOTSUPP:
            return error
        cause = "the IOMMU in front of the device does not note what is written"
        step = "use the device's own log (Device.log_dma), or take all memory for written"
        return NotAvailable(error.operation, self.name, errno=error.errno, cause=cause, next_step=step)

    def start_dirty(self) -> None:
        """See `DirtyTable.start_dirty`."""
        if not self._noting:
            cause = "no device was attached so that what it writes is noted"
            step = "Device.attach(space, dirty_tracking=True) first"
            raise NotAvailable("start dirty log", self.name, cause=cause, next_step=step)
        try:
            self._note("start dirty log", abi.IOMMU_HWPT_DIRTY_TRACKING_ENABLE)
        except PyvfioError:
            with contextlib.suppress(PyvfioError):  # those that took it
                self._note("stop dirty log", 0)
            raise

    def stop_dirty(self) -> None:
        """See `DirtyTable.stop_dirty`."""
        self._note("stop dirty log", 0)

    def _note(self, operation: str, flags: int) -> None:
        for number in self._noting:
            argument = abi.HwptSetDirtyTracking.sized(flags=flags, hwpt_id=number)
            try:
                self._call(operation, abi.IOMMU_HWPT_SET_DIRTY_TRACKING, argument)
            except PyvfioError as error:
                raise self._no_log(error) from error

    def take_dirty(self, bitmap: DirtyBitmap) -> None:
        """See `DirtyTable.take_dirty`: what any of the page tables noted."""
        for number in self._noting:
            argument = abi.HwptGetDirtyBitmap.sized(
                hwpt_id=number,
                iova=bitmap.iova,
                length=bitmap.length,
                page_size=bitmap.page_size,
                data=bitmap.buffer.buffer_info()[0],
            )
            self._call("read dirty log", abi.IOMMU_HWPT_GET_DIRTY_BITMAP, argument)

    def unmap_dirty(self, bitmap: DirtyBitmap) -> int:
        """See `DirtyTable.unmap_dirty`: two calls, so the device must be at rest."""
        self.take_dirty(bitmap)
        return self.unmap(bitmap.iova, bitmap.length)

    def close(self) -> None:
        """Destroy the address space.  Raise `DeviceBusy` while a device is attached to it."""
        if self.iommufd.fileno() < 0:
            return
        try:
            while self._noting:
                self.iommufd.destroy(self._noting[-1])
                self._noting.pop()
            self.iommufd.destroy(self.ioas_id)
        except DeviceBusy as error:
            raise DeviceBusy(
                "destroy address space",
                self.name,
                path=error.path,
                errno=error.errno,
                cause="a device is attached to it: one that is open, or whose memory is mapped into a program still",
                next_step="close its devices, and what mapped their memory, first",
            ) from error
