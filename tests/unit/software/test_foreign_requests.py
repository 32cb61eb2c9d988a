"""A machine of an architecture whose requests have other numbers than those of this process.

What a program with the wrong numbers gets is what a ppc64le kernel answered (6.12, powernv9 and pseries under QEMU) to
programs that said 0x3b64 and so on: EINVAL on an empty container, ENOTTY on a group.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator

import pytest

import pyvfio
from pyvfio.abi import vfio
from pyvfio.abi.request import Request, request_names
from pyvfio.host import Host
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.modes import CONTAINER, IOMMU, MODES, open_device
from pyvfio_backends.software import SoftwareBackend
from pyvfio_backends.software.loader import load_machine, machine_files
from pyvfio_backends.software.machine import Machine

FUNCTION = "0000:0e:00.0"
OTHER = "s390x" if os.uname().machine.startswith("ppc") else "ppc64le"


@pytest.fixture
def host() -> Iterator[SoftwareBackend]:
    """A machine of another architecture: with the hardware of x86, for only the numbers matter here."""
    machine = Machine(load_machine(machine_files()["contract-x86"]))
    built = machine.spec.architecture
    machine.spec.architecture = OTHER
    with SoftwareBackend(machine) as backend:
        yield backend
        machine.spec.architecture = built


def refused(call: Callable[[], object]) -> int:
    with pytest.raises(OSError) as caught:
        call()
    assert caught.value.errno is not None
    return caught.value.errno


@pytest.mark.parametrize("mode", MODES)
def test_requests_by_their_names(host: SoftwareBackend, mode: str) -> None:
    with BoundFunction(host, FUNCTION) as function, OpenFiles(host) as files:
        opened = open_device(host, files, function, mode)
        info = vfio.DeviceInfo(argsz=ctypes.sizeof(vfio.DeviceInfo))
        host.ioctl(opened.fd, vfio.VFIO_DEVICE_GET_INFO, info)
        assert info.num_regions == vfio.VFIO_PCI_NUM_REGIONS


def test_the_library_does_not_know(host: SoftwareBackend) -> None:
    with BoundFunction(host, FUNCTION), pyvfio.open_device(Host(host), FUNCTION) as device:
        assert device.regions


def test_numbers_of_the_machine(host: SoftwareBackend) -> None:
    with BoundFunction(host, FUNCTION) as function, OpenFiles(host) as files:
        container = files.open(CONTAINER)
        assert host.ioctl(container, vfio.VFIO_GET_API_VERSION.on(OTHER)) == vfio.VFIO_API_VERSION
        assert host.ioctl(container, vfio.VFIO_CHECK_EXTENSION.on(OTHER), vfio.VFIO_TYPE1v2_IOMMU) == 1
        group = files.open(function.group)
        status = vfio.GroupStatus(argsz=ctypes.sizeof(vfio.GroupStatus))
        changed = host.ioctl(group, vfio.VFIO_GROUP_GET_STATUS.on(OTHER), bytes(status))
        assert vfio.GroupStatus.from_buffer_copy(changed).flags == vfio.VFIO_GROUP_FLAGS_VIABLE


def test_numbers_of_this_process(host: SoftwareBackend) -> None:
    here = int(vfio.VFIO_GET_API_VERSION)
    with BoundFunction(host, FUNCTION) as function, OpenFiles(host) as files:
        container, iommu = files.open(CONTAINER), files.open(IOMMU)
        assert refused(lambda: host.ioctl(container, here)) == errno.EINVAL
        assert refused(lambda: host.ioctl(iommu, here)) == errno.ENOTTY
        group = files.open(function.group)
        status = bytearray(ctypes.sizeof(vfio.GroupStatus))
        assert refused(lambda: host.ioctl(group, int(vfio.VFIO_GROUP_GET_STATUS), status)) == errno.ENOTTY
        assert refused(lambda: host.ioctl(group, int(vfio.VFIO_GROUP_GET_STATUS), bytes(status))) == errno.ENOTTY


def test_a_request_is_an_integer() -> None:
    start = vfio.VFIO_GET_API_VERSION
    assert start == int(start)
    assert {start: 1}[Request(start)] == 1
    assert request_names(int(start)) == ("VFIO_GET_API_VERSION",)
