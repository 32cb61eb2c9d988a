"""``reset``, ``reset_method`` and ``reset_subordinate``: resets of PCI functions by sysfs."""

from __future__ import annotations

from collections.abc import Iterator
from errno import EINVAL, ENOTTY

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails

METHODS = ("device_specific", "acpi", "flr", "af_flr", "pm", "bus", "cxl_bus")


@pytest.fixture
def file(sysfs: Attributes, function: BoundFunction) -> Iterator[str]:
    """``reset_method``; the kernel's own choice comes back."""
    path = f"{function.path}/reset_method"
    if not sysfs.exists(path):
        pytest.skip("the function cannot be reset")
    yield path
    sysfs.write(path, "default")


def test_the_methods_are_in_the_kernels_order(sysfs: Attributes, file: str) -> None:
    found = sysfs.read(file).split()
    assert found == [name for name in METHODS if name in found]
    assert found


def test_one_is_chosen(sysfs: Attributes, file: str) -> None:
    last = sysfs.read(file).split()[-1]
    for text in (last, f"{last}\n", f"  {last} ", f"\t{last}", f"{last}\n\n"):
        sysfs.write(file, text)
        assert sysfs.read(file) == last
    sysfs.write(file, " ".join([last] * 7))
    assert sysfs.read(file) == " ".join([last] * 7)


def test_what_is_no_method(sysfs: Attributes, file: str) -> None:
    known = sysfs.read(file)
    last = known.split()[-1]
    wrong = ("none", last.upper(), f"{last},{last}", f"{last}\t{last}", f"default {last}", " ".join([last] * 8))
    missing = tuple(name for name in METHODS if name not in known.split())
    for text in (*wrong, *missing):
        with fails(EINVAL):
            sysfs.write(file, text)
        assert sysfs.read(file) == known


def test_all_of_them_can_be_switched_off(sysfs: Attributes, file: str, function: BoundFunction) -> None:
    known = sysfs.read(file)
    sysfs.write(file, "\n")
    assert sysfs.read(file) == ""
    with fails(ENOTTY):
        sysfs.write(f"{function.path}/reset", "1")
    sysfs.write(file, "default\n")
    assert sysfs.read(file) == known


def test_what_is_written_to_reset(sysfs: Attributes, file: str, function: BoundFunction) -> None:
    for wrong in ("0", "2", "x", " 1", "-1"):
        with fails(EINVAL):
            sysfs.write(f"{function.path}/reset", wrong)
    for right in ("1", "1\n", "0x1"):
        sysfs.write(f"{function.path}/reset", right)


def test_every_method_brings_the_header_back(
    backend: Backend, sysfs: Attributes, files: OpenFiles, file: str, function: BoundFunction
) -> None:
    fd = files.open(f"{function.path}/config")
    before = backend.pread(fd, 64, 0)
    for method in sysfs.read(file).split():
        sysfs.write(file, method)
        sysfs.write(f"{function.path}/reset", "1")
        assert (method, backend.pread(fd, 64, 0)) == (method, before)


@pytest.fixture
def bridge(backend: Backend, sysfs: Attributes, function: BoundFunction) -> str:
    """``reset_subordinate`` of the bridge that the function alone is behind."""
    above = backend.readlink(function.path).rsplit("/", 2)[-2]
    path = f"/sys/bus/pci/devices/{above}/reset_subordinate"
    if not sysfs.exists(path):
        pytest.skip("the function is behind no bridge")
    return path


def test_what_is_written_to_reset_subordinate(sysfs: Attributes, bridge: str) -> None:
    sysfs.write(bridge, "0")
    for wrong in ("x", "-1", " 1"):
        with fails(EINVAL):
            sysfs.write(bridge, wrong)


def test_a_bus_comes_back_as_it_was(
    backend: Backend, sysfs: Attributes, files: OpenFiles, bridge: str, function: BoundFunction
) -> None:
    """The function is awake: one that sleeps may have lost its header on the way to D0, before it was kept."""
    fd = files.open(f"{function.path}/config")
    sysfs.write(f"{function.path}/power/control", "on")
    try:
        before = backend.pread(fd, 64, 0)
        for text in ("1", "2\n"):
            sysfs.write(bridge, text)
            assert backend.pread(fd, 64, 0) == before
    finally:
        sysfs.write(f"{function.path}/power/control", "auto")
