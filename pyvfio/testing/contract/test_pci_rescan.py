"""``remove`` and ``rescan``: a function goes and comes again, with addresses that lead to it."""

from __future__ import annotations

from collections.abc import Iterator
from errno import ENODEV

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.expect import fails, settles
from pyvfio.testing.plugin import Lab

RESCAN = "/sys/bus/pci/rescan"
_WINDOWS = range(13, 16)
_BARS = 6


@pytest.fixture
def path(sysfs: Attributes, lab: Lab) -> Iterator[str]:
    """The second function with its own driver; it is there afterwards."""
    link = f"/sys/bus/pci/devices/{lab.pci2}"
    if not sysfs.exists(link):
        pytest.skip(f"this host has no pci device {lab.pci2}")
    yield link
    if not sysfs.exists(link):
        sysfs.write(RESCAN, "1")


def resources(sysfs: Attributes, path: str) -> list[tuple[int, int, int]]:
    """First and last address and flags of each resource."""
    return [
        (int(first, 16), int(last, 16), int(flags, 16))
        for first, last, flags in (line.split() for line in sysfs.read(f"{path}/resource").splitlines())
    ]


@pytest.mark.parametrize("way", ["bus type", "bus"])
def test_it_goes_and_comes(backend: Backend, sysfs: Attributes, path: str, lab: Lab, way: str) -> None:
    driver = sysfs.link(f"{path}/driver")
    place, before = backend.readlink(path), resources(sysfs, path)
    sysfs.write(f"{path}/remove", "1")
    assert lab.pci2 not in backend.listdir("/sys/bus/pci/devices")
    with fails(ENODEV):
        sysfs.write("/sys/bus/pci/drivers/vfio-pci/bind", lab.pci2)
    bus = lab.pci2.rsplit(":", 1)[0]
    own = f"/sys/class/pci_bus/{bus}"
    sysfs.write(f"{own}/rescan" if way == "bus" and sysfs.exists(own) else RESCAN, "1")
    assert backend.readlink(path) == place
    assert settles(lambda: sysfs.link(f"{path}/driver") == driver)
    after = resources(sysfs, path)
    assert [last - first for first, last, _ in after[:_BARS]] == [last - first for first, last, _ in before[:_BARS]]
    above = f"/sys/bus/pci/devices/{place.rsplit('/', 2)[-2]}"
    if sysfs.exists(f"{above}/resource"):
        windows = [one for number, one in enumerate(resources(sysfs, above)) if number in _WINDOWS]
        for first, last, flags in after:
            assert not flags or any(one[0] <= first and last <= one[1] for one in windows)


def test_looking_again_changes_nothing(backend: Backend, sysfs: Attributes, path: str) -> None:
    """The first look may give addresses, or take those of ROMs that can have none; the second one does neither."""

    def every() -> dict[str, list[tuple[int, int, int]]]:
        names = backend.listdir("/sys/bus/pci/devices")
        return {name: resources(sysfs, f"/sys/bus/pci/devices/{name}") for name in names}

    sysfs.write(RESCAN, "1")
    before = every()
    sysfs.write(RESCAN, "1")
    sysfs.write(f"{path}/rescan", "1")
    assert every() == before
