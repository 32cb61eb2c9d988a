"""``link`` of a PCI Express function: the states in which its link saves power, and the policy for all links."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes

POLICY = "/sys/module/pcie_aspm/parameters/policy"
WORDS = ("default", "performance", "powersave", "powersupersave")


@pytest.fixture
def file(backend: Backend, sysfs: Attributes, pci_path: str) -> Iterator[str]:
    """``l0s_aspm`` of the function; link and policy are as before afterwards."""
    try:
        names = backend.listdir(f"{pci_path}/link")
    except FileNotFoundError:
        pytest.skip("this kernel leaves links alone")
    if "l0s_aspm" not in names:
        pytest.skip("the link of the function has no such state")
    before = next(word for word in sysfs.read(POLICY).split() if word.startswith("[")).strip("[]")
    yield f"{pci_path}/link/l0s_aspm"
    sysfs.write(f"{pci_path}/link/l0s_aspm", "1")
    sysfs.write(POLICY, before)


def _refuses(backend: Backend, path: str, data: bytes) -> None:
    fd = backend.open(path, os.O_WRONLY)
    try:
        with pytest.raises(OSError) as caught:
            backend.write(fd, data)
    finally:
        backend.close(fd)
    assert caught.value.errno == errno.EINVAL


def test_policy(sysfs: Attributes, file: str) -> None:
    for word in WORDS:
        sysfs.write(POLICY, word)
        assert sysfs.read(POLICY).split() == [f"[{one}]" if one == word else one for one in WORDS]
        assert sysfs.read(file) in (("0", "1") if word == "default" else ("0",) if word == "performance" else ("1",))


def test_a_state_that_is_taken_away(sysfs: Attributes, file: str) -> None:
    sysfs.write(POLICY, "powersave")
    for word, used in (("0", "0"), ("1", "1"), ("n", "0"), ("Y", "1"), ("off", "0"), ("on", "1")):
        sysfs.write(file, word)
        assert sysfs.read(file) == used
    sysfs.write(file, "0")
    sysfs.write(POLICY, "powersupersave")
    assert sysfs.read(file) == "0"


def test_the_default_is_what_firmware_left(sysfs: Attributes, file: str) -> None:
    sysfs.write(POLICY, "default")
    before = sysfs.read(file)
    sysfs.write(file, "1")
    assert sysfs.read(file) == before


def test_what_is_refused(backend: Backend, file: str) -> None:
    _refuses(backend, file, b"2")
    _refuses(backend, file, b"x")
    _refuses(backend, POLICY, b"save")
    _refuses(backend, POLICY, b"default ")
