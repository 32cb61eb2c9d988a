"""Memory of one function as a dma-buf in the address space of another, as Linux 6.19 does it.

Sources: ``drivers/vfio/pci/vfio_pci_dmabuf.c``, ``vfio_pci_core.c`` and ``vfio_pci_config.c``,
``drivers/iommu/iommufd/io_pagetable.c`` and ``pages.c`` of Linux 6.19.
"""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Callable, Iterator

import pytest
from pcie_fixture import EDU, NVME, Pcie, lab_spec
from vfio_fixture import Lab, errno_of

import pyvfio
from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio_feature
from pyvfio.abi.iommufd_later import IOMMU_IOAS_MAP_FILE, IoasMapFile
from pyvfio.abi.vfio_later import VFIO_DEVICE_FEATURE_DMA_BUF, DeviceFeatureDmaBuf, RegionDmaRange
from pyvfio.drivers import Edu
from pyvfio.errors import KernelRefused, NotAvailable, NotModelled, PyvfioError
from pyvfio.iommu import AddressSpace
from pyvfio.pci.edu import DMA_MASK
from pyvfio.vfio import Device
from pyvfio_backends.software.description import PcieFunctionSpec
from pyvfio_backends.software.linux.vfio_pci_dmabuf import DmaBuf, Piece

MEMORY, TESTDEV = "0000:00:10.0", "0000:00:07.0"
PAGE = 1 << 12
BAR = 2
SIZE = 4 * PAGE
MEMORY_ON = 2


def machine(**changes: bool) -> Pcie:
    extra = PcieFunctionSpec("ivshmem", "0000:00", at="10.0", options={"size": SIZE})
    return Pcie(pcie_functions=[*lab_spec().pcie_functions, extra], **changes)


@pytest.fixture
def host() -> Iterator[pyvfio.Host]:
    with pyvfio.Host(machine(dma_buf=True).host) as opened:
        for name in (EDU, MEMORY, TESTDEV):
            pyvfio.bind(opened.device(name))
        yield opened


@pytest.fixture
def peer(host: pyvfio.Host) -> Iterator[Device]:
    with pyvfio.open_device(host, MEMORY, way="iommufd") as opened:
        opened.config.command |= MEMORY_ON
        yield opened


@pytest.fixture
def space(host: pyvfio.Host) -> Iterator[AddressSpace]:
    """That of edu."""
    with pyvfio.Iommufd(host) as iommufd, iommufd.allocate() as made:
        yield made


@pytest.fixture
def edu(host: pyvfio.Host, space: AddressSpace) -> Iterator[Edu]:
    with pyvfio.open_device(host, EDU, space=space) as device, Edu(device) as driver:
        yield driver


@pytest.fixture
def export(host: pyvfio.Host, peer: Device) -> Iterator[Callable[..., int]]:
    made: list[int] = []

    def exported(*pieces: tuple[int, int]) -> int:
        made.append(peer.export_dma_buf(BAR, pieces or [(0, SIZE)]))
        return made[-1]

    yield exported
    for fd in made:
        host.backend.close(fd)


def reaches(edu: Edu, peer: Device, iova: int, offset: int) -> bool:
    """Whether DMA to `iova` arrives at `offset` of the peer's memory, and comes back."""
    peer.bar(BAR).write(offset, b"before")
    edu.put(b"peer-2")
    edu.transfer(iova, 6, out=True)
    arrived = peer.bar(BAR).read(offset, 6) == b"peer-2"
    edu.put(bytes(6), 64)
    edu.transfer(iova, 6, 64, out=False)
    assert (edu.get(6, 64) == b"peer-2") is arrived
    return arrived


def test_dma_of_one_function_reaches_the_memory_of_another(
    host: pyvfio.Host, edu: Edu, space: AddressSpace, peer: Device, export: Callable[..., int]
) -> None:
    mapping = space.map_file(export((PAGE, 2 * PAGE)), PAGE, PAGE, below=DMA_MASK + 1)
    assert mapping.by_file
    assert reaches(edu, peer, mapping.iova + 8, 2 * PAGE + 8)
    space.unmap(mapping.iova, PAGE)
    edu.put(b"gone..")
    edu.transfer(mapping.iova + 8, 6, out=True)
    assert peer.bar(BAR).read(2 * PAGE + 8, 6) == b"peer-2"


