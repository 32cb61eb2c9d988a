"""Eventfds that write a value to a BAR when somebody signals them (``vfio_pci_ioeventfd``, drivers/vfio/pci, 6.12)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, NamedTuple

from pyvfio.abi import vfio as abi
from pyvfio.abi.layout import native_struct, offset_of
from pyvfio_backends.software.linux.pci_device import ROM, PciDevice
from pyvfio_backends.software.linux.resource import ResourceFlag
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfio_pci_info import OFFSET_SHIFT
from pyvfio_backends.software.linux.vfs import fail
from pyvfio_backends.software.linux.virqfd import Watched, event_watch

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.vfio_pci_bars import Bars
    from pyvfio_backends.software.linux.vfio_pci_config import VirtualConfig

__all__ = ["IoEventFds"]

_HEAD = native_struct(abi.DeviceIoeventfd)
_MINIMUM = offset_of(abi.DeviceIoeventfd, "reserved")
_OFFSET_MASK = (1 << OFFSET_SHIFT) - 1
_SIZES: Final = (1, 2, 4, 8)
_MOST: Final = 1000


class _Place(NamedTuple):
    bar: int
    offset: int
    size: int
    data: int


class IoEventFds:
    """Those of an open device."""

    def __init__(self, device: PciDevice, bars: Bars, config: VirtualConfig) -> None:
        self._device = device
        self._bars = bars
        self._config = config
        self._all: dict[_Place, Watched] = {}

    def set(self, argument: Argument) -> int:
        """Answer VFIO_DEVICE_IOEVENTFD.

        Raise OSError EINVAL (no place in a BAR, the MSI-X table, no eventfd), EEXIST (the same value at the same
        place), ENODEV (none to take away), ENOSPC (too many), EBADF.
        """
        argsz, flags, offset, data, fd, _ = _HEAD.unpack(argument.read(0, _MINIMUM).ljust(_HEAD.size, b"\0"))
        size = flags & abi.VFIO_DEVICE_IOEVENTFD_SIZE_MASK
        if argsz < _MINIMUM or flags != size or size not in _SIZES or fd < -1:
            raise fail(errno.EINVAL)
        place = _Place(offset >> OFFSET_SHIFT, offset & _OFFSET_MASK, size, data)
        if place.bar >= ROM or place.offset + size > self._device.resources[place.bar].size:
            raise fail(errno.EINVAL)
        if self._bars.in_table(place.bar, place.offset, size):
            raise fail(errno.EINVAL)
        known = self._all.get(place)
        if known is not None:
            if fd >= 0:
                raise fail(errno.EEXIST)
            del self._all[place]
            known.close()
            return 0
        if fd < 0:
            raise fail(errno.ENODEV)
        if len(self._all) >= _MOST:
            raise fail(errno.ENOSPC)
        self._all[place] = event_watch(self._device.kernel).add(fd, lambda: self._write(place))
        return 0

    def _write(self, place: _Place) -> None:
        """Write the value, unless it is memory and that is off."""
        if self._device.resources[place.bar].flags & ResourceFlag.MEM and not self._config.memory_enabled:
            return
        value = place.data & (1 << 8 * place.size) - 1
        self._device.store_bar(place.bar, place.offset, place.size, value)

    def close(self) -> None:
        """The device is closed: none is left."""
        for watched in self._all.values():
            watched.close()
        self._all.clear()
