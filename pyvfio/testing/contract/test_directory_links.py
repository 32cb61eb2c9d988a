"""The link count of directories: two and one for each directory in it, as find and du expect; links do not count."""

from __future__ import annotations

import stat

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction, BoundMdev, BoundSubchannel

PATHS = [
    "/sys/bus/pci",
    "/sys/bus/pci/devices",
    "/sys/bus/pci/drivers",
    "/sys/bus/pci/drivers/vfio-pci",
    "/sys/bus/css",
    "/sys/bus/css/devices",
    "/sys/bus/ccw/drivers",
    "/sys/bus/mdev",
    "/sys/class/vfio",
    "/sys/devices/css0",
    "/sys/devices/css0/chp0.00",
    "/sys/kernel/iommu_groups",
    "/sys/module/mdev/holders",
]
CHANNEL = ("/sys/bus/css", "/sys/bus/ccw", "/sys/devices/css0")


def _agrees(backend: Backend, path: str) -> bool:
    below = (backend.lstat(f"{path}/{name}").st_mode for name in backend.listdir(path))
    return backend.stat(path).st_nlink == 2 + sum(stat.S_ISDIR(mode) for mode in below)


@pytest.mark.parametrize("path", PATHS)
def test_a_directory(backend: Backend, sysfs: Attributes, path: str) -> None:
    if path.startswith(CHANNEL) and not sysfs.exists("/sys/bus/css"):
        pytest.skip("this host has no channel subsystem")
    if path.endswith("/chp0.00") and not sysfs.exists(path):
        pytest.skip("this host has no channel path 0")
    if "mdev" in path and not sysfs.exists("/sys/bus/mdev"):
        pytest.skip("this kernel has no mediated devices")
    assert _agrees(backend, path)


def test_a_function(backend: Backend, function: BoundFunction) -> None:
    assert _agrees(backend, function.path)
    assert _agrees(backend, f"/sys/kernel/iommu_groups/{function.group_number}")


def test_a_subchannel(backend: Backend, subchannel: BoundSubchannel, mdev: BoundMdev) -> None:
    assert _agrees(backend, subchannel.path)
    assert _agrees(backend, mdev.path)


def test_a_file(backend: Backend) -> None:
    assert backend.stat("/sys/bus/pci/uevent").st_nlink == 1


def test_the_top(backend: Backend) -> None:
    assert stat.S_IMODE(backend.stat("/sys").st_mode) == 0o555


def test_the_directory_of_nodes(backend: Backend) -> None:
    # tmpfs counts 20 bytes for each entry.
    assert backend.stat("/dev/vfio").st_size == 20 * (2 + len(backend.listdir("/dev/vfio")))
