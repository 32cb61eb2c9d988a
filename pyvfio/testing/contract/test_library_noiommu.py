"""A device without an IOMMU through the library: only when it is meant, nothing can be mapped, and all is said loudly.

The host needs a function that no IOMMU is in front of, and a kernel with CONFIG_VFIO_NOIOMMU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import pyvfio
from pyvfio.abi.vfio import Extension
from pyvfio.backend import Backend
from pyvfio.devices import PciFunction
from pyvfio.errors import DeviceBusy, NotAvailable
from pyvfio.host import Host
from pyvfio.process import AnonymousMemory
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.plugin import Lab
from pyvfio.vfio.ways import NO_IOMMU_SWITCH, Obstacle, ways

_TAINT_USER = 1 << 6


def _is_endpoint(function: PciFunction) -> bool:
    return function.class_code >> 16 != 0x06


@pytest.fixture(scope="module")
def backend(lab: Lab) -> Iterator[Backend]:
    """The backend under test, with devices that no IOMMU is in front of."""
    with lab.open(bare=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def bare(lab: Lab, backend: Backend, sysfs: Attributes) -> Iterator[str]:
    """The address of a function without an IOMMU, with the kernel's switch on; on a host, of one that may be taken."""
    if not sysfs.exists(NO_IOMMU_SWITCH):
        pytest.skip("this kernel has no CONFIG_VFIO_NOIOMMU")
    with pyvfio.Host(backend) as host:
        free = (one for one in host.functions() if one.group is None and _is_endpoint(one))
        found = next((one for one in free if lab.may_take(one.name)), None)
    if found is None:
        pytest.skip("every function of this host that may be taken is behind an IOMMU")
    before = sysfs.read(NO_IOMMU_SWITCH)
    sysfs.write(NO_IOMMU_SWITCH, "Y")
    yield found.name
    sysfs.write(NO_IOMMU_SWITCH, before)


@pytest.fixture(scope="module")
def unsafe(backend: Backend, bare: str) -> Iterator[BoundFunction]:
    """The function bound to vfio-pci."""
    with BoundFunction(backend, bare) as bound:
        yield bound


def test_it_is_not_opened_unless_it_is_allowed(host: Host, unsafe: BoundFunction) -> None:
    with pytest.raises(NotAvailable) as caught:
        pyvfio.open_device(host, unsafe.address)
    assert "was not allowed" in caught.value.cause
    assert "allow_no_iommu" in caught.value.next_step


@pytest.mark.parametrize("way", ["iommufd", "group", "type1"])
def test_the_ways_that_need_an_iommu(host: Host, unsafe: BoundFunction, way: str) -> None:
    with pytest.raises(NotAvailable) as caught:
        pyvfio.open_device(host, unsafe.address, way=way)
    assert "without an IOMMU" in caught.value.cause


def test_what_its_ways_are(host: Host, unsafe: BoundFunction) -> None:
    group = host.device(unsafe.address).group
    assert group is not None
    assert group.without_iommu
    found = {way.name: way for way in ways(host.device(unsafe.address))}
    assert found["iommufd"].obstacle is Obstacle.NO_DEVICE_NODES
    assert found["group"].obstacle is Obstacle.NO_GROUP
    assert found["noiommu"].open
    assert found["noiommu"].node == group.node == f"/dev/vfio/noiommu-{group.number}"


def test_nothing_can_be_mapped(host: Host, unsafe: BoundFunction, page: int) -> None:
    with pyvfio.open_device(host, unsafe.address, way="noiommu") as opened, AnonymousMemory(page) as memory:
        assert opened.space.kind == "noiommu"
        for iova in (None, 1 << 20):
            with pytest.raises(NotAvailable, match="physical addresses") as caught:
                opened.space.map(memory.address, page, iova)
            assert caught.value.errno_name == "ENOTTY"
        with pytest.raises(NotAvailable, match="physical addresses"):
            opened.space.buffer(page)
        assert opened.space.mappings() == []


def test_only_one_program_has_it(host: Host, unsafe: BoundFunction) -> None:
    with (
        pyvfio.open_device(host, unsafe.address, way="noiommu"),
        pytest.raises(DeviceBusy),
    ):
        pyvfio.open_device(host, unsafe.address, way="noiommu")


@pytest.mark.parametrize("how", [{"way": "noiommu"}, {"allow_no_iommu": True}])
def test_it_is_opened_when_that_is_meant(host: Host, unsafe: BoundFunction, how: dict[str, Any]) -> None:
    with pyvfio.open_device(host, unsafe.address, **how) as opened:
        assert opened.way == "noiommu"
        assert opened.why.startswith("UNSAFE")
        assert "tainted" in opened.why
        assert opened.config.vendor_id == host.function(unsafe.address).config.vendor_id
        assert opened.regions()


def test_a_container_that_is_given_allows_nothing(host: Host, unsafe: BoundFunction) -> None:
    with pyvfio.Container(host) as container:
        with pytest.raises(NotAvailable, match="was not allowed"):
            pyvfio.open_device(host, unsafe.address, space=container)
        assert container.groups == []
        with pyvfio.open_device(host, unsafe.address, space=container, allow_no_iommu=True) as opened:
            assert opened.way == "noiommu"


def test_the_kernel_is_tainted(sysfs: Attributes, unsafe: BoundFunction) -> None:
    assert int(sysfs.read("/proc/sys/kernel/tainted")) & _TAINT_USER


def test_what_a_container_offers(host: Host, unsafe: BoundFunction) -> None:
    group = host.device(unsafe.address).group
    assert group is not None
    with pyvfio.Container(host) as container:
        assert {Extension.NOIOMMU_IOMMU, Extension.TYPE1v2_IOMMU} <= set(container.extensions())
        with pyvfio.vfio.Group(host, group.number) as opened:
            container.attach(opened)
            assert container.extensions() == [Extension.NOIOMMU_IOMMU]
            assert container.set_iommu().kind == "noiommu"


def test_groups_with_and_without_an_iommu_do_not_mix(
    host: Host, unsafe: BoundFunction, function: BoundFunction
) -> None:
    group = host.device(unsafe.address).group
    assert group is not None
    with (
        pyvfio.Container(host) as container,
        pyvfio.vfio.Group(host, function.group_number) as safe,
        pyvfio.vfio.Group(host, group.number) as other,
    ):
        container.attach(safe)
        with pytest.raises(pyvfio.PyvfioError) as caught:
            container.attach(other)
        assert caught.value.errno_name == "EPERM"
