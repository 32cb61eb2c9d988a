"""A device that is taken away while a program has it open."""

from __future__ import annotations

import errno
import threading
import time

from vfio_fixture import Lab, errno_of

from pyvfio.abi import vfio as abi


def remover(lab: Lab, name: str) -> threading.Thread:
    """Unbind by sysfs on another thread, as an administrator would; return when that waits."""
    bus = "phys" if name[0] == "p" else "medi"
    fd = lab.host.open(f"/sys/bus/{bus}/drivers/{bus}-vfio/unbind", 1)
    thread = threading.Thread(target=lambda: lab.host.write(fd, name.encode()))
    thread.start()
    deadline = time.monotonic() + 5
    while thread.is_alive() and not lab.fake(name).requests and time.monotonic() < deadline:
        time.sleep(0.001)
    return thread


def test_the_remover_waits_for_every_descriptor(vfio_lab: Lab) -> None:
    lab = vfio_lab
    container, group = lab.ready("p0")
    first, second = lab.device_fd(group, "p0"), lab.device_fd(group, "p0")
    node = lab.cdev("p0")
    device = lab.fake("p0")
    thread = remover(lab, "p0")
    assert device.requests == [0]
    assert lab.host.pread(first, 2, 0) == b"\0\1"  # it still works
    assert "0" in lab.host.listdir("/dev/vfio")
    assert "vfio0" not in lab.host.listdir("/dev/vfio/devices")
    assert errno_of(lab.device_fd, group, "p0") == errno.ENODEV
    lab.machine.clock.advance(25)
    assert device.requests == [0, 1, 2]  # asked again every 10 s
    lab.host.close(first)
    lab.host.close(second)
    assert thread.is_alive()
    assert "0" in lab.host.listdir("/dev/vfio")
    lab.host.close(node)
    assert "0" not in lab.host.listdir("/dev/vfio")
    thread.join(5)
    assert not thread.is_alive()
    status = abi.GroupStatus.sized()
    assert errno_of(lab.host.ioctl, group, abi.VFIO_GROUP_GET_STATUS, status) == errno.ENODEV
    assert errno_of(lab.host.ioctl, group, abi.VFIO_GROUP_UNSET_CONTAINER, 0) == errno.EINVAL
    assert errno_of(lab.set_container, group, container) == errno.ENODEV


def test_a_device_that_nobody_uses_goes_at_once(vfio_lab: Lab) -> None:
    lab = vfio_lab
    events = lab.host.uevents(["vfio", "vfio-dev"])
    fd = lab.host.open("/sys/bus/medi/drivers/medi-vfio/unbind", 1)
    device, number = lab.fake("m0"), lab.number("m0")
    lab.host.write(fd, b"m0\n")
    assert device.requests == []
    assert [(event.action, event.devpath) for event in events] == [
        ("remove", f"/devices/fake/m0/vfio-dev/vfio{device.index}"),
        ("remove", f"/devices/virtual/vfio/{number}"),
    ]
    assert str(number) not in lab.host.listdir("/sys/kernel/iommu_groups")


def test_numbers_come_again(vfio_lab: Lab) -> None:
    lab = vfio_lab
    events = lab.host.uevents(["vfio", "vfio-dev"])
    index, group = lab.fake("p0").index, lab.group("p0")
    lab.host.write(lab.host.open("/sys/bus/phys/drivers/phys-vfio/unbind", 1), b"p0")
    lab.host.write(lab.host.open("/sys/bus/phys/drivers/phys-vfio/bind", 1), b"p0")
    assert lab.fake("p0").index == index
    list(events)
    added = lab.fake("p0").group
    assert added is not None
    assert added.minor != 0  # the old group's node is still open and keeps number 0
    assert errno_of(lab.device_fd, group, "p0") == errno.ENODEV
    lab.host.close(group)
    lab.host.close(lab.group("p0"))


def test_sysfs_and_events_as_recorded(vfio_lab: Lab) -> None:
    lab = vfio_lab
    host = lab.host
    assert host.readlink("/sys/class/vfio/0") == "../../devices/virtual/vfio/0"
    assert host.readlink("/sys/class/vfio-dev/vfio0") == "../../devices/fake/p0/vfio-dev/vfio0"
    folder = "/sys/devices/fake/p0/vfio-dev/vfio0"
    assert sorted(host.listdir(folder)) == ["dev", "device", "subsystem", "uevent"]
    fd = host.open(f"{folder}/uevent", 0)
    assert host.read(fd, 100) == b"MAJOR=252\nMINOR=0\nDEVNAME=vfio/devices/vfio0\n"
    events = host.uevents()
    host.write(host.open("/sys/bus/phys/drivers/phys-vfio/unbind", 1), b"p0")
    host.write(host.open("/sys/bus/phys/drivers/phys-vfio/bind", 1), b"p0")
    assert [event.lines()[:-1] for event in events if event.subsystem.startswith("vfio")][2:] == [
        [
            "add@/devices/virtual/vfio/0",
            "ACTION=add",
            "DEVPATH=/devices/virtual/vfio/0",
            "SUBSYSTEM=vfio",
            "MAJOR=253",
            "MINOR=0",
            "DEVNAME=vfio/0",
        ],
        [
            "add@/devices/fake/p0/vfio-dev/vfio0",
            "ACTION=add",
            "DEVPATH=/devices/fake/p0/vfio-dev/vfio0",
            "SUBSYSTEM=vfio-dev",
            "MAJOR=252",
            "MINOR=0",
            "DEVNAME=vfio/devices/vfio0",
        ],
    ]
