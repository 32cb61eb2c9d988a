"""Mapped memory as the storage of channel programs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pyvfio
from pyvfio.channel_storage import MappedStorage
from pyvfio.css import StorageError
from pyvfio.iommu import AddressSpace, DmaBuffer

ECHO = "0.0.0e00"


@pytest.fixture
def space(host: pyvfio.Host) -> Iterator[AddressSpace]:
    pyvfio.ccw_take(host, ECHO)
    with pyvfio.open_device(host, ECHO) as device:
        yield device.space


def touching(space: AddressSpace) -> tuple[DmaBuffer, DmaBuffer]:
    first = space.buffer(1, iova=0x100000)
    return first, space.buffer(1, iova=0x100000 + first.length)


def test_where_nothing_is_mapped(space: AddressSpace) -> None:
    storage = MappedStorage(space)
    first, second = touching(space)
    end = second.iova + second.length
    for call in (
        lambda: storage.read(end, 1),
        lambda: storage.read(end - 1, 2),
        lambda: storage.write(end - 1, b"ab"),
        lambda: storage.read(first.iova - 1, 2),
    ):
        with pytest.raises(StorageError):
            call()
    assert storage.read(end - 1, 1) == b"\0"


def test_two_mappings_that_touch(space: AddressSpace) -> None:
    storage = MappedStorage(space)
    first, second = touching(space)
    storage.write(second.iova - 2, b"abcd")
    assert bytes(first.view[-2:]) + bytes(second.view[:2]) == b"abcd"
    assert storage.read(second.iova - 2, 4) == b"abcd"
