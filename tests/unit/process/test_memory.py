"""Memory by address: a bad address is an error, never a crash; pinned pages stay."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import subprocess
import sys

import pytest
from pytest_mock import MockerFixture

from pyvfio.process import AnonymousMemory, Pin, ProcessMemory, populate
from pyvfio.process import memory as memory_module
from pyvfio.process.descriptor import identity

PAGE = mmap.PAGESIZE
OWN = ProcessMemory()


@pytest.mark.parametrize(
    ("address", "count"),
    [(0, 1), (16, 8), (-4, 4), ((1 << 64) - 2, 1), ((1 << 64) - 2, 8), (1 << 63, PAGE), (1, 1 << 40)],
)
def test_bad_reads_are_efault(address: int, count: int) -> None:
    with pytest.raises(OSError) as caught:
        OWN.read(address, count)
    assert caught.value.errno == errno.EFAULT


@pytest.mark.parametrize("address", [0, 16, -4, (1 << 64) - 2, 1 << 63])
def test_bad_writes_are_efault(address: int) -> None:
    with pytest.raises(OSError) as caught:
        OWN.write(address, b"12345678")
    assert caught.value.errno == errno.EFAULT


def test_write_to_read_only_memory_is_efault() -> None:
    with mmap.mmap(-1, PAGE, prot=mmap.PROT_READ) as page:
        address = _address_of(page)
        with pytest.raises(OSError) as caught:
            OWN.write(address, b"x")
        assert caught.value.errno == errno.EFAULT
        with pytest.raises(OSError):
            populate(address, PAGE, write=True)
        populate(address, PAGE, write=False)


def _address_of(page: mmap.mmap) -> int:
    with open("/proc/self/maps") as maps:
        known = {line.split("-")[0] for line in maps}
    # a read-only mapping exports no writable buffer, so ctypes cannot tell its address: find it by making it the newest
    del known
    import ctypes

    class View(ctypes.Structure):
        _fields_ = [
            ("buf", ctypes.c_void_p),
            ("obj", ctypes.py_object),
            ("len", ctypes.c_ssize_t),
            ("itemsize", ctypes.c_ssize_t),
            ("readonly", ctypes.c_int),
            ("ndim", ctypes.c_int),
            ("format", ctypes.c_char_p),
            ("shape", ctypes.c_void_p),
            ("strides", ctypes.c_void_p),
            ("suboffsets", ctypes.c_void_p),
            ("internal", ctypes.c_void_p),
        ]

    view = View()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(page), ctypes.byref(view), 0)
    address = view.buf or 0
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(view))
    return address


def test_read_and_write() -> None:
    with AnonymousMemory(2 * PAGE) as memory:
        OWN.write(memory.address + PAGE - 2, b"over")
        assert memory.view[PAGE - 2 : PAGE + 2] == b"over"
        assert OWN.read(memory.address + PAGE - 2, 4) == b"over"
        assert OWN.read(memory.address, 0) == b""


def test_string_ends_at_zero_and_respects_the_limit() -> None:
    with AnonymousMemory(PAGE) as memory:
        memory.view[:6] = b"name\0x"
        assert OWN.string(memory.address, 16) == b"name"
        memory.view[:] = b"a" * PAGE
        with pytest.raises(OSError) as caught:
            OWN.string(memory.address, 16)
        assert caught.value.errno == errno.EINVAL


def test_memory_of_another_process() -> None:
    code = (
        "import ctypes,sys; b=ctypes.create_string_buffer(b'theirs'); "
        "print(ctypes.addressof(b), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        address = int(other.stdout.readline())
        theirs = ProcessMemory(other.pid)
        try:
            assert theirs.read(address, 6) == b"theirs"
        except PermissionError:
            pytest.skip("this sandbox does not let a process read another's memory (ptrace scope)")
        finally:
            other.stdin.close()


@pytest.mark.parametrize("pages", [1, 64])
def test_pin_of_unmapped_memory_is_efault(pages: int) -> None:
    memory = AnonymousMemory(pages * PAGE)
    address = memory.address
    memory.close()
    with pytest.raises(OSError) as caught:
        Pin(OWN, address, pages * PAGE)
    assert caught.value.errno == errno.EFAULT


def test_pin_without_check_fails_at_use() -> None:
    pin = Pin(OWN, PAGE, PAGE, check=False)
    with pytest.raises(OSError) as caught:
        pin.read(0, 4)
    assert caught.value.errno == errno.EFAULT


def test_pin_outside_its_range_is_efault() -> None:
    with AnonymousMemory(PAGE) as memory:
        pin = Pin(OWN, memory.address, PAGE)
        for offset, count in ((-1, 1), (PAGE, 1), (PAGE - 1, 2)):
            with pytest.raises(OSError):
                pin.read(offset, count)
            with pytest.raises(OSError):
                pin.write(offset, bytes(count))
        pin.close()


def test_a_large_pin_outlives_the_mapping() -> None:
    memory = AnonymousMemory(64 * PAGE)
    pin = Pin(OWN, memory.address, 64 * PAGE)
    if not pin.aliased:
        pin.close()
        pytest.skip("this kernel has no PROCMAP_QUERY (before 6.11): pins are made by process_vm_readv")
    memory.view[:4] = b"kept"
    memory.close()
    assert pin.read(0, 4) == b"kept"
    pin.write(0, b"more")
    assert pin.read(0, 4) == b"more"
    pin.close()
    pin.close()


def test_a_file_that_can_be_truncated_is_never_mapped_a_second_time() -> None:
    fd = os.memfd_create("truncatable")
    os.ftruncate(fd, 64 * PAGE)
    with mmap.mmap(fd, 64 * PAGE) as page:
        pin = Pin(OWN, _address_of(page), 64 * PAGE)
        assert not pin.aliased
        os.ftruncate(fd, 0)
        with pytest.raises(OSError) as caught:
            pin.read(0, 4)
        assert caught.value.errno == errno.EFAULT
        pin.close()
    os.close(fd)


@pytest.mark.parametrize("kind", ["alias", "private", "mixed"])
def test_copies_between_pins(kind: str) -> None:
    size = 32 * PAGE

    def make(private: bool) -> mmap.mmap:
        flags = (mmap.MAP_PRIVATE if private else mmap.MAP_SHARED) | mmap.MAP_ANONYMOUS
        return mmap.mmap(-1, size, flags=flags)

    with make(kind != "alias") as source, make(kind == "private") as target:
        source[100:106] = b"source"
        with_source, with_target = Pin(OWN, _address_of(source), size), Pin(OWN, _address_of(target), size)
        with_target.copy_from(5000, with_source, 100, 6)
        assert target[5000:5006] == b"source"
        with_source.close()
        with_target.close()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM])
def test_a_kernel_without_cross_memory_attach(code: int, mocker: MockerFixture) -> None:
    def refuse(*arguments: object) -> int:
        ctypes.set_errno(code)
        return -1

    mocker.patch.object(memory_module, "_attach_missing", False)
    mocker.patch.object(memory_module, "_READV", refuse)
    mocker.patch.object(memory_module, "_WRITEV", refuse)
    with AnonymousMemory(2 * PAGE) as memory:
        OWN.write(memory.address + PAGE - 2, b"over")
        assert OWN.read(memory.address + PAGE - 2, 4) == b"over"
        OWN.copy_within(memory.address, memory.address + PAGE - 2, 4)
        assert memory.view[:4] == b"over"
        assert OWN.string(memory.address, 8) == b"over"
    for address, count in [(0, 1), (-4, 4), ((1 << 64) - 2, 8), (1 << 63, PAGE), (1, 1 << 40)]:
        with pytest.raises(OSError) as caught:
            OWN.read(address, count)
        assert caught.value.errno == errno.EFAULT
        with pytest.raises(OSError) as caught:
            OWN.write(address, b"12345678")
        assert caught.value.errno == errno.EFAULT
    with mmap.mmap(-1, PAGE, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        with pytest.raises(OSError) as caught:
            OWN.write(_address_of(page), b"x")
        assert caught.value.errno == errno.EFAULT


def test_memory_of_a_child_is_its_own() -> None:
    """After a fork, the memory of "this process" is the child's and never the parent's."""
    memory = ProcessMemory()
    with AnonymousMemory(mmap.PAGESIZE) as shared:
        page = ctypes.create_string_buffer(b"parent", 16)
        child = os.fork()
        if child == 0:
            try:
                page.value = b"child"
                shared.view[:5] = memory.read(ctypes.addressof(page), 5)
                memory.write(ctypes.addressof(page), b"CHILD")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert bytes(shared.view[:5]) == b"child"
        assert page.value == b"parent"


def test_more_than_the_kernel_can_count() -> None:
    """Lengths and numbers beyond those of C are refused as too large ones are, not with OverflowError."""
    with pytest.raises(OSError, match="memory") as caught:
        AnonymousMemory(1 << 64, huge=1 << 64)
    assert caught.value.errno == errno.ENOMEM
    assert identity(1 << 40) is None
