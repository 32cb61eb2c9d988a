"""The library's view of a host, beside what the seam shows."""

from __future__ import annotations

import pytest

from pyvfio.address import PciAddress
from pyvfio.backend import Backend
from pyvfio.devices import ChannelDevice, PciFunction, Subchannel
from pyvfio.errors import BadAddress, NoSuchDevice, WrongBus
from pyvfio.host import Host
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.plugin import Lab


@pytest.mark.parametrize("text", ["", "x:z", "0011:00:00", "0011:00:20.0", "0.4.0000", "0.0.12345", "6682-"])
def test_what_is_no_address(host: Host, text: str) -> None:
    with pytest.raises(BadAddress):
        host.device(text)


@pytest.mark.parametrize("address", ["ffff:00:00.0", "nonsense0", "0.0.fffe", "00000000-0000-0000-0000-00000000ffff"])
def test_a_device_that_is_not_there(host: Host, address: str) -> None:
    with pytest.raises(NoSuchDevice) as caught:
        host.device(address)
    assert address in str(caught.value)
    assert caught.value.cause
    assert caught.value.next_step


@pytest.mark.parametrize("bus", ["css", "ccw", "mdev"])
def test_a_function_on_another_bus(host: Host, lab: Lab, pci_path: str, bus: str) -> None:
    with pytest.raises((WrongBus, BadAddress)):
        host.device(lab.pci, bus=bus)


def test_no_such_bus(host: Host) -> None:
    with pytest.raises(WrongBus):
        host.devices("isa")


def test_no_such_group(host: Host) -> None:
    with pytest.raises(NoSuchDevice):
        host.group(99999)


def test_functions(host: Host, backend: Backend) -> None:
    assert sorted(map(str, host.functions())) == sorted(backend.listdir("/sys/bus/pci/devices"))
    assert host.functions() == sorted(host.functions(), key=lambda function: function.address)


def test_subchannels_and_devices(host: Host, backend: Backend) -> None:
    if "css" not in host.buses():
        assert host.subchannels() == host.ccw_devices() == []
        return
    assert sorted(map(str, host.ccw_devices())) == sorted(backend.listdir("/sys/bus/ccw/devices"))
    listed = [name for name in backend.listdir("/sys/bus/css/devices") if name[0].isdigit()]
    assert sorted(map(str, host.subchannels())) == sorted(listed)


def test_groups(host: Host, backend: Backend) -> None:
    assert [group.number for group in host.groups()] == sorted(
        int(name) for name in backend.listdir("/sys/kernel/iommu_groups")
    )


def test_a_function(host: Host, sysfs: Attributes, lab: Lab, pci_path: str) -> None:
    function = host.device(lab.pci)
    assert isinstance(function, PciFunction)
    assert function.address == PciAddress.parse(lab.pci)
    assert function.driver == sysfs.link(f"{pci_path}/driver")
    assert function.vendor_id == int(sysfs.read(f"{pci_path}/vendor"), 16)
    assert function.class_code == int(sysfs.read(f"{pci_path}/class"), 16)
    assert function.override is None
    assert function.vfio_name is None
    assert function.group is not None
    assert function in function.group.devices
    assert function.group.viable == (not function.group.blockers())
    assert function.config.vendor_id == function.vendor_id


def test_the_numbers_of_a_zpci_function(host: Host, sysfs: Attributes, lab: Lab, pci_path: str) -> None:
    function = host.function(lab.pci)
    if function.uid is None:
        pytest.skip("this function is no zPCI function")
    assert function.fid == int(sysfs.read(f"{pci_path}/function_id"), 16)
    assert function.fh == int(sysfs.read(f"{pci_path}/function_handle"), 16)
    assert function.pchid == int(sysfs.read(f"{pci_path}/pchid"), 16)


def test_a_channel_device(host: Host, sysfs: Attributes, lab: Lab) -> None:
    if not sysfs.exists(f"/sys/bus/ccw/devices/{lab.ccw}"):
        pytest.skip(f"this host has no ccw device {lab.ccw}")
    device = host.ccw_device(lab.ccw)
    assert isinstance(device, ChannelDevice)
    assert device.cutype == sysfs.read(f"/sys/bus/ccw/devices/{lab.ccw}/cutype")
    assert device.online
    assert isinstance(device.subchannel, Subchannel)
    assert device.subchannel.device_number == device.address
    assert device.subchannel.ccw_device == device
    assert device.subchannel.pim


def test_a_bound_function(host: Host, function: BoundFunction) -> None:
    found = host.function(function.address)
    assert found.driver == "vfio-pci"
    assert found.override == "vfio-pci"
    assert f"/dev/vfio/devices/{found.vfio_name}" == function.cdev
    assert found.group is not None
    assert found.group.node == function.group
    assert found.group.viable


def test_page_size_and_limit(host: Host, backend: Backend) -> None:
    assert host.page_size == backend.sysconf("SC_PAGESIZE")
    assert host.memlock == backend.sysconf("RLIMIT_MEMLOCK")


def test_uevents(host: Host, sysfs: Attributes, lab: Lab, pci_path: str) -> None:
    with host.uevents(["pci"]) as stream:
        sysfs.write(f"{pci_path}/uevent", "change")
        assert [event.name for event in stream] == [lab.pci]


def test_closing_leaves_a_given_backend_open(backend: Backend) -> None:
    with Host(backend) as other:
        assert other.backend is backend
    assert backend.listdir("/sys/bus")
