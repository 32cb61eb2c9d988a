"""DMA windows of containers in a guest on POWER: ``arch/powerpc/platforms/pseries/iommu.c`` of Linux 6.12.

Each test names the function there; what the hypervisor answers is in ``test_hypervisor_calls.py``.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import struct
from collections.abc import Iterator

import pytest
from pci_fixture import errno_of
from pseries_fixture import E1000E, EDU, NVME, TESTDEV, Pseries

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_spapr as spapr
from pyvfio.abi import vfio_type1 as t1
from pyvfio.process import AnonymousMemory
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.pcie.upstream import Source
from pyvfio_backends.software.linux.pseries_table_group import HypervisorTable
from pyvfio_backends.software.linux.tce_table import IommuTable

PAGE = mmap.PAGESIZE
GIB, SECOND = 1 << 30, 1 << 59
ALL_SIZES = 1 << 12 | 1 << 16 | 1 << 21 | 1 << 24


class User:
    """A container with the group of a domain, and some of its memory."""

    def __init__(self, lab: Pseries, kind: int, *domains: int) -> None:
        self.lab = lab
        self.container = lab.host.open("/dev/vfio/vfio", os.O_RDWR)
        self.groups = [self.group(domain) for domain in domains]
        self.ask(abi.VFIO_SET_IOMMU, kind)

    def group(self, domain: int) -> int:
        group = self.lab.host.open(f"/dev/vfio/{domain}", os.O_RDWR)
        self.lab.host.ioctl(group, abi.VFIO_GROUP_SET_CONTAINER, struct.pack("=i", self.container))
        return group

    def ask(self, request: int, argument: object = 0) -> int:
        return self.lab.host.ioctl(self.container, request, argument)

    def close(self) -> None:
        for one in (*self.groups, self.container):
            self.lab.host.close(one)

    def register(self, memory: AnonymousMemory, size: int) -> int:
        wanted = spapr.IommuSpaprRegisterMemory.sized(vaddr=memory.address, size=size)
        return self.ask(spapr.VFIO_IOMMU_SPAPR_REGISTER_MEMORY, wanted)

    def map(self, iova: int, vaddr: int, size: int = PAGE, flags: int = 3) -> int:
        wanted = t1.IommuType1DmaMap.sized(flags=flags, vaddr=vaddr, iova=iova, size=size)
        return self.ask(t1.VFIO_IOMMU_MAP_DMA, wanted)

    def unmap(self, iova: int, size: int = PAGE) -> int:
        return self.ask(t1.VFIO_IOMMU_UNMAP_DMA, t1.IommuType1DmaUnmap.sized(iova=iova, size=size))

    def create(self, page_shift: int, size: int, levels: int = 1) -> int:
        wanted = spapr.IommuSpaprTceCreate.sized(page_shift=page_shift, window_size=size, levels=levels)
        self.ask(spapr.VFIO_IOMMU_SPAPR_TCE_CREATE, wanted)
        return int(wanted.start_addr)

    def act(self, dice: random.Random, vaddr: int) -> int:
        """Do something."""
        start = dice.choice([0, SECOND])
        place, pages = start + dice.randrange(64) * PAGE, dice.randrange(1, 8)
        match dice.choice(["map", "unmap", "create", "remove"]):
            case "map":
                return self.map(place, vaddr + dice.randrange(4) * PAGE)
            case "unmap":
                return self.unmap(place, pages * PAGE)
            case "create":
                return self.create(dice.choice([12, 12, 16, 21]), 1 << dice.randrange(22, 40))
        return self.remove(start)

    def remove(self, start: int) -> int:
        return self.ask(spapr.VFIO_IOMMU_SPAPR_TCE_REMOVE, spapr.IommuSpaprTceRemove.sized(start_addr=start))


@pytest.fixture
def lab() -> Iterator[Pseries]:
    lab = Pseries()
    for name in (E1000E, EDU, NVME, TESTDEV):
        lab.take(name)
    with lab.host:
        yield lab


@pytest.fixture
def memory() -> Iterator[AnonymousMemory]:
    with AnonymousMemory(4 * PAGE) as memory:
        yield memory


@pytest.fixture
def user(lab: Pseries, memory: AnonymousMemory) -> User:
    user = User(lab, abi.VFIO_SPAPR_TCE_v2_IOMMU, 1)
    user.register(memory, 4 * PAGE)
    return user


def windows(lab: Pseries, domain: int = 1) -> list[tuple[int, int, int]]:
    """Those that the hypervisor has: where they begin, log2 of their pages, and bytes."""
    return [(one.start, one.page_shift, one.pages << one.page_shift) for one in lab.phb(domain).dma.active]


DEFAULT = (0, 12, GIB)


@pytest.mark.parametrize("kind", [abi.VFIO_SPAPR_TCE_IOMMU, abi.VFIO_SPAPR_TCE_v2_IOMMU])
def test_what_is_told_of_windows(lab: Pseries, kind: int) -> None:
    """``spapr_tce_init_table_group``, with the recorded answers of the query."""
    user = User(lab, kind, 1)
    info = spapr.IommuSpaprTceInfo.sized()
    user.ask(spapr.VFIO_IOMMU_SPAPR_TCE_GET_INFO, info)
    assert (info.dma32_window_start, info.dma32_window_size) == (0, GIB)
    found = (info.flags, info.ddw.pgsizes, info.ddw.max_dynamic_windows_supported, info.ddw.levels)
    assert found == ((1, ALL_SIZES, 2, 1) if kind == abi.VFIO_SPAPR_TCE_v2_IOMMU else (0, 0, 0, 0))


def test_version_1_locks_the_whole_window() -> None:
    """As in the lab: VmLck +1 GiB."""
    lab = Pseries()
    lab.take(TESTDEV)
    user = User(lab, abi.VFIO_SPAPR_TCE_IOMMU, 2)
    before = lab.kernel.locked_pages(os.getpid())[0]
    user.ask(t1.VFIO_IOMMU_ENABLE)
    assert (lab.kernel.locked_pages(os.getpid())[0] - before) * lab.kernel.page_size == GIB


def test_dma_through_the_default_window(lab: Pseries, user: User, memory: AnonymousMemory) -> None:
    """All functions of a bridge see it; what is not mapped, they do not reach."""
    edu, nvme = lab.hardware(EDU), Source(1, lab.hardware(NVME).rid)
    edu.config.write(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_MASTER)
    assert user.map(0x10000, memory.address) == 0
    edu.dma_write(0x10000, b"guest")
    assert lab.phb(1).dma.read(nvme, 0x10000, 5) == b"guest"
    assert windows(lab) == [DEFAULT]
    assert user.unmap(0x10000) == 0
    with pytest.raises(DmaFault):
        edu.dma_read(0x10000, 5)
    assert errno_of(user.map, GIB, memory.address) == "ENXIO"


def test_what_may_only_be_written_may_not_be_read(lab: Pseries, user: User, memory: AnonymousMemory) -> None:
    """``iommu_direction_to_tce_perm``; bare metal adds reading."""
    edu = lab.hardware(EDU)
    edu.config.write(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_MASTER)
    user.map(0, memory.address, flags=t1.VFIO_DMA_MAP_FLAG_WRITE)
    edu.dma_write(0, b"in")
    with pytest.raises(DmaFault):
        edu.dma_read(0, 2)


def test_a_dynamic_window(lab: Pseries, user: User, memory: AnonymousMemory) -> None:
    """``spapr_tce_create_table``, ``spapr_tce_unset_window``: it is the hypervisor's second one."""
    assert user.create(16, 1 << 40) == SECOND
    assert windows(lab) == [DEFAULT, (SECOND, 16, 1 << 40)]
    assert errno_of(user.create, 12, GIB) == "ENOSPC"
    assert errno_of(user.map, SECOND, memory.address, PAGE) == "EINVAL"  # not a page of this window
    assert user.remove(SECOND) == 0
    assert windows(lab) == [DEFAULT]
    assert user.create(12, GIB * 4) == SECOND


