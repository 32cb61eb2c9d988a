"""A kernel of POWER without EEH, as in a guest whose hypervisor gives none: every operation is refused, and it is said.

Source: the POWER lab's pseries guest (QEMU), whose firmware knows no capable adapter.
"""

from __future__ import annotations

from errno import EINVAL, ENODEV, EOPNOTSUPP

import pytest

import pyvfio
from pyvfio.abi import vfio
from pyvfio.abi import vfio_spapr as abi
from pyvfio.backend import Backend
from pyvfio.errors import NotAvailable
from pyvfio.host import Host
from pyvfio.ioda import Pe
from pyvfio.ioda.status import host_status
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import CONTAINER
from pyvfio.testing.spapr import BOTH, TceContainer, open_tce, require_tce

DEBUG = "/sys/kernel/debug/powerpc"
OPERATIONS = (*range(abi.VFIO_EEH_PE_DISABLE, abi.VFIO_EEH_PE_INJECT_ERR + 1), 99, (1 << 32) - 1)


@pytest.fixture(params=BOTH, ids=["v1", "v2"])
def container(
    request: pytest.FixtureRequest, backend: Backend, files: OpenFiles, function: BoundFunction
) -> TceContainer:
    """A container, of each version."""
    require_tce(backend)
    opened = open_tce(backend, files, function, request.param)
    if opened.extension(vfio.VFIO_EEH):
        pytest.skip("this kernel has adapters under EEH")
    return opened


def test_no_container_has_it(backend: Backend, files: OpenFiles, container: TceContainer) -> None:
    empty = TceContainer(backend, files.open(CONTAINER))
    assert (container.extension(vfio.VFIO_EEH), empty.extension(vfio.VFIO_EEH)) == (0, 0)


@pytest.mark.parametrize("op", OPERATIONS)
def test_an_operation(container: TceContainer, op: int) -> None:
    with fails(ENODEV):
        container.eeh(op)


def test_nothing_is_looked_at(backend: Backend, container: TceContainer, wild: int) -> None:
    with fails(ENODEV):
        container.eeh(abi.VFIO_EEH_PE_ENABLE, flags=1)
    with fails(ENODEV):
        container.eeh(abi.VFIO_EEH_PE_ENABLE, argsz=0)
    with fails(ENODEV):
        backend.ioctl(container.fd, abi.VFIO_EEH_PE_OP, wild)


def test_the_kernel_says_so(host: Host, sysfs: Attributes, container: TceContainer) -> None:
    assert sysfs.read("/proc/powerpc/eeh").splitlines()[0] == "EEH Subsystem is globally disabled"
    status = host_status(host.sysfs)
    assert status is not None
    assert not status.enabled


def test_what_debugfs_says(sysfs: Attributes, container: TceContainer) -> None:
    found = {
        name: sysfs.read(f"{DEBUG}/{name}") for name in ("eeh_address_cache", "eeh_disable_recovery", "eeh_enable")
    }
    assert found == {"eeh_address_cache": "", "eeh_disable_recovery": "N", "eeh_enable": "0x0"}
    sysfs.write(f"{DEBUG}/eeh_enable", "0x1")
    assert sysfs.read(f"{DEBUG}/eeh_enable") == "0x0"  # there is nothing to enable


def test_what_debugfs_refuses(sysfs: Attributes, function: BoundFunction, container: TceContainer) -> None:
    for name, text, number in (
        ("eeh_dev_check", function.address, ENODEV),
        ("eeh_dev_check", "0", EINVAL),
        ("eeh_dev_can_recover", function.address, EOPNOTSUPP),
        ("eeh_force_recover", "0:1", ENODEV),
        ("eeh_force_recover", "0", EINVAL),
    ):
        with fails(number):
            sysfs.write(f"{DEBUG}/{name}", text)
    with fails(EINVAL):
        sysfs.read(f"{DEBUG}/eeh_force_recover")


def test_functions_have_no_files_of_it(backend: Backend, function: BoundFunction, container: TceContainer) -> None:
    names = backend.listdir(f"/sys/bus/pci/devices/{function.address}")
    assert [name for name in names if name.startswith("eeh_")] == []


def test_the_library_says_why(host: Host, function: BoundFunction) -> None:
    require_tce(host.backend)
    status = host_status(host.sysfs)
    if status is not None and status.enabled:
        pytest.skip("this kernel has adapters under EEH")
    with (
        pyvfio.open_device(host, function.address) as device,
        pytest.raises(NotAvailable, match="globally disabled"),
    ):
        Pe(device)
