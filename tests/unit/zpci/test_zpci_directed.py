"""Directed interruptions: SIC and the FIB's rules, and every order of messages, processors and their hypervisor.

No machine of the lab has the facility; the kernel's side is written after ``arch/s390/pci/pci_irq.c`` (6.12):
zpci_handle_cpu_local_irq, zpci_handle_fallback_irq, zpci_handle_remote_irq.
"""

from __future__ import annotations

from typing import Any

import pytest
from orders import Steps, Thread, World, explore

from pyvfio.zpci.directed import message_address, processor_of
from pyvfio.zpci.event import ErrorCode
from pyvfio.zpci.fib import DirectedFib, Fib
from pyvfio.zpci.instructions import OperandException, Status
from pyvfio.zpci.interruptions import AdapterInterruptions
from pyvfio.zpci.sic import DirectedBlock, ProcessorBlock, SicOperation

ISC = 2
BASE = 0xFE00000000000000
DISB, DIBV = 0, (64, 128)


def set_up(interruptions: AdapterInterruptions, cpus: int = 2) -> None:
    """zpci_directed_irq_init and cpu_enable_directed_irq."""
    interruptions.control(SicOperation.DIRECT, 0, DirectedBlock(ISC, cpus, DISB).to_bytes())
    for cpu in range(cpus):
        interruptions.control(SicOperation.SET_PROCESSOR, 0, ProcessorBlock(DIBV[cpu]).to_bytes(), cpu)
        interruptions.control(SicOperation.DIRECTED_SINGLE, ISC, cpu=cpu)
    interruptions.control(SicOperation.SINGLE, ISC)


class Directed(World):
    """Two processors, and functions whose messages go to the processors of `targets`; function n has bit n.

    A hypervisor takes the processors in `taken` away for a while.
    """

    fallback_looks_again = True

    def __init__(self, targets: tuple[int, ...], *, taken: tuple[int, ...] = ()) -> None:
        super().__init__(len(targets), processors=2, on_directed=lambda cpu, isc: self.pending.add(("cpu", cpu)))
        set_up(self.interruptions)
        assert self.interruptions.directed is not None
        self.cpus = self.interruptions.directed.processors
        self.scheduled = [0, 0]
        self.called: set[int] = set()
        for bit, each in enumerate(self.controls):
            assert each.register_directed(DirectedFib(noi=1, dibvo=bit)).cc == 0
        self.threads = [Thread(self.linux(cpu), self.dispatched(cpu)) for cpu in (0, 1)]
        for which, cpu in enumerate(targets):
            self.threads.append(Thread(self.device(which, 1, address=message_address(BASE, cpu))))
        self.threads += [Thread(self.hypervisor(cpu)) for cpu in taken]

    def dispatched(self, cpu: int) -> Any:
        return lambda: self.cpus[cpu].dispatched

    def hypervisor(self, cpu: int) -> Steps:
        self.cpus[cpu].dispatched = False
        yield None
        self.cpus[cpu].dispatched = True

    def extra(self) -> Any:
        return tuple(self.scheduled), frozenset(self.called)

    # Linux on a processor: interrupts are off in a handler, so there is one thing after the other

    def linux(self, cpu: int) -> Steps:
        while True:
            yield lambda: bool({("cpu", cpu), ISC} & self.pending) or cpu in self.called
            if ("cpu", cpu) in self.pending:
                self.pending.remove(("cpu", cpu))
                yield from self.local(cpu, rescan=True)
            elif ISC in self.pending:  # whichever processor comes first
                self.pending.remove(ISC)
                yield from self.fallback()
            elif cpu in self.called:
                self.called.remove(cpu)
                while True:
                    yield from self.local(cpu, rescan=False)
                    yield None
                    self.scheduled[cpu] -= 1
                    if not self.scheduled[cpu]:
                        break

    def local(self, cpu: int, *, rescan: bool) -> Steps:
        irqs_on = False
        while True:
            for which in range(len(self.functions)):
                yield None
                self.handled[which] += self.take(DIBV[cpu], which)
            yield None
            if not rescan or irqs_on:
                return
            self.interruptions.control(SicOperation.DIRECTED_SINGLE, ISC, cpu=cpu)
            irqs_on = True

    def fallback(self) -> Steps:
        irqs_on = not self.fallback_looks_again
        while True:
            for cpu in (0, 1):
                yield None
                if self.take(DISB, cpu):
                    self.scheduled[cpu] += 1
                    if self.scheduled[cpu] == 1:
                        self.called.add(cpu)
            yield None
            if irqs_on:
                break
            self.interruptions.control(SicOperation.SINGLE, ISC)
            irqs_on = True
        if not self.fallback_looks_again:
            self.interruptions.control(SicOperation.SINGLE, ISC)


