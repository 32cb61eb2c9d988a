"""A device that writes memory by DMA and says so by an interrupt, through the library, by each way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pyvfio
from pyvfio.backend import Backend
from pyvfio.host import Host
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.plugin import Lab
from pyvfio.testing.virtio_rng import VirtioEntropy

COUNT = 64


@pytest.fixture(scope="module")
def entropy(backend: Backend, sysfs: Attributes, lab: Lab) -> Iterator[BoundFunction]:
    if not sysfs.exists(f"/sys/bus/pci/devices/{lab.entropy}"):
        pytest.skip(f"this host has no function {lab.entropy}")
    with BoundFunction(backend, lab.entropy) as bound:
        yield bound


@pytest.fixture
def source(host: Host, entropy: BoundFunction, way: str, page: int) -> Iterator[VirtioEntropy]:
    with pyvfio.open_device(host, entropy.address, way=way) as device, VirtioEntropy(device, page) as running:
        yield running


def test_it_writes_and_interrupts(source: VirtioEntropy) -> None:
    assert source.filled(COUNT) == bytes(COUNT)
    source.ask(COUNT)
    assert source.irq.wait(10) == 1
    assert (source.answered, source.written(0)) == (1, COUNT)
    assert source.filled(COUNT) != bytes(COUNT)
    assert source.filled(COUNT + 8)[COUNT:] == bytes(8)


def test_each_request_is_answered(source: VirtioEntropy) -> None:
    seen = set()
    for number in range(1, 7):
        source.ask(COUNT)
        assert source.irq.wait(10) == 1
        assert source.answered == number
        seen.add(source.filled(COUNT))
    assert len(seen) == 6


def test_it_writes_where_it_is_told(source: VirtioEntropy, page: int) -> None:
    with source.device.space.buffer(page) as other:
        source.ask(COUNT, other.iova)
        assert source.irq.wait(10) == 1
        assert bytes(other.view[:COUNT]) != bytes(COUNT)
    assert source.filled(COUNT) == bytes(COUNT)


@pytest.mark.usefixtures("iommufd")
def test_it_uses_the_address_space_that_it_was_given(host: Host, entropy: BoundFunction, page: int) -> None:
    """The same IOVA is other memory in another address space.  The device is at rest when it is given one.

    A zPCI function under QEMU does no DMA any more once it was given another one while it was open, and no driver can
    take it then, so that nothing can be compared there.
    """
    with (
        pyvfio.Iommufd(host) as iommufd,
        iommufd.allocate() as one,
        iommufd.allocate() as other,
        pyvfio.open_device(host, entropy.address, space=one) as device,
        one.buffer(page) as first,
        other.buffer(page, iova=first.iova) as second,
    ):
        written = [bytes(first.view[:COUNT]), bytes(second.view[:COUNT])]
        if device.zpci is not None:
            pytest.skip("a zPCI function of the lab does not survive this")
        for turn, space in enumerate((one, other, one)):
            device.attach(space)
            assert device.space is space
            with VirtioEntropy(device, page) as source:
                source.ask(COUNT, first.iova)
                assert source.irq.wait(10) == 1
            now = [bytes(first.view[:COUNT]), bytes(second.view[:COUNT])]
            assert [old != new for old, new in zip(written, now, strict=True)] == [turn != 1, turn == 1]
            written = now
