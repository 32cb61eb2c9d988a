"""Logs of what devices have written, by each kind of address space."""

from __future__ import annotations

import pytest

import pyvfio
from pyvfio.errors import KernelRefused, Misuse, NotAvailable
from pyvfio.host import Host
from pyvfio.testing.devices import BoundFunction


@pytest.mark.usefixtures("type1")
def test_version_1_of_type_1_keeps_none(host: Host, function: BoundFunction) -> None:
    with pyvfio.open_device(host, function.address, way="type1") as opened:
        with pytest.raises(NotAvailable, match="type1 keeps no log") as caught:
            opened.space.dirty_log()
        assert caught.value.errno_name == "EACCES"


@pytest.mark.usefixtures("iommufd")
def test_an_iommu_that_does_not_note_writes(host: Host, function: BoundFunction, page: int) -> None:
    with pyvfio.open_device(host, function.address, way="iommufd") as opened, opened.space.buffer(page) as memory:
        with pytest.raises(NotAvailable, match="no device was attached so"):
            opened.space.dirty_log()
        with pytest.raises(NotAvailable, match="does not note what is written"):
            opened.attach(opened.space, dirty_tracking=True)
        with pytest.raises(NotAvailable):
            opened.space.dirty_log()
        with pytest.raises(KernelRefused, match="EEXIST"):
            opened.space.map(memory.address, page, iova=memory.iova)  # the device has its address space all the same


@pytest.mark.usefixtures("type1")
def test_a_log_that_was_closed(host: Host, function: BoundFunction, page: int) -> None:
    with pyvfio.open_device(host, function.address, way="type1v2") as opened, opened.space.buffer(page) as memory:
        with opened.space.dirty_log() as log:
            pass
        log.close()
        for call in (log.take, log.unmap):
            with pytest.raises(Misuse, match="closed"):
                call(memory.iova, page)


@pytest.mark.usefixtures("type1")
def test_a_range_that_cuts_a_mapping(host: Host, function: BoundFunction, page: int) -> None:
    with (
        pyvfio.open_device(host, function.address, way="type1v2") as opened,
        opened.space.buffer(4 * page) as memory,
        opened.space.dirty_log() as log,
    ):
        for iova, length in ((memory.iova, page), (memory.iova + page, 3 * page)):
            with pytest.raises(KernelRefused) as caught:
                log.take(iova, length)
            assert caught.value.errno_name == "EINVAL"


@pytest.mark.usefixtures("type1")
def test_type_1_takes_all_that_a_device_can_reach_for_written(host: Host, function: BoundFunction, page: int) -> None:
    with pyvfio.open_device(host, function.address, way="type1v2") as opened:
        space = opened.space
        with space.buffer(3 * page) as one, space.buffer(70 * page, write=True) as other, space.dirty_log() as log:
            assert log.page_size == space.page_sizes & -space.page_sizes
            for _ in range(2):  # it is not forgotten: the device may write again at any moment
                bitmap = log.take(one.iova, one.length)
                assert [(found.iova, found.length) for found in bitmap.ranges()] == [(one.iova, one.length)]
            assert sum(found.length for found in log.dirty()) == one.length + other.length
            nothing = space.ranges()[-1].last + 1 - 64 * page
            assert not log.take(nothing, 64 * page)


@pytest.mark.usefixtures("type1")
def test_unmapping_tells_what_was_written(host: Host, function: BoundFunction, page: int) -> None:
    with pyvfio.open_device(host, function.address, way="type1v2") as opened:
        buffer = opened.space.buffer(2 * page)
        with opened.space.dirty_log() as log:
            bitmap = log.unmap(buffer.iova, buffer.length)
        assert bitmap.bytes_dirty == 2 * page
        assert opened.space.mappings() == []
        buffer.close()
