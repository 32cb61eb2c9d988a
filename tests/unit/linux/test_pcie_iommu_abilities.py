"""What the IOMMU of an x86 machine can do, through type 1 and iommufd: widths, page sizes, coherency, dirty bits.

Sources: `paging_domain_alloc`, `intel_iommu_capable`, `intel_iommu_domain_alloc_user` and `intel_iommu_hw_info` in
``drivers/iommu/intel/iommu.c`` (6.12); the lab's answers are in ``fixtures/golden/x86/lab/iommufd.json``.
"""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import os
from collections.abc import Iterator

import pytest
from pci_fixture import errno_of
from pcie_fixture import EDU, NVME, Pcie, lab_spec

from pyvfio.abi import iommufd as abi
from pyvfio.abi import vfio
from pyvfio.abi import vfio_type1 as t1
from pyvfio.process import AnonymousMemory
from pyvfio.testing import requests
from pyvfio_backends.software.description import PcieBusSpec, PcieFunctionSpec, PcieIommuSpec

PAGE = 4096
MESSAGES = (0xFEE00000, 0xFEEFFFFF)
SIZES = 1 << 12 | 1 << 21 | 1 << 30
ON, NO_CLEAR = abi.IOMMU_HWPT_DIRTY_TRACKING_ENABLE, abi.IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR


def machine(*units: PcieIommuSpec, cmdline: str = "", **changes: object) -> Pcie:
    host = dataclasses.replace(lab_spec().host, cmdline=cmdline)
    return Pcie(pcie_iommus=list(units), host=host, **changes)


class Cdev:
    """A function of the machine, bound to an iommufd by its own node."""

    def __init__(self, lab: Pcie, name: str, iommu: int | None = None) -> None:
        self.lab, self.host, self.name = lab, lab.host, name
        lab.take(name)
        (node,) = lab.host.listdir(f"/sys/bus/pci/devices/{name}/vfio-dev")
        self.fd = lab.host.open(f"/dev/vfio/devices/{node}", os.O_RDWR)
        self.iommu = lab.host.open("/dev/iommu", os.O_RDWR) if iommu is None else iommu
        self.id = requests.bind_iommufd(lab.host, self.fd, self.iommu)

    def attach(self, number: int) -> int:
        return requests.attach_iommufd(self.host, self.fd, number)

    def table(self, ioas: int, flags: int = 0, data: int = 0, kind: int = 0) -> int:
        argument = abi.HwptAlloc.sized(flags=flags, dev_id=self.id, pt_id=ioas, data_type=kind, data_len=data)
        self.host.ioctl(self.iommu, abi.IOMMU_HWPT_ALLOC, argument)
        return argument.out_hwpt_id

    def info(self, room: int = 64) -> tuple[abi.HwInfo, bytes]:
        buffer = (ctypes.c_uint8 * max(room, 1))(*([0xEE] * max(room, 1)))
        argument = abi.HwInfo.sized(dev_id=self.id, data_len=room, data_uptr=ctypes.addressof(buffer))
        self.host.ioctl(self.iommu, abi.IOMMU_GET_HW_INFO, argument)
        return argument, bytes(buffer)[:room]

    def map(self, ioas: int, iova: int, memory: AnonymousMemory, size: int) -> None:
        flags = abi.IOMMU_IOAS_MAP_FIXED_IOVA | abi.IOMMU_IOAS_MAP_READABLE | abi.IOMMU_IOAS_MAP_WRITEABLE
        argument = abi.IoasMap.sized(flags=flags, ioas_id=ioas, user_va=memory.address, length=size, iova=iova)
        self.host.ioctl(self.iommu, abi.IOMMU_IOAS_MAP, argument)

    def track(self, table: int, flags: int) -> None:
        argument = abi.HwptSetDirtyTracking.sized(flags=flags, hwpt_id=table)
        self.host.ioctl(self.iommu, abi.IOMMU_HWPT_SET_DIRTY_TRACKING, argument)

    def dirty(self, table: int, iova: int, length: int, page: int = PAGE, flags: int = 0, before: int = 0) -> int:
        bits = (ctypes.c_uint64 * 2)(before)
        argument = abi.HwptGetDirtyBitmap.sized(
            hwpt_id=table, flags=flags, iova=iova, length=length, page_size=page, data=ctypes.addressof(bits)
        )
        self.host.ioctl(self.iommu, abi.IOMMU_HWPT_GET_DIRTY_BITMAP, argument)
        return bits[0] | bits[1] << 64


@pytest.fixture
def plain() -> Iterator[Pcie]:
    lab = machine()
    with lab.host:
        yield lab


