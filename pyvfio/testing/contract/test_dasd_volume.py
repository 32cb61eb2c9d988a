"""What the kernel's driver shows of a DASD, and the partitions that it finds after ours has made them."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import partial

import pytest

import pyvfio
from pyvfio.backend import Backend
from pyvfio.ccw import CcwDevice
from pyvfio.drivers import Dasd, VolumeLabel
from pyvfio.host import Host
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.expect import settles
from pyvfio.testing.plugin import Lab

SIZE, PER_TRACK, TRACKS = 4096, 12, 1113 * 15
ONLINE = {
    "aq_mask": "0",
    "aq_requeue": "0",
    "aq_timeouts": "32768",
    "capacity/logical_capacity": "0",
    "copy_role": "none",
    "eer_enabled": "0",
    "ese": "0",
    "expires": "30",
    "extent_pool/extent_size": "0",
    "fc_security": "Unsupported",
    "hpf": "0",
    "last_known_reservation_state": "none",
    "path_autodisable": "1",
    "path_interval": "300",
    "path_masks": "80 00 00 00 00 00",
    "path_threshold": "256",
    "reservation_policy": "ignore",
    "retries": "256",
    "timeout": "0",
}
NOT_THERE = {"copy_pair": errno.ENODEV, "host_access_count": errno.EOPNOTSUPP}


@pytest.fixture
def online(disk_backend: Backend, lab: Lab) -> Iterator[str]:
    """The sysfs directory of the disk while the kernel has it online; offline as before at the end."""
    sysfs, path = Attributes(disk_backend), f"/sys/bus/ccw/devices/{lab.dasd}"
    if sysfs.link(f"{path}/driver") != "dasd-eckd":
        pytest.skip(f"dasd-eckd has not got {lab.dasd}")
    before = sysfs.read(f"{path}/online")
    sysfs.write(f"{path}/online", "1")
    assert settles(lambda: sysfs.exists(f"{path}/block"))
    yield path
    if sysfs.exists(path):
        sysfs.write(f"{path}/online", before)


# refusals


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("expires", "0"),
        ("expires", "40000001"),
        ("retries", "32769"),
        ("aq_timeouts", "0"),
        ("path_interval", "0"),
        ("aq_mask", "256"),
        ("aq_requeue", "maybe"),
        ("path_autodisable", "2"),
        ("reservation_policy", "often"),
        ("last_known_reservation_state", "none"),
    ],
)
def test_what_is_not_taken(disk_backend: Backend, online: str, name: str, text: str) -> None:
    with pytest.raises(OSError) as caught:
        Attributes(disk_backend).write(f"{online}/{name}", text)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("name", NOT_THERE)
def test_what_it_has_not(disk_backend: Backend, online: str, name: str) -> None:
    with pytest.raises(OSError) as caught:
        Attributes(disk_backend).read(f"{online}/{name}")
    assert caught.value.errno == NOT_THERE[name]


# what it shows


@pytest.mark.parametrize("name", ONLINE)
def test_attributes(disk_backend: Backend, online: str, name: str) -> None:
    assert Attributes(disk_backend).read(f"{online}/{name}") == ONLINE[name]


def test_numbers_begin_anew(disk_backend: Backend, online: str) -> None:
    sysfs = Attributes(disk_backend)
    sysfs.write(f"{online}/expires", "60")
    sysfs.write(f"{online}/retries", "0")
    assert (sysfs.read(f"{online}/expires"), sysfs.read(f"{online}/retries")) == ("60", "256")
    sysfs.write(f"{online}/online", "0")
    with pytest.raises(OSError) as caught:
        sysfs.read(f"{online}/expires")
    assert caught.value.errno == errno.ENODEV
    sysfs.write(f"{online}/online", "1")
    assert sysfs.read(f"{online}/expires") == "30"


# partitions


def _made(host: Host, number: str, serial: str, parts: list[tuple[int, int]]) -> VolumeLabel | None:
    """Take the disk, give it a serial and partitions, and give it back online; its label before."""
    pyvfio.ccw_take(host, number)
    try:
        with pyvfio.open_device(host, number) as device, CcwDevice(device) as channel, Dasd(channel) as disk:
            before = disk.label
            disk.relabel(serial)
            disk.write_partitions(parts)
            return before
    finally:
        pyvfio.ccw_give_back(host, number, online=True)


def test_the_kernel_finds_the_partitions(disk_backend: Backend, online: str, lab: Lab) -> None:
    sysfs = Attributes(disk_backend)
    parts = [(2, 99), (100, 100), (200, TRACKS - 1)]
    with Host(disk_backend) as host:
        before = _made(host, lab.dasd, "PART01", parts)
        assert before is not None
        try:
            assert settles(lambda: sysfs.exists(f"{online}/block"))
            (disk,) = disk_backend.listdir(f"{online}/block")
            shown = []
            for number in range(1, len(parts) + 1):
                path = f"{online}/block/{disk}/{disk}{number}"
                assert settles(partial(sysfs.exists, path))
                shown.append((int(sysfs.read(f"{path}/start")), int(sysfs.read(f"{path}/size"))))
            track = PER_TRACK * SIZE // 512
            assert shown == [(first * track, (last + 1 - first) * track) for first, last in parts]
        finally:
            sysfs.write(f"{online}/online", "0")  # what has partitions is not taken while it is a disk
            _made(host, lab.dasd, before.volser, [])
        assert settles(lambda: sysfs.exists(f"{online}/block"))
        assert [name for name in disk_backend.listdir(f"{online}/block/{disk}") if name.startswith(disk)] == []
