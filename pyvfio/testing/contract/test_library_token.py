"""VF tokens through the library, on a physical function under vfio-pci that makes virtual ones, if there is one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pyvfio
from pyvfio.backend import Backend
from pyvfio.errors import BadAddress, KernelRefused, PermissionDenied
from pyvfio.host import Host
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import settles

TOKEN, OTHER = "2ab74924-c335-45f4-9b16-8569e5b08258", "7a1e4b0d-77c5-4a3f-9f0b-1d1f3bb0a0f1"
SWITCH = "/sys/module/vfio_pci/parameters/enable_sriov"


@pytest.fixture(scope="module")
def physical(backend: Backend, sysfs: Attributes) -> Iterator[BoundFunction]:
    """A physical function under vfio-pci, which may make virtual ones."""
    if not sysfs.exists(SWITCH):
        pytest.skip("vfio-pci of this host makes no virtual functions")
    devices = "/sys/bus/pci/devices"
    found = next((name for name in backend.listdir(devices) if sysfs.exists(f"{devices}/{name}/sriov_totalvfs")), None)
    if found is None:
        pytest.skip("this host has no physical function")
    before = sysfs.read(SWITCH)
    with BoundFunction(backend, found) as bound:
        sysfs.write(SWITCH, "Y")
        autoprobe = sysfs.read(f"{bound.path}/sriov_drivers_autoprobe")
        sysfs.write(f"{bound.path}/sriov_drivers_autoprobe", "0")
        yield bound
        sysfs.write(f"{bound.path}/sriov_drivers_autoprobe", autoprobe)
        sysfs.write(SWITCH, before)


@pytest.fixture
def virtual(backend: Backend, sysfs: Attributes, host: Host, physical: BoundFunction) -> Iterator[BoundFunction]:
    """Its first virtual function, under vfio-pci, too; the token is `TOKEN`."""
    pyvfio.open_device(host, physical.address, vf_token=TOKEN).close()  # it is kept
    sysfs.write(f"{physical.path}/sriov_numvfs", "1")
    assert settles(lambda: sysfs.exists(f"{physical.path}/virtfn0"))
    with BoundFunction(backend, sysfs.link(f"{physical.path}/virtfn0") or "") as bound:
        yield bound
    sysfs.write(f"{physical.path}/sriov_numvfs", "0")


def test_what_is_no_token(host: Host, physical: BoundFunction) -> None:
    with pytest.raises(BadAddress):
        pyvfio.open_device(host, physical.address, vf_token="secret")


def test_a_wrong_one_or_none(host: Host, virtual: BoundFunction, physical: BoundFunction) -> None:
    with pytest.raises(PermissionDenied, match=r"needs a VF token"):
        pyvfio.open_device(host, virtual.address, way="group")
    with pytest.raises(PermissionDenied, match=f"is wrong.*{physical.address}"):
        pyvfio.open_device(host, virtual.address, vf_token=OTHER)


def test_by_the_devices_own_node(host: Host, virtual: BoundFunction) -> None:
    """Kernels before 6.17 take none there."""
    with pytest.raises(KernelRefused, match=r"before 6\.17"):
        pyvfio.open_device(host, virtual.address, way="iommufd", vf_token=TOKEN)


def test_the_right_one(host: Host, virtual: BoundFunction) -> None:
    with pyvfio.open_device(host, virtual.address, vf_token=TOKEN) as opened:
        assert opened.way == "group"
        assert "VF token" in {way.name: way for way in opened.ways}["iommufd"].reason
        assert "token" in opened.why
        assert opened.config.read(0, 2)


def test_one_that_is_changed(host: Host, virtual: BoundFunction, physical: BoundFunction) -> None:
    with pyvfio.open_device(host, physical.address, vf_token=TOKEN) as owner:
        owner.set_vf_token(OTHER)
        with pyvfio.open_device(host, virtual.address, vf_token=OTHER):
            pass
        owner.set_vf_token(TOKEN)
