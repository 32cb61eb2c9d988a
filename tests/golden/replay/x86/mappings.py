"""Replay of ``type1_dma``: mappings of both versions of the type 1 IOMMU, dirty pages and locked memory."""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from pyvfio.abi import vfio
from pyvfio.abi import vfio_type1 as abi
from replay.seam import unmapped_address

from .facts import Keys
from .lab import CONTAINER, MEMLOCK, Answers, Lab, attempt
from .opened import Opened

__all__ = ["type1_dma"]

_EDU = "0000:00:06.0"
_M = 1 << 20
_PAGE = mmap.PAGESIZE
_MSI = 0xFEE00000
_R, _W, _RW = abi.VFIO_DMA_MAP_FLAG_READ, abi.VFIO_DMA_MAP_FLAG_WRITE, 3
_UNKNOWN = 1 << 8
_SHORT = 8
_ALL, _GET = abi.VFIO_DMA_UNMAP_FLAG_ALL, abi.VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP
_VADDR = abi.VFIO_DMA_UNMAP_FLAG_VADDR
_START, _STOP = abi.VFIO_IOMMU_DIRTY_PAGES_FLAG_START, abi.VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP
_BITMAP = abi.VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP
_AT = 0x100000
_WORD = 8


def type1_dma(lab: Lab, questions: Keys) -> Answers:
    """Both versions with the same calls."""
    answers = Answers()
    attempt(lambda: lab.take(_EDU))
    for name, version in (("v2", vfio.VFIO_TYPE1v2_IOMMU), ("v1", vfio.VFIO_TYPE1_IOMMU)):
        try:
            answers[name] = _Space(lab, version).script()
        except OSError as error:
            answers[name] = {"exception": repr(error)}
    answers.ask("memlock", _memlock)
    return answers


