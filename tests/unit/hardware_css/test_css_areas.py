"""Where data go: MIDAWs, READ BACKWARD, keys and limits; first all that is refused."""

from __future__ import annotations

import pytest
from css_rig import DATA, PROGRAM, SCHID, Bench, Memory

from pyvfio.css import (
    Ccw,
    CcwFlag,
    Cstat,
    Dstat,
    Irb,
    Midaw,
    MidawFlag,
    OperandException,
    Orb,
    SenseId,
    Stctl,
    midal_over,
)
from pyvfio.css.instructions import StorageError
from pyvfio.css.protection import KeyedStorage, StorageProtected
from pyvfio_backends.software.hardware.css import VIRTUAL, Channel, ControlUnit, Ending
from pyvfio_backends.software.hardware.css.controlunit import DONE
from pyvfio_backends.software.hardware.css.datapath import MOST_BYTES, MOST_CCWS
from pyvfio_backends.software.hardware.devices.echo import Echo

ENDED = Dstat.CHANNEL_END | Dstat.DEVICE_END
LIST = 0x12000
F1 = Orb(fmt=1, cpa=PROGRAM)
F2 = Orb(fmt=1, c64=True, cpa=PROGRAM)
MIDAWS = Orb(fmt=1, mida=True, cpa=PROGRAM)
LAST, SKIP, DTI = MidawFlag.LAST, MidawFlag.SKIP, MidawFlag.DTI
IDA, MIDA, CD, CC, SLI = CcwFlag.IDA, CcwFlag.MIDA, CcwFlag.CD, CcwFlag.CC, CcwFlag.SLI
BACKWARD = 0x0C


