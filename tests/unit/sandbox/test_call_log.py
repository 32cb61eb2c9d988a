"""Programs that share a machine by a log of calls come to the same state, whatever they do and however they end."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from walk import content, differences, walk

import pyvfio
from pyvfio import binding
from pyvfio.errors import Misuse
from pyvfio.files import HostFiles
from pyvfio.host import Host
from pyvfio.testing.attributes import Attributes
from pyvfio_backends.software import SoftwareBackend, open_backend

FUNCTION = "0060:00:00.0"
DEVICE = "0.0.013f"
UUID = "66826a94-72c4-557f-beca-d135a70628e9"

Open = Callable[[], SoftwareBackend]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def program(log: Path) -> Iterator[Open]:
    """Each call is another program on the same machine."""
    opened: list[SoftwareBackend] = []

    def start() -> SoftwareBackend:
        opened.append(open_backend(machine="z15-lpar", log=log))
        return opened[-1]

    yield start
    for backend in opened:
        backend.close()


def _bind(host: Host) -> None:
    binding.bind(host.function(FUNCTION))


def _bind_and_release(host: Host) -> None:
    _bind(host)
    binding.release(host.function(FUNCTION))


def _take(host: Host) -> None:
    binding.ccw_take(host, DEVICE, uuid=UUID)


def _take_and_give_back(host: Host) -> None:
    _take(host)
    binding.ccw_give_back(host, DEVICE, online=True)


def _files(host: Host) -> None:
    files = HostFiles(host.backend)
    files.make_directory("/etc/pyvfio/conf.d", 0o750)
    files.write("/etc/pyvfio/conf.d/a", "one")
    files.write("/etc/pyvfio/conf.d/a", "two")
    files.write("/etc/pyvfio/log", "first\n")
    files.append("/etc/pyvfio/log", "second\n")
    files.remove("/etc/pyvfio/none")
    host.backend.chmod("/dev/vfio/vfio", 0o666)
    host.backend.chown("/etc/pyvfio/log", 1000, 1001)
    host.backend.rename("/etc/pyvfio/conf.d", "/etc/pyvfio/old.d")


@pytest.mark.parametrize("action", [_bind, _bind_and_release, _take, _take_and_give_back, _files])
def test_the_next_program_finds_what_the_first_left(program: Open, action: Callable[[Host], None]) -> None:
    first = program()
    before = walk(first)
    action(Host(first))
    after = walk(first)
    assert after != before
    assert differences(walk(program()), after) == []


def test_programs_in_turn_and_at_the_same_time(program: Open) -> None:
    one, two = program(), program()
    _bind(Host(one))
    assert Host(two).function(FUNCTION).driver == "vfio-pci"
    _take(Host(two))
    assert [str(mdev.address) for mdev in Host(one).mdevs()] == [UUID]
    binding.release(Host(one).function(FUNCTION))
    _files(Host(two))
    assert differences(walk(one), walk(two)) == []
    assert differences(walk(program()), walk(two)) == []


def test_failures_are_made_again(program: Open) -> None:
    one = program()
    sysfs = Attributes(one)
    for path, text in [
        ("/sys/bus/pci/drivers/vfio-pci/bind", "0060:00:00.0"),
        ("/sys/bus/pci/drivers_probe", "none"),
        ("/sys/bus/pci/devices/0060:00:00.0/driver_override", "x" * 5000),
    ]:
        with pytest.raises(OSError):
            sysfs.write(path, text)
    with pytest.raises(OSError):
        one.mkdir("/etc")
    with pytest.raises(OSError):
        one.rename("/etc/none", "/etc/x")
    with pytest.raises(OSError):
        one.open("/sys/new", os.O_CREAT | os.O_WRONLY)
    assert differences(walk(program()), walk(one)) == []


def test_random_changes_of_files(program: Open, log: Path) -> None:
    chance = random.Random(20)
    backends = [program(), program()]
    paths = ["/tmp/a", "/tmp/b", "/tmp/a/c", "/tmp/b/c", "/tmp/d"]
    opened: list[list[int]] = [[], []]
    for _ in range(600):
        which = chance.randrange(2)
        backend, fds = backends[which], opened[which]
        path, other = chance.choice(paths), chance.choice(paths)
        flags = chance.choice([os.O_RDWR, os.O_RDWR | os.O_APPEND, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_EXCL])
        try:
            match chance.randrange(9):
                case 0:
                    backend.mkdir(path, chance.choice([0o755, 0o700]))
                case 1:
                    backend.rmdir(path)
                case 2:
                    backend.rename(path, other)
                case 3:
                    backend.unlink(path)
                case 4:
                    fds.append(backend.open(path, flags | os.O_CREAT))
                case 5 if fds:
                    backend.write(chance.choice(fds), bytes([chance.randrange(256)]) * chance.randrange(9))
                case 6 if fds:
                    backend.pwrite(chance.choice(fds), b"xyz", chance.randrange(20))
                case 7:
                    backend.chmod(path, chance.choice([0o600, 0o644]))
                case _:
                    backend.chown(path, chance.randrange(3), -1)
        except OSError:
            continue
    states = [walk(backend, "/tmp") for backend in (*backends, program())]
    assert len(states[0]) > 1
    assert differences(states[0], states[1]) == []
    assert differences(states[0], states[2]) == []
    assert len(log.read_bytes().splitlines()) > 200


def test_reading_adds_nothing(program: Open, log: Path) -> None:
    backend = program()
    before = log.read_bytes()
    walk(backend)
    Host(backend).devices("pci")
    assert log.read_bytes() == before


def test_a_line_that_was_not_finished_is_dropped(program: Open, log: Path) -> None:
    one = program()
    one.mkdir("/tmp/a")
    with log.open("ab") as file:
        file.write(b'["mkdir", "/tmp/b')
    assert program().listdir("/tmp") == ["a"]
    one.mkdir("/tmp/c")
    assert program().listdir("/tmp") == ["a", "c"]
    assert b"/tmp/b" not in log.read_bytes()


@pytest.mark.parametrize("text", ["", "nonsense\n", '{"version": 1, "machine": "lab-s390x", "seed": 0}\n'])
def test_another_log(log: Path, text: str) -> None:
    log.write_text(text)
    if not text:
        open_backend(machine="z15-lpar", log=log).close()
        return
    with pytest.raises(Misuse, match="log of calls"):
        open_backend(machine="z15-lpar", log=log)
    log.write_text('{"version": 1, "machine": "z15-lpar", "seed": 0}\n["dance"]\n')
    with pytest.raises(Misuse, match="no call"):
        open_backend(machine="z15-lpar", log=log)


@pytest.mark.parametrize(
    "line",
    [
        "5", "[]", "{}", "null", '[["a"], 1]', '["write"]', '["write", 5, 6, 7]', '["write", "/sys/x", "€", 0]',
        '["mkdir", "/tmp/\\u0000", 5]', '["open", 1, 2, 3]', '["chmod", "/tmp", "x"]', '["mkdir", "/x", 1, 2, 3]',
        "[" * 100_000,
    ],
)  # fmt: skip
def test_a_line_that_is_no_call(program: Open, log: Path, line: str) -> None:
    program()
    with log.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(Misuse, match="no call") as caught:
        program()
    assert len(caught.value.cause) < 1000


def test_who_listens_hears_of_the_others(program: Open) -> None:
    listener = program()
    with listener.uevents(["pci"]) as stream:
        _bind(Host(program()))
        event = stream.read(10)
    assert event is not None
    assert (event.action, event.properties["DRIVER"]) == ("bind", "vfio-pci")


def test_what_another_has_open_does_not_stop_this_program(program: Open) -> None:
    one, two = program(), program()
    _bind(Host(one))
    done = threading.Event()

    def unbind() -> None:
        Attributes(two).write("/sys/bus/pci/drivers/vfio-pci/unbind", FUNCTION)
        done.set()

    with pyvfio.open_device(Host(one), FUNCTION):
        threading.Thread(target=unbind, daemon=True).start()
        assert done.wait(10)
        assert Host(two).function(FUNCTION).driver is None
        one.stat("/sys")  # its unbinding waits, and all else goes on
        one.mkdir("/tmp/a")
        assert two.listdir("/tmp") == ["a"]
    assert Host(one).function(FUNCTION).driver is None


def test_other_programs_are_named_as_holders(program: Open, log: Path) -> None:
    script = (
        "import os, sys\n"
        "from pyvfio_backends.software import open_backend\n"
        "backend = open_backend(machine='z15-lpar', log=sys.argv[1])\n"
        "backend.open('/dev/vfio/vfio', os.O_RDWR)\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    backend = program()
    with subprocess.Popen(
        [sys.executable, "-c", script, str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        holders = backend.holders("/dev/vfio/vfio")
        assert [holder.pid for holder in holders] == [other.pid]
        assert content(backend, f"/proc/{other.pid}/comm") == Path(f"/proc/{other.pid}/comm").read_bytes()
        with pytest.raises(FileNotFoundError):
            backend.stat("/proc/1")
        other.kill()
    assert backend.holders("/dev/vfio/vfio") == []
    assert not Attributes(backend).exists(f"/proc/{other.pid}")


def test_programs_that_write_at_once_lose_nothing(log: Path) -> None:
    script = (
        "import os, sys\n"
        "from pyvfio.files import HostFiles\n"
        "from pyvfio_backends.software import open_backend\n"
        "backend = open_backend(machine='lab-s390x', log=sys.argv[1])\n"
        "files = HostFiles(backend)\n"
        "for turn in range(40):\n"
        "    backend.mkdir(f'/tmp/{sys.argv[2]}-{turn}')\n"
        "    files.write(f'/tmp/{sys.argv[2]}', str(turn))\n"
        "    fd = backend.open('/tmp/all', os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "    backend.write(fd, f'{sys.argv[2]} {turn}\\n'.encode())\n"
        "    backend.close(fd)\n"
    )
    shared = log.with_name("shared")
    programs = [subprocess.Popen([sys.executable, "-c", script, str(shared), str(number)]) for number in range(3)]
    assert [each.wait(60) for each in programs] == [0, 0, 0]
    with open_backend(machine="lab-s390x", log=shared) as backend:
        lines = Attributes(backend).read("/tmp/all").splitlines()
        assert sorted(lines) == sorted(f"{number} {turn}" for number in range(3) for turn in range(40))
        for number in range(3):
            assert [line for line in lines if line[0] == str(number)] == [f"{number} {turn}" for turn in range(40)]
            assert Attributes(backend).read(f"/tmp/{number}") == "39"
        assert len(backend.listdir("/tmp")) == 3 * 40 + 3 + 1


def test_a_long_log_is_made_again_fast(program: Open, log: Path) -> None:
    one = program()
    for _ in range(40):
        _bind_and_release(Host(one))
    calls = len(log.read_bytes().splitlines())
    assert calls > 200
    began = time.process_time()
    program()
    assert (time.process_time() - began) / calls < 1e-3, "a log of a thousand calls would cost a second"