@pytest.fixture
def scalable() -> Iterator[Pcie]:
    lab = machine(PcieIommuSpec(dirty_tracking=True), cmdline="intel_iommu=sm_on")
    with lab.host:
        yield lab


# widths and page sizes


@pytest.mark.parametrize("width", [39, 48, 57])
def test_the_width_of_addresses(width: int) -> None:
    lab = machine(PcieIommuSpec(width=width))
    usable = [(0, MESSAGES[0] - 1), (MESSAGES[1] + 1, (1 << width) - 1)]
    with lab.host:
        device = lab.open(NVME)
        assert requests.iova_ranges(lab.host, device.container) == usable
        info, _ = requests.iommu_info(lab.host, device.container)
        assert info.iova_pgsizes == SIZES
        memory = AnonymousMemory(PAGE)
        device.map((1 << width) - PAGE, memory.address, PAGE)
        assert errno_of(device.map, 1 << width, memory.address, PAGE) == "EINVAL"
        assert errno_of(device.map, MESSAGES[0], memory.address, PAGE) == "EINVAL"
        lab.device(NVME).set_master(True)
        lab.hardware(NVME).dma_write((1 << width) - PAGE, b"top")
        assert memory.view[:3] == b"top"
        cdev = Cdev(lab, EDU)
        ioas = requests.ioas_alloc(lab.host, cdev.iommu)
        cdev.attach(ioas)
        assert requests.ioas_ranges(lab.host, cdev.iommu, ioas) == (usable, PAGE)
        register = int(lab.text("/sys/class/iommu/dmar0/intel-iommu/cap"), 16)
        assert (register >> 16 & 0x3F) + 1 == width
        assert register >> 8 & 0x1F == {39: 0b0010, 48: 0b0110, 57: 0b1110}[width]


@pytest.mark.parametrize(("names", "sizes"), [((), 1 << 12), (("2M",), 1 << 12 | 1 << 21)])
def test_large_pages(names: tuple[str, ...], sizes: int) -> None:
    lab = machine(PcieIommuSpec(large_pages=names))
    with lab.host:
        assert requests.iommu_info(lab.host, lab.open(EDU).container)[0].iova_pgsizes == sizes


def test_the_capabilities_of_type1_come_in_the_kernels_order(plain: Pcie) -> None:
    _, chain = requests.iommu_info(plain.host, plain.open(EDU).container)
    assert [capability.id for capability in chain] == [
        t1.VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION,
        t1.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
        t1.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
    ]


def test_a_table_of_a_wide_unit_does_not_suit_a_narrow_one() -> None:
    """iommufd then makes another table, and the address space has the addresses of both (`iommufd_device_attach`)."""
    functions = [PcieFunctionSpec("edu", "0000:00", "01.0"), PcieFunctionSpec("edu", "0001:00", "01.0")]
    units = (PcieIommuSpec(), PcieIommuSpec(1, width=39))
    lab = machine(*units, pcie_buses=[PcieBusSpec(), PcieBusSpec(0, 1)], pcie_functions=functions)
    with lab.host:
        assert sorted(lab.host.listdir("/sys/class/iommu")) == ["dmar0", "dmar1"]
        assert lab.text("/sys/class/iommu/dmar1/intel-iommu/address") == "fed91000\n"
        assert [lab.host.listdir(f"/sys/class/iommu/dmar{n}/devices") for n in range(2)] == [
            ["0000:00:01.0"],
            ["0001:00:01.0"],
        ]
        wide = Cdev(lab, "0000:00:01.0")
        ioas = requests.ioas_alloc(lab.host, wide.iommu)
        narrow = Cdev(lab, "0001:00:01.0", wide.iommu)
        table = wide.table(ioas)
        assert errno_of(narrow.attach, table) == "EINVAL"
        assert wide.attach(ioas) != narrow.attach(ioas)
        assert requests.ioas_ranges(lab.host, wide.iommu, ioas)[0][-1][1] == (1 << 39) - 1
        memory = AnonymousMemory(PAGE)
        wide.map(ioas, 0x10000, memory, PAGE)
        for number, name in enumerate(("0000:00:01.0", "0001:00:01.0")):
            lab.device(name).set_master(True)
            lab.hardware(name).dma_write(0x10000 + number, b"%d" % number)
        assert memory.view[:2] == b"01"


# coherency


