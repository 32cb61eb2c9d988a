"""What the IOMMU of a machine is, told in several places: sysfs, type 1, iommufd; and what is in which group."""

from __future__ import annotations

import ctypes
from errno import ENODEV, EOPNOTSUPP

import pytest

from pyvfio.abi import iommufd, vfio
from pyvfio.abi.layout import AbiStructure
from pyvfio.backend import Backend
from pyvfio.host import Host
from pyvfio.pci.grouping import explain
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import CONTAINER, IOMMU, OpenDevice, open_device

SWITCH = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
WIDTH_SHIFT, WIDTH_MASK = 16, 0x3F
LARGE_SHIFT = 34


@pytest.fixture
def bound(backend: Backend, files: OpenFiles, function: BoundFunction) -> OpenDevice:
    return open_device(backend, files, function, "iommufd")


@pytest.fixture
def unit(sysfs: Attributes, pci_path: str, vtd: bool) -> str:
    """The directory of the registers of a VT-d unit."""
    if not vtd:
        pytest.skip("this host has no VT-d")
    return f"{pci_path}/iommu/intel-iommu"


def test_topology_explains_every_group(host: Host) -> None:
    """The library follows links from function to function, the kernel looks for groups that are there."""
    for group in host.groups():
        account = explain(group)
        assert account.agrees is not False, (group.number, account.notes)


def test_nobody_can_map_what_is_reserved(host: Host, space: OpenDevice, function: BoundFunction) -> None:
    for region in host.group(function.group_number).reserved_regions:
        if region.kind != "direct-relaxable":
            assert not any(first <= region.last and last >= region.start for first, last in space.ranges())


def test_the_registers_are_the_same_everywhere(
    backend: Backend, sysfs: Attributes, bound: OpenDevice, unit: str
) -> None:
    data = iommufd.HwInfoVtd()
    argument = iommufd.HwInfo.sized(dev_id=bound.devid, data_len=ctypes.sizeof(data), data_uptr=ctypes.addressof(data))
    backend.ioctl(bound.container, iommufd.IOMMU_GET_HW_INFO, argument)
    assert f"{data.cap_reg:x}" == sysfs.read(f"{unit}/cap")
    assert f"{data.ecap_reg:x}" == sysfs.read(f"{unit}/ecap")


def test_as_much_of_the_registers_as_there_is_room_for(backend: Backend, bound: OpenDevice, unit: str) -> None:
    whole = ctypes.sizeof(iommufd.HwInfoVtd)
    for room in (0, 8, whole, 2 * whole):
        buffer = (ctypes.c_uint8 * (2 * whole + 1))(*([0xEE] * (2 * whole + 1)))
        argument = iommufd.HwInfo.sized(dev_id=bound.devid, data_len=room, data_uptr=ctypes.addressof(buffer))
        backend.ioctl(bound.container, iommufd.IOMMU_GET_HW_INFO, argument)
        assert argument.data_len == whole
        assert bytes(buffer)[room:] == b"\xee" * (2 * whole + 1 - room)
        assert not any(bytes(buffer)[whole:room])


def test_the_width_of_addresses_and_the_sizes_of_pages(
    backend: Backend, sysfs: Attributes, space: OpenDevice, unit: str
) -> None:
    register = int(sysfs.read(f"{unit}/cap"), 16)
    assert space.ranges()[-1][1] == (1 << (register >> WIDTH_SHIFT & WIDTH_MASK) + 1) - 1
    if space.mode != "iommufd":
        large = sum(1 << 21 + 9 * level for level in range(2) if register >> LARGE_SHIFT + level & 1)
        assert requests.iommu_info(backend, space.container)[0].iova_pgsizes == large | 1 << 12


def test_domains_are_counted(sysfs: Attributes, unit: str) -> None:
    used, supported = (int(sysfs.read(f"{unit}/{name}")) for name in ("domains_used", "domains_supported"))
    assert 0 < used < supported


