"""The channel's data path takes IDAWs that go on where the block before ended into one access, and no others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvfio.css.ccw import CcwFlag
from pyvfio.css.instructions import StorageError
from pyvfio.css.orb import Orb
from pyvfio_backends.software.hardware.css.area import Area, ChannelCheck, CheckedStorage
from pyvfio_backends.software.hardware.css.datapath import DataPath

BLOCK = 4 * 1024
LIST = 0x1000


class Counting:
    """Storage of 64 blocks with the IDAWs in the second, which counts accesses to data."""

    def __init__(self, words: list[int]) -> None:
        self.bytes = bytearray(64 * BLOCK)
        self.words = words
        for number, word in enumerate(words):
            self.bytes[LIST + 8 * number : LIST + 8 * number + 8] = word.to_bytes(8, "big")
        self.accesses = 0

    def read(self, address: int, count: int) -> bytes:
        if address >= 2 * BLOCK:
            self.accesses += 1
        elif address + count > LIST + 8 * len(self.words):
            raise StorageError(address, count, "read")
        if address + count > len(self.bytes):
            raise StorageError(address, count, "read")
        return bytes(self.bytes[address : address + count])

    def write(self, address: int, data: bytes) -> None:
        self.accesses += 1
        if address + len(data) > len(self.bytes):
            raise StorageError(address, len(data), "write")
        self.bytes[address : address + len(data)] = data


def path(storage: Counting, count: int) -> DataPath:
    made = DataPath(Area(CheckedStorage(storage, 0), Orb(fmt=1, c64=True)), lambda: (0, 0, 0))
    made.begin(CcwFlag.IDA, count, LIST)
    return made


def test_an_idaw_that_is_missing_is_found_when_its_bytes_come() -> None:
    storage = Counting([4 * BLOCK, 5 * BLOCK])
    with pytest.raises(ChannelCheck):
        path(storage, 3 * BLOCK).write_to_memory(b"a" * 3 * BLOCK)
    assert storage.bytes[4 * BLOCK : 6 * BLOCK] == b"a" * 2 * BLOCK


def test_blocks_in_a_row_are_one_access() -> None:
    storage = Counting([(4 + number) * BLOCK for number in range(20)])
    path(storage, 20 * BLOCK).write_to_memory(b"a" * 20 * BLOCK)
    assert storage.accesses == 1
    assert path(storage, 20 * BLOCK).read_from_memory(20 * BLOCK) == b"a" * 20 * BLOCK
    assert storage.accesses == 2


@given(
    st.lists(st.integers(4, 60), min_size=5, max_size=12, unique=True),
    st.integers(0, 100),
    st.lists(st.integers(1, 9999)),
)
def test_bytes_go_where_the_idaws_say(blocks: list[int], offset: int, steps: list[int]) -> None:
    words = [blocks[0] * BLOCK + offset, *(block * BLOCK for block in blocks[1:])]
    size = len(blocks) * BLOCK - offset
    data = bytes(number * 31 % 251 for number in range(size))
    storage, at = Counting(words), 0
    channel = path(storage, size)
    for step in [*steps, size]:
        channel.write_to_memory(data[at : at + step])
        at = min(at + step, size)
    there = b"".join(bytes(storage.bytes[block * BLOCK : block * BLOCK + BLOCK]) for block in blocks)
    assert there[offset:] == data
    channel, found = path(storage, size), b""
    for step in [*steps, size]:
        found += channel.read_from_memory(min(step, size - len(found)))
    assert found == data
