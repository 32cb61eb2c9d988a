"""Replay of ``ccw-virtio``: virtio devices of all kinds, a 3270 and subchannels of other sets, one after the other,
from their driver to vfio_ccw, through an mdev with channel programs, and back.

A section is ``DEVNO SCHID part``; `record_virtio.py` makes the recording with these same handlers on a kernel.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

from pyvfio.abi import vfio
from pyvfio_backends.software import MachineSpec
from pyvfio_backends.software.loader import load_machine

from . import infos
from .base import Replay
from .ccw_programs import PROGRAM_BASE, PROGRAM_ROOM, ChannelDevice
from .facts import Question
from .script import entering, leaving, on
from .seam import INFO_SIZE

__all__ = ["CcwVirtioReplay", "uuid_of"]

_CSS, _CCW = "/sys/bus/css", "/sys/bus/ccw"
_TAKE, _OPEN, _PROGRAMS, _BACK = (f"[^ ]+ [^ ]+ {part}" for part in ("take", "open", "programs", "give back"))
_MACHINE = Path(__file__).resolve().parent.parent / "lab-virtio.toml"


def uuid_of(devno: str) -> str:
    """The UUID of a device's mediated device."""
    _, ssid, number = devno.split(".")
    return f"66826a94-72c4-557f-beca-0000000{ssid}{number}"


