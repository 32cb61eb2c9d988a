"""Page tables of programs, nested in those of the kernel, by ``/dev/iommu`` on a machine whose VT-d can do it.

Sources (6.12): `intel_iommu_domain_alloc_user` and `__domain_mapping` in ``drivers/iommu/intel/iommu.c``, ``nested.c``,
`intel_pasid_setup_nested` in ``pasid.c``, `calculate_psi_aligned_address` in ``cache.c``; ``drivers/iommu/iommufd/``
``hw_pagetable.c`` and ``device.c``.  QEMU's unit has no scalable mode with nesting, so no lab answers here.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pci_fixture import errno_of
from pcie_fixture import EDU, NVME, Pcie, lab_spec
from test_pcie_iommu_abilities import Cdev, machine

from pyvfio.abi import iommufd as abi
from pyvfio.errors import Misuse
from pyvfio.process import AnonymousMemory
from pyvfio.testing import requests
from pyvfio_backends.software.description import PcieBusSpec, PcieFunctionSpec, PcieIommuSpec
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.pcie.remapping import FaultReason, RemappingUnits
from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex
from pyvfio_backends.software.linux.kernel_log import kernel_log
from pyvfio_backends.software.linux.vtd_nested import flushed_range
from pyvfio_backends.software.pcie_iommus import check_iommu

PAGE, PWU, A, D = 4096, 7, 1 << 5, 1 << 6
PARENT, DIRTY = abi.IOMMU_HWPT_ALLOC_NEST_PARENT, abi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
FAULTS = abi.IOMMU_HWPT_FAULT_ID_VALID
S1, LEAF = abi.IOMMU_HWPT_DATA_VTD_S1, abi.IOMMU_VTD_INV_FLAGS_LEAF
BASE, PAGES = 0x100000, 32
SM = "intel_iommu=sm_on"
NESTING = PcieIommuSpec(nesting=True, dirty_tracking=True)


class Nest(Cdev):
    """A device with an address space: `PAGES` of memory at `BASE`, in the first four of which there are tables.

    Address 0 of the device leads to page 16, 0x1000 to page 17, and so on up to page 23.
    """

    def __init__(self, lab: Pcie, name: str = EDU, iommu: int | None = None) -> None:
        super().__init__(lab, name, iommu)
        self.ioas = requests.ioas_alloc(lab.host, self.iommu)
        self.memory = AnonymousMemory(PAGES * PAGE)
        self.map(self.ioas, BASE, self.memory, PAGES * PAGE)
        for level in range(3):
            self.set(level * PAGE, BASE + (level + 1) * PAGE | PWU)
        for number in range(8):
            self.set(3 * PAGE + number * 8, BASE + (16 + number) * PAGE | PWU)
        lab.device(name).set_master(True)
        self.hardware = lab.hardware(name)

    def set(self, offset: int, entry: int) -> None:
        self.memory.view[offset : offset + 8] = struct.pack("<Q", entry)

    def entry(self, offset: int) -> int:
        return int(struct.unpack("<Q", self.memory.view[offset : offset + 8])[0])

    def nested(
        self, parent: int, width: int = 48, flags: int = 0, *, kind: int = S1, more: int = 0, length: int = 24
    ) -> int:
        data = abi.HwptVtdS1(flags=flags, pgtbl_addr=BASE, addr_width=width)
        argument = abi.HwptAlloc.sized(
            flags=more, dev_id=self.id, pt_id=parent, data_type=kind, data_len=length, data_uptr=ctypes.addressof(data)
        )
        self.host.ioctl(self.iommu, abi.IOMMU_HWPT_ALLOC, argument)
        return argument.out_hwpt_id

    def destroy(self, number: int) -> None:
        self.host.ioctl(self.iommu, abi.IOMMU_DESTROY, abi.Destroy.sized(id=number))

    def invalidate(
        self, table: int, *entries: tuple[int, int, int], kind: int = 0, length: int = 24, reserved: int = 0
    ) -> tuple[str, int]:
        """The name of the errno, and how many entries were done."""
        array = (abi.HwptVtdS1Invalidate * max(len(entries), 1))()
        for one, (addr, npages, flags) in zip(array, entries, strict=False):
            one.addr, one.npages, one.flags = addr, npages, flags
        argument = abi.HwptInvalidate.sized(
            hwpt_id=table,
            data_uptr=ctypes.addressof(array),
            data_type=kind,
            entry_len=length,
            entry_num=len(entries),
        )
        setattr(argument, "__reserved", reserved)
        try:
            self.host.ioctl(self.iommu, abi.IOMMU_HWPT_INVALIDATE, argument)
        except OSError as error:
            return errno.errorcode[error.errno or 0], argument.entry_num
        return "", argument.entry_num

    def log(self) -> str:
        """The last line of the kernel's log."""
        return kernel_log(self.lab.kernel).lines[-1]

    def fault(self) -> FaultReason:
        assert isinstance(self.lab.machine.pcie, RootComplex)
        iommu = self.lab.machine.pcie.iommu
        assert isinstance(iommu, RemappingUnits)
        return iommu.units[0].faults[-1].reason

    def read(self, iova: int, count: int = 3) -> bytes:
        return bytes(self.hardware.dma_read(iova, count))


