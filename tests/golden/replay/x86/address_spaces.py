"""Replay of ``iommufd``: a device's own node, address spaces of ``/dev/iommu``, and ``/dev/iommu`` as a container."""

from __future__ import annotations

import ctypes
import errno
import mmap
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from pyvfio.abi import iommufd as abi
from pyvfio.abi import vfio
from pyvfio.abi.request import request
from pyvfio.abi.vfio_type1 import VFIO_IOMMU_DIRTY_PAGES
from replay.iommufd import Iommufd
from replay.seam import unmapped_address

from .edu import DMA, Edu
from .facts import Keys
from .lab import DEVICES, IOMMU, Answers, Lab, attempt
from .opened import device_info

__all__ = ["iommufd"]

_EDU = "0000:00:06.0"
_OTHERS = ("0000:00:07.0", "0000:00:07.1", "0000:0a:02.0")
_PAGE = mmap.PAGESIZE
_LENGTH = 16 * _PAGE
_AT = 0x100000
_MSI = 0xFEE00000
_RW = abi.IOMMU_IOAS_MAP_READABLE | abi.IOMMU_IOAS_MAP_WRITEABLE
_ROOM = 108  # of the recorder's hot reset info


class _Device:
    """The recorder's script: edu by its own node."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.answers = Answers()
        self.memory = lab.seam.memory(_LENGTH)
        self.iommu = self.fd = self.second = -1
        self.spaces = Iommufd(lab.seam, -1)
        self.other = 0
        self.devid = 0
        self.hwpt = 0

    def ask(self, key: str, work: Callable[[], Any]) -> Any:
        return self.answers.ask(key, work)

    def call(self, request_: int, argument: Any) -> int:
        """An iommufd ioctl's result."""
        return self.lab.host.ioctl(self.iommu, request_, argument)

    # parts

    def nodes(self) -> None:
        lab, answers = self.lab, self.answers
        # four functions are bound when the recorder looks; edu is the third
        for address in _OTHERS[:2]:
            attempt(partial(lab.take, address))
        answers["vfio_devices"] = lab.seam.listing("/dev/vfio/devices")
        attempt(partial(lab.take, _EDU))
        answers["dev_iommu"] = lab.seam.exists(IOMMU)
        answers["vfio_dev_dir"] = lab.seam.listing(f"{DEVICES}/{_EDU}/vfio-dev")
        self.ask("cdev_dev", lambda: lab.text(f"{DEVICES}/{_EDU}/vfio-dev/{answers['vfio_dev_dir'][0]}/dev"))
        attempt(partial(lab.take, _OTHERS[2]))
        answers["cdev_nodes"] = lab.seam.listing("/dev/vfio/devices")

    def bind(self) -> None:
        lab = self.lab
        self.iommu, self.fd = lab.open(IOMMU), lab.open(lab.cdev(_EDU))
        self.spaces = Iommufd(lab.seam, self.iommu)
        self.ask("info_before_bind", lambda: device_info(lab.seam, self.fd))
        self.ask("pread_before_bind", lambda: lab.host.pread(self.fd, 4, 0).hex())
        self.ask("attach_before_bind", lambda: self.spaces.attach(self.fd, 1))
        self.ask("bind_bad_iommufd", lambda: self._bind(self.fd, -1))
        self.ask("bind_flags", lambda: self._bind(self.fd, self.iommu, flags=1))
        self.ask("bind", lambda: self._bind(self.fd, self.iommu))
        self.answers["devid"] = self.devid
        self.ask("bind_again", lambda: self._bind(self.fd, self.iommu))
        self.second = self.ask("second_open", lambda: lab.open(lab.cdev(_EDU)))
        self.ask("second_fd_bind", lambda: self._bind(self.second, self.iommu))
        lab.seam.close_all([self.second])
        self.ask("open_group_while_cdev_bound", lambda: lab.open_group(_EDU))
        self.ask("info", lambda: device_info(lab.seam, self.fd))
        self.edu = Edu(lab, self.fd)
        self.ask("mmio_before_attach", lambda: (self.edu.enable(), hex(self.edu.load(0)))[1])

    def _bind(self, fd: int, iommu: int, flags: int = 0) -> int:
        argument = vfio.DeviceBindIommufd.sized(flags=flags, iommufd=iommu)
        result = self.lab.host.ioctl(fd, vfio.VFIO_DEVICE_BIND_IOMMUFD, argument)
        self.devid = argument.out_devid
        return result

    def attach(self) -> None:
        argument = abi.IoasAlloc.sized()
        self.ask("ioas_alloc", lambda: self.call(abi.IOMMU_IOAS_ALLOC, argument))
        self.spaces.ioas = argument.out_ioas_id
        self.answers["ioas_id"] = argument.out_ioas_id
        self.ask("ioas_alloc_flags", lambda: self.call(abi.IOMMU_IOAS_ALLOC, abi.IoasAlloc.sized(flags=1)))
        self.ask("attach_bad_id", lambda: self.spaces.attach(self.fd, 99))
        self.ask("attach_devid", lambda: self.spaces.attach(self.fd, self.devid))
        self.ask("ranges_unattached", self._ranges)
        point = vfio.DeviceAttachIommufdPt.sized(pt_id=self.spaces.ioas)
        self.ask("attach", lambda: self.lab.host.ioctl(self.fd, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, point))
        self.answers["attach_pt_id_out"] = point.pt_id
        again = vfio.DeviceAttachIommufdPt.sized(pt_id=self.spaces.ioas)
        self.ask("attach_again", lambda: self.lab.host.ioctl(self.fd, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, again))
        self.ask("ranges_attached", self._ranges)

    def _ranges(self) -> dict[str, Any]:
        found = self.spaces.ranges()
        return {"ranges": found["ranges"], "align": found["alignment"]}

    def _map(
        self, iova: int | None, length: int = _PAGE, va: int | None = None, access: int = _RW, ioas: int = 0
    ) -> int:
        flags = access | (0 if iova is None else abi.IOMMU_IOAS_MAP_FIXED_IOVA)
        argument = abi.IoasMap.sized(
            flags=flags,
            ioas_id=ioas or self.spaces.ioas,
            user_va=self.memory.address if va is None else va,
            length=length,
            iova=iova or 0,
        )
        self.call(abi.IOMMU_IOAS_MAP, argument)
        return int(argument.iova)

    def map(self) -> None:
        free = 2 * _AT
        self.ask("map_fixed", lambda: self._map(_AT, _LENGTH))
        self.ask("map_fixed_overlap", lambda: self._map(_AT, _PAGE))
        self.ask("map_any_iova", lambda: self._map(None))
        self.ask("map_no_rw", lambda: self._map(free, access=0))
        self.ask("map_unaligned", lambda: self._map(free, _PAGE + 1))
        self.ask("map_unaligned_iova", lambda: self._map(free + 1))
        self.ask("map_len0", lambda: self._map(free, 0))
        self.ask("map_bad_va", lambda: self._map(free, va=unmapped_address()))
        self.ask("map_msi_window", lambda: self._map(_MSI))
        self.ask("map_beyond", lambda: self._map(1 << 48))
        self.ask("map_bad_ioas", lambda: self._map(free, ioas=99))
        self.ask("map_unknown_flag", lambda: self._map(free, access=_RW | 1 << 8))

    def copy(self) -> None:
        self.other = attempt(self._second_space)
        self.ask("copy", lambda: self._copy(self.other, 5 * _AT, _AT, _LENGTH))
        self.ask("copy_part", lambda: self._copy(self.other, 6 * _AT, _AT + _PAGE, _PAGE))
        self.ask("copy_unmapped", lambda: self._copy(self.other, 7 * _AT, 64 * _AT, _PAGE))
        self.ask("copy_same_ioas", lambda: self._copy(self.spaces.ioas, 7 * _AT, _AT, _LENGTH))

    def _second_space(self) -> int:
        argument = abi.IoasAlloc.sized()
        self.call(abi.IOMMU_IOAS_ALLOC, argument)
        return int(argument.out_ioas_id)

    def _copy(self, to: int, iova: int, source: int, length: int) -> int:
        argument = abi.IoasCopy.sized(
            flags=_RW | abi.IOMMU_IOAS_MAP_FIXED_IOVA,
            dst_ioas_id=to,
            src_ioas_id=self.spaces.ioas,
            length=length,
            dst_iova=iova,
            src_iova=source,
        )
        self.call(abi.IOMMU_IOAS_COPY, argument)
        return int(argument.dst_iova)

    def unmap(self) -> None:
        self.ask("unmap_part", lambda: self.spaces.unmap(_AT, _PAGE))
        self.ask("unmap_tail_part", lambda: self.spaces.unmap(_AT + _LENGTH - _PAGE, _PAGE))
        self.ask("unmap_whole", lambda: self.spaces.unmap(_AT, _LENGTH))
        self.ask("unmap_missing", lambda: self.spaces.unmap(_AT, _LENGTH))
        self.ask("unmap_len0", lambda: self.spaces.unmap(_AT, 0))
        self.ask("unmap_all", lambda: self.spaces.unmap(0, (1 << 64) - 1))
        self.ask("unmap_all_empty", lambda: self.spaces.unmap(0, (1 << 64) - 1))
        self.ask("dma_ok", self._dma)

    def _dma(self) -> bool:
        self._map(_AT, _PAGE)
        pattern = bytes(range(64))
        self.memory.view[:64] = pattern
        self.edu.enable()
        self.edu.copy(_AT, DMA, 64, to_device=True)
        self.edu.copy(DMA, _AT + 0x400, 64, to_device=False)
        return bytes(self.memory.view[0x400:0x440]) == pattern

    def objects(self) -> None:
        self.ask("get_hw_info", self._hw_info)
        self.ask("hwpt_alloc", lambda: [0, self._hwpt(0)])
        self.ask("hwpt_alloc_dirty", lambda: self._hwpt(abi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING))
        self.ask("hwpt_alloc_nest_parent", lambda: self._hwpt(abi.IOMMU_HWPT_ALLOC_NEST_PARENT))
        self.ask("destroy_ioas_in_use", lambda: self._destroy(self.spaces.ioas))
        self.ask("destroy_devid", lambda: self._destroy(self.devid))
        self.ask("destroy_ioas2", lambda: self._destroy(self.other))
        self.ask("destroy_missing", lambda: self._destroy(99))

    def _hw_info(self) -> list[Any]:
        data = bytearray(64)
        anchor = (ctypes.c_char * len(data)).from_buffer(data)
        argument = abi.HwInfo.sized(dev_id=self.devid, data_len=len(data), data_uptr=ctypes.addressof(anchor))
        result = self.call(abi.IOMMU_GET_HW_INFO, argument)
        return [result, [argument.out_data_type, argument.flags, argument.out_capabilities], bytes(data).hex()]

    def _hwpt(self, flags: int) -> int:
        argument = abi.HwptAlloc.sized(flags=flags, dev_id=self.devid, pt_id=self.spaces.ioas)
        self.call(abi.IOMMU_HWPT_ALLOC, argument)
        return int(argument.out_hwpt_id)

    def _destroy(self, number: int) -> int:
        return self.call(abi.IOMMU_DESTROY, abi.Destroy.sized(id=number))

    def grammar(self) -> None:
        self.ask("unknown_cmd", lambda: self.call(request(abi.IOMMUFD_TYPE, 0xFF), bytearray(struct.pack("=I", 8))))
        self.ask("size_too_small", lambda: self.call(abi.IOMMU_IOAS_ALLOC, bytearray(struct.pack("=III", 4, 0, 0))))
        for key, tail in (("size_bigger_zero_tail", 0), ("size_bigger_nonzero_tail", 1)):
            room = bytearray(struct.pack("=IIII", 16, 0, 0, tail))
            self.ask(key, partial(self.call, abi.IOMMU_IOAS_ALLOC, room))

    def leave(self) -> None:
        self.ask("detach", lambda: self.spaces.detach(self.fd))
        self.ask("detach_again", lambda: self.spaces.detach(self.fd))
        room = bytearray(struct.pack("=III", _ROOM, 0, 0).ljust(_ROOM, b"\0"))
        code = vfio.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO
        result = attempt(lambda: self.lab.host.ioctl(self.fd, code, room))
        self.answers["hot_reset_info_cdev"] = [result, list(struct.unpack_from("=III", room)), []]
        self.lab.seam.close_all([self.fd, self.iommu])


