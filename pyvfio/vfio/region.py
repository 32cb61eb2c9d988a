"""Regions: a device's registers, configuration space or data, at an offset of its descriptor.

How a region is reached is said by its flags: ``MMAP`` (whole, or the areas of its sparse-mmap capability) means that
registers can be mapped; anywhere else, and everywhere without the flag (PCI on s390 before Linux 6.15, all of
vfio-ccw), the same access is one ``pread`` or ``pwrite``.  Both give the same answers, so callers do not choose.
PCI functions of IBM Z are read and written also where they can be mapped: only PCI instructions reach through such a
mapping, which loads and stores of a program are not.

Registers are little-endian, as PCI has them, on any host.  Each typed access is one aligned access of its size.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from pyvfio.abi import vfio as abi
from pyvfio.abi.layout import Capability
from pyvfio.arguments import require_kind, require_numbers
from pyvfio.backend import MAP_SHARED, PROT_READ, PROT_WRITE, Backend
from pyvfio.errors import KernelRefused, Misuse, from_oserror

if TYPE_CHECKING:
    from mmap import mmap

__all__ = ["MappedArea", "Region"]

_CODES: Final[dict[int, Literal["B", "H", "I", "Q"]]] = {1: "B", 2: "H", 4: "I", 8: "Q"}
_SWAPPED: Final = sys.byteorder == "big"


@dataclass(frozen=True, slots=True)
class MappedArea:
    """Part of a region that can be mapped: `offset` from its start and `size`, in bytes."""

    offset: int
    size: int


class _Mapping:
    """A mapped area and one view of it per access size."""

    __slots__ = ("_map", "_raw", "area", "views")

    def __init__(self, area: MappedArea, mapped: mmap) -> None:
        self.area = area
        self._map = mapped
        self._raw = memoryview(mapped)
        # A view of a native integer type is read and written with one load or store of that size.
        self.views = {n: self._raw[: area.size // n * n].cast(code) for n, code in _CODES.items() if area.size >= n}

    def close(self) -> None:
        for view in self.views.values():
            view.release()
        self.views.clear()
        self._raw.release()
        self._map.close()


class Region:
    """Region `index` of a device: `size` bytes at `offset` of its descriptor.  Made by `Device.region`.

    `readable` and `writable` say what the kernel allows.
    """

    def __init__(
        self,
        backend: Backend,
        fd: Callable[[], int],
        name: str,
        info: abi.RegionInfo,
        capabilities: list[Capability],
        *,
        takes_instructions: bool = False,
    ) -> None:
        self._backend = backend
        self._fd = fd
        self._name = f"{name} region {info.index}"
        self.index = int(info.index)
        self.size = int(info.size)
        self.offset = int(info.offset)
        self.flags = abi.RegionFlags(info.flags)
        self.readable = bool(self.flags & abi.RegionFlags.READ)
        self.writable = bool(self.flags & abi.RegionFlags.WRITE)
        self.capabilities = capabilities
        self._mappings: list[_Mapping] | None = None
        self._takes_instructions = takes_instructions
        self.access_note = ""

    @property
    def mappable(self) -> bool:
        """Whether it, or part of it, can be mapped."""
        return bool(self.flags & abi.RegionFlags.MMAP)

    @property
    def type(self) -> tuple[int, int] | None:
        """Type and subtype of a region beyond the fixed indexes (``VFIO_REGION_TYPE_*``), else None."""
        for capability in self.capabilities:
            if capability.id == abi.VFIO_REGION_INFO_CAP_TYPE:
                kind = capability.read(abi.RegionInfoCapType)
                return int(kind.type), int(kind.subtype)
        return None

    @property
    def sparse(self) -> list[MappedArea]:
        """The areas that can be mapped: those of the sparse-mmap capability, the whole region without one, or none."""
        if not self.mappable or not self.size:
            return []
        for capability in self.capabilities:
            if capability.id == abi.VFIO_REGION_INFO_CAP_SPARSE_MMAP:
                head = capability.read(abi.RegionInfoCapSparseMmap)
                areas = capability.trailer(abi.RegionInfoCapSparseMmap, abi.RegionSparseMmapArea, head.nr_areas)
                return [MappedArea(int(area.offset), int(area.size)) for area in areas if area.size]
        return [MappedArea(0, self.size)]

    @property
    def msix_mappable(self) -> bool:
        """Whether the MSI-X table may be inside what can be mapped (the kernel's capability says so)."""
        return any(capability.id == abi.VFIO_REGION_INFO_CAP_MSIX_MAPPABLE for capability in self.capabilities)

    @property
    def access(self) -> str:
        """``mmap`` when an area is mapped, ``pread`` otherwise; `access_note` says why a mapping failed, if it did."""
        return "mmap" if self._mapped() else "pread"

    # registers

    def read_u8(self, offset: int) -> int:
        """Read the byte at `offset`.  Errors as `read_u64`."""
        return self._load(offset, 1)

    def read_u16(self, offset: int) -> int:
        """Read 16 bits, little-endian, in one access.  Errors as `read_u64`."""
        return self._load(offset, 2)

    def read_u32(self, offset: int) -> int:
        """Read 32 bits, little-endian, in one access.  Errors as `read_u64`."""
        return self._load(offset, 4)

    def read_u64(self, offset: int) -> int:
        """Read 64 bits, little-endian, in one access (kernels before 6.10 split it in two when it is no mapping).

        Raise `Misuse` when `offset` is not aligned, outside or the region cannot be read; else the errno's class.
        """
        return self._load(offset, 8)

    def write_u8(self, offset: int, value: int) -> None:
        """Write the byte at `offset`.  Errors as `write_u64`."""
        self._store(offset, 1, value)

    def write_u16(self, offset: int, value: int) -> None:
        """Write 16 bits, little-endian, in one access.  Errors as `write_u64`."""
        self._store(offset, 2, value)

    def write_u32(self, offset: int, value: int) -> None:
        """Write 32 bits, little-endian, in one access.  Errors as `write_u64`."""
        self._store(offset, 4, value)

    def write_u64(self, offset: int, value: int) -> None:
        """Write 64 bits, little-endian, in one access (kernels before 6.10 split it in two when it is no mapping).

        Raise `Misuse` when `offset` is not aligned, outside, `value` does not fit or the region cannot be written.
        """
        self._store(offset, 8, value)

    # bytes

    def read(self, offset: int, count: int) -> bytes:
        """Read `count` bytes in one ``pread``.  Raise `Misuse` outside it, `KernelRefused` for a short answer."""
        self._check(offset, count, "read", self.readable)
        return self._get(offset, count)

    def _get(self, offset: int, count: int) -> bytes:
        try:  # as `explained` has it, without what a context manager costs at each register
            data = self._backend.pread(self._fd(), count, self.offset + offset)
        except OSError as error:
            raise from_oserror(error, "read region", self._name) from error
        if len(data) != count:
            raise KernelRefused("read region", self._name, cause=f"{len(data)} of {count} bytes came")
        return data

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` in one ``pwrite``.  Raise `Misuse` outside it, `KernelRefused` when not all is taken."""
        require_kind("Region.write", "data", data, (bytes, bytearray, memoryview), "bytes")
        self._check(offset, len(data), "write", self.writable)
        self._put(offset, bytes(data))

    def _put(self, offset: int, data: bytes) -> None:
        try:
            taken = self._backend.pwrite(self._fd(), data, self.offset + offset)
        except OSError as error:
            raise from_oserror(error, "write region", self._name) from error
        if taken != len(data):
            raise KernelRefused("write region", self._name, cause=f"{taken} of {len(data)} bytes were taken")

    def close(self) -> None:
        """Give up the mappings; a later access makes them again.  `Device.close` does it for its regions."""
        mappings, self._mappings = self._mappings, None
        for mapping in mappings or ():
            mapping.close()

    def __repr__(self) -> str:
        return f"<Region {self.index} size={self.size:#x} {self.flags!r}>"

    # inside

    def _load(self, offset: int, size: int) -> int:
        self._check(offset, size, "read", self.readable)
        self._check_aligned(offset, size)
        view = self._view(offset, size)
        if view is None:
            return int.from_bytes(self._get(offset, size), "little")
        value = int(view[0][view[1]])
        return int.from_bytes(value.to_bytes(size, "big"), "little") if _SWAPPED else value

    def _store(self, offset: int, size: int, value: int) -> None:
        self._check(offset, size, "write", self.writable)
        self._check_aligned(offset, size)
        try:
            fits = 0 <= value < 1 << 8 * size
        except TypeError:
            require_numbers(f"Region.write_u{8 * size}", value=value)
            raise
        if not fits:
            raise Misuse("write region", self._name, cause=f"{value:#x} is no unsigned number of {8 * size} bits")
        view = self._view(offset, size)
        if view is None:
            self._put(offset, value.to_bytes(size, "little"))
        else:
            swapped = int.from_bytes(value.to_bytes(size, "big"), "little") if _SWAPPED else value
            view[0][view[1]] = swapped

    def _view(self, offset: int, size: int) -> tuple[memoryview, int] | None:
        for mapping in self._mapped():
            inside = offset - mapping.area.offset
            if 0 <= inside <= mapping.area.size - size and inside % size == 0 and size in mapping.views:
                return mapping.views[size], inside // size
        return None

    def _mapped(self) -> list[_Mapping]:
        if self._mappings is None:
            self._mappings = []
            if self._takes_instructions and self.mappable:
                self.access_note = "a mapping takes PCI instructions, which loads and stores are not"
                return self._mappings
            try:
                for area in self.sparse:
                    mapped = self._map(area)
                    try:
                        self._mappings.append(_Mapping(area, mapped))
                    except TypeError:  # the software machine sees no loads and stores, and says so by giving no memory
                        mapped.close()
                        self.access_note = "registers of the software machine are reached by pread and pwrite"
            except OSError as error:
                # The flag promises a mapping; where it fails, pread reaches the same registers.
                self.access_note = str(from_oserror(error, "map region", self._name))
        return self._mappings

    def _map(self, area: MappedArea) -> mmap:
        protection = (PROT_READ if self.readable else 0) | (PROT_WRITE if self.writable else 0)
        return self._backend.mmap(self._fd(), area.size, MAP_SHARED, protection, self.offset + area.offset)

    def _check(self, offset: int, count: int, verb: str, allowed: bool) -> None:
        if not allowed:
            raise Misuse(f"{verb} region", self._name, cause=f"its flags are {self.flags!r}, size {self.size:#x}")
        try:
            outside = offset < 0 or count < 0 or offset + count > self.size
        except TypeError:
            require_numbers(f"Region.{verb}", offset=offset, count=count)
            raise
        if outside:
            cause = f"{count} bytes at {offset:#x} are not inside {self.size:#x} bytes"
            raise Misuse(f"{verb} region", self._name, cause=cause)

    def _check_aligned(self, offset: int, size: int) -> None:
        if offset % size:
            cause = f"a register of {size} bytes cannot lie at {offset:#x}"
            raise Misuse("access region", self._name, cause=cause, next_step="use read or write for bytes")