@pytest.fixture
def lab() -> Iterator[Pcie]:
    made = machine(NESTING, cmdline=SM)
    with made.host:
        yield made


@pytest.fixture
def nest(lab: Pcie) -> Nest:
    return Nest(lab)


def test_what_the_registers_tell(lab: Pcie) -> None:
    info, data = Cdev(lab, EDU).info()
    registers = abi.HwInfoVtd.from_buffer_copy(data)
    assert registers.flags == abi.IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17
    assert info.out_capabilities == abi.IOMMU_HW_CAP_DIRTY_TRACKING
    for bit in (26, 43, 45, 46, 47, 48):  # NEST, SMTS, SLADS, SLTS, FLTS, SMPWC
        assert registers.ecap_reg >> bit & 1
    assert (registers.ecap_reg >> 31 & 1, registers.ecap_reg >> 34 & 1) == (0, 0)  # SRS, EAFS
    assert (registers.cap_reg >> 56 & 1, registers.cap_reg >> 60 & 1) == (1, 0)  # FL1GP, FL5LP
    assert lab.text("/sys/class/iommu/dmar0/intel-iommu/ecap") == f"{registers.ecap_reg:x}\n"


@pytest.mark.parametrize(
    ("spec", "cmdline"), [(PcieIommuSpec(), SM), (NESTING, ""), (PcieIommuSpec(dirty_tracking=True), SM)]
)
def test_without_the_scalable_mode_or_the_ability_nothing_nests(spec: PcieIommuSpec, cmdline: str) -> None:
    lab = machine(spec, cmdline=cmdline)
    with lab.host:
        device = Nest(lab)
        assert errno_of(device.table, device.ioas, PARENT) == "ENOTSUP"
        assert errno_of(device.nested, device.table(device.ioas)) == "EINVAL"


def test_a_device_goes_through_both_tables(nest: Nest) -> None:
    parent = nest.table(nest.ioas, PARENT)
    table = nest.nested(parent)
    assert nest.attach(table) == table
    nest.hardware.dma_write(0x1FFE, b"both")
    assert bytes(nest.memory.view[18 * PAGE - 2 : 18 * PAGE + 2]) == b"both"
    assert nest.entry(3 * PAGE + 8) == BASE + 17 * PAGE | PWU | A | D
    assert nest.entry(0) & (A | D) == A
    nest.attach(nest.ioas)  # its own addresses again
    assert nest.read(BASE + 18 * PAGE - 2, 4) == b"both"
    nest.attach(parent)
    assert nest.read(BASE + 18 * PAGE - 2, 4) == b"both"


def test_reserved_regions_are_those_of_the_parents_address_space(nest: Nest) -> None:
    table = nest.nested(nest.table(nest.ioas, PARENT))
    nest.attach(table)
    assert requests.ioas_ranges(nest.host, nest.iommu, nest.ioas)[0] == [(0, 0xFEDFFFFF), (0xFEF00000, (1 << 48) - 1)]


