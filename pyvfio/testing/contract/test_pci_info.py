"""VFIO_DEVICE_GET_INFO, GET_REGION_INFO and GET_IRQ_INFO of a PCI function."""

from __future__ import annotations

import ctypes
from errno import EFAULT, EINVAL
from itertools import pairwise

import pytest

from pyvfio.abi import vfio
from pyvfio.backend import Backend
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import OpenDevice

FIXED = list(vfio.PciRegion)


@pytest.mark.parametrize("argsz", [0, 15])
def test_too_small_a_device_info(backend: Backend, opened: OpenDevice, argsz: int) -> None:
    with fails(EINVAL):
        requests.device_info(backend, opened.fd, argsz)


@pytest.mark.parametrize("argsz", [0, 31])
def test_too_small_a_region_info(backend: Backend, opened: OpenDevice, argsz: int) -> None:
    with fails(EINVAL):
        requests.region_info(backend, opened.fd, vfio.VFIO_PCI_CONFIG_REGION_INDEX, argsz)


@pytest.mark.parametrize("argsz", [0, 15])
def test_too_small_an_irq_info(backend: Backend, opened: OpenDevice, argsz: int) -> None:
    with fails(EINVAL):
        requests.irq_info(backend, opened.fd, vfio.VFIO_PCI_MSIX_IRQ_INDEX, argsz)


@pytest.mark.parametrize("index", [vfio.VFIO_PCI_NUM_REGIONS, 100, 0xFFFFFFFF])
def test_a_region_that_is_none(backend: Backend, opened: OpenDevice, index: int) -> None:
    with fails(EINVAL):
        requests.region_info(backend, opened.fd, index)


@pytest.mark.parametrize("index", [vfio.VFIO_PCI_NUM_IRQS, 100, 0xFFFFFFFF])
def test_an_interrupt_that_is_none(backend: Backend, opened: OpenDevice, index: int) -> None:
    with fails(EINVAL):
        requests.irq_info(backend, opened.fd, index)


@pytest.mark.parametrize(
    "number",
    [vfio.VFIO_DEVICE_GET_INFO, vfio.VFIO_DEVICE_GET_REGION_INFO, vfio.VFIO_DEVICE_GET_IRQ_INFO],
    ids=["device", "region", "irq"],
)
def test_a_wild_address(backend: Backend, opened: OpenDevice, wild: int, number: int) -> None:
    with fails(EFAULT):
        backend.ioctl(opened.fd, number, wild)


def test_the_device(backend: Backend, opened: OpenDevice) -> None:
    info, _ = requests.device_info(backend, opened.fd)
    assert info.flags & vfio.VFIO_DEVICE_FLAGS_PCI
    assert not info.flags & vfio.VFIO_DEVICE_FLAGS_CCW
    assert (info.num_regions, info.num_irqs) == (vfio.VFIO_PCI_NUM_REGIONS, vfio.VFIO_PCI_NUM_IRQS)


@pytest.mark.parametrize("argsz", [16, 20, 24, 32])
def test_no_room_for_capabilities(backend: Backend, opened: OpenDevice, argsz: int) -> None:
    info, chain = requests.device_info(backend, opened.fd, argsz)
    whole, whole_chain = requests.device_info(backend, opened.fd)
    assert info.flags == whole.flags
    assert info.cap_offset == 0
    assert chain == []
    if whole_chain:
        assert info.argsz > argsz
        exact, exact_chain = requests.device_info(backend, opened.fd, info.argsz)
        assert exact.cap_offset == ctypes.sizeof(vfio.DeviceInfo)
        assert len(exact_chain) == len(whole_chain)


def test_no_byte_past_argsz_is_written(backend: Backend, opened: OpenDevice) -> None:
    buffer = bytearray(b"\xee" * 64)
    vfio.DeviceInfo.from_buffer(buffer).argsz = 16
    backend.ioctl(opened.fd, vfio.VFIO_DEVICE_GET_INFO, buffer)
    assert buffer[16:] == b"\xee" * 48