def test_registers_of_another_function(host: pyvfio.Host, edu: Edu, space: AddressSpace) -> None:
    """The requests go to its base address: edu's DMA writes a test register of the test device."""
    with pyvfio.open_device(host, TESTDEV, way="iommufd") as device:
        device.config.command |= MEMORY_ON
        fd = device.export_dma_buf(0)
        mapping = space.map_file(fd, 0, PAGE, below=DMA_MASK + 1)
        edu.transfer(mapping.iova, 8, 64, out=False)
        assert edu.get(8, 64) == device.bar(0).read(0, 8)
        host.backend.close(fd)


def test_the_descriptor_may_be_closed(host: pyvfio.Host, edu: Edu, space: AddressSpace, peer: Device) -> None:
    fd = peer.export_dma_buf(BAR, [(0, SIZE)])
    mapping = space.map_file(fd, 0, SIZE, below=DMA_MASK + 1)
    host.backend.close(fd)
    assert reaches(edu, peer, mapping.iova, 0)


def _off(peer: Device) -> None:
    peer.config.command &= ~MEMORY_ON


def _on(peer: Device) -> None:
    peer.config.command |= MEMORY_ON


def test_it_is_revoked_and_has_to_be_mapped_anew(
    host: pyvfio.Host, edu: Edu, space: AddressSpace, peer: Device, export: Callable[..., int]
) -> None:
    fd = export()
    mapping = space.map_file(fd, 0, PAGE, below=DMA_MASK + 1)
    assert reaches(edu, peer, mapping.iova, 0)
    _off(peer)
    with pytest.raises(KernelRefused, match="the dma-buf was revoked") as caught:
        space.map_file(fd, 0, PAGE, below=DMA_MASK + 1)
    assert caught.value.errno == errno.ENODEV
    _on(peer)
    assert not reaches(edu, peer, mapping.iova, 0)
    space.unmap(mapping.iova, PAGE)
    again = space.map_file(fd, 0, PAGE, below=DMA_MASK + 1)
    assert reaches(edu, peer, again.iova, 0)


def _ask_for_reset(device: Device) -> None:
    express = device.config.capability(regs.PCI_CAP_ID_EXP)
    assert express is not None
    device.config.write_u16(express.offset + regs.PCI_EXP_DEVCTL, regs.PCI_EXP_DEVCTL_BCR_FLR)


def _sleep(device: Device) -> None:
    power = device.config.capability(regs.PCI_CAP_ID_PM)
    assert power is not None
    for state in (3, 0):
        device.config.write_u16(power.offset + regs.PCI_PM_CTRL, state)


def _hot_reset(device: Device) -> None:
    device.hot_reset()


@pytest.mark.parametrize("event", [Device.reset, _ask_for_reset, _sleep, _hot_reset])
def test_each_way_to_lose_the_memory(
    host: pyvfio.Host, edu: Edu, space: AddressSpace, event: Callable[[Device], None]
) -> None:
    """A reset by request, by the register, of the bus; and D3hot.  The memory is back at once, the mapping is not."""
    pyvfio.bind(host.device(NVME))
    with pyvfio.open_device(host, NVME, way="iommufd") as device:
        _on(device)
        capabilities = device.bar(0).read(0, 8)
        fd = device.export_dma_buf(0, [(0, PAGE)])

        def seen() -> bool:
            mapping = space.map_file(fd, 0, PAGE, below=DMA_MASK + 1)
            edu.put(bytes(8), 64)
            edu.transfer(mapping.iova, 8, 64, out=False)
            found = edu.get(8, 64) == capabilities
            event(device)
            edu.put(bytes(8), 64)
            edu.transfer(mapping.iova, 8, 64, out=False)
            assert edu.get(8, 64) != capabilities
            space.unmap(mapping.iova, PAGE)
            return found

        assert seen()
        _on(device)
        assert seen()
        host.backend.close(fd)