def test_allocation(nest: Nest) -> None:
    parent, plain = nest.table(nest.ioas, PARENT), nest.table(nest.ioas)
    nest.attach(nest.ioas)
    assert errno_of(nest.nested, plain) == "EINVAL"
    assert errno_of(nest.nested, nest.ioas) == "ENOTSUP"  # data for a table of the kernel
    assert errno_of(nest.nested, 99) == "EINVAL"
    assert errno_of(nest.table, parent) == "ENOTSUP"  # no data
    assert errno_of(nest.nested, parent, kind=2) == "ENOTSUP"
    for more in (PARENT, DIRTY, 1 << 5):
        assert errno_of(nest.nested, parent, more=more) == "ENOTSUP"
    assert errno_of(nest.nested, parent, more=FAULTS) == "ENOENT"  # the queue
    assert errno_of(nest.table, nest.ioas, FAULTS | PARENT) == "ENOTSUP"
    for length in (23, 25):
        assert errno_of(nest.nested, parent, length=length) == "EINVAL"
    assert errno_of(nest.nested, parent, kind=0) == "EINVAL"
    bad = abi.HwptAlloc.sized(dev_id=nest.id, pt_id=parent, data_type=S1, data_len=24, data_uptr=8)
    assert errno_of(nest.host.ioctl, nest.iommu, abi.IOMMU_HWPT_ALLOC, bad) == "EFAULT"
    table = nest.nested(parent, width=3, flags=~0)  # looked at by the attach
    assert errno_of(nest.nested, table) == "EINVAL"
    nest.destroy(table)
    nest.destroy(parent)


def test_the_order_of_destruction(nest: Nest) -> None:
    parent = nest.table(nest.ioas, PARENT)
    table = nest.nested(parent)
    nest.attach(table)
    for number in (table, parent, nest.ioas):
        assert errno_of(nest.destroy, number) == "EBUSY"
    requests.detach_iommufd(nest.host, nest.fd)
    for number in (parent, nest.ioas):
        assert errno_of(nest.destroy, number) == "EBUSY"
    for number in (table, parent, nest.ioas):
        nest.destroy(number)


@pytest.mark.parametrize(
    ("features", "width", "flags", "expected", "line"),
    [
        ((), 48, 0, None, ""),
        ((), 48, abi.IOMMU_VTD_S1_WPE, None, ""),
        ((), 57, 0, "EINVAL", "5-level paging not supported"),
        (("5-level",), 57, 0, None, ""),
        ((), 39, 0, "EINVAL", "Invalid stage-1 address width 39"),
        ((), 0xFFFFFFFF, 0, "EINVAL", "Invalid stage-1 address width -1"),
        ((), 48, abi.IOMMU_VTD_S1_SRE, "EINVAL", "DMAR: No supervisor request support on dmar0"),
        (("supervisor",), 48, abi.IOMMU_VTD_S1_SRE, None, ""),
        ((), 48, abi.IOMMU_VTD_S1_EAFE, "EINVAL", "DMAR: No extended access flag support on dmar0"),
        (("extended-access",), 48, abi.IOMMU_VTD_S1_EAFE, None, ""),
    ],
)
def test_what_an_attach_looks_at(
    features: tuple[str, ...], width: int, flags: int, expected: str | None, line: str
) -> None:
    lab = machine(PcieIommuSpec(nesting=True, first_stage=features), cmdline=SM)
    with lab.host:
        nest = Nest(lab)
        table = nest.nested(nest.table(nest.ioas, PARENT), width, flags)
        nest.attach(nest.ioas)
        if expected is None:
            nest.attach(table)
            if width == 48:
                nest.read(0)
                assert bool(nest.entry(0) & 1 << 10) == ("extended-access" in features)
        else:
            assert errno_of(nest.attach, table) == expected
            assert line in nest.log()
            nest.read(BASE)  # as it was


def test_a_device_of_another_unit() -> None:
    functions = [PcieFunctionSpec("edu", f"{n:04x}:00", "01.0") for n in range(3)]
    units = (NESTING, PcieIommuSpec(1, width=39, nesting=True), PcieIommuSpec(2))
    buses = [PcieBusSpec(), PcieBusSpec(0, 1), PcieBusSpec(0, 2)]
    lab = machine(*units, cmdline=SM, pcie_buses=buses, pcie_functions=functions)
    with lab.host:
        nest = Nest(lab, "0000:00:01.0")
        table = nest.nested(nest.table(nest.ioas, PARENT))
        assert errno_of(Cdev(lab, "0001:00:01.0", nest.iommu).attach, table) == "ENODEV"
        legacy = Cdev(lab, "0002:00:01.0", nest.iommu)
        assert errno_of(legacy.attach, table) == "ENODEV"
        noting = nest.table(nest.ioas, PARENT | DIRTY)
        assert errno_of(legacy.attach, noting) == "EINVAL"
        assert errno_of(legacy.attach, nest.nested(noting)) == "EINVAL"


