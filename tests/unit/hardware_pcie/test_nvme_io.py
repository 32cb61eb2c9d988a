"""I/O commands, where their data is, and hosts that mean no good: NVM Express 1.4, 4.3 and chapter 6."""

from __future__ import annotations

import resource
import signal
import struct
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nvme_rig import DATA, NvmeHost, running

from pyvfio.errors import Misuse
from pyvfio.nvme import registers as regs
from pyvfio.nvme.commands import COMMAND_SIZE, DEALLOCATE, Command, Completion, IoOpcode, pack_ranges, parse_ranges
from pyvfio.nvme.status import Status
from pyvfio_backends.software.hardware.devices.nvme.controller import NvmeController
from pyvfio_backends.software.hardware.devices.nvme.storage import FileStorage, MemoryStorage, Namespace

PAGE, BLOCK, BLOCKS = 0x1000, 512, 2048
LIST = 0x30000


def pattern(count: int) -> bytes:
    return bytes(index * 7 + (index >> 8) & 0xFF for index in range(count))


def with_blocks() -> NvmeHost:
    host = running(blocks=BLOCKS)
    host.storage.data[:] = pattern(BLOCKS * BLOCK)
    return host


@pytest.mark.parametrize(
    ("lba", "blocks", "nsid", "status"),
    [
        (BLOCKS, 1, 1, Status.LBA_OUT_OF_RANGE),
        (BLOCKS - 1, 2, 1, Status.LBA_OUT_OF_RANGE),
        ((1 << 64) - 1, 1, 1, Status.LBA_OUT_OF_RANGE),
        (0, 1025, 1, Status.INVALID_FIELD),
        (0, 1, 0, Status.INVALID_NAMESPACE),
        (0, 1, 2, Status.INVALID_NAMESPACE),
        (0, 1, 0xFFFFFFFF, Status.INVALID_NAMESPACE),
    ],
)
@pytest.mark.parametrize("opcode", [IoOpcode.READ, IoOpcode.WRITE, IoOpcode.COMPARE])
def test_places_that_are_not_there(opcode: IoOpcode, lba: int, blocks: int, nsid: int, status: Status) -> None:
    host = with_blocks()
    before = bytes(host.memory[DATA:]), bytes(host.storage.data)
    one = host.io(opcode, lba, blocks, nsid=nsid)
    assert (one.code, one.final) == (status, True)
    assert (bytes(host.memory[DATA:]), bytes(host.storage.data)) == before


@pytest.mark.parametrize(
    ("prp1", "prp2", "blocks"),
    [
        (DATA + 2, 0, 1),
        (DATA + 4, DATA + PAGE + 4, 8),
        (DATA, DATA + PAGE + 512, 9),
        (DATA, LIST + 4, 24),
    ],
)
def test_offsets_that_may_not_be(prp1: int, prp2: int, blocks: int) -> None:
    host = with_blocks()
    assert host.io(IoOpcode.READ, 0, blocks, prp1=prp1, prp2=prp2).code == Status.PRP_OFFSET_INVALID


def test_an_offset_within_a_list() -> None:
    host = with_blocks()
    host.memory[LIST : LIST + 16] = struct.pack("<QQ", DATA + PAGE, DATA + 2 * PAGE + 8)
    assert host.io(IoOpcode.READ, 0, 24, prp2=LIST).code == Status.PRP_OFFSET_INVALID
    host.memory[LIST + PAGE - 8 : LIST + PAGE] = struct.pack("<Q", LIST + 8)
    assert host.io(IoOpcode.READ, 0, 24, prp2=LIST + PAGE - 8).code == Status.PRP_OFFSET_INVALID, "the list goes on"


def test_data_that_cannot_be_reached() -> None:
    host = with_blocks()
    one = host.io(IoOpcode.WRITE, 0, 1, prp1=0x10000000)
    assert (one.code, one.final) == (Status.DATA_TRANSFER_ERROR, False)
    assert host.io(IoOpcode.WRITE, 0, 24, prp2=0x10000000).code == Status.DATA_TRANSFER_ERROR, "the list"
    assert bytes(host.storage.data) == pattern(BLOCKS * BLOCK)


