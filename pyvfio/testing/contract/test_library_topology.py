"""The trees of devices, beside the lists of the buses."""

from __future__ import annotations

import posixpath

import pytest

from pyvfio.backend import Backend
from pyvfio.css.topology import SubchannelNode, channel_branches, channel_topology
from pyvfio.host import Host
from pyvfio.pci.topology import branch, topology
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundMdev, BoundSubchannel
from pyvfio.testing.plugin import Lab


def subchannels(host: Host) -> list[SubchannelNode]:
    return [node for image in channel_topology(host.sysfs) for one in image.sets for node in one.subchannels]


@pytest.fixture
def css(host: Host) -> None:
    """A host with a channel subsystem."""
    if "css" not in host.buses():
        pytest.skip("this host has no channel subsystem")


# PCI


def test_every_function_once_and_below_what_leads_to_it(host: Host, backend: Backend) -> None:
    roots = topology(host.sysfs)
    nodes = [node for root in roots for node in root.walk()]
    assert sorted(node.name for node in nodes) == sorted(backend.listdir("/sys/bus/pci/devices"))
    for root in roots:
        assert posixpath.basename(root.path) == root.name
        for child in root.children:
            assert (child.parent, posixpath.dirname(child.path)) == (None, root.path)
        for node in root.walk():
            assert all(child.parent is node for child in node.children)
            assert all(posixpath.dirname(child.path) == node.path for child in node.children)


def test_what_stands_at_a_function(host: Host, lab: Lab, sysfs: Attributes, pci_path: str) -> None:
    function = host.function(lab.pci)
    (node,) = [node for node in branch(host.sysfs, function).walk() if node.name == lab.pci]
    assert node.path == function.path
    assert (node.class_code, node.driver) == (function.class_code, sysfs.link(f"{pci_path}/driver"))
    assert node.group == (None if function.group is None else function.group.number)
    assert (node.uid, node.fid) == (function.uid, function.fid)
    assert node.kind


def test_a_zpci_function_has_a_root_bus_of_its_own(host: Host, lab: Lab, pci_path: str) -> None:
    function = host.function(lab.pci)
    if function.uid is None:
        pytest.skip("this function is no zPCI function")
    root = branch(host.sysfs, function)
    assert root.name == f"pci{function.address.domain:04x}:00"
    assert [node.name for node in root.walk()] == [lab.pci]
    (whole,) = [one for one in topology(host.sysfs) if one.path == root.path]
    assert [node.name for node in whole.walk()] == [lab.pci]


# the channel subsystem


def test_every_subchannel_once(host: Host, css: None) -> None:
    assert sorted(node.name for node in subchannels(host)) == sorted(map(str, host.subchannels()))
    for image in channel_topology(host.sysfs):
        sets = [tuple(path.chpid for path in one.paths) for one in image.sets]
        assert len(sets) == len(set(sets))
        assert all(
            node.chpids == chpids for chpids, one in zip(sets, image.sets, strict=True) for node in one.subchannels
        )


def test_the_devices_at_the_subchannels(host: Host, css: None) -> None:
    found = {node.device.name: node for node in subchannels(host) if node.device is not None and node.device.registered}
    assert sorted(found) == sorted(map(str, host.ccw_devices()))
    for device in host.ccw_devices():
        node = found[str(device)]
        assert node.name == str(device.subchannel)
        assert node.device is not None
        assert (node.device.cutype, node.device.devtype) == (device.cutype, device.devtype)
        assert (node.device.driver, node.device.online) == (device.driver, device.online)


def test_the_paths_of_a_subchannel(host: Host, sysfs: Attributes, css: None) -> None:
    for image in channel_topology(host.sysfs):
        for path in (path for one in image.sets for path in one.paths):
            directory = f"/sys/devices/{image.name}/chp{image.name.removeprefix('css')}.{path.chpid:02x}"
            assert path.online == (sysfs.read(f"{directory}/status") == "online")
            assert path.type == int(sysfs.read(f"{directory}/type"), 16)


def test_a_subchannel_of_vfio_with_its_mediated_device(
    host: Host, subchannel: BoundSubchannel, mdev: BoundMdev
) -> None:
    taken = host.subchannel(subchannel.address)
    (image,) = channel_branches(host.sysfs, [taken])
    (one,) = image.sets
    (node,) = one.subchannels
    assert (node.name, node.driver) == (subchannel.address, "vfio_ccw")
    assert node.device is not None
    assert (node.device.name, node.device.registered) == (str(taken.device_number), False)
    (below,) = node.mdevs
    assert (below.name, below.driver, below.group) == (mdev.uuid, "vfio_ccw_mdev", mdev.group_number)
    assert below.type == "vfio_ccw-io"
