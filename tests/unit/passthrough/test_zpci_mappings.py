"""Any sequence of changes, refreshes and registrations: the host's IOMMU has what the guest's tables said then.

What the device sees is asked of the software kernel's own domain, by reading and writing each page through it: for both
ways to map, and where the kernel takes few mappings.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pyvfio.zpci.fib import Fib
from pyvfio.zpci.instructions import Answer, FunctionOperation, Status
from pyvfio.zpci.table import FRAME, Iota, page_entry, segment_entry
from pyvfio_backends.software import software_of
from pyvfio_backends.software.hardware.dma import DmaFault

sys.path.insert(0, str(Path(__file__).parents[1] / "hardware_zpci"))
from zpci_rig import BASE, SIZE, TABLES, GuestRig

SEGMENT = 256
PAGES = 2 * SEGMENT + 40
PROBED = (*range(24), *range(SEGMENT - 12, SEGMENT + 24), *range(2 * SEGMENT - 4, PAGES))
INSUFFICIENT = Answer(1, Status.INSUFFICIENT_RESOURCES)

_PAGE = st.sampled_from([0, 1, 2, 5, 9, SEGMENT - 3, SEGMENT + 1])
_COUNT = st.integers(1, 7)
_TOLD = st.sampled_from([True, True, False])
_WINDOW = st.tuples(st.sampled_from([0, 0, 3, SEGMENT - 2, SEGMENT]), st.sampled_from([8, SEGMENT, PAGES, PAGES]))


class Mappings(RuleBasedStateMachine):
    """A guest with two page tables and a large frame; `known` is what refreshes have told of each page.

    After a refresh that had not enough mappings, pages of its range are `loose`: mapped or not, but never wrong.  So
    are all others until a refresh is done again: their mapping may have been split.
    """

    way: ClassVar[str] = "iommufd"
    limit: ClassVar[int | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.rig = GuestRig(1, entry_limit=self.limit, way=self.way)
        self.rig.enable()
        self.rig.tables()
        memory = self.rig.memory
        for place in range(0, TABLES, FRAME):
            memory.write(place, (place | 0xABC).to_bytes(8, "big"))
        memory.write(TABLES + 0x8000, page_entry(0, valid=False).to_bytes(8, "big") * 2 * SEGMENT)
        memory.write(TABLES + 0x4008, segment_entry(TABLES + 0x8800).to_bytes(8, "big"))
        self.tables: dict[int, tuple[int, bool]] = {}
        self.known: dict[int, tuple[int, bool]] = {}
        self.loose: set[int] = set()
        self.owing = False
        self.window: range | None = None

    def teardown(self) -> None:
        domain = self.domain
        self.rig.close()
        assert not self.seen(domain)

    @property
    def domain(self):  # type: ignore[no-untyped-def]
        return software_of(self.rig.host.backend).machine.zpci.functions[0x20].dma

    def put(self, page: int, frame: int | None, protected: bool = False) -> None:
        entry = page_entry(frame or 0, protected=protected, valid=frame is not None)
        self.rig.memory.write(TABLES + 0x8000 + page * 8, entry.to_bytes(8, "big"))
        self.tables.pop(page, None)
        if frame is not None:
            self.tables[page] = frame, protected

    # what the guest does

    @initialize(window=_WINDOW)
    def begin(self, window: tuple[int, int]) -> None:
        self.register(window)

    @rule(page=_PAGE, count=_COUNT, frame=st.integers(1, 6), protected=st.booleans(), told=_TOLD)
    def map(self, page: int, count: int, frame: int, protected: bool, told: bool) -> None:
        for step in range(count):
            self.put(page + step, (frame + step) * FRAME, protected)
        self.refresh(page, count * told)

    @rule(page=_PAGE, frame=st.integers(1, 40), far=st.sampled_from([20, 20, 100]), told=_TOLD)
    def map_far(self, page: int, frame: int, far: int, told: bool) -> None:
        """Every second page, so that each is a run of its own; some where the guest has no storage."""
        for step in range(0, 8, 2):
            self.put(page + step, (frame if far * step < 200 else 600) * FRAME + far * step * FRAME)
        self.refresh(page, 8 * told)

    @rule(page=_PAGE, count=_COUNT, told=_TOLD)
    def clear(self, page: int, count: int, told: bool) -> None:
        for step in range(count):
            self.put(page + step, None)
        self.refresh(page, count * told)

    @rule(there=st.booleans(), protected=st.booleans())
    def large_frame(self, there: bool, protected: bool) -> None:
        entry = segment_entry(0, large=True, protected=protected, valid=there)
        self.rig.memory.write(TABLES + 0x4010, entry.to_bytes(8, "big"))
        for page in range(2 * SEGMENT, PAGES):
            self.tables.pop(page, None)
            if there:
                self.tables[page] = (page - 2 * SEGMENT) * FRAME, protected

    @rule(page=st.sampled_from(PROBED), count=st.sampled_from([0, 1, 2, 5, SEGMENT, PAGES, 1 << 30]), odd=st.booleans())
    def refresh(self, page: int, count: int, odd: bool = False) -> None:
        if self.window is None:
            return
        start, length = BASE + page * FRAME + odd * 0x800, min(count * FRAME + odd * 8, (1 << 63))
        if start > BASE + self.window.stop * FRAME - 1 or start + length < BASE + self.window.start * FRAME:
            return
        last = page + count - 1 + odd * 1
        self.told(self.rig.cpu.rpcit(self.rig.fh, start, length), range(page, last + 1))

    def told(self, answer: Answer, pages: range) -> None:
        assert self.window is not None
        covered = {page for page in PROBED if page in pages and page in self.window}
        for page in covered:
            self.known.pop(page, None)
            entry = self.tables.get(page)
            if entry is not None and entry[0] < SIZE:
                self.known[page] = entry
        self.owing = answer == INSUFFICIENT
        if self.owing:
            assert self.limit is not None
            self.loose |= covered
        else:
            assert answer == Answer()
            self.loose -= covered

    @rule(window=_WINDOW, operation=st.sampled_from(["register", "replace"]))
    def register(self, window: tuple[int, int], operation: str = "register") -> None:
        pages = range(window[0], min(window[0] + window[1], PAGES))
        fib = Fib(
            pba=BASE + pages.start * FRAME + 5, pal=BASE + pages.stop * FRAME - 0x100, iota=Iota(TABLES).to_word()
        )
        number = FunctionOperation.REGISTER_TRANSLATION
        if operation == "replace":
            number = FunctionOperation.REREGISTER_TRANSLATION
        answer = self.rig.cpu.mpcifc(self.rig.fh, 0, number, fib)
        if (self.window is None) != (operation == "register"):
            assert answer == Answer(1, Status.FUNCTION_ALREADY_ENABLED)
        elif answer == INSUFFICIENT:
            assert self.limit is not None
            if self.window is not None:
                self.told(answer, self.window)
        else:
            self.window, self.known, self.loose = pages, {}, set()
            self.told(answer, pages)

    @rule()
    def deregister(self) -> None:
        answer = self.rig.cpu.mpcifc(self.rig.fh, 0, FunctionOperation.DEREGISTER_TRANSLATION, Fib())
        assert answer.cc == (self.window is None)
        self.gone()

    @rule()
    def disable_and_enable(self) -> None:
        _code, disabled = self.rig.set(self.rig.fh, 1)
        assert not self.seen(self.domain)
        self.rig.fh = self.rig.set(disabled, 0)[1]
        self.gone()

    def gone(self) -> None:
        self.window, self.known, self.loose, self.owing = None, {}, set(), False

    # what the device sees

    def seen(self, domain) -> dict[int, tuple[int, bool]]:  # type: ignore[no-untyped-def]
        found: dict[int, tuple[int, bool]] = {}
        for page in PROBED if domain is not None else ():
            iova = BASE + page * FRAME
            try:
                stamp = domain.read(iova, 8)
            except DmaFault:
                continue
            try:
                domain.write(iova, stamp)
                protected = False
            except DmaFault:
                protected = True
            place = int.from_bytes(stamp, "big")
            assert place & 0xFFF == 0xABC
            found[page] = place & -FRAME, protected
        return found

    @invariant()
    def the_iommu_has_what_was_told(self) -> None:
        seen = self.seen(self.domain)
        for page in PROBED:
            if page in self.loose or self.owing:
                assert page not in seen or seen[page] == self.known[page]
            else:
                assert seen.get(page) == self.known.get(page)


@pytest.mark.parametrize(("way", "limit"), [("iommufd", None), ("group", None), ("group", 3)])
def test_the_iommu_has_what_the_tables_said(way: str, limit: int | None) -> None:
    machine = type("Machine", (Mappings,), {"way": way, "limit": limit})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking takes minutes
        ),
    )
