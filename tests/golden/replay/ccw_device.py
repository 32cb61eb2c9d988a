"""Replay of vfio-ccw's device file: infos, interrupts, regions, programs, reset, and the cdev with iommufd."""

from __future__ import annotations

import os
import struct
from typing import Any

from pyvfio.abi import vfio
from pyvfio.abi.request import VFIO_BASE, VFIO_TYPE, request
from pyvfio.process import AnonymousMemory

from . import infos
from .ccw_binding import CcwBinding
from .ccw_programs import ChannelDevice
from .facts import Question
from .script import entering, on
from .seam import INFO_SIZE

__all__ = ["CcwDeviceFacts"]

_DEVICE = "device, regions, irqs"
_IO = "region reads and writes|channel programs"
_CDEV = "cdev and iommufd"
_UNPLUGGED = "device_del while open"
_REGIONS = {"io": 0, "async cmd": 1, "schib": 2, "crw": 3}
_SIZES = (124, 8, 52, 8)
_SHIFT = 10  # VFIO_CCW_OFFSET_SHIFT


class CcwDeviceFacts(CcwBinding):
    """See the module; `device` is the open device."""

    device: ChannelDevice

    def __init__(self) -> None:
        super().__init__()
        self.pieces: dict[int, AnonymousMemory] = {}
        self.container = self.group = self.second = self.cdev = self.iommufd = -1
        self.group_number = "?"

    def use_device(self, fd: int, memory: AnonymousMemory) -> None:
        """Go on with this descriptor of the device."""
        self.device = ChannelDevice(self.seam, fd, memory)

    # infos

    @on(f"{_DEVICE}|{_UNPLUGGED}|{_CDEV}", r"device info(?: argsz (\d+))?")
    def device_info(self, question: Question, argsz: str | None) -> Any:
        size = int(argsz) if argsz else 24 if question.section == _UNPLUGGED else INFO_SIZE

        def work() -> Any:
            room = max(size, INFO_SIZE)
            raw = self.seam.info(self.device.fd, vfio.VFIO_DEVICE_GET_INFO, room, size)
            return infos.device_info(raw)

        bare = argsz is None and question.section != _UNPLUGGED
        return work() if bare else self.seam.attempt(work)

    @on(_DEVICE, r"region (\d) argsz (\d+)")
    def region(self, question: Question, index: str, argsz: str) -> Any:
        size = int(argsz)
        return self.seam.attempt(
            lambda: infos.region_info(
                self.seam.info(self.device.fd, vfio.VFIO_DEVICE_GET_REGION_INFO, max(size, 32), size, 0, int(index))
            )
        )

    @on(_DEVICE, r"irq (\d)(?: argsz (\d+))?")
    def irq(self, question: Question, index: str, argsz: str | None) -> Any:
        return self.seam.attempt(
            lambda: infos.irq_info(
                self.seam.info(self.device.fd, vfio.VFIO_DEVICE_GET_IRQ_INFO, 16, int(argsz or 16), 0, int(index))
            )
        )

    @on(_DEVICE, "mmap of region 0")
    def mmap(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.seam.host.mmap(self.device.fd, self.seam.machine.page_size))

    @on(_DEVICE, "unknown ioctl")
    def unknown(self, question: Question) -> Any:
        number = request(VFIO_TYPE, VFIO_BASE + 80)
        return self.seam.attempt(lambda: self.seam.host.ioctl(self.device.fd, number, bytearray(64)))

    @on(_DEVICE, "pci hot reset info on a ccw device")
    def hot_reset(self, question: Question) -> Any:
        number = vfio.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO
        return self.seam.attempt(lambda: self.seam.info(self.device.fd, number, 64, 64).hex())

    @on(_DEVICE, "device feature (get migration|probe 0 no get/set|get 999)")
    def feature(self, question: Question, what: str) -> Any:
        flags = {
            "get migration": vfio.VFIO_DEVICE_FEATURE_GET | 1,
            "probe 0 no get/set": vfio.VFIO_DEVICE_FEATURE_PROBE,
            "get 999": vfio.VFIO_DEVICE_FEATURE_GET | 999,
        }[what]
        return self.seam.attempt(lambda: self.seam.info(self.device.fd, vfio.VFIO_DEVICE_FEATURE, 64, 64, flags).hex())

    # interrupts

    @on(_DEVICE, "set_irqs (.*)")
    def set_irqs(self, question: Question, what: str) -> Any:
        fields = question.request
        eventfd = self.device.eventfds()[min(fields["index"], 2)]
        kind = fields["flags"] & vfio.VFIO_IRQ_SET_DATA_TYPE_MASK
        pipe = os.pipe()
        closed = os.dup(pipe[0])
        os.close(closed)
        number = {"eventfd -2": -2, "eventfd is not an eventfd": pipe[0], "eventfd closed number": closed}.get(
            what, -1 if what.startswith("eventfd -1") else eventfd.fileno()
        )
        data = b""
        if kind & vfio.VFIO_IRQ_SET_DATA_BOOL:
            data = bytes([what == "bool 1"])
        elif kind != vfio.VFIO_IRQ_SET_DATA_NONE:
            data = struct.pack("=i", number) * fields["count"]
        argsz = {"eventfd with short argsz": 20, "argsz 19": 19}.get(what)
        error = self.seam.pair(
            lambda: self.seam.set_irqs(
                self.device.fd, fields["index"], fields["flags"], fields["start"], fields["count"], data, argsz
            )
        )[1]
        for end in pipe:
            os.close(end)
        return {"error": error, "eventfd": eventfd.read()}

    # regions

    @entering("region reads and writes")
    def connect(self) -> None:
        self.device.connect()

    @on("region reads and writes", r"pread (io|async cmd|schib|crw)(?:, none pending)?(?: (whole|\d+)(?: bytes)?)?")
    @on("region reads and writes", r"pread (io) at (\d+, \d+)")
    @on(_UNPLUGGED, "(schib|crw) (region)")
    @on("schib and reset", "(schib)( after reset)?")
    def pread(self, question: Question, region: str, extent: str | None) -> Any:
        index = _REGIONS[region]
        offset, size = 0, _SIZES[index]
        if extent is not None and extent[0].isdigit():
            *at, count = (int(part) for part in extent.split(", "))
            offset, size = sum(at), count
        where = self.device.regions[index] + offset
        return self.seam.attempt(lambda: self.seam.host.pread(self.device.fd, size, where).hex())

    @on("region reads and writes", "pwrite (schib|crw)")
    def pwrite_read_only(self, question: Question, region: str) -> Any:
        index = _REGIONS[region]
        data = bytes(_SIZES[index])
        return self.seam.attempt(lambda: self.seam.host.pwrite(self.device.fd, data, self.device.regions[index]))

    @on("region reads and writes", r"(pread|pwrite) region index (\d)")
    def no_region(self, question: Question, verb: str, index: str) -> Any:
        where = int(index) << _SHIFT
        if verb == "pread":
            return self.seam.attempt(lambda: self.seam.host.pread(self.device.fd, 4, where).hex())
        return self.seam.attempt(lambda: self.seam.host.pwrite(self.device.fd, bytes(4), where))

    @on("region reads and writes", r"read\(\) at the file position")
    def read(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.seam.host.read(self.device.fd, 8).hex())

    # programs

    @on("channel programs", r"pwrite of (\d+) bytes(?: at 0 \(partial\))?")
    def pwrite_part(self, question: Question, count: str) -> Any:
        data = bytes(int(count))
        return self.seam.attempt(lambda: self.seam.host.pwrite(self.device.fd, data, self.device.regions[0]))

    @on("channel programs", "it started the program that the region still holds")
    def started(self, question: Question) -> Any:
        return {"eventfd": self.device.io.read(), "ret_code": self.device.return_code()}

    @on("channel programs|halt, clear, busy", "HSCH when idle|CSCH .*|command \\d.*")
    def asynchronous(self, question: Question) -> Any:
        return self.device.asynchronous(question.request["command"])

    @on("virtio-ccw commands|schib and reset", r"VFIO_DEVICE_RESET(?: \(.*)?")
    @on(_UNPLUGGED, "reset")
    def reset(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.seam.host.ioctl(self.device.fd, vfio.VFIO_DEVICE_RESET))

    @on(_UNPLUGGED, "SSCH")
    def start_unplugged(self, question: Question) -> Any:
        result = self.device.sense_id()
        pair = [result, None] if isinstance(result, int) else [None, result]
        return {"result": pair, "ret_code": self.device.return_code()}

    @on(_UNPLUGGED, "(HSCH|CSCH)")
    def command_unplugged(self, question: Question, name: str) -> Any:
        result = self.device.command({"HSCH": 1, "CSCH": 2}[name])
        return {"result": [result, None] if isinstance(result, int) else [None, result]}

    def otherwise(self, question: Question) -> Any:
        """Most facts are channel programs, given by the request."""
        if isinstance(question.request, dict) and "orb" in question.request:
            return self.device.start(question)
        return super().otherwise(question)
