"""`edu`: each register as QEMU's ``docs/specs/edu.rst`` tells it, through the fabric."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from device_rig import Board
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvfio.abi import pci_regs as regs
from pyvfio.pci.edu import (
    ACK,
    BUFFER,
    COMMAND,
    COUNT,
    DMA_MASK,
    FACTOR,
    ID,
    IDENTIFICATION,
    IRQ,
    LIVE,
    RAISE,
    SOURCE,
    STATUS,
    TARGET,
    EduDma,
    EduInterrupt,
    EduStatus,
)
from pyvfio_backends.software.hardware.devices.edu import Edu, factorial
from pyvfio_backends.software.hardware.pcie.peripherals import edu


def board(device: Edu | None = None) -> Board:
    return Board(edu(device).function)


def transfer(on: Board, source: int, target: int, count: int, command: int) -> None:
    for register, value in ((SOURCE, source), (TARGET, target), (COUNT, count), (COMMAND, command)):
        on.store(register, value, 8)


def test_accesses_of_other_sizes_do_nothing() -> None:
    on = board()
    on.store(LIVE, 5)
    for offset, length, read in ((ID, 8, (1 << 64) - 1), (LIVE, 2, 0xFFFF), (LIVE, 1, 0xFF), (COUNT, 2, 0xFFFF)):
        on.store(offset, 0, length)
        assert on.load(offset, length) == read
    assert on.load(LIVE) == 0xFFFFFFFA
    assert on.load(0x0C) == on.load(RAISE) == on.load(BUFFER) == 0xFFFFFFFF, "nothing there, or write-only"


def test_it_says_who_it_is_and_lives() -> None:
    on = board()
    assert on.load(ID) == IDENTIFICATION
    on.store(ID, 0)
    on.store(LIVE, 0x12345678)
    assert (on.load(ID), on.load(LIVE)) == (IDENTIFICATION, 0xEDCBA987), "as the lab's QEMU answered"


@pytest.mark.parametrize("number", [0, 1, 5, 12, 13, 33, 34, 0xFFFFFFFF])
def test_factorials(number: int) -> None:
    on = board()
    on.store(FACTOR, number)
    wanted = math.factorial(min(number, 40)) % (1 << 32)
    assert (on.load(FACTOR), on.load(STATUS)) == (wanted, 0)
    assert factorial(number) == wanted


def test_a_factorial_takes_time_and_interrupts_when_asked_to() -> None:
    queue: list[Callable[[], None]] = []
    on = board(Edu(schedule=lambda delay, work: queue.append(work)))
    on.store(STATUS, 0xFF)
    on.store(FACTOR, 5)
    assert on.load(STATUS) == EduStatus.COMPUTING | EduStatus.INTERRUPT
    on.store(FACTOR, 6)
    assert len(queue) == 1
    queue.pop()()
    assert (on.load(FACTOR), on.load(STATUS), on.load(IRQ)) == (120, EduStatus.INTERRUPT, EduInterrupt.FACTORIAL)
    assert on.pin


def test_the_pin_stays_until_all_is_acknowledged() -> None:
    on = board()
    on.store(RAISE, 0)
    assert not on.pin
    on.store(RAISE, 0x6)
    on.store(ACK, 0x2)
    assert on.pin
    on.store(ACK, 0x4)
    assert (on.load(IRQ), on.pin) == (0, False)


def test_messages_instead_of_the_pin() -> None:
    on = board()
    on.enable_msi()
    on.store(RAISE, 1)
    on.store(RAISE, 2)
    assert (on.take_messages(), on.pin, on.load(IRQ)) == ([0, 0], False, 3)


def test_a_transfer_takes_time() -> None:
    queue: list[tuple[float, Callable[[], None]]] = []
    on = board(Edu(schedule=lambda delay, work: queue.append((delay, work))))
    on.memory[:4] = b"abcd"
    transfer(on, 0, BUFFER, 4, EduDma.RUN | EduDma.INTERRUPT)
    on.store(SOURCE, 99)
    on.store(COMMAND, EduDma.RUN | EduDma.FROM_BUFFER)
    assert (on.load(SOURCE), on.load(COMMAND), len(queue)) == (0, 5, 1)
    delay, work = queue.pop()
    assert delay == 0.1
    work()
    assert (on.load(COMMAND), on.load(IRQ), on.pin) == (EduDma.INTERRUPT, EduInterrupt.DMA, True)
    on.store(COMMAND, EduDma.FROM_BUFFER)
    assert on.load(COMMAND) == EduDma.INTERRUPT, "a command without run is none"


def test_addresses_are_cut_to_the_mask() -> None:
    on = board()
    on.memory[16:20] = b"abcd"
    transfer(on, DMA_MASK + 1 + 16, BUFFER, 4, 1)
    transfer(on, BUFFER, DMA_MASK + 1 + 32, 4, 3)
    assert on.memory[32:36] == b"abcd"
    wide = board(Edu(dma_mask=(1 << 64) - 1))
    transfer(wide, DMA_MASK + 1 + 16, BUFFER, 4, 1)
    assert wide.host.seen[-1][2:] == (DMA_MASK + 17, 4)


def test_what_fails_moves_nothing_and_ends() -> None:
    device = Edu()
    on = board(device)
    device.buffer[:4] = b"keep"
    transfer(on, 0x200000, BUFFER, 4, 5)
    assert (device.buffer[:4], on.load(COMMAND), on.load(IRQ)) == (b"keep", 4, EduInterrupt.DMA)
    command = on.function.config.command
    on.function.config.write(regs.PCI_COMMAND, 2, command & ~regs.PCI_COMMAND_MASTER)
    transfer(on, BUFFER, 0, 4, 3)
    assert (on.load(COMMAND), bytes(on.memory[:4])) == (2, bytes(4))


def test_a_reset_changes_no_register() -> None:
    on = board()
    on.store(LIVE, 1)
    on.store(RAISE, 1)
    on.function.reset()
    assert not on.pin
    assert on.function.bars[0].registers.read(LIVE, 4) == 0xFFFFFFFE
    assert on.function.bars[0].registers.read(IRQ, 4) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.integers(0, 0x1100),
            st.one_of(st.integers(BUFFER - 8, BUFFER + 0x1008), st.integers(0, (1 << 64) - 1)),
            st.one_of(st.integers(0, 0x1010), st.integers(0, (1 << 64) - 1)),
        ),
        max_size=12,
    ),
    st.binary(min_size=32, max_size=32),
)
def test_transfers_are_those_of_two_byte_arrays(steps: list[tuple[bool, int, int, int]], seed: bytes) -> None:
    device = Edu()
    on = board(device)
    on.memory[: 0x1100 + 0x1000] = seed * (0x2100 // 32)
    memory, buffer = bytearray(on.memory), bytearray(device.buffer)
    for out, address, inside, count in steps:
        transfer(on, *((inside, address) if out else (address, inside)), count, 3 if out else 1)
        first = inside - BUFFER
        if first >= 0 and first + count <= len(buffer):
            if out:
                memory[address : address + count] = buffer[first : first + count]
            else:
                buffer[first : first + count] = memory[address : address + count]
        assert on.load(COMMAND) in (0, 2)
    assert (on.memory, device.buffer) == (memory, buffer)
