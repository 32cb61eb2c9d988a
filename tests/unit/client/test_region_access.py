"""Registers by mapping and by pread: one access of the register's own size, at its own place."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from client_fake import PAGE, FakeHost

from pyvfio.abi import vfio as abi
from pyvfio.abi.layout import Capability
from pyvfio.errors import KernelRefused, Misuse
from pyvfio.vfio import MappedArea, Region

READ, WRITE, MMAP = (
    abi.VFIO_REGION_INFO_FLAG_READ,
    abi.VFIO_REGION_INFO_FLAG_WRITE,
    abi.VFIO_REGION_INFO_FLAG_MMAP,
)
MAPPED, PLAIN = READ | WRITE | MMAP, READ | WRITE
START = PAGE  # where the region lies in the device's file
Make = Callable[..., Region]


@pytest.fixture
def fake() -> FakeHost:
    host = FakeHost()
    host.memory[START : START + 16] = bytes(range(16))
    return host


@pytest.fixture
def make(fake: FakeHost) -> Make:
    def region(flags: int, size: int = 2 * PAGE, capabilities: list[Capability] | None = None) -> Region:
        info = abi.RegionInfo.sized(flags=flags, index=0, size=size, offset=START)
        return Region(fake, lambda: 5, "0011:00:00.0", info, capabilities or [])

    return region


def sparse(*areas: tuple[int, int]) -> Capability:
    payload = struct.pack("=II", len(areas), 0) + b"".join(struct.pack("=QQ", *area) for area in areas)
    return Capability(abi.VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, payload)


# what cannot be


@pytest.mark.parametrize("flags", [MAPPED, PLAIN])
@pytest.mark.parametrize("offset", [-4, 2, 2 * PAGE - 2, 2 * PAGE, 1 << 40])
def test_registers_out_of_place(fake: FakeHost, make: Make, flags: int, offset: int) -> None:
    region = make(flags)
    with pytest.raises(Misuse):
        region.read_u32(offset)
    with pytest.raises(Misuse):
        region.write_u32(offset, 1)
    assert fake.calls == []


@pytest.mark.parametrize("value", [-1, 1 << 32])
def test_a_value_that_does_not_fit(fake: FakeHost, make: Make, value: int) -> None:
    with pytest.raises(Misuse, match="32 bits"):
        make(PLAIN).write_u32(0, value)
    assert fake.calls == []


def test_what_the_flags_do_not_allow(make: Make) -> None:
    with pytest.raises(Misuse, match="read region"):
        make(WRITE).read_u8(0)
    with pytest.raises(Misuse, match="write region"):
        make(READ).write_u8(0, 1)
    with pytest.raises(Misuse):
        make(0, size=0).read(0, 1)


def test_a_short_answer(fake: FakeHost, make: Make) -> None:
    fake.pread = lambda fd, n, offset: b"\0"  # type: ignore[method-assign]
    fake.pwrite = lambda fd, data, offset: 1  # type: ignore[method-assign]
    with pytest.raises(KernelRefused, match="1 of 4 bytes came"):
        make(PLAIN).read_u32(0)
    with pytest.raises(KernelRefused, match="1 of 4 bytes were taken"):
        make(PLAIN).write_u32(0, 0)


# what works


@pytest.mark.parametrize("flags", [MAPPED, PLAIN])
def test_registers_are_little_endian(make: Make, flags: int) -> None:
    region = make(flags)
    assert region.access == ("mmap" if flags & MMAP else "pread")
    assert region.read_u8(3) == 0x03
    assert region.read_u16(2) == 0x0302
    assert region.read_u32(4) == 0x07060504
    assert region.read_u64(8) == 0x0F0E0D0C0B0A0908
    region.write_u32(0, 0x11223344)
    assert [region.read_u8(at) for at in range(4)] == [0x44, 0x33, 0x22, 0x11]
    region.close()


@pytest.mark.parametrize(("size", "name"), [(1, "u8"), (2, "u16"), (4, "u32"), (8, "u64")])
def test_one_access_for_one_register(fake: FakeHost, make: Make, size: int, name: str) -> None:
    region = make(PLAIN)
    getattr(region, f"read_{name}")(8)
    getattr(region, f"write_{name}")(8, 0x7F)
    assert fake.calls == [("pread", size, START + 8), ("pwrite", (0x7F).to_bytes(size, "little"), START + 8)]


def test_a_mapped_register_makes_no_call(fake: FakeHost, make: Make) -> None:
    region = make(MAPPED)
    for _ in range(3):
        region.write_u32(8, region.read_u32(4))
    assert fake.calls == [("mmap", 2 * PAGE, 3, START)]
    region.close()


def test_protection_follows_the_flags(fake: FakeHost, make: Make) -> None:
    region = make(READ | MMAP)
    assert region.read_u8(1) == 1
    assert fake.calls == [("mmap", 2 * PAGE, 1, START)]
    region.close()


def test_only_sparse_areas_are_mapped(fake: FakeHost, make: Make) -> None:
    region = make(MAPPED, capabilities=[sparse((PAGE, PAGE), (0, 0))])
    assert region.sparse == [MappedArea(PAGE, PAGE)]
    fake.memory[START + PAGE : START + PAGE + 4] = b"\1\0\0\0"
    assert region.read_u32(PAGE) == 1
    assert region.read_u32(PAGE - 4) == 0
    assert fake.calls == [("mmap", PAGE, 3, START + PAGE), ("pread", 4, START + PAGE - 4)]
    region.close()


def test_a_region_smaller_than_a_page(fake: FakeHost, make: Make) -> None:
    region = make(MAPPED, size=12)
    assert region.read_u32(8) == 0x0B0A0908
    assert region.read_u64(0) == 0x0706050403020100
    assert fake.calls == [("mmap", 12, 3, START)]
    region.close()


def test_a_mapping_that_fails_is_noted(fake: FakeHost, make: Make) -> None:
    fake.mappable = False
    region = make(MAPPED)
    assert region.read_u32(4) == 0x07060504
    assert region.access == "pread"
    assert "EINVAL" in region.access_note
    assert [one[0] for one in fake.calls] == ["mmap", "pread"]


def test_close_and_use_again(make: Make) -> None:
    region = make(MAPPED)
    assert region.read_u8(1) == 1
    region.close()
    region.close()
    assert region.read_u8(1) == 1
    region.close()


def test_type_of_a_region(make: Make) -> None:
    assert make(PLAIN).type is None
    kind = Capability(abi.VFIO_REGION_INFO_CAP_TYPE, 1, struct.pack("=II", 2, 1))
    assert make(PLAIN, capabilities=[kind]).type == (2, 1)
    mappable = Capability(abi.VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, 1, b"")
    assert make(PLAIN, capabilities=[mappable]).msix_mappable
