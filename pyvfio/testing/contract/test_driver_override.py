"""driver_override: which driver alone may take the device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from errno import EINVAL

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.expect import fails
from pyvfio.testing.plugin import Lab

BUSES = ["pci", "css"]


@pytest.fixture(params=BUSES)
def override(request: pytest.FixtureRequest, backend: Backend, sysfs: Attributes, lab: Lab) -> Iterator[str]:
    """The attribute of a device on each bus that has one, cleared afterwards."""
    if request.param == "pci":
        device = f"/sys/bus/pci/devices/{lab.pci}"
    else:
        link = f"/sys/bus/ccw/devices/{lab.ccw}"
        if not sysfs.exists(link):
            pytest.skip("this host has no channel device")
        device = f"/sys/bus/css/devices/{backend.readlink(link).split('/')[-2]}"
    if not sysfs.exists(device):
        pytest.skip(f"this host has no device {device}")
    path = f"{device}/driver_override"
    assert sysfs.read(path) == "(null)"
    yield path
    sysfs.write(path, "\n")


@pytest.mark.parametrize("over", [0, 1], ids=["a-page", "longer"])
def test_too_long(sysfs: Attributes, override: str, page: int, over: int) -> None:
    # the text must fit a page with its newline and its zero byte
    with fails(EINVAL):
        sysfs.write(override, "x" * (page - 1 + over))
    assert sysfs.read(override) == "(null)"


def test_none_is_null(sysfs: Attributes, override: str) -> None:
    assert sysfs.read(override) == "(null)"


def test_a_name(sysfs: Attributes, override: str) -> None:
    assert sysfs.write(override, "contract-none") == 13
    assert sysfs.read(override) == "contract-none"


def test_a_name_with_a_newline(sysfs: Attributes, override: str) -> None:
    assert sysfs.write(override, "contract-none\n") == 14
    assert sysfs.read(override) == "contract-none"


def test_text_after_the_newline_is_dropped(sysfs: Attributes, override: str) -> None:
    sysfs.write(override, "one\ntwo\n")
    assert sysfs.read(override) == "one"


def test_a_newline_clears(sysfs: Attributes, override: str) -> None:
    sysfs.write(override, "contract-none")
    assert sysfs.write(override, "\n") == 1
    assert sysfs.read(override) == "(null)"


def test_nothing_clears_nothing(sysfs: Attributes, override: str) -> None:
    # a write of no bytes does not reach the kernel's store: what an empty redirection does
    sysfs.write(override, "contract-none")
    assert sysfs.write(override, b"") == 0
    assert sysfs.read(override) == "contract-none"


def test_truncation_clears_nothing(backend: Backend, sysfs: Attributes, override: str) -> None:
    sysfs.write(override, "contract-none")
    backend.close(backend.open(override, os.O_WRONLY | os.O_TRUNC))
    assert sysfs.read(override) == "contract-none"


def test_a_zero_byte(sysfs: Attributes, override: str) -> None:
    sysfs.write(override, "contract-none")
    assert sysfs.write(override, b"\0") == 1
    assert sysfs.read(override) == "(null)"


def test_the_longest_name(sysfs: Attributes, override: str, page: int) -> None:
    name = "x" * (page - 2)
    assert sysfs.write(override, name) == page - 2
    assert sysfs.read(override) == name


def test_a_second_name_replaces_the_first(sysfs: Attributes, override: str) -> None:
    sysfs.write(override, "one")
    sysfs.write(override, "two-long")
    assert sysfs.read(override) == "two-long"


def test_the_driver_does_not_change(sysfs: Attributes, override: str) -> None:
    device = override.rsplit("/", 1)[0]
    before = sysfs.link(f"{device}/driver")
    sysfs.write(override, "contract-none")
    assert sysfs.link(f"{device}/driver") == before
