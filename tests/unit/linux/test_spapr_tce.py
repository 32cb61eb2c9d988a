"""Containers on POWER where the recording asks nothing: DMA, limits, several groups, what Linux 6.12 does by mistake.

Source: ``drivers/vfio/vfio_iommu_spapr_tce.c``, ``arch/powerpc/mm/book3s64/iommu_api.c``,
``arch/powerpc/platforms/powernv/pci-ioda.c``, ``arch/powerpc/include/asm/iommu.h``.
"""

from __future__ import annotations

import errno
import mmap
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from spapr_rig import M32_BUS, MEMORY_SIZE, PES, SECOND, SpaprLab, protected
from vfio_fixture import PAGE, errno_of

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_spapr as spapr
from pyvfio.abi import vfio_type1 as t1
from pyvfio.errors import NotModelled
from pyvfio.ioda.tce import BypassEntry
from pyvfio.process import AnonymousMemory, ProcessMemory
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.pcie.upstream import Source
from pyvfio_backends.software.linux.spapr_tce import SpaprTce
from pyvfio_backends.software.linux.tce_table import IommuTable, MemoryTable
from pyvfio_backends.software.linux.uaccess import AddressArgument
from pyvfio_backends.software.linux.vfio_container import ContainerFile

MIB = 1 << 20
NOTHING = 0
"""``PROT_NONE``."""
V1, V2 = abi.VFIO_SPAPR_TCE_IOMMU, abi.VFIO_SPAPR_TCE_v2_IOMMU


@pytest.fixture
def lab() -> Iterator[SpaprLab]:
    lab = SpaprLab()
    with lab.host:
        yield lab


def ready(lab: SpaprLab, version: int, memory: AnonymousMemory) -> int:
    return lab.ready_v1() if version == V1 else lab.ready_v2(memory.address, memory.length)


def driver(lab: SpaprLab, fd: int) -> SpaprTce:
    file = lab.kernel.fds.get(fd)
    assert isinstance(file, ContainerFile)
    assert isinstance(file.driver, SpaprTce)
    return file.driver


# DMA


@pytest.mark.parametrize("version", [V1, V2])
def test_a_device_reaches_what_is_mapped(lab: SpaprLab, version: int, dma_memory: AnonymousMemory) -> None:
    fd = ready(lab, version, dma_memory)
    function = lab.functions["p0"]
    dma_memory.view[:4] = b"here"
    lab.map_raw(fd, 0x10000, 2 * PAGE, dma_memory.address)
    assert function.dma_read(0x10000, 4) == b"here"
    function.dma_write(0x10000 + PAGE - 2, b"over")  # two pages
    assert bytes(dma_memory.view[PAGE - 2 : PAGE + 2]) == b"over"


@pytest.mark.parametrize("version", [V1, V2])
def test_mapping_again_replaces(lab: SpaprLab, version: int, dma_memory: AnonymousMemory) -> None:
    fd = ready(lab, version, dma_memory)
    dma_memory.view[0], dma_memory.view[PAGE] = 1, 2
    lab.map_raw(fd, 0, PAGE, dma_memory.address)
    assert lab.functions["p0"].dma_read(0, 1) == b"\x01"  # the bridge keeps what it read
    lab.map_raw(fd, 0, PAGE, dma_memory.address + PAGE)
    assert lab.functions["p0"].dma_read(0, 1) == b"\x02"


@pytest.mark.parametrize("version", [V1, V2])
def test_an_unmapped_page_freezes(lab: SpaprLab, version: int, dma_memory: AnonymousMemory) -> None:
    fd = ready(lab, version, dma_memory)
    function = lab.functions["p0"]
    lab.map_raw(fd, 0, PAGE, dma_memory.address)
    function.dma_read(0, 1)
    lab.unmap(fd, 0, PAGE)
    with pytest.raises(DmaFault):
        function.dma_read(0, 1)
    assert lab.phb.endpoints[PES["p0"]].state
    assert not lab.phb.endpoints[PES["p1"]].state


