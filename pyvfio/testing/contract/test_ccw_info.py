"""Information of a channel device: regions, their types, interrupts."""

from __future__ import annotations

import ctypes
from errno import EINVAL, ENOTTY
from itertools import pairwise

import pytest

from pyvfio.abi import vfio, vfio_ccw
from pyvfio.backend import Backend
from pyvfio.testing import requests
from pyvfio.testing.channel import Channel
from pyvfio.testing.expect import fails

SIZES = [
    ctypes.sizeof(vfio_ccw.CcwIoRegion),
    ctypes.sizeof(vfio_ccw.CcwCmdRegion),
    ctypes.sizeof(vfio_ccw.CcwSchibRegion),
    ctypes.sizeof(vfio_ccw.CcwCrwRegion),
]
SUBTYPES = {
    1: vfio_ccw.VFIO_REGION_SUBTYPE_CCW_ASYNC_CMD,
    2: vfio_ccw.VFIO_REGION_SUBTYPE_CCW_SCHIB,
    3: vfio_ccw.VFIO_REGION_SUBTYPE_CCW_CRW,
}


@pytest.mark.parametrize("argsz", [0, 15])
def test_too_small_a_device_info(backend: Backend, channel: Channel, argsz: int) -> None:
    with fails(EINVAL):
        requests.device_info(backend, channel.fd, argsz)


@pytest.mark.parametrize("argsz", [0, 31])
@pytest.mark.parametrize("index", [0, 1])
def test_too_small_a_region_info(backend: Backend, channel: Channel, index: int, argsz: int) -> None:
    with fails(EINVAL):
        requests.region_info(backend, channel.fd, index, argsz)


@pytest.mark.parametrize("index", [4, 100, 0xFFFFFFFF])
def test_a_region_that_is_none(backend: Backend, channel: Channel, index: int) -> None:
    with fails(EINVAL):
        requests.region_info(backend, channel.fd, index)


@pytest.mark.parametrize("index", [vfio.VFIO_CCW_NUM_IRQS, 100])
def test_an_interrupt_that_is_none(backend: Backend, channel: Channel, index: int) -> None:
    with fails(EINVAL):
        requests.irq_info(backend, channel.fd, index)


@pytest.mark.parametrize(
    "number", [vfio.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, vfio.VFIO_DEVICE_IOEVENTFD, 0x1234], ids=["hot", "io", "none"]
)
def test_what_is_for_pci(backend: Backend, channel: Channel, number: int) -> None:
    with fails(ENOTTY):
        backend.ioctl(channel.fd, number, vfio.DeviceInfo.sized())


@pytest.mark.parametrize("number", [0, 1, 999])
def test_no_features(backend: Backend, channel: Channel, number: int) -> None:
    for flags in (vfio.VFIO_DEVICE_FEATURE_GET, vfio.VFIO_DEVICE_FEATURE_GET | vfio.VFIO_DEVICE_FEATURE_PROBE):
        with fails(ENOTTY):
            requests.feature(backend, channel.fd, flags | number, bytes(16))


def test_no_mapping(backend: Backend, channel: Channel, page: int) -> None:
    with fails(EINVAL):
        backend.mmap(channel.fd, page)


@pytest.mark.parametrize("argsz", [16, 20, 24, 1024])
def test_the_device(backend: Backend, channel: Channel, argsz: int) -> None:
    info, chain = requests.device_info(backend, channel.fd, argsz)
    assert info.flags == vfio.DeviceFlags.CCW | vfio.DeviceFlags.RESET
    assert info.num_regions == vfio.VFIO_CCW_NUM_REGIONS + len(SUBTYPES)
    assert info.num_irqs == vfio.VFIO_CCW_NUM_IRQS
    assert chain == []


@pytest.mark.parametrize("index", range(4))
def test_regions(backend: Backend, channel: Channel, index: int) -> None:
    info, chain = requests.region_info(backend, channel.fd, index)
    flags = vfio.RegionFlags(info.flags)
    assert info.size == SIZES[index]
    assert vfio.RegionFlags.READ in flags
    assert (vfio.RegionFlags.WRITE in flags) == (index in (0, 1))
    assert vfio.RegionFlags.MMAP not in flags
    assert (vfio.RegionFlags.CAPS in flags) == (index != 0)
    assert [item.id for item in chain] == ([vfio.VFIO_REGION_INFO_CAP_TYPE] if index else [])


@pytest.mark.parametrize("index", SUBTYPES)
def test_region_types(backend: Backend, channel: Channel, index: int) -> None:
    ((capability),) = requests.region_info(backend, channel.fd, index)[1]
    found = capability.read(vfio.RegionInfoCapType)
    assert found.type == vfio_ccw.VFIO_REGION_TYPE_CCW
    assert found.subtype == SUBTYPES[index]


@pytest.mark.parametrize("index", SUBTYPES)
def test_no_room_for_the_type(backend: Backend, channel: Channel, index: int) -> None:
    info, chain = requests.region_info(backend, channel.fd, index, ctypes.sizeof(vfio.RegionInfo))
    assert chain == []
    assert info.argsz == ctypes.sizeof(vfio.RegionInfo) + ctypes.sizeof(vfio.RegionInfoCapType)
    assert requests.region_info(backend, channel.fd, index, info.argsz)[1] != []


def test_regions_do_not_overlap(backend: Backend, channel: Channel) -> None:
    places = sorted(zip(channel.offsets, SIZES, strict=True))
    for (start, size), (following, _) in pairwise(places):
        assert start + size <= following


@pytest.mark.parametrize("index", list(vfio.CcwIrq), ids=lambda index: index.name)
def test_interrupts(backend: Backend, channel: Channel, index: int) -> None:
    info = requests.irq_info(backend, channel.fd, index)
    assert (info.index, info.count, info.flags) == (index, 1, vfio.VFIO_IRQ_INFO_EVENTFD)