def lost(end: Directed) -> bool:
    return any(end.memory.data) or bool(end.pending) or end.handled != end.sent


@pytest.mark.parametrize(
    ("targets", "taken"),
    [((0,), ()), ((0, 0), ()), ((0, 1), ()), ((1,), (1,)), ((1, 1), (1,)), ((0, 1), (1,)), ((1,), (0, 1))],
)
def test_no_order_loses_a_directed_interruption(targets: tuple[int, ...], taken: tuple[int, ...]) -> None:
    ends = explore(lambda: Directed(targets, taken=taken))
    assert ends
    assert not [end for end in ends if lost(end)]


def test_the_fallback_needs_its_second_look() -> None:
    """So the test can fail: what comes while floating interruptions are off is found by the second look only."""

    class Once(Directed):
        fallback_looks_again = False

    assert any(lost(end) for end in explore(lambda: Once((1, 1), taken=(1,))))


def test_both_ways_are_taken() -> None:
    class Counting(Directed):
        def extra(self) -> Any:
            return super().extra(), self.cpus[1].fallbacks

    ends = explore(lambda: Counting((1,), taken=(1,)))
    assert {(end.cpus[1].made, end.cpus[1].fallbacks) for end in ends} == {(1, 0), (0, 1)}


def test_a_function_that_leaves_disturbs_nobody() -> None:
    """Two functions share a processor's vector; one is deregistered while both interrupt."""

    class Leaving(Directed):
        def __init__(self) -> None:
            super().__init__((0, 0))
            self.threads.append(Thread(self.driver()))

        def driver(self) -> Steps:
            yield self.quiet(0)
            assert self.controls[0].deregister_interrupts(directed=True).cc == 0

    ends = explore(Leaving)
    assert not [end for end in ends if lost(end)]
    assert {tuple(end.sent) for end in ends} == {(0, 1), (1, 1)}


# ---- rules -------------------------------------------------------------------------------------------------------


def test_the_address_of_a_message_names_the_processor() -> None:
    assert message_address(BASE, 0x1234) == 0xFE00000000123400
    assert processor_of(message_address(BASE, 0x1234)) == 0x1234


@pytest.mark.parametrize(
    ("operation", "isc", "block"),
    [
        (SicOperation.DIRECT, 0, b""),
        (SicOperation.DIRECT, 0, DirectedBlock(ISC, 0, DISB).to_bytes()),
        (SicOperation.DIRECT, 0, DirectedBlock(ISC, 3, DISB).to_bytes()),
        (SicOperation.DIRECT, 0, DirectedBlock(ISC, 2, 4).to_bytes()),
        (SicOperation.SET_PROCESSOR, 0, ProcessorBlock(64).to_bytes()),
        (SicOperation.DIRECTED_SINGLE, ISC, b""),
        (SicOperation.DIRECTED_ALL, 8, b""),
        (SicOperation.SET_FORWARDING, 0, bytes(24)),
    ],
)
def test_operations_that_cannot_be(operation: int, isc: int, block: bytes) -> None:
    with pytest.raises(OperandException):
        AdapterInterruptions(lambda isc: None, processors=2).control(operation, isc, block)


