"""The kernel backend on the host that runs the tests (any Linux: nothing of VFIO is needed)."""

from __future__ import annotations

import array
import errno
import gc
import os
import stat
import termios
from pathlib import Path

import pytest

from pyvfio.backend import Backend, backend_names, open_backend
from pyvfio.errors import Misuse
from pyvfio_backends.kernel.uevents import KernelUevents, UdevUevents, open_stream


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "bus").mkdir()
    (tmp_path / "bus" / "file").write_bytes(b"hello\n")
    (tmp_path / "link").symlink_to("bus/file")
    return tmp_path


def test_unknown_backends_and_options_are_refused() -> None:
    with pytest.raises(Misuse) as caught:
        open_backend("hardware")
    assert "kernel" in caught.value.next_step
    with pytest.raises(Misuse):
        open_backend("kernel", speed=1)
    with pytest.raises(Misuse):
        open_backend("kernel", uevents="smoke signals")
    assert {"kernel", "software"} <= set(backend_names())


def test_it_is_a_backend() -> None:
    with open_backend("kernel") as host:
        assert isinstance(host, Backend)


def test_verbs_under_another_root(tree: Path) -> None:
    with open_backend("kernel", sysfs=str(tree)) as host:
        with pytest.raises(FileNotFoundError):
            host.open("/sys/none", os.O_RDONLY)
        assert sorted(host.listdir("/sys")) == ["bus", "link"]
        assert host.readlink("/sys/link") == "bus/file"
        fd = host.open("/sys/bus/file", os.O_RDWR)
        assert host.pread(fd, 3, 1) == b"ell"
        assert host.read(fd, 100) == b"hello\n"
        assert host.pwrite(fd, b"J", 0) == 1
        assert host.stat("/sys/link").st_size == 6
        assert host.lstat("/sys/link").st_size == 8
        host.close(fd)
        with pytest.raises(OSError) as caught:
            host.close(fd)
        assert caught.value.errno == errno.EBADF


def test_another_root_for_everything(tree: Path) -> None:
    for name in ("proc", "sys", "dev"):
        (tree / name).mkdir()
        (tree / name / "file").write_text(name)
    with open_backend("kernel", root=str(tree)) as host:
        assert [host.listdir(path) for path in ("/proc", "/sys", "/dev")] == [["file"]] * 3
        assert sorted(host.listdir("/")) == ["bus", "dev", "link", "proc", "sys"]
        with pytest.raises(FileNotFoundError):
            host.stat("/sys/devices")
    with open_backend("kernel", root=str(tree), sysfs="/sys", devfs=str(tree / "bus")) as host:
        assert "devices" in host.listdir("/sys")
        assert host.listdir("/dev") == ["file"]
        assert host.stat("/dev/file").st_size == 6
        assert host.stat("/proc/file").st_size == 4


def test_descriptors_are_close_on_exec(tree: Path) -> None:
    with open_backend("kernel", sysfs=str(tree)) as host:
        fd = host.open("/sys/bus/file", os.O_RDONLY)
        assert not os.get_inheritable(fd)
        host.close(fd)


def test_ioctl_changes_a_buffer_in_place() -> None:
    with open_backend("kernel") as host:
        read, write = os.pipe()
        os.write(write, b"four")
        count = array.array("i", [0])
        assert host.ioctl(read, termios.FIONREAD, count) == 0
        assert count[0] == 4
        os.close(read)
        os.close(write)


def test_mmap(tree: Path) -> None:
    with open_backend("kernel", sysfs=str(tree)) as host:
        fd = host.open("/sys/bus/file", os.O_RDWR)
        with host.mmap(fd, 6) as mapping:
            mapping[0:1] = b"j"
        assert host.pread(fd, 6, 0) == b"jello\n"
        host.close(fd)


def test_holders_names_this_process(tree: Path) -> None:
    with open_backend("kernel", sysfs=str(tree)) as host:
        assert host.holders("/sys/bus/file") == []
        fd = host.open("/sys/bus/file", os.O_RDONLY)
        assert [(h.pid, h.fd) for h in host.holders("/sys/bus/file")] == [(os.getpid(), fd)]
        with pytest.raises(FileNotFoundError):
            host.holders("/sys/none")
        host.close(fd)


def test_holders_of_a_device_whatever_node_they_opened(tree: Path) -> None:
    try:
        os.mknod(tree / "null", 0o600 | stat.S_IFCHR, os.stat(os.devnull).st_rdev)
    except PermissionError:
        pytest.skip("needs mknod (root), as a container's maker has")
    fd = os.open(os.devnull, os.O_RDONLY)
    with open_backend("kernel", devfs=str(tree)) as host:
        assert (os.getpid(), fd) in [(one.pid, one.fd) for one in host.holders("/dev/null")]
        os.close(fd)
        assert (os.getpid(), fd) not in [(one.pid, one.fd) for one in host.holders("/dev/null")]


def test_sysconf() -> None:
    with open_backend("kernel") as host:
        assert host.sysconf("SC_PAGE_SIZE") == os.sysconf("SC_PAGE_SIZE")
        assert host.sysconf("RLIMIT_MEMLOCK") >= -1
        with pytest.raises(ValueError):
            host.sysconf("SC_NONSENSE")


@pytest.mark.parametrize(("source", "kind"), [("netlink", KernelUevents), ("udev", UdevUevents)])
def test_streams_open_and_time_out(source: str, kind: type) -> None:
    gc.collect()  # what earlier tests left is not this one's
    before = len(os.listdir("/proc/self/fd"))
    with open_stream(source, ["no-such-subsystem"]) as stream:
        assert isinstance(stream, kind)
        assert stream.fileno() >= 0
        assert stream.read(0) is None
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def no_libudev(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyudev on a machine without libudev, beside a udev that runs (as in a container)."""
    import pyudev

    def missing(*arguments: object) -> None:
        raise ImportError("No library named udev")

    monkeypatch.setattr(pyudev, "Context", missing)
    monkeypatch.setattr("pyvfio_backends.kernel.uevents.udev_runs", lambda: True)


@pytest.mark.usefixtures("no_libudev")
def test_without_libudev() -> None:
    with pytest.raises(OSError, match="No library named udev") as caught:
        open_stream("udev", [])
    assert caught.value.errno == errno.ENOPKG
    with open_stream("auto", []) as stream:
        assert isinstance(stream, KernelUevents)


def test_closing_the_backend_leaves_the_callers_descriptors(tree: Path) -> None:
    with open_backend("kernel", sysfs=str(tree)) as host:
        fd = host.open("/sys/bus/file", os.O_RDONLY)
    assert os.fstat(fd).st_size
    os.close(fd)


def test_kernel_uevents_keep_the_order_of_the_keys() -> None:
    trigger = Path("/sys/class/mem/null/uevent")
    if not os.access(trigger, os.W_OK):
        pytest.skip("needs a writable /sys/class/mem/null/uevent (root) to make events")
    with open_stream("netlink", ["mem"]) as stream:
        for _ in range(20):
            trigger.write_text("change")
        events = [stream.read(1) for _ in range(20)]
        assert stream.read(0) is None
    first = events[0]
    assert first is not None
    assert list(first.properties)[:3] == ["ACTION", "DEVPATH", "SUBSYSTEM"]
    assert (first.action, first.devpath, first.subsystem) == ("change", "/devices/virtual/mem/null", "mem")
    numbers = [event.seqnum for event in events if event]
    assert numbers == sorted(numbers)
    assert len(numbers) == 20
