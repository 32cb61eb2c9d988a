"""The kernel's console: the terminals that it is on, in sysfs, in ``/proc`` and in ``/dev``."""

from __future__ import annotations

import os
import stat

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes


@pytest.fixture(scope="module")
def active(sysfs: Attributes) -> list[str]:
    """The terminals by their names."""
    if not sysfs.exists("/sys/class/tty/console/active"):
        pytest.skip("this host has no console")
    return sysfs.read("/sys/class/tty/console/active").split()


def test_each_is_a_terminal(active: list[str], sysfs: Attributes, backend: Backend) -> None:
    if not active:
        pytest.skip("this host's console is on no terminal")
    for name in active:
        assert sysfs.exists(f"/sys/class/tty/{name.replace('/', '!')}/dev")
        assert stat.S_ISCHR(backend.stat(f"/dev/{name}").st_mode)


def test_the_kernel_lists_them(active: list[str], sysfs: Attributes, backend: Backend) -> None:
    lines = sysfs.read("/proc/consoles").splitlines()
    assert len(lines) == len(active)
    numbers = [line.split()[-1] for line in lines]
    assert numbers == [sysfs.read(f"/sys/class/tty/{name.replace('/', '!')}/dev") for name in reversed(active)]


def test_the_node_of_the_console(active: list[str], sysfs: Attributes, backend: Backend) -> None:
    number = backend.stat("/dev/console").st_rdev
    assert (os.major(number), os.minor(number)) == (5, 1)
    assert sysfs.read("/sys/class/tty/console/dev") == "5:1"
