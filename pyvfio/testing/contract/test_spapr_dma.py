"""Devices that do DMA through the windows of POWER: with both versions, and with addresses of both windows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pyvfio
from pyvfio.backend import Backend
from pyvfio.host import Host
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.plugin import Lab
from pyvfio.testing.spapr import SECOND_WINDOW, TCE_PAGE, PageMemory, TceContainer, require_tce
from pyvfio.testing.virtio_rng import VirtioEntropy

COUNT = 64


@pytest.fixture(scope="module")
def entropy(backend: Backend, sysfs: Attributes, lab: Lab) -> Iterator[BoundFunction]:
    require_tce(backend)
    if not sysfs.exists(f"/sys/bus/pci/devices/{lab.entropy}"):
        pytest.skip(f"this host has no function {lab.entropy}")
    with BoundFunction(backend, lab.entropy) as bound:
        yield bound


def filled(source: VirtioEntropy, view: memoryview, iova: int) -> bool:
    """Let the device write to `iova`; whether it wrote there, and no more."""
    view[:] = bytes(len(view))
    source.ask(COUNT, iova)
    assert source.irq.wait(10) == 1
    return any(view[:COUNT]) and not any(view[COUNT:])


@pytest.mark.parametrize("version", [1, 2])
def test_through_the_default_window(host: Host, entropy: BoundFunction, page: int, version: int) -> None:
    with (
        pyvfio.Container(host) as container,
        pyvfio.Group(host, entropy.group_number) as group,
    ):
        container.attach(group)
        space = container.set_iommu(tce=version)
        with (
            pyvfio.open_device(host, entropy.address, space=container) as device,
            VirtioEntropy(device, page) as source,
            space.buffer(page, iova=64 * page) as memory,
        ):
            assert filled(source, memory.view, 64 * page)


def test_through_the_second_window(
    backend: Backend, host: Host, entropy: BoundFunction, page: int, guest_on_power: bool
) -> None:
    with (
        pyvfio.Container(host) as container,
        pyvfio.open_device(host, entropy.address, space=container) as device,
        VirtioEntropy(device, page) as source,
        PageMemory(4 * page, page) as memory,
    ):
        raw = TceContainer(backend, container.fileno())
        shift, levels = (31, 1) if guest_on_power else (36, 2)
        size = 1 << shift
        raw.register(memory.address, memory.length)
        assert raw.create(page.bit_length() - 1, size, levels=levels) == SECOND_WINDOW
        for iova in (SECOND_WINDOW, SECOND_WINDOW + size - memory.length):
            raw.map(iova, memory.address, memory.length)
            assert filled(source, memory.view, iova)
            raw.unmap(iova, memory.length)
        raw.unregister(memory.address, memory.length)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_through_tables_of_several_levels(
    backend: Backend, host: Host, entropy: BoundFunction, page: int, levels: int
) -> None:
    with (
        pyvfio.Container(host) as container,
        pyvfio.open_device(host, entropy.address, space=container) as device,
        VirtioEntropy(device, page) as source,
        PageMemory(page, page) as memory,
    ):
        raw = TceContainer(backend, container.fileno())
        if levels > raw.info().ddw.levels:
            pytest.skip("no windows with tables of several levels")
        size = 1 << 30
        raw.register(memory.address, page)
        start = raw.create(TCE_PAGE.bit_length() - 1, size, levels=levels)
        places = [start + (size // 4 + page) * number for number in range(4)]
        for iova in places:
            raw.map(iova, memory.address, page)
        for iova in places:
            assert filled(source, memory.view, iova)
            raw.unmap(iova, page)
        raw.unregister(memory.address, page)


def test_a_mapping_that_was_replaced(backend: Backend, host: Host, entropy: BoundFunction, page: int) -> None:
    with (
        pyvfio.Container(host) as container,
        pyvfio.open_device(host, entropy.address, space=container) as device,
        VirtioEntropy(device, page) as source,
        PageMemory(page, page) as first,
        PageMemory(page, page) as second,
    ):
        raw = TceContainer(backend, container.fileno())
        iova = 64 * page
        for memory in (first, second):
            raw.register(memory.address, page)
        for memory in (first, second, first):
            raw.map(iova, memory.address, page)
            other = second if memory is first else first
            other.view[:] = bytes(page)
            assert filled(source, memory.view, iova)
            assert not any(other.view)
        raw.unmap(iova, page)
        for memory in (first, second):
            raw.unregister(memory.address, page)


def test_one_memory_at_two_addresses(backend: Backend, host: Host, entropy: BoundFunction, page: int) -> None:
    with (
        pyvfio.Container(host) as container,
        pyvfio.open_device(host, entropy.address, space=container) as device,
        VirtioEntropy(device, page) as source,
        PageMemory(page, page) as memory,
    ):
        raw = TceContainer(backend, container.fileno())
        raw.register(memory.address, page)
        for iova in (64 * page, 128 * page):
            raw.map(iova, memory.address, page)
        for iova in (64 * page, 128 * page):
            assert filled(source, memory.view, iova)
            raw.unmap(iova, page)
        raw.unregister(memory.address, page)
