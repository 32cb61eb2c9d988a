"""IOMMU_IOAS_MAP_FILE: ranges of memory files in address spaces, and what the library does where a kernel has none.

Sources: ``drivers/iommu/iommufd/ioas.c``, ``io_pagetable.c`` and ``pages.c`` of Linux 6.13, ``memfd_pin_folios()`` in
``mm/gup.c``.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pcie_fixture import EDU, Pcie
from vfio_fixture import Lab, errno_of

import pyvfio
from pyvfio.abi import iommufd as abi
from pyvfio.abi.iommufd_later import IOMMU_IOAS_MAP_FILE, IoasMapFile
from pyvfio.drivers import Edu
from pyvfio.errors import KernelRefused, Misuse, NotModelled, PyvfioError
from pyvfio.iommu import AddressSpace
from pyvfio.iommu.file_mapping import FileMapping
from pyvfio.iommu.iommufd import IoasTable
from pyvfio.pci.edu import DMA_MASK
from pyvfio.process import MemoryFile
from pyvfio_backends.software import software_of
from pyvfio_backends.software.linux.iommufd import IommufdFile
from pyvfio_backends.software.linux.iommufd_files import FilePages

PAGE = 1 << 12
SIZE = 4 * PAGE
BOTH = abi.IOMMU_IOAS_MAP_READABLE | abi.IOMMU_IOAS_MAP_WRITEABLE
FIXED = abi.IOMMU_IOAS_MAP_FIXED_IOVA
LAST = (1 << 64) - 1


def opened_host(**changes: Any) -> pyvfio.Host:
    host = pyvfio.Host(Pcie(**changes).host)
    pyvfio.bind(host.device(EDU))
    return host


@pytest.fixture
def host() -> Iterator[pyvfio.Host]:
    with opened_host(map_file=True) as opened:
        yield opened


@pytest.fixture
def memfd() -> Iterator[int]:
    fd = os.memfd_create("guest")
    os.ftruncate(fd, SIZE)
    yield fd
    os.close(fd)


def answer(host: pyvfio.Host, iommufd: pyvfio.Iommufd, **fields: int) -> int | IoasMapFile:
    """The errno, or the argument as the kernel left it."""
    argument = IoasMapFile.sized(**fields)
    try:
        host.backend.ioctl(iommufd.fileno(), IOMMU_IOAS_MAP_FILE, argument)
    except OSError as error:
        return error.errno or 0
    return argument


def number(space: AddressSpace) -> int:
    assert isinstance(space.table, IoasTable)
    return space.table.ioas_id


@pytest.mark.parametrize("way", ["iommufd", "type1v2"])
@pytest.mark.parametrize("map_file", [True, False])
def test_an_offset_within_a_page_is_to_blame_and_no_address(memfd: int, way: str, map_file: bool) -> None:
    with opened_host(map_file=map_file) as host, pyvfio.open_device(host, EDU, way=way) as device:
        with pytest.raises(PyvfioError, match=f"the file offset 0x801 is no multiple of .* {PAGE:#x}") as caught:
            device.space.map_file(memfd, 0x801, PAGE, iova=PAGE)
        assert caught.value.errno == errno.EINVAL
        assert caught.value.next_step == f"align IOVA, length and offset to {PAGE:#x}"
        with pytest.raises(PyvfioError, match="the process address 0x801 is no multiple"):
            device.space.map(0x801, PAGE, PAGE)
        assert not device.space.mappings()


@pytest.mark.parametrize("way", ["iommufd", "type1v2"])
@pytest.mark.parametrize("map_file", [True, False])
def test_a_device_reads_and_writes_the_file(memfd: int, way: str, map_file: bool) -> None:
    """By the kernel's own call where it has one; the descriptor may be closed meanwhile."""
    with opened_host(map_file=map_file) as host, pyvfio.open_device(host, EDU, way=way) as device, Edu(device) as edu:
        given = os.dup(memfd)
        mapping = device.space.map_file(given, PAGE, 2 * PAGE, below=DMA_MASK + 1)
        os.close(given)
        assert mapping.by_file == (map_file and way == "iommufd")
        assert (mapping.address == 0) == mapping.by_file
        edu.put(b"to the file")
        edu.transfer(mapping.iova + 5, 11, out=True)
        assert os.pread(memfd, 11, PAGE + 5) == b"to the file"
        os.pwrite(memfd, b"from the file", 2 * PAGE)
        edu.transfer(mapping.iova + PAGE, 13, out=False)
        assert edu.get(13) == b"from the file"
        assert mapping in device.space.mappings()
        assert device.space.unmap(mapping.iova, mapping.length) == 2 * PAGE
        device.space.map_file(memfd, 0, SIZE, iova=mapping.iova)