def test_one_page_two_pages_and_lists() -> None:
    host = with_blocks()
    scattered = [DATA + PAGE * place for place in (9, 3, 4, 1)]
    host.memory[LIST + PAGE - 16 : LIST + PAGE] = struct.pack("<QQ", scattered[0], LIST + PAGE)
    host.memory[LIST + PAGE : LIST + PAGE + 24] = struct.pack("<QQQ", *scattered[1:])
    for prp1, prp2, blocks, pieces in (
        (DATA + 0x204, 0, 1, [(DATA + 0x204, 512)]),
        (DATA + 0x204, DATA + 5 * PAGE, 8, [(DATA + 0x204, PAGE - 0x204), (DATA + 5 * PAGE, 0x204)]),
        (DATA + 0xE00, LIST + PAGE - 16, 33, [(DATA + 0xE00, 512), *((page, PAGE) for page in scattered)]),
    ):
        assert host.io(IoOpcode.READ, 5, blocks, prp1=prp1, prp2=prp2).ok
        found = b"".join(bytes(host.memory[at : at + count]) for at, count in pieces)
        assert found == pattern(BLOCKS * BLOCK)[5 * BLOCK : (5 + blocks) * BLOCK]
        assert host.io(IoOpcode.WRITE, 100, blocks, prp1=prp1, prp2=prp2).ok
        assert bytes(host.storage.data[100 * BLOCK : (100 + blocks) * BLOCK]) == found


def test_compare_and_zeroes() -> None:
    host = with_blocks()
    assert host.io(IoOpcode.READ, 3, 2).ok
    assert host.io(IoOpcode.COMPARE, 3, 2).ok
    host.memory[DATA] ^= 1
    assert host.io(IoOpcode.COMPARE, 3, 2).code == Status.COMPARE_FAILURE
    assert host.io(IoOpcode.WRITE_ZEROES, 3, BLOCKS - 3).ok, "no data, no limit"
    assert host.storage.data.count(0, 3 * BLOCK) == (BLOCKS - 3) * BLOCK


def manage(host: NvmeHost, ranges: list[tuple[int, int]], attributes: int = DEALLOCATE) -> Completion:
    data = pack_ranges(ranges)
    assert parse_ranges(data) == ranges
    host.memory[DATA : DATA + len(data)] = data
    number = len(ranges) - 1
    return host.do(Command(IoOpcode.DATASET_MANAGEMENT, nsid=1, prp1=DATA, cdw10=number, cdw11=attributes), 1)


def test_deallocated_blocks_are_zeros() -> None:
    host = with_blocks()
    for wrong in ((BLOCKS, 1), (0, BLOCKS + 1), ((1 << 64) - 1, 1)):
        assert manage(host, [(0, 1), wrong]).code == Status.LBA_OUT_OF_RANGE
    assert manage(host, [(0, 1)], 0).ok
    assert bytes(host.storage.data) == pattern(BLOCKS * BLOCK), "all or nothing"
    assert manage(host, [(1, 2), (5, 0), (BLOCKS - 1, 1)]).ok
    model = bytearray(pattern(BLOCKS * BLOCK))
    model[BLOCK : 3 * BLOCK] = bytes(2 * BLOCK)
    model[-BLOCK:] = bytes(BLOCK)
    assert host.storage.data == model
    host.storage.read_only = True
    assert manage(host, [(0, 1)]).code == Status.WRITE_PROTECTED


