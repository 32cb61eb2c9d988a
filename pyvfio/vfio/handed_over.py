"""A device's descriptor from another program: what it is good for, and the address space that only its opener has."""

from __future__ import annotations

import errno

from pyvfio.abi import vfio as abi
from pyvfio.backend import Backend
from pyvfio.call import Call
from pyvfio.errors import Misuse, PyvfioError
from pyvfio.iommu.unmappable import UnmappableTable

__all__ = ["SomebodyElses", "is_usable"]


def is_usable(backend: Backend, fd: int, name: str) -> bool:
    """Whether a device's descriptor may be used: not when it is of the device's node and was bound to no iommufd.

    Raise `Misuse` for a descriptor that is no VFIO device's, or none at all.
    """
    answer = abi.DeviceInfo.sized()
    try:
        Call(backend, fd, name)("read device info", abi.VFIO_DEVICE_GET_INFO, answer)
    except PyvfioError as error:
        if error.errno == errno.EINVAL:
            return False
        cause = f"descriptor {fd} is of no VFIO device"
        raise Misuse("use a device's descriptor", name, errno=error.errno, cause=cause) from error
    return True


class SomebodyElses(UnmappableTable):
    """An `IommuTable` for a device whose address space another program has: `Misuse`."""

    kind = "handed over"
    name = "the opener's address space"

    def refusal(self, operation: str) -> Misuse:
        """See `UnmappableTable.refusal`."""
        return Misuse(
            operation,
            self.name,
            cause="who opened the device has its address space; only its descriptor was handed over",
            next_step="have the opener map the memory, or hand over a descriptor of the device's node (iommufd)",
        )