def test_dma_through_a_dynamic_window(lab: Pseries, user: User, memory: AnonymousMemory) -> None:
    start = user.create(12, 1 << 35)
    edu = lab.hardware(EDU)
    edu.config.write(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_MASTER)
    user.map(start + (1 << 34), memory.address + PAGE)
    edu.dma_write(start + (1 << 34) + 3, b"far away")
    assert edu.dma_read(start + (1 << 34) + 3, 8) == b"far away"
    user.close()
    with pytest.raises(DmaFault):
        edu.dma_read(start + (1 << 34) + 3, 8)
    assert windows(lab) == [DEFAULT]


@pytest.mark.parametrize(
    ("page_shift", "size", "levels", "errno"),
    [
        (12, 3 << 30, 1, "EINVAL"),  # no power of two
        (13, GIB, 1, "EINVAL"),  # not offered
        (34, 1 << 40, 1, "EINVAL"),  # 16 GiB: not offered either
        (12, 1 << 50, 1, "EINVAL"),  # more pages than the largest block has
        (12, 0, 1, "EINVAL"),
        (12, GIB, 2, "EINVAL"),  # one level only
        (64, GIB, 1, "EINVAL"),
    ],
)
def test_windows_that_cannot_be(lab: Pseries, user: User, page_shift: int, size: int, levels: int, errno: str) -> None:
    assert errno_of(user.create, page_shift, size, levels) == errno
    assert user.create(12, GIB * 2) == SECOND  # and nothing is lost


