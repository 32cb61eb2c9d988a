"""The hot-plug controller of lab-x86's PCIe-to-PCI bridge, with its driver (golden iommu_groups: slots)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pyvfio.backend import Backend, open_backend
from pyvfio.errors import NotModelled
from pyvfio.testing.attributes import Attributes
from pyvfio_backends.software.loader import find_machine, load_machine

SLOTS, DRIVERS = "/sys/bus/pci/slots", "/sys/bus/pci/drivers"
BRIDGE = "0000:09:00.0"


@pytest.fixture
def backend() -> Iterator[Backend]:
    spec = load_machine(find_machine("lab-x86"))
    spec.modules = (*spec.modules, "shpchp")
    with open_backend("software", machine=spec) as opened:
        yield opened


def test_a_slot_for_each_device_number(backend: Backend) -> None:
    sysfs = Attributes(backend)
    found = [name for name in backend.listdir(SLOTS) if sysfs.read(f"{SLOTS}/{name}/address").startswith("0000:0a:")]
    assert len(found) == 31


@pytest.mark.parametrize(("slot", "adapter"), [("1-1", "1"), ("3-1", "0"), ("31", "0")])
def test_what_is_in_a_slot(slot: str, adapter: str, backend: Backend) -> None:
    sysfs = Attributes(backend)
    assert {name: sysfs.read(f"{SLOTS}/{slot}/{name}") for name in ("adapter", "power", "latch", "attention")} == {
        "adapter": adapter,
        "power": adapter,
        "latch": "0" if adapter == "1" else "1",
        "attention": "0",
    }


def test_power_is_not_modelled_and_says_so(backend: Backend) -> None:
    with pytest.raises(NotModelled):
        Attributes(backend).write(f"{SLOTS}/1-1/power", "0")


def test_the_slots_go_with_the_driver(backend: Backend) -> None:
    sysfs = Attributes(backend)
    sysfs.write(f"{DRIVERS}/shpchp/unbind", BRIDGE)
    assert "1-1" not in backend.listdir(SLOTS)
    sysfs.write(f"{DRIVERS}/shpchp/bind", BRIDGE)
    assert sysfs.read(f"{SLOTS}/1-1/address") == "0000:0a:01"
