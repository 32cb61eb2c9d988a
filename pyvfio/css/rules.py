"""The rules of channel programs by name, and a violation of one as a value.

Source: z/Architecture Principles of Operation, "Program Check" under "Subchannel Status", and the sections on TIC,
chaining, suspension, IDAWs and MIDAWs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Presented", "Rule", "Violation"]


class Presented(StrEnum):
    """What a channel subsystem answers to a violation."""

    OPERAND_EXCEPTION = "operand exception"  # SSCH itself ends in a program interruption
    PROGRAM_CHECK = "program check"
    NOTHING = "nothing"  # the program runs, but never ends or is longer than was looked at


class Rule(StrEnum):
    """The rules that the checker knows, by their names."""

    ORB = "orb"
    CCW_ADDRESS = "ccw-address"
    CCW_STORAGE = "ccw-storage"
    COMMAND_CODE = "command-code"
    COUNT = "count"
    TIC_FIRST = "tic-first"
    TIC_TO_TIC = "tic-to-tic"
    TIC_BOUNDARY = "tic-boundary"
    TIC_ADDRESS = "tic-address"
    TIC_RESERVED = "tic-reserved"
    SUSPEND_CONTROL = "suspend-control"
    SUSPEND_CHAINED_DATA = "suspend-chained-data"
    DATA_ADDRESS = "data-address"
    DATA_STORAGE = "data-storage"
    DATA_LIMIT = "data-limit"
    IDAL_BOUNDARY = "idal-boundary"
    IDAL_STORAGE = "idal-storage"
    IDAW_BOUNDARY = "idaw-boundary"
    IDAW_ADDRESS = "idaw-address"
    MIDA_CONTROL = "mida-control"
    MIDA_WITH_IDA = "mida-with-ida"
    MIDA_WITH_SKIP = "mida-with-skip"
    MIDAL_BOUNDARY = "midal-boundary"
    MIDAL_PAGE = "midal-page"
    MIDAL_STORAGE = "midal-storage"
    MIDAL_COUNT = "midal-count"
    MIDAW = "midaw"
    ENDLESS = "endless"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule broken by the CCW at `address`.

    `index` counts CCWs in the order in which they are reached, from 0; in a program without jumps it is the CCW's
    place.  It is -1 for the ORB.  `words` say what is wrong.  `presented` is what the channel answers when it gets
    there, and it gets there as it fetches the CCW, or with `with_data` when data reach the place.  With `skipped` it
    gets there only by status modifier, which passes over a TIC.
    """

    index: int
    address: int
    rule: Rule
    words: str
    presented: Presented = Presented.PROGRAM_CHECK
    with_data: bool = False
    skipped: bool = False

    def __str__(self) -> str:
        place = f"CCW {self.index} at {self.address:#x}" if self.index >= 0 else "ORB"
        when = " when data get there" if self.with_data else ""
        return f"{place}: {self.rule}: {self.words} ({self.presented}{when})"
