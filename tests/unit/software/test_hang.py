"""Planned calls that hang: the machine stays usable, and nothing hangs for ever."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from pyvfio.testing.attributes import Attributes
from pyvfio_backends.software import SoftwareBackend, open_backend


@pytest.fixture
def backend() -> SoftwareBackend:
    return open_backend(machine="lab-s390x")


def _function(backend: SoftwareBackend) -> str:
    for name in backend.listdir("/sys/bus/pci/devices"):
        if Attributes(backend).link(f"/sys/bus/pci/devices/{name}/driver") is not None:
            return name
    raise AssertionError("the machine has no bound function")


def test_a_write_hangs_until_it_is_released(backend: SoftwareBackend) -> None:
    with backend:
        sysfs, name = Attributes(backend), _function(backend)
        link = f"/sys/bus/pci/devices/{name}/driver"
        hang = backend.faults.hang("write", path="*/unbind")
        writer = threading.Thread(target=lambda: sysfs.write(f"{link}/unbind", name))
        writer.start()
        assert hang.entered.wait(10)
        assert sysfs.link(link) is not None, "others can look meanwhile"
        sysfs.write(f"/sys/bus/pci/devices/{name}/driver_override", "vfio-pci")
        hang.release()
        assert sysfs.link(link) is None, "and then it does what it was to do"
        writer.join(10)
        assert not writer.is_alive()
        assert hang.hits == 1


def test_only_the_nth_call_hangs(backend: SoftwareBackend) -> None:
    with backend:
        hang = backend.faults.hang("stat", path="/sys*", nth=3)
        backend.stat("/sys")
        backend.stat("/dev")
        backend.stat("/sys")
        asker = threading.Thread(target=backend.stat, args=("/sys",))
        asker.start()
        assert hang.entered.wait(10)
        backend.stat("/sys")
        backend.faults.release_all()
        asker.join(10)
        assert not asker.is_alive()


def test_released_before_it_is_reached(backend: SoftwareBackend) -> None:
    with backend:
        backend.faults.hang("open", times=-1).release()
        backend.close(backend.open("/sys", os.O_RDONLY))


@pytest.mark.parametrize("verb", ["stat", "read"])
def test_closing_the_machine_ends_it(backend: SoftwareBackend, verb: str) -> None:
    hang = backend.faults.hang(verb)
    fd = backend.open("/sys/kernel/uevent_seqnum", os.O_RDONLY)
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.append(backend.stat("/sys") if verb == "stat" else backend.read(fd, 10))
        except OSError as error:
            answers.append(error)

    asker = threading.Thread(target=ask)
    asker.start()
    assert hang.entered.wait(10)
    backend.close()
    asker.join(10)
    assert len(answers) == 1


def test_it_does_not_keep_a_program_from_its_end() -> None:
    program = (
        "import threading\n"
        "from pyvfio_backends.software import open_backend\n"
        "backend = open_backend(machine='lab-s390x')\n"
        "hang = backend.faults.hang('stat')\n"
        "threading.Thread(target=backend.stat, args=('/sys',)).start()\n"
        "hang.entered.wait()\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 0
