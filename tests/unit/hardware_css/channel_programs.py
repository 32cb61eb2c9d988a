"""Random channel programs in a small storage, and a control unit that moves whatever the program has room for."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from pyvfio.css import Ccw, CcwFlag, Midaw, MidawFlag, Orb, SenseId
from pyvfio.css.scsw import Dstat
from pyvfio_backends.software.hardware.css import ControlUnit
from pyvfio_backends.software.hardware.css.controlunit import DONE, Channel, Ending

ORIGIN = 0x11000
LENGTH = 8  # CCWs
LISTS = 0x12000  # IDAWs
MIDALS = 0x13000  # MIDAWs
END = 0x90000  # of storage (css_rig.Memory)
SEARCH = 0x31
READ_BACKWARD = 0x0C
_PATTERN = bytes(range(1, 252))

_PLACES = [ORIGIN + 8 * place for place in range(LENGTH)]
_ODD_TARGETS = [ORIGIN + 4, END, END - 8, 1 << 24, 1 << 31, 0xFFFFFFF8, LISTS]
_CODES = [0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0B, READ_BACKWARD, SEARCH, SEARCH, 0xE4]
_ODD_CODES = [0x00, 0x10, 0x18]
_COUNTS = [1, 2, 7, 64, 2048, 4097]
_DATA = [0x20000, 0x20001, 0x21FFF, 0x24000]
_ODD_DATA = [0, 0x30, END - 1, END, 0xFFFFFF, 0x7FFFFFFF, 0x80020000]
_ODD_LISTS = [LISTS + 2, LISTS + 4, END - 4, END]
_MIDAL_PLACES = [MIDALS, MIDALS + 16, MIDALS + 64, MIDALS + 0xFF0]
_ODD_MIDALS = [MIDALS + 8, END - 16, END]
_IDAWS = [0x20000, 0x20800, 0x21000, 0x21800, 0x22000]
_ODD_IDAWS = [0x20FFF, END, END - 0x800, 0x80020000]
_MIDAW_COUNTS = [1, 2, 7, 64, 2048]
_ODD_FLAGS = [MidawFlag.DTI, MidawFlag(0x10), MidawFlag.SKIP | MidawFlag.LAST]


@dataclass(frozen=True)
class Case:
    """A program: the ORB, the CCWs at its address, the IDAWs at `LISTS`, the MIDAWs at `MIDALS` (by offset)."""

    orb: Orb
    ccws: list[Ccw]
    idaws: list[int]
    midaws: dict[int, list[Midaw]]

    def parts(self) -> list[tuple[int, bytes]]:
        """What is to be put into storage."""
        program = b"".join(ccw.to_bytes() for ccw in self.ccws)
        lists = [(place, b"".join(word.to_bytes() for word in words)) for place, words in self.midaws.items()]
        return [(ORIGIN, program), (LISTS, image(self.orb, self.idaws)), *lists]


@st.composite
def ccws(draw: st.DrawFn, fmt: int, first: bool, plain: bool) -> Ccw:
    """One CCW, nearly always a good one by itself."""

    def odd(chance: int = 16) -> bool:
        return draw(st.integers(0, chance - 1)) == chance - 1

    def one(usual: list[int], strange: list[int]) -> int:
        return draw(st.sampled_from(strange if odd() else usual))

    width = 32 if fmt else 24
    if draw(st.integers(0, 15)) >= (15 if first else 10):
        flags = CcwFlag.SLI if odd() else CcwFlag(0)
        return Ccw(0x08, flags, 0, one(_PLACES, _ODD_TARGETS) % (1 << width), fmt)
    flags = CcwFlag.SLI if draw(st.booleans()) else CcwFlag(0)
    chaining = draw(st.integers(0, 9))
    if chaining:
        flags |= CcwFlag.CD if chaining == 9 else CcwFlag.CC
    for flag in (CcwFlag.SUSPEND, CcwFlag.SKIP, *([] if plain else [CcwFlag.PCI])):
        if odd(24):
            flags |= flag
    address = one(_DATA, _ODD_DATA)
    count = one(_COUNTS, [0, 0xFFFF])
    how = draw(st.integers(0, 8))
    if how in (0, 1) or (plain and how == 2):
        flags |= CcwFlag.IDA
        address = one([LISTS, LISTS + 8, LISTS + 16], _ODD_LISTS)
    elif how in (2, 3) and not plain:
        flags |= CcwFlag.MIDA | (CcwFlag.IDA if odd() else CcwFlag(0))
        address = one(_MIDAL_PLACES, _ODD_MIDALS)
        count = one([64, 71, 2112], _COUNTS)
    codes = [code for code in _CODES if code != READ_BACKWARD] if plain else _CODES
    return Ccw(one(codes, _ODD_CODES), flags, count, address % (1 << width), fmt)


@st.composite
def idaws(draw: st.DrawFn, plain: bool) -> list[int]:
    """A list of which most words are good, but not always."""
    words = draw(st.lists(st.sampled_from(_IDAWS), min_size=24, max_size=24))
    last_bytes = not plain and draw(st.booleans())  # as READ BACKWARD needs them
    if last_bytes:
        words = [word + 0x7FF for word in words]
    if draw(st.booleans()):
        words[draw(st.integers(0, 4))] = draw(st.sampled_from(_ODD_IDAWS))
    return words


@st.composite
def midaws(draw: st.DrawFn) -> list[Midaw]:
    """A list whose counts are together what CCWs ask for, but not always."""
    total = draw(st.sampled_from([64, 71, 2112]))
    words: list[Midaw] = []
    while total:
        count = min(total, draw(st.sampled_from(_MIDAW_COUNTS)))
        total -= count
        address = draw(st.sampled_from([0x20000, 0x21801, 0x22800, 0x23FC0 if count <= 64 else 0x23800]))
        flags = MidawFlag.SKIP if draw(st.integers(0, 7)) == 7 else MidawFlag(0)
        words.append(Midaw(address, count, flags | (MidawFlag(0) if total else MidawFlag.LAST)))
        if len(words) > 8:
            break
    if draw(st.integers(0, 3)) == 3:
        place = draw(st.integers(0, len(words) - 1))
        strange = draw(st.integers(0, 4))
        word = words[place]
        words[place] = [
            replace(word, count=0),
            replace(word, count=4097),
            replace(word, address=draw(st.sampled_from([0x20FFF, END, (1 << 64) - 1]))),
            replace(word, flags=draw(st.sampled_from(_ODD_FLAGS))),
            replace(word, reserved=1),
        ][strange]
    return words


@st.composite
def programs(draw: st.DrawFn, plain: bool = False) -> Case:
    """A whole case; a `plain` one has nothing that vfio-ccw does not translate (MIDAWs, READ BACKWARD, suspension)."""
    fmt = draw(st.sampled_from([0, 1]))
    c64 = draw(st.booleans())
    length = draw(st.integers(1, LENGTH))
    program = [draw(ccws(fmt, place == 0, plain)) for place in range(length)]
    for place, ccw in enumerate(program):
        # Status modifier passes over a TIC; no other use of a search makes sense.
        alone = ccw.flags & CcwFlag.CD or place + 1 == length or not program[place + 1].is_tic
        if ccw.cmd == SEARCH and alone:
            program[place] = replace(ccw, cmd=0x01)
        elif plain and ccw.cmd != SEARCH and not ccw.is_tic:
            # In a data chain the code does not count, but vfio-ccw takes it for one that moves nothing.
            program[place] = replace(ccw, cmd=ccw.cmd if ccw.cmd != 0x03 else 0x01, flags=ccw.flags & ~CcwFlag.SKIP)
    orb = Orb(
        fmt=fmt,
        c64=c64,
        i2k=c64 and draw(st.booleans()),
        mida=not plain and draw(st.integers(0, 3)) > 0,
        spnd=not plain and draw(st.booleans()),
        cpa=ORIGIN,
    )
    lists = {place: draw(midaws()) for place in (MIDALS, MIDALS + 0x400)}
    lists[MIDALS + 0xFF0] = draw(midaws())
    return Case(orb, program, draw(idaws(plain)), lists)


def image(orb: Orb, words: list[int]) -> bytes:
    """The IDAWs in the ORB's format."""
    return b"".join(word.to_bytes(orb.idaw_size, "big") for word in words)


class Obedient(ControlUnit):
    """Moves exactly what the program asks for; a search may say by status modifier that it has found its record.

    `most` bytes in one command at most, so that a ring of chained data ends; then `full` is true.
    """

    def __init__(self, seed: int | None = None, most: int = 1 << 17) -> None:
        super().__init__(SenseId(0x3990, 0xE9, 0x3390, 0x0C))
        self._random = None if seed is None else random.Random(seed)
        self._most = most
        self.full = False

    def perform(self, code: int, channel: Channel) -> Ending:
        if code == 0x03:
            return DONE
        moved = 0
        while channel.left:
            if moved > self._most:
                self.full = True
                break
            count = channel.left
            moved += count
            if code & 0x07 == 0x04 or code & 0x03 == 0x02:
                start = moved % len(_PATTERN)
                channel.write_to_memory((_PATTERN * (2 + count // len(_PATTERN)))[start : start + count])
            else:
                channel.read_from_memory(count)
        if code == SEARCH and self._random is not None and self._random.random() < 0.5:
            return Ending(Dstat.CHANNEL_END | Dstat.DEVICE_END | Dstat.STATUS_MODIFIER)
        return DONE
