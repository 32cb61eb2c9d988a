"""The copier: its registers and descriptors as `pyvfio.pci.copier` documents them."""

from __future__ import annotations

import binascii
import struct

import pytest
from device_rig import Board
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvfio.pci.copier import (
    CONTROL,
    COUNT_LIMIT,
    COUNTER,
    DESCRIPTOR_SIZE,
    DONE,
    ENTRIES,
    HEAD,
    LIMIT,
    MAGIC,
    MAGIC_VALUE,
    RECORD_SIZE,
    RING,
    STATUS,
    TAIL,
    CopierStatus,
    Descriptor,
    Operation,
    Outcome,
    Record,
)
from pyvfio_backends.software.hardware.pcie.peripherals import copier

AT, COUNT_AT, RECORDS, SPACE, SIZE = 0x1000, 0x3000, 0x4000, 0x10000, 8


class Host(Board):
    def __init__(self) -> None:
        super().__init__(copier().function)
        self.enable_msix(0, 4, bar=1)
        for register, value, width in ((RING, AT, 8), (COUNTER, COUNT_AT, 8), (ENTRIES, SIZE, 4), (CONTROL, 1, 4)):
            self.store(register, value, width)
        self.tail = 0

    def do(self, *descriptors: Descriptor) -> list[Record | None]:
        for descriptor in descriptors:
            at = AT + self.tail * DESCRIPTOR_SIZE
            descriptor.record = descriptor.record or RECORDS + self.tail * RECORD_SIZE
            self.memory[at : at + DESCRIPTOR_SIZE] = descriptor.pack()
            self.memory[descriptor.record & ~15 : (descriptor.record & ~15) + RECORD_SIZE] = bytes(RECORD_SIZE)
            self.tail = (self.tail + 1) % SIZE
        self.store(TAIL, self.tail)
        return [Record.parse(bytes(self.memory[one.record : one.record + RECORD_SIZE])) for one in descriptors]


def test_formats() -> None:
    data = Descriptor(1, 0x20, 0x30, 0x40, 0x50, 0x60, flags=1, vector=2).pack()
    assert data == struct.pack("<BBHIQQQQ24x", 1, 1, 2, 0x20, 0x30, 0x40, 0x50, 0x60)
    assert Descriptor.parse(data).pack() == data
    assert Record(Outcome.DONE, 3, 4).pack() == b"\x01\0\0\0\x03\0\0\0\x04" + bytes(7)
    assert Record.parse(bytes(16)) is None


@pytest.mark.parametrize(
    ("register", "value", "width"), [(RING, 32, 8), (COUNTER, 4, 8), (ENTRIES, 1, 4), (ENTRIES, 4097, 4)]
)
def test_a_ring_that_cannot_be(register: int, value: int, width: int) -> None:
    host = Host()
    host.store(register, value, width)
    assert host.load(register, width) != value, "not while it runs"
    host.store(CONTROL, 0)
    assert host.load(STATUS) == CopierStatus.HALTED
    host.store(register, value, width)
    host.store(CONTROL, 1)
    assert host.load(STATUS) == CopierStatus.FAILED


def test_a_tail_outside_or_a_ring_out_of_reach_fails() -> None:
    host = Host()
    host.store(TAIL, SIZE)
    assert host.load(STATUS) == CopierStatus.FAILED
    host.store(CONTROL, 0)
    host.store(RING, 0x10000000, 8)
    host.store(CONTROL, 1)
    host.store(TAIL, 1)
    assert (host.load(STATUS), host.load(DONE)) == (CopierStatus.FAILED, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        Descriptor(5),
        Descriptor(255),
        Descriptor(Operation.COPY, COUNT_LIMIT + 1),
        Descriptor(Operation.NOTHING, flags=2),
        Descriptor(Operation.NOTHING, vector=4),
        Descriptor(Operation.NOTHING, reserved=b"\1" + bytes(23)),
    ],
)
def test_bad_descriptors(wrong: Descriptor) -> None:
    host = Host()
    assert host.do(wrong) == [Record(Outcome.BAD_DESCRIPTOR)]
    assert host.do(Descriptor(Operation.NOTHING)) == [Record(Outcome.DONE)], "it goes on"


