"""Drivers of the host that hold functions of PCI Express, with the modules that the lab's recorder had loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pyvfio.backend import Backend, open_backend
from pyvfio.testing.attributes import Attributes
from pyvfio_backends.software.loader import find_machine, load_machine

DEVICES, DRIVERS = "/sys/bus/pci/devices", "/sys/bus/pci/drivers"
NIC, NVME, EDU, IGB, DISK = "0000:41:00.0", "0000:04:00.0", "0000:00:06.0", "0000:03:00.0", "0000:0e:00.0"


@pytest.fixture
def backend() -> Iterator[Backend]:
    spec = load_machine(find_machine("contract-x86"))
    spec.modules = (*spec.modules, "e1000e", "igb", "nvme", "pci_stub")
    with open_backend("software", machine=spec) as opened:
        yield opened


@pytest.fixture
def sysfs(backend: Backend) -> Attributes:
    return Attributes(backend)


@pytest.mark.parametrize(
    ("address", "driver", "below"),
    [(NIC, "e1000e", "net"), (NIC, "e1000e", "ptp"), (IGB, "igb", "net"), (NVME, "nvme", "nvme")],
)
def test_what_they_hold_at_boot(address: str, driver: str, below: str, backend: Backend, sysfs: Attributes) -> None:
    assert sysfs.link(f"{DEVICES}/{address}/driver") == driver
    assert below in backend.listdir(f"{DEVICES}/{address}")
    assert backend.listdir(f"{DEVICES}/{address}/msi_irqs")
    assert sysfs.read(f"{DEVICES}/{address}/enable") == "1"


def test_a_function_goes_to_vfio_pci_and_back(backend: Backend, sysfs: Attributes) -> None:
    before = backend.listdir(f"{DEVICES}/{NIC}")
    sysfs.write(f"{DRIVERS}/e1000e/unbind", NIC)
    assert not {"net", "ptp", "msi_irqs"} & set(backend.listdir(f"{DEVICES}/{NIC}"))
    sysfs.write(f"{DEVICES}/{NIC}/driver_override", "vfio-pci")
    sysfs.write("/sys/bus/pci/drivers_probe", NIC)
    assert sysfs.link(f"{DEVICES}/{NIC}/driver") == "vfio-pci"
    sysfs.write(f"{DRIVERS}/vfio-pci/unbind", NIC)
    sysfs.write(f"{DEVICES}/{NIC}/driver_override", "\n")
    sysfs.write("/sys/bus/pci/drivers_probe", NIC)
    assert sysfs.link(f"{DEVICES}/{NIC}/driver") == "e1000e"
    assert sorted(backend.listdir(f"{DEVICES}/{NIC}")) == sorted(before)


def test_a_driver_refuses_what_it_is_not_made_for(sysfs: Attributes) -> None:
    sysfs.write(f"{DEVICES}/{EDU}/driver_override", "e1000e")
    with pytest.raises(OSError, match="No such device"):
        sysfs.write(f"{DRIVERS}/e1000e/bind", EDU)


def test_the_stub_takes_anything(sysfs: Attributes) -> None:
    sysfs.write(f"{DEVICES}/{EDU}/driver_override", "pci-stub")
    sysfs.write(f"{DRIVERS}/pci-stub/bind", EDU)
    assert sysfs.link(f"{DEVICES}/{EDU}/driver") == "pci-stub"


def test_no_bridge_goes_to_vfio_pci(sysfs: Attributes) -> None:
    """``vfio_pci_core_register_device``: EINVAL for a header that is not type 0 (golden bind_semantics)."""
    port = "0000:00:08.0"
    sysfs.write(f"{DRIVERS}/pcieport/unbind", port)
    sysfs.write(f"{DEVICES}/{port}/driver_override", "vfio-pci")
    with pytest.raises(OSError, match="Invalid argument"):
        sysfs.write(f"{DRIVERS}/vfio-pci/bind", port)


def test_a_virtio_disk_of_pci_express(backend: Backend, sysfs: Attributes) -> None:
    """Its driver reads the size from its registers; without function-level reset it is reset by power management."""
    assert int(sysfs.read("/sys/block/vdb/size")) == 2048
    assert (sysfs.read("/sys/block/vdb/ro"), sysfs.read("/sys/block/vda/ro")) == ("0", "1")
    assert sysfs.read(f"{DEVICES}/{DISK}/reset_method") == "pm bus"


def test_the_window_of_a_virtio_function_reads_its_registers(backend: Backend) -> None:
    """VIRTIO_PCI_CAP_PCI_CFG at 0xc8: BAR 4, offset 0x12 (how many queues), 2 bytes."""
    fd = backend.open(f"{DEVICES}/{DISK}/config", os.O_RDWR)
    try:
        backend.pwrite(fd, b"\x04", 0xC8 + 4)
        backend.pwrite(fd, (0x12).to_bytes(4, "little"), 0xC8 + 8)
        backend.pwrite(fd, (2).to_bytes(4, "little"), 0xC8 + 12)
        assert backend.pread(fd, 2, 0xC8 + 16) == b"\x01\x00"
    finally:
        backend.close(fd)
