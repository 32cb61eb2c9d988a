"""A backend with a deadline: late calls are given up, named, and never disturb the ones after them."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from pyvfio.backend import Holder, open_backend
from pyvfio.binding.patience import Patience, Pending

DEADLINE = 1.0
"""Long enough for a quick call on a busy machine."""


class Slow:
    """The kernel backend, with a `write` and an `open` that wait for `gate`."""

    def __init__(self) -> None:
        self.real = open_backend("kernel")
        self.gate = threading.Event()
        self.slow: set[str] = set()
        self.opened: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)

    def write(self, fd: int, data: bytes) -> int:
        if "write" in self.slow:
            self.gate.wait(10)
        return self.real.write(fd, data)

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        if "open" in self.slow:
            self.gate.wait(10)
        fd = self.real.open(path, flags, mode)
        self.opened.append(fd)
        return fd


class Many:
    """A backend with so many processes that looking through them takes its time."""

    def holders(self, path: str) -> list[Holder]:
        time.sleep(0.2)
        return [Holder(7, "program", 3)]


def test_looking_for_holders_has_longer_than_the_deadline() -> None:
    """It is a walk through all processes, not one wait for the kernel."""
    with Patience(Many(), 0.05, on_wait=lambda pending: pytest.fail(str(pending))) as host:  # type: ignore[arg-type]
        assert [one.pid for one in host.holders("/dev/null")] == [7]


def test_looking_for_holders_is_given_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyvfio.binding.patience._SEARCH", 0.05)
    with Patience(Many(), 0.05) as host:  # type: ignore[arg-type]
        with pytest.raises(TimeoutError) as caught:
            host.holders("/dev/null")
        assert caught.value.filename == "/dev/null"
        _until(lambda: not host.pending)


def _until(ready: object) -> None:
    limit = time.monotonic() + 5
    while not ready():  # type: ignore[operator]
        assert time.monotonic() < limit
        time.sleep(0.005)


def test_verbs_pass_through(tmp_path: Path) -> None:
    with Patience(open_backend("kernel"), 5) as host:
        assert host.name == "kernel"
        host.mkdir(f"{tmp_path}/d")
        fd = host.open(f"{tmp_path}/d/f", os.O_RDWR | os.O_CREAT, 0o600)
        assert host.write(fd, b"hello") == 5
        assert host.pwrite(fd, b"J", 0) == 1
        host.fsync(fd)
        assert host.pread(fd, 5, 0) == b"Jello"
        assert host.read(fd, 5) == b""
        host.close(fd)
        host.chmod(f"{tmp_path}/d/f", 0o640)
        assert host.stat(f"{tmp_path}/d/f").st_mode & 0o777 == 0o640
        host.rename(f"{tmp_path}/d/f", f"{tmp_path}/d/g")
        assert host.listdir(f"{tmp_path}/d") == ["g"]
        os.symlink("g", tmp_path / "d" / "l")
        assert host.readlink(f"{tmp_path}/d/l") == "g"
        assert host.lstat(f"{tmp_path}/d/l").st_size == 1
        assert host.holders(f"{tmp_path}/d/g") == []
        host.unlink(f"{tmp_path}/d/l")
        host.unlink(f"{tmp_path}/d/g")
        host.rmdir(f"{tmp_path}/d")
        assert host.sysconf("SC_PAGE_SIZE") == os.sysconf("SC_PAGE_SIZE")
        with pytest.raises(FileNotFoundError):
            host.stat(f"{tmp_path}/d")
    assert not [thread for thread in threading.enumerate() if thread.name == "pyvfio-call"]


def test_a_late_write_is_given_up_and_comes_to_effect_later(tmp_path: Path) -> None:
    slow = Slow()
    told: list[Pending] = []
    with Patience(slow, DEADLINE, on_wait=told.append) as host:  # type: ignore[arg-type]
        fd = host.open(f"{tmp_path}/f", os.O_RDWR | os.O_CREAT)
        slow.slow.add("write")
        with pytest.raises(TimeoutError) as caught:
            host.write(fd, b"late")
        assert caught.value.errno == errno.ETIMEDOUT
        assert [str(call) for call in host.pending] == [f"write {tmp_path}/f"] == [str(call) for call in told]
        assert host.pending[0].writes
        assert host.pread(fd, 9, 0) == b""  # another thread makes the next call
        slow.gate.set()
        _until(lambda: not host.pending)
        assert host.pread(fd, 9, 0) == b"late"
        host.close(fd)
    _until(lambda: not [thread for thread in threading.enumerate() if thread.name == "pyvfio-call"])


def test_a_late_write_is_waited_for_when_asked(tmp_path: Path) -> None:
    slow = Slow()
    slow.slow.add("write")
    with Patience(slow, DEADLINE, wait=None, on_wait=lambda call: slow.gate.set()) as host:  # type: ignore[arg-type]
        fd = host.open(f"{tmp_path}/f", os.O_RDWR | os.O_CREAT)
        assert host.write(fd, b"late") == 4
        assert host.pending == []
        host.close(fd)


def test_a_late_open_leaves_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    slow = Slow()
    slow.slow.add("open")
    with Patience(slow, DEADLINE) as host:  # type: ignore[arg-type]
        with pytest.raises(TimeoutError):
            host.open(f"{tmp_path}/f", os.O_RDONLY)
        assert not host.pending[0].writes
        slow.gate.set()
        _until(lambda: slow.opened)

        def closed() -> bool:
            try:
                os.fstat(slow.opened[0])
            except OSError:
                return True
            return False

        _until(closed)


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_call_that_comes_back_at_the_last_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    (tmp_path / "f").write_text("")
    slow = Slow()

    def last_moment(self: Patience, pending: Pending) -> None:
        assert pending.done.wait(5)
        raise KeyboardInterrupt if interrupted else TimeoutError(errno.ETIMEDOUT, "late", pending.path)

    with Patience(slow, DEADLINE) as host:  # type: ignore[arg-type]
        with monkeypatch.context() as patch:
            patch.setattr(Patience, "_await", last_moment)
            if interrupted:
                with pytest.raises(KeyboardInterrupt):
                    host.open(f"{tmp_path}/f", os.O_RDONLY)
            else:
                assert host.open(f"{tmp_path}/f", os.O_RDONLY) == slow.opened[0]
        assert host.pending == []
    if interrupted:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(slow.opened[0])
    else:
        os.close(slow.opened[0])


def test_a_holder_reads_as_people_say_it() -> None:
    assert str(Holder(12, "qemu", 9)) == "qemu (pid 12, fd 9)"