def test_while_the_function_sleeps(
    host: pyvfio.Host, edu: Edu, space: AddressSpace, peer: Device, export: Callable[..., int]
) -> None:
    fd = export()
    peer.feature.set(vfio_feature.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY)
    with pytest.raises(KernelRefused) as caught:
        space.map_file(fd, 0, PAGE, below=DMA_MASK + 1)
    assert caught.value.errno == errno.ENODEV
    peer.feature.set(vfio_feature.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT)
    mapping = space.map_file(fd, 0, PAGE, below=DMA_MASK + 1)
    assert reaches(edu, peer, mapping.iova, 0)


def test_when_the_device_is_closed(host: pyvfio.Host, edu: Edu, space: AddressSpace) -> None:
    with pyvfio.open_device(host, MEMORY, way="iommufd") as device:
        _on(device)
        fd = device.export_dma_buf(BAR, [(0, SIZE)])
        mapping = space.map_file(fd, 0, PAGE, below=DMA_MASK + 1)
    with pyvfio.open_device(host, MEMORY, way="iommufd") as device:
        _on(device)
        assert not reaches(edu, device, mapping.iova, 0)
        with pytest.raises(KernelRefused) as caught:
            space.map_file(fd, 0, PAGE, below=DMA_MASK + 1)
        assert caught.value.errno == errno.ENODEV
    host.backend.close(fd)


def test_one_that_is_made_while_there_is_no_memory(
    host: pyvfio.Host, edu: Edu, space: AddressSpace, peer: Device
) -> None:
    _off(peer)
    fd = peer.export_dma_buf(BAR, [(0, PAGE)])
    with pytest.raises(KernelRefused, match="revoked"):
        space.map_file(fd, 0, PAGE, below=DMA_MASK + 1)
    _on(peer)
    mapping = space.map_file(fd, 0, PAGE, below=DMA_MASK + 1)
    assert reaches(edu, peer, mapping.iova, 0)
    host.backend.close(fd)


def test_what_iommufd_does_not_map(edu: Edu, space: AddressSpace, export: Callable[..., int]) -> None:
    with pytest.raises(PyvfioError, match="one piece of a VFIO device's memory") as caught:
        space.map_file(export((0, PAGE), (2 * PAGE, PAGE)), 0, PAGE)
    assert caught.value.errno == errno.EOPNOTSUPP
    fd = export((0, PAGE))
    for offset, length in ((0, 2 * PAGE), (PAGE, PAGE), (1 << 40, PAGE)):
        with pytest.raises(PyvfioError) as caught:
            space.map_file(fd, offset, length, iova=PAGE << 4)
        assert caught.value.errno == errno.EINVAL


def test_a_device_that_comes_later(host: pyvfio.Host, peer: Device, export: Callable[..., int]) -> None:
    """Also when the memory is gone by then: the mapping is there, and leads nowhere."""
    with pyvfio.Iommufd(host) as iommufd, iommufd.allocate() as space:
        space.map_file(export(), 0, PAGE, iova=PAGE)
        with pyvfio.open_device(host, EDU, space=space) as device, Edu(device) as edu:
            assert reaches(edu, peer, PAGE, 0)
        _off(peer)
        _on(peer)
        with pyvfio.open_device(host, EDU, space=space) as device, Edu(device) as edu:
            assert not reaches(edu, peer, PAGE, 0)


HEAD = {"region_index": BAR, "open_flags": os.O_RDWR | os.O_CLOEXEC, "flags": 0, "nr_ranges": 1}