def test_the_device_may_not_write_what_it_only_reads(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    fd = lab.ready_v1()
    lab.map_raw(fd, 0, PAGE, dma_memory.address, t1.VFIO_DMA_MAP_FLAG_READ)
    lab.functions["p0"].dma_read(0, 1)
    with suppress(DmaFault):
        lab.functions["p0"].dma_write(0, b"x")
    assert dma_memory.view[0] == 0
    assert lab.phb.endpoints[PES["p0"]].state


def test_what_may_be_written_may_be_read(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    """``pnv_tce_xchg`` adds TCE_PCI_READ to TCE_PCI_WRITE."""
    fd = lab.ready_v1()
    lab.map_raw(fd, 0, PAGE, dma_memory.address, t1.VFIO_DMA_MAP_FLAG_WRITE)
    lab.functions["p0"].dma_read(0, 1)


def test_the_second_window(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    fd = lab.ready_v2(dma_memory.address, dma_memory.length)
    assert lab.create(fd, 12, 1 << 36, 3) == SECOND
    lab.map_raw(fd, SECOND + (1 << 35), PAGE, dma_memory.address + PAGE)
    dma_memory.view[PAGE] = 7
    assert lab.functions["p0"].dma_read(SECOND + (1 << 35), 1) == b"\x07"
    lab.remove(fd, SECOND + 0x12345)  # any address in it
    with pytest.raises(DmaFault):
        lab.functions["p0"].dma_read(SECOND + (1 << 35), 1)


def test_registered_memory_stays_although_the_program_unmaps_it(lab: SpaprLab) -> None:
    memory = AnonymousMemory(MIB)
    fd = lab.ready_v2(memory.address, MIB)
    lab.map_raw(fd, 0, PAGE, memory.address)
    memory.view[0] = 5
    memory.close()
    assert lab.functions["p0"].dma_read(0, 1) == b"\x05"


def test_the_kernel_has_its_windows_back(lab: SpaprLab) -> None:
    """pnv_ioda2_take_ownership and _release_ownership: window 1 is all of memory while no program has the group."""
    entries, first = lab.phb.inbound.entries, 2 * PES["p0"]
    assert entries[first] is not None
    assert entries[first + 1] == BypassEntry(0, MEMORY_SIZE)
    container, group = lab.ready("p0", V1)
    assert entries[first : first + 2] == [None, None]
    lab.host.close(container)
    lab.host.close(group)
    assert entries[first] is not None
    assert isinstance(entries[first + 1], BypassEntry)


# locked memory


def test_everything_is_given_back(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    blocks = len(lab.kernel.memory._blocks)
    for version in (V1, V2):
        container, group = lab.ready("p0", version)
        if version == V1:
            lab.enable(container)
        else:
            lab.register(container, dma_memory.address, dma_memory.length)
            lab.create(container, 12, 1 << 30, 2)
        lab.map_raw(container, 0, 4 * PAGE, dma_memory.address)
        assert lab.locked
        lab.host.close(container)
        lab.host.close(group)
        assert not lab.locked
        assert not lab.core.real_memory._runs
        assert len(lab.kernel.memory._blocks) == blocks


def test_enable_counts_the_whole_window(dma_memory: AnonymousMemory) -> None:
    lab = SpaprLab(memlock=M32_BUS + 2 * (4 << 20) - 1)
    with lab.host:
        fd = lab.ready_v1()
        assert lab.locked == M32_BUS >> 10
        assert errno_of(lab.map_raw, fd, 0, PAGE, dma_memory.address) == errno.ENOMEM  # the table: 8 MiB
        lab.host.ioctl(fd, t1.VFIO_IOMMU_DISABLE, 0)
        assert not lab.locked
    lab = SpaprLab(memlock=MIB)
    with lab.host:
        assert errno_of(lab.ready_v1) == errno.ENOMEM
        assert not lab.locked


def test_registering_over_the_limit(dma_memory: AnonymousMemory) -> None:
    lab = SpaprLab(memlock=dma_memory.length - 1)
    with lab.host:
        fd = lab.ready("p0", V2)[0]
        assert errno_of(lab.register, fd, dma_memory.address, dma_memory.length) == errno.ENOMEM
        assert errno_of(lab.map_raw, fd, 0, PAGE, dma_memory.address) == errno.EPERM
        assert not lab.locked


def test_no_pages_cannot_be_registered(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    """``vzalloc(0)`` gives nothing."""
    fd = lab.ready("p0", V2)[0]
    assert errno_of(lab.register, fd, dma_memory.address, 0) == errno.ENOMEM


def test_a_region_that_ends_too_early(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    """``mm_iommu_do_alloc`` hands the number of pages on that ``pin_user_pages`` could get."""
    fd = lab.ready("p0", V2)[0]
    with protected(dma_memory.address + 2 * PAGE, NOTHING):
        assert lab.register(fd, dma_memory.address, 4 * PAGE) == 2
        assert errno_of(lab.register, fd, dma_memory.address + 2 * PAGE, PAGE) == errno.EFAULT
    assert not lab.locked
    assert errno_of(lab.map_raw, fd, 0, PAGE, dma_memory.address) == errno.EPERM  # nothing is registered


def test_a_region_let_go_while_mapped_stays(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    """UNREGISTER looks the region up, so its own use is never the last: 0, and the pages stay locked for good."""
    container, group = lab.ready("p0", V2)
    lab.register(container, dma_memory.address, dma_memory.length)
    lab.map_raw(container, 0, PAGE, dma_memory.address)
    assert lab.unregister(container, dma_memory.address, dma_memory.length) == 0
    assert errno_of(lab.unregister, container, dma_memory.address, dma_memory.length) == errno.ENOENT
    lab.host.close(container)
    lab.host.close(group)
    assert lab.locked == dma_memory.length >> 10


def test_no_pages_stay_pinned_behind_the_machine(dma_memory: AnonymousMemory) -> None:
    """Those that Linux forgets go with it."""
    lab = SpaprLab()
    with lab.host:
        container = lab.ready_v2(dma_memory.address, dma_memory.length)
        lab.map_raw(container, 0, PAGE, dma_memory.address)
        lab.unregister(container, dma_memory.address, dma_memory.length)
        lab.unmap(container, 0, PAGE)
        pins = [run.pin for run in lab.core.real_memory._runs.values()]
    assert [pin.aliased for pin in pins] == [False]
    assert not lab.core.real_memory._runs


def test_two_containers_of_a_process_share_a_region(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    at, size = dma_memory.address, dma_memory.length
    first, second = lab.ready_v2(at, size, "p0"), lab.ready_v2(at, size, "p1")
    assert lab.locked == size >> 10
    lab.unregister(first, at, size)
    assert lab.locked == size >> 10
    lab.unregister(second, at, size)
    assert not lab.locked


# mistakes of programs


def test_only_what_may_be_written_can_be_mapped(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    """``tce_iommu_use_page`` takes the access from the program's address, whose low bits are 0."""
    fd = lab.ready_v1()
    with protected(dma_memory.address, mmap.PROT_READ):
        assert errno_of(lab.map_raw, fd, 0, PAGE, dma_memory.address, t1.VFIO_DMA_MAP_FLAG_READ) == errno.EFAULT


def test_pages_before_a_bad_one_are_unmapped(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    fd = lab.ready_v1()
    lab.map_raw(fd, 0, 4 * PAGE, dma_memory.address)
    with protected(dma_memory.address + PAGE, NOTHING):
        assert errno_of(lab.map_raw, fd, 0, 2 * PAGE, dma_memory.address) == errno.EFAULT
    assert lab.functions["p0"].dma_read(PAGE, 1) == b"\0"  # as it was
    with pytest.raises(DmaFault):
        lab.functions["p0"].dma_read(0, 1)


def test_a_mapping_that_fails_leaves_nothing_of_what_was_there(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    fd = lab.ready_v2(dma_memory.address, PAGE)
    lab.register(fd, dma_memory.address + PAGE, PAGE)
    lab.map_raw(fd, 0, PAGE, dma_memory.address + PAGE)
    assert errno_of(lab.map_raw, fd, 0, 3 * PAGE, dma_memory.address) == errno.EINVAL  # the third is not registered
    with pytest.raises(DmaFault):
        lab.functions["p0"].dma_read(0, 1)


@pytest.mark.parametrize("call", ["map", "unmap"])
def test_a_bus_address_within_a_page(lab: SpaprLab, call: str, dma_memory: AnonymousMemory) -> None:
    """iommu_tce_put_param_check and iommu_tce_clear_param_check answer ``-EINVAL || ...``: 1."""
    fd = lab.ready_v1()
    if call == "map":
        assert lab.map_raw(fd, 0x800, PAGE, dma_memory.address) == 1
    else:
        request = t1.IommuType1DmaUnmap.sized(iova=0x800, size=PAGE)
        assert lab.host.ioctl(fd, t1.VFIO_IOMMU_UNMAP_DMA, request) == 1
    assert not lab.core.real_memory._runs


def test_beyond_the_end_of_the_table(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    fd = lab.ready_v1()
    with pytest.raises(NotModelled):
        lab.map_raw(fd, M32_BUS - PAGE, 2 * PAGE, dma_memory.address)


def test_windows_that_cannot_be(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    """With the second window free, the arguments are looked at (tce_iommu_create_window)."""
    fd = lab.ready_v2(dma_memory.address, dma_memory.length)
    for arguments in ((13, 1 << 30), (70, 1 << 30), (12, 3 << 30), (12, 0), (12, 1 << 30, 0), (12, 1 << 30, 6)):
        assert errno_of(lab.create, fd, *arguments) == errno.EINVAL
    before = lab.locked
    assert errno_of(lab.create, fd, 12, 1 << 36) == errno.ENOMEM  # one level of 128 MiB
    assert lab.locked - before == 256 << 10  # what Linux forgets to count back
    assert lab.create(fd, 12, 1 << 36, 2) == SECOND


def test_a_small_window_has_a_page_of_entries(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    """pnv_pci_ioda2_table_alloc_pages: ``it_size`` is that of the table, at least a page."""
    fd = lab.ready_v2(dma_memory.address, dma_memory.length)
    lab.create(fd, 12, PAGE)
    assert lab.map_raw(fd, SECOND + 511 * PAGE, PAGE, dma_memory.address) == 0
    assert errno_of(lab.map_raw, fd, SECOND + 512 * PAGE, PAGE, dma_memory.address) == errno.ENXIO


def test_a_window_a_little_smaller_than_a_page(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    """The same: ``entries_shift`` is below 0, which rounding up to levels, or the size of an entry, makes good."""
    fd = lab.ready_v2(dma_memory.address, dma_memory.length)
    for size, levels in ((0x800, 1), (0x200, 1), (0x800, 2), (0x400, 3)):
        assert lab.create(fd, 12, size, levels) == SECOND
        assert lab.map_raw(fd, SECOND + 511 * PAGE, PAGE, dma_memory.address) == 0
        lab.remove(fd, SECOND)
    for size, levels in ((0x100, 1), (0x400, 2), (0, 1)):
        assert errno_of(lab.create, fd, 12, size, levels) == errno.EINVAL


def test_no_memory_for_a_lower_level(
    lab: SpaprLab, dma_memory: AnonymousMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``pnv_tce_xchg``: levels below the first come with the first entry in them; what was mapped before is cleared."""
    fd = lab.ready_v2(dma_memory.address, dma_memory.length)
    lab.create(fd, 12, 1 << 30, 2)
    below = SECOND + 512 * PAGE  # the first page behind the first table below
    lab.map_raw(fd, below - PAGE, PAGE, dma_memory.address)

    def none(size: int) -> int:
        raise MemoryError

    table = driver(lab, fd).windows.tables[1]
    assert isinstance(table, MemoryTable)
    monkeypatch.setattr(table.tces, "_allocate", none)
    assert errno_of(lab.map_raw, fd, below - PAGE, 2 * PAGE, dma_memory.address) == errno.ENOMEM
    assert not table.users
    lab.remove(fd, SECOND)
    lab.unregister(fd, dma_memory.address, dma_memory.length)
    assert lab.locked == 2 * (M32_BUS >> 9) >> 10  # the table of the default window alone


def test_a_large_window_goes_at_once(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    """The bridge forgets what it read of it; a program does not wait for 2**30 entries."""
    fd = lab.ready_v2(dma_memory.address, dma_memory.length)
    lab.create(fd, 12, 1 << 42, 4)
    lab.map_raw(fd, SECOND, PAGE, dma_memory.address)
    lab.functions["p0"].dma_read(SECOND, 1)
    lab.remove(fd, SECOND)
    lab.create(fd, 12, 1 << 42, 4)
    with pytest.raises(DmaFault):
        lab.functions["p0"].dma_read(SECOND, 1)


def test_large_pages_of_the_iommu_need_large_pages(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    fd = lab.ready_v2(dma_memory.address, dma_memory.length)
    lab.create(fd, 16, 1 << 30)
    inside = -(-dma_memory.address // 0x10000) * 0x10000
    assert errno_of(lab.map_raw, fd, SECOND, 0x10000, inside) == errno.EINVAL


def test_the_default_window_can_be_declined(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    fd = lab.ready_v2(dma_memory.address, dma_memory.length)
    assert lab.remove(fd, 0) == 0
    assert errno_of(lab.map_raw, fd, 0, PAGE, dma_memory.address) == errno.ENXIO
    assert lab.create(fd, 16, 1 << 30) == 0


# groups


def test_version_1_has_one_group(lab: SpaprLab) -> None:
    container, first = lab.ready("p0", V1)
    group = lab.group("p1")
    assert errno_of(lab.set_container, group, container) == errno.EBUSY
    assert isinstance(lab.phb.inbound.entries[2 * PES["p1"] + 1], BypassEntry)  # the kernel's again
    lab.host.close(first)


def test_version_2_shares_windows(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    fd = lab.ready_v2(dma_memory.address, dma_memory.length)
    lab.map_raw(fd, 0, PAGE, dma_memory.address)
    dma_memory.view[0] = 9
    group = lab.group("p1")
    lab.set_container(group, fd)
    assert [one.dma_read(0, 1) for one in lab.functions.values()] == [b"\x09"] * 2
    lab.unmap(fd, 0, PAGE)
    for function in lab.functions.values():
        with pytest.raises(DmaFault):
            function.dma_read(0, 1)


def test_a_group_that_goes_takes_all_mappings_along(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    """tce_iommu_release_ownership clears the tables, whoever else has them."""
    fd = lab.ready_v2(dma_memory.address, dma_memory.length)
    group = lab.group("p1")
    lab.set_container(group, fd)
    lab.map_raw(fd, 0, PAGE, dma_memory.address)
    lab.host.ioctl(group, abi.VFIO_GROUP_UNSET_CONTAINER, 0)
    with pytest.raises(DmaFault):
        lab.functions["p0"].dma_read(0, 1)
    assert lab.map_raw(fd, 0, PAGE, dma_memory.address) == 0  # the window is still there


def test_mediated_devices_and_groups_without_tables(lab: SpaprLab) -> None:
    container, group = lab.container(), lab.group("m0")
    lab.set_container(group, container)
    assert errno_of(lab.host.ioctl, container, abi.VFIO_SET_IOMMU, V2) == errno.EINVAL
    iommu_group = lab.fake("p0").device.iommu_group
    assert iommu_group is not None
    iommu_group.table_group = None
    container, group = lab.container(), lab.group("p0")
    lab.set_container(group, container)
    assert errno_of(lab.host.ioctl, container, abi.VFIO_SET_IOMMU, V2) == errno.ENODEV


def test_groups_that_cannot_make_windows(lab: SpaprLab) -> None:
    lab.groups["p0"].max_windows = 0
    container, group = lab.container(), lab.group("p0")
    lab.set_container(group, container)
    assert errno_of(lab.host.ioctl, container, abi.VFIO_SET_IOMMU, V2) == errno.EINVAL
    assert lab.host.ioctl(container, abi.VFIO_SET_IOMMU, V1) == 0


def test_another_process(lab: SpaprLab) -> None:
    fd = lab.ready_v1()
    container = driver(lab, fd)
    with child() as pid:
        argument = AddressArgument(ProcessMemory(pid), 0)
        assert errno_of(container.ioctl, t1.VFIO_IOMMU_DISABLE, argument) == errno.EPERM
    assert container.check_extension(V2) == 1
    assert container.enabled


@contextmanager
def child() -> Iterator[int]:
    """A process that waits."""
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as process:
        yield process.pid


# EEH


def test_eeh_goes_to_each_group_until_one_answers(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    fd = lab.ready_v2(dma_memory.address, dma_memory.length)
    lab.set_container(lab.group("p1"), fd)
    op = spapr.EehPeOp.sized(op=spapr.VFIO_EEH_PE_GET_STATE)
    assert lab.host.ioctl(fd, spapr.VFIO_EEH_PE_OP, op) == 0
    assert lab.eeh.asked == [lab.number("p1"), lab.number("p0")]
    lab.eeh.answer = spapr.VFIO_EEH_PE_STATE_STOPPED
    assert lab.host.ioctl(fd, spapr.VFIO_EEH_PE_OP, op) == spapr.VFIO_EEH_PE_STATE_STOPPED
    assert lab.eeh.asked[2:] == [lab.number("p1")]


def test_without_eeh(lab: SpaprLab) -> None:
    lab.core.eeh = None
    fd = lab.ready_v1()
    assert lab.host.ioctl(fd, abi.VFIO_CHECK_EXTENSION, abi.VFIO_EEH) == 0
    assert errno_of(lab.host.ioctl, fd, spapr.VFIO_EEH_PE_OP, spapr.EehPeOp.sized()) == errno.ENODEV


def test_eeh_is_no_iommu(lab: SpaprLab) -> None:
    """The driver has the extension VFIO_EEH, but refuses to be opened by it (tce_iommu_open)."""
    container, group = lab.container(), lab.group("p0")
    lab.set_container(group, container)
    assert errno_of(lab.host.ioctl, container, abi.VFIO_SET_IOMMU, abi.VFIO_EEH) == errno.EINVAL


# a kernel with large pages


@pytest.mark.parametrize("version", [V1, V2])
def test_a_kernel_with_pages_of_64_kib(version: int) -> None:
    """The IOMMU's pages stay 4 KiB in the default window: several entries show one page of the kernel."""
    large = 0x10000
    lab = SpaprLab(page_size=large)
    with lab.host, AnonymousMemory(4 * large) as memory:
        start = -(-memory.address // large) * large
        fd = lab.ready_v1() if version == V1 else lab.ready_v2(start, 2 * large)
        begin = start - memory.address
        memory.view[begin + 5 * PAGE], memory.view[begin + large] = 5, 16
        assert lab.map_raw(fd, 0, 16 * PAGE, start + PAGE) == 0
        assert lab.functions["p0"].dma_read(4 * PAGE, 1) == b"\x05"
        assert lab.functions["p0"].dma_read(15 * PAGE, 1) == b"\x10"
        lab.unmap(fd, 0, 8 * PAGE)
        assert lab.functions["p0"].dma_read(15 * PAGE, 1) == b"\x10"
        lab.unmap(fd, 8 * PAGE, 8 * PAGE)
        if version == V1:
            assert not lab.core.real_memory._runs
        else:
            assert lab.unregister(fd, start, 2 * large) == 0
            assert lab.locked == 8 << 10  # the tables'
            assert lab.create(fd, 16, 1 << 30) == SECOND
            lab.register(fd, start, 2 * large)
            assert lab.map_raw(fd, SECOND, large, start + large) == 0
            assert lab.functions["p0"].dma_read(SECOND, 1) == b"\x10"


# what fails is undone


@pytest.fixture
def refuses(lab: SpaprLab, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The group of ``p1`` takes its first window, and not the second."""
    group = lab.groups["p1"]
    usual = group.set_window

    def set_window(number: int, table: IommuTable) -> None:
        if number:
            raise OSError(errno.EPERM, "OPAL_PARAMETER")
        usual(number, table)

    with monkeypatch.context() as patch:
        patch.setattr(group, "set_window", set_window)
        yield


def test_a_window_that_one_group_does_not_take_is_none(
    lab: SpaprLab, dma_memory: AnonymousMemory, refuses: None
) -> None:
    """``tce_iommu_create_window``, ``unset_exit``: nobody has it then, and its tables are not counted."""
    fd = lab.ready_v2(dma_memory.address, dma_memory.length)
    lab.map_raw(fd, 0, PAGE, dma_memory.address)
    lab.set_container(lab.group("p1"), fd)
    before, blocks = lab.locked, len(lab.kernel.memory._blocks)
    assert errno_of(lab.create, fd, 12, 1 << 30) == errno.EPERM
    assert lab.phb.inbound.entries[2 * PES["p0"] + 1] is None
    assert lab.locked == before
    assert len(lab.kernel.memory._blocks) == blocks
    assert errno_of(lab.map_raw, fd, SECOND, PAGE, dma_memory.address) == errno.ENXIO
    lab.functions["p0"].dma_read(0, 1)  # the first is as it was


def test_a_group_that_does_not_take_all_windows_takes_none(
    lab: SpaprLab, dma_memory: AnonymousMemory, refuses: None
) -> None:
    """``tce_iommu_take_ownership``, ``release_exit``; the kernel has it again."""
    fd = lab.ready_v2(dma_memory.address, dma_memory.length)
    lab.map_raw(fd, 0, PAGE, dma_memory.address)
    lab.create(fd, 12, 1 << 30)
    entries, first = lab.phb.inbound.entries, 2 * PES["p1"]
    group = lab.group("p1")
    assert errno_of(lab.set_container, group, fd) == errno.EPERM
    assert entries[first] not in (None, entries[2 * PES["p0"]])
    assert entries[first + 1] == BypassEntry(0, MEMORY_SIZE)
    lab.functions["p0"].dma_read(0, 1)


def test_pages_that_follow_each_other_by_chance(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    """Two mappings beside each other are two runs of memory: a transfer goes over both."""
    fd = lab.ready_v1()
    dma_memory.view[PAGE - 2 : PAGE + 2] = b"both"
    lab.map_raw(fd, 0, PAGE, dma_memory.address)
    lab.map_raw(fd, PAGE, PAGE, dma_memory.address + PAGE)
    assert lab.phb.inbound.read(Source(0, lab.functions["p0"].rid), PAGE - 2, 4) == b"both"
