"""What the in-use probes see on a host: nothing on devices that are free, and this process where it has them open."""

from __future__ import annotations

import os

import pytest

from pyvfio.backend import Backend
from pyvfio.binding.probes import Outlook, look
from pyvfio.host import Host
from pyvfio.sysfs_device import SysfsDevice
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.devices import BoundFunction, BoundMdev
from pyvfio.testing.plugin import Lab


def device(host: Host, sysfs: Attributes, bus: str, address: str) -> SysfsDevice:
    if not sysfs.exists(f"/sys/bus/{bus}/devices/{address}"):
        pytest.skip(f"this host has no {bus} device {address}")
    return host.device(address, bus=bus)


def evidence(outlook: Outlook, probe: str) -> list[tuple[str, str]]:
    return [(seen.what, seen.path) for one in outlook.findings if one.probe == probe for seen in one.evidence]


@pytest.fixture
def disk(host: Host, sysfs: Attributes, backend: Backend, lab: Lab) -> tuple[SysfsDevice, str]:
    """The function that the suite may take, with its own driver, and its disk's node."""
    found = device(host, sysfs, "pci", lab.pci)
    names = [name for name in backend.listdir(found.path) if name.startswith("virtio")]
    folder = f"{found.path}/{names[0]}/block" if names else ""
    if not names or not sysfs.exists(folder):
        pytest.skip(f"PCI function {lab.pci} is no disk with its own driver")
    return found, f"/dev/{backend.listdir(folder)[0]}"


def test_a_disk_that_is_free(disk: tuple[SysfsDevice, str]) -> None:
    assert look(disk[0]) == Outlook()


def test_a_disk_that_is_open(disk: tuple[SysfsDevice, str], backend: Backend, files: OpenFiles) -> None:
    function, node = disk
    fd = files.open(node, os.O_RDONLY)
    ((what, path),) = evidence(look(function), "open")
    assert path == node
    assert what.startswith(f"{node.removeprefix('/dev/')} is open in ")
    assert what.endswith(f"(pid {os.getpid()}, fd {fd})")
    files.close(fd)
    assert look(function) == Outlook()


def test_a_disk_that_the_kernel_lends_to_one_only(
    disk: tuple[SysfsDevice, str], backend: Backend, files: OpenFiles
) -> None:
    function, node = disk
    files.open(node, os.O_RDONLY | os.O_EXCL)
    name = node.removeprefix("/dev/")
    assert evidence(look(function), "holders") == [(f"a part of the kernel has {name} for itself (EBUSY)", node)]


def test_a_generator_of_random_numbers(host: Host, sysfs: Attributes, lab: Lab) -> None:
    assert look(device(host, sysfs, "pci", lab.pci2)) == Outlook()


def test_a_channel_device_that_its_driver_sets_online(host: Host, sysfs: Attributes, lab: Lab) -> None:
    found = device(host, sysfs, "ccw", lab.ccw)
    assert sysfs.read(f"{found.path}/online") == "1"
    assert look(found) == Outlook()


def test_a_function_that_is_bound(host: Host, function: BoundFunction) -> None:
    assert look(host.function(function.address)) == Outlook()


def test_a_function_that_is_open(host: Host, function: BoundFunction, files: OpenFiles) -> None:
    fd = files.open(function.group)
    ((what, path),) = evidence(look(host.function(function.address)), "vfio")
    assert path == function.group
    assert what.startswith(f"IOMMU group {function.group_number} is open in ")
    assert what.endswith(f"(pid {os.getpid()}, fd {fd})")


def test_a_mediated_device(host: Host, mdev: BoundMdev, files: OpenFiles, lab: Lab) -> None:
    subchannel = host.ccw_device(lab.ccw).subchannel
    (made,) = evidence(look(subchannel), "mdev")
    assert made == (f"mediated device {mdev.uuid} (vfio_ccw-io), not open", f"{subchannel.path}/{mdev.uuid}")
    assert look(host.mdev(mdev.uuid)) == Outlook()
    files.open(mdev.cdev)
    for one in (subchannel, host.mdev(mdev.uuid)):
        ((what, path),) = evidence(look(one), "vfio")
        assert path == mdev.cdev
        assert what.startswith(f"{mdev.uuid} is open in ")
    (used,) = evidence(look(subchannel), "mdev")
    assert f"(pid {os.getpid()}, fd " in used[0]


def test_the_disk_of_the_root(host: Host, sysfs: Attributes) -> None:
    for line in sysfs.read("/proc/self/mountinfo").splitlines():
        number, point = line.split()[2], line.split()[4]
        if point == "/" and sysfs.exists(f"/sys/dev/block/{number}"):
            break
    else:
        pytest.skip("the root of this host is on no disk")
    path = os.path.normpath(f"/sys/dev/block/{host.backend.readlink(f'/sys/dev/block/{number}')}")
    parents = [part for part in path.split("/") if part and sysfs.exists(f"/sys/bus/ccw/devices/{part}")]
    parents += [part for part in path.split("/") if part and sysfs.exists(f"/sys/bus/pci/devices/{part}")]
    if not parents:
        pytest.skip("the disk of the root is behind no channel and no PCI function")
    outlook = look(host.device(parents[-1]))
    name = path.rsplit("/", 1)[-1]
    assert (f"{name} holds /", f"/dev/{name}") in evidence(outlook, "boot")
    assert any(what.startswith(f"{name} is mounted on / (") for what, _ in evidence(outlook, "mounted"))


def virtio(host: Host) -> list[tuple[SysfsDevice, str]]:
    """The channel devices and PCI functions with a virtio device, and the path of that."""
    return [
        (device, f"{device.path}/{name}")
        for device in [*host.devices("ccw"), *host.devices("pci")]
        for name in host.sysfs.names(device.path)
        if name.startswith("virtio")
    ]


def test_a_directory_that_is_mounted_from_the_hypervisor(host: Host, sysfs: Attributes) -> None:
    tags = {
        sysfs.read(f"{path}/mount_tag").strip("\0"): (device, path)
        for device, path in virtio(host)
        if sysfs.exists(f"{path}/mount_tag")
    }
    mounted = 0
    for line in sysfs.read("/proc/self/mountinfo").splitlines():
        point, (kind, source) = line.split()[4], line.partition(" - ")[2].split()[:2]
        if kind == "9p" and source in tags:
            device, path = tags[source]
            seen = evidence(look(device), "mounted")
            assert (f"{path.rpartition('/')[2]} ({source}) is mounted on {point} (9p)", path) in seen
            mounted += 1
    if not mounted:
        pytest.skip("nothing of this host is mounted from a hypervisor")


def test_a_port_of_a_console_that_no_program_has_open(host: Host, backend: Backend) -> None:
    ports = [
        (device, name)
        for device, path in virtio(host)
        if "virtio-ports" in backend.listdir(path)
        for name in backend.listdir(f"{path}/virtio-ports")
    ]
    if not ports:
        pytest.skip("this host has no port of a virtio console")
    for device, name in ports:
        number = backend.stat(f"/dev/{name}").st_rdev
        assert host.sysfs.attribute(f"/sys/class/virtio-ports/{name}/dev") == f"{os.major(number)}:{os.minor(number)}"
        assert "open" not in {probe.partition(":")[0] for probe in look(device).blind}