class _Space:
    """An address space of one version, with 4 MiB of memory to map."""

    def __init__(self, lab: Lab, version: int) -> None:
        self.lab = lab
        self.opened = Opened(lab, _EDU, version)
        self.memory = lab.seam.memory(4 * _M)
        self.answers = Answers()

    # calls

    def map(self, iova: int, size: int, vaddr: int | None = None, flags: int = _RW, argsz: int = 0) -> int:
        at = self.memory.address if vaddr is None else vaddr
        return self.lab.seam.map_dma(self.opened.container, iova, size, at, flags, argsz)

    def unmap(self, iova: int, size: int, flags: int = 0, argsz: int = 0) -> int:
        argument = abi.IommuType1DmaUnmap(
            argsz=argsz or ctypes.sizeof(abi.IommuType1DmaUnmap), flags=flags, iova=iova, size=size
        )
        self.lab.host.ioctl(self.opened.container, abi.VFIO_IOMMU_UNMAP_DMA, argument)
        return int(argument.size)

    def dirty(self, flags: int, iova: int = 0, size: int = 0, page: int = _PAGE, room: int = 0) -> Any:
        """``VFIO_IOMMU_DIRTY_PAGES``: 0, or the first four words of the bitmap."""
        words = room or max(size // _PAGE // 8, _WORD)
        bitmap = (ctypes.c_uint64 * max(4, words // _WORD))()
        head = bytearray(struct.pack("=II", 0, flags))
        if flags & _BITMAP:
            head += struct.pack("=QQQQQ", iova, size, page, words, ctypes.addressof(bitmap))
        struct.pack_into("=I", head, 0, len(head))
        result = self.lab.host.ioctl(self.opened.container, abi.VFIO_IOMMU_DIRTY_PAGES, head)
        return [hex(word) for word in bitmap[:4]] if flags == _BITMAP else result

    def unmap_dirty(self, iova: int, size: int) -> list[Any]:
        """Unmap and see which pages were dirty: what it came to, and the first word."""
        words = size // _PAGE // 8
        bitmap = (ctypes.c_uint64 * (words // _WORD))()
        buffer = bytearray(struct.pack("=IIQQQQQ", 0, _GET, iova, size, _PAGE, words, ctypes.addressof(bitmap)))
        struct.pack_into("=I", buffer, 0, len(buffer))

        def call() -> int:
            self.lab.host.ioctl(self.opened.container, abi.VFIO_IOMMU_UNMAP_DMA, buffer)
            return int(struct.unpack_from("=Q", buffer, 16)[0])

        result = attempt(call)
        return [result, hex(bitmap[0])]

    # the script

    def ask(self, key: str, work: Callable[[], Any]) -> None:
        self.answers.ask(key, work)

    def script(self) -> Answers:
        for part in (self._maps, self._unmaps, self._rest, self._dirty, self._vaddr):
            part()
        self.opened.close()
        return self.answers

    def _maps(self) -> None:
        base = self.memory.address
        self.ask("map", lambda: self.map(_AT, _M))
        self.ask("map_same_again", lambda: self.map(_AT, _M))
        self.ask("map_overlap_head", lambda: self.map(_AT - _PAGE, 2 * _PAGE))
        self.ask("map_adjacent", lambda: self.map(_AT + _M, _M, base + _M))
        free = _AT + 16 * _M
        self.ask("map_zero_size", lambda: self.map(free, 0))
        self.ask("map_unaligned_size", lambda: self.map(free, _PAGE + 1))
        self.ask("map_unaligned_iova", lambda: self.map(free + 1, _PAGE))
        self.ask("map_unaligned_vaddr", lambda: self.map(free, _PAGE, base + 1))
        self.ask("map_no_flags", lambda: self.map(free, _PAGE, flags=0))
        self.ask("map_unknown_flag", lambda: self.map(free, _PAGE, flags=_RW | _UNKNOWN))
        self.ask("map_bad_vaddr", lambda: self.map(free, _PAGE, unmapped_address()))
        self.ask("map_null_vaddr", lambda: self.map(free, _PAGE, 0))
        self.ask("map_small_argsz", lambda: self.map(free, _PAGE, argsz=_SHORT))
        self.ask("map_wrap", lambda: self.map((1 << 64) - _PAGE, 2 * _PAGE))
        self.ask("map_last_page", lambda: self.map((1 << 64) - _PAGE, _PAGE))
        self.ask("map_beyond_aw48", lambda: self.map(1 << 48, _PAGE))
        self.ask("map_beyond_aw47_top", lambda: self.map((1 << 48) - _PAGE, _PAGE))
        self.ask("map_msi_window", lambda: self.map(_MSI, _PAGE))
        self.ask("map_straddling_msi_window", lambda: self.map(_MSI - _PAGE, 2 * _PAGE))
        fixed = self.lab.seam.memory(_PAGE)
        _protect(fixed.address, mmap.PROT_READ)
        self.ask("map_rw_of_readonly_memory", lambda: self.map(free, _PAGE, fixed.address))
        self.ask("map_r_of_readonly_memory", lambda: self.map(free, _PAGE, fixed.address, _R))
        self.ask("map_writeonly", lambda: self.map(free + _M, _PAGE, flags=_W))

    def _unmaps(self) -> None:
        # two mappings of a MiB side by side are there
        self.ask("unmap_middle_of_mapping", lambda: self.unmap(_AT + 4 * _PAGE, _PAGE))
        self.ask("unmap_head_part", lambda: self.unmap(_AT, _PAGE))
        self.ask("unmap_tail_part", lambda: self.unmap(_AT + _M - _PAGE, _PAGE))
        self.ask("unmap_span_two", lambda: self.unmap(_AT, 2 * _M))
        self.ask("unmap_nothing", lambda: self.unmap(_AT, _M))
        self.ask("unmap_zero", lambda: self.unmap(_AT, 0))
        self.ask("unmap_unaligned", lambda: self.unmap(_AT + 1, _PAGE))
        self.ask("unmap_small_argsz", lambda: self.unmap(_AT, _PAGE, argsz=_SHORT))
        self.ask("unmap_unknown_flag", lambda: self.unmap(_AT, _PAGE, _UNKNOWN))
        self.ask("unmap_all_flag_nonzero_size", lambda: self.unmap(0, _PAGE, _ALL))
        attempt(lambda: self.map(_AT, _M))
        self.ask("unmap_larger_than_mapping", lambda: self.unmap(_AT - _M // 2, 2 * _M))
        attempt(lambda: self.map(_AT, _M))
        self.ask("unmap_half_covering", lambda: self.unmap(_AT - _M // 2, _M))

    def _rest(self) -> None:
        self.ask("unmap_all", lambda: self.unmap(0, 0, _ALL))
        self.ask("unmap_whole_space", lambda: self.unmap(0, (1 << 64) - _PAGE))
        self.ask("same_vaddr_two_iovas", lambda: [self.map(_AT, _M), self.map(_AT + 8 * _M, _M)])
        self.ask("memlock", lambda: [self.lab.host.sysconf("RLIMIT_MEMLOCK")] * 2)
        self.ask("vmlck_locked", lambda: _status(self.lab))
        attempt(lambda: self.unmap(0, 0, _ALL))

    def _dirty(self) -> None:
        attempt(lambda: self.map(_AT, _M))
        self.ask("dirty_start", lambda: self.dirty(_START))
        self.ask("dirty_start_again", lambda: self.dirty(_START))
        self.ask("dirty_get", lambda: self.dirty(_BITMAP, _AT, _M))
        self.ask("dirty_get_again", lambda: self.dirty(_BITMAP, _AT, _M))
        self.ask("dirty_get_subrange", lambda: self.dirty(_BITMAP, _AT, _M // 2))
        self.ask("dirty_get_unmapped", lambda: self.dirty(_BITMAP, _AT + 32 * _M, _M))
        self.ask("dirty_get_pgsize_2m", lambda: self.dirty(_BITMAP, _AT, _M, 2 * _M))
        self.ask("dirty_get_small_bitmap", lambda: self.dirty(_BITMAP, _AT, _M, room=_WORD))
        self.answers["unmap_get_dirty"] = self.unmap_dirty(_AT, _M)
        self.ask("dirty_stop", lambda: self.dirty(_STOP))
        self.ask("dirty_stop_again", lambda: self.dirty(_STOP))
        self.ask("dirty_get_stopped", lambda: self.dirty(_BITMAP, _AT, _M))
        self.ask("dirty_two_flags", lambda: self.dirty(_START | _STOP))

    def _vaddr(self) -> None:
        attempt(lambda: self.map(_AT, _M))
        self.ask("unmap_vaddr_flag", lambda: self.unmap(_AT, _M, _VADDR))
        self.ask("map_vaddr_flag", lambda: self.map(_AT, _M, flags=abi.VFIO_DMA_MAP_FLAG_VADDR))


def _status(lab: Lab) -> list[str]:
    """What a process has locked and pinned."""
    lines = lab.text("/proc/self/status").split("\n")
    return [line for line in lines if line.startswith(("VmLck", "VmPin"))]


def _memlock() -> Answers:
    """Mapping more than may be locked, as root and as somebody else."""
    answers = Answers()
    for who, privileged in (("root", True), ("user", False)):
        lab = Lab(privileged=privileged)
        try:
            attempt(partial(lab.take, _EDU))
            if not privileged:
                answers.ask("as_user_open_container", partial(lab.open, CONTAINER))
                answers.ask("container_mode", partial(_modes, lab, CONTAINER, f"/dev/vfio/{lab.group(_EDU)}"))
            opened = Opened(lab, _EDU)
            memory = lab.seam.memory(MEMLOCK + _M)
            for how, size in (("over", MEMLOCK + _M), ("within", MEMLOCK // 2)):
                if (who, how) != ("root", "within"):
                    call = partial(lab.seam.map_dma, opened.container, _AT, size, memory.address)
                    answers.ask(f"as_{who}_{how}_memlock", call)
            opened.close()
        finally:
            lab.close()
    return answers


def _modes(lab: Lab, *nodes: str) -> list[str]:
    return [oct(lab.host.stat(node).st_mode) for node in nodes]


def _protect(address: int, access: int) -> None:
    """Change what this process may do with a page of its memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(_PAGE), access):
        raise OSError(ctypes.get_errno(), "mprotect")
