"""Random channel programs in a small storage, and a control unit that moves whatever the program has room for."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import strategies as st

from pyvfio.css import Ccw, CcwFlag, Orb, SenseId
from pyvfio.css.scsw import Dstat
from pyvfio_backends.software.hardware.css import ControlUnit
from pyvfio_backends.software.hardware.css.controlunit import DONE, Channel, Ending

ORIGIN = 0x11000
LENGTH = 8  # CCWs
LISTS = 0x12000  # IDAWs
END = 0x90000  # of storage (css_rig.Memory)
SEARCH = 0x31
_PATTERN = bytes(range(1, 252))

_PLACES = [ORIGIN + 8 * place for place in range(LENGTH)]
_ODD_TARGETS = [ORIGIN + 4, END, END - 8, 1 << 24, 1 << 31, 0xFFFFFFF8, LISTS]
_CODES = [0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0B, SEARCH, SEARCH, 0xE4]
_ODD_CODES = [0x00, 0x10, 0x18]
_COUNTS = [1, 2, 7, 64, 2048, 4097]
_DATA = [0x20000, 0x20001, 0x21FFF, 0x24000]
_ODD_DATA = [END - 1, END, 0xFFFFFF, 0x7FFFFFFF, 0x80020000]
_ODD_LISTS = [LISTS + 2, LISTS + 4, END - 4, END]
_IDAWS = [0x20000, 0x20800, 0x21000, 0x21800, 0x22000]
_ODD_IDAWS = [0x20FFF, END, END - 0x800, 0x80020000]


@st.composite
def ccws(draw: st.DrawFn, fmt: int, first: bool) -> Ccw:
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
    for flag in (CcwFlag.SUSPEND, CcwFlag.MIDA, CcwFlag.SKIP):
        if odd(24):
            flags |= flag
    address = one(_DATA, _ODD_DATA)
    if draw(st.integers(0, 2)) == 0:
        flags |= CcwFlag.IDA
        address = one([LISTS, LISTS + 8, LISTS + 16], _ODD_LISTS)
    return Ccw(one(_CODES, _ODD_CODES), flags, one(_COUNTS, [0, 0xFFFF]), address % (1 << width), fmt)


@st.composite
def idaws(draw: st.DrawFn) -> list[int]:
    """A list of which most words are good, but not always."""
    words = draw(st.lists(st.sampled_from(_IDAWS), min_size=24, max_size=24))
    if draw(st.booleans()):
        words[draw(st.integers(0, 4))] = draw(st.sampled_from(_ODD_IDAWS))
    return words


@st.composite
def programs(draw: st.DrawFn) -> tuple[Orb, list[Ccw], list[int]]:
    """An ORB, the CCWs at its address, and the IDAWs at `LISTS`."""
    fmt = draw(st.sampled_from([0, 1]))
    c64 = draw(st.booleans())
    length = draw(st.integers(1, LENGTH))
    program = [draw(ccws(fmt, place == 0)) for place in range(length)]
    for place, ccw in enumerate(program):
        # Status modifier passes over a TIC; no other use of a search makes sense.
        alone = ccw.flags & CcwFlag.CD or place + 1 == length or not program[place + 1].is_tic
        if ccw.cmd == SEARCH and alone:
            program[place] = replace(ccw, cmd=0x01)
    orb = Orb(fmt=fmt, c64=c64, i2k=c64 and draw(st.booleans()), mida=draw(st.booleans()), cpa=ORIGIN)
    return orb, program, draw(idaws())


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
            if code & 0x0F == 0x04 or code & 0x03 == 0x02:
                start = moved % len(_PATTERN)
                channel.write_to_memory((_PATTERN * (2 + count // len(_PATTERN)))[start : start + count])
            else:
                channel.read_from_memory(count)
        if code == SEARCH and self._random is not None and self._random.random() < 0.5:
            return Ending(Dstat.CHANNEL_END | Dstat.DEVICE_END | Dstat.STATUS_MODIFIER)
        return DONE