class Block(ControlUnit):
    """Has one block of data: READ brings it, READ BACKWARD from its end on, WRITE replaces it with all there is."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__(SenseId(0x1234, 1, 0x5678, 1))
        self.data = data

    def command(self, code: int, channel: Channel) -> Ending:
        if code == 0x02:
            channel.write_to_memory(self.data)
        elif code == BACKWARD:
            channel.write_to_memory(self.data[::-1])
        else:
            pieces = []
            while channel.left:
                pieces.append(channel.read_from_memory(channel.left))
            self.data = b"".join(pieces)
        return DONE


def started(bench: Bench, orb: Orb, *ccws: Ccw, words: bytes = b"") -> Irb:
    bench.memory.write(LIST, words)
    return bench.start(b"".join(ccw.to_bytes() for ccw in ccws).hex(), orb)


def midal(*words: Midaw) -> bytes:
    return b"".join(word.to_bytes() for word in words)


# -- MIDAWs --------------------------------------------------------------------------------------------------------

GOOD = (Midaw(DATA, 4), Midaw(DATA + 0x100, 4, LAST))


@pytest.mark.parametrize(
    ("orb", "ccw", "words"),
    [
        (F1, Ccw(0x02, MIDA, 8, LIST), GOOD),  # the ORB does not allow it
        (MIDAWS, Ccw(0x02, MIDA | IDA, 8, LIST), GOOD),
        (MIDAWS, Ccw(0x02, MIDA | CcwFlag.SKIP, 8, LIST), GOOD),
    ],
)
def test_a_ccw_that_may_not_have_midaws(orb: Orb, ccw: Ccw, words: tuple[Midaw, ...]) -> None:
    scsw = started(Bench(Block(b"12345678")), orb, ccw, words=midal(*words)).scsw
    assert (scsw.cstat, scsw.dstat) == (Cstat.PROGRAM_CHECK, 0)


@pytest.mark.parametrize(
    "words",
    [
        (Midaw(DATA, 0), Midaw(DATA, 8, LAST)),
        (Midaw(DATA, 9, LAST),),  # more than the CCW's count
        (Midaw(DATA, 4, LAST),),  # less
        (Midaw(DATA, 4), Midaw(DATA, 5, LAST)),
        (Midaw(DATA + 0xFFC, 8, LAST),),  # over the boundary of a page
        (Midaw(DATA, 8, LAST | DTI),),
        (Midaw(DATA, 8, MidawFlag(0x90)),),
        (Midaw(DATA, 8, LAST, reserved=1),),
        (Midaw(0x7000000, 8, LAST),),
        (Midaw((1 << 64) - 8, 8, LAST),),
    ],
)
def test_a_midaw_that_is_wrong(words: tuple[Midaw, ...]) -> None:
    scsw = started(Bench(Block(b"12345678")), MIDAWS, Ccw(0x02, MIDA, 8, LIST), words=midal(*words)).scsw
    assert (scsw.cstat, scsw.dstat) == (Cstat.PROGRAM_CHECK, ENDED)
    assert scsw.cpa == PROGRAM + 8


@pytest.mark.parametrize("at", [LIST + 8, LIST + 0xFF0, 0x7000000, 0x8FFF0])
def test_a_list_of_midaws_that_is_wrong(at: int) -> None:
    bench = Bench(Block(b"12345678"))
    bench.memory.write(min(at, 0x8FFE0), midal(*GOOD))
    scsw = started(bench, MIDAWS, Ccw(0x02, MIDA, 8, at)).scsw
    assert scsw.cstat == Cstat.PROGRAM_CHECK


def test_a_virtual_channel_subsystem_has_none() -> None:
    bench = Bench(Block(b"12345678"), VIRTUAL)
    with pytest.raises(OperandException):
        bench.ssch(MIDAWS)
    assert started(bench, F1, Ccw(0x02, MIDA, 8, LIST), words=midal(*GOOD)).scsw.cstat == Cstat.PROGRAM_CHECK


def test_midaws_scatter_and_gather() -> None:
    bench = Bench(Block(b"abcdefghij"))
    bench.memory.add(0xAB00000000, 0x1000)
    words = midal(Midaw(DATA + 0xFFF, 1), Midaw(0xAB00000FFE, 2), Midaw(DATA, 3, SKIP), Midaw(DATA + 5, 4, LAST))
    assert started(bench, MIDAWS, Ccw(0x02, MIDA, 10, LIST), words=words).scsw.ok
    assert bench.memory.read(DATA + 0xFFF, 1) + bench.memory.read(0xAB00000FFE, 2) == b"abc"
    assert bench.memory.read(DATA, 9) == bytes(5) + b"ghij"
    assert started(bench, MIDAWS, Ccw(0x01, MIDA, 10, LIST), words=words).scsw.ok
    assert bench.device is not None
    assert bench.device.data == b"abc" + bytes(3) + b"ghij"  # type: ignore[attr-defined]


def test_midaws_in_a_data_chain_with_idaws_and_a_short_block() -> None:
    bench = Bench(Block(b"abcdefgh"))
    bench.put(LIST + 0x100, "00020100")
    chain = [Ccw(0x02, MIDA | CD, 4, LIST), Ccw(0, IDA | SLI, 6, LIST + 0x100)]
    scsw = started(bench, MIDAWS, *chain, words=midal(*midal_over(DATA, 4))).scsw
    assert (scsw.ok, scsw.count) == (True, 2)
    assert bench.memory.read(DATA, 4) + bench.memory.read(0x20100, 4) == b"abcdefgh"


def test_a_count_that_ends_before_the_list_does() -> None:
    bench = Bench(Block(b"abcdefgh"))
    scsw = started(bench, MIDAWS, Ccw(0x02, MIDA, 4, LIST), words=midal(Midaw(DATA, 4), Midaw(0, 0))).scsw
    assert scsw.cstat == Cstat.INCORRECT_LENGTH
    assert bench.memory.read(DATA, 5) == b"abcd\0"


# -- READ BACKWARD -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orb", "ccw", "words"),
    [
        (F1, Ccw(BACKWARD, SLI, 8, 6), b""),  # below address 0
        (F1, Ccw(BACKWARD, SLI, 8, 0x90000), b""),
        (F1, Ccw(BACKWARD, SLI | IDA, 8, LIST), bytes.fromhex("00021003 00020800")),  # not the last byte of a block
        (F1, Ccw(BACKWARD, SLI | IDA, 8, LIST), bytes.fromhex("00021003 00021000")),
        (F2, Ccw(BACKWARD, SLI | IDA, 8, LIST), bytes.fromhex("0000000000021003 00000000000207ff")),
        (MIDAWS, Ccw(BACKWARD, SLI | MIDA, 8, LIST), midal(Midaw(DATA + 6, 8, LAST))),
    ],
)
def test_read_backward_that_is_wrong(orb: Orb, ccw: Ccw, words: bytes) -> None:
    scsw = started(Bench(Block(b"12345678")), orb, ccw, words=words).scsw
    assert (scsw.cstat, scsw.dstat) == (Cstat.PROGRAM_CHECK, ENDED)


@pytest.mark.parametrize(
    ("orb", "ccws", "words", "end"),
    [
        (F1, [Ccw(BACKWARD, SLI, 8, 0x21003)], b"", 0x21003),
        (F1, [Ccw(BACKWARD, SLI | IDA, 8, LIST)], bytes.fromhex("00021003 00020fff"), 0x21003),
        (F2, [Ccw(BACKWARD, IDA, 8, LIST)], bytes.fromhex("0000000000021003 0000000000020fff"), 0x21003),
        (MIDAWS, [Ccw(BACKWARD, MIDA, 8, LIST)], midal(Midaw(0x21003, 4), Midaw(0x20FFF, 4, LAST)), 0x21003),
        (F1, [Ccw(BACKWARD, CD, 3, 0x21003), Ccw(0x02, SLI, 5, 0x21000)], b"", 0x21003),
    ],
)
def test_read_backward_leaves_the_block_as_it_is_written(orb: Orb, ccws: list[Ccw], words: bytes, end: int) -> None:
    bench = Bench(Block(b"12345678"))
    assert started(bench, orb, *ccws, words=words).scsw.ok
    assert bench.memory.read(end - 7, 8) == b"12345678"


def test_read_backward_with_too_much_and_too_little_room() -> None:
    bench = Bench(Block(b"12345678"))
    scsw = started(bench, F1, Ccw(BACKWARD, count=10, cda=0x21003)).scsw
    assert (scsw.cstat, scsw.count) == (Cstat.INCORRECT_LENGTH, 2)
    assert bench.memory.read(0x20FFA, 10) == bytes(2) + b"12345678"
    bench.memory.write(0x20FFA, bytes(10))
    assert started(bench, F1, Ccw(BACKWARD, count=3, cda=0x21003)).scsw.cstat == Cstat.INCORRECT_LENGTH
    assert bench.memory.read(0x20FFA, 10) == bytes(7) + b"678"


def test_read_backward_that_skips() -> None:
    bench = Bench(Block(b"12345678"))
    skip = Ccw(BACKWARD, CD | CcwFlag.SKIP, 3, 0x7000000)
    assert started(bench, F1, skip, Ccw(0, count=5, cda=DATA + 4)).scsw.ok
    assert bench.memory.read(DATA, 6) == b"12345\0"


# -- keys, read-only storage, limits -------------------------------------------------------------------------------


class Keyed(Memory):
    """Pages with a storage key and fetch protection, and read-only ones."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[int, tuple[int, bool]] = {}
        self.readonly: set[int] = set()

    def permits(self, address: int, count: int, key: int, store: bool) -> bool:
        for page in range(address & ~0xFFF, address + count, 0x1000):
            page_key, fetch_protected = self.keys.get(page, (0, False))
            if page_key != key and (store or fetch_protected):
                return False
        return True

    def write(self, address: int, data: bytes) -> None:
        if any(page in self.readonly for page in range(address & ~0xFFF, address + len(data), 0x1000)):
            raise StorageProtected(address, len(data))
        super().write(address, data)


