"""Replay of container, group and type1 with zPCI functions: extensions, DMA rules of both versions, limits."""

from __future__ import annotations

import os
from typing import Any

from pyvfio.abi import vfio, vfio_type1

from . import infos
from .facts import Question
from .script import entering, on
from .seam import INFO_SIZE, unmapped_address
from .zpci_binding import FIRST, SECOND, ZpciBinding

__all__ = ["ZpciDma"]

_GROUP = "container and group|unset and change of type"
_DMA = r"dma, type \d"
_LIMIT = "dma_entry_limit"
_SHARED = "a second group in one container"
_PARAMETER = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"
_IOVA = 0x100000000
_DIRTY = {"start": 1, "stop": 2, "get bitmap, no data": 4, "start|stop": 3, "nothing": 0}
_PAGES = 64


class ZpciDma(ZpciBinding):
    """See the module; `container` and `group` are the first function's, `other` and `second` the second's."""

    def __init__(self) -> None:
        super().__init__()
        self.container = self.group = self.other = self.second = -1
        self.device = self.device_again = self.second_device = -1
        self.page = self.seam.machine.page_size
        self.pool = self.seam.memory(_PAGES * self.page)

    @entering("container and group")
    def open_group(self) -> None:
        self.container = self.seam.host.open("/dev/vfio/vfio", self.RW)
        self.group = self.seam.host.open(f"/dev/vfio/{self.group_of(FIRST)}", self.RW)

    def set_container(self, group: int, container: int) -> int:
        """``VFIO_GROUP_SET_CONTAINER``."""
        return self.seam.descriptor(group, vfio.VFIO_GROUP_SET_CONTAINER, container)

    def unset_container(self, group: int) -> int:
        """``VFIO_GROUP_UNSET_CONTAINER``."""
        return self.seam.host.ioctl(group, vfio.VFIO_GROUP_UNSET_CONTAINER)

    def map(self, iova: int, size: int | None = None) -> dict[str, Any]:
        """Map readable and writable memory into the first container."""
        length = size or self.page
        return self.seam.attempt(lambda: self.seam.map_dma(self.container, iova, length, self.pool.address))

    @on("container and group", "open group twice")
    def group_twice(self, question: Question) -> Any:
        path = f"/dev/vfio/{self.group_of(FIRST)}"
        return self.seam.attempt(lambda: self.seam.host.open(path, self.RW))

    @on("container and group", "api version")
    def api_version(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.seam.host.ioctl(self.container, vfio.VFIO_GET_API_VERSION))

    @on("container and group", r"check_extension (\d+) .*")
    def extension(self, question: Question, number: str) -> Any:
        code = vfio.VFIO_CHECK_EXTENSION
        return self.seam.attempt(lambda: self.seam.host.ioctl(self.container, code, int(number)))

    @on(_GROUP, r"set_iommu(?: before any group|\((\d+)\).*)")
    def set_iommu(self, question: Question, kind: str | None) -> Any:
        code = int(kind or vfio.VFIO_TYPE1_IOMMU)
        return self.seam.attempt(lambda: self.seam.host.ioctl(self.container, vfio.VFIO_SET_IOMMU, code))

    @on(f"{_GROUP}|{_DMA}", r"iommu info(?: argsz (\d+)| before set_iommu| after the last group left)?")
    def iommu_info(self, question: Question, argsz: str | None) -> Any:
        size = int(argsz or INFO_SIZE)
        code = vfio_type1.VFIO_IOMMU_GET_INFO
        answer = self.seam.attempt(lambda: infos.iommu_info(self.seam.info(self.container, code, 128, size)))
        return answer["value"] if question.what == "iommu info" and "value" in answer else answer

    @on("container and group", "map before set_iommu")
    def map_early(self, question: Question) -> Any:
        return self.map(_IOVA)

    @on("container and group|unbind while open", r"group status(?: argsz (\d+))?")
    def status(self, question: Question, argsz: str | None) -> Any:
        argument = vfio.GroupStatus(argsz=int(argsz or 8))

        def work() -> int:
            self.seam.call(self.group, vfio.VFIO_GROUP_GET_STATUS, argument)
            return argument.flags

        return self.seam.attempt(work)

    @on(f"{_GROUP}|device of the first group", "unset_container(?: with none| with an open device)?")
    def unset(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.unset_container(self.group))

    @on("container and group|unbind while open", "get_device_fd (?:with no container|before set_iommu|after)")
    @on("device of the first group", "get_device_fd, (?:wrong name|name of the (other) group's device)")
    def no_device(self, question: Question, other: str | None = None) -> Any:
        name = SECOND if other else "0099:00:00.0" if question.what.endswith("wrong name") else FIRST
        return self.seam.attempt(lambda: self.seam.device_fd(self.group, name))

    @on(_GROUP, "set_container(?: (again|to a non-container|to a closed fd))?")
    def set(self, question: Question, what: str | None) -> Any:
        target = self.container
        pipe = os.pipe()
        if what == "to a non-container":
            target = self.group
        elif what == "to a closed fd":
            target = os.dup(pipe[0])
            os.close(target)
        answer = self.seam.attempt(lambda: self.set_container(self.group, target))
        for end in pipe:
            os.close(end)
        return answer

    # dma

    @on(_DMA, "iova ranges")
    def ranges(self, question: Question) -> Any:
        raw = self.seam.info(self.container, vfio_type1.VFIO_IOMMU_GET_INFO, INFO_SIZE, INFO_SIZE)
        caps = {cap["id"]: cap for cap in infos.iommu_info(raw)["caps"]}
        payload = bytes.fromhex(caps[vfio_type1.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE]["payload"])
        count = int.from_bytes(payload[:4], "big")
        words = [int.from_bytes(payload[at : at + 8], "big") for at in range(8, 8 + 16 * count, 8)]
        return {"ranges": [[hex(words[n]), hex(words[n + 1])] for n in range(0, len(words), 2)]}

    @on(_DMA, "map (.*)")
    def map_dma(self, question: Question, what: str) -> Any:
        iova, size, flags = int(question.request[0], 16), int(question.request[1], 16), question.request[2]
        vaddr = self.pool.address
        if what == "unmapped vaddr":
            vaddr = unmapped_address()
        elif what == "unaligned vaddr":
            vaddr += self.page // 2
        argsz = 31 if what == "argsz 31" else 0
        return self.seam.attempt(lambda: self.seam.map_dma(self.container, iova, size, vaddr, flags, argsz))

    @on(_DMA, "unmap (.*)")
    def unmap_dma(self, question: Question, what: str) -> Any:
        iova, size, flags = int(question.request[0], 16), int(question.request[1], 16), question.request[2]
        error, after = self.seam.unmap_dma(self.container, iova, size, flags, 23 if what == "argsz 23" else 0)
        return {"error": error, "size_after": hex(after)}

    @on(_DMA, "dirty pages (.*)")
    def dirty(self, question: Question, what: str) -> Any:
        argument = vfio_type1.IommuType1DirtyBitmap.sized(flags=_DIRTY[what])
        code = vfio_type1.VFIO_IOMMU_DIRTY_PAGES
        return self.seam.attempt(lambda: self.seam.host.ioctl(self.container, code, argument))

    @on(_DMA, "dma_entry_limit")
    def limit(self, question: Question) -> Any:
        return {"value": self.seam.text(_PARAMETER), "mode": oct(self.seam.host.stat(_PARAMETER).st_mode)}

    @on(_DMA, "RLIMIT_MEMLOCK of root")
    def memlock(self, question: Question) -> Any:
        return {"value": [self.seam.host.sysconf("RLIMIT_MEMLOCK")]}

    # the limit of mappings, in a container of the second group

    @entering(_LIMIT)
    def limited_container(self) -> None:
        self.seam.write(_PARAMETER, "4")
        self.other = self.seam.host.open("/dev/vfio/vfio", self.RW)
        self.second = self.seam.host.open(f"/dev/vfio/{self.group_of(SECOND)}", self.RW)
        self.set_container(self.second, self.other)
        self.seam.host.ioctl(self.other, vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU)
        self.seam.write(_PARAMETER, "65535")

    @on(_LIMIT, r"map (\d) of limit 4|map again")
    def map_limited(self, question: Question, number: str | None) -> Any:
        iova = _IOVA + self.page * int(number or 1)
        return self.seam.attempt(lambda: self.seam.map_dma(self.other, iova, self.page, self.pool.address))

    @on(_LIMIT, "dma avail")
    def available(self, question: Question) -> Any:
        raw = self.seam.info(self.other, vfio_type1.VFIO_IOMMU_GET_INFO, INFO_SIZE, INFO_SIZE)
        caps = {cap["id"]: cap for cap in infos.iommu_info(raw)["caps"]}
        payload = caps[vfio_type1.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL]["payload"]
        return {"value": int(payload[:8], 16)}

    @on(_LIMIT, "unmap one")
    def unmap_limited(self, question: Question) -> Any:
        error, size = self.seam.unmap_dma(self.other, _IOVA + self.page, self.page)
        return {"error": error} if error else {"value": size}

    @on(_SHARED, "(set_container of a group that has one|set_container to a container with a set iommu)")
    def share(self, question: Question, what: str) -> Any:
        return self.seam.attempt(lambda: self.set_container(self.second, self.container))

    @on(_SHARED, "unset_container")
    def leave_other(self, question: Question) -> Any:
        return self.seam.attempt(lambda: self.unset_container(self.second))

    @on(_SHARED, "map in the first container")
    def map_first(self, question: Question) -> Any:
        return self.map(_IOVA)

    @on(_SHARED, "get_device_fd of the second")
    def device_of_second(self, question: Question) -> Any:
        def work() -> str:
            self.second_device = self.seam.device_fd(self.second, SECOND)
            return "fd"

        return self.seam.attempt(work)