@pytest.mark.parametrize(
    ("head", "ranges", "expected"),
    [
        ({"nr_ranges": 0}, [], errno.EINVAL),
        ({"flags": 1}, [(0, PAGE)], errno.EINVAL),
        ({"region_index": 6}, [(0, PAGE)], errno.ENODEV),
        ({"region_index": 7}, [(0, PAGE)], errno.ENODEV),
        ({"region_index": 0xFFFFFFFF}, [(0, PAGE)], errno.ENODEV),
        ({"region_index": 4}, [(0, PAGE)], errno.EINVAL),
        ({"region_index": 3}, [(0, PAGE)], errno.EINVAL),
        ({}, [(0, 0)], errno.EINVAL),
        ({}, [(8, PAGE)], errno.EINVAL),
        ({}, [(0, PAGE + 8)], errno.EINVAL),
        ({}, [(0, 1 << 63)], errno.EINVAL),
        ({"nr_ranges": 2}, [(0, (1 << 64) - PAGE), (0, PAGE)], errno.EINVAL),
        ({}, [((1 << 64) - PAGE, PAGE)], errno.EOVERFLOW),
        ({}, [(1 << 40, PAGE)], errno.EINVAL),
        ({"nr_ranges": 1 << 20}, [(0, PAGE)], errno.ENOMEM),
    ],
)
def test_bad_requests(
    host: pyvfio.Host, peer: Device, head: dict[str, int], ranges: list[tuple[int, int]], expected: int
) -> None:
    gc.collect()  # what earlier tests left is not this one's
    before = len(os.listdir("/proc/self/fd"))
    tail = b"".join(bytes(RegionDmaRange(offset=offset, length=length)) for offset, length in ranges)
    with pytest.raises(PyvfioError) as caught:
        peer.feature.make(VFIO_DEVICE_FEATURE_DMA_BUF, bytes(DeviceFeatureDmaBuf(**HEAD | head)) + tail)
    assert caught.value.errno == expected
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_feature_is_probed_and_only_got(peer: Device) -> None:
    payload = bytes(DeviceFeatureDmaBuf(**HEAD)) + bytes(RegionDmaRange(offset=0, length=PAGE))
    assert peer.feature.probe(VFIO_DEVICE_FEATURE_DMA_BUF, get=True)
    assert not peer.feature.probe(VFIO_DEVICE_FEATURE_DMA_BUF, set=True)
    with pytest.raises(PyvfioError) as caught:
        peer.feature.set(VFIO_DEVICE_FEATURE_DMA_BUF, payload)
    assert caught.value.errno == errno.EINVAL


def test_before_linux_6_19() -> None:
    with pyvfio.Host(machine(map_file=True).host) as host:
        pyvfio.bind(host.device(MEMORY))
        with pyvfio.open_device(host, MEMORY) as device, pytest.raises(NotAvailable) as caught:
            device.export_dma_buf(BAR)
        assert caught.value.errno == errno.ENOTTY


def test_a_file_is_a_file_in_6_19_too(edu: Edu, space: AddressSpace) -> None:
    """But the range is looked at before the descriptor."""
    fd = os.memfd_create("plain")
    os.ftruncate(fd, PAGE)
    mapping = space.map_file(fd, 0, PAGE, below=DMA_MASK + 1)
    edu.put(b"file")
    edu.transfer(mapping.iova, 4, out=True)
    assert os.pread(fd, 4, 0) == b"file"
    os.close(fd)
    with pytest.raises(PyvfioError) as caught:
        space.map_file(9999, 0, 0, iova=PAGE)
    assert caught.value.errno == errno.EINVAL


def test_mediated_devices_neither_copy_nor_pin_it() -> None:
    """`iopt_pages_rw_access`; pinning is refused by kernels after 6.19, which forgot it (`iopt_area_add_access`)."""
    lab = Lab()
    lab.kernel.map_file = lab.kernel.dma_buf = True
    with lab.host:
        cdev, fd, device = lab.cdev("m0"), lab.iommufd(), lab.fake("m0")
        ioas = lab.ioas(fd)
        lab.bind(cdev, fd)
        lab.attach(cdev, ioas)
        function = Pcie().device(EDU)
        buffer = lab.kernel.fds.install(DmaBuf(function, [Piece(0, 0, PAGE)], revoked=False), "/dmabuf:")
        lab.call(fd, IOMMU_IOAS_MAP_FILE, IoasMapFile.sized(flags=7, ioas_id=ioas, fd=buffer, length=PAGE, iova=PAGE))
        assert errno_of(device.dma_read, PAGE, 8) == errno_of(device.dma_write, PAGE, b"x") == errno.EINVAL
        assert errno_of(device.pin, PAGE) == errno.EINVAL
        assert lab.ioas_unmap(fd, ioas, PAGE, PAGE) == PAGE


def test_the_dma_buf_itself(host: pyvfio.Host, export: Callable[..., int]) -> None:
    fd = export()
    with pytest.raises(NotModelled):
        host.backend.ioctl(fd, 0x40086200, bytearray(8))
    with pytest.raises(OSError, match="Invalid"):
        host.backend.read(fd, 1)
