"""Plain files that are replaced: owner and permissions stay, whatever the umask is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyvfio.files import HostFiles
from pyvfio.host import Host


@pytest.fixture
def narrow() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("narrow")
def test_a_change_keeps_the_permissions(tmp_path: Path) -> None:
    """Others read these files: driverctl, mdevctl, people."""
    path = tmp_path / "definition"
    path.write_text("old")
    path.chmod(0o664)
    with Host("kernel") as host:
        HostFiles(host.backend).write(str(path), "new", 0o664)
        HostFiles(host.backend).write(str(tmp_path / "other"), "new", 0o644)
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o664
    assert (tmp_path / "other").stat().st_mode & 0o777 == 0o600  # the umask is the user's word for new files
    assert sorted(one.name for one in tmp_path.iterdir()) == ["definition", "other"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_change_keeps_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "definition"
    path.write_text("old")
    os.chown(path, 54321, 54322)
    with Host("kernel") as host:
        HostFiles(host.backend).write(str(path), "new")
    assert (path.stat().st_uid, path.stat().st_gid) == (54321, 54322)


def test_what_lies_beside_a_file_is_not_followed(tmp_path: Path) -> None:
    """A link in an image (``--root``) that somebody else made must not lead root to a file of the host."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "definition.pyvfio-new").symlink_to(victim)
    with Host("kernel") as host:
        HostFiles(host.backend).write(str(tmp_path / "definition"), "new")
    assert victim.read_text() == "precious"
    assert (tmp_path / "definition").read_text() == "new"
    assert not (tmp_path / "definition").is_symlink()