def test_storage_that_is_read_only_or_breaks(tmp_path: Path) -> None:
    host = with_blocks()
    host.storage.read_only = True
    for opcode in (IoOpcode.WRITE, IoOpcode.WRITE_ZEROES):
        assert host.io(opcode, 0, 1).code == Status.WRITE_PROTECTED
    host.storage.read_only = False

    def broken(*given: object) -> bytes:
        raise OSError(5, "broken")

    host.storage.read = host.storage.write = host.storage.flush = broken  # type: ignore[method-assign,assignment]
    assert host.io(IoOpcode.READ, 0, 1).code == Status.UNRECOVERED_READ
    assert host.io(IoOpcode.WRITE, 0, 1).code == Status.WRITE_FAULT
    assert host.io(IoOpcode.FLUSH, 0, 1).code == Status.WRITE_FAULT
    assert host.device.health.media_errors == 3
    with pytest.raises(Misuse):
        FileStorage(tmp_path / "none")
    with pytest.raises(Misuse):
        Namespace(MemoryStorage(511))
    with pytest.raises(Misuse):
        Namespace(MemoryStorage(512), order=8)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(64 * BLOCK + 100))
    storage = FileStorage(path)
    host = NvmeHost(NvmeController([Namespace(storage)]))
    host.enable()
    host.create_queue(1)
    host.memory[DATA : DATA + BLOCK] = pattern(BLOCK)
    assert host.io(IoOpcode.WRITE, 63, 1).ok
    assert host.io(IoOpcode.FLUSH, 0, 1, nsid=0xFFFFFFFF).ok
    assert path.read_bytes()[63 * BLOCK :] == pattern(BLOCK) + bytes(100)
    assert host.io(IoOpcode.WRITE, 64, 1).code == Status.LBA_OUT_OF_RANGE
    storage.close()


def on_file(path: Path) -> tuple[NvmeHost, FileStorage]:
    path.write_bytes(bytes(64 * BLOCK))
    storage = FileStorage(path)
    host = NvmeHost(NvmeController([Namespace(storage)]))
    host.enable()
    host.create_queue(1)
    return host, storage


def test_a_file_that_is_gone_before_the_first_access(tmp_path: Path) -> None:
    """It is opened then; whoever gave the command learns that the medium failed."""
    host, storage = on_file(tmp_path / "disk")
    (tmp_path / "disk").unlink()
    assert host.io(IoOpcode.READ, 0, 1).code == Status.UNRECOVERED_READ
    assert host.io(IoOpcode.WRITE, 0, 1).code == Status.WRITE_FAULT
    storage.close()


