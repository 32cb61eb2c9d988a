"""Mappings of a process by address: ends and page sizes, by either way that a kernel tells them."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os

import pytest

from pyvfio.process import AnonymousMemory, vma

PAGE = mmap.PAGESIZE
MIB2 = 2 << 20


def refuse(*_: object) -> int:
    raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))


@pytest.fixture(params=["query", "smaps"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "smaps":
        monkeypatch.setattr(vma.fcntl, "ioctl", refuse)
    return str(request.param)


def test_a_mapping(way: str) -> None:
    with AnonymousMemory(8 * PAGE) as memory:
        for pid in (None, os.getpid()):
            (one,) = vma.covering(memory.address + PAGE, 3 * PAGE, pid)
            assert one.start <= memory.address
            assert one.end >= memory.address + memory.length
            assert one.page_size == PAGE


def test_several(way: str) -> None:
    with AnonymousMemory(4 * PAGE) as memory:
        libc = ctypes.CDLL(None)
        assert not libc.mprotect(ctypes.c_void_p(memory.address + PAGE), ctypes.c_size_t(PAGE), mmap.PROT_READ)
        found = vma.covering(memory.address, 3 * PAGE)
        assert [one.end - memory.address for one in found][:2] == [PAGE, 2 * PAGE]
        assert len(found) == 3


def test_nothing_is_there() -> None:
    assert vma.query(0) is None
    assert vma.covering(0, PAGE) == []


def test_names_need_room() -> None:
    with AnonymousMemory(PAGE) as memory:
        named = vma.query(memory.address, room=64)
        assert named is not None
        assert named.name == b"/dev/zero (deleted)"
        assert vma.query(memory.address, room=4) is None
        assert vma.query(memory.address) == named._replace(name=b"")


def test_a_kernel_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vma.fcntl, "ioctl", refuse)
    gone = 1 << 30
    assert vma.query(0x1000, gone) is None
    assert vma.covering(0x1000, PAGE, gone) == [vma.Vma(0x1000, 0x1000 + PAGE, PAGE)]


def test_huge_pages(way: str) -> None:
    try:
        memory = AnonymousMemory(MIB2, huge=MIB2)
    except OSError as error:
        pytest.skip(f"no huge page of 2 MiB is free: {error}")
    with memory:
        assert [one.page_size for one in vma.covering(memory.address, MIB2)] == [MIB2]