def test_nothing_that_devices_may_only_read_is_mapped_under_others(nest: Nest) -> None:
    """The erratum that IOMMU_GET_HW_INFO names (`__domain_mapping`)."""
    read_only = abi.IoasMap.sized(
        flags=abi.IOMMU_IOAS_MAP_READABLE | abi.IOMMU_IOAS_MAP_FIXED_IOVA,
        ioas_id=nest.ioas,
        user_va=nest.memory.address,
        length=PAGE,
        iova=0x800000,
    )
    parent = nest.table(nest.ioas, PARENT)
    assert errno_of(nest.host.ioctl, nest.iommu, abi.IOMMU_IOAS_MAP, read_only) == "EINVAL"
    assert "Read-only mapping is disallowed" in nest.log()
    nest.destroy(parent)
    nest.host.ioctl(nest.iommu, abi.IOMMU_IOAS_MAP, read_only)
    assert errno_of(nest.table, nest.ioas, PARENT) == "EINVAL"
    nest.table(nest.ioas)


def test_invalidation(nest: Nest) -> None:
    table = nest.nested(nest.table(nest.ioas, PARENT))
    nest.attach(table)
    nest.memory.view[16 * PAGE : 16 * PAGE + 3] = b"old"
    nest.memory.view[24 * PAGE : 24 * PAGE + 3] = b"new"
    assert nest.read(0) == b"old"
    nest.set(3 * PAGE, BASE + 24 * PAGE | PWU)
    assert nest.read(0) == b"old"
    assert nest.invalidate(table, (0x1000, 1, 0), (0x2000, 1, LEAF)) == ("", 2)
    assert nest.read(0) == b"old"
    assert nest.invalidate(table, (0, 1, LEAF)) == ("", 1)
    assert nest.read(0) == b"new"
    nest.set(3 * PAGE, BASE + 16 * PAGE | PWU)
    assert nest.invalidate(table, (0, (1 << 64) - 1, 0)) == ("", 1)
    assert nest.read(0) == b"old"
    nest.set(3 * PAGE, BASE + 24 * PAGE | PWU)
    nest.attach(nest.ioas)
    nest.attach(table)  # an entry that is set up anew
    assert nest.read(0) == b"new"


def test_what_is_unmapped_in_the_address_space_needs_no_invalidation(nest: Nest) -> None:
    nest.attach(nest.nested(nest.table(nest.ioas, PARENT)))
    more = AnonymousMemory(PAGE)
    nest.map(nest.ioas, 0x900000, more, PAGE)
    nest.set(3 * PAGE, 0x900000 | PWU)
    nest.hardware.dma_write(0, b"there")
    assert bytes(more.view[:5]) == b"there"
    argument = abi.IoasUnmap.sized(ioas_id=nest.ioas, iova=0x900000, length=PAGE)
    nest.host.ioctl(nest.iommu, abi.IOMMU_IOAS_UNMAP, argument)
    with pytest.raises(DmaFault):
        nest.read(0)
    assert nest.fault() is FaultReason.SECOND_STAGE_ACCESS


def test_bad_invalidations(nest: Nest) -> None:
    parent = nest.table(nest.ioas, PARENT)
    table = nest.nested(parent)
    assert nest.invalidate(table) == ("", 0)  # how a program learns that a kind is known
    assert nest.invalidate(table, kind=1) == ("EINVAL", 0)
    good = (0, 1, 0)
    for entry, expected in (((0x800, 1, 0), "EINVAL"), ((PAGE, (1 << 64) - 1, 0), "EINVAL"), ((0, 1, 2), "ENOTSUP")):
        assert nest.invalidate(table, good, good, entry) == (expected, 2)
    for length in (23, 25, PAGE + 1, 0):
        assert nest.invalidate(table, good, length=length) == ("EINVAL", 0)
    assert nest.invalidate(parent, good) == ("ENOENT", 0)
    assert nest.invalidate(table, good, reserved=1) == ("ENOTSUP", 0)