def test_linux_6_12_knows_no_such_request(memfd: int) -> None:
    with opened_host() as host, pyvfio.Iommufd(host) as iommufd, iommufd.allocate() as space:
        got = answer(host, iommufd, flags=BOTH, ioas_id=number(space), fd=memfd, length=PAGE)
        assert got == errno.ENOTTY
        assert not space.map_file(memfd, 0, PAGE, iova=PAGE).by_file


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"flags": BOTH | 1 << 3}, errno.EOPNOTSUPP),
        ({"flags": 1 << 31}, errno.EOPNOTSUPP),
        ({"iova": LAST}, errno.EOVERFLOW),
        ({"length": LAST}, errno.EOVERFLOW),
        ({"flags": 0}, errno.EINVAL),
        ({"flags": FIXED}, errno.EINVAL),
        ({"ioas_id": 77}, errno.ENOENT),
        ({"ioas_id": 77, "fd": -1}, errno.ENOENT),
        ({"fd": -1}, errno.EBADF),
        ({"fd": 9999, "length": 0}, errno.EBADF),
        ({"length": 0}, errno.EINVAL),
        ({"start": LAST, "length": 2}, errno.EOVERFLOW),
        ({"length": LAST - 1}, errno.EINVAL),
        ({"start": LAST - PAGE, "length": PAGE}, 0),
        ({"size": 39}, errno.EINVAL),
        ({"flags": BOTH | FIXED, "iova": 12345}, 0),
    ],
)
def test_the_grammar(host: pyvfio.Host, memfd: int, change: dict[str, int], expected: int) -> None:
    """Without a device nothing is pinned, so a range beyond the file's end is taken."""
    with pyvfio.Iommufd(host) as iommufd, iommufd.allocate() as space:
        fields = {"flags": BOTH, "ioas_id": number(space), "fd": memfd, "start": 0, "length": PAGE} | change
        got = answer(host, iommufd, **fields)
        assert (0 if isinstance(got, IoasMapFile) else got) == expected


def test_the_iova_is_aligned_like_the_place_in_the_file(host: pyvfio.Host, memfd: int) -> None:
    """`iopt_alloc_iova`: the offset stands for the address."""
    with pyvfio.Iommufd(host) as iommufd, iommufd.allocate() as space:
        got = answer(host, iommufd, flags=BOTH, ioas_id=number(space), fd=memfd, start=2 * PAGE + 24, length=16)
        assert isinstance(got, IoasMapFile)
        assert got.iova % PAGE == 24


@pytest.fixture
def attached(host: pyvfio.Host) -> Iterator[AddressSpace]:
    with pyvfio.open_device(host, EDU, way="iommufd") as device:
        yield device.space


def _eventfd() -> int:
    return os.eventfd(0)


def _regular() -> int:
    return os.open(__file__, os.O_RDONLY)


@pytest.mark.parametrize("other", [_eventfd, _regular])
def test_what_is_no_memory(host: pyvfio.Host, attached: AddressSpace, memfd: int, other: Callable[[], int]) -> None:
    fd = other()
    try:
        with pytest.raises(PyvfioError, match="the file is no memory") as caught:
            attached.map_file(fd, 0, PAGE)
        assert caught.value.errno == errno.EINVAL
        assert attached.mappings() == []
        with pyvfio.Iommufd(host) as iommufd, iommufd.allocate() as space:
            assert space.map_file(fd, 0, PAGE, iova=PAGE).by_file  # seen when a device comes
    finally:
        os.close(fd)


def test_of_the_machine_s_own_files(host: pyvfio.Host, attached: AddressSpace) -> None:
    fd = host.backend.open("/dev/vfio/vfio", os.O_RDWR)
    with pytest.raises(PyvfioError) as caught:
        attached.map_file(fd, 0, PAGE)
    assert caught.value.errno == errno.EINVAL
    plain = host.backend.open("/tmp/plain", os.O_RDWR | os.O_CREAT)
    with pytest.raises(NotModelled, match="the machine's own tmpfs"):
        attached.map_file(plain, 0, PAGE)


def test_the_whole_last_page_is_in_the_file(attached: AddressSpace, memfd: int) -> None:
    os.ftruncate(memfd, SIZE - 1)
    for offset, length in ((0, SIZE), (3 * PAGE, PAGE), (1 << 40, PAGE), (0, 1 << 46)):
        with pytest.raises(PyvfioError, match=f"the file has {SIZE - 1:#x} bytes") as caught:
            attached.map_file(memfd, offset, length, iova=PAGE if length <= SIZE else 1 << 33)
        assert caught.value.errno == errno.EINVAL
    attached.map_file(memfd, 0, 3 * PAGE, iova=PAGE)
    assert len(attached.mappings()) == 1


