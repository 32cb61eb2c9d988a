"""What an interrupt's methods send to the kernel, byte by byte, and how its eventfds behave."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import selectors
import struct
from collections.abc import Callable

import pytest
from client_fake import FakeHost

from pyvfio.abi import vfio as abi
from pyvfio.call import Call
from pyvfio.errors import KernelRefused, Misuse, Timeout
from pyvfio.vfio import Irq

NONE, BOOL, EVENTFD = abi.VFIO_IRQ_SET_DATA_NONE, abi.VFIO_IRQ_SET_DATA_BOOL, abi.VFIO_IRQ_SET_DATA_EVENTFD
MASK, UNMASK, TRIGGER = (
    abi.VFIO_IRQ_SET_ACTION_MASK,
    abi.VFIO_IRQ_SET_ACTION_UNMASK,
    abi.VFIO_IRQ_SET_ACTION_TRIGGER,
)


@pytest.fixture
def fake() -> FakeHost:
    host = FakeHost()
    host.answers[abi.VFIO_DEVICE_SET_IRQS] = lambda buffer: 0
    return host


@pytest.fixture
def irq(fake: FakeHost) -> Irq:
    return Irq(Call(fake, 5, "0011:00:00.0"), "interrupt 2", abi.IrqInfo.sized(flags=9, index=2, count=4))


def sent(fake: FakeHost) -> list[tuple[int, ...]]:
    """argsz, flags, index, start, count of each call, after a check of the size; then the data."""
    found: list[tuple[int, ...]] = []
    for verb, request, raw in fake.calls:
        assert (verb, request) == ("ioctl", abi.VFIO_DEVICE_SET_IRQS)
        argsz, *head = struct.unpack_from("=5I", raw)
        assert argsz == len(raw)
        found.append((*head, *raw[20:]))
    fake.calls.clear()
    return found


def open_fds() -> int:
    gc.collect()  # what earlier tests left is not this one's
    return len(os.listdir("/proc/self/fd"))


# what cannot be


@pytest.mark.parametrize("count", [0, -1, 5])
def test_a_wrong_number_of_vectors(fake: FakeHost, irq: Irq, count: int) -> None:
    with pytest.raises(Misuse, match="4 vectors"):
        irq.enable(count)
    assert fake.calls == []


@pytest.mark.parametrize("vector", [-1, 4])
def test_a_vector_that_is_none(fake: FakeHost, irq: Irq, vector: int) -> None:
    for call in (irq.mask, irq.unmask, irq.trigger, irq.fileno, irq.poll):
        with pytest.raises(Misuse):
            call(vector)
    assert fake.calls == []


def test_enable_twice(irq: Irq) -> None:
    with irq:
        irq.enable(1)
        with pytest.raises(Misuse, match="disable it first"):
            irq.enable(1)


def test_a_refused_enable_leaves_no_descriptor(fake: FakeHost, irq: Irq) -> None:
    def refuse(buffer: bytearray) -> int:
        raise OSError(errno.EINVAL, "no")

    fake.answers[abi.VFIO_DEVICE_SET_IRQS] = refuse
    before = open_fds()
    with pytest.raises(KernelRefused):
        irq.enable()
    assert open_fds() == before
    assert not irq.enabled


def test_a_refused_disable_closes_the_descriptors(fake: FakeHost, irq: Irq) -> None:
    before = open_fds()
    irq.enable()
    fake.answers.clear()
    with pytest.raises(KernelRefused):
        irq.disable()
    assert open_fds() == before


def test_nothing_comes(irq: Irq) -> None:
    with irq:
        irq.enable(1)
        assert irq.poll() == 0
        with pytest.raises(Timeout, match="interrupt 2"):
            irq.wait(0.01)
        with pytest.raises(Timeout, match="interrupt 2"):
            asyncio.run(irq.wait_async(0.01))


# what is sent


def test_disable_is_a_call_of_its_own(fake: FakeHost, irq: Irq) -> None:
    irq.disable()
    assert sent(fake) == []
    irq.enable(2)
    fake.calls.clear()
    irq.disable()
    irq.disable()
    assert sent(fake) == [(NONE | TRIGGER, 2, 0, 0)]


def test_enable_names_all_vectors_in_one_call(fake: FakeHost, irq: Irq) -> None:
    with irq:
        numbers = [event.fileno() for event in irq.enable()]
        assert sent(fake) == [(EVENTFD | TRIGGER, 2, 0, 4, *struct.pack("=4i", *numbers))]
        assert len(set(numbers)) == 4


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (lambda irq: irq.mask(3), (NONE | MASK, 2, 3, 1)),
        (lambda irq: irq.unmask(), (NONE | UNMASK, 2, 0, 1)),
        (lambda irq: irq.trigger(1), (NONE | TRIGGER, 2, 1, 1)),
        (lambda irq: irq.trigger_bool([True, False, True], 1), (BOOL | TRIGGER, 2, 1, 3, 1, 0, 1)),
    ],
)
def test_bytes(fake: FakeHost, irq: Irq, call: Callable[[Irq], None], wanted: tuple[int, ...]) -> None:
    call(irq)
    assert sent(fake) == [wanted]


# eventfds


def test_the_count_is_taken(irq: Irq) -> None:
    with irq:
        event = irq.enable(2)[1]
        event.signal()
        event.signal(2)
        assert irq.poll(0) == 0
        assert irq.wait(1.0, vector=1) == 3
        assert irq.poll(1) == 0


def test_selectors(irq: Irq) -> None:
    with irq, selectors.DefaultSelector() as selector:
        events = irq.enable()
        for vector in range(4):
            selector.register(irq.fileno(vector), selectors.EVENT_READ, vector)
        events[2].signal()
        assert [key.data for key, _ in selector.select(0)] == [2]


def test_asyncio(irq: Irq) -> None:
    async def both() -> list[int]:
        waits = [asyncio.create_task(irq.wait_async(5.0, vector)) for vector in (0, 1)]
        await asyncio.sleep(0)
        irq.eventfds[1].signal()
        irq.eventfds[0].signal(2)
        return list(await asyncio.gather(*waits))

    with irq:
        irq.enable(2)
        assert asyncio.run(both()) == [2, 1]


def test_a_cancelled_wait_leaves_no_reader(irq: Irq) -> None:
    async def cancel() -> int:
        task = asyncio.create_task(irq.wait_async())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        irq.eventfds[0].signal()
        return await irq.wait_async(5.0)

    with irq:
        irq.enable(1)
        assert asyncio.run(cancel()) == 1


def test_one_task_awaits_a_vector(irq: Irq) -> None:
    async def two() -> int:
        first = asyncio.create_task(irq.wait_async(5.0))
        await asyncio.sleep(0)
        with pytest.raises(Misuse, match="another task"):
            await irq.wait_async(5.0)
        irq.eventfds[0].signal()
        return await first

    with irq:
        irq.enable(1)
        assert asyncio.run(two()) == 1


def test_disabled_while_it_is_awaited(irq: Irq) -> None:
    async def disable() -> None:
        task = asyncio.create_task(irq.wait_async(5.0))
        await asyncio.sleep(0)
        irq.disable()
        with pytest.raises(Misuse, match="disabled meanwhile"):
            await task

    irq.enable(1)
    asyncio.run(disable())


def test_close_frees_all(irq: Irq) -> None:
    before = open_fds()
    for _ in range(3):
        with irq:
            irq.enable()
            assert open_fds() == before + 4
    assert open_fds() == before
