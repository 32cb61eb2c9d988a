"""Replay of ``spapr_tce``: a network card's group in a container of version 1, then of version 2.

The recording has the names of the questions, not their arguments; those here are the plainest that fit the names.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from pyvfio.abi import vfio
from pyvfio.abi import vfio_spapr as spapr
from pyvfio.abi import vfio_type1 as type1
from pyvfio.abi.request import VFIO_BASE, VFIO_TYPE, request
from replay.x86.facts import Keys
from replay.x86.lab import CONTAINER, Answers
from replay.x86.opened import device_info, irq_info, region_info

from .lab import PowerLab

__all__ = ["spapr_tce"]

_CARD = "0003:01:00.0"
_KINDS = {"v1": vfio.VFIO_SPAPR_TCE_IOMMU, "v2": vfio.VFIO_SPAPR_TCE_v2_IOMMU}
_K4, _MIB, _WINDOW, _FAR = 1 << 12, 1 << 20, 1 << 31, 1 << 32
_MANY, _READ_ONLY, _WRITE_ONLY, _FOUR, _FREE = 0x100000, 0x200000, 0x201000, 0x300000, 0x400000
_SECOND, _NOWHERE = 1 << 59, 0x12345000
_INFO = 32
_REGIONS, _IRQS, _HEADER, _SHIFT, _BIG = 9, 5, 0x40, 40, 256
_EXTENSIONS = 12


class _Container:
    """A container of `version` that is to have the card's group."""

    def __init__(self, lab: PowerLab, version: str) -> None:
        self.lab, self.version = lab, version
        self.container = lab.open(CONTAINER)
        self.group = lab.open_group(_CARD)
        self.memory = lab.seam.memory(2 * _MIB)
        self.fd = -1

    def close(self) -> None:
        """Close all."""
        self.lab.seam.close_all(fd for fd in (self.fd, self.group, self.container) if fd >= 0)

    def ask(self, number: int, argument: Any = 0) -> int:
        return self.lab.host.ioctl(self.container, number, argument)

    def extensions(self) -> dict[str, int]:
        return {str(number): self.ask(vfio.VFIO_CHECK_EXTENSION, number) for number in range(_EXTENSIONS)}

    def info(self, argsz: int = _INFO) -> dict[str, int]:
        info = spapr.IommuSpaprTceInfo(argsz=argsz)
        self.ask(spapr.VFIO_IOMMU_SPAPR_TCE_GET_INFO, info)
        return {
            "argsz": info.argsz,
            "flags": info.flags,
            "dma32_start": info.dma32_window_start,
            "dma32_size": info.dma32_window_size,
            "ddw_pgsizes": info.ddw.pgsizes,
            "max_windows": info.ddw.max_dynamic_windows_supported,
            "levels": info.ddw.levels,
        }

    def map(self, iova: int, size: int = _K4, offset: int = 0, flags: int = 3) -> int:
        return self.lab.seam.map_dma(self.container, iova, size, self.memory.address + offset, flags)

    def unmap(self, iova: int, size: int = _K4, flags: int = 0) -> int:
        """The length that was unmapped.  Raise OSError."""
        asked = type1.IommuType1DmaUnmap.sized(flags=flags, iova=iova, size=size)
        self.ask(type1.VFIO_IOMMU_UNMAP_DMA, asked)
        return int(asked.size)

    def register(self, offset: int = 0, size: int = _MIB, flags: int = 0, *, at: int | None = None) -> int:
        vaddr = self.memory.address + offset if at is None else at
        asked = spapr.IommuSpaprRegisterMemory.sized(flags=flags, vaddr=vaddr, size=size)
        return self.ask(spapr.VFIO_IOMMU_SPAPR_REGISTER_MEMORY, asked)

    def unregister(self, offset: int, size: int) -> int:
        asked = spapr.IommuSpaprRegisterMemory.sized(vaddr=self.memory.address + offset, size=size)
        return self.ask(spapr.VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, asked)

    def create(self, shift: int = 12, size: int = _WINDOW, levels: int = 1, flags: int = 0) -> str:
        asked = spapr.IommuSpaprTceCreate.sized(flags=flags, page_shift=shift, window_size=size, levels=levels)
        self.ask(spapr.VFIO_IOMMU_SPAPR_TCE_CREATE, asked)
        return hex(int(asked.start_addr))

    def remove(self, start: int) -> int:
        return self.ask(spapr.VFIO_IOMMU_SPAPR_TCE_REMOVE, spapr.IommuSpaprTceRemove.sized(start_addr=start))

    def locked(self) -> list[str]:
        status = self.lab.seam.read(f"/proc/{os.getpid()}/status").decode().split("\n")
        return [line for line in status if line.startswith(("VmLck", "VmPin"))]

    # the device, opened at the end

    def open(self) -> bool:
        self.fd = self.lab.seam.device_fd(self.group, _CARD)
        return self.fd >= 0

    def config(self) -> str:
        return self.lab.host.pread(self.fd, _HEADER, vfio.VFIO_PCI_CONFIG_REGION_INDEX << _SHIFT).hex()


def _tables(ask: Callable[[int], Any], count: int) -> Answers:
    answers = Answers()
    for index in range(count):
        answers.ask(str(index), lambda index=index: ask(index))
    return answers


