"""Where the NVMe driver puts data (PRPs), against what the controller of the software machine finds there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyvfio.drivers.nvme_failures import NvmeError
from pyvfio.drivers.nvme_memory import list_room, place_data
from pyvfio.nvme.commands import Command, Completion
from pyvfio.nvme.status import DO_NOT_RETRY
from pyvfio_backends.software.hardware.devices.nvme.prp import locate
from pyvfio_backends.software.hardware.pci.config import ConfigSpace

LISTS = 0x7000_0000


class Memory:
    """A function that can read what `place_data` wrote, and nothing else."""

    config: ConfigSpace

    def __init__(self, room: bytes) -> None:
        self.room = room

    def dma_read(self, iova: int, count: int) -> bytes:
        assert 0 <= iova - LISTS <= len(self.room) - count
        return self.room[iova - LISTS : iova - LISTS + count]

    def dma_write(self, iova: int, data: bytes) -> None:
        raise AssertionError

    def dma_copy(self, target: int, source: int, count: int) -> None:
        raise AssertionError

    def signal(self, vector: int) -> None:
        raise AssertionError


@given(
    st.sampled_from([1 << 9, 1 << 12, 1 << 16]),
    st.integers(0, 300),
    st.integers(0, 127),
    st.integers(0, 1 << 16),
)
def test_data_is_where_it_was_put(page: int, pages: int, dwords: int, odd: int) -> None:
    address, count = 0x10_0000_0000 + dwords * 4 % page, pages * page + odd % page
    room = bytearray(list_room(page, count))
    prp1, prp2 = place_data(page, address, count, memoryview(room), LISTS)
    runs = locate(Memory(bytes(room)), page, prp1, prp2, count)
    assert runs == ([(address, count)] if count else [])


def test_a_list_that_goes_on_in_another() -> None:
    page = 1 << 12
    room = bytearray(list_room(page, 1200 * page))
    assert len(room) == 3 * page
    _, prp2 = place_data(page, page, 1200 * page, memoryview(room), LISTS)
    assert prp2 == LISTS
    assert int.from_bytes(room[page - 8 : page], "little") == LISTS + page


def test_a_status_that_nobody_has_a_name_for() -> None:
    error = NvmeError("disk", Command(0xC1, nsid=3), Completion(1, 0x7C4 | DO_NOT_RETRY), admin=False)
    assert str(error) == (
        "disk: command 0xc1 of namespace 0x3\n  cause: code 0xc4 (vendor specific status 0x7c4); it would fail again"
    )
    assert (error.status_type, error.code, error.final) == (7, 0xC4, True)
    again = NvmeError("disk", Command(0x06), Completion(1, 0x182), admin=True)
    assert "identify" in str(again)
    assert "it may succeed when it is sent again" in str(again)
