"""All orders of small steps: threads are generators, and a step of one is what it does between two ``yield``.

A thread yields None, or a function that says whether it may go on.  `explore` goes through every order; two orders that
lead to the same state, of the world and of all threads, are continued once.  Generators cannot be copied, so an order
is run again from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable
from types import FrameType, GeneratorType
from typing import Any

from pyvfio.css.instructions import StorageError
from pyvfio.zpci.controls import FunctionControls
from pyvfio.zpci.event import ErrorCode
from pyvfio.zpci.function import Counts, FunctionState
from pyvfio.zpci.interruptions import AdapterInterruptions, StorageBits
from pyvfio.zpci.vector import clear_bits

Steps = Generator[Callable[[], bool] | None, None, None]
_PLAIN = (int, str, bytes, bool, type(None))


class Memory:
    """A little storage."""

    def __init__(self, size: int = 256) -> None:
        self.data = bytearray(size)

    def read(self, address: int, count: int) -> bytes:
        if not 0 <= address <= len(self.data) - count:
            raise StorageError(address, count)
        return bytes(self.data[address : address + count])

    def write(self, address: int, data: bytes) -> None:
        self.read(address, len(data))
        self.data[address : address + len(data)] = data


class Thread:
    """One generator, and whether it may go on."""

    def __init__(self, steps: Steps, may_run: Callable[[], bool] = lambda: True) -> None:
        self.steps = steps
        self.may_run = may_run
        self.wait: Callable[[], bool] | None = None
        self.done = False

    def ready(self) -> bool:
        return not self.done and self.may_run() and (self.wait is None or self.wait())

    def step(self) -> None:
        try:
            self.wait = next(self.steps)
        except StopIteration:
            self.done = True

    def place(self) -> Hashable:
        return self.done or _place(self.steps)


def _place(steps: Any) -> Hashable:
    """Where a generator is, with those that it waits for."""
    found: list[Hashable] = []
    while isinstance(steps, GeneratorType):
        frame: FrameType | None = steps.gi_frame
        if frame is None:
            found.append("done")
            break
        found.append(frame.f_lasti)
        for name, value in frame.f_locals.items():
            if isinstance(value, _PLAIN):
                found.append((name, value))
            elif isinstance(value, GeneratorType):
                found.append((name, _place(value)))
        steps = steps.gi_yieldfrom
    return tuple(found)


class World:
    """Storage, the interruptions of a machine, and threads.  `handled` counts what each function's driver saw."""

    def __init__(self, functions: int = 2, **how: Any) -> None:
        self.memory = Memory()
        self.bits = StorageBits(self.memory)
        self.pending: set[Hashable] = set()
        self.interruptions = AdapterInterruptions(self.pending.add, **how)
        self.functions = [Stub() for _ in range(functions)]
        self.errors: list[ErrorCode] = []
        self.controls = [
            FunctionControls(
                function,  # type: ignore[arg-type]
                self.memory,
                self.interruptions,
                self._report,
                lambda counts, failed: Unmeasured(),  # type: ignore[arg-type, return-value]
            )
            for function in self.functions
        ]
        self.busy = [0] * functions
        self.sent = [0] * functions
        self.handled = [0] * functions
        self.threads: list[Thread] = []

    def _report(self, function: Any, code: ErrorCode, address: int, vector: int, write: bool) -> None:
        function.state = FunctionState.ERROR
        self.errors.append(code)

    def device(self, which: int, count: int, *, vector: int = 0, address: int = 0) -> Steps:
        """A function that interrupts so many times."""
        for _ in range(count):
            self.busy[which] += 1
            if self.controls[which].registration is not None and self.functions[which].state is FunctionState.ENABLED:
                self.sent[which] += 1
            yield from self.controls[which].message(address, vector)
            self.busy[which] -= 1
            yield None

    def quiet(self, which: int) -> Callable[[], bool]:
        """That no message of a function is under way: instructions about it wait for that (the machine's lock)."""
        return lambda: not self.busy[which]

    def take(self, address: int, bit: int) -> bool:
        """Test and clear a bit."""
        return bool(list(clear_bits(self.bits, address, bit, 1)))

    def extra(self) -> Hashable:
        """More that belongs to the state."""
        return None

    def state(self) -> Hashable:
        one = self.interruptions
        directed = one.directed.processors if one.directed is not None else ()
        return (
            bytes(self.memory.data),
            frozenset(self.pending),
            tuple(one._armed),
            tuple((cpu.dispatched, frozenset(cpu.disarmed)) for cpu in directed),
            tuple(
                (each.registration, function.state)
                for each, function in zip(self.controls, self.functions, strict=True)
            ),
            tuple(self.busy),
            tuple(self.sent),
            tuple(self.handled),
            tuple(thread.place() for thread in self.threads),
            self.extra(),
        )


class Stub:
    """A function, as far as registering interrupts goes."""

    class Group:
        noi = dnoi = 8

    def __init__(self) -> None:
        self.state = FunctionState.ENABLED
        self.on_reset: Callable[[], None] | None = None
        self.counts = Counts()
        self.send: object = None

    def register_interrupts(self, send: object) -> None:
        self.send = send

    def without_space(self, on_fault: object) -> None: ...

    def query_group(self) -> Group:
        return self.Group()


class Unmeasured:
    address = 0

    def stop(self) -> None: ...


def explore(make: Callable[[], Any]) -> list[Any]:
    """All worlds in which nobody can do anything any more, reached from ``make()``."""
    todo: list[tuple[int, ...]] = [()]
    seen: set[Hashable] = set()
    ends = []
    while todo:
        order = todo.pop()
        world: World = make()
        for which in order:
            world.threads[which].step()
        while (state := world.state()) not in seen:
            seen.add(state)
            ready = [which for which, thread in enumerate(world.threads) if thread.ready()]
            if not ready:
                ends.append(world)
                break
            todo += [(*order, which) for which in ready[1:]]
            order = (*order, ready[0])
            world.threads[ready[0]].step()
    return ends
