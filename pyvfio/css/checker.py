"""The checker: which rules of the architecture a channel program breaks, before it is started.

It walks the program as the channel does, from the ORB's address along chains and TICs, and looks at every CCW that can
be reached.  Where a TIC follows a command that gives data to the device, the CCW behind the TIC can be reached too:
status modifier, with which a search says that it has found its record, passes over the TIC.

Not looked at are storage keys, chaining checks (data that come too fast) and the lengths that a device has in mind:
these only the machine knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pyvfio.css.ccw import CCW_SIZE, Ccw, CcwFlag
from pyvfio.css.commands import Direction
from pyvfio.css.dataarea import DataArea
from pyvfio.css.instructions import Storage, StorageError
from pyvfio.css.orb import Orb
from pyvfio.css.rules import Presented, Rule, Violation

__all__ = ["Limits", "Reached", "check", "walk"]

_MOST: Final = 65536
_LOWER: Final = 1
_UPPER: Final = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """What the machine allows: `mida`, whether it has MIDAWs; `ccws`, how many CCWs are looked at.

    With the ORB's address-limit check, `limit_mode` is the SCHIB's (1: data at or above `address_limit`, 2: below).
    """

    mida: bool = True
    ccws: int = _MOST
    address_limit: int = 0
    limit_mode: int = 0


@dataclass(frozen=True, slots=True)
class Reached:
    """A CCW on its way: its `index` and `address`; `ccw` is None where there is no storage.

    `direction` is that of the command, also for the CCWs of its data chain (`in_chain`).  `skipped` as in `Violation`.
    """

    index: int
    address: int
    ccw: Ccw | None
    direction: Direction
    in_chain: bool
    skipped: bool
    violations: tuple[Violation, ...] = ()


_State = tuple[int, bool, Direction | None]  # address, whether a TIC led here, direction of the data chain


def check(orb: Orb, storage: Storage, limits: Limits | None = None) -> list[Violation]:
    """All violations of the program that `orb` starts, in the order in which the channel meets them.

    `storage` is read only: the CCWs, the lists of IDAWs and the data areas.  An empty list means: no program check for
    any of these reasons.
    """
    if orb.tm:
        words = "a transport-mode ORB has no channel program of CCWs"
        return [Violation(-1, orb.cpa, Rule.ORB, words, Presented.OPERAND_EXCEPTION)]
    if orb.problem:
        return [Violation(-1, orb.cpa, Rule.ORB, orb.problem, Presented.OPERAND_EXCEPTION)]
    return [violation for one in walk(orb, storage, limits) for violation in one.violations]


def walk(orb: Orb, storage: Storage, limits: Limits | None = None) -> Iterator[Reached]:
    """The CCWs that can be reached, with their violations; first those without status modifier, in their order."""
    return _Walk(orb, storage, limits or Limits()).run()


class _Notes:
    """The violations of one CCW, as they are found."""

    def __init__(self, index: int, address: int, *, skipped: bool) -> None:
        self._index, self._address, self._skipped = index, address, skipped
        self.found: list[Violation] = []

    def add(self, rule: Rule, words: str, presented: Presented = Presented.PROGRAM_CHECK) -> None:
        """Note what the channel meets as it fetches the CCW."""
        self.found.append(Violation(self._index, self._address, rule, words, presented, skipped=self._skipped))

    def add_data(self, rule: Rule, words: str) -> None:
        """Note what it meets when data get there."""
        self.found.append(Violation(self._index, self._address, rule, words, with_data=True, skipped=self._skipped))

    @property
    def stopped(self) -> bool:
        """Whether the channel stops before it does anything with the CCW."""
        return any(one.presented == Presented.PROGRAM_CHECK and not one.with_data for one in self.found)


class _Walk:
    """One walk; `seen` are the states that were, with the index of their CCW, so that it ends."""

    def __init__(self, orb: Orb, storage: Storage, limits: Limits) -> None:
        self.orb = orb
        self.storage = storage
        self.limits = limits
        self.top = 1 << (31 if orb.fmt else 24)
        self.seen: dict[_State, int] = {}
        self.behind_tics: list[int] = []
        self.last_exit = -1  # the index of the last CCW that status modifier may leave by another way

    def run(self) -> Iterator[Reached]:
        starts, skipped = [self.orb.cpa], False
        entered: set[int] = set()
        while starts:
            for start in starts:
                if start not in entered:
                    entered.add(start)
                    yield from self._chain(start, skipped=skipped)
            starts, self.behind_tics, skipped = self.behind_tics, [], True

    def _chain(self, address: int, *, skipped: bool) -> Iterator[Reached]:
        """Follow the program from one CCW on, until it ends or comes to what has been seen."""
        begin = len(self.seen)
        state: _State | None = (address, False, None)
        while state is not None and state not in self.seen:
            index = len(self.seen)
            notes = _Notes(index, state[0], skipped=skipped)
            self.seen[state] = index
            if index >= self.limits.ccws:
                notes.add(Rule.LENGTH, f"more than {self.limits.ccws} CCWs", Presented.NOTHING)
                ccw, following = None, None
            else:
                ccw = self._fetch(state[0], notes)
                following = None if ccw is None else self._follow(ccw, state, notes, index)
            if following is not None and self._endless(following, begin):
                words = f"the program goes back to {following[0]:#x} and nothing leads out of the loop"
                notes.add(Rule.ENDLESS, words, Presented.NOTHING)
            chain = state[2]
            direction = chain or (Direction.NONE if ccw is None else ccw.direction)
            yield Reached(index, state[0], ccw, direction, chain is not None, skipped, tuple(notes.found))
            state = following

    def _endless(self, following: _State, begin: int) -> bool:
        """Whether the next state was seen on this way, and no CCW from there on can be left by status modifier.

        A ring of chained data is left when the device has no more.
        """
        back = self.seen.get(following, -1)
        return back >= begin and self.last_exit < back and following[2] is None

    def _follow(self, ccw: Ccw, state: _State, notes: _Notes, index: int) -> _State | None:
        """Look at one CCW; return where the program goes on (None: it ends, or cannot go on)."""
        address, after_tic, chain = state
        if ccw.is_tic:
            self._tic(ccw, notes, first=not index, after_tic=after_tic)
            if not notes.stopped and not self._is_there(ccw.cda):
                notes.add(Rule.CCW_STORAGE, f"there is no storage at the target {ccw.cda:#x}")
            following = (ccw.cda, chain)
        else:
            direction = chain or ccw.direction
            self._command(ccw, notes, chain)
            if not notes.stopped and not self._unseen(ccw, direction):
                self._data(ccw, notes, direction)
            # A command that moves nothing ends at its first CCW, with incorrect length.
            if not ccw.chained or (ccw.flags & CcwFlag.CD and direction == Direction.NONE):
                return None
            following = (address + CCW_SIZE, direction if ccw.flags & CcwFlag.CD else None)
        if notes.stopped:
            return None
        target, chained = following
        tic = self._tic_at(target)
        if tic and not ccw.is_tic and chained is None and (chain or ccw.direction) == Direction.OUT:
            self.behind_tics.append(target + CCW_SIZE)
            self.last_exit = index
        return target, ccw.is_tic and tic, chained

    def _fetch(self, address: int, notes: _Notes) -> Ccw | None:
        if address >= self.top:
            notes.add(Rule.CCW_ADDRESS, f"the program goes past the addresses of format {self.orb.fmt}")
            return None
        try:
            return Ccw.from_bytes(self.storage.read(address, CCW_SIZE), self.orb.fmt)
        except StorageError:
            notes.add(Rule.CCW_STORAGE, "the program goes on where there is no storage")
            return None

    def _is_there(self, address: int) -> bool:
        try:
            self.storage.read(address, CCW_SIZE)
        except StorageError:
            return False
        return True

    def _tic_at(self, address: int) -> bool:
        ccw = self._fetch(address, _Notes(0, address, skipped=False))
        return ccw is not None and ccw.is_tic

    def _tic(self, ccw: Ccw, notes: _Notes, *, first: bool, after_tic: bool) -> None:
        if first:
            notes.add(Rule.TIC_FIRST, "the first CCW of a program is a TIC")
        if after_tic:
            notes.add(Rule.TIC_TO_TIC, "a TIC leads to a TIC")
        if ccw.fmt and (ccw.flags or ccw.count):
            words = f"bits 8 to 31 of a TIC must be zero (flags {ccw.flags:02x}, count {ccw.count})"
            notes.add(Rule.TIC_RESERVED, words)
        if ccw.cda % CCW_SIZE:
            notes.add(Rule.TIC_BOUNDARY, f"the target {ccw.cda:#x} is not on a doubleword boundary")
        if ccw.cda >= self.top:
            notes.add(Rule.TIC_ADDRESS, f"the target {ccw.cda:#x} is past the addresses of format {self.orb.fmt}")

    def _command(self, ccw: Ccw, notes: _Notes, chain: Direction | None) -> None:
        flags, fmt = ccw.flags, ccw.fmt
        if chain is None and not ccw.cmd & (0x07 if fmt else 0x0F):
            notes.add(Rule.COMMAND_CODE, f"{ccw.cmd:02x} is no command code in format {fmt}")
        if not ccw.count and (not fmt or chain is not None or flags & CcwFlag.CD):
            notes.add(Rule.COUNT, "a count of zero" + (" in a data chain" if fmt else " in format 0"))
        if fmt and ccw.cda >> 31:
            notes.add(Rule.DATA_ADDRESS, f"bit 32 (of the address {ccw.cda:#x}) must be zero")
        if flags & CcwFlag.SUSPEND:
            if chain is not None:
                notes.add(Rule.SUSPEND_CHAINED_DATA, "the suspend flag is on in a data chain")
            elif not self.orb.spnd:
                notes.add(Rule.SUSPEND_CONTROL, "the suspend flag is on, but suspend control is off in the ORB")
        if flags & CcwFlag.MIDA:
            if not self.orb.mida or not self.limits.mida:
                notes.add(Rule.MIDA_CONTROL, "MIDAWs are not allowed by the ORB, or the machine has none")
            elif flags & CcwFlag.IDA:
                notes.add(Rule.MIDA_WITH_IDA, "the flags for IDAWs and for MIDAWs are both on")
            elif flags & CcwFlag.SKIP:
                notes.add(Rule.MIDA_WITH_SKIP, "the skip flag is on beside that for MIDAWs, which have their own")

    @staticmethod
    def _unseen(ccw: Ccw, direction: Direction) -> bool:
        """Whether the channel never uses the data address: nothing is moved, or what comes is skipped."""
        skips = bool(ccw.flags & CcwFlag.SKIP) and direction in (Direction.IN, Direction.BACKWARD)
        return skips or direction == Direction.NONE

    def _data(self, ccw: Ccw, notes: _Notes, direction: Direction) -> None:
        area = DataArea(
            ccw,
            self.orb,
            self.storage,
            backward=direction == Direction.BACKWARD,
            output=direction == Direction.OUT,
        )
        for rule, words in area.problems:
            notes.add_data(rule, words)
        if not self.orb.alcc or self.limits.limit_mode not in (_LOWER, _UPPER):
            return
        limit, lower = self.limits.address_limit, self.limits.limit_mode == _LOWER
        for address, count in area.pieces:
            if address < limit if lower else address + count > limit:
                side = "below" if lower else "at or above"
                notes.add_data(Rule.DATA_LIMIT, f"{count} bytes at {address:#x} are {side} the limit {limit:#x}")