def test_a_file_that_became_long_enough_before_the_device_came(host: pyvfio.Host, memfd: int) -> None:
    with pyvfio.Iommufd(host) as iommufd, iommufd.allocate() as space:
        mapping = space.map_file(memfd, SIZE, PAGE, iova=PAGE)
        with pytest.raises(KernelRefused) as caught:
            pyvfio.open_device(host, EDU, space=space)
        assert caught.value.errno == errno.EINVAL
        os.ftruncate(memfd, 2 * SIZE)
        with pyvfio.open_device(host, EDU, space=space) as device, Edu(device) as edu:
            edu.put(b"late")
            edu.transfer(mapping.iova, 4, out=True)
            assert os.pread(memfd, 4, SIZE) == b"late"


def test_what_is_not_modelled_leaves_no_page_and_no_range_taken(
    host: pyvfio.Host, memfd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NotModelled("such a file")

    with pyvfio.Iommufd(host) as iommufd, iommufd.allocate() as space, space.buffer(PAGE, iova=0) as first:
        space.map_file(memfd, 0, PAGE, iova=SIZE)
        file = software_of(host.backend).machine.kernel.fds.get(iommufd.fileno())
        assert isinstance(file, IommufdFile)
        table = file.context.ioas(number(space)).table
        with monkeypatch.context() as patched:
            patched.setattr(FilePages, "pin", refuse)
            with pytest.raises(NotModelled):
                pyvfio.open_device(host, EDU, space=space)
        assert not table.reserved
        assert [area.pin for area in table.areas] == [None, None]
        with pyvfio.open_device(host, EDU, space=space):
            assert all(area.pin is not None for area in table.areas)
        assert first.iova == 0


def test_memory_that_others_may_only_read(attached: AddressSpace, memfd: int) -> None:
    """Devices may write what the descriptor may not; what is sealed the machine cannot write for them."""
    reading = os.open(f"/proc/self/fd/{memfd}", os.O_RDONLY)
    try:
        assert attached.map_file(reading, 0, PAGE).by_file
    finally:
        os.close(reading)
    sealed = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(sealed, PAGE)
        fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        with pytest.raises(NotModelled, match="may not write"):
            attached.map_file(sealed, 0, PAGE)
        assert attached.map_file(sealed, 0, PAGE, write=False).by_file
    finally:
        os.close(sealed)


def test_a_copy_shares_the_pages(host: pyvfio.Host, memfd: int) -> None:
    """IOAS_COPY, and the original's end."""
    with pyvfio.Iommufd(host) as iommufd, iommufd.allocate() as source, iommufd.allocate() as target:
        source.map_file(memfd, PAGE, PAGE, iova=0)
        copy = abi.IoasCopy.sized(
            flags=BOTH | FIXED, dst_ioas_id=number(target), src_ioas_id=number(source), length=PAGE, dst_iova=2 * PAGE
        )
        host.backend.ioctl(iommufd.fileno(), abi.IOMMU_IOAS_COPY, copy)
        source.unmap_all()
        with pyvfio.open_device(host, EDU, space=target) as device, Edu(device) as edu:
            edu.put(b"copied")
            edu.transfer(2 * PAGE, 6, out=True)
        assert os.pread(memfd, 6, PAGE) == b"copied"


def test_pages_count_as_locked_once(memfd: int) -> None:
    """Of the user, as for IOAS_MAP, where programs have no CAP_IPC_LOCK."""
    with opened_host(map_file=True, memlock=3 * PAGE, ipc_lock=False) as host:
        with pyvfio.open_device(host, EDU, way="iommufd") as device:
            device.space.map_file(memfd, 0, 2 * PAGE, iova=0)
            with pytest.raises(PyvfioError) as caught:
                device.space.map_file(memfd, 0, 2 * PAGE, iova=SIZE)
            assert caught.value.errno == errno.ENOMEM
            device.space.unmap(0, 2 * PAGE)
            device.space.map_file(memfd, PAGE, 3 * PAGE, iova=SIZE)


def test_a_mediated_device_copies_and_pins(memfd: int) -> None:
    """`iopt_pages_rw_slow` and `iopt_pages_fill_xarray`: what is no memory is EINVAL then."""
    lab = Lab()
    lab.kernel.map_file = True
    with lab.host:
        cdev, fd, device = lab.cdev("m0"), lab.iommufd(), lab.fake("m0")
        ioas = lab.ioas(fd)
        lab.bind(cdev, fd)
        lab.attach(cdev, ioas)
        fields = {"flags": BOTH | FIXED, "ioas_id": ioas, "fd": memfd}
        lab.call(fd, IOMMU_IOAS_MAP_FILE, IoasMapFile.sized(**fields, start=PAGE, length=2 * PAGE, iova=0x10000))
        lab.call(fd, IOMMU_IOAS_MAP_FILE, IoasMapFile.sized(**fields, start=SIZE, length=PAGE, iova=0x20000))
        event = os.eventfd(0)
        other = fields | {"fd": event}
        lab.call(fd, IOMMU_IOAS_MAP_FILE, IoasMapFile.sized(**other, start=0, length=PAGE, iova=0x30000))
        device.dma_write(0x10FFC, b"across pages")
        assert os.pread(memfd, 12, 2 * PAGE - 4) == b"across pages" == device.dma_read(0x10FFC, 12)
        pages = device.pin(0x10000, 2)
        lab.kernel.memory.write(pages[1] + 3, b"absolute")
        assert os.pread(memfd, 8, 2 * PAGE + 3) == b"absolute"
        for iova in (0x20000, 0x30000):
            assert errno_of(device.dma_read, iova, 8) == errno_of(device.dma_write, iova, b"x") == errno.EINVAL
            assert errno_of(device.pin, iova) == errno.EINVAL
        device.unpin_pages(0x10000, 2)
        assert lab.ioas_unmap(fd, ioas, 0x10000, 2 * PAGE) == 2 * PAGE
        os.close(event)


@pytest.mark.parametrize("way", ["iommufd", "type1v2"])
@pytest.mark.parametrize("map_file", [True, False])
def test_bad_input_changes_nothing(memfd: int, way: str, map_file: bool) -> None:
    with opened_host(map_file=map_file) as host, pyvfio.open_device(host, EDU, way=way) as device:
        space = device.space
        gc.collect()  # what earlier tests left is not this one's
        before = len(os.listdir("/proc/self/fd"))
        for offset, length in (
            (-1, PAGE),
            (1 << 64, PAGE),
            (1 << 63, PAGE),
            (0, 0),
            (0, -PAGE),
            (SIZE, PAGE),
            (7, PAGE),
        ):
            with pytest.raises(PyvfioError):
                space.map_file(memfd, offset, length, iova=PAGE)
        for fd in (-1, 9999, 1 << 32, (1 << 32) + memfd, -(1 << 32) + memfd, 1 << 70):
            with pytest.raises(PyvfioError, match="is no open descriptor") as caught:
                space.map_file(fd, 0, PAGE, iova=PAGE)
            assert caught.value.errno == errno.EBADF
        with pytest.raises(PyvfioError):
            space.map_file(memfd, 0, PAGE, iova=PAGE, read=False, write=False)
        assert space.mappings() == []
        assert len(os.listdir("/proc/self/fd")) == before
        assert isinstance(space.map_file(memfd, 0, PAGE, iova=PAGE), FileMapping)
        with pytest.raises(KernelRefused, match="another mapping has some of these IOVAs"):
            space.map_file(memfd, 0, PAGE, iova=PAGE)


def test_no_mapping_is_left_behind(host: pyvfio.Host, memfd: int) -> None:
    def mapped() -> int:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            return sum("/memfd:guest" in line and line.split()[4] == inode for line in maps)

    inode = str(os.fstat(memfd).st_ino)  # earlier tests' files of this name may still be mapped

    with pyvfio.open_device(host, EDU, way="iommufd") as device:
        mapping = device.space.map_file(memfd, 0, SIZE)
        assert mapped() == 1
        device.space.unmap(mapping.iova, mapping.length)
        assert mapped() == 0
    with pyvfio.open_device(host, EDU, way="type1v2") as device:
        kept = device.space.map_file(memfd, 0, SIZE)
        device.space.unmap(kept.iova, kept.length)
        assert mapped() == 1
        assert kept.memory is not None
        kept.memory.close()
        assert mapped() == 0


def test_a_memory_file(memfd: int) -> None:
    file = MemoryFile(memfd)
    assert (file.is_memory, file.size) == (True, SIZE)
    part = file.map(PAGE + 7, 10)
    file.close()
    file.close()
    ctypes.memmove(part.address, b"x" * 10, 10)
    assert os.pread(memfd, 12, PAGE + 6) == b"\0" + b"x" * 10 + b"\0"
    part.close()
    part.close()
    with pytest.raises(OSError, match="Bad file"):
        MemoryFile(-1)
    with pytest.raises(OSError, match="Bad file"):
        MemoryFile(9999, pid=os.getppid())
    for offset, length in ((-1, 1), (0, 0), (0, 1 << 63), (1 << 63, 1)):
        with pytest.raises(OSError, match="Invalid"):
            MemoryFile(memfd).map(offset, length)


def test_misuse_is_told_before_the_kernel_is_asked(memfd: int) -> None:
    with opened_host() as host, pyvfio.open_device(host, EDU, way="type1v2") as device:
        with pytest.raises(Misuse, match="the file has"):
            device.space.map_file(memfd, SIZE, PAGE)
