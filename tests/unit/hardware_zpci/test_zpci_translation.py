"""What the machine keeps of translation tables: stale until it is refreshed, never after; and one that keeps few."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zpci_rig import BASE, TABLES, MachineRig

from pyvfio.errors import Misuse
from pyvfio.pci import bell
from pyvfio.zpci.event import ErrorCode
from pyvfio.zpci.fib import Fib
from pyvfio.zpci.function import FunctionState
from pyvfio.zpci.instructions import CONFIG_SPACE, Answer, FunctionOperation, Status
from pyvfio.zpci.table import page_entry, segment_entry
from pyvfio_backends.software.description import FunctionSpec
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.zpci.facility import ZpciFacility
from pyvfio_backends.software.hardware.zpci.models import build_function

INSUFFICIENT = Answer(1, Status.INSUFFICIENT_RESOURCES)


class FewRig(MachineRig):
    """A machine with four translations for each function."""

    def __init__(self) -> None:
        super().__init__()
        self.facility = ZpciFacility(
            FunctionSpec(uid=0x60 + n, fid=0x100 + n, model="virtio-bell", options={"translations": 4})
            for n in range(2)
        )
        self.cpu.functions = self.facility
        self.cpu._logical._functions = self.facility


@pytest.fixture
def on() -> Iterator[MachineRig]:
    rig = MachineRig()
    rig.enable()
    rig.dma_on()
    yield rig
    rig.close()


@pytest.fixture
def few() -> Iterator[FewRig]:
    rig = FewRig()
    rig.enable()
    rig.dma_on()
    yield rig
    rig.close()


def put(rig: MachineRig, page: int, frame: int | None, *, protected: bool = False) -> None:
    entry = page_entry(frame or 0, protected=protected, valid=frame is not None)
    rig.memory.write(TABLES + 0x8000 + page * 8, entry.to_bytes(8, "big"))


def seen(rig: MachineRig, page: int, *, write: bool = False) -> int | None:
    """The frame that the function sees in a page, None for a fault."""
    function = rig.facility.functions[0x100]
    space = function.dma
    assert space is not None
    try:
        return space.translate(BASE + page * 0x1000, write=write)  # type: ignore[attr-defined, no-any-return]
    except DmaFault:
        return None


_PAGES = st.integers(0, 5)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), _PAGES, st.integers(1, 9), st.booleans()),
        st.tuples(st.just("clear"), _PAGES, st.just(0), st.just(False)),
        st.tuples(st.just("use"), _PAGES, st.just(0), st.booleans()),
        st.tuples(st.just("refresh"), _PAGES, st.sampled_from([0, 1, 2, 6, 1 << 30]), st.booleans()),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(_STEPS)
def test_a_function_sees_the_tables_or_what_it_kept_and_after_a_refresh_the_tables(
    steps: list[tuple[str, int, int, bool]],
) -> None:
    """Each use finds what the tables say now, or what they said at some time since the page's last refresh."""
    rig = MachineRig(1)
    rig.enable()
    rig.dma_on()
    since: dict[int, set[tuple[int, bool] | None]] = {page: {None} for page in range(6)}
    now: dict[int, tuple[int, bool] | None] = dict.fromkeys(range(6))
    for what, page, number, flag in steps:
        if what in ("put", "clear"):
            now[page] = (number * 0x1000, flag) if what == "put" else None
            put(rig, page, number * 0x1000 if what == "put" else None, protected=flag)
            since[page].add(now[page])
        elif what == "refresh":
            start = BASE + page * 0x1000 + flag * 0x10
            assert rig.cpu.rpcit(rig.fh, start, number * 0x1000) == Answer()
            for each in range(page, min(6, page + number + (flag and number > 0))):
                since[each] = {now[each]}
        else:
            allowed = {one[0] for one in since[page] if one is not None and not (flag and one[1])}
            blocked = any(one is None or (flag and one[1]) for one in since[page])
            found = seen(rig, page, write=flag)
            assert (found in allowed) if found is not None else blocked
    rig.close()


def test_a_protection_that_came_is_heeded_after_the_refresh_only(on: MachineRig) -> None:
    on.map(0, 0x10000)
    assert seen(on, 0, write=True) == 0x10000
    put(on, 0, 0x10000, protected=True)
    assert seen(on, 0, write=True) == 0x10000
    assert on.cpu.rpcit(on.fh, BASE, 0x1000) == Answer()
    assert seen(on, 0, write=True) is None
    assert seen(on, 0) == 0x10000


def test_a_segment_that_went_is_used_until_it_is_refreshed(on: MachineRig) -> None:
    on.map(0, 0x10000)
    on.map(1, 0x11000)
    assert (seen(on, 0), seen(on, 1)) == (0x10000, 0x11000)
    on.memory.write(TABLES + 0x4000, segment_entry(0, valid=False).to_bytes(8, "big"))
    assert (seen(on, 0), seen(on, 1)) == (0x10000, 0x11000)
    assert on.cpu.rpcit(on.fh, BASE + 0x1000, 1) == Answer()
    assert (seen(on, 0), seen(on, 1)) == (0x10000, None)


def test_another_address_space_has_nothing_of_the_old_one(on: MachineRig) -> None:
    on.map(0, 0x10000)
    assert seen(on, 0) == 0x10000
    put(on, 0, 0x20000)
    fib = Fib(pba=BASE, pal=BASE + 0xFFFFF, iota=on.cpu.stpcifc(on.fh, 0)[1].iota)
    assert on.cpu.mpcifc(on.fh, 0, FunctionOperation.REREGISTER_TRANSLATION, fib) == Answer()
    assert seen(on, 0) == 0x20000


