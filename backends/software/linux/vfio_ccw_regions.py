"""The four regions of a vfio-ccw device: what is read and what a write does.

======  ==========  =====  ====  ==============================================================
index   region      size   use   content (``vfio_ccw.h``)
======  ==========  =====  ====  ==============================================================
0       I/O         124    rw    ORB, SCSW, IRB, ret_code; every write is a start request
1       async       8      rw    command, ret_code; every write is a halt or clear request
2       SCHIB       52     r     the SCHIB, stored when it is read
3       CRW         8      r     the next channel report, taken when it is read
======  ==========  =====  ====  ==============================================================

Region N begins at N << 10 of the file.  A read or write must lie within the region, else EINVAL; a request that fails
makes the write fail with its errno.  Sources: ``drivers/s390/cio/vfio_ccw_ops.c``, ``vfio_ccw_async.c``,
``vfio_ccw_chp.c``.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections import deque
from typing import TYPE_CHECKING

from pyvfio.abi import vfio as vfio_abi
from pyvfio.abi import vfio_ccw as abi
from pyvfio.abi.layout import offset_of
from pyvfio.css.crw import Crw
from pyvfio.css.irb import Irb
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.vfio_ccw_device import VfioCcwDevice

__all__ = ["OFFSET_SHIFT", "AsyncRegion", "CrwRegion", "IoRegion", "Region", "SchibRegion"]

OFFSET_SHIFT = 10
_CODE = struct.Struct("=i")
_COMMAND = struct.Struct("=I")
_MAX_ERRNO = 4095  # include/linux/err.h
_READ = vfio_abi.VFIO_REGION_INFO_FLAG_READ
_READ_WRITE = vfio_abi.VFIO_REGION_INFO_FLAG_READ | vfio_abi.VFIO_REGION_INFO_FLAG_WRITE


def _area(name: str, size: int) -> slice:
    start = offset_of(abi.CcwIoRegion, name)
    return slice(start, start + size)


_ORB = _area("orb_area", abi.ORB_AREA_SIZE)
_SCSW = _area("scsw_area", abi.SCSW_AREA_SIZE)
_IRB = _area("irb_area", abi.IRB_AREA_SIZE)


class Region:
    """A region of `size` bytes, kept in `data`.  `subtype` is 0 for the one with a fixed index."""

    flags = _READ
    subtype = 0

    def __init__(self, device: VfioCcwDevice, size: int) -> None:
        self.device = device
        self.size = size
        self.data = bytearray(size)

    def read(self, position: int, count: int) -> bytes:
        """Read within the region.  Raise OSError EINVAL outside."""
        self._check(position, count)
        return bytes(self.data[position : position + count])

    def write(self, position: int, data: bytes) -> int:
        """Write; the bytes taken.  Raise OSError EINVAL, or the errno of the request that the write is."""
        raise fail(errno.EINVAL)

    def _check(self, position: int, count: int) -> None:
        if position + count > self.size:
            raise fail(errno.EINVAL)


class _RequestRegion(Region):
    flags = _READ_WRITE
    code_at = 0

    def write(self, position: int, data: bytes) -> int:
        self._check(position, len(data))
        self.data[position : position + len(data)] = data
        result = self.request()
        if result is not None:
            _CODE.pack_into(self.data, self.code_at, result)
        # Without a request the word counts that was there, which may be the user's own.
        (code,) = _CODE.unpack_from(self.data, self.code_at)
        if code < -_MAX_ERRNO:
            raise fail(errno.EIO)  # no errno: a C library hands the number on, and the caller's errno means nothing
        if code < 0:
            raise fail(-code)
        return code or len(data)

    def request(self) -> int | None:
        return None


class IoRegion(_RequestRegion):
    """START SUBCHANNEL."""

    code_at = offset_of(abi.CcwIoRegion, "ret_code")

    def __init__(self, device: VfioCcwDevice) -> None:
        super().__init__(device, ctypes.sizeof(abi.CcwIoRegion))

    def request(self) -> int | None:
        """See `CcwMachine.io_request`."""
        return self.device.machine.io_request(bytes(self.data[_ORB]), bytes(self.data[_SCSW]))

    def store_irb(self, irb: Irb) -> None:
        """Show the answer."""
        self.data[_IRB] = irb.to_bytes()


class AsyncRegion(_RequestRegion):
    """HALT and CLEAR SUBCHANNEL."""

    subtype = vfio_abi.VFIO_REGION_SUBTYPE_CCW_ASYNC_CMD
    code_at = offset_of(abi.CcwCmdRegion, "ret_code")

    def __init__(self, device: VfioCcwDevice) -> None:
        super().__init__(device, ctypes.sizeof(abi.CcwCmdRegion))

    def request(self) -> int:
        """See `CcwMachine.async_request`."""
        (command,) = _COMMAND.unpack_from(self.data, offset_of(abi.CcwCmdRegion, "command"))
        return self.device.machine.async_request(command)


class SchibRegion(Region):
    """STORE SUBCHANNEL."""

    subtype = vfio_abi.VFIO_REGION_SUBTYPE_CCW_SCHIB

    def __init__(self, device: VfioCcwDevice) -> None:
        super().__init__(device, ctypes.sizeof(abi.CcwSchibRegion))

    def read(self, position: int, count: int) -> bytes:
        """Store the SCHIB and read it.  Raise OSError EINVAL, ENODEV (no subchannel, or no device)."""
        self._check(position, count)
        sch = self.device.machine.sch
        if sch.update_schib():
            raise fail(errno.ENODEV)
        self.data[:] = sch.schib.to_bytes()
        return super().read(position, count)


class CrwRegion(Region):
    """The channel reports for the guest: each read takes one."""

    subtype = vfio_abi.VFIO_REGION_SUBTYPE_CCW_CRW

    def __init__(self, device: VfioCcwDevice) -> None:
        super().__init__(device, ctypes.sizeof(abi.CcwCrwRegion))
        self.queue: deque[Crw] = deque()

    def read(self, position: int, count: int) -> bytes:
        """Take the next report, zeros if there is none; the eventfd is signalled if there are more."""
        self._check(position, count)
        self.data[:] = self.queue.popleft().to_region() if self.queue else bytes(self.size)
        answer = super().read(position, count)
        self.data[:] = bytes(self.size)
        if self.queue:
            self.device.signal(abi.VFIO_CCW_CRW_IRQ_INDEX)
        return answer