def _table(backend: Backend, bound: OpenDevice, parent: int, flags: int = 0) -> int:
    argument = iommufd.HwptAlloc.sized(flags=flags, dev_id=bound.devid, pt_id=parent)
    backend.ioctl(bound.container, iommufd.IOMMU_HWPT_ALLOC, argument)
    return argument.out_hwpt_id


@pytest.mark.parametrize("flag", [iommufd.IOMMU_HWPT_ALLOC_DIRTY_TRACKING, iommufd.IOMMU_HWPT_ALLOC_NEST_PARENT])
def test_a_table_that_the_iommu_cannot_make(backend: Backend, bound: OpenDevice, flag: int) -> None:
    info = iommufd.HwInfo.sized(dev_id=bound.devid)
    backend.ioctl(bound.container, iommufd.IOMMU_GET_HW_INFO, info)
    if info.out_capabilities & iommufd.IOMMU_HW_CAP_DIRTY_TRACKING:
        pytest.skip("this IOMMU can")
    with fails(EOPNOTSUPP):
        _table(backend, bound, bound.ioas, flag)


@pytest.mark.parametrize("request_of", [iommufd.HwptSetDirtyTracking, iommufd.HwptGetDirtyBitmap])
def test_a_table_without_dirty_bits(
    backend: Backend, bound: OpenDevice, page: int, request_of: type[AbiStructure]
) -> None:
    table = _table(backend, bound, bound.ioas)
    if request_of is iommufd.HwptSetDirtyTracking:
        number, fields = iommufd.IOMMU_HWPT_SET_DIRTY_TRACKING, {"flags": iommufd.IOMMU_HWPT_DIRTY_TRACKING_ENABLE}
    else:
        number, fields = iommufd.IOMMU_HWPT_GET_DIRTY_BITMAP, {"iova": 0, "length": page, "page_size": page}
    with fails(EOPNOTSUPP):
        backend.ioctl(bound.container, number, request_of.sized(hwpt_id=table, **fields))
    requests.destroy(backend, bound.container, table)


def test_a_device_by_a_table_made_by_hand(backend: Backend, bound: OpenDevice) -> None:
    table = _table(backend, bound, bound.ioas)
    assert requests.attach_iommufd(backend, bound.fd, table) == table
    requests.detach_iommufd(backend, bound.fd)
    requests.destroy(backend, bound.container, table)


# the mode without an IOMMU is off, and a device with one does not care


def test_the_unsafe_mode_is_off(backend: Backend, sysfs: Attributes, files: OpenFiles) -> None:
    assert not sysfs.exists(SWITCH) or sysfs.read(SWITCH) == "N"
    container = files.open(CONTAINER)
    assert requests.check_extension(backend, container, vfio.VFIO_NOIOMMU_IOMMU) == 0


@pytest.mark.usefixtures("iommufd")
def test_iommufd_says_whether_the_kernel_has_it(backend: Backend, sysfs: Attributes, files: OpenFiles) -> None:
    built = sysfs.exists(SWITCH)
    assert requests.check_extension(backend, files.open(IOMMU), vfio.VFIO_NOIOMMU_IOMMU) == built


def test_a_group_with_an_iommu_in_the_unsafe_mode(
    backend: Backend, sysfs: Attributes, files: OpenFiles, function: BoundFunction
) -> None:
    if not sysfs.exists(SWITCH):
        pytest.skip("this kernel has no such mode")
    sysfs.write(SWITCH, "Y")
    try:
        container, group = files.open(CONTAINER), files.open(function.group)
        assert requests.check_extension(backend, container, vfio.VFIO_NOIOMMU_IOMMU) == 1
        requests.set_container(backend, group, container)
        assert requests.check_extension(backend, container, vfio.VFIO_NOIOMMU_IOMMU) == 0
        with fails(ENODEV):
            backend.ioctl(container, vfio.VFIO_SET_IOMMU, vfio.VFIO_NOIOMMU_IOMMU)
        backend.ioctl(container, vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU)
    finally:
        sysfs.write(SWITCH, "N")
