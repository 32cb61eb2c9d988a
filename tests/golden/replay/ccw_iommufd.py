"""Replay of vfio-ccw's own node, bound to iommufd."""

from __future__ import annotations

from typing import Any

from pyvfio.abi import vfio

from .ccw_binding import UUID
from .ccw_device import CcwDeviceFacts
from .ccw_programs import PROGRAM_BASE, PROGRAM_ROOM
from .facts import Question
from .iommufd import Iommufd
from .script import entering, on

__all__ = ["CcwIommufdFacts"]

_CDEV = "cdev and iommufd"
_CDEV_NODE = "/dev/vfio/devices/vfio0"


class CcwIommufdFacts(CcwDeviceFacts):
    """The device's own node, bound to iommufd."""

    ioas: Iommufd

    @entering(_CDEV)
    def open_iommufd(self) -> None:
        self.iommufd = self.seam.host.open("/dev/iommu", self.RW)
        self.ioas = Iommufd(self.seam, self.iommufd)

    def bind_cdev(self, cdev: int, number: int, argsz: int = 16) -> int:
        """``VFIO_DEVICE_BIND_IOMMUFD``: the device's id."""
        argument = vfio.DeviceBindIommufd(argsz=argsz, iommufd=number)
        self.seam.call(cdev, vfio.VFIO_DEVICE_BIND_IOMMUFD, argument)
        return argument.out_devid

    @on(_CDEV, "device info before bind")
    def info_unbound(self, question: Question) -> Any:
        self.cdev = self.seam.host.open(_CDEV_NODE, self.RW)
        return self.seam.attempt(lambda: self.seam.info(self.cdev, vfio.VFIO_DEVICE_GET_INFO, 64, 24).hex())

    @on(_CDEV, "read before bind")
    def read_unbound(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.seam.host.pread(self.cdev, 4, 0).hex())

    @on(_CDEV, "bind argsz (15)")
    def bind_short(self, question: Question, argsz: str) -> Any:
        return self.seam.attempt(lambda: self.bind_cdev(self.cdev, self.iommufd, int(argsz)))

    @on(_CDEV, "bind to a bad fd")
    def bind_bad(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.bind_cdev(self.cdev, self.cdev))

    @on(_CDEV, "bind(?: again)?")
    def bind_iommufd(self, question: Question) -> Any:
        answer = self.seam.attempt(lambda: self.bind_cdev(self.cdev, self.iommufd))
        if "value" in answer:
            memory = self.seam.memory(PROGRAM_ROOM)
            self.use_device(self.cdev, memory)
            self.device.connect()
            self.ioas.alloc()
            self.ioas.map(PROGRAM_BASE, PROGRAM_ROOM, memory.address)
        return answer

    @on(_CDEV, "bind a second cdev descriptor")
    def bind_second(self, question: Question) -> Any:
        cdev = self.seam.host.open(_CDEV_NODE, self.RW)
        answer = self.seam.attempt(lambda: self.bind_cdev(cdev, self.iommufd))
        self.seam.host.close(cdev)
        return answer

    @on(_CDEV, "ioas ranges")
    def ranges(self, question: Question) -> Any:
        return self.ioas.ranges()

    @on(_CDEV, "attach (?:to (ioas)|to id (99)|(again))")
    def attach(self, question: Question, ioas: str | None, bad: str | None, again: str | None) -> Any:
        number = int(bad) if bad else self.ioas.ioas
        return self.seam.attempt(lambda: self.ioas.attach(self.cdev, number))

    @on(_CDEV, "ioas map overlapping")
    def overlap(self, question: Question) -> Any:
        page = self.seam.machine.page_size
        return self.seam.attempt(lambda: self.ioas.map(PROGRAM_BASE, page, self.device.memory.address))

    @on(_CDEV, "ioas unmap (part|unknown)")
    def unmap(self, question: Question, what: str) -> Any:
        iova = PROGRAM_BASE if what == "part" else 0x900000
        return self.seam.attempt(lambda: self.ioas.unmap(iova, self.seam.machine.page_size))

    @on(_CDEV, "destroy the ioas in use")
    def destroy(self, question: Question) -> Any:
        return self.seam.attempt(self.ioas.destroy)

    @on(_CDEV, "open the group while the cdev is bound")
    def group_meanwhile(self, question: Question) -> Any:
        number = self.seam.link(f"/sys/bus/mdev/devices/{UUID}/iommu_group")
        return self.seam.attempt(lambda: self.seam.host.open(f"/dev/vfio/{number}", self.RW))

    @on(_CDEV, "detach")
    def detach(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.ioas.detach(self.cdev))
