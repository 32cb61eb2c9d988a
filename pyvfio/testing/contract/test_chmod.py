"""chmod and chown of files, directories, attributes and nodes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from errno import EACCES, EIO, ENOENT, ENOTDIR

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import CONTAINER


@pytest.fixture(params=["file", "directory", "attribute", "node"])
def path(request: pytest.FixtureRequest, backend: Backend, folder: str, pci_path: str) -> Iterator[str]:
    """A file of each kind, whose mode and owner are set back."""
    path = {"attribute": f"{pci_path}/driver_override", "node": CONTAINER}.get(request.param, f"{folder}/x")
    if request.param == "file":
        backend.close(backend.open(path, os.O_WRONLY | os.O_CREAT))
    if request.param == "directory":
        backend.mkdir(path)
    before = backend.stat(path)
    yield path
    backend.chown(path, before.st_uid, before.st_gid)
    backend.chmod(path, stat.S_IMODE(before.st_mode))


@pytest.mark.parametrize("verb", ["chmod", "chown"])
@pytest.mark.parametrize(("path", "error"), [("/tmp/no-such-file", ENOENT), ("/sys/kernel/uevent_seqnum/x", ENOTDIR)])
def test_what_is_not_there(backend: Backend, verb: str, path: str, error: int) -> None:
    with fails(error):
        backend.chmod(path, 0o644) if verb == "chmod" else backend.chown(path, 0, 0)


@pytest.mark.parametrize("mode", [0o640, 0o666, 0o4711])
def test_a_mode(backend: Backend, path: str, mode: int) -> None:
    kind = stat.S_IFMT(backend.stat(path).st_mode)
    backend.chmod(path, mode)
    assert backend.stat(path).st_mode == kind | mode
    assert backend.lstat(path).st_mode == kind | mode


def test_owners(backend: Backend, path: str) -> None:
    backend.chown(path, 1000, 1001)
    status = backend.stat(path)
    assert (status.st_uid, status.st_gid) == (1000, 1001)
    backend.chown(path, -1, 7)
    backend.chown(path, 8, -1)
    backend.chown(path, -1, -1)
    status = backend.stat(path)
    assert (status.st_uid, status.st_gid) == (8, 7)


def test_the_mode_of_an_attribute_binds_root_too(backend: Backend, sysfs: Attributes, pci_path: str) -> None:
    path = f"{pci_path}/driver_override"
    backend.chmod(path, 0o200)
    try:
        with fails(EACCES):
            sysfs.read(path)
        backend.chmod(f"{pci_path}/vendor", 0o666)
        with fails(EIO):  # a mode gives no store function
            sysfs.write(f"{pci_path}/vendor", "1")
    finally:
        backend.chmod(path, 0o644)
        backend.chmod(f"{pci_path}/vendor", 0o444)


def test_the_mode_of_a_plain_file_does_not_bind_root(backend: Backend, folder: str) -> None:
    backend.close(backend.open(f"{folder}/a", os.O_WRONLY | os.O_CREAT, 0))
    backend.close(backend.open(f"{folder}/a", os.O_RDWR))


@pytest.mark.parametrize(
    ("mode", "left"), [(0o6777, 0o777), (0o2644, 0o2644), (0o4644, 0o644)], ids=["program", "locking", "set-user"]
)
def test_a_new_owner_takes_away_set_user(backend: Backend, folder: str, mode: int, left: int) -> None:
    backend.close(backend.open(f"{folder}/a", os.O_WRONLY | os.O_CREAT))
    backend.chmod(f"{folder}/a", mode)
    backend.chown(f"{folder}/a", 1000, 1000)
    assert stat.S_IMODE(backend.stat(f"{folder}/a").st_mode) == left


def test_a_group_that_is_inherited(backend: Backend, folder: str) -> None:
    backend.chown(folder, -1, 42)
    backend.chmod(folder, 0o2755)
    backend.mkdir(f"{folder}/a", 0o700)
    backend.close(backend.open(f"{folder}/b", os.O_WRONLY | os.O_CREAT))
    assert stat.S_IMODE(backend.stat(f"{folder}/a").st_mode) == 0o2700
    assert [backend.stat(f"{folder}/{name}").st_gid for name in "ab"] == [42, 42]


def test_a_device_that_comes_back_has_its_first_owner(backend: Backend, function2: BoundFunction) -> None:
    path = function2.group
    before = backend.stat(path)
    backend.chmod(path, 0o666)
    backend.chown(path, 1000, 1000)
    function2.unbind()
    function2.take("vfio-pci")
    after = backend.stat(path)
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
