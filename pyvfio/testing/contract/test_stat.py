"""stat, lstat, readlink and listdir."""

from __future__ import annotations

import os
import stat
from errno import EINVAL, ENOENT, ENOTDIR

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import CONTAINER, IOMMU, require_node
from pyvfio.testing.plugin import Lab

MISSING = ["/sys/no", "/sys/bus/pci/devices/none/x", "/dev/vfio/none"]


@pytest.mark.parametrize("path", MISSING)
@pytest.mark.parametrize("verb", ["stat", "lstat", "readlink", "listdir"])
def test_what_is_not_there(backend: Backend, verb: str, path: str) -> None:
    with fails(ENOENT):
        getattr(backend, verb)(path)


@pytest.mark.parametrize("verb", ["stat", "lstat", "readlink", "listdir"])
def test_a_path_through_a_file(backend: Backend, pci_path: str, verb: str) -> None:
    with fails(ENOTDIR):
        getattr(backend, verb)(f"{pci_path}/vendor/x")


def test_listdir_of_a_file(backend: Backend, pci_path: str) -> None:
    with fails(ENOTDIR):
        backend.listdir(f"{pci_path}/vendor")


@pytest.mark.parametrize("path", ["/sys", "/sys/bus/pci", CONTAINER])
def test_readlink_of_no_link(backend: Backend, path: str) -> None:
    with fails(EINVAL):
        backend.readlink(path)


def test_a_directory(backend: Backend) -> None:
    assert stat.S_ISDIR(backend.stat("/sys/bus/pci").st_mode)


def test_a_link_and_what_it_leads_to(backend: Backend, pci_path: str) -> None:
    assert stat.S_ISLNK(backend.lstat(pci_path).st_mode)
    assert stat.S_ISDIR(backend.stat(pci_path).st_mode)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("vendor", 0o444), ("driver_override", 0o644), ("remove", 0o220), ("config", 0o644)],
)
def test_modes(backend: Backend, pci_path: str, name: str, mode: int) -> None:
    status = backend.stat(f"{pci_path}/{name}")
    assert stat.S_ISREG(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == mode


def test_an_attribute_has_the_size_of_a_page(backend: Backend, pci_path: str, page: int) -> None:
    assert backend.stat(f"{pci_path}/vendor").st_size == page


def test_the_size_of_configuration_space(backend: Backend, pci_path: str) -> None:
    assert backend.stat(f"{pci_path}/config").st_size in (256, 4096)


@pytest.mark.parametrize("path", [CONTAINER, IOMMU])
def test_a_node(backend: Backend, path: str) -> None:
    require_node(backend, path)
    status = backend.stat(path)
    assert stat.S_ISCHR(status.st_mode)
    name = path.removeprefix("/dev/")
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    target = backend.readlink(f"/sys/dev/char/{number}")
    assert target.endswith("/" + name.rsplit("/", 1)[-1])


def test_a_link_below_its_bus(backend: Backend, lab: Lab, pci_path: str) -> None:
    target = backend.readlink(pci_path)
    assert target.startswith("../../../devices/")
    assert target.endswith(f"/{lab.pci}")


def test_a_driver_link_leads_back(backend: Backend, pci_path: str, lab: Lab) -> None:
    assert lab.pci in backend.listdir(f"{pci_path}/driver")
    assert backend.readlink(f"{pci_path}/subsystem").endswith("/bus/pci")


def test_listdir_of_a_bus(backend: Backend) -> None:
    names = backend.listdir("/sys/bus/pci")
    assert {"devices", "drivers", "drivers_probe", "drivers_autoprobe", "uevent", "rescan"} <= set(names)
    assert len(names) == len(set(names))
    assert "." not in names


def test_listdir_of_the_nodes(backend: Backend) -> None:
    assert "vfio" in backend.listdir("/dev/vfio")


def test_dots_in_a_path(backend: Backend, pci_path: str) -> None:
    # a link is followed before the dots after it count
    target = os.path.normpath(f"{os.path.dirname(pci_path)}/{backend.readlink(pci_path)}")
    assert backend.stat(f"{pci_path}/..").st_ino == backend.stat(os.path.dirname(target)).st_ino
    assert backend.stat("/sys/bus/./pci/../pci").st_ino == backend.stat("/sys/bus/pci").st_ino
