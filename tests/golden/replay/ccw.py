"""Replay of ``ccw-blk``: a subchannel from its driver to vfio_ccw, an mdev, channel programs, removal while open."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from pyvfio.abi import vfio, vfio_type1
from pyvfio.address import SubchannelId
from pyvfio_backends.software import MachineSpec

from . import infos
from .ccw_binding import CSS, MDEV, OTHER_UUID, SCHID, SUBCHANNEL, TYPES, UUID
from .ccw_iommufd import CcwIommufdFacts
from .ccw_programs import PROGRAM_BASE, PROGRAM_ROOM, SENSE_ID
from .facts import Question
from .script import entering, leaving, on
from .seam import INFO_SIZE, Blocked, unmapped_address

__all__ = ["CcwReplay"]

_OPEN = "open by group and type1"
_DMA = "dma map rules.*"
_REMOVE = "mdev remove while open"
_PLUG = "device_del while open"
_READ_ONLY, _WRITE_ONLY = 0x300000, 0x310000


class CcwReplay(CcwIommufdFacts):
    """See the module."""

    file = "ccw-blk"
    finish_step = "end"

    def restrict(self, spec: MachineSpec) -> None:
        """The guest had no PCI."""
        spec.functions = []
        spec.modules = ("vfio", "vfio_iommu_type1", "iommufd", "mdev", "vfio_ccw")

    # group and container

    @entering(_OPEN)
    def open_group(self) -> None:
        self.group_number = self.seam.link(f"{MDEV}/iommu_group") or "?"
        self.container = self.seam.host.open("/dev/vfio/vfio", self.RW)
        self.group = self.seam.host.open(f"/dev/vfio/{self.group_number}", self.RW)

    @on(_OPEN, "api version")
    def api_version(self, question: Question) -> Any:
        return {"version": self.seam.host.ioctl(self.container, vfio.VFIO_GET_API_VERSION)}

    @on(_OPEN, "get_device_fd (before set_container|before set_iommu|wrong name)")
    def get_device_early(self, question: Question, when: str) -> Any:
        name = OTHER_UUID if when == "wrong name" else UUID
        return self.seam.attempt(lambda: self.seam.device_fd(self.group, name))

    @on(_OPEN, "group status, (no container|container set)")
    def group_status(self, question: Question, when: str) -> Any:
        if when == "container set":
            self.seam.descriptor(self.group, vfio.VFIO_GROUP_SET_CONTAINER, self.container)
        return {"flags": self.status()}

    def status(self) -> int:
        argument = vfio.GroupStatus.sized()
        self.seam.call(self.group, vfio.VFIO_GROUP_GET_STATUS, argument)
        return argument.flags

    @on(_OPEN, r"check_extension (\d+)")
    def extension(self, question: Question, number: str) -> Any:
        return {"value": self.seam.host.ioctl(self.container, vfio.VFIO_CHECK_EXTENSION, int(number))}

    @on(_OPEN, r"set_iommu(?:\(type1v2=3\)| again)")
    def set_iommu(self, question: Question) -> Any:
        kind = vfio.VFIO_TYPE1v2_IOMMU
        return self.seam.attempt(lambda: self.seam.host.ioctl(self.container, vfio.VFIO_SET_IOMMU, kind))

    @on(_OPEN, "iommu info .*")
    def iommu_info(self, question: Question) -> Any:
        raw = self.seam.info(self.container, vfio_type1.VFIO_IOMMU_GET_INFO, INFO_SIZE, INFO_SIZE)
        return infos.iommu_info(raw)

    @entering("device, regions, irqs")
    def open_device(self) -> None:
        memory = self.seam.memory(PROGRAM_ROOM)
        self.seam.map_dma(self.container, PROGRAM_BASE, PROGRAM_ROOM, memory.address)
        self.use_device(self.seam.device_fd(self.group, UUID), memory)
        self.step("group opened")

    # starts that race

    @on("halt, clear, busy", "50 SSCH without waiting")
    def burst(self, question: Question) -> Any:
        results = Counter(self.device.sense_id() for _ in range(50))
        ok = sum(count for result, count in results.items() if isinstance(result, int))
        errors = sorted(result for result in results if isinstance(result, str))
        return {"ok": ok, "errors": errors, "eventfd": self.device.io.read()}

    @on("halt, clear, busy", "SSCH from four threads for 2 s")
    def threads(self, question: Question) -> Any:
        counts: Counter[str] = Counter()

        def work() -> None:
            mine = Counter(self.device.sense_id() for _ in range(50))
            counts.update({result if isinstance(result, str) else "None": n for result, n in mine.items()})

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.device.io.read()
        return {"counts": dict(counts)}

    # DMA

    @on(_DMA, "map it again")
    def map_again(self, question: Question) -> Any:
        address = self.device.memory.address
        return self.seam.attempt(lambda: self.seam.map_dma(self.container, PROGRAM_BASE, PROGRAM_ROOM, address))

    @on(_DMA, "map (.*)")
    def map_dma(self, question: Question, what: str) -> Any:
        iova, size, *more = (int(text, 16) for text in question.request)
        if what == "unmapped vaddr":
            address = unmapped_address()
        else:
            memory = self.seam.memory(self.seam.machine.page_size * 2)
            self.pieces[iova] = memory
            address = memory.address + (self.seam.machine.page_size // 2 if what == "unaligned vaddr" else 0)
        return self.seam.attempt(lambda: self.seam.map_dma(self.container, iova, size, address, *more))

    @on(_DMA, "bytes there")
    def bytes_there(self, question: Question) -> Any:
        return {"data": bytes(self.pieces[_READ_ONLY].view[:16]).hex()}

    @on(_DMA, "unmap the memory of the programs")
    def unmap_programs(self, question: Question) -> Any:
        error, size = self.seam.unmap_dma(self.container, PROGRAM_BASE, PROGRAM_ROOM)
        return {"error": error} if error else {"value": hex(size)}

    @on(_DMA, "unmap .*")
    def unmap_dma(self, question: Question) -> Any:
        error, size = self.seam.unmap_dma(self.container, *(int(text, 16) for text in question.request))
        return {"error": error} if error else {"value": size}

    @on(_DMA, "SSCH after the unmap")
    def start_unmapped(self, question: Question) -> Any:
        return {"pwrite": self.device.submit(str(SENSE_ID["orb"]), 4), "ret_code": self.device.return_code()}

    # twice, and removal

    @on("open twice.*", "open group again")
    def group_again(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.seam.host.open(f"/dev/vfio/{self.group_number}", self.RW))

    @on("open twice.*", "get_device_fd again")
    def device_again(self, question: Question) -> Any:
        def second() -> str:
            self.second = self.seam.device_fd(self.group, UUID)
            return "a second descriptor" if self.second != self.device.fd else "the same"

        return self.seam.attempt(second)

    @on("open twice.*", "unset_container with the device open")
    def unset(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.seam.host.ioctl(self.group, vfio.VFIO_GROUP_UNSET_CONTAINER))

    @on("open twice.*", "open cdev while the group is in use")
    def open_cdev_meanwhile(self, question: Question) -> Any:
        def work() -> str:
            self.cdev = self.seam.host.open("/dev/vfio/devices/vfio0", self.RW)
            return "opened"

        return self.seam.attempt(work)

    @on("open twice.*", "bind that cdev to iommufd")
    def bind_meanwhile(self, question: Question) -> Any:
        self.iommufd = self.seam.host.open("/dev/iommu", self.RW)
        answer = self.seam.attempt(lambda: self.bind_cdev(self.cdev, self.iommufd))
        self.seam.host.close(self.iommufd)
        return answer

    @on(_REMOVE, "the request eventfd")
    def remove(self, question: Question) -> Any:
        self.device.connect()
        self.remover = Blocked(self.seam.machine.clock, lambda: self.seam.write(f"{MDEV}/remove", "1"))
        return {
            "value": self.device.request.read(),
            "after_s": 0.0,
            "remover_still_blocked": self.remover.blocked,
        }

    @on(_REMOVE, r"(\d+) s later")
    def later(self, question: Question, seconds: str) -> Any:
        self.seam.advance(float(seconds))
        return {"request_eventfd": self.device.request.read(), "remover_still_blocked": self.remover.blocked}

    @on(_REMOVE, r"(\d+) s after closing every device descriptor.*")
    def devices_closed(self, question: Question, seconds: str) -> Any:
        self.seam.close_all([self.device.fd, self.second])
        self.seam.advance(float(seconds))
        return self._remover()

    def _remover(self) -> dict[str, Any]:
        return {
            "remover": self.remover.outcome(),
            "mdev_exists": self.seam.exists(MDEV),
            "dev_vfio": self.seam.listing("/dev/vfio"),
        }

    @on(_REMOVE, "create the same uuid meanwhile")
    def create_meanwhile(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.seam.write(f"{TYPES}/vfio_ccw-io/create", UUID + "\n"))

    @on(_REMOVE, "after closing the cdev descriptor .*")
    def cdev_closed(self, question: Question) -> Any:
        self.seam.close_all([self.cdev])
        return self._remover()

    @on(_REMOVE, "group status after")
    def status_after(self, question: Question) -> Any:
        return self.seam.attempt(self.status)

    @leaving(_REMOVE)
    def close_group(self) -> None:
        self.seam.close_all([self.group, self.container])
        self.step("mdev removed")

    # the device goes away

    @on(_PLUG, "device_del")
    def device_del(self, question: Question) -> Any:
        self.device.connect()
        self.seam.unplug(SubchannelId.parse(SCHID))
        return {"done": "the subchannel is not there any more"}

    @on(_PLUG, "eventfds after 1 s")
    def after_unplug(self, question: Question) -> Any:
        self.seam.advance(1.0)
        io, crw, request = (eventfd.read() for eventfd in self.device.eventfds())
        return {
            "request_eventfd": request,
            "crw": crw,
            "io": io,
            "subchannel_exists": self.seam.exists(f"{CSS}/devices/{SCHID}"),
            "mdev_exists": self.seam.exists(MDEV),
        }

    @on(_PLUG, "after close")
    def after_close(self, question: Question) -> Any:
        self.seam.close_all([self.device.fd, self.iommufd])
        self.seam.advance(0.1)
        return {
            "subchannel_exists": self.seam.exists(f"{CSS}/devices/{SCHID}"),
            "mdev_exists": self.seam.exists(MDEV),
            "css_driver": self.seam.link(f"{SUBCHANNEL}/driver"),
        }