def test_who_asks_for_too_small_a_window_gets_none_any_more(lab: Pseries, user: User) -> None:
    """``failed_ddw_pdn_list``: the hypervisor refuses a window below a page, and is not asked again."""
    assert errno_of(user.create, 24, 1 << 22) == "ENODEV"
    assert errno_of(user.create, 12, GIB * 2) == "ENODEV"
    assert lab.tables(1).refused
    user.close()
    other = User(lab, abi.VFIO_SPAPR_TCE_v2_IOMMU, 1)
    assert errno_of(other.create, 12, GIB * 2) == "ENODEV"


def test_the_default_window_only_leaves_the_device_tree(lab: Pseries, user: User) -> None:
    """``remove_dma_window_named``: its property is shorter than a dynamic window's, so the hypervisor is not told."""
    assert user.create(16, 1 << 32) == SECOND
    user.remove(SECOND)
    user.remove(0)
    assert not lab.tables(1).default_told
    assert windows(lab) == [DEFAULT]
    assert user.create(16, 1 << 32) == SECOND  # window 0 of the container is the hypervisor's second one
    assert lab.tables(1).tables[0] is not None
    user.remove(SECOND)
    assert user.create(12, GIB // 2) == 0  # fits the default window: it is that, and smaller
    table = lab.tables(1).tables[0]
    assert table is not None
    assert table.entries << 12 == GIB // 2


def test_the_default_window_does_not_come_back_beside_a_dynamic_one(lab: Pseries, user: User) -> None:
    """``spapr_tce_create_table``: resetting the windows would take that one away."""
    user.create(16, 1 << 32)
    user.remove(0)
    assert errno_of(user.create, 12, GIB) == "EPERM"
    assert errno_of(user.create, 16, GIB) == "EPERM"
    user.remove(SECOND)
    assert user.create(12, GIB) == 0


def test_the_kernel_gets_its_window_back(lab: Pseries, user: User) -> None:
    """``spapr_tce_take_ownership``, ``pseries_setup_default_iommu_config``."""
    tables = lab.tables(1)
    assert (tables.default_told, tables.tables[0]) == (False, None)
    user.create(16, 1 << 32)
    user.close()
    found = tables.tables[0]
    assert found is not None
    assert (tables.default_told, found.start, found.entries, tables.tables[1]) == (True, 0, 1 << 18, None)
    assert windows(lab) == [DEFAULT]


def test_two_bridges_share_no_windows(lab: Pseries, user: User) -> None:
    """``spapr_tce_set_window``: a group takes its own tables only."""
    user.create(16, 1 << 32)
    assert errno_of(user.group, 2) == "EPERM"
    assert windows(lab, 2) == [DEFAULT]


def test_what_a_window_locks(lab: Pseries, user: User) -> None:
    """``spapr_tce_get_table_size``: 8 bytes for each page."""
    locked = lab.kernel.locked_pages
    user.create(16, GIB)
    before = locked(os.getpid())[0]
    user.remove(SECOND)
    assert (before - locked(os.getpid())[0]) * lab.kernel.page_size == 8 * (GIB >> 16)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_a_program_does_with_windows(lab: Pseries, memory: AnonymousMemory, seed: int) -> None:
    """What the hypervisor has mapped is what the container's tables say, and nothing is left of a program that went."""
    dice = random.Random(seed)
    for _ in range(3):
        user = User(lab, abi.VFIO_SPAPR_TCE_v2_IOMMU, 1)
        user.register(memory, 4 * PAGE)
        for _ in range(60):
            with contextlib.suppress(OSError):
                user.act(dice, memory.address)
            tables = lab.tables(1)
            mapped = {
                (one.liobn, entry) for one in tables.tables if isinstance(one, HypervisorTable) for entry in one.users
            }
            assert mapped == {
                (one.liobn, (one.start >> one.page_shift) + page)
                for one in lab.phb(1).dma.active
                for page in one.entries
            }
            assert windows(lab)[0] == DEFAULT
            assert len(windows(lab)) == 1 + (tables.dynamic is not None)
        user.close()
        assert windows(lab) == [DEFAULT]
        assert not lab.phb(1).dma.tables[0].entries
        assert lab.tables(1).default_told


def test_tables_are_compared_by_identity(lab: Pseries) -> None:
    """A table that another group made is refused, and one that is not there is no error to give back."""
    tables = lab.tables(1)
    foreign = lab.tables(2).tables[0]
    assert isinstance(foreign, IommuTable)
    assert errno_of(tables.set_window, 0, foreign) == "EPERM"
    tables.unset_window(1)
    assert tables.tables[1] is None


def test_a_window_of_more_entries_than_the_hypervisor_counts(lab: Pseries, user: User) -> None:
    """As the pseries guest of ``make hil ARCH=ppc64`` answers; QEMU keeps their number in 32 bits."""
    assert errno_of(user.create, 12, 1 << 44) == "ENODEV"
    assert lab.tables(1).refused
