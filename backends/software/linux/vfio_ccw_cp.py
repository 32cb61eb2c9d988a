"""Channel programs of a guest, translated for the host's channel subsystem: `pyvfio.css.translation` in this kernel.

The guest's memory is what the device's user has mapped; lists and copies lie in the kernel's own storage.  Source:
``drivers/s390/cio/vfio_ccw_cp.c``.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.css.orb import Orb
from pyvfio.css.translation import Translation
from pyvfio.errors import KernelRefused
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.vfio_core import VfioDevice

__all__ = ["ChannelProgram"]


class _Pages:
    """The memory that a device's user has mapped."""

    def __init__(self, device: VfioDevice) -> None:
        self._device = device

    def read(self, iova: int, count: int) -> bytes:
        return self._device.dma_read(iova, count)

    def pin(self, iova: int, npages: int) -> list[int]:
        return self._device.pin_pages(iova, npages, write=True)

    def unpin(self, iova: int, npages: int) -> None:
        self._device.unpin_pages(iova, npages)


class ChannelProgram(Translation):
    """The program of one START SUBCHANNEL of `device`; `initialized` from `copy` to `free`."""

    def __init__(self, device: VfioDevice) -> None:
        super().__init__(_Pages(device), device.kernel.memory, device.kernel.page_size)

    def copy(self, orb: Orb) -> None:
        """As `Translation.copy`, but raise OSError."""
        try:
            super().copy(orb)
        except KernelRefused as error:
            raise fail(error.errno or errno.EINVAL) from error

    def translate(self) -> None:
        """As `Translation.translate`, but raise OSError."""
        try:
            super().translate()
        except KernelRefused as error:
            raise fail(error.errno or errno.EINVAL) from error
