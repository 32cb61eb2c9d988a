"""What the VFIO devices of mediated devices have in common: the requests that each of their drivers answers."""

from __future__ import annotations

import errno
import struct
from abc import abstractmethod
from typing import Final

from pyvfio.abi import vfio as abi
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfio_core import VfioDevice
from pyvfio_backends.software.linux.vfs import fail

__all__ = ["VfioMdevDevice"]

_INFO: Final = struct.Struct("=IIII")  # vfio_device_info without what came later


class VfioMdevDevice(VfioDevice):
    """A VFIO device that answers the five oldest requests; all others are ENOTTY."""

    def ioctl(self, request: int, argument: Argument) -> int:
        """See `VfioDevice.ioctl`."""
        if request == abi.VFIO_DEVICE_GET_INFO:
            return self._get_info(argument)
        if request == abi.VFIO_DEVICE_GET_REGION_INFO:
            return self._get_region_info(argument)
        if request == abi.VFIO_DEVICE_GET_IRQ_INFO:
            return self._get_irq_info(argument)
        if request == abi.VFIO_DEVICE_SET_IRQS:
            return self._set_irqs(argument)
        if request == abi.VFIO_DEVICE_RESET:
            self.reset()
            return 0
        raise fail(errno.ENOTTY)

    def _get_info(self, argument: Argument) -> int:
        argsz, *_ = _INFO.unpack(argument.read(0, _INFO.size))
        if argsz < _INFO.size:
            raise fail(errno.EINVAL)
        argument.write(0, _INFO.pack(argsz, *self._info()))
        return 0

    @abstractmethod
    def _info(self) -> tuple[int, int, int]:
        """Its flags, and how many regions and interrupts it has."""

    @abstractmethod
    def _get_region_info(self, argument: Argument) -> int:
        """Tell of a region.  Raise OSError."""

    @abstractmethod
    def _get_irq_info(self, argument: Argument) -> int:
        """Tell of an interrupt.  Raise OSError."""

    @abstractmethod
    def _set_irqs(self, argument: Argument) -> int:
        """Connect or signal interrupts.  Raise OSError."""

    @abstractmethod
    def reset(self) -> None:
        """Reset the device.  Raise OSError."""