def test_dirty_bits_of_the_parent_have_what_goes_through_others(nest: Nest) -> None:
    """`parent_domain_set_dirty_tracking`; a nested table has none of its own (ENOENT: it is none of the kernel's)."""
    parent = nest.table(nest.ioas, PARENT | DIRTY)
    table = nest.nested(parent)
    nest.attach(table)
    assert errno_of(nest.track, table, 1) == "ENOENT"
    nest.track(parent, 1)
    nest.hardware.dma_write(0x2000, b"x")
    # page 18, and those of the tables, whose entries were marked
    assert nest.dirty(parent, BASE, PAGES * PAGE) == 1 << 18 | 0b1111


@pytest.mark.parametrize(
    ("iova", "write", "reason", "text"),
    [
        (0x8000, False, FaultReason.NOT_PRESENT, "SM: Present bit in first-level paging entry is clear"),
        (0x7000, True, FaultReason.SCALABLE_NO_WRITE, "SM: No write permission for Write/AtomicOp request"),
        (0x6000, False, FaultReason.NOT_USER, "SM: U/S set 0 for first-level translation with user privilege"),
        (
            0x5000,
            False,
            FaultReason.SECOND_STAGE_ACCESS,
            "SM: Read/Write permission error in second-level paging entry",
        ),
        (1 << 47, True, FaultReason.NOT_CANONICAL, "SM: Address in first-level translation is not canonical"),
    ],
)
def test_faults(nest: Nest, iova: int, write: bool, reason: FaultReason, text: str) -> None:
    """The lines of `dmar_fault_do_one`."""
    nest.set(3 * PAGE + 7 * 8, BASE | 5)
    nest.set(3 * PAGE + 6 * 8, BASE | 3)
    nest.set(3 * PAGE + 5 * 8, 0x700000 | PWU)
    nest.attach(nest.nested(nest.table(nest.ioas, PARENT)))
    if write:
        nest.hardware.dma_write(iova, b"x")
    else:
        with pytest.raises(DmaFault):
            nest.read(iova)
    assert nest.fault() is reason
    line = nest.log()
    assert f"[DMA {'Write' if write else 'Read'} NO_PASID]" in line
    assert line.endswith(f"fault addr {iova:#x} [fault reason {reason:#04x}] {text}")


def test_faults_of_a_scalable_unit_without_nesting(nest: Nest) -> None:
    with pytest.raises(DmaFault):
        nest.read(0)
    assert nest.log().endswith("[fault reason 0x59] SM: Present bit in PASID Table Entry is clear")
    nest.attach(nest.ioas)
    with pytest.raises(DmaFault):
        nest.read(0)
    assert "[fault reason 0x79]" in nest.log()


@given(st.integers(0, (1 << 52) - 1), st.integers(1, 1 << 20))
def test_the_range_that_is_flushed(page: int, pages: int) -> None:
    start, length = flushed_range(page * PAGE, pages)
    assert length & length - 1 == 0
    assert start % length == 0
    assert start <= page * PAGE
    assert min((page + pages) * PAGE, 1 << 64) <= start + length
    smaller = length // 2  # none that is smaller has them all, unless it is not aligned
    assert smaller < pages * PAGE or page * PAGE // smaller != (page * PAGE + pages * PAGE - 1) // smaller


@pytest.mark.parametrize(("pages", "expected"), [(0, (0, PAGE)), ((1 << 64) - 1, (0, 1 << 64)), (1 << 52, (0, PAGE))])
def test_lengths_that_are_cut(pages: int, expected: tuple[int, int]) -> None:
    assert flushed_range(0, pages) == expected


@pytest.mark.parametrize(
    "spec", [PcieIommuSpec(nesting=True, first_stage=("6-level",)), PcieIommuSpec(first_stage=("5-level",))]
)
def test_machines_that_cannot_be(spec: PcieIommuSpec) -> None:
    with pytest.raises(Misuse):
        check_iommu(spec, lab_spec())


def test_two_devices_share_a_table(lab: Pcie) -> None:
    nest = Nest(lab)
    table = nest.nested(nest.table(nest.ioas, PARENT))
    nest.attach(table)
    other = Cdev(lab, NVME, nest.iommu)
    other.attach(table)
    lab.device(NVME).set_master(True)
    lab.hardware(NVME).dma_write(0x3000, b"nvme")
    assert nest.read(0x3000, 4) == b"nvme"
