"""Logs by an IOMMU that notes writes, which no lab has: the requests of ``include/uapi/linux/iommufd.h``."""

from __future__ import annotations

import ctypes
import errno

import pytest
from client_fake import PAGE, FakeHost

import pyvfio
from pyvfio.abi import iommufd as abi
from pyvfio.errors import KernelRefused, NotAvailable
from pyvfio.iommu import AddressSpace
from pyvfio.iommu.iommufd import IoasTable

DEVICE, IOAS, BASE = 7, 3, 1 << 20


class Notes:
    """iommufd with an IOMMU that notes writes: what it was asked, and what is dirty in each page table."""

    def __init__(self) -> None:
        self.fake = FakeHost()
        self.fake.files["/dev/iommu"] = ""
        self.asked: list[tuple[object, ...]] = []
        self.dirty: dict[int, set[int]] = {}
        self.refuse = 0
        self.fake.answers |= {
            abi.IOMMU_IOAS_ALLOC: self.answer(abi.IoasAlloc, lambda one: setattr(one, "out_ioas_id", IOAS)),
            abi.IOMMU_IOAS_IOVA_RANGES: self.answer(abi.IoasIovaRanges, self.ranges),
            abi.IOMMU_IOAS_MAP: self.answer(abi.IoasMap, lambda one: None),
            abi.IOMMU_IOAS_UNMAP: self.answer(abi.IoasUnmap, lambda one: None),
            abi.IOMMU_DESTROY: self.answer(abi.Destroy, lambda one: self.asked.append(("destroy", one.id))),
            abi.IOMMU_HWPT_ALLOC: self.answer(abi.HwptAlloc, self.alloc),
            abi.IOMMU_HWPT_SET_DIRTY_TRACKING: self.answer(abi.HwptSetDirtyTracking, self.track),
            abi.IOMMU_HWPT_GET_DIRTY_BITMAP: self.answer(abi.HwptGetDirtyBitmap, self.report),
        }

    def answer(self, cls: type, act: object) -> object:
        def call(buffer: bytearray) -> int:
            one = cls.from_buffer(buffer)
            assert one.size == ctypes.sizeof(cls)
            act(one)  # type: ignore[operator]
            return 0

        return call

    def ranges(self, one: abi.IoasIovaRanges) -> None:
        entry = abi.IovaRange.from_address(one.allowed_iovas)
        entry.start, entry.last = 0, (1 << 40) - 1
        one.num_iovas, one.out_iova_alignment = 1, PAGE

    def alloc(self, one: abi.HwptAlloc) -> None:
        if self.refuse:
            raise OSError(self.refuse, "refused")
        assert (one.flags, one.pt_id) == (abi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING, IOAS)
        one.out_hwpt_id = 10 + one.dev_id
        self.asked.append(("alloc", one.dev_id))
        self.dirty[one.out_hwpt_id] = set()

    def track(self, one: abi.HwptSetDirtyTracking) -> None:
        self.asked.append(("track", one.hwpt_id, one.flags))

    def report(self, one: abi.HwptGetDirtyBitmap) -> None:
        for page in self.dirty[one.hwpt_id]:
            word = ctypes.c_uint64.from_address(one.data + page // 64 * 8)
            word.value |= 1 << page % 64
        self.dirty[one.hwpt_id].clear()
        self.asked.append(("report", one.hwpt_id, one.iova, one.length, one.page_size))

    def space(self) -> tuple[AddressSpace, IoasTable]:
        space = pyvfio.Iommufd(pyvfio.Host(self.fake)).allocate()
        assert isinstance(space.table, IoasTable)
        return space, space.table


@pytest.mark.parametrize(("number", "error"), [(errno.EOPNOTSUPP, NotAvailable), (errno.EINVAL, KernelRefused)])
def test_a_page_table_that_is_refused(number: int, error: type[pyvfio.PyvfioError]) -> None:
    notes = Notes()
    notes.refuse = number
    _, table = notes.space()
    with pytest.raises(error) as caught:
        table.page_table(DEVICE)
    assert caught.value.errno == number


def test_without_a_page_table_that_notes() -> None:
    space, _ = Notes().space()
    with pytest.raises(NotAvailable, match="dirty_tracking=True"):
        space.dirty_log()


def test_all_page_tables_are_asked_and_joined() -> None:
    notes = Notes()
    space, table = notes.space()
    first, second = table.page_table(DEVICE), table.page_table(DEVICE + 1)
    with space.dirty_log() as log:
        assert log.page_size == PAGE
        notes.dirty[first], notes.dirty[second] = {0, 64}, {1}
        bitmap = log.take(BASE, 100 * PAGE)
        assert [str(one) for one in bitmap.ranges()] == ["0x100000-0x101fff", "0x140000-0x140fff"]
        assert not log.take(BASE, 100 * PAGE)
    space.close()
    on, length = abi.IOMMU_HWPT_DIRTY_TRACKING_ENABLE, 100 * PAGE
    assert notes.asked == [
        ("alloc", DEVICE),
        ("alloc", DEVICE + 1),
        ("track", first, on),
        ("track", second, on),
        *(("report", number, BASE, length, PAGE) for number in (first, second)),
        *(("report", number, BASE, length, PAGE) for number in (first, second)),
        ("track", first, 0),
        ("track", second, 0),
        ("destroy", second),
        ("destroy", first),
        ("destroy", IOAS),
    ]


def test_unmapping_reports_first() -> None:
    notes = Notes()
    space, table = notes.space()
    number = table.page_table(DEVICE)
    space.map(0, 2 * PAGE, BASE)
    with space.dirty_log() as log:
        notes.dirty[number] = {1}
        assert log.unmap(BASE, 2 * PAGE).bytes_dirty == PAGE
    assert space.mappings() == []


def test_a_page_table_that_no_device_came_to_use() -> None:
    """The device was not attached to it: nothing is noted, and nothing is left."""
    notes = Notes()
    space, table = notes.space()
    first, second = table.page_table(DEVICE), table.page_table(DEVICE + 1)
    table.give_up(first)
    with space.dirty_log():
        pass
    table.give_up(second)
    with pytest.raises(NotAvailable, match="dirty_tracking=True"):
        space.dirty_log()
    space.close()
    assert [one for one in notes.asked if one[0] != "alloc"] == [
        ("destroy", first),
        ("track", second, abi.IOMMU_HWPT_DIRTY_TRACKING_ENABLE),
        ("track", second, 0),
        ("destroy", second),
        ("destroy", IOAS),
    ]


def test_a_log_that_one_page_table_refuses_is_on_nowhere() -> None:
    notes = Notes()
    space, table = notes.space()
    first, second = table.page_table(DEVICE), table.page_table(DEVICE + 1)
    track = notes.track

    def refuse(one: abi.HwptSetDirtyTracking) -> None:
        if one.hwpt_id == second and one.flags:
            raise OSError(errno.EIO, "refused")
        track(one)

    notes.fake.answers[abi.IOMMU_HWPT_SET_DIRTY_TRACKING] = notes.answer(abi.HwptSetDirtyTracking, refuse)
    with pytest.raises(KernelRefused, match="EIO"):
        space.dirty_log()
    on = abi.IOMMU_HWPT_DIRTY_TRACKING_ENABLE
    assert notes.asked[-3:] == [("track", first, on), ("track", first, 0), ("track", second, 0)]
