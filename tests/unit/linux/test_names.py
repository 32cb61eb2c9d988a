"""Odd paths on the software machine and in a directory of this computer: the errnos are the same."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pyvfio.backend import Backend
from pyvfio.host import Host

LONG = "x" * 256
CALLS: dict[str, Callable[[Backend, str], object]] = {
    "stat of a file/.": lambda host, top: host.stat(f"{top}/file/."),
    "lstat of a file/./.": lambda host, top: host.lstat(f"{top}/file/./."),
    "open of a file/.": lambda host, top: host.open(f"{top}/file/.", os.O_RDONLY),
    "chmod of a file/.": lambda host, top: host.chmod(f"{top}/file/.", 0o600),
    "readlink of a file/.": lambda host, top: host.readlink(f"{top}/file/."),
    "stat of a file//": lambda host, top: host.stat(f"{top}/file//"),
    "rename of what is too long": lambda host, top: host.rename(f"{top}/{LONG}", f"{top}/nothing/new"),
    "rename of nothing to what is too long": lambda host, top: host.rename(f"{top}/nothing", f"{top}/{LONG}"),
    "rename to what is too long": lambda host, top: host.rename(f"{top}/file", f"{top}/{LONG}"),
    "rename of . to what is too long": lambda host, top: host.rename(f"{top}/.", f"{top}/{LONG}"),
    "rename of what is too long, twice": lambda host, top: host.rename(f"{top}/{LONG}", f"{top}/{LONG}"),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_errno_is_the_kernels(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Host("kernel") as host, pytest.raises(OSError) as real:
        CALLS[name](host.backend, str(tmp_path))
    with Host("software", machine="z15-lpar") as host:
        host.backend.close(host.backend.open("/tmp/file", os.O_WRONLY | os.O_CREAT))
        with pytest.raises(OSError) as software:
            CALLS[name](host.backend, "/tmp")
    assert real.value.errno is not None
    assert software.value.errno is not None
    assert errno.errorcode[software.value.errno] == errno.errorcode[real.value.errno]
