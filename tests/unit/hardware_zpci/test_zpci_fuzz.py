"""Any instruction with any operands, in any order, on the machine and for guests, while functions fail and leave.

An instruction ends with a condition code and a status, or with a program exception; events that come of it are well
formed; it takes little time.  Nothing is left when all is closed.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from zpci_rig import BASE, SIZE, TABLES, VECTOR, GuestRig, HostForwardingRig, InterpretedRig, MachineRig, NestedRig, Rig

from pyvfio.css.instructions import OperandException
from pyvfio.errors import Misuse, NoSuchDevice
from pyvfio.zpci import clp
from pyvfio.zpci.event import ErrorEvent
from pyvfio.zpci.fib import DirectedFib, Fib
from pyvfio.zpci.function import FunctionState
from pyvfio.zpci.instructions import CONFIG_SPACE, Answer, FunctionOperation, Request, Status
from pyvfio.zpci.table import Designation, Iota, page_entry, region_entry, segment_entry
from pyvfio_backends.software import software_of

WORD = (1 << 64) - 1
SLOW = 2.0
EDGES = (0, 1, 7, 8, 0xFFF, 0x1000, BASE - 1, BASE, BASE + 0x1000, BASE + 0xFFFFF, BASE + 0x1FFFFFFF, 1 << 42, 1 << 63)

_NUMBERS = st.one_of(
    st.sampled_from([*EDGES, WORD, WORD - 0xFFF, TABLES, VECTOR, SIZE - 8, SIZE]),
    st.integers(0, 0x100),
    st.integers(0, WORD),
)
_LENGTHS = st.one_of(st.sampled_from([1, 2, 4, 8, 16, 0]), st.integers(0, 255))
_SPACES = st.one_of(st.sampled_from([0, 1, 15]), st.integers(0, 255))
_OPERATIONS = st.one_of(st.sampled_from(list(FunctionOperation)), st.integers(0, 255))
_HANDLES = st.one_of(
    st.sampled_from(["now", "now", "now", "now", "other", "old"]), st.integers(0, (1 << 32) - 1), st.integers(0, 31)
)
_ENTRIES = st.one_of(
    st.sampled_from([0, 0x20, 0x400, WORD]),
    st.integers(0, 7).map(lambda n: region_entry(TABLES + n * 0x4000, Designation.REGION_THIRD)),
    st.integers(0, 15).map(lambda n: segment_entry(TABLES + n * 0x2000)),
    st.integers(1, 1024).map(lambda n: page_entry(n * 0x1000)),
    st.integers(0, WORD),
)
_FIBS = st.builds(
    Fib,
    fmt=st.sampled_from([0] * 9 + [1, 2]),
    pba=st.sampled_from([BASE, BASE, BASE + 0x3000, 0, WORD]),
    pal=st.sampled_from([BASE + 0x1FFFFFFF, BASE + 0xFFFFF, BASE + 0x4FFF, BASE, WORD]),
    iota=st.one_of(
        st.sampled_from([Iota(TABLES).to_word()] * 3 + [Iota(SIZE).to_word(), Iota(0).to_word()]), st.integers(0, WORD)
    ),
    isc=st.integers(0, 7),
    noi=st.sampled_from([0, 1, 4, 128, 129, 4095]),
    aibv=st.sampled_from([VECTOR, VECTOR, SIZE - 1, SIZE, WORD]),
    aibvo=st.integers(0, 63),
    sum=st.integers(0, 1),
    aisb=st.sampled_from([VECTOR + 0x100, SIZE, WORD]),
    aisbo=st.integers(0, 63),
    fmb=st.sampled_from([0, 0x3000, SIZE, WORD, 0x3003, SIZE - 16]),
)
_REQUESTS = st.one_of(
    st.builds(clp.ListRequest, fmt=st.sampled_from([0, 0, 1]), resume_token=st.integers(0, 9)),
    st.builds(clp.QueryRequest, command=st.integers(2, 6), handle=st.integers(0, (1 << 32) - 1)),
    st.builds(
        clp.SetRequest,
        handle=st.sampled_from([0x20000, 0x20001, 0x80010000, 0x10000]),
        operation=st.integers(0, 8),
        dma_spaces=st.integers(0, 2),
    ),
).map(lambda block: block.to_bytes())


class Anything(RuleBasedStateMachine):
    """A program, or a guest, that does anything."""

    kind: ClassVar[type[Rig]] = MachineRig

    def __init__(self) -> None:
        super().__init__()
        self.slowest = 0.0
        self.rig = self.kind()
        self.old = self.rig.enable()
        self.rig.tables()
        self.seen = 0
        self.lost = False

    def teardown(self) -> None:
        self.rig.close()

    def handle(self, which: str | int) -> int:
        if isinstance(which, int):
            return which
        entries = self.rig.list().entries
        if which == "old" or not entries:
            return self.old
        return entries[0 if which == "now" else -1].fh

    def do(self, work: Any, *operands: Any) -> Any:
        begun = time.monotonic()
        try:
            answer = work(*operands)
        except OperandException:
            answer = None
        finally:
            self.slowest = max(self.slowest, time.monotonic() - begun)
        if isinstance(answer, Answer):
            assert answer.cc in (0, 1, 3)
            assert answer.status in list(Status)
            assert (answer.cc == 1) >= (answer.status != 0)
            assert 0 <= answer.data <= WORD
        return answer

    # instructions

    @rule(fh=_HANDLES, space=_SPACES, length=_LENGTHS, offset=_NUMBERS)
    def load(self, fh: str | int, space: int, length: int, offset: int) -> None:
        answer = self.do(self.rig.cpu.pcilg, Request(self.handle(fh), space, length), offset)
        assert answer is None or answer.data < 1 << 8 * max(1, length)

    @rule(fh=_HANDLES, space=_SPACES, length=_LENGTHS, offset=_NUMBERS, data=_NUMBERS)
    def store(self, fh: str | int, space: int, length: int, offset: int, data: int) -> None:
        self.do(self.rig.cpu.pcistg, data, Request(self.handle(fh), space, length), offset)

    @rule(fh=_HANDLES, space=_SPACES, offset=_NUMBERS, data=st.binary(max_size=160))
    def store_block(self, fh: str | int, space: int, offset: int, data: bytes) -> None:
        self.do(self.rig.cpu.pcistb, data, Request(self.handle(fh), space, len(data)), offset)

    @rule(fh=_HANDLES, space=st.sampled_from([0, 0, 0, 1, 255]), operation=_OPERATIONS, fib=_FIBS)
    def modify(self, fh: str | int, space: int, operation: int, fib: Fib) -> None:
        self.do(self.rig.cpu.mpcifc, self.handle(fh), space, operation, fib)

    @rule(fh=_HANDLES, operation=_OPERATIONS, noi=st.integers(0, 4095), offset=st.integers(0, 0xFFFF))
    def modify_directed(self, fh: str | int, operation: int, noi: int, offset: int) -> None:
        self.do(self.rig.cpu.mpcifc, self.handle(fh), 0, operation, DirectedFib(noi=noi, dibvo=offset))

    @rule(fh=_HANDLES, space=st.sampled_from([0, 0, 0, 1, 255]))
    def stored(self, fh: str | int, space: int) -> None:
        answer = self.do(self.rig.cpu.stpcifc, self.handle(fh), space)
        assert len(answer[1].to_bytes()) == Fib.SIZE

    @rule(fh=_HANDLES, start=_NUMBERS, length=_NUMBERS)
    def refresh(self, fh: str | int, start: int, length: int) -> None:
        self.do(self.rig.cpu.rpcit, self.handle(fh), start, length)

    @rule(operation=st.integers(0, 17), isc=st.integers(0, 9), block=st.binary(max_size=40))
    def sic(self, operation: int, isc: int, block: bytes) -> None:
        self.do(self.rig.cpu.sic, operation, isc, block)

    @rule(request=st.one_of(_REQUESTS, st.binary(max_size=64)), room=st.one_of(st.sampled_from([64, 4096]), _NUMBERS))
    def call(self, request: bytes, room: int) -> None:
        answer = self.do(self.rig.cpu.clp, request, room)
        assert answer is None or len(answer[1]) <= room

    # what else happens

    @rule(
        place=st.sampled_from([*range(16), 0x4000 // 8, 0x4008 // 8, 0x8000 // 8, 0x8008 // 8, BASE >> 31]),
        entry=_ENTRIES,
        count=st.sampled_from([1, 1, 256, 2048]),
    )
    def tables(self, place: int, entry: int, count: int) -> None:
        raw = entry.to_bytes(8, "big") * count
        self.rig.memory.write(TABLES + place * 8, raw)

    @rule()
    def good_tables(self) -> None:
        self.rig.tables()
        for page in range(8):
            self.rig.memory.write(TABLES + 0x8000 + page * 8, page_entry(0x10000 + page * 0x1000).to_bytes(8, "big"))

    @rule(operation=st.sampled_from([clp.SetOperation.ENABLE, clp.SetOperation.DISABLE]))
    def switch(self, operation: int) -> None:
        self.rig.set(self.handle("now"), operation)

    @rule(source=_NUMBERS, into=_NUMBERS, count=st.sampled_from([1, 8, 0x2000, 0xFFFFFFFF]))
    def ring(self, source: int, into: int, count: int) -> None:
        self.rig.fh = self.handle("now")
        if self.state is FunctionState.RESERVED:
            return
        if self.do(self.rig.cpu.pcistg, 0x0600, Request(self.rig.fh, 15, 2), 4) == Answer():
            try:
                self.rig.ring(source, into, count)
            except AssertionError:
                # The machine has blocked it, also where the guest is told nothing (interpretation).
                assert self.rig.cpu.pcilg(Request(self.rig.fh, CONFIG_SPACE, 4), 0).cc

    @property
    def state(self) -> FunctionState:
        functions = {one.fid: one.state for one in self.rig.cpu.functions.all_functions()}
        return functions.get(0x100, FunctionState.RESERVED)

    @rule(vector=st.integers(0, 7))
    def interrupt(self, vector: int) -> None:
        if self.state is not FunctionState.RESERVED and not self.lost:
            self.rig.signal(vector)
        elif isinstance(self.rig, (GuestRig, NestedRig)):
            self.rig.guest.poll()

    @rule()
    def tick(self) -> None:
        self.rig.tick()

    @rule(event=st.sampled_from(["unplug", "fail", "lose", "error"]), sure=st.integers(0, 5))
    def trouble(self, event: str, sure: int) -> None:
        if self.state is FunctionState.RESERVED or sure:
            return
        function = self.rig.function()
        if event == "unplug":
            self.rig.unplug()
        elif event == "error":
            function.state = FunctionState.PERMANENT_ERROR
        elif isinstance(self.rig, MachineRig):
            try:
                self.rig.facility.fail(0x100)
            except (Misuse, NoSuchDevice):
                assert self.state is not FunctionState.ENABLED
        elif event == "fail":
            function.device.close()  # type: ignore[attr-defined]
        else:
            if not self.lost:
                software_of(self.rig.host.backend).machine.zpci.unplug(0x20, surprise=True)
            self.lost = True

    @initialize()
    def begin(self) -> None:
        self.good_tables()

    @invariant()
    def events_are_well_formed(self) -> None:
        for event in self.rig.errors[self.seen :]:
            assert ErrorEvent.from_bytes(event.to_bytes()) == event
        self.seen = len(self.rig.errors)
        assert self.slowest < SLOW


@pytest.mark.parametrize("kind", [MachineRig, GuestRig, InterpretedRig, HostForwardingRig, NestedRig])
def test_anything(kind: type[Rig]) -> None:
    machine = type("Machine", (Anything,), {"kind": kind})
    before, threads = descriptors(), threading.active_count()
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=5 if kind is NestedRig else 25,  # it takes long to build
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking takes minutes
        ),
    )
    assert descriptors() == before
    assert threading.active_count() == threads


def descriptors() -> int:
    """How many descriptors this process has open."""
    gc.collect()  # what earlier tests left is not this one's
    return len(os.listdir("/proc/self/fd"))