def _questions(one: _Container) -> dict[str, Callable[[], Any]]:
    """What each question does, in the recorder's order."""
    other = "v2" if one.version == "v1" else "v1"
    return {
        "page": lambda: one.lab.host.sysconf("SC_PAGE_SIZE"),
        "set_iommu_without_group": lambda: one.ask(vfio.VFIO_SET_IOMMU, _KINDS[one.version]),
        "set_container": lambda: one.lab.set_container(one.group, one.container),
        "extensions": one.extensions,
        "set_iommu_type1": lambda: one.ask(vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1_IOMMU),
        "set_iommu_type1v2": lambda: one.ask(vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU),
        "set_iommu": lambda: one.ask(vfio.VFIO_SET_IOMMU, _KINDS[one.version]),
        "extensions_after": one.extensions,
        "set_iommu_again_other": lambda: one.ask(vfio.VFIO_SET_IOMMU, _KINDS[other]),
        "info": one.info,
        "info_argsz16": lambda: one.info(16),
        "info_argsz8": lambda: one.info(8),
        "memlock": lambda: [one.lab.seam.machine.spec.memlock] * 2,
        "map_before_enable": lambda: one.map(0),
        "unmap_before_enable": lambda: one.unmap(0),
        "disable_before_enable": lambda: one.ask(type1.VFIO_IOMMU_DISABLE),
        "enable": lambda: one.ask(type1.VFIO_IOMMU_ENABLE),
        "enable_again": lambda: one.ask(type1.VFIO_IOMMU_ENABLE),
        "info_after_enable": one.info,
        "map_unregistered": lambda: one.map(0, offset=_MIB + 0x10000),
        "unmap_unregistered": lambda: one.unmap(0),
        "register_unaligned": lambda: one.register(1),
        "register_flags": lambda: one.register(flags=1),
        "register_bad_vaddr": lambda: one.register(at=_K4),
        "register": one.register,
        "register_again_same": one.register,
        "register_overlap": lambda: one.register(0x10000, 0x20000),
        "vmlck": one.locked,
        "map": lambda: one.map(0),
        "map_same_iova": lambda: one.map(0, offset=_K4),
        "map_many": lambda: one.map(_MANY, 16 * _K4),
        "map_readonly": lambda: one.map(_READ_ONLY, flags=1),
        "map_writeonly": lambda: one.map(_WRITE_ONLY, flags=2),
        "map_noflags": lambda: one.map(_FREE, flags=0),
        "map_unaligned": lambda: one.map(_FREE, offset=0x800),
        "map_unaligned_size": lambda: one.map(_FREE, 0x800),
        "map_size0": lambda: one.map(_FREE, 0),
        "map_outside_window": lambda: one.map(_FAR),
        "map_4k": lambda: one.map(_FOUR),
        "unmap_part_of_many": lambda: one.unmap(_MANY),
        "unmap": lambda: one.unmap(0),
        "unmap_again": lambda: one.unmap(0),
        "unmap_outside": lambda: one.unmap(_FAR),
        "unmap_flags": lambda: one.unmap(0, flags=1),
        "unregister_while_mapped": lambda: one.unregister(0, _MIB),
        "unregister_subrange": lambda: one.unregister(0, 0x10000),
        "unmap_rest": lambda: one.unmap(_MANY, 16 * _K4),
        "unmap_ro": lambda: one.unmap(_READ_ONLY, 2 * _K4),
        "unregister": lambda: one.unregister(0, _MIB),
        "unregister_2": lambda: one.unregister(_MIB, _MIB),
        "unregister_missing": lambda: one.unregister(_MIB, _K4),
        "create_4k_2G": one.create,
        "create_64k_2G": lambda: one.create(16),
        "create_third": one.create,
        "info_after_create": one.info,
        "create_bad_shift": lambda: one.create(13),
        "create_non_pow2": lambda: one.create(size=3 << 30),
        "create_levels_9": lambda: one.create(levels=9),
        "create_levels_0": lambda: one.create(levels=0),
        "create_flags": lambda: one.create(flags=1),
        "remove_missing": lambda: one.remove(_NOWHERE),
        "remove_create_4k_2G": lambda: one.remove(_SECOND),
        "remove_default": lambda: one.remove(0),
        "remove_default_again": lambda: one.remove(0),
        "map_without_window": lambda: one.map(0),
        "recreate_default": one.create,
        "disable": lambda: one.ask(type1.VFIO_IOMMU_DISABLE),
        "unknown": lambda: one.ask(request(VFIO_TYPE, VFIO_BASE + 99)),
        "device_fd": one.open,
        "device_info": lambda: device_info(one.lab.seam, one.fd),
        "regions": lambda: _tables(lambda index: region_info(one.lab.seam, one.fd, index, _BIG), _REGIONS),
        "irqs": lambda: _tables(lambda index: irq_info(one.lab.seam, one.fd, index), _IRQS),
        "cfg": one.config,
        "reset": lambda: one.lab.host.ioctl(one.fd, vfio.VFIO_DEVICE_RESET),
    }


def spapr_tce(lab: PowerLab, questions: Keys) -> Answers:
    """Both versions."""
    lab.take(_CARD)
    members = lab.members(lab.group(_CARD))
    answers = Answers(bound=members, group_members=lab.drivers(members))
    for version in _KINDS:
        one = _Container(lab, version)
        asked = answers[version] = Answers()
        for name, work in _questions(one).items():
            if name in (questions[version] or {}):
                asked.ask(name, work)
        one.close()
    return answers