READ = Ccw(0x02, SLI, 8, DATA)
READ_BY_IDAWS = Ccw(0x02, SLI | IDA, 8, LIST)


@pytest.mark.parametrize(
    ("page", "key", "fetch", "ccw", "dstat"),
    [
        (DATA, 0, False, READ, ENDED),
        (DATA, 7, False, READ, ENDED),
        (DATA, 7, True, Ccw(0x01, SLI, 8, DATA), ENDED),
        (LIST, 7, True, READ_BY_IDAWS, ENDED),
        (PROGRAM, 7, True, READ, Dstat(0)),
    ],
)
def test_a_storage_key_that_does_not_match(page: int, key: int, fetch: bool, ccw: Ccw, dstat: Dstat) -> None:
    memory = Keyed()
    assert isinstance(memory, KeyedStorage)
    bench = Bench(Block(b"12345678"), memory=memory)
    memory.keys = dict.fromkeys((PROGRAM, LIST, DATA), (6, True)) | {page: (key, fetch)}
    irb = started(bench, Orb(fmt=1, key=6, cpa=PROGRAM), ccw, words=DATA.to_bytes(4, "big"))
    assert (irb.scsw.cstat, irb.scsw.dstat, irb.scsw.key) == (Cstat.PROTECTION_CHECK, dstat, 6)
    assert irb.scsw.cpa == PROGRAM + 8
    assert memory.read(DATA, 8) == bytes(8)


