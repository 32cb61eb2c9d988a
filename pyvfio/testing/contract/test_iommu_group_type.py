"""``type`` of an IOMMU group: what may be written while a driver has the device, and to a mediated device's group."""

from __future__ import annotations

from errno import EINVAL, EOPNOTSUPP, EPERM

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction, BoundMdev
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import OpenDevice
from pyvfio.testing.plugin import Lab

GROUPS = "/sys/kernel/iommu_groups"
TYPES = ["identity", "DMA", "DMA-FQ", "auto", "DMA\n"]


@pytest.mark.parametrize("text", TYPES)
def test_a_driver_uses_it(backend: Backend, sysfs: Attributes, pci_path: str, lab: Lab, text: str) -> None:
    bound = BoundFunction(backend, lab.pci)
    assert bound.driver == "virtio-pci"
    path = f"{GROUPS}/{bound.group_number}/type"
    if text == "DMA-FQ" and sysfs.read(path) == "DMA":  # the one change that the kernel makes under a driver
        sysfs.write(path, text)
        assert sysfs.read(path) == text
        bound.unbind()
        sysfs.write(path, "auto")
        bound.probe("\n")
        assert (sysfs.read(path), bound.driver) == ("DMA", "virtio-pci")
        return
    with fails(EPERM):
        sysfs.write(f"{GROUPS}/{bound.group_number}/type", text)


@pytest.mark.parametrize("text", TYPES)
def test_a_program_uses_it(sysfs: Attributes, function: BoundFunction, opened: OpenDevice, text: str) -> None:
    path = f"{GROUPS}/{function.group_number}/type"
    if text == "DMA-FQ" and sysfs.read(path) == "DMA":
        sysfs.write(path, text)
        assert sysfs.read(path) == text
        return
    with fails(EPERM):
        sysfs.write(path, text)


def test_nobody_uses_it(sysfs: Attributes, function: BoundFunction, vtd: bool) -> None:
    path = f"{GROUPS}/{function.group_number}/type"
    sysfs.write(path, "auto")
    first = sysfs.read(path)
    if first == "unknown":  # POWER has the platform's domain, and no other
        for text in ("identity", "DMA\n", "DMA-FQ", "DMA"):
            with fails(EINVAL):
                sysfs.write(path, text)
        return
    assert first == "DMA-FQ" or (vtd and first == "DMA")  # VT-d flushes at once under a hypervisor
    for text in ("DMA\n", "DMA-FQ", "DMA"):
        sysfs.write(path, text)
        assert sysfs.read(path) == text.strip()
    if vtd:
        sysfs.write(path, "identity")
        assert sysfs.read(path) == "identity"
    else:
        with fails(EOPNOTSUPP):
            sysfs.write(path, "identity")
    sysfs.write(path, "auto")
    assert sysfs.read(path) == first


@pytest.mark.parametrize("text", ["DMA ", "dma", "0", "\n", "unmanaged"])
def test_no_type(sysfs: Attributes, function: BoundFunction, text: str) -> None:
    with fails(EINVAL):
        sysfs.write(f"{GROUPS}/{function.group_number}/type", text)


@pytest.mark.parametrize("text", TYPES)
def test_a_group_without_an_iommu(sysfs: Attributes, mdev: BoundMdev, text: str) -> None:
    with fails(EINVAL):
        sysfs.write(f"{GROUPS}/{mdev.group_number}/type", text)
