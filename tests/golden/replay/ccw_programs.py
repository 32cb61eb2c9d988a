"""Channel programs through vfio-ccw's regions, in the notation of the recordings."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

from pyvfio.abi import vfio, vfio_ccw
from pyvfio.css import Scsw
from pyvfio.process import AnonymousMemory, EventFd

from .facts import Question
from .seam import Seam, errno_name

__all__ = ["PROGRAM_BASE", "PROGRAM_ROOM", "SENSE_ID", "ChannelDevice"]

PROGRAM_BASE = 0x10000  # IOVA of the programs' memory
PROGRAM_ROOM = 0x80000
SENSE_ID = {"orb": "0000000000c0ff0000011000", "fctl": 4, "memory": {"0x11000": "e420004000020000"}}
_DATA = 0x20000
_FILL = 0xEE
_IO_SIZE = ctypes.sizeof(vfio_ccw.CcwIoRegion)
_IRB_AT = vfio_ccw.ORB_AREA_SIZE + vfio_ccw.SCSW_AREA_SIZE
_RETURN_AT = _IRB_AT + vfio_ccw.IRB_AREA_SIZE
_COMMAND_RETURN_AT = 4


def _scsw(irb: bytes) -> dict[str, Any]:
    scsw = Scsw.from_bytes(irb[: vfio_ccw.SCSW_AREA_SIZE])
    return {
        "cc": scsw.cc,
        "fctl": int(scsw.fctl),
        "actl": hex(scsw.actl),
        "stctl": hex(scsw.stctl),
        "cpa": hex(scsw.cpa),
        "dstat": hex(scsw.dstat),
        "cstat": hex(scsw.cstat),
        "count": scsw.count,
    }


class ChannelDevice:
    """An open vfio-ccw device `fd`: its regions, its three eventfds and the memory of the programs."""

    def __init__(self, seam: Seam, fd: int, memory: AnonymousMemory) -> None:
        self.seam = seam
        self.fd = fd
        self.memory = memory
        self.io, self.crw, self.request = (seam.eventfd() for _ in range(3))
        size = ctypes.sizeof(vfio.RegionInfo)
        self.regions = [
            vfio.RegionInfo.from_buffer_copy(
                seam.info(fd, vfio.VFIO_DEVICE_GET_REGION_INFO, size, size, 0, index)
            ).offset
            for index in range(4)
        ]

    def connect(self) -> None:
        """Give the kernel the three eventfds."""
        flags = vfio.VFIO_IRQ_SET_DATA_EVENTFD | vfio.VFIO_IRQ_SET_ACTION_TRIGGER
        for index, eventfd in enumerate((self.io, self.crw, self.request)):
            self.seam.set_irqs(self.fd, index, flags, 0, 1, struct.pack("=i", eventfd.fileno()))
            eventfd.read()

    def eventfds(self) -> list[EventFd]:
        """In the order of the interrupt indexes."""
        return [self.io, self.crw, self.request]

    def put(self, iova: int, data: bytes) -> None:
        """Lay data into the programs' memory; what lies outside of it is left out."""
        at = iova - PROGRAM_BASE
        if at >= 0 and at + len(data) <= PROGRAM_ROOM:
            self.memory.view[at : at + len(data)] = data

    def get(self, iova: int, count: int) -> str:
        """Read it back."""
        at = iova - PROGRAM_BASE
        return bytes(self.memory.view[at : at + count]).hex()

    def return_code(self, region: int = 0, at: int = _RETURN_AT) -> int:
        """`ret_code` of a region, signed."""
        raw = self.seam.host.pread(self.fd, 4, self.regions[region] + at)
        return int(struct.unpack("=i", raw)[0])

    def io_region(self, orb: bytes, fctl: int) -> bytes:
        """What is written to start: the ORB and an SCSW with the function to perform."""
        region = vfio_ccw.CcwIoRegion()
        ctypes.memmove(ctypes.addressof(region), orb, len(orb))
        region.scsw_area[2] = fctl << 4
        return bytes(region)

    def submit(self, orb: str, fctl: int) -> int | str:
        """Write the I/O region: bytes taken or the errno's name."""
        try:
            return self.seam.host.pwrite(self.fd, self.io_region(bytes.fromhex(orb), fctl), self.regions[0])
        except OSError as error:
            return errno_name(error)

    def _status(self, answer: dict[str, Any]) -> None:
        answer["eventfd"] = self.io.read()
        if answer["eventfd"]:
            irb = self.seam.host.pread(self.fd, _IO_SIZE, self.regions[0])[_IRB_AT:_RETURN_AT]
            answer["irb"] = irb.hex()
            answer["scsw"] = _scsw(irb)

    def start(self, question: Question) -> dict[str, Any]:
        """Prepare the memory, start, take the interrupt, look where the recording looked."""
        request = question.request
        self.io.read()  # what is counted is this start's
        for address, count in question.looks:
            self.put(address, bytes([_FILL]) * count)
        memory = {int(address, 16): bytes.fromhex(content) for address, content in request["memory"].items()}
        for address, content in memory.items():
            self.put(address, content)
        answer: dict[str, Any] = {"pwrite": self.submit(request["orb"], request["fctl"])}
        answer["ret_code"] = self.return_code()
        self._status(answer)
        if question.looks:
            answer["data"] = {hex(address): self.get(address, count) for address, count in question.looks}
        if _DATA in memory:
            answer["data_after"] = self.get(_DATA, max(4, len(memory[_DATA])))
        return answer

    def sense_id(self) -> int | str:
        """Start SENSE ID; the interrupt stays for the caller to take."""
        for address, content in SENSE_ID["memory"].items():  # type: ignore[attr-defined]
            self.put(int(address, 16), bytes.fromhex(content))
        return self.submit(str(SENSE_ID["orb"]), vfio_ccw.VFIO_CCW_ASYNC_CMD_HSCH << 2)

    def command(self, command: int) -> int | str:
        """Write the async command region: bytes taken or the errno's name."""
        raw = bytes(vfio_ccw.CcwCmdRegion(command=command))
        try:
            return self.seam.host.pwrite(self.fd, raw, self.regions[1])
        except OSError as error:
            return errno_name(error)

    def asynchronous(self, command: int) -> dict[str, Any]:
        """HALT or CLEAR SUBCHANNEL, and what came of it."""
        self.io.read()
        answer: dict[str, Any] = {"pwrite": self.command(command)}
        answer["ret_code"] = self.return_code(1, _COMMAND_RETURN_AT)
        self._status(answer)
        return answer
