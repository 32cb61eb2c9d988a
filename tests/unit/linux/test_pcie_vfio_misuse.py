"""Arguments of all kinds for requests of an open PCI Express function: an errno or success, and the device works."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pci_fixture import Device
from pcie_fixture import EDU, NVME, Pcie

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.errors import NotModelled
from pyvfio.pci import edu
from pyvfio.process import EventFd

U32 = st.integers(0, 0xFFFFFFFF)
SMALL = st.integers(0, 70)
_EVENT = EventFd()
FDS = st.sampled_from([-1, -2, 0, 987, _EVENT.fileno()])


@pytest.fixture(scope="module")
def devices() -> Iterator[list[Device]]:
    lab = Pcie()
    with lab.host:
        yield [lab.open(EDU), lab.open(NVME)]


def attempt(device: Device, request: int, argument: bytes) -> None:
    with contextlib.suppress(OSError, NotModelled):  # anything else is a crash of the machine
        device.host.ioctl(device.fd, request, bytearray(argument))


@settings(max_examples=400, deadline=None)
@given(
    which=st.integers(0, 1),
    head=st.tuples(
        st.one_of(st.just(20 + 16), U32),
        st.one_of(st.integers(0, 63), U32),
        st.one_of(st.integers(0, 6), U32),
        st.one_of(SMALL, U32),
        st.one_of(SMALL, U32),
    ),
    fds=st.lists(FDS, min_size=4, max_size=4),
)
def test_interrupts(devices: list[Device], which: int, head: tuple[int, ...], fds: list[int]) -> None:
    device = devices[which]
    attempt(device, abi.VFIO_DEVICE_SET_IRQS, struct.pack("=5I4i", *head, *fds).ljust(400, b"\xff"))
    works(device)


@settings(max_examples=300, deadline=None)
@given(
    which=st.integers(0, 1),
    argsz=st.one_of(st.just(32), U32),
    flags=st.one_of(st.sampled_from([1, 2, 4, 8]), U32),
    offset=st.one_of(st.integers(0, 0x3000), st.builds(lambda at, low: at << 40 | low, st.integers(0, 9), SMALL)),
    data=st.integers(0, (1 << 64) - 1),
    fd=FDS,
)
def test_eventfds_that_write(
    devices: list[Device], which: int, argsz: int, flags: int, offset: int, data: int, fd: int
) -> None:
    device = devices[which]
    attempt(device, abi.VFIO_DEVICE_IOEVENTFD, struct.pack("=2I2QiI", argsz, flags, offset, data, fd, 0))
    works(device)


@settings(max_examples=300, deadline=None)
@given(which=st.integers(0, 1), region=st.integers(0, 20), offset=st.integers(0, 1 << 41), data=st.binary(max_size=40))
def test_regions(devices: list[Device], which: int, region: int, offset: int, data: bytes) -> None:
    device = devices[which]
    for work in (lambda: device.write(data, offset, region), lambda: device.read(len(data), offset, region)):
        with contextlib.suppress(OSError, NotModelled):
            work()
    works(device)


def works(device: Device) -> None:
    """Memory on, and registers answer."""
    device.write(regs.PCI_COMMAND_MEMORY.to_bytes(2, "little"), regs.PCI_COMMAND)
    first = device.read(4, edu.ID, 0)
    assert first not in (b"\xff" * 4, bytes(4))
