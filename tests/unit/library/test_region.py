"""Registers by mapping and by pread: the same answers, one access each, and the way that the flags allow.

No kernel that the project tests on maps a BAR of s390, so a region of a temporary file stands for one.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyvfio.abi import vfio as abi
from pyvfio.abi.layout import Capability
from pyvfio.backend import Backend, open_backend
from pyvfio.errors import KernelRefused, Misuse
from pyvfio.vfio import MappedArea, Region

PAGE = mmap.PAGESIZE
SIZE = 3 * PAGE
START = 2 * PAGE
READ, WRITE, MAP = abi.RegionFlags.READ, abi.RegionFlags.WRITE, abi.RegionFlags.MMAP
PATTERN = bytes(range(1, 33))


class Counting:
    """The kernel backend, with a list of the calls that reach registers."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.calls: list[tuple[str, int, int]] = []
        self.maps = True

    def __getattr__(self, name: str) -> object:
        return getattr(self.backend, name)

    def pread(self, fd: int, n: int, offset: int) -> bytes:
        self.calls.append(("pread", n, offset))
        return self.backend.pread(fd, n, offset)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        self.calls.append(("pwrite", len(data), offset))
        return self.backend.pwrite(fd, data, offset)

    def mmap(self, fd: int, length: int, flags: int, prot: int, offset: int) -> mmap.mmap:
        self.calls.append(("mmap", length, offset))
        if not self.maps:
            raise OSError(22, os.strerror(22))
        return self.backend.mmap(fd, length, flags, prot, offset)


class Registers:
    """A file that is a device: its region begins at `START`."""

    def __init__(self, backend: Backend, path: Path) -> None:
        path.write_bytes(bytes(START) + PATTERN.ljust(SIZE, b"\0"))
        self.backend = Counting(backend)
        self.path = path
        self.fd = os.open(path, os.O_RDWR)

    def region(self, flags: abi.RegionFlags, *capabilities: Capability, size: int = SIZE) -> Region:
        info = abi.RegionInfo(flags=flags, index=7, size=size, offset=START)
        return Region(self.backend, lambda: self.fd, "file", info, list(capabilities))  # type: ignore[arg-type]

    def content(self, offset: int, count: int) -> bytes:
        return self.path.read_bytes()[START + offset : START + offset + count]


@pytest.fixture
def registers(tmp_path: Path) -> Iterator[Registers]:
    with open_backend("kernel") as backend:
        made = Registers(backend, tmp_path / "device")
        yield made
        os.close(made.fd)


def sparse(*areas: tuple[int, int]) -> Capability:
    head = bytes(abi.RegionInfoCapSparseMmap(nr_areas=len(areas)))
    body = head[8:] + b"".join(struct.pack("=QQ", *area) for area in areas)
    whole = bytearray(struct.pack("=HHI", abi.VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, 0) + body)
    from pyvfio.abi.layout import parse_capability_chain

    (capability,) = parse_capability_chain(bytes(64) + bytes(whole), 64, "region info")
    return capability


@pytest.mark.parametrize("flags", [READ | WRITE, READ | WRITE | MAP], ids=["pread", "mmap"])
@pytest.mark.parametrize(
    ("offset", "size"), [(SIZE, 1), (SIZE - 1, 2), (-1, 1), (1, 2), (2, 4), (4, 8), (SIZE - 4, 8), (1 << 64, 4)]
)
def test_an_access_that_cannot_be(registers: Registers, flags: abi.RegionFlags, offset: int, size: int) -> None:
    region = registers.region(flags)
    with pytest.raises(Misuse):
        getattr(region, f"read_u{8 * size}")(offset)
    with pytest.raises(Misuse):
        getattr(region, f"write_u{8 * size}")(offset, 0)
    assert registers.content(0, 32) == PATTERN
    assert not any(name.startswith("p") for name, _, _ in registers.backend.calls)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("flags", [READ | WRITE, READ | WRITE | MAP], ids=["pread", "mmap"])
