"""Devices that no IOMMU is in front of (``CONFIG_VFIO_NOIOMMU``): who may use them, and that nothing is translated.

Sources: ``drivers/vfio/group.c``, ``container.c``, ``vfio_main.c`` and ``drivers/iommu/iommufd/vfio_compat.c`` (6.12);
a kernel 6.12.107 that was booted with ``intel_iommu=off`` in the x86 lab gave the same answers to the same requests.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from pci_fixture import errno_of
from pcie_fixture import EDU, NVME, Pcie, lab_spec

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_type1 as t1
from pyvfio.process import AnonymousMemory
from pyvfio.testing import requests
from pyvfio_backends.software.linux.kernel_log import kernel_log

SWITCH = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
NODE = "/dev/vfio/noiommu-0"
PAGE = 4096


def machine(*, cmdline: str = "intel_iommu=off", **changes: object) -> Pcie:
    return Pcie(host=dataclasses.replace(lab_spec().host, cmdline=cmdline), **changes)


@pytest.fixture
def lab() -> Iterator[Pcie]:
    """A machine without an IOMMU, with the switch on."""
    made = machine()
    with made.host:
        made.write(SWITCH, "Y\n")
        yield made


def tainted(lab: Pcie) -> int:
    return int(lab.text("/proc/sys/kernel/tainted"))


def test_it_is_off_at_first() -> None:
    lab = machine()
    with lab.host:
        assert lab.text(SWITCH) == "N\n"
        assert errno_of(lab.write, SWITCH, "perhaps") == "EINVAL"
        lab.write(f"/sys/bus/pci/devices/{EDU}/driver_override", "vfio-pci")
        assert errno_of(lab.write, "/sys/bus/pci/drivers/vfio-pci/bind", EDU) == "EINVAL"
        container = lab.host.open("/dev/vfio/vfio", os.O_RDWR)
        assert lab.host.ioctl(container, abi.VFIO_CHECK_EXTENSION, abi.VFIO_NOIOMMU_IOMMU) == 0
        assert tainted(lab) == 0


def test_a_group_of_its_own_and_a_taint(lab: Pcie) -> None:
    assert tainted(lab) == 0
    lab.take(EDU)
    assert tainted(lab) == 1 << 6
    assert lab.group_of(EDU) == 0
    group = "/sys/kernel/iommu_groups/0"
    assert [lab.text(f"{group}/{name}") for name in ("name", "type", "reserved_regions")] == [
        "vfio-noiommu\n",
        "unknown\n",
        "",
    ]
    assert sorted(lab.host.listdir("/dev/vfio")) == ["noiommu-0", "vfio"]  # and no node of the device's own
    assert lab.host.listdir("/sys/class/vfio") == ["noiommu-0"]
    lab.write("/sys/bus/pci/drivers/vfio-pci/unbind", EDU)
    assert lab.host.listdir("/sys/kernel/iommu_groups") == []
    assert lab.host.listdir("/dev/vfio") == ["vfio"]
    assert tainted(lab) == 1 << 6  # until the next boot


def test_a_device_with_an_iommu_is_not_concerned() -> None:
    lab = machine(cmdline="")
    with lab.host:
        lab.write(SWITCH, "Y")
        lab.take(EDU)
        assert (tainted(lab), lab.group_of(EDU)) == (0, 3)


def test_a_container_maps_nothing(lab: Pcie) -> None:
    lab.take(EDU)
    lab.take(NVME)
    host = lab.host
    container, group = host.open("/dev/vfio/vfio", os.O_RDWR), host.open(NODE, os.O_RDWR)
    for kind, there in ((abi.VFIO_NOIOMMU_IOMMU, 1), (abi.VFIO_TYPE1_IOMMU, 1)):
        assert host.ioctl(container, abi.VFIO_CHECK_EXTENSION, kind) == there
    assert requests.group_flags(host, group) == abi.VFIO_GROUP_FLAGS_VIABLE
    requests.set_container(host, group, container)
    for kind, there in ((abi.VFIO_NOIOMMU_IOMMU, 1), (abi.VFIO_TYPE1_IOMMU, 0)):
        assert host.ioctl(container, abi.VFIO_CHECK_EXTENSION, kind) == there
    assert errno_of(requests.device_fd, host, group, EDU) == "EINVAL"
    for kind in (abi.VFIO_TYPE1_IOMMU, abi.VFIO_TYPE1v2_IOMMU, 99):
        assert errno_of(host.ioctl, container, abi.VFIO_SET_IOMMU, kind) == "ENODEV"
    assert errno_of(requests.iommu_info, host, container) == "EINVAL"
    host.ioctl(container, abi.VFIO_SET_IOMMU, abi.VFIO_NOIOMMU_IOMMU)
    assert errno_of(host.ioctl, container, abi.VFIO_SET_IOMMU, abi.VFIO_NOIOMMU_IOMMU) == "EINVAL"
    memory = AnonymousMemory(PAGE)
    assert errno_of(requests.map_dma, host, container, 0, memory.address, PAGE) == "ENOTTY"
    assert errno_of(requests.iommu_info, host, container) == "ENOTTY"
    assert errno_of(requests.dirty_pages, host, container, t1.VFIO_IOMMU_DIRTY_PAGES_FLAG_START) == "ENOTTY"
    device = requests.device_fd(host, group, EDU)
    assert host.pread(device, 2, abi.VFIO_PCI_CONFIG_REGION_INDEX << 40) == bytes.fromhex("3412")
    other = host.open("/dev/vfio/noiommu-1", os.O_RDWR)
    requests.set_container(host, other, container)  # more of them can come
    for fd in (device, other, group):
        host.close(fd)
    group = host.open(NODE, os.O_RDWR)
    lab.write(SWITCH, "N")  # those that are there stay, and cannot be used
    requests.set_container(host, group, container)
    assert errno_of(host.ioctl, container, abi.VFIO_SET_IOMMU, abi.VFIO_NOIOMMU_IOMMU) == "ENODEV"


def test_only_with_the_capability() -> None:
    lab = machine(raw_io=False)
    with lab.host:
        lab.write(SWITCH, "1")
        lab.take(EDU)
        assert errno_of(lab.host.open, NODE, os.O_RDWR) == errno.errorcode[errno.EPERM]
        status = dict(line.split(":\t", 1) for line in lab.text("/proc/self/status").splitlines())
        assert not int(status["CapEff"], 16) >> 17 & 1


def test_addresses_of_devices_are_those_of_the_machines_storage(lab: Pcie) -> None:
    """What ``/proc/self/pagemap`` tells is where the device finds a page."""
    lab.take(NVME)
    container, group = lab.host.open("/dev/vfio/vfio", os.O_RDWR), lab.host.open(NODE, os.O_RDWR)
    requests.set_container(lab.host, group, container)
    lab.host.ioctl(container, abi.VFIO_SET_IOMMU, abi.VFIO_NOIOMMU_IOMMU)
    requests.device_fd(lab.host, group, NVME)
    lab.device(NVME).set_master(True)
    memory = AnonymousMemory(2 * PAGE)
    memory.view[:] = bytes(2 * PAGE)
    map_ = lab.host.open("/proc/self/pagemap", os.O_RDONLY)
    (first, second) = struct.unpack("=2Q", lab.host.pread(map_, 16, memory.address // PAGE * 8))
    assert first >> 63 == second >> 63 == 1
    lab.hardware(NVME).dma_write((first & (1 << 55) - 1) * PAGE + 16, b"straight")
    assert bytes(memory.view[16:24]) == b"straight"
    said = kernel_log(lab.kernel).lines
    assert f"vfio-pci {NVME}: Adding kernel taint for vfio-noiommu group on device" in said
    opened = f"vfio-pci {NVME}: vfio-noiommu device opened by user ({Path('/proc/self/comm').read_text().strip()}:"
    assert said[-1] == f"{opened}{os.getpid()})"
    assert lab.host.pread(map_, 8, 0) == bytes(8)  # nothing is mapped there
    assert errno_of(lab.host.pread, map_, 8, 4) == "EINVAL"
    assert errno_of(lab.host.pread, map_, 7, 0) == "EINVAL"


# iommufd in place of a container


def test_an_iommufd_as_a_container(lab: Pcie) -> None:
    lab.take(EDU)
    host = lab.host
    iommu, group = host.open("/dev/iommu", os.O_RDWR), host.open(NODE, os.O_RDWR)
    assert host.ioctl(iommu, abi.VFIO_CHECK_EXTENSION, abi.VFIO_NOIOMMU_IOMMU) == 1
    assert errno_of(host.ioctl, iommu, abi.VFIO_SET_IOMMU, abi.VFIO_NOIOMMU_IOMMU) == "EINVAL"
    requests.set_container(host, group, iommu)
    assert host.ioctl(iommu, abi.VFIO_CHECK_EXTENSION, abi.VFIO_TYPE1_IOMMU) == 0
    assert errno_of(host.ioctl, iommu, abi.VFIO_SET_IOMMU, abi.VFIO_TYPE1_IOMMU) == "EINVAL"
    host.ioctl(iommu, abi.VFIO_SET_IOMMU, abi.VFIO_NOIOMMU_IOMMU)
    memory = AnonymousMemory(PAGE)
    assert errno_of(requests.map_dma, host, iommu, 0, memory.address, PAGE) == "ENODEV"
    device = requests.device_fd(host, group, EDU)
    assert host.pread(device, 2, abi.VFIO_PCI_CONFIG_REGION_INDEX << 40) == bytes.fromhex("3412")
    host.close(device)
    host.close(group)
    group = host.open(NODE, os.O_RDWR)  # all was given back
    requests.set_container(host, group, iommu)


def test_an_iommufd_that_has_an_address_space(lab: Pcie) -> None:
    lab.take(EDU)
    host = lab.host
    iommu, group = host.open("/dev/iommu", os.O_RDWR), host.open(NODE, os.O_RDWR)
    from pyvfio.abi import iommufd

    ioas = requests.ioas_alloc(host, iommu)
    setting = iommufd.VfioIoas.sized(op=iommufd.IOMMU_VFIO_IOAS_SET, ioas_id=ioas)
    host.ioctl(iommu, iommufd.IOMMU_VFIO_IOAS, setting)
    assert errno_of(requests.set_container, host, group, iommu) == "EINVAL"
    setting = iommufd.VfioIoas.sized(op=iommufd.IOMMU_VFIO_IOAS_CLEAR)
    host.ioctl(iommu, iommufd.IOMMU_VFIO_IOAS, setting)
    requests.set_container(host, group, iommu)
    setting = iommufd.VfioIoas.sized(op=iommufd.IOMMU_VFIO_IOAS_SET, ioas_id=ioas)
    host.ioctl(iommu, iommufd.IOMMU_VFIO_IOAS, setting)
    assert errno_of(requests.device_fd, host, group, EDU) == errno.errorcode[errno.EPERM]


def test_an_identity_domain_translates_nothing() -> None:
    lab = machine(cmdline="iommu=pt")
    with lab.host:
        lab.device(NVME).set_master(True)
        memory = AnonymousMemory(PAGE)
        memory.view[:4] = b"here"
        map_ = lab.host.open("/proc/self/pagemap", os.O_RDONLY)
        (entry,) = struct.unpack("=Q", lab.host.pread(map_, 8, memory.address // PAGE * 8))
        assert lab.hardware(NVME).dma_read((entry & (1 << 55) - 1) * PAGE, 4) == b"here"


def test_a_group_with_an_iommu_and_one_without_do_not_mix(lab: Pcie) -> None:
    """``vfio_container_attach_group``: real groups and fake ones."""
    lab.take(EDU)
    host = lab.host
    container, group = host.open("/dev/vfio/vfio", os.O_RDWR), host.open(NODE, os.O_RDWR)
    requests.set_container(host, group, container)
    lab.take(NVME)
    from pyvfio_backends.software.linux.vfio_state import vfio_core

    core = vfio_core(lab.kernel)
    other = next(one for one in core.groups.values() if one.iommu_group.number == 1)
    other.without_iommu = False
    fd = host.open("/dev/vfio/noiommu-1", os.O_RDWR)
    assert errno_of(requests.set_container, host, fd, container) == errno.errorcode[errno.EPERM]