@pytest.mark.parametrize("snoops", [False, True])
def test_coherency(snoops: bool) -> None:
    lab = machine(PcieIommuSpec(snoop_control=snoops))
    with lab.host:
        device = lab.open(EDU)
        assert lab.host.ioctl(device.container, vfio.VFIO_CHECK_EXTENSION, vfio.VFIO_DMA_CC_IOMMU) == snoops
        device.close()
        cdev = Cdev(lab, EDU)
        ioas = requests.ioas_alloc(lab.host, cdev.iommu)
        argument = abi.VfioIoas.sized(op=abi.IOMMU_VFIO_IOAS_SET, ioas_id=ioas)
        lab.host.ioctl(cdev.iommu, abi.IOMMU_VFIO_IOAS, argument)
        cdev.attach(ioas)
        assert lab.host.ioctl(cdev.iommu, vfio.VFIO_CHECK_EXTENSION, vfio.VFIO_DMA_CC_IOMMU) == snoops


def test_a_coherent_table_does_not_suit_a_unit_that_cannot() -> None:
    functions = [PcieFunctionSpec("edu", "0000:00", "01.0"), PcieFunctionSpec("edu", "0001:00", "01.0")]
    lab = machine(
        PcieIommuSpec(snoop_control=True),
        pcie_buses=[PcieBusSpec(), PcieBusSpec(0, 1)],
        pcie_functions=functions,
    )
    with lab.host:
        able = Cdev(lab, "0000:00:01.0")
        unable = Cdev(lab, "0001:00:01.0", able.iommu)
        ioas = requests.ioas_alloc(lab.host, able.iommu)
        assert errno_of(unable.attach, able.table(ioas)) == "EINVAL"
        able.attach(unable.table(ioas))


# what the hardware tells


@pytest.mark.parametrize("room", [0, 4, 24, 64])
def test_hardware_information(plain: Pcie, room: int) -> None:
    """As much as there is room for, and zeros after it; the length is always that of the structure."""
    told, data = Cdev(plain, EDU).info(room)
    assert (told.out_data_type, told.data_len) == (abi.IOMMU_HW_INFO_TYPE_INTEL_VTD, ctypes.sizeof(abi.HwInfoVtd))
    assert (told.out_capabilities, told.out_max_pasid_log2) == (0, 0)
    whole = bytes.fromhex("010000000000000086062f228c00d2004a0ff00000000000")
    assert data == whole[:room].ljust(room, b"\0")


def test_tables_that_the_lab_could_not_make(plain: Pcie) -> None:
    device = Cdev(plain, EDU)
    ioas = requests.ioas_alloc(plain.host, device.iommu)
    for flags in (abi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING, abi.IOMMU_HWPT_ALLOC_NEST_PARENT, 1 << 5):
        assert errno_of(device.table, ioas, flags) == "ENOTSUP"
    table = device.table(ioas)
    assert errno_of(device.table, table) == "ENOTSUP"
    assert errno_of(device.table, table, 0, 16, abi.IOMMU_HWPT_DATA_VTD_S1) == "EINVAL"
    assert errno_of(device.track, table, ON) == "ENOTSUP"
    assert errno_of(device.dirty, table, 0, PAGE) == "ENOTSUP"


# dirty bits


def test_dirty_bits(scalable: Pcie) -> None:
    lab, device = scalable, Cdev(scalable, EDU)
    assert device.info()[0].out_capabilities == abi.IOMMU_HW_CAP_DIRTY_TRACKING
    ioas = requests.ioas_alloc(lab.host, device.iommu)
    table = device.table(ioas, abi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING)
    device.attach(table)
    memory = AnonymousMemory(4 * PAGE)
    device.map(ioas, 0x100000, memory, 4 * PAGE)
    lab.device(EDU).set_master(True)
    hardware = lab.hardware(EDU)
    assert errno_of(device.dirty, table, 0x100000, 4 * PAGE) == "EINVAL"  # not tracking
    hardware.dma_write(0x100000, b"before")
    device.track(table, ON)
    hardware.dma_write(0x100000 + 2 * PAGE - 1, b"two pages")
    hardware.dma_read(0x100000 + 3 * PAGE, 8)
    assert device.dirty(table, 0x100000, 4 * PAGE, flags=NO_CLEAR) == 0b0110
    assert device.dirty(table, 0x100000 + PAGE, PAGE, before=1 << 9) == 1 << 9 | 1
    assert device.dirty(table, 0x100000, 4 * PAGE) == 0b0100
    assert device.dirty(table, 0x100000, 4 * PAGE) == 0
    hardware.dma_copy(0x100000 + 3 * PAGE, 0x100000, 16)
    assert device.dirty(table, 0x100000, 4 * PAGE, page=2 * PAGE) == 0b10
    hardware.dma_write(0x100000, b"again")
    device.track(table, ON)  # begins anew
    assert device.dirty(table, 0x100000, 4 * PAGE) == 0
    device.track(table, 0)
    assert errno_of(device.dirty, table, 0x100000, 4 * PAGE) == "EINVAL"
    assert bytes(memory.view[:5]) == b"again"