def test_what_cannot_be_reached() -> None:
    host = Host()
    for operation in (Operation.COPY, Operation.CHECK, Operation.COMPARE):
        for source in (0x10000000, (1 << 64) - 8):
            (record,) = host.do(Descriptor(operation, 64, source, SPACE))
            assert record is not None
            assert record.status is Outcome.FAULT


def test_each_operation() -> None:
    host = Host()
    assert (host.load(MAGIC), host.load(LIMIT)) == (MAGIC_VALUE, COUNT_LIMIT)
    host.memory[SPACE : SPACE + 64] = bytes(range(64))
    copy = Descriptor(Operation.COPY, 60, SPACE, SPACE + 4, flags=1, vector=3)
    check = Descriptor(Operation.CHECK, 64, SPACE, flags=1, vector=1)
    fill = Descriptor(Operation.FILL, 11, target=SPACE + 100, pattern=0x0807060504030201)
    compare = Descriptor(Operation.COMPARE, 64, SPACE, SPACE + 4)
    moved = bytes(range(4)) + bytes(range(60))
    assert host.do(copy, check, fill, compare) == [
        Record(Outcome.DONE, 60),
        Record(Outcome.DONE, 64, binascii.crc32(moved)),
        Record(Outcome.DONE, 11),
        Record(Outcome.DIFFERENT, 4),
    ]
    assert host.memory[SPACE : SPACE + 64] == moved
    assert host.memory[SPACE + 100 : SPACE + 112] == b"\1\2\3\4\5\6\7\x08\1\2\3\0"
    assert host.take_messages() == [3, 1]
    assert (host.load(HEAD), host.load(DONE), host.memory[COUNT_AT]) == (4, 4, 4)


STEPS = st.tuples(
    st.sampled_from([Operation.COPY, Operation.FILL, Operation.COMPARE, Operation.CHECK]),
    st.integers(0, 300),
    st.integers(0, 500),
    st.integers(0, 500),
    st.integers(0, (1 << 64) - 1),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=30), st.binary(min_size=80, max_size=80))
def test_random_work_is_that_of_a_byte_array(steps: list[tuple[Operation, int, int, int, int]], seed: bytes) -> None:
    host = Host()
    model = bytearray(seed * 10)
    host.memory[SPACE : SPACE + 800] = model
    for operation, count, source, target, pattern in steps:
        (record,) = host.do(Descriptor(operation, count, SPACE + source, SPACE + target, pattern=pattern))
        given, other = bytes(model[source : source + count]), bytes(model[target : target + count])
        wanted = Record(Outcome.DONE, count)
        if operation is Operation.COPY:
            model[target : target + count] = given
        elif operation is Operation.FILL:
            model[target : target + count] = (pattern.to_bytes(8, "little") * 40)[:count]
        elif operation is Operation.CHECK:
            wanted = Record(Outcome.DONE, count, binascii.crc32(given))
        elif given != other:
            wanted = Record(Outcome.DIFFERENT, [a == b for a, b in zip(given, other, strict=True)].index(False))
        assert (record, host.memory[SPACE : SPACE + 800]) == (wanted, model)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(0, 15), st.one_of(st.integers(0, 9), st.integers(0, 0xFFFFFFFF))),
            st.binary(min_size=DESCRIPTOR_SIZE, max_size=DESCRIPTOR_SIZE),
        ),
        max_size=30,
    )
)
def test_nothing_that_a_host_does_raises(steps: list[tuple[int, int] | bytes]) -> None:
    host = Host()
    for step in steps:
        if isinstance(step, bytes):
            at = AT + host.load(HEAD) % SIZE * DESCRIPTOR_SIZE
            host.memory[at : at + DESCRIPTOR_SIZE] = step
            host.store(TAIL, (host.load(HEAD) + 1) % SIZE)
        else:
            host.store(4 * step[0], step[1])
        assert host.load(STATUS) in set(CopierStatus)