class CcwVirtioReplay(Replay):
    """See the module."""

    file = "ccw-virtio"
    device_class: type[ChannelDevice] = ChannelDevice

    def __init__(self) -> None:
        super().__init__()
        self.devno = self.schid = ""
        self.device: ChannelDevice
        self.open_fds: list[int] = []

    def machine(self) -> MachineSpec:
        """The guest with these devices."""
        spec = load_machine(_MACHINE)
        spec.modules = ("vfio", "vfio_iommu_type1", "iommufd", "mdev", "vfio_ccw")
        return spec

    @property
    def subchannel(self) -> str:
        """The directory of the subchannel."""
        return f"/sys/devices/css0/{self.schid}"

    @property
    def mdev(self) -> str:
        """The directory of the mediated device."""
        return f"/sys/bus/mdev/devices/{uuid_of(self.devno)}"

    def _write(self, path: str, text: str) -> Any:
        return self.seam.attempt(lambda: self.seam.write(path, text))

    # from the driver to vfio_ccw

    @on(_TAKE, "before")
    def before(self, question: Question) -> Any:
        self.devno, self.schid, _ = question.section.split(" ", 2)
        return self._state()

    def _state(self) -> Any:
        device = f"{_CCW}/devices/{self.devno}"
        return {
            "ccw_driver": self.seam.link(f"{device}/driver"),
            "css_driver": self.seam.link(f"{self.subchannel}/driver"),
            "subchannel": {
                name: self.seam.pair(lambda name=name: self.seam.text(f"{self.subchannel}/{name}"))  # type: ignore[misc]
                for name in ("chpids", "pimpampom", "dev_busid", "vpm", "driver_override", "type")
            },
            "device": {
                name: self.seam.pair(lambda name=name: self.seam.text(f"{device}/{name}"))  # type: ignore[misc]
                for name in ("availability", "cutype", "devtype", "modalias", "online")
            },
        }

    @on(_TAKE, "online <- ([01])")
    @on(_BACK, "online <- ([01])")
    def online(self, question: Question, value: str) -> Any:
        answer = self._write(f"{_CCW}/devices/{self.devno}/online", value)
        self.seam.settle()
        return answer

    @on(_TAKE, "(io_subchannel|vfio_ccw)/(bind|unbind)")
    @on(_BACK, "(io_subchannel|vfio_ccw)/(bind|unbind)")
    def bind(self, question: Question, driver: str, verb: str) -> Any:
        return self._write(f"{_CSS}/drivers/{driver}/{verb}", self.schid)

    @on(_TAKE, "driver_override <- (.*)")
    @on(_BACK, "driver_override <- (.*)")
    def override(self, question: Question, text: str) -> Any:
        return self._write(f"{self.subchannel}/driver_override", text + "\n")

    @on(_TAKE, "after (unbind|bind)")
    def after(self, question: Question, verb: str) -> Any:
        return self._state() | {"children": self.seam.listing(self.subchannel)}

    @on(_TAKE, "create")
    def create(self, question: Question) -> Any:
        types = f"{self.subchannel}/mdev_supported_types/vfio_ccw-io"
        answer = self._write(f"{types}/create", uuid_of(self.devno) + "\n")
        answer["available_instances"] = self.seam.text(f"{types}/available_instances")
        answer["group"] = self.seam.link(f"{self.mdev}/iommu_group")
        answer["files"] = self.seam.listing(f"{self.subchannel}/{uuid_of(self.devno)}")
        return answer

    @leaving(_TAKE)
    def taken(self) -> None:
        self.step(f"{self.devno} taken")

    # open

    @entering(_OPEN)
    def open_group(self) -> None:
        seam = self.seam
        number = seam.link(f"{self.mdev}/iommu_group")
        container = seam.host.open("/dev/vfio/vfio", self.RW)
        group = seam.host.open(f"/dev/vfio/{number}", self.RW)
        seam.descriptor(group, vfio.VFIO_GROUP_SET_CONTAINER, container)
        seam.host.ioctl(container, vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU)
        memory = seam.memory(PROGRAM_ROOM)
        seam.map_dma(container, PROGRAM_BASE, PROGRAM_ROOM, memory.address)
        fd = seam.device_fd(group, uuid_of(self.devno))
        self.device = self.device_class(seam, fd, memory)
        self.open_fds = [fd, group, container]
        self.device.connect()

    @on(_OPEN, "device info")
    def device_info(self, question: Question) -> Any:
        return infos.device_info(self.seam.info(self.device.fd, vfio.VFIO_DEVICE_GET_INFO, INFO_SIZE, INFO_SIZE))

    @on(_OPEN, r"(region|irq) (\d)")
    def info(self, question: Question, kind: str, index: str) -> Any:
        fd = self.device.fd

        def work() -> Any:
            if kind == "irq":
                return infos.irq_info(self.seam.info(fd, vfio.VFIO_DEVICE_GET_IRQ_INFO, 16, 16, 0, int(index)))
            raw = self.seam.info(fd, vfio.VFIO_DEVICE_GET_REGION_INFO, INFO_SIZE, INFO_SIZE, 0, int(index))
            return infos.region_info(raw)

        return self.seam.attempt(work)

    @on(f"{_OPEN}|{_PROGRAMS}", "pread schib")
    def schib(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.seam.host.pread(self.device.fd, 52, self.device.regions[2]).hex())

    @on(_OPEN, "online <- 1 while it is open")
    def switch_meanwhile(self, question: Question) -> Any:
        return self._write(f"{_CCW}/devices/{self.devno}/online", "1")

    @on(_OPEN, "group status")
    def group_status(self, question: Question) -> Any:
        argument = bytearray(struct.pack("=II", 8, 0))
        self.seam.host.ioctl(self.open_fds[1], vfio.VFIO_GROUP_GET_STATUS, argument)
        return {"flags": struct.unpack("=II", argument)[1]}

    # programs

    @on(_PROGRAMS, "(?:HSCH|CSCH).*")
    def asynchronous(self, question: Question) -> Any:
        return self._bare(self.device.asynchronous(question.request["command"]))

    @on(_PROGRAMS, "VFIO_DEVICE_RESET.*")
    def reset(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.seam.host.ioctl(self.device.fd, vfio.VFIO_DEVICE_RESET))

    @on(_PROGRAMS, ".*")
    def start(self, question: Question) -> Any:
        return self._bare(self.device.start(question))

    @staticmethod
    def _bare(answer: dict[str, Any]) -> dict[str, Any]:
        """Without the decoded status word, which says again what the IRB says, and without the zeros at its end."""
        answer.pop("scsw", None)
        answer.pop("data_after", None)
        if "irb" in answer:
            answer["irb"] = re.sub("(00)+$", "", answer["irb"])
        return answer

    # and back

    @on(_BACK, "close and remove")
    def remove(self, question: Question) -> Any:
        self.seam.close_all(self.open_fds)
        return self._write(f"{self.mdev}/remove", "1")

    @on(_BACK, "drivers_probe")
    def probe(self, question: Question) -> Any:
        answer = self._write(f"{_CSS}/drivers_probe", self.schid)
        self.seam.advance(0.5)
        return answer

    @on(_BACK, "after")
    def afterwards(self, question: Question) -> Any:
        self.seam.advance(0.5)
        return self._state()

    @leaving(_BACK)
    def given_back(self) -> None:
        self.step(f"{self.devno} given back")
