"""``struct vfio_irq_set``: everything the kernel refuses, then what it takes."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvfio.abi import vfio as abi
from pyvfio.process import ProcessMemory
from pyvfio_backends.software.linux.uaccess import AddressArgument, BufferArgument
from pyvfio_backends.software.linux.vfio_irqs import IrqRequest, read_irq_set

NONE, BOOL, EVENTFD = abi.VFIO_IRQ_SET_DATA_NONE, abi.VFIO_IRQ_SET_DATA_BOOL, abi.VFIO_IRQ_SET_DATA_EVENTFD
TRIGGER = abi.VFIO_IRQ_SET_ACTION_TRIGGER
COUNTS = (1, 0, 4)
U32 = (1 << 32) - 1


def read(flags: int, index: int, start: int, count: int, data: bytes = b"", argsz: int | None = None) -> IrqRequest:
    size = 20 + len(data) if argsz is None else argsz
    buffer = bytearray(struct.pack("=5I", size, flags, index, start, count) + data)
    argument = BufferArgument(ProcessMemory(), memoryview(buffer))
    return read_irq_set(argument, len(COUNTS), lambda number: COUNTS[number])


@pytest.mark.parametrize(
    ("flags", "index", "start", "count", "data", "argsz"),
    [
        (NONE | TRIGGER, 0, 0, 1, b"", 19),
        (NONE | TRIGGER, 3, 0, 1, b"", None),
        (NONE | TRIGGER, 1, 0, 0, b"", None),
        (NONE | TRIGGER, 2, 4, 0, b"", None),
        (NONE | TRIGGER, 2, 3, 2, b"", None),
        (NONE | TRIGGER, 2, 1, U32 - 1, b"", None),
        (NONE | TRIGGER, 2, U32, 1, b"", None),
        (1 << 6 | NONE | TRIGGER, 0, 0, 1, b"", None),
        (TRIGGER, 0, 0, 1, b"", None),
        (NONE | BOOL | TRIGGER, 0, 0, 1, b"\1", None),
        (BOOL | TRIGGER, 2, 0, 4, b"\1\1\1", None),
        (EVENTFD | TRIGGER, 2, 0, 2, bytes(7), None),
    ],
)
def test_refused(flags: int, index: int, start: int, count: int, data: bytes, argsz: int | None) -> None:
    with pytest.raises(OSError) as caught:
        read(flags, index, start, count, data, argsz)
    assert caught.value.errno == errno.EINVAL


def test_bad_address() -> None:
    with pytest.raises(OSError) as caught:
        read_irq_set(AddressArgument(ProcessMemory(), 8), 1, lambda number: 1)
    assert caught.value.errno == errno.EFAULT


def test_values() -> None:
    assert read(NONE | TRIGGER, 2, 0, 0) == IrqRequest(2, 0, 0, TRIGGER, NONE, ())
    assert read(EVENTFD | TRIGGER, 2, 1, 2, struct.pack("=ii", 7, -1)).values == (7, -1)
    assert read(BOOL | TRIGGER, 2, 2, 2, b"\0\xff").values == (0, 255)
    many = read(BOOL, 2, 0, 1, b"\1 and more than is said")
    assert (many.values, many.action, many.flags) == ((1,), 0, BOOL)


@given(st.integers(0, U32), st.integers(0, U32), st.integers(0, 4), st.integers(0, 127), st.binary(max_size=32))
def test_never_reads_past_what_was_said(start: int, count: int, index: int, flags: int, data: bytes) -> None:
    try:
        request = read(flags, index, start, count, data)
    except OSError as error:
        code = error.errno
    else:
        code = 0
        assert request.start + request.count <= COUNTS[request.index]
        assert len(request.values) == (0 if request.data == NONE else request.count)
    assert code in (0, errno.EINVAL)