def iommufd(lab: Lab, questions: Keys) -> Answers:
    """The device's node, then ``/dev/iommu`` in a container's place."""
    script = _Device(lab)
    try:
        for part in ("nodes", "bind", "attach", "map", "copy", "unmap", "objects", "grammar", "leave"):
            getattr(script, part)()
    except OSError as error:
        script.answers["stopped"] = repr(error)
    attempt(lambda: lab.seam.close_all([script.fd, script.iommu]))
    script.answers["vfio_compat"] = _compat(lab, list((questions["vfio_compat"] or {}).get("check_ext") or {}))
    return script.answers


def _compat(lab: Lab, extensions: list[str]) -> Answers:
    answers = Answers()
    memory = lab.seam.memory(4 * _PAGE)
    fd = lab.open(IOMMU)
    answers.ask("api_version", lambda: lab.host.ioctl(fd, vfio.VFIO_GET_API_VERSION))
    answers["check_ext"] = {
        number: attempt(partial(lab.host.ioctl, fd, vfio.VFIO_CHECK_EXTENSION, int(number))) for number in extensions
    }
    group = attempt(lambda: lab.open_group(_EDU))
    answers["open_group"] = isinstance(group, int)
    answers.ask("group_set_container_iommufd", lambda: lab.set_container(group, fd))
    answers.ask("set_iommu", lambda: lab.host.ioctl(fd, vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU))
    answers.ask("map", lambda: lab.seam.map_dma(fd, _AT, _PAGE, memory.address))
    answers.ask("map_dup", lambda: lab.seam.map_dma(fd, _AT, _PAGE, memory.address))
    answers.ask("unmap_partial", lambda: _unmapped(lab, fd, _AT + _PAGE, _PAGE))  # beyond the one page
    answers.ask("unmap", lambda: _unmapped(lab, fd, _AT, _PAGE))
    answers.ask("dirty", lambda: lab.host.ioctl(fd, VFIO_IOMMU_DIRTY_PAGES, bytearray(struct.pack("=II", 8, 1))))
    answers.ask("get_device_fd", lambda: isinstance(lab.seam.device_fd(group, _EDU), int))
    return answers


def _unmapped(lab: Lab, fd: int, iova: int, size: int) -> int:
    error, left = lab.seam.unmap_dma(fd, iova, size)
    if error is not None:
        raise OSError(getattr(errno, error), error)
    return left