def test_a_value_that_does_not_fit(registers: Registers, flags: abi.RegionFlags, size: int) -> None:
    region = registers.region(flags)
    for value in (-1, 1 << 8 * size):
        with pytest.raises(Misuse, match="unsigned number"):
            getattr(region, f"write_u{8 * size}")(0, value)
    assert registers.content(0, 32) == PATTERN


@pytest.mark.parametrize("mapped", [abi.RegionFlags(0), MAP])
def test_what_the_flags_forbid(registers: Registers, mapped: abi.RegionFlags) -> None:
    with pytest.raises(Misuse):
        registers.region(WRITE | mapped).read_u8(0)
    with pytest.raises(Misuse):
        registers.region(READ | mapped).write_u8(0, 0)
    assert registers.content(0, 1) == PATTERN[:1]


def test_a_read_that_ends_early(registers: Registers) -> None:
    region = registers.region(READ, size=2 * SIZE)
    with pytest.raises(KernelRefused, match="0 of 4 bytes came"):
        region.read_u32(SIZE)


@pytest.mark.parametrize("flags", [READ | WRITE, READ | WRITE | MAP], ids=["pread", "mmap"])
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_registers_are_little_endian_and_one_access(registers: Registers, flags: abi.RegionFlags, size: int) -> None:
    region = registers.region(flags)
    offset = 8
    assert getattr(region, f"read_u{8 * size}")(offset) == int.from_bytes(PATTERN[offset : offset + size], "little")
    value = int.from_bytes(bytes(range(0xA0, 0xA0 + size)), "little")
    getattr(region, f"write_u{8 * size}")(offset, value)
    region.close()
    assert registers.content(offset, size) == bytes(range(0xA0, 0xA0 + size))
    assert registers.content(0, offset) == PATTERN[:offset]
    assert registers.content(offset + size, 8) == PATTERN[offset + size : offset + size + 8]
    if flags & MAP:
        assert registers.backend.calls == [("mmap", SIZE, START)]
        assert region.access == "mmap"
    else:
        assert registers.backend.calls == [("pread", size, START + offset), ("pwrite", size, START + offset)]
        assert region.access == "pread"


def test_areas_that_can_be_mapped_are_and_the_rest_is_read(registers: Registers) -> None:
    region = registers.region(READ | WRITE | MAP, sparse((0, PAGE), (2 * PAGE, PAGE)))
    assert region.sparse == [MappedArea(0, PAGE), MappedArea(2 * PAGE, PAGE)]
    region.write_u32(4, 1)
    region.write_u32(PAGE + 4, 2)
    region.write_u32(2 * PAGE + 4, 3)
    region.close()
    assert [registers.content(n * PAGE + 4, 4) for n in range(3)] == [struct.pack("<I", n) for n in (1, 2, 3)]
    assert registers.backend.calls == [
        ("mmap", PAGE, START),
        ("mmap", PAGE, START + 2 * PAGE),
        ("pwrite", 4, START + PAGE + 4),
    ]


def test_a_mapping_that_fails_falls_back(registers: Registers) -> None:
    registers.backend.maps = False
    region = registers.region(READ | WRITE | MAP)
    assert region.read_u32(0) == int.from_bytes(PATTERN[:4], "little")
    assert region.access == "pread"
    assert "EINVAL" in region.access_note
    assert [name for name, _, _ in registers.backend.calls] == ["mmap", "pread"]


def test_a_region_is_mapped_again_after_close(registers: Registers) -> None:
    region = registers.region(READ | MAP)
    first = region.read_u8(0)
    region.close()
    region.close()
    assert region.read_u8(0) == first
    assert [name for name, _, _ in registers.backend.calls] == ["mmap", "mmap"]
    region.close()


def test_an_empty_region_is_not_mapped(registers: Registers) -> None:
    region = registers.region(READ | WRITE | MAP, size=0)
    assert region.sparse == []
    with pytest.raises(Misuse):
        region.read_u8(0)
    assert registers.backend.calls == []