@pytest.mark.parametrize(
    ("iova", "length", "page", "expected"),
    [
        (0, PAGE, PAGE, "EINVAL"),  # not mapped
        (0x100000, 5 * PAGE, PAGE, "EINVAL"),  # not all of it
        (0x100000, PAGE, 0, "EINVAL"),
        (0x100800, PAGE, PAGE, "EINVAL"),
        (0x100000, PAGE, 2 * PAGE, "EINVAL"),
        ((1 << 64) - PAGE, 2 * PAGE, PAGE, "EOVERFLOW"),
    ],
)
def test_ranges_of_dirty_bits(scalable: Pcie, iova: int, length: int, page: int, expected: str) -> None:
    device = Cdev(scalable, EDU)
    ioas = requests.ioas_alloc(scalable.host, device.iommu)
    table = device.table(ioas, abi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING)
    device.attach(table)
    device.map(ioas, 0x100000, AnonymousMemory(4 * PAGE), 4 * PAGE)
    device.track(table, ON)
    assert errno_of(device.dirty, table, iova, length, page) == expected


def test_type1_does_not_use_dirty_bits(scalable: Pcie) -> None:
    """Every mapped page is dirty, always (``type1_dma.json``): type 1 only knows pages that drivers pin."""
    device = scalable.open(EDU, iommu=vfio.VFIO_TYPE1v2_IOMMU)
    memory = AnonymousMemory(2 * PAGE)
    device.map(0, memory.address, 2 * PAGE)
    requests.dirty_pages(scalable.host, device.container, t1.VFIO_IOMMU_DIRTY_PAGES_FLAG_START)
    bits = (ctypes.c_uint64 * 1)()
    query = t1.IommuType1DirtyBitmapGet(iova=0, size=2 * PAGE)
    query.bitmap.pgsize, query.bitmap.size, query.bitmap.data = PAGE, 8, ctypes.addressof(bits)
    for _ in range(2):
        flags = t1.VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP
        requests.dirty_pages(scalable.host, device.container, flags, bytes(query))
        assert bits[0] == 0b11


# types of groups


@pytest.mark.parametrize(
    ("cmdline", "caching", "expected"),
    [
        ("", True, "DMA"),
        ("", False, "DMA-FQ"),
        ("iommu.strict=1", False, "DMA"),
        ("iommu=pt", True, "identity"),
        ("iommu.passthrough=1", False, "identity"),
    ],
)
def test_the_type_of_groups_at_boot(cmdline: str, caching: bool, expected: str) -> None:
    lab = machine(PcieIommuSpec(caching_mode=caching), cmdline=cmdline)
    with lab.host:
        assert lab.text("/sys/kernel/iommu_groups/3/type") == f"{expected}\n"


def test_the_type_of_a_group_can_be_changed_while_nobody_uses_it(plain: Pcie) -> None:
    path = "/sys/kernel/iommu_groups/3/type"
    for word, shown in (("identity", "identity"), ("DMA-FQ", "DMA-FQ"), ("auto", "DMA")):
        plain.write(path, word)
        assert plain.text(path) == f"{shown}\n"
    assert errno_of(plain.write, path, "blocked") == "EINVAL"
    device = plain.open(EDU)
    assert errno_of(plain.write, path, "identity") == errno.errorcode[errno.EPERM]
    device.close()
    plain.write(path, "identity")


def test_the_large_pages_of_the_machine(plain: Pcie) -> None:
    """2 MiB, to which iommufd also aligns the addresses that it chooses (`iopt_alloc_iova`)."""
    assert plain.host.listdir("/sys/kernel/mm/hugepages") == ["hugepages-2048kB"]
    device = Cdev(plain, EDU)
    ioas = requests.ioas_alloc(plain.host, device.iommu)
    size = 4 << 20
    with AnonymousMemory(2 * size) as memory:
        start = -(-memory.address // size) * size
        flags = abi.IOMMU_IOAS_MAP_READABLE
        argument = abi.IoasMap.sized(flags=flags, ioas_id=ioas, user_va=start, length=size)
        plain.host.ioctl(device.iommu, abi.IOMMU_IOAS_MAP, argument)
    assert argument.iova == 2 << 20
