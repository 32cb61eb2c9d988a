"""Why a way into a device is closed: what no lab shows, on a small machine with faults."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from small_machine import BELL, machine_of

import pyvfio
from pyvfio.errors import BadAddress, NotAvailable, PermissionDenied
from pyvfio.process.credentials import may_open
from pyvfio.vfio.ways import IOMMU_NODE, Obstacle, Way, ways

Boot = Callable[..., pyvfio.Host]
CDEV, GROUP = "/dev/vfio/devices/vfio0", "/dev/vfio/0"


def found(host: pyvfio.Host) -> dict[str, Way]:
    return {way.name: way for way in ways(host.device(BELL))}


def hide(host: pyvfio.Host, path: str) -> None:
    for verb in ("stat", "lstat", "open"):
        machine_of(host).faults.fail(verb, errno.ENOENT, path=path, times=-1)


def test_a_kernel_without_nodes_of_devices(boot: Boot) -> None:
    host = boot(iommufd=False)
    way = found(host)["iommufd"]
    assert (way.obstacle, "CONFIG_VFIO_DEVICE_CDEV" in way.reason) == (Obstacle.NO_DEVICE_NODES, True)
    with pytest.raises(NotAvailable, match="CONFIG_VFIO_DEVICE_CDEV"):
        pyvfio.open_device(host, BELL, way="iommufd")
    with pyvfio.open_device(host, BELL) as opened:
        assert (opened.way, opened.why) == ("group", f"no iommufd: {way.reason}")


@pytest.mark.parametrize(
    ("path", "obstacle", "words"),
    [
        (CDEV, Obstacle.NO_NODE, "the kernel has vfio0, but"),
        (IOMMU_NODE, Obstacle.NO_IOMMUFD, "/dev/iommu does not exist: iommufd is there, but its node is not"),
    ],
)
def test_a_node_that_is_missing(boot: Boot, path: str, obstacle: Obstacle, words: str) -> None:
    host = boot()
    hide(host, path)
    way = found(host)["iommufd"]
    assert (way.obstacle, words in way.reason) == (obstacle, True)
    with pyvfio.open_device(host, BELL) as opened:
        assert opened.way == "group"
        assert {one.name: one.obstacle for one in opened.ways}["iommufd"] is obstacle


@pytest.mark.parametrize(("path", "obstacle"), [(GROUP, Obstacle.NO_NODE), ("/dev/vfio/vfio", Obstacle.NO_CONTAINER)])
def test_a_group_that_cannot_be_reached(boot: Boot, path: str, obstacle: Obstacle) -> None:
    host = boot()
    hide(host, path)
    assert found(host)["group"].obstacle is obstacle
    with pytest.raises(NotAvailable):
        pyvfio.open_device(host, BELL, way="group")
    with pyvfio.open_device(host, BELL) as opened:
        assert opened.way == "iommufd"


def test_without_an_iommu_and_a_container() -> None:
    with pyvfio.Host("software", machine="x86-no-iommu") as host:
        host.sysfs.write_text("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y")
        device = host.device("0000:00:02.0")
        pyvfio.bind(device)
        hide(host, "/dev/vfio/vfio")
        way = ways(device)[2]
        assert (way.obstacle, way.reason) == (Obstacle.NO_CONTAINER, "/dev/vfio/vfio does not exist")
        with pytest.raises(NotAvailable, match="/dev/vfio/vfio does not exist"):
            pyvfio.open_device(host, device, allow_no_iommu=True)


def test_no_permission_for_iommufd(boot: Boot) -> None:
    """The group is taken then; that it was tried is told."""
    host = boot()
    machine_of(host).faults.fail("open", errno.EACCES, path=IOMMU_NODE)
    with pyvfio.open_device(host, BELL) as opened:
        assert opened.way == "group"
        way = opened.ways[0]
        assert (way.name, way.obstacle, way.reason) == ("iommufd", Obstacle.NO_PERMISSION, "/dev/iommu: EACCES")
        assert "EACCES" in opened.why


def test_no_permission_for_anything(boot: Boot) -> None:
    host = boot()
    for path in (IOMMU_NODE, GROUP, CDEV):
        machine_of(host).faults.fail("open", errno.EACCES, path=path, times=-1)
    with pytest.raises(PermissionDenied) as caught:
        pyvfio.open_device(host, BELL)
    assert caught.value.path == GROUP


def test_all_ways_are_plain_data(boot: Boot) -> None:
    found_ways = [way.as_dict() for way in ways(boot().device(BELL))]
    assert [way["way"] for way in found_ways] == ["iommufd", "group", "noiommu"]
    assert found_ways[2]["obstacle"] == "has-iommu"
    assert found_ways[0]["node"] == CDEV


@pytest.mark.parametrize(
    ("user", "groups", "mode", "may"),
    [
        (0, (), 0o000, True),
        (5, (), 0o600, True),
        (5, (), 0o066, False),
        (6, (7,), 0o660, True),
        (6, (7,), 0o606, False),
        (6, (8,), 0o606, True),
        (6, (8,), 0o664, False),
        (6, (), 0o660, False),
    ],
)
def test_owner_group_and_mode(
    monkeypatch: pytest.MonkeyPatch, user: int, groups: tuple[int, ...], mode: int, may: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "getegid", lambda: 99)
    monkeypatch.setattr(os, "getgroups", lambda: list(groups))
    assert may_open(os.stat_result((0o020000 | mode, 0, 0, 1, 5, 7, 0, 0, 0, 0))) is may


@pytest.mark.parametrize("way", ["tce", "tcev2"])
def test_the_iommu_of_power_is_not_here(boot: Boot, way: str) -> None:
    host = boot()
    with pytest.raises(NotAvailable, match="TCE is the IOMMU of POWER"):
        pyvfio.open_device(host, BELL, way=way)
    with pyvfio.Container(host) as container:
        with pytest.raises(NotAvailable, match="TCE is the IOMMU of POWER"):
            pyvfio.open_device(host, BELL, way=way, space=container)


@pytest.mark.parametrize("name", [None, 5, b"0000:00:02.0"], ids=repr)
def test_a_device_is_named_by_text_or_by_an_address(name: Any) -> None:
    with pyvfio.Host("software", machine="q35-switch") as host:
        for find in (host.device, host.function, partial(pyvfio.open_device, host)):
            with pytest.raises(BadAddress, match=f"not by {type(name).__name__}"):
                find(name)