@pytest.mark.parametrize("index", FIXED, ids=lambda index: index.name)
def test_regions(backend: Backend, sysfs: Attributes, function: BoundFunction, opened: OpenDevice, index: int) -> None:
    if index == vfio.VFIO_PCI_VGA_REGION_INDEX:
        with fails(EINVAL):  # the function is no display
            requests.region_info(backend, opened.fd, index)
        return
    info, _ = requests.region_info(backend, opened.fd, index)
    assert info.index == index
    if index == vfio.VFIO_PCI_CONFIG_REGION_INDEX:
        assert info.size == backend.stat(f"{function.path}/config").st_size
        assert info.flags == vfio.RegionFlags.READ | vfio.RegionFlags.WRITE
    elif index < vfio.VFIO_PCI_ROM_REGION_INDEX:
        start, end, flags = (
            int(text, 16) for text in sysfs.read(f"{function.path}/resource").split("\n")[index].split()
        )
        is_memory = bool(flags & 0x200)
        if not is_memory:
            assert info.flags & vfio.VFIO_REGION_INFO_FLAG_MMAP == 0
        if info.size:
            assert info.size == end - start + 1
            assert info.flags & (vfio.RegionFlags.READ | vfio.RegionFlags.WRITE)
        else:
            assert info.flags == 0


def test_regions_do_not_overlap(backend: Backend, opened: OpenDevice) -> None:
    places = []
    for index in range(vfio.VFIO_PCI_VGA_REGION_INDEX):
        info, _ = requests.region_info(backend, opened.fd, index)
        places.append((info.offset, info.offset + info.size))
    for (_, end), (start, _) in pairwise(places):
        assert end <= start


def test_no_mapping_of_zpci_bars(backend: Backend, opened: OpenDevice, page: int) -> None:
    for index in range(vfio.VFIO_PCI_ROM_REGION_INDEX):
        info, _ = requests.region_info(backend, opened.fd, index)
        if info.size and not info.flags & vfio.VFIO_REGION_INFO_FLAG_MMAP:
            with fails(EINVAL):
                backend.mmap(opened.fd, page, offset=info.offset)


@pytest.mark.parametrize("index", list(vfio.PciIrq), ids=lambda index: index.name)
def test_interrupts(backend: Backend, opened: OpenDevice, vtd: bool, express: bool, index: int) -> None:
    if index == vfio.VFIO_PCI_ERR_IRQ_INDEX and not express:
        with fails(EINVAL):
            requests.irq_info(backend, opened.fd, index)
        return
    info = requests.irq_info(backend, opened.fd, index)
    flags = vfio.IrqInfoFlags(info.flags)
    assert info.index == index
    assert vfio.IrqInfoFlags.EVENTFD in flags
    intx = vfio.IrqInfoFlags.MASKABLE | vfio.IrqInfoFlags.AUTOMASKED
    if index == vfio.VFIO_PCI_INTX_IRQ_INDEX:
        assert intx in flags
        assert info.count in (0, 1)
    else:
        # where interrupts are remapped, vectors of MSI-X can be added one by one
        resizable = vtd and index == vfio.VFIO_PCI_MSIX_IRQ_INDEX
        assert (vfio.IrqInfoFlags.NORESIZE in flags) != resizable
        assert not flags & intx
    if index in (vfio.VFIO_PCI_ERR_IRQ_INDEX, vfio.VFIO_PCI_REQ_IRQ_INDEX):
        assert info.count == 1


def test_as_many_vectors_as_the_table_has(backend: Backend, function: BoundFunction, opened: OpenDevice) -> None:
    with requests.opened_file(backend, f"{function.path}/config") as fd:
        config = backend.pread(fd, 256, 0)
    at = config[0x34]
    while at and config[at] != 0x11:
        at = config[at + 1]
    table = int.from_bytes(config[at + 2 : at + 4], "little") & 0x7FF
    assert requests.irq_info(backend, opened.fd, vfio.VFIO_PCI_MSIX_IRQ_INDEX).count == (table + 1 if at else 0)