def test_a_file_without_room_fails_the_command_that_found_none(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for a full file system: EFBIG.  What is before the end is written and read all the same."""
    host, storage = on_file(tmp_path / "disk")
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (32 * BLOCK, before[1]))
    try:
        assert host.io(IoOpcode.WRITE, 40, 1).code == Status.WRITE_FAULT
        assert host.io(IoOpcode.READ, 40, 1).ok
        assert host.io(IoOpcode.WRITE, 0, 1).ok
        assert host.io(IoOpcode.FLUSH, 0, 1).ok
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
        storage.close()


def test_a_full_completion_queue_holds_commands_back() -> None:
    host = with_blocks()
    taken = []
    for _ in range(5):
        host.put(1, Command(IoOpcode.FLUSH, nsid=1))
        host.put(1, Command(IoOpcode.FLUSH, nsid=1))
        taken += host.take(1, ring=False)
        if len(taken) == 3:
            break
    assert len(taken) == 3, "one entry stays free"
    host.store(regs.doorbell(1, completion=True), host.heads[1])
    assert len(host.take(1)) == 1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([one for one in IoOpcode if one is not IoOpcode.DATASET_MANAGEMENT]),
            st.integers(0, 70),
            st.integers(1, 40),
            st.integers(0, PAGE // 4 - 1).map(lambda words: words * 4),
            st.integers(0, 1 << 32),
        ),
        max_size=12,
    ),
    st.sampled_from([9, 12]),
)
def test_random_io_is_that_of_a_byte_array(steps: list[tuple[IoOpcode, int, int, int, int]], order: int) -> None:
    host = running(blocks=64, order=order)
    model = bytearray(64 << order)
    for opcode, lba, blocks, offset, seed in steps:
        random = Random(seed)
        count, at = blocks << order, lba << order
        pages = random.sample(range(64), 45)
        address = DATA + PAGE * pages[0] + offset
        needed = -(-max(0, count - (PAGE - offset)) // PAGE)
        rest = [DATA + PAGE * page for page in pages[1 : 1 + needed]]
        prp2 = LIST if needed > 1 else rest[0] if rest else 0
        host.memory[LIST : LIST + 8 * len(rest)] = struct.pack(f"<{len(rest)}Q", *rest)
        runs = [(address, min(count, PAGE - offset))]
        for page in rest:
            runs.append((page, min(PAGE, count - sum(length for _, length in runs))))
        data = random.randbytes(count)
        if opcode is IoOpcode.COMPARE and random.random() < 0.5:
            data = bytes(model[at : at + count]).ljust(count, b"\0")
        done = 0
        for start, length in runs:
            host.memory[start : start + length] = data[done : done + length]
            done += length
        one = host.io(opcode, lba, blocks, prp1=address, prp2=prp2)
        found = b"".join(bytes(host.memory[start : start + length]) for start, length in runs)
        if opcode is IoOpcode.FLUSH:
            assert one.ok
        elif lba + blocks > 64:
            assert one.code == Status.LBA_OUT_OF_RANGE
        elif opcode is IoOpcode.READ:
            assert (one.ok, found) == (True, model[at : at + count])
        elif opcode is IoOpcode.COMPARE:
            assert one.ok == (data == model[at : at + count])
        else:
            assert one.ok
            model[at : at + count] = data if opcode is IoOpcode.WRITE else bytes(count)
        assert host.storage.data == model


ADDRESSES = st.one_of(
    st.integers(0, 0x100000 - 1),
    st.integers(0, (1 << 64) - 1),
    st.sampled_from([0, 0x1000, 0x5000, DATA, LIST, LIST + 0xFF8, (1 << 64) - 0x1000, 0xFFFFF000]),
)
WORDS = st.one_of(st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.sampled_from([0x30001, 0x10001, 0xFFFFFFFF]))
ENTRIES = st.one_of(
    st.binary(min_size=COMMAND_SIZE, max_size=COMMAND_SIZE),
    st.builds(
        Command,
        st.one_of(st.integers(0, 0x0D), st.integers(0, 255)),
        st.integers(0, 0xFFFF),
        st.one_of(st.integers(0, 2), WORDS),
        ADDRESSES,
        ADDRESSES,
        *[WORDS] * 6,
    ).map(Command.pack),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("entry"), st.integers(0, 1), ENTRIES),
            st.tuples(st.just("bell"), st.integers(0, 5), WORDS),
            st.tuples(st.just("register"), st.integers(0, 15).map(lambda word: 4 * word), WORDS),
            st.tuples(st.just("memory"), st.integers(0, 0x3FF0), st.binary(min_size=16, max_size=64)),
        ),
        max_size=30,
    )
)
def test_nothing_that_a_host_does_raises(steps: list[tuple[str, int, int | bytes]]) -> None:
    """Entries, doorbells and registers of any value: the controller answers, ignores or fails, and can be reset."""
    host = running(blocks=64)
    for what, place, value in steps:
        if isinstance(value, int):
            host.store(regs.DOORBELLS + 4 * place if what == "bell" else place, value)
        elif what == "entry":
            at = host.rings(place)[0] + host.tails[place] * COMMAND_SIZE
            host.memory[at : at + COMMAND_SIZE] = value
            host.tails[place] = (host.tails[place] + 1) % host.sizes[place]
            host.ring(place)
            host.take(place)
        else:
            host.memory[0x1000 + place : 0x1000 + place + len(value)] = value
        for queue in host.device.completions.values():
            assert 0 <= queue.head < queue.size
            assert 0 <= queue.tail < queue.size
        assert host.load(regs.CSTS) & ~0xF == 0
    host.store(regs.CC, 0)
    host.function.reset()
    assert host.device.submissions == {}
    assert len(host.storage.data) == 64 * BLOCK
