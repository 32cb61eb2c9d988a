"""Where the data of one CCW lie, and what is wrong with it: consecutive bytes, IDAWs or MIDAWs.

Source: z/Architecture Principles of Operation, "CCW Indirect Data Addressing", "Invalid Data Address".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pyvfio.css.ccw import Ccw, CcwFlag
from pyvfio.css.instructions import Storage, StorageError
from pyvfio.css.midaw import MIDAW_PAGE, MIDAW_SIZE, Midaw, MidawFlag
from pyvfio.css.orb import Orb
from pyvfio.css.rules import Rule

__all__ = ["DataArea"]

_MIDAW_LIMIT: Final = 1 << 64


@dataclass(slots=True)
class DataArea:
    """The area of `ccw` in a program of `orb`; with `backward` data go to descending addresses.

    With `output` they go to the device, for which the skip flag of a MIDAW has no effect.

    `pieces` are (address, bytes) in the order of use, as far as they can be known; `words` the IDAWs or MIDAWs that
    were read; `problems` the rules broken, with words.
    """

    ccw: Ccw
    orb: Orb
    storage: Storage
    backward: bool = False
    output: bool = False
    pieces: list[tuple[int, int]] = field(default_factory=list)
    words: list[int | Midaw] = field(default_factory=list)
    problems: list[tuple[Rule, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.ccw.count:
            if self.ccw.flags & CcwFlag.MIDA:
                self._modified()
            elif self.ccw.flags & CcwFlag.IDA:
                self._indirect()
            else:
                self._direct()
            self._look()

    @property
    def _limit(self) -> int:
        return 1 << (31 if self.ccw.fmt else 24)

    def _wrong(self, rule: Rule, words: str) -> None:
        self.problems.append((rule, words))

    def _direct(self) -> None:
        start, count = self.ccw.cda, self.ccw.count
        if self.backward:
            start -= count - 1
        if start < 0 or start + count > self._limit:
            self._wrong(
                Rule.DATA_ADDRESS, f"{count} bytes at {self.ccw.cda:#x} go past the addresses of format {self.ccw.fmt}"
            )
            start, end = max(start, 0), min(start + count, self._limit)
            count = end - start
        if count > 0:
            self.pieces.append((start, count))

    def _read(self, address: int, size: int, rule: Rule) -> bytes | None:
        if address + size > self._limit:
            self._wrong(rule, f"the list goes on at {address:#x}, past the addresses of format {self.ccw.fmt}")
            return None
        try:
            return self.storage.read(address, size)
        except StorageError:
            self._wrong(rule, f"the list goes on at {address:#x}, where there is no storage")
            return None

    def _indirect(self) -> None:
        orb, left, at = self.orb, self.ccw.count, self.ccw.cda
        size, block = orb.idaw_size, orb.idaw_block
        if at % size:
            self._wrong(Rule.IDAL_BOUNDARY, f"the list at {at:#x} is not on a boundary of {size} bytes")
            return
        while left:
            raw = self._read(at, size, Rule.IDAL_STORAGE)
            if raw is None:
                return
            word = int.from_bytes(raw, "big")
            number = len(self.words)
            self.words.append(word)
            begin = block - 1 if self.backward else 0
            if number and word % block != begin:
                what = "the last byte" if self.backward else "a boundary"
                self._wrong(Rule.IDAW_BOUNDARY, f"IDAW {number} ({word:#x}) is not on {what} of {block} bytes")
            if size == 4 and word >> 31:
                self._wrong(Rule.IDAW_ADDRESS, f"bit 0 of IDAW {number} ({word:#x}) is not zero")
            room = word % block + 1 if self.backward else block - word % block
            step = min(left, room)
            self.pieces.append((word - step + 1 if self.backward else word, step))
            left -= step
            at += size

    def _modified(self) -> None:
        left, at = self.ccw.count, self.ccw.cda
        if at % MIDAW_SIZE:
            self._wrong(Rule.MIDAL_BOUNDARY, f"the list at {at:#x} is not on a quadword boundary")
            return
        last = False
        while left and not last:
            if self.words and at % MIDAW_PAGE == 0:
                self._wrong(Rule.MIDAL_PAGE, f"the list goes over the boundary of a page at {at:#x}")
                return
            raw = self._read(at, MIDAW_SIZE, Rule.MIDAL_STORAGE)
            if raw is None:
                return
            midaw = Midaw.from_bytes(raw)
            number = len(self.words)
            self.words.append(midaw)
            if problem := self._midaw_problem(midaw):
                self._wrong(Rule.MIDAW, f"MIDAW {number}: {problem}")
            if midaw.count > left or not midaw.count:
                if midaw.count:
                    self._wrong(Rule.MIDAL_COUNT, f"MIDAW {number} has {midaw.count} bytes, but only {left} are left")
                return
            if self.output or not midaw.flags & MidawFlag.SKIP:
                start = midaw.address - midaw.count + 1 if self.backward else midaw.address
                self.pieces.append((start, midaw.count))
            left -= midaw.count
            last = bool(midaw.flags & MidawFlag.LAST)
            at += MIDAW_SIZE
        if left:
            self._wrong(Rule.MIDAL_COUNT, f"the list ends with {left} bytes of the count left")

    def _midaw_problem(self, midaw: Midaw) -> str:
        """As `Midaw.problem`, also for descending addresses."""
        if not self.backward:
            return midaw.problem
        head = Midaw(midaw.address - midaw.address % MIDAW_PAGE, midaw.count, midaw.flags, midaw.reserved)
        if midaw.count <= midaw.address % MIDAW_PAGE + 1 or (head.problem and not head.flags & MidawFlag.SKIP):
            return head.problem
        return "" if midaw.flags & MidawFlag.SKIP else "its data go over the boundary of a page"

    def _look(self) -> None:
        """Note the pieces where there is no storage."""
        for address, count in self.pieces:
            if address < 0 or address + count > _MIDAW_LIMIT or not self._there(address, count):
                self._wrong(Rule.DATA_STORAGE, f"there is no storage for the {count} bytes at {address:#x}")

    def _there(self, address: int, count: int) -> bool:
        try:
            self.storage.read(address, count)
        except StorageError:
            return False
        return True

    def words_in_lines(self) -> Iterator[str]:
        """The words of the list for people, one line each."""
        for number, word in enumerate(self.words):
            yield f"MIDAW {number}: {word}" if isinstance(word, Midaw) else f"IDAW {number}: {word:#x}"
