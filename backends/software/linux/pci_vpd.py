"""Vital product data of a PCI function, through the window of its capability (``drivers/pci/vpd.c``, 6.12).

The kernel reads no further than the end tag, and nothing at all when the first tag is none.
"""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from pyvfio.abi import pci_bridge_regs as vpd
from pyvfio.abi import pci_ids as ids
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["PciVpd", "WindowOwner", "function_0", "shares_product_data"]

_STEP = 4
_MOST = vpd.PCI_VPD_ADDR_MASK + 1
_LARGE, _LARGE_HEADER, _SMALL_HEADER = 0x80, 3, 1
_SMALL_LENGTH, _SMALL_TAG_SHIFT, _END = 0x07, 3, 0x0F
_NO_TAG = (0x00, 0xFF)


class WindowOwner(Protocol):
    """A function with configuration accesses that raise OSError."""

    def load_config(self, offset: int, length: int) -> int:
        """Read."""
        ...

    def store_config(self, offset: int, length: int, value: int) -> None:
        """Write."""
        ...

    def find_capability(self, number: int) -> int:
        """Where a capability is, 0 when there is none."""
        ...


class PciVpd:
    """The vital product data of a function.  How much there is, is found out at the first access, once."""

    def __init__(self, device: WindowOwner) -> None:
        self._device = device
        self._at = device.find_capability(regs.PCI_CAP_ID_VPD)
        self._size: int | None = None

    @property
    def exists(self) -> bool:
        """Whether there is a window, and nothing has shown yet that there is nothing behind it."""
        return bool(self._at)

    def read(self, address: int, count: int) -> bytes:
        """Read up to `count` bytes, fewer at the end.

        Raise OSError ENODEV (there is none), ETIMEDOUT (the device does not answer) or as the accesses do.
        """
        end = min(address + count, self._known_size())
        return self._read(address, end) if address < end else b""

    def write(self, address: int, data: bytes) -> None:
        """Write whole words at a multiple of four.  Raise OSError EINVAL (not so, or past the end), or as `read`."""
        size = self._known_size()
        if address % _STEP or len(data) % _STEP or address + len(data) > size:
            raise fail(errno.EINVAL)
        for place in range(0, len(data), _STEP):
            value = int.from_bytes(data[place : place + _STEP], "little")
            self._device.store_config(self._at + vpd.PCI_VPD_DATA, 4, value)
            self._device.store_config(self._at + vpd.PCI_VPD_ADDR, 2, address + place | vpd.PCI_VPD_ADDR_F)
            self._wait(done=False)

    def _known_size(self) -> int:
        if not self._at:
            raise fail(errno.ENODEV)
        if not self._size:
            self._size = self._find_end()
            if self._size is None:
                self._at = 0  # for good, as the kernel has it
                raise fail(errno.ENODEV)
        return self._size

    def _find_end(self) -> int | None:
        """Where the end tag ends, or the last one that makes sense; None without any."""
        at = 0
        while at < _MOST:
            try:
                tag = self._read(at, at + 1)[0]
                if not at and tag in _NO_TAG:
                    return None
                if tag & _LARGE:
                    length = int.from_bytes(self._read(at + 1, at + _LARGE_HEADER), "little")
                    header = _LARGE_HEADER
                else:
                    length, header = tag & _SMALL_LENGTH, _SMALL_HEADER
            except OSError:
                return at
            if at + length > _MOST:
                return at or None
            at += header + length
            if not tag & _LARGE and tag >> _SMALL_TAG_SHIFT == _END:
                return at
        return at

    def _read(self, start: int, end: int) -> bytes:
        first = start // _STEP * _STEP
        words = bytearray()
        for place in range(first, end, _STEP):
            self._device.store_config(self._at + vpd.PCI_VPD_ADDR, 2, place)
            self._wait(done=True)
            words += self._device.load_config(self._at + vpd.PCI_VPD_DATA, 4).to_bytes(4, "little")
        return bytes(words[start - first : end - first])

    def _wait(self, *, done: bool) -> None:
        """The device answers within the access, or never."""
        flag = self._device.load_config(self._at + vpd.PCI_VPD_ADDR, 2) & vpd.PCI_VPD_ADDR_F
        if bool(flag) != done:
            raise fail(errno.ETIMEDOUT)


def function_0(device: PciDevice) -> PciDevice | None:
    """Function 0 of a function's device, None when it is gone (``pci_get_func0_dev``)."""
    from pyvfio_backends.software.linux.pci_device import PciDevice

    found = device.pci_bus.devices.get(str(replace(device.address, function=0)))
    return found if isinstance(found, PciDevice) else None


def shares_product_data(device: PciDevice) -> bool:
    """Whether an Intel Ethernet function has its product data from function 0 (``quirk_f0_vpd_link``).

    That is so when function 0 is the same and has some.
    """
    first = function_0(device)
    if device.class_code >> 8 != ids.PCI_CLASS_NETWORK_ETHERNET or first is None or not first.vpd.exists:
        return False
    return (first.class_code, first.vendor, first.device_id) == (device.class_code, device.vendor, device.device_id)
