"""The zPCI capabilities of VFIO_DEVICE_GET_INFO, beside what sysfs says of the same function."""

from __future__ import annotations

import ctypes

import pytest

from pyvfio.abi import vfio, vfio_zdev
from pyvfio.abi.layout import Capability
from pyvfio.backend import Backend
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.modes import OpenDevice

BASE, GROUP = vfio.VFIO_DEVICE_INFO_CAP_ZPCI_BASE, vfio.VFIO_DEVICE_INFO_CAP_ZPCI_GROUP
UTIL, PFIP = vfio.VFIO_DEVICE_INFO_CAP_ZPCI_UTIL, vfio.VFIO_DEVICE_INFO_CAP_ZPCI_PFIP


@pytest.fixture
def chain(backend: Backend, opened: OpenDevice) -> dict[int, Capability]:
    """The capabilities by number."""
    info, found = requests.device_info(backend, opened.fd)
    if BASE not in [item.id for item in found]:
        pytest.skip("this function is no zPCI function")
    assert info.flags & vfio.VFIO_DEVICE_FLAGS_CAPS
    return {item.id: item for item in found}


def number(sysfs: Attributes, function: BoundFunction, name: str) -> int:
    return int(sysfs.read(f"{function.path}/{name}"), 16)


def test_the_order(backend: Backend, opened: OpenDevice, chain: dict[int, Capability]) -> None:
    wanted = [item for item in (BASE, GROUP, UTIL, PFIP) if item in chain]
    assert [item.id for item in requests.device_info(backend, opened.fd)[1]] == wanted


def test_where_they_lie(chain: dict[int, Capability]) -> None:
    offset = ctypes.sizeof(vfio.DeviceInfo)
    for item in chain.values():
        assert item.offset == offset
        offset += -(-(8 + len(item.payload)) // 8) * 8


@pytest.mark.parametrize(("which", "version"), [(BASE, 2), (GROUP, 2), (PFIP, 1)], ids=["base", "group", "pfip"])
def test_versions(chain: dict[int, Capability], which: int, version: int) -> None:
    assert chain[which].version == version


def test_base(sysfs: Attributes, function: BoundFunction, chain: dict[int, Capability]) -> None:
    base = chain[BASE].read(vfio_zdev.DeviceInfoCapZpciBase)
    assert base.fh == number(sysfs, function, "function_handle")
    assert base.pchid == number(sysfs, function, "pchid")
    assert base.vfn == number(sysfs, function, "vfn")
    assert base.gid == number(sysfs, function, "pfgid")
    assert base.pft == number(sysfs, function, "pft")


def test_the_dma_range_is_the_iommus(chain: dict[int, Capability], opened: OpenDevice) -> None:
    base = chain[BASE].read(vfio_zdev.DeviceInfoCapZpciBase)
    assert opened.ranges() == [(base.start_dma, base.end_dma)]


def test_the_handle_is_of_an_enabled_function(chain: dict[int, Capability]) -> None:
    assert chain[BASE].read(vfio_zdev.DeviceInfoCapZpciBase).fh & 0x80000000


def test_group(chain: dict[int, Capability]) -> None:
    group = chain[GROUP].read(vfio_zdev.DeviceInfoCapZpciGroup)
    assert group.noi > 0
    assert group.maxstbl >= 8
    assert group.reserved == 0


def test_path(sysfs: Attributes, function: BoundFunction, chain: dict[int, Capability]) -> None:
    item = chain[PFIP].read(vfio_zdev.DeviceInfoCapZpciPfip)
    segments = [number(sysfs, function, f"pfip/segment{index}") for index in range(item.size)]
    assert chain[PFIP].trailing_bytes(vfio_zdev.DeviceInfoCapZpciPfip, item.size) == bytes(segments)


def test_the_same_in_every_mode(backend: Backend, space: OpenDevice, function: BoundFunction) -> None:
    _, found = requests.device_info(backend, space.fd)
    if not found:
        pytest.skip("this function is no zPCI function")
    base = next(item for item in found if item.id == BASE).read(vfio_zdev.DeviceInfoCapZpciBase)
    assert base.fh == number(function.sysfs, function, "function_handle")


def test_two_functions_have_two_handles(sysfs: Attributes, function: BoundFunction, function2: BoundFunction) -> None:
    if not sysfs.exists(f"{function.path}/function_handle"):
        pytest.skip("this function is no zPCI function")
    assert number(sysfs, function, "function_handle") != number(sysfs, function2, "function_handle")
    assert number(sysfs, function, "uid") != number(sysfs, function2, "uid")


def test_the_domain_is_the_uid(sysfs: Attributes, function: BoundFunction) -> None:
    if not sysfs.exists(f"{function.path}/uid"):
        pytest.skip("this function is no zPCI function")
    assert int(function.address.split(":")[0], 16) == number(sysfs, function, "uid")


def test_its_slot_has_the_name_of_its_function_id(backend: Backend, sysfs: Attributes, function: BoundFunction) -> None:
    if not sysfs.exists(f"{function.path}/function_id"):
        pytest.skip("this function is no zPCI function")
    slot = f"/sys/bus/pci/slots/{number(sysfs, function, 'function_id'):08x}"
    assert sysfs.read(f"{slot}/address") == function.address.rsplit(".", 1)[0]
    assert sysfs.read(f"{slot}/power") == "1"
