"""``/proc/PID/pagemap``: where the pages of a process are in the machine's storage (``fs/proc/task_mmu.c``).

For each page of the address space there are eight bytes::

    | present (1) | 0 (8) | number of the page frame (55) |

A page is where devices without an IOMMU find it as long as it stays mapped.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from pyvfio.process import ProcessMemory
from pyvfio_backends.software.linux.nodes import BinaryAttribute, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel

__all__ = ["PageMap"]

_ENTRY = struct.Struct("=Q")
_PRESENT = 1 << 63
_FRAME = (1 << 55) - 1


class PageMap(BinaryAttribute):
    """The file of the process `pid`, a real one."""

    __slots__ = ("_kernel", "_process")
    mode_binds_root = False

    def __init__(self, kernel: Kernel, pid: int) -> None:
        super().__init__(0, self._read, mode=0o400)
        self._kernel = kernel
        self._process = ProcessMemory(pid)

    def _read(self, offset: int, count: int) -> bytes:
        if offset % _ENTRY.size or count % _ENTRY.size:
            raise fail(errno.EINVAL)
        first = offset // _ENTRY.size
        return b"".join(_ENTRY.pack(self._entry(first + n)) for n in range(count // _ENTRY.size))

    def _entry(self, page: int) -> int:
        address = page * self._kernel.page_size
        try:
            self._process.read(address, 1)
        except OSError:
            return 0
        return _PRESENT | self._kernel.memory.pinned_address(self._process, address) // self._kernel.page_size & _FRAME
