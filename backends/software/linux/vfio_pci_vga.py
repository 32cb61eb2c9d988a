"""The addresses that display adapters have always had, as a region of vfio-pci (``vfio_pci_vga_rw``, 6.12).

The region is as long as the memory window reaches; in between nothing is.  Memory that is off is not asked for.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["read", "write"]

_MEMORY: Final = range(0xA0000, 0xC0000)
_PORTS: Final = (range(0x3B0, 0x3BC), range(0x3C0, 0x3E0))
_WIDTHS: Final = (8, 4, 2, 1)


def _accesses(position: int, count: int) -> tuple[bool, list[tuple[int, int]]]:
    """Whether it is ports, and where and how wide each access is.  Raise OSError EINVAL."""
    for window in (_MEMORY, *_PORTS):
        if position in window:
            end = min(position + count, window.stop)
            return window is not _MEMORY, list(_pieces(window.start, position, end))
    raise fail(errno.EINVAL)


def _pieces(start: int, position: int, end: int) -> Iterator[tuple[int, int]]:
    while position < end:
        size = next(one for one in _WIDTHS if position + one <= end and (position - start) % one == 0)
        yield position, size
        position += size


def read(device: PciDevice, count: int, position: int) -> bytes:
    """Read up to the end of the window.  Raise OSError EINVAL outside all."""
    io, places = _accesses(position, count)
    return b"".join(device.sysdata.old_read(at, size, io=io).to_bytes(size, "little") for at, size in places)


def write(device: PciDevice, data: bytes, position: int) -> int:
    """Write up to the end of the window; the bytes taken.  Errors as `read`."""
    io, places = _accesses(position, len(data))
    for at, size in places:
        value = int.from_bytes(data[at - position : at - position + size], "little")
        device.sysdata.old_write(at, size, value, io=io)
    return places[-1][0] + places[-1][1] - position
