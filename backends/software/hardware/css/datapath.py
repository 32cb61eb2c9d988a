"""The data side of a channel: counts, data chaining, skip.

One command's data area is the concatenation of the areas of its data-chained CCWs (`area`).  The channel goes on to
the next CCW of a data chain as soon as the count is zero, needed or not.

A data chain can be a ring, which only the device leaves.  So that a device that takes all it gets ends too, a command
gets at most `MOST_CCWS` CCWs and `MOST_BYTES` bytes; then the channel has no more for it, and as the program says that
there is more, it ends with incorrect length.

Source: z/Architecture Principles of Operation, "Data Chaining", "Skipping", "Incorrect Length".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyvfio.css.ccw import CcwFlag
from pyvfio_backends.software.hardware.css.area import Area

__all__ = ["MOST_BYTES", "MOST_CCWS", "DataPath"]

#: CCWs, and bytes, of one command.
MOST_CCWS: Final = 64 * 1024
MOST_BYTES: Final = 64 * 1024 * 1024

_CD: Final = int(CcwFlag.CD)
_CC: Final = int(CcwFlag.CC)
_SLI: Final = int(CcwFlag.SLI)
_SKIP: Final = int(CcwFlag.SKIP)


class DataPath:
    """Moves the bytes of one command at a time between a control unit and storage (the `Channel` of a device).

    `next_ccw` gives flags, count and address of the next data-chained CCW, and raises `ChannelCheck` on a bad one.
    """

    __slots__ = (
        "_area",
        "_backward",
        "_bytes",
        "_ccws",
        "_next_ccw",
        "flags",
        "left",
        "moved",
        "overrun",
        "path",
        "stopped",
    )

    def __init__(self, area: Area, next_ccw: Callable[[], tuple[int, int, int]]) -> None:
        self._area = area
        self._next_ccw = next_ccw
        self._backward = False
        self._bytes = self._ccws = 0
        self.path = 0
        self.flags = 0
        self.left = 0
        self.moved = False  # whether the command moved data at all; else it was an immediate one
        self.overrun = False  # whether the device had or wanted more than the program allowed
        self.stopped = False  # whether the channel had no more for it, as there had been too much already

    def begin(self, flags: int, count: int, address: int, *, backward: bool = False) -> None:
        """Take the first CCW of a command; with `backward`, data go to descending addresses."""
        self.moved = self.overrun = self.stopped = False
        self._backward = backward
        self._bytes = self._ccws = 0
        self.flags = flags
        self.left = count
        self._area.begin(flags, count, address, backward=backward)

    @property
    def chained(self) -> bool:
        """Whether command chaining is indicated in the current CCW."""
        return bool(self.flags & _CC)

    @property
    def exact_length(self) -> bool:
        """Whether a length check is asked for."""
        return not self.flags & _SLI or bool(self.flags & _CD)

    @property
    def wrong_length(self) -> bool:
        """Whether the ended command has the incorrect-length condition (without regard to immediate commands)."""
        return bool(self.left or self.overrun or self.stopped) and self.exact_length

    def ignore_data(self) -> None:
        """Count the bytes of this CCW as taken without looking at them."""
        self.left = 0

    def peek_memory(self, count: int) -> bytes:
        """Fetch at most `count` bytes of this CCW's area and stay where it was; zeros where the program skips."""
        if self.flags & _SKIP:
            return bytes(min(count, self.left))
        mark = self._area.mark()
        pieces = self._area.fetch(min(count, self.left))
        self._area.back_to(mark)
        return b"".join(pieces)

    def write_to_memory(self, data: bytes) -> int:
        """Store `data` as far as the program has room; return the bytes that were left over."""
        self.moved = True
        done, size = 0, len(data)
        while done < size:
            left = self.left
            if not left:
                self.overrun = True
                break
            step = size - done
            if left < step:
                step = left
            if not self.flags & _SKIP:
                self._area.store(data if step == size else data[done : done + step])
            self._count_down(step)
            done += step
        return size - done

    def read_from_memory(self, count: int) -> bytes:
        """Fetch at most `count` bytes; fewer when the program has no more."""
        self.moved = True
        pieces: list[bytes] = []
        while count:
            if not self.left:
                self.overrun = True
                break
            step = min(self.left, count)
            pieces += self._area.fetch(step)
            self._count_down(step)
            count -= step
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _count_down(self, step: int) -> None:
        self.left -= step
        if self.left or not self.flags & _CD:
            return
        self._bytes += step
        self._ccws += 1
        if self._ccws >= MOST_CCWS or self._bytes >= MOST_BYTES:
            self.stopped = True
            return
        self.flags, self.left, address = self._next_ccw()
        self._area.begin(self.flags, self.left, address, backward=self._backward)
