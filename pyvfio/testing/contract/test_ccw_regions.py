"""Reading and writing the regions of a channel device."""

from __future__ import annotations

import ctypes
from errno import EINVAL

import pytest

from pyvfio.abi import vfio_ccw
from pyvfio.backend import Backend
from pyvfio.css import SubchannelType
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.channel import ASYNC, CRW, IO, SCHIB, Channel, sense_id
from pyvfio.testing.devices import BoundSubchannel
from pyvfio.testing.expect import fails

IO_SIZE = ctypes.sizeof(vfio_ccw.CcwIoRegion)


@pytest.mark.parametrize(("index", "size"), [(IO, IO_SIZE), (ASYNC, 8), (SCHIB, 52), (CRW, 8)])
def test_more_than_the_region(backend: Backend, channel: Channel, index: int, size: int) -> None:
    with fails(EINVAL):
        backend.pread(channel.fd, size + 1, channel.offsets[index])
    with fails(EINVAL):
        backend.pwrite(channel.fd, bytes(size + 1), channel.offsets[index])


@pytest.mark.parametrize("index", [SCHIB, CRW])
def test_a_region_that_is_read_only(backend: Backend, channel: Channel, index: int) -> None:
    with fails(EINVAL):
        backend.pwrite(channel.fd, bytes(8), channel.offsets[index])


@pytest.mark.parametrize("index", [4, 5, 1000])
def test_a_region_that_is_none(backend: Backend, channel: Channel, index: int) -> None:
    step = channel.offsets[1]
    with fails(EINVAL):
        backend.pread(channel.fd, 4, index * step)
    with fails(EINVAL):
        backend.pwrite(channel.fd, bytes(4), index * step)


def test_a_negative_offset(backend: Backend, channel: Channel) -> None:
    with fails(EINVAL):
        backend.pread(channel.fd, 4, -1)


def test_the_last_bytes(backend: Backend, channel: Channel) -> None:
    assert backend.pread(channel.fd, 4, IO_SIZE - 4) == bytes(4)
    with fails(EINVAL):
        backend.pread(channel.fd, 5, IO_SIZE - 4)


@pytest.mark.parametrize("index", range(4))
def test_nothing(backend: Backend, channel: Channel, index: int) -> None:
    assert backend.pread(channel.fd, 0, channel.offsets[index]) == b""


def test_a_new_io_region_is_empty(backend: Backend, channel: Channel) -> None:
    assert backend.pread(channel.fd, IO_SIZE, channel.offsets[IO]) == bytes(IO_SIZE)


def test_read_at_the_position_is_the_io_region(backend: Backend, channel: Channel) -> None:
    assert backend.read(channel.fd, 8) == bytes(8)


def test_no_crw(backend: Backend, channel: Channel) -> None:
    assert backend.pread(channel.fd, 8, channel.offsets[CRW]) == bytes(8)


def test_a_part_of_the_orb_starts_the_rest(backend: Backend, channel: Channel) -> None:
    # each write is a START with what the region then holds
    channel.run(sense_id(channel.data))
    channel.load([sense_id(channel.data)])
    assert backend.pwrite(channel.fd, bytes(4), channel.offsets[IO]) == 4
    assert channel.irb().scsw.ok
    assert channel.get(channel.data, 1) == b"\xff"


def test_the_schib_is_the_subchannels(sysfs: Attributes, channel: Channel, subchannel: BoundSubchannel) -> None:
    pmcw = channel.schib().pmcw
    assert pmcw.dnv
    assert pmcw.ena
    assert pmcw.st == SubchannelType.IO
    assert f"{pmcw.devno:04x}" == subchannel.device_number.rsplit(".", 1)[-1]
    masks = [int(text, 16) for text in sysfs.read(f"{subchannel.path}/pimpampom").split()]
    assert [pmcw.pim, pmcw.pam, pmcw.pom] == masks
    assert pmcw.chpid == bytes.fromhex(sysfs.read(f"{subchannel.path}/chpids"))


def test_the_schib_of_an_idle_subchannel(channel: Channel) -> None:
    scsw = channel.schib().scsw
    assert not scsw.fctl
    assert not scsw.actl
    assert not scsw.stctl


def test_the_schib_after_a_program(channel: Channel) -> None:
    before = channel.schib().pmcw
    channel.run(sense_id(channel.data))
    after = channel.schib()
    assert not after.scsw.actl
    assert (after.pmcw.chpid, after.pmcw.pim) == (before.chpid, before.pim)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_sense_id_with_little_room(channel: Channel, count: int) -> None:
    """The first byte is FF where there is room for the control unit's type as well, 0 where there is not."""
    channel.run(sense_id(channel.data, count))
    assert channel.get(channel.data, count)[0] == (0xFF if count >= 4 else 0)


def test_the_region_number_has_32_bits(channel: Channel) -> None:
    """Offsets say the region above bit 10, and the kernel keeps 32 bits of it."""
    assert channel.backend.pread(channel.fd, 12, 1 << 42) == channel.backend.pread(channel.fd, 12, 0)
