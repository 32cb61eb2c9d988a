"""iommufd: ``/dev/iommu`` and its address spaces (IOAS)."""

from __future__ import annotations

import ctypes
import errno
from typing import TYPE_CHECKING, Self

from pyvfio.abi import iommufd as abi
from pyvfio.call import Call
from pyvfio.errors import PyvfioError
from pyvfio.iommu.address_space import AddressSpace, IovaRange, Mapping
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

    def close(self) -> None:
        """Destroy the address space.  Raise `DeviceBusy` while a device is attached to it."""
        if self.iommufd.fileno() >= 0:
            self.iommufd.destroy(self.ioas_id)
