"""The argument of ioctl: a number, an address, a buffer; and files that have no requests."""

from __future__ import annotations

import array
import os
from collections.abc import Callable
from errno import EBADF, EFAULT, ENOTTY
from typing import Any

import pytest

from pyvfio.abi import vfio
from pyvfio.backend import Backend
from pyvfio.process import AnonymousMemory
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import CONTAINER, OpenDevice


def test_a_closed_descriptor(backend: Backend) -> None:
    fd = backend.open(CONTAINER, os.O_RDWR)
    backend.close(fd)
    with fails(EBADF):
        backend.ioctl(fd, vfio.VFIO_GET_API_VERSION)


@pytest.mark.parametrize("name", ["vendor", "config", ""], ids=["attribute", "binary", "directory"])
def test_a_file_without_requests(backend: Backend, files: OpenFiles, pci_path: str, name: str) -> None:
    fd = files.open(f"{pci_path}/{name}", os.O_RDONLY)
    with fails(ENOTTY):
        backend.ioctl(fd, vfio.VFIO_GET_API_VERSION)


def test_no_such_argument(backend: Backend, files: OpenFiles) -> None:
    fd = files.open(CONTAINER)
    with pytest.raises(TypeError):
        backend.ioctl(fd, vfio.VFIO_GET_API_VERSION, None)
    with pytest.raises(TypeError):
        backend.ioctl(fd, vfio.VFIO_GET_API_VERSION, 1.5)


@pytest.mark.parametrize("address", [0, 1, -1, 1 << 31, (1 << 64) - 8], ids=["0", "1", "-1", "2g", "last"])
def test_an_address_with_nothing(backend: Backend, opened: OpenDevice, address: int) -> None:
    with fails(EFAULT):
        backend.ioctl(opened.fd, vfio.VFIO_DEVICE_GET_INFO, address)


def test_an_address(backend: Backend, opened: OpenDevice, memory: Callable[[int], AnonymousMemory]) -> None:
    place = memory(1)
    info = vfio.DeviceInfo.from_buffer(place.view)
    try:
        info.argsz = 24
        assert backend.ioctl(opened.fd, vfio.VFIO_DEVICE_GET_INFO, place.address) == 0
        assert info.num_regions == vfio.VFIO_PCI_NUM_REGIONS
    finally:
        del info


def test_a_structure_across_two_pages(
    backend: Backend, opened: OpenDevice, memory: Callable[[int], AnonymousMemory], page: int
) -> None:
    place = memory(2)
    info = vfio.DeviceInfo(argsz=24)
    place.view[page - 4 : page + 20] = bytes(info)
    backend.ioctl(opened.fd, vfio.VFIO_DEVICE_GET_INFO, place.address + page - 4)
    answer = vfio.DeviceInfo.from_buffer_copy(place.view[page - 4 : page + 20])
    assert answer.num_irqs == vfio.VFIO_PCI_NUM_IRQS


def test_a_structure_is_changed_in_place(backend: Backend, opened: OpenDevice) -> None:
    info = vfio.DeviceInfo.sized()
    assert backend.ioctl(opened.fd, vfio.VFIO_DEVICE_GET_INFO, info) == 0
    assert info.num_irqs == vfio.VFIO_PCI_NUM_IRQS


@pytest.mark.parametrize("kind", ["bytearray", "array", "memoryview"])
def test_buffers_are_changed_in_place(backend: Backend, opened: OpenDevice, kind: str) -> None:
    data = bytes(vfio.DeviceInfo.sized())
    make: dict[str, Callable[[bytes], Any]] = {
        "bytearray": bytearray,
        "array": lambda raw: array.array("B", raw),
        "memoryview": lambda raw: memoryview(bytearray(raw)),
    }
    buffer = make[kind](data)
    assert backend.ioctl(opened.fd, vfio.VFIO_DEVICE_GET_INFO, buffer) == 0
    assert vfio.DeviceInfo.from_buffer_copy(buffer).num_irqs == vfio.VFIO_PCI_NUM_IRQS


def test_bytes_are_not_changed(backend: Backend, opened: OpenDevice) -> None:
    data = bytes(vfio.DeviceInfo.sized())
    answer: object = backend.ioctl(opened.fd, vfio.VFIO_DEVICE_GET_INFO, data)
    assert isinstance(answer, bytes)
    assert len(answer) == len(data)
    assert vfio.DeviceInfo.from_buffer_copy(answer).num_irqs == vfio.VFIO_PCI_NUM_IRQS
    assert vfio.DeviceInfo.from_buffer_copy(data).num_irqs == 0


def test_a_buffer_that_shall_not_change(backend: Backend, opened: OpenDevice) -> None:
    buffer = bytearray(bytes(vfio.DeviceInfo.sized()))
    before = bytes(buffer)
    answer: object = backend.ioctl(opened.fd, vfio.VFIO_DEVICE_GET_INFO, buffer, False)
    assert bytes(buffer) == before
    assert isinstance(answer, bytes)


def test_a_long_buffer(backend: Backend, opened: OpenDevice, page: int) -> None:
    buffer = bytearray(bytes(vfio.DeviceInfo(argsz=page)).ljust(page, b"\xee"))
    backend.ioctl(opened.fd, vfio.VFIO_DEVICE_GET_INFO, buffer)
    assert vfio.DeviceInfo.from_buffer_copy(buffer).argsz == page
    assert buffer[-64:] == b"\xee" * 64
