"""A channel device that is open, for the contract: storage, the four regions, and one program after another.

Storage of `PAGES` pages is mapped at `ORIGIN`; the program lies at `PROGRAM`, its data at `DATA`.  All addresses are
IOVAs below 2 GiB, as channel programs want them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Self

from pyvfio.abi import vfio, vfio_ccw
from pyvfio.backend import Backend
from pyvfio.css import Ccw, CcwFlag, Command, Fctl, Irb, Orb, Schib, Scsw
from pyvfio.css.ccw import NO_FLAGS
from pyvfio.process import AnonymousMemory, EventFd
from pyvfio.testing import requests
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.modes import DeviceNodes, open_device

__all__ = ["Channel", "nop", "sense_id", "tic"]

IO, ASYNC, SCHIB, CRW = 0, 1, 2, 3
_PAGES = 128
_FILL = 0xEE


def sense_id(cda: int, count: int = 64, flags: CcwFlag = CcwFlag.SLI, fmt: int = 1) -> Ccw:
    """SENSE ID; with SLI, and so without an opinion on how long the answer is."""
    return Ccw(Command.SENSE_ID, flags, count, cda, fmt)


def nop(cda: int, *, chained: bool = False) -> Ccw:
    """No operation."""
    return Ccw(Command.NOP, CcwFlag.SLI | CcwFlag.CC if chained else CcwFlag.SLI, 1, cda)


def tic(target: int, flags: CcwFlag = NO_FLAGS) -> Ccw:
    """Transfer in channel."""
    return Ccw(Command.TIC, flags, 0, target)


class Channel:
    """An open mediated device of vfio_ccw in one of the modes.  A context manager."""

    def __init__(self, backend: Backend, device: DeviceNodes, mode: str = "type1v2") -> None:
        self.backend = backend
        self.files = OpenFiles(backend)
        self.page = backend.sysconf("SC_PAGESIZE")
        self.origin = 16 * self.page
        self.program = self.origin + self.page
        self.idal = self.origin + 2 * self.page
        self.data = self.origin + 16 * self.page
        self.end = self.origin + _PAGES * self.page
        self.hole = self.end + _PAGES * self.page
        self.event = EventFd()
        self.storage = AnonymousMemory(_PAGES * self.page)
        try:
            self.device = open_device(backend, self.files, device, mode)
            self.fd = self.device.fd
            self.device.map(self.origin, self.storage.address, self.storage.length)
            self.offsets = [requests.region_info(backend, self.fd, index)[0].offset for index in range(4)]
            flags = vfio.IrqSetFlags.DATA_EVENTFD | vfio.IrqSetFlags.ACTION_TRIGGER
            requests.set_irqs(backend, self.fd, vfio.VFIO_CCW_IO_IRQ_INDEX, flags, [self.event.fileno()])
        except BaseException:
            self.close()
            raise

    def put(self, iova: int, data: bytes) -> None:
        """Write storage."""
        self.storage.view[iova - self.origin : iova - self.origin + len(data)] = data

    def get(self, iova: int, count: int) -> bytes:
        """Read storage."""
        return bytes(self.storage.view[iova - self.origin : iova - self.origin + count])

    def orb(self, **fields: Any) -> Orb:
        """An ORB for the program at `program`: format 1, prefetch, all paths, unless `fields` say otherwise."""
        return replace(Orb(pfch=True, cpa=self.program), **fields)

    def write(self, orb: Orb, fctl: Fctl = Fctl.START) -> int:
        """Write the I/O region, as START SUBCHANNEL; raise OSError with the kernel's errno."""
        region = vfio_ccw.CcwIoRegion()
        region.orb_area[:] = list(orb.to_bytes())
        region.scsw_area[:] = list(Scsw(fctl=fctl).to_bytes())
        return self.backend.pwrite(self.fd, bytes(region), self.offsets[IO])

    def read(self) -> vfio_ccw.CcwIoRegion:
        """Read the I/O region."""
        size = ctypes.sizeof(vfio_ccw.CcwIoRegion)
        return vfio_ccw.CcwIoRegion.from_buffer_copy(self.backend.pread(self.fd, size, self.offsets[IO]))

    @property
    def ret_code(self) -> int:
        """The I/O region's return code: 0 or a negative errno."""
        return ctypes.c_int32(self.read().ret_code).value

    def irb(self) -> Irb:
        """Wait for the interrupt and take the IRB."""
        self.event.wait(10.0)
        return Irb.from_bytes(bytes(self.read().irb_area))

    def load(self, ccws: Iterable[Ccw], at: int | None = None) -> None:
        """Put CCWs into storage, and a pattern where the data will come."""
        self.put(self.data, bytes([_FILL]) * self.page)
        self.put(self.program if at is None else at, b"".join(ccw.to_bytes() for ccw in ccws))

    def run(self, *ccws: Ccw, **orb: Any) -> Irb:
        """Run a program and give its IRB."""
        self.load(ccws)
        self.write(self.orb(**orb))
        return self.irb()

    def untouched(self, count: int = 16) -> bool:
        """Whether no data came to `data`."""
        return self.get(self.data, count) == bytes([_FILL]) * count

    def command(self, number: int) -> int:
        """Write the region of HALT and CLEAR SUBCHANNEL; raise OSError."""
        region = vfio_ccw.CcwCmdRegion(command=number)
        return self.backend.pwrite(self.fd, bytes(region), self.offsets[ASYNC])

    @property
    def command_ret_code(self) -> int:
        """The return code of the last command."""
        size = ctypes.sizeof(vfio_ccw.CcwCmdRegion)
        region = vfio_ccw.CcwCmdRegion.from_buffer_copy(self.backend.pread(self.fd, size, self.offsets[ASYNC]))
        return ctypes.c_int32(region.ret_code).value

    def schib(self) -> Schib:
        """Store subchannel."""
        return Schib.from_bytes(self.backend.pread(self.fd, vfio_ccw.SCHIB_AREA_SIZE, self.offsets[SCHIB]))

    def close(self) -> None:
        """Close the descriptors, newest first, then free the storage."""
        self.files.close_all()
        self.event.close()
        self.storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