def test_each_function_has_an_address_space_of_its_own(on: MachineRig) -> None:
    """Tables of one are nothing to the other, and neither is its refresh."""
    on.map(0, 0x10000)
    assert seen(on, 0) == 0x10000
    put(on, 0, 0x20000)
    first, on.fh = on.fh, 0
    other = on.enable(1)
    assert on.cpu.rpcit(other, BASE, 0x1000) == Answer(1, Status.FUNCTION_IN_ERROR)
    assert on.facility.functions[0x101].state is FunctionState.ERROR
    assert on.facility.functions[0x100].state is FunctionState.ENABLED
    assert seen(on, 0) == 0x10000
    assert on.cpu.rpcit(first, BASE, 0x1000) == Answer()
    assert seen(on, 0) == 0x20000


def test_an_error_event_names_the_place_that_failed(on: MachineRig) -> None:
    """Of an access of several pages, the first that is wrong: here one without storage, and a protected one."""
    on.map(0, 0x10000)
    on.map(1, 1 << 40)
    on.ring(BASE + 0xFF0, BASE, 32)
    (event,) = on.errors
    assert (event.pec, event.address, event.write) == (ErrorCode.ADDRESS_PROTECTED, BASE + 0x1000, 0)
    on.errors.clear()
    assert on.cpu.mpcifc(on.fh, 0, FunctionOperation.RESET_ERROR, Fib()) == Answer()
    on.map(1, 0x11000, protected=True)
    on.ring(BASE, BASE + 0xFF8, 16)
    (event,) = on.errors
    assert (event.pec, event.address, event.write) == (ErrorCode.TABLE_PROTECTED, BASE + 0x1000, 1)
    assert (event.fid, event.fh) == (0x100, on.fh)


@pytest.mark.parametrize(
    ("start", "length", "end"),
    [
        (BASE, (1 << 64) - BASE, Answer()),
        (BASE, (1 << 64) - BASE + 1, Answer(1, Status.FUNCTION_IN_ERROR)),
        (BASE + 0x5000, (1 << 64) - 0x1000, Answer(1, Status.FUNCTION_IN_ERROR)),
        ((1 << 64) - 0x1000, 0x1000, Answer(1, Status.FUNCTION_IN_ERROR)),
        (BASE + 0xFFFFF, 1, Answer()),
        (BASE + 0x100000, 0, Answer(1, Status.FUNCTION_IN_ERROR)),
        (BASE - 0x1000, 0xFFF, Answer(1, Status.FUNCTION_IN_ERROR)),
        (BASE - 0x1000, 0x1001, Answer()),
        (BASE + 0x123, 0, Answer()),
    ],
)
def test_ranges_at_the_edges(on: MachineRig, start: int, length: int, end: Answer) -> None:
    """A range that goes beyond the last address of all, or that is not in the address space, is out of range."""
    assert on.cpu.rpcit(on.fh, start, length) == end
    assert [event.pec for event in on.errors] == [ErrorCode.OUT_OF_RANGE] * end.cc


# a machine with few translations


def test_more_than_there_is_room_for(few: FewRig) -> None:
    for page in range(3):
        few.map(page, 0x10000 + page * 0x1000)
    put(few, 3, 0x13000)
    put(few, 4, 0x14000)
    assert few.cpu.rpcit(few.fh, BASE + 0x3000, 0x2000) == INSUFFICIENT
    assert [seen(few, page) for page in range(5)] == [0x10000, 0x11000, 0x12000, 0x13000, None]
    put(few, 1, None)
    assert few.cpu.rpcit(few.fh, BASE, 0x100000) == Answer()
    assert [seen(few, page) for page in range(5)] == [0x10000, None, 0x12000, 0x13000, 0x14000]
    assert few.errors == []


def test_what_was_not_refreshed_is_not_there(few: FewRig) -> None:
    put(few, 0, 0x10000)
    assert seen(few, 0) is None
    few.store(CONFIG_SPACE, 4, 2, 6)
    few.ring(BASE, BASE, 8)
    assert [event.pec for event in few.errors] == [ErrorCode.INVALID_TABLE_ENTRY]


def test_a_large_frame_that_has_no_room_ends_soon(few: FewRig) -> None:
    few.memory.write(TABLES + 0x4000, segment_entry(0x100000, large=True).to_bytes(8, "big"))
    assert few.cpu.rpcit(few.fh, BASE, 1 << 62) == INSUFFICIENT
    assert [seen(few, page) for page in (0, 3, 4)] == [0x100000, 0x103000, None]


def test_a_wrong_table_is_an_error_event_of_the_refresh(few: FewRig) -> None:
    few.map(0, 0x10000)
    few.memory.write(TABLES + 0x4000, (0xC).to_bytes(8, "big"))
    assert few.cpu.rpcit(few.fh, BASE, 0x1000) == Answer(1, Status.FUNCTION_IN_ERROR)
    assert [(event.pec, event.address) for event in few.errors] == [(ErrorCode.TABLE_TYPE, BASE)]
    assert few.cpu.mpcifc(few.fh, 0, FunctionOperation.RESET_ERROR, Fib()) == Answer()
    assert seen(few, 0) is None


def test_the_doorbell_works_with_few(few: FewRig) -> None:
    few.map(0, 0x10000)
    few.map(1, 0x11000)
    few.memory.write(0x10000, b"few")
    assert few.ring(BASE, BASE + 0x1000, 3) == bell.BellStatus.DONE
    assert few.memory.read(0x11000, 3) == b"few"


def test_less_than_one_makes_no_sense() -> None:
    with pytest.raises(Misuse, match="at least 1"):
        build_function(FunctionSpec(uid=1, fid=1, model="virtio-bell", options={"translations": 0}), 0)