@pytest.mark.parametrize(("block", "cpu"), [(ProcessorBlock(68), 0), (ProcessorBlock(64), 2), (ProcessorBlock(64), -1)])
def test_vectors_that_cannot_be(block: ProcessorBlock, cpu: int) -> None:
    interruptions = AdapterInterruptions(lambda isc: None, processors=2)
    set_up(interruptions)
    with pytest.raises(OperandException):
        interruptions.control(SicOperation.SET_PROCESSOR, 0, block.to_bytes(), cpu)


@pytest.mark.parametrize("operation", [SicOperation.DIRECT, SicOperation.SET_PROCESSOR, SicOperation.DIRECTED_ALL])
def test_a_machine_without_the_facility(operation: int) -> None:
    with pytest.raises(OperandException):
        AdapterInterruptions(lambda isc: None).control(operation, 0, bytes(40))


def test_registering_needs_sic_first() -> None:
    world = World(1, processors=2)
    answer = world.controls[0].register_directed(DirectedFib(noi=1))
    assert (answer.cc, answer.status) == (1, Status.FUNCTION_ALREADY_ENABLED)


@pytest.mark.parametrize("noi", [0, 9])
def test_more_than_the_group_has(noi: int) -> None:
    world = World(1, processors=2)
    set_up(world.interruptions)
    answer = world.controls[0].register_directed(DirectedFib(noi=noi))
    assert (answer.cc, answer.status) == (1, Status.RESOURCE_NOT_AVAILABLE)


def test_one_form_excludes_the_other() -> None:
    world = Directed((0,))
    one = world.controls[0]
    assert one.register_directed(DirectedFib(noi=1)).cc == 1
    assert one.register_interrupts(Fib(noi=1)).cc == 1
    assert one.deregister_interrupts().cc == 1
    assert one.deregister_interrupts(directed=True).cc == 0
    assert one.register_interrupts(Fib(noi=1)).cc == 0


@pytest.mark.parametrize(
    ("address", "vector", "code"),
    [
        (message_address(BASE, 2), 0, ErrorCode.INTERRUPTION_ERROR),
        (message_address(BASE, 0), 1, ErrorCode.NO_MESSAGE_VECTOR),
        (message_address(BASE, 1), 0, ErrorCode.INVALID_BIT_VECTOR),
        (message_address(BASE, 0), 0, ErrorCode.BIT_VECTOR_ACCESS),
    ],
)
def test_messages_that_are_error_events(address: int, vector: int, code: ErrorCode) -> None:
    world = World(1, processors=2)
    world.interruptions.control(SicOperation.DIRECT, 0, DirectedBlock(ISC, 2, DISB).to_bytes())
    world.interruptions.control(SicOperation.SET_PROCESSOR, 0, ProcessorBlock(1 << 40).to_bytes(), 0)
    world.controls[0].register_directed(DirectedFib(noi=1))
    list(world.controls[0].message(address, vector))
    assert world.errors == [code]
    assert not any(world.memory.data)


def test_setting_up_anew_forgets_the_vectors() -> None:
    world = Directed((0,))
    world.interruptions.control(SicOperation.DIRECT, 0, DirectedBlock(ISC, 1, DISB).to_bytes())
    assert [cpu.dibv for cpu in world.cpus] == [0, 0]


def test_all_mode_interrupts_each_time() -> None:
    world = Directed((0,))
    world.interruptions.control(SicOperation.DIRECTED_ALL, ISC, cpu=0)
    for _ in range(3):
        list(world.controls[0].message(BASE, 0))
    assert (world.cpus[0].made, world.cpus[0].suppressed) == (3, 0)
    world.interruptions.control(SicOperation.DIRECTED_SINGLE, ISC, cpu=0)
    for _ in range(3):
        list(world.controls[0].message(BASE, 0))
    assert (world.cpus[0].made, world.cpus[0].suppressed) == (4, 2)