@pytest.mark.parametrize("key", [0, 6])
def test_a_storage_key_that_matches(key: int) -> None:
    memory = Keyed()
    memory.keys = dict.fromkeys((PROGRAM, LIST, DATA), (6, True))
    bench = Bench(Block(b"12345678"), memory=memory)
    orb = Orb(fmt=1, key=key, cpa=PROGRAM)
    assert started(bench, orb, READ_BY_IDAWS, words=DATA.to_bytes(4, "big")).scsw.ok
    assert memory.read(DATA, 8) == b"12345678"


def test_storage_that_is_read_only() -> None:
    memory = Keyed()
    bench = Bench(Block(b"12345678"), memory=memory)
    memory.readonly = {DATA}
    assert started(bench, F1, READ).scsw.cstat == Cstat.PROTECTION_CHECK
    assert started(bench, F1, Ccw(0x01, SLI, 8, DATA)).scsw.ok
    assert issubclass(StorageProtected, StorageError)


@pytest.mark.parametrize(
    ("mode", "address", "ok"),
    [(1, DATA, True), (1, DATA + 1, False), (2, DATA + 8, True), (2, DATA + 7, False), (0, DATA + 4, True)],
)
@pytest.mark.parametrize("ccw", [READ, READ_BY_IDAWS])
def test_the_address_limit(mode: int, address: int, ok: bool, ccw: Ccw) -> None:
    bench = Bench(Block(b"12345678"))
    bench.css.address_limit = address
    schib = bench.schib().to_bytes()
    raw = bytearray(schib)
    raw[5] = raw[5] & ~0x60 | mode << 5
    assert bench.css.msch(SCHID, type(bench.schib()).from_bytes(raw)) == 0
    irb = started(bench, Orb(fmt=1, alcc=True, cpa=PROGRAM), ccw, words=DATA.to_bytes(4, "big"))
    assert irb.scsw.alcc
    assert irb.scsw.cstat == (0 if ok else Cstat.PROGRAM_CHECK)
    assert started(bench, F1, ccw, words=DATA.to_bytes(4, "big")).scsw.ok


# -- limits of the machine -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 0xFFFF])
def test_a_ring_of_chained_data_ends(count: int) -> None:
    """A device that takes all there is gets so much; the length is then wrong, whatever the CCW says of it."""
    bench = Bench(Block())
    ring = [Ccw(0x01, CD | SLI, count, DATA), Ccw(0x08, cda=PROGRAM)]
    irb = started(bench, F1, *ring)
    assert (irb.scsw.cstat, irb.scsw.dstat) == (Cstat.INCORRECT_LENGTH, ENDED)
    assert irb.scsw.stctl == Stctl.ALERT | Stctl.PRIMARY | Stctl.SECONDARY | Stctl.PENDING
    assert bench.device is not None
    taken = len(bench.device.data)  # type: ignore[attr-defined]
    assert taken == min(MOST_CCWS * count, -(-MOST_BYTES // count) * count)


# -- incorrect length of immediate commands ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cmd", "orb", "flags", "count", "wrong"),
    [
        (0x07, F1, 0, 1, True),
        (0x07, F1, 0, 0, False),
        (0x07, F1, SLI, 1, False),
        (0x07, Orb(fmt=1, ils=True, cpa=PROGRAM), 0, 1, False),
        (0x07, Orb(fmt=0, cpa=PROGRAM), 0, 1, False),
        (0x03, F1, 0, 1, False),  # as a 3390 answered
        (0x07, F1, CD | SLI, 1, True),
    ],
)
def test_incorrect_length_of_an_immediate_command(cmd: int, orb: Orb, flags: int, count: int, wrong: bool) -> None:
    class Immediate(Echo):
        def command(self, code: int, channel: Channel) -> Ending:
            return DONE

    irb = started(Bench(Immediate()), orb, Ccw(cmd, CcwFlag(flags), count, DATA, orb.fmt))
    assert irb.scsw.cstat == (Cstat.INCORRECT_LENGTH if wrong else 0)
    assert irb.scsw.count == count
