"""A dma-buf of a BAR, of a kernel that no lab has: the request of ``include/uapi/linux/vfio.h`` (6.19)."""

from __future__ import annotations

import errno
import os
import struct

import pytest
from client_fake import FakeHost

from pyvfio.abi import vfio
from pyvfio.call import Call
from pyvfio.errors import KernelRefused, Misuse, NotAvailable, PyvfioError
from pyvfio.vfio.dma_buf import export
from pyvfio.vfio.feature import Features

DESCRIPTOR = 77


def features(fake: FakeHost) -> Features:
    return Features(Call(fake, os.open(os.devnull, os.O_RDONLY), "0000:01:00.0"))


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOTTY, NotAvailable), (errno.EOPNOTSUPP, NotAvailable), (errno.EINVAL, KernelRefused)],
)
def test_a_refusal(number: int, error: type[PyvfioError]) -> None:
    def refuse(buffer: bytearray) -> int:
        raise OSError(number, "refused")

    fake = FakeHost()
    fake.answers[vfio.VFIO_DEVICE_FEATURE] = refuse
    with pytest.raises(error) as caught:
        export(features(fake), "0000:01:00.0", 2, [(0, 1 << 12)])
    assert caught.value.errno == number


def test_the_request() -> None:
    asked: list[bytes] = []

    def answer(buffer: bytearray) -> int:
        asked.append(bytes(buffer))
        return DESCRIPTOR

    fake = FakeHost()
    fake.answers[vfio.VFIO_DEVICE_FEATURE] = answer
    assert export(features(fake), "0000:01:00.0", 2, [(0, 1 << 12), (1 << 14, 1 << 13)]) == DESCRIPTOR
    flags = vfio.VFIO_DEVICE_FEATURE_GET | 11
    head = struct.pack("=6I", 8 + 16 + 32, flags, 2, os.O_RDWR | os.O_CLOEXEC, 0, 2)
    assert asked == [head + struct.pack("=4Q", 0, 1 << 12, 1 << 14, 1 << 13)]


@pytest.mark.parametrize("piece", [(1 << 64, 1 << 12), (0, (1 << 64) + (1 << 12)), (-(1 << 12), 1 << 12), (0, -1)])
def test_a_piece_that_the_request_has_no_room_for(piece: tuple[int, int]) -> None:
    """What would be cut to 64 bits is another piece."""
    with pytest.raises(Misuse, match="64 bits"):
        export(features(FakeHost()), "0000:01:00.0", 2, [piece])
