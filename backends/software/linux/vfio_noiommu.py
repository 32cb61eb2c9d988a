"""A container for devices that no IOMMU is in front of: it maps nothing.

Source: ``vfio_noiommu_ops`` in ``drivers/vfio/container.c``.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.abi import vfio as abi
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.vfio_core import VfioCore, VfioDevice
    from pyvfio_backends.software.linux.vfio_group import VfioGroup

__all__ = ["NoIommu"]


class NoIommu:
    """The driver of one container.  Raise OSError EPERM without CAP_SYS_RAWIO."""

    pages = None
    """Nobody reaches a program's memory through it."""

    def __init__(self, core: VfioCore) -> None:
        if not core.kernel.raw_io:
            raise fail(errno.EPERM)
        self.core = core

    @staticmethod
    def offers(core: VfioCore, extension: int) -> bool:
        """Whether it has an extension: its own type, as long as the parameter is on."""
        return core.without_iommu and extension == abi.VFIO_NOIOMMU_IOMMU

    def check_extension(self, extension: int) -> int:
        """1 or 0."""
        return int(self.offers(self.core, extension))

    def ioctl(self, request: int, argument: Argument) -> int:
        """No request for DMA is known.  Raise OSError ENOTTY."""
        raise fail(errno.ENOTTY)

    def attach_group(self, group: VfioGroup) -> None:
        """Take a group in: nothing to do."""

    def detach_group(self, group: VfioGroup) -> None:
        """Let it go."""

    def register_device(self, device: VfioDevice) -> None:
        """A device is open."""

    def unregister_device(self, device: VfioDevice) -> None:
        """It is closed."""

    def close(self) -> None:
        """The container has no group any more."""
