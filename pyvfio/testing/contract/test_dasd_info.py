"""The driver for DASDs sets a disk online: what it finds out, and what it says of it."""

from __future__ import annotations

import asyncio

import pytest

import pyvfio
from pyvfio.ccw import CcwDevice
from pyvfio.drivers import AsyncDasd, Dasd, LabelKind
from pyvfio.drivers.layout import LayoutKind
from pyvfio.errors import Misuse
from pyvfio.host import Host
from pyvfio.testing.devices import BoundMdev
from pyvfio.vfio import Device

TRACKS = 1113 * 15
PER_TRACK = 12


def test_before_it_is_online(dasd_channel: CcwDevice) -> None:
    closed = Dasd(dasd_channel)
    with pytest.raises(Misuse):
        _ = closed.characteristics
    with closed:
        pass
    with pytest.raises(Misuse):
        closed.read_blocks(24)


def test_nothing_stays_mapped(dasd_channel: CcwDevice) -> None:
    before = dasd_channel.device.space.mappings()
    with Dasd(dasd_channel):
        pass
    assert dasd_channel.device.space.mappings() == before


def test_types_and_models(dasd: Dasd) -> None:
    found = dasd.sense_id
    assert (found.cu_type, found.dev_type) == (0x3990, 0x3390)
    assert (found.cu_model, found.dev_model) == (0xC2, 0x02)


def test_geometry(dasd: Dasd) -> None:
    found = dasd.characteristics
    assert (found.cylinders, found.heads, found.tracks) == (1113, 15, TRACKS)
    assert found.sectors == 224


def test_configuration(dasd: Dasd) -> None:
    found = dasd.configuration
    assert found is not None
    assert found.vendor == "HRC"
    assert str(found).startswith("HRC.ZZ000000000001.")


def test_paths(dasd: Dasd) -> None:
    assert dasd.paths == 0x80


@pytest.mark.parametrize("opened", ["group", "iommufd"])
def test_each_way_to_open_it(disk_host: Host, disk_mdev: BoundMdev, opened: str) -> None:
    with (
        pyvfio.open_device(disk_host, disk_host.mdev(disk_mdev.uuid), way=opened) as device,
        CcwDevice(device) as channel,
        Dasd(channel) as found,
    ):
        assert found.label is not None
        assert found.label.volser == "LAB001"


def test_layout(dasd: Dasd) -> None:
    found = dasd.layout
    assert found is not None
    assert found.kind is LayoutKind.CDL
    assert (found.block_size, found.per_track, found.blocks) == (4096, PER_TRACK, TRACKS * PER_TRACK)


def test_label(dasd: Dasd) -> None:
    found = dasd.label
    assert found is not None
    assert (found.kind, found.volser, found.vtoc) == (LabelKind.VOL1, "LAB001", (0, 1, 1))


def test_table_of_contents(dasd: Dasd) -> None:
    found = dasd.vtoc()
    assert [(one.cylinder, one.head, one.record) for one in found] == [(0, 1, 1), (0, 1, 2)]


def test_no_partitions(dasd: Dasd) -> None:
    assert dasd.partitions() == []


def test_what_linux_prints(dasd: Dasd) -> None:
    """The last lines are those that the kernel of this host prints for its own driver."""
    assert dasd.messages()[-3:] == [
        "dasd-eckd 0.0.0a00: New DASD 3390/02 (CU 3990/02) with 1113 cylinders, 15 heads, 224 sectors",
        "dasd-eckd 0.0.0a00: DASD with 4 KB/block, 801360 KB total size, 48 KB/track, compatible disk layout",
        " dasda:VOL1/  LAB001:",
    ]


@pytest.mark.parametrize("times", [2, 4])
def test_online_again(dasd_channel: CcwDevice, times: int) -> None:
    for _ in range(times):
        with Dasd(dasd_channel) as found:
            assert found.label is not None


def test_two_drivers_for_one_channel(dasd_channel: CcwDevice) -> None:
    with Dasd(dasd_channel) as one, Dasd(dasd_channel) as other:
        assert one.read_blocks(24) == other.read_blocks(24)


def test_asyncio(dasd_channel: CcwDevice) -> None:
    async def look() -> tuple[str, bytes]:
        async with AsyncDasd(dasd_channel) as found:
            assert found.label is not None
            return found.label.volser, await found.read_blocks(2)

    serial, block = asyncio.run(look())
    assert serial == "LAB001"
    assert block[:8] == "VOL1VOL1".encode("cp037")


def test_the_device_stays_open(dasd_device: Device) -> None:
    with CcwDevice(dasd_device) as channel, Dasd(channel):
        pass
    with CcwDevice(dasd_device) as channel:
        assert channel.sense_id().dev_type == 0x3390
