"""The pytest plugin as somebody else's project has it: its fixtures and options, without any conftest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

USER = """
import errno
import os

import pyvfio
import pytest
from pyvfio.testing.bell import Bell


def test_a_driver(machine):
    host = pyvfio.Host(machine)
    function = host.function("0060:00:00.0")
    pyvfio.bind(function)
    with pyvfio.open_device(host, function) as device, Bell(device) as bell:
        with device.space.buffer(8192) as memory:
            bell.fill(memory.iova, 0x55, 100)
            assert bytes(memory.view[:101]) == b"\\x55" * 100 + b"\\0"


def test_each_test_has_its_own_machine(machine):
    assert pyvfio.Host(machine).function("0060:00:00.0").driver is None


def test_a_fault(machine):
    machine.faults.fail("open", errno.EACCES, path="/dev/vfio/vfio")
    with pytest.raises(PermissionError):
        machine.open("/dev/vfio/vfio", os.O_RDWR)


def test_two_machines(software_machine):
    one, two = software_machine("z15-lpar"), software_machine("z15-lpar", seed=1)
    pyvfio.bind(pyvfio.Host(one).function("0060:00:00.0"))
    assert pyvfio.Host(two).function("0060:00:00.0").driver is None


def test_the_chosen_backend(backend, lab):
    assert backend.name == lab.backend_name
    print("functions:", *pyvfio.Host(backend).functions())
"""

LEAK = """
import os
descriptors = []

def test_first(software_machine):
    descriptors.append(len(os.listdir("/proc/self/fd")))
    machine = software_machine("z15-lpar", paced=True)
    machine.open("/dev/vfio/vfio", os.O_RDWR)
    machine.uevents()

def test_second():
    assert len(os.listdir("/proc/self/fd")) == descriptors[0]
"""


def run(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_user.py").write_text(source)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rA",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
        *options,
        ".",
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_an_unknown_backend(tmp_path: Path) -> None:
    done = run(tmp_path, USER, "--pyvfio-backend", "hardware", "-k", "chosen")
    assert done.returncode == 1
    assert "no backend of this name is installed" in done.stdout


def test_an_unknown_machine(tmp_path: Path) -> None:
    done = run(tmp_path, USER, "--pyvfio-machine", "z16", "-k", "chosen")
    assert done.returncode == 1
    assert "no machine of this name" in done.stdout


def test_the_fixtures(tmp_path: Path) -> None:
    done = run(tmp_path, USER)
    assert "5 passed" in done.stdout, done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("machine", "functions"),
    [
        ("z15-lpar", "0011:00:00.0 0020:00:00.0 0060:00:00.0"),
        ("lab-s390x", "0011:00:00.0 0020:00:00.0 0030:00:00.0 0040:00:00.0"),
    ],
)
def test_the_machine_is_chosen_by_option(tmp_path: Path, machine: str, functions: str) -> None:
    done = run(tmp_path, USER, "--pyvfio-machine", machine, "-k", "chosen")
    assert f"functions: {functions}\n" in done.stdout
    assert done.returncode == 0


def test_the_contract_holds_for_functions_that_no_driver_has() -> None:
    """On a machine that is not the lab's, with other functions, as a user may choose."""
    words = ["--pyvfio-machine", "z17-pci", "--pyvfio-pci", "2000:00:00.0", "--pyvfio-pci2", "4000:00:00.0"]
    chosen = ["-k", "test_pci_hotplug or test_pci_plug or test_zpci_functions or test_zpci_statistics"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs", "pyvfio.testing.contract"]
    done = subprocess.run([*command, *words, *chosen], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout


def test_machines_are_closed_after_each_test(tmp_path: Path) -> None:
    done = run(tmp_path, LEAK)
    assert "2 passed" in done.stdout, done.stdout
