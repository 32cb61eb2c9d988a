"""The client's way to page tables of its own (`pyvfio.iommu.nested`), on a software machine that nests."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator

import pytest

import pyvfio
from pyvfio.errors import DeviceBusy, Misuse, NotAvailable
from pyvfio.iommu.nested import PAGE_SIZE, Invalidation
from pyvfio_backends.software import software_of
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import PcieIommuSpec
from pyvfio_backends.software.loader import load_machine, machine_files
from pyvfio_backends.software.machine import Machine

EDU = "0000:00:06.0"
SOURCE, TARGET, COUNT, COMMAND = 0x80, 0x88, 0x90, 0x98


def opened(nesting: bool) -> tuple[pyvfio.Host, pyvfio.Device]:
    spec = load_machine(machine_files()["lab-x86"])
    kernel = dataclasses.replace(spec.host, cmdline="intel_iommu=sm_on")
    machine = Machine(dataclasses.replace(spec, host=kernel, pcie_iommus=[PcieIommuSpec(nesting=nesting)]))
    host = pyvfio.Host(SoftwareBackend(machine))
    pyvfio.bind(host.device(EDU))
    return host, pyvfio.open_device(host, EDU, way="iommufd")


@pytest.fixture
def device() -> Iterator[pyvfio.Device]:
    host, device = opened(True)
    with host, device:
        yield device


def test_a_program_translates_by_its_own_table(device: pyvfio.Device) -> None:
    assert device.space is not None
    space = device.space
    buffer = space.buffer(6 * PAGE_SIZE)
    for level in range(3):
        buffer.view[level * PAGE_SIZE : level * PAGE_SIZE + 8] = struct.pack(
            "<Q", buffer.iova + (level + 1) * PAGE_SIZE | 7
        )
    leaf = 3 * PAGE_SIZE

    def lead_to(page: int) -> None:
        buffer.view[leaf : leaf + 8] = struct.pack("<Q", buffer.iova + page * PAGE_SIZE | 7)

    def copy_out() -> None:
        for register, value in ((SOURCE, 0x40000), (TARGET, 0), (COUNT, 4), (COMMAND, 3)):
            device.region(0).write_u64(register, value)
        software_of(device.backend).machine.clock.advance(1)

    device.config.command |= 6
    with device.nest_parent(space) as parent, parent.table(buffer.iova) as table:
        device.attach_nested(table)
        for page in (4, 5):
            lead_to(page)
            buffer.view[page * PAGE_SIZE : page * PAGE_SIZE + 4] = b"...."
        copy_out()
        assert bytes(buffer.view[5 * PAGE_SIZE : 5 * PAGE_SIZE + 4]) == bytes(4)
        lead_to(4)
        copy_out()
        assert bytes(buffer.view[4 * PAGE_SIZE : 4 * PAGE_SIZE + 4]) == b"...."  # it was kept
        assert table.invalidate_each([Invalidation(0, 1, leaf=True)]) == 1
        copy_out()
        assert bytes(buffer.view[4 * PAGE_SIZE : 4 * PAGE_SIZE + 4]) == bytes(4)
        table.invalidate()
        with pytest.raises(DeviceBusy):
            table.close()
        with pytest.raises(Misuse):
            table.invalidate(1, 1)
        device.attach(space)


def test_what_the_iommu_cannot(device: pyvfio.Device) -> None:
    assert device.space is not None
    with device.nest_parent(device.space) as parent:
        with parent.table(0, width=57) as table, pytest.raises(NotAvailable):
            device.attach_nested(table)
        with pytest.raises(Misuse):
            parent.table(1 << 64)


def test_an_iommu_that_does_not_nest() -> None:
    host, device = opened(False)
    with host, device:
        assert device.space is not None
        with pytest.raises(NotAvailable, match="does not nest"):
            device.nest_parent(device.space)
