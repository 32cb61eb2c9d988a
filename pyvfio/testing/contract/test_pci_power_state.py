"""``power_state``: D0 once somebody has enabled the function, unknown again when a driver has left."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pyvfio.abi import pci_regs as regs
from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import settles
from pyvfio.testing.plugin import Lab


@pytest.fixture
def free(backend: Backend, pci_path: str, lab: Lab) -> Iterator[BoundFunction]:
    """The function without driver."""
    found = BoundFunction(backend, lab.pci)
    found.unbind()
    yield found
    found.restore()


def test_without_driver(sysfs: Attributes, free: BoundFunction) -> None:
    assert sysfs.read(f"{free.path}/power_state") == "unknown"


def _can_sleep(backend: Backend, path: str) -> bool:
    """Whether the function has a power management capability."""
    fd = backend.open(f"{path}/config", os.O_RDONLY)
    try:
        config = backend.pread(fd, regs.PCI_CFG_SPACE_SIZE, 0)
    finally:
        backend.close(fd)
    at = config[regs.PCI_CAPABILITY_LIST]
    while at and config[at] != regs.PCI_CAP_ID_PM:
        at = config[at + regs.PCI_CAP_LIST_NEXT]
    return bool(at)


@pytest.mark.parametrize("driver", ["vfio-pci", "virtio-pci"])
def test_with_driver(backend: Backend, sysfs: Attributes, free: BoundFunction, driver: str, held_awake: bool) -> None:
    """vfio-pci lets a function that nobody has open sleep, if it can (``vfio_pci_core_register_device``)."""
    asleep = driver == "vfio-pci" and not held_awake and _can_sleep(backend, free.path)
    free.take(driver)
    assert settles(lambda: sysfs.read(f"{free.path}/power_state") == ("D3hot" if asleep else "D0"))
    free.unbind()
    assert sysfs.read(f"{free.path}/power_state") == "unknown"


def test_enabled_by_hand(sysfs: Attributes, free: BoundFunction) -> None:
    sysfs.write(f"{free.path}/enable", "1")
    assert sysfs.read(f"{free.path}/power_state") == "D0"
    sysfs.write(f"{free.path}/enable", "0")
    assert sysfs.read(f"{free.path}/power_state") == "D0"


def test_a_virtio_driver_without_interrupts(backend: Backend, sysfs: Attributes, free: BoundFunction) -> None:
    """virtio-pci takes the function all the same; its child stays without driver and is marked as failed.

    A function with a line to interrupt by uses that.
    """
    sysfs.write(f"{free.path}/msi_bus", "0")
    try:
        free.take("virtio-pci")
        (child,) = [name for name in backend.listdir(free.path) if name.startswith("virtio")]
        failed = bool(int(sysfs.read(f"{free.path}/{child}/status"), 16) & 0x80)
        has_line = sysfs.read(f"{free.path}/irq") != "0"
        assert (sysfs.link(f"{free.path}/{child}/driver") is not None, failed) == (has_line, not has_line)
        free.unbind()
    finally:
        sysfs.write(f"{free.path}/msi_bus", "1")
