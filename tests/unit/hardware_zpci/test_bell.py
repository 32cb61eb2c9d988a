"""The bell: every way in which a command can fail, then that it really copies and signals."""

from __future__ import annotations

import binascii

import pytest

from pyvfio.pci import bell
from pyvfio.pci.bell import BellStatus
from pyvfio_backends.software.description import FunctionSpec
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.zpci import OperandException, ZpciFunction
from pyvfio_backends.software.hardware.zpci.models import build_function

BASE = 0x1_0000_0000


class Memory:
    """A DMA space of 64 KiB."""

    def __init__(self) -> None:
        self.data = bytearray(1 << 16)

    def _check(self, iova: int, count: int, write: bool) -> int:
        if not BASE <= iova <= BASE + len(self.data) - count:
            raise DmaFault(iova, count, write=write)
        return iova - BASE

    def read(self, iova: int, count: int) -> bytes:
        at = self._check(iova, count, False)
        return bytes(self.data[at : at + count])

    def write(self, iova: int, data: bytes) -> None:
        at = self._check(iova, len(data), True)
        self.data[at : at + len(data)] = data

    def copy(self, target: int, source: int, count: int) -> None:
        data = self.read(source, count)
        self.write(target, data)


class Rig:
    def __init__(self) -> None:
        self.work: list[tuple[float, object]] = []
        self.function = build_function(FunctionSpec(uid=0x60, fid=0x60, model="virtio-bell"), 0)
        self.memory = Memory()
        self.sent: list[int] = []
        self.start(self.function)

    def start(self, function: ZpciFunction) -> None:
        self.function = function
        function.enable()
        function.dma = self.memory
        function.register_interrupts(lambda address, data: self.sent.append(data))
        function.store(15, 4, 2, 6)
        function.store(15, 0x42, 2, 0x8000)
        for vector in range(4):
            function.store(1, 16 * vector + 8, 4, vector)
            function.store(1, 16 * vector + 12, 4, 0)

    def set(self, register: int, value: int, length: int = 4) -> None:
        self.function.store(bell.BAR, register, length, value)

    def get(self, register: int, length: int = 4) -> int:
        return self.function.load(bell.BAR, register, length)

    def ring(self, command: int, *, source: int = BASE, target: int = BASE + 0x1000, count: int = 16) -> BellStatus:
        self.set(bell.SOURCE, source, 8)
        self.set(bell.TARGET, target, 8)
        self.set(bell.COUNT, count)
        self.set(bell.COMMAND, command)
        return BellStatus(self.get(bell.STATUS))


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize("command", [0, 5, 0xFFFFFFFF])
def test_an_unknown_command_is_an_error(rig: Rig, command: int) -> None:
    assert rig.ring(command) == BellStatus.DONE | BellStatus.ERROR | BellStatus.BAD_COMMAND


@pytest.mark.parametrize("command", [bell.BellCommand.COPY, bell.BellCommand.FILL, bell.BellCommand.CHECK])
def test_dma_that_is_not_mapped_is_an_error_with_its_address(rig: Rig, command: int) -> None:
    rig.set(bell.VECTOR, 1)
    assert rig.ring(command, source=0x5000, target=0x6000) == BellStatus.DONE | BellStatus.ERROR
    assert rig.get(bell.FAULT, 8) == (0x6000 if command == bell.BellCommand.FILL else 0x5000)
    assert rig.sent == [1]
    assert not any(rig.memory.data)


def test_a_function_that_is_not_bus_master_says_so(rig: Rig) -> None:
    rig.function.store(15, 4, 2, 2)
    rig.set(bell.VECTOR, 0)
    assert rig.ring(bell.BellCommand.COPY) == BellStatus.DONE | BellStatus.ERROR | BellStatus.MASTER_OFF
    assert rig.sent == []


def test_a_count_that_is_too_large_is_an_error(rig: Rig) -> None:
    assert rig.ring(bell.BellCommand.FILL, count=(16 << 20) + 1) & BellStatus.ERROR


def test_a_bad_vector_is_an_error_but_the_work_is_done(rig: Rig) -> None:
    rig.memory.data[:4] = b"data"
    rig.set(bell.VECTOR, 4)
    assert rig.ring(bell.BellCommand.COPY, count=4) == BellStatus.DONE | BellStatus.ERROR | BellStatus.BAD_VECTOR
    assert rig.memory.data[0x1000:0x1004] == b"data"


@pytest.mark.parametrize(("offset", "length"), [(0x10, 8), (0x14, 2), (0x02, 2), (0x30, 4), (0x40, 4), (0x0C, 8)])
def test_registers_are_accessed_whole(rig: Rig, offset: int, length: int) -> None:
    with pytest.raises(OperandException):
        rig.function.load(bell.BAR, offset, length)


def test_read_only_registers_stay(rig: Rig) -> None:
    for register in (bell.MAGIC, bell.SERIAL, bell.FAULT):
        rig.set(register, 0x55)
    assert (rig.get(bell.MAGIC), rig.get(bell.SERIAL), rig.get(bell.FAULT)) == (bell.MAGIC_VALUE, 0, 0)


def test_copy_moves_bytes_and_signals(rig: Rig) -> None:
    rig.memory.data[:16] = b"ring the doorbell"[:16]
    rig.set(bell.VECTOR, 2)
    assert rig.ring(bell.BellCommand.COPY) == BellStatus.DONE
    assert rig.memory.data[0x1000:0x1010] == b"ring the doorbel"
    assert (rig.sent, rig.get(bell.SERIAL)) == ([2], 1)
    rig.set(bell.STATUS, BellStatus.DONE)
    assert rig.get(bell.STATUS) == 0


def test_fill_check_and_interrupt(rig: Rig) -> None:
    rig.set(bell.PATTERN, 0x1A5)
    assert rig.ring(bell.BellCommand.FILL, count=3) == BellStatus.DONE
    assert rig.memory.data[0x1000:0x1004] == b"\xa5\xa5\xa5\0"
    assert rig.ring(bell.BellCommand.CHECK, source=BASE + 0x1000, count=3) == BellStatus.DONE
    assert rig.get(bell.PATTERN) == binascii.crc32(b"\xa5" * 3)
    rig.set(bell.VECTOR, 3)
    assert rig.ring(bell.BellCommand.INTERRUPT) == BellStatus.DONE
    assert rig.sent == [3]


def test_a_delayed_command_is_done_later_and_lost_by_a_reset(rig: Rig) -> None:
    later: list[tuple[float, object]] = []
    spec = FunctionSpec(uid=0x61, fid=0x61, model="virtio-bell", options={"delay": 0.5})
    rig.start(build_function(spec, 1, lambda delay, work: later.append((delay, work))))
    assert rig.ring(bell.BellCommand.FILL) == 0
    assert rig.ring(bell.BellCommand.FILL) == 0
    (delay, first), (_, second) = later
    assert delay == 0.5
    first()  # type: ignore[operator]
    assert rig.get(bell.STATUS) == BellStatus.DONE
    rig.function.disable()
    rig.function.enable()
    second()  # type: ignore[operator]
    assert rig.get(bell.SERIAL) == 0
