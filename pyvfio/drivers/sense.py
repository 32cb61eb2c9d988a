"""Sense bytes of a DASD, in words, and whether it is worth to try again.

======  =====  ==========================  ======  =====  ========================
byte    bit    meaning                     byte    bit    meaning
======  =====  ==========================  ======  =====  ========================
0       80     command reject              1       80     permanent error
0       40     intervention required       1       40     invalid track format
0       20     bus-out parity check        1       20     end of cylinder
0       10     equipment check             1       10     message to operator
0       08     data check                  1       08     no record found
0       04     overrun                     1       04     file protected
0       01     incomplete domain           1       02     write inhibited
2       40     correctable                 1       01     imprecise ending
2       20     first logging action        2       10     environmental data
======  =====  ==========================  ======  =====  ========================

Byte 7 is format and message (4 bits each); bytes 29 to 31 are the cylinder (2 bytes) and the head.
Sources: "3990/9390 Storage Control Reference" GA32-0274, chapter on sense; ``drivers/s390/block/dasd_int.h``
(SNS0_... to SNS2_...), ``dasd_3990_erp.c`` (what is retried).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyvfio.channel_status import decode
from pyvfio.css.irb import Irb
from pyvfio.css.scsw import Cstat, Dstat
from pyvfio.errors import ChannelProgramFailed

__all__ = ["SENSE_SIZE", "DasdFailed", "Sense", "is_busy", "is_channel_error", "is_retryable"]

SENSE_SIZE: Final = 32
_WORDS: Final[tuple[tuple[int, int, str], ...]] = (
    (0, 0x80, "command reject"),
    (0, 0x40, "intervention required"),
    (0, 0x20, "bus-out parity check"),
    (0, 0x10, "equipment check"),
    (0, 0x08, "data check"),
    (0, 0x04, "overrun"),
    (0, 0x01, "incomplete domain"),
    (1, 0x80, "permanent error"),
    (1, 0x40, "invalid track format"),
    (1, 0x20, "end of cylinder"),
    (1, 0x10, "message to operator"),
    (1, 0x08, "no record found"),
    (1, 0x04, "file protected"),
    (1, 0x02, "write inhibited"),
    (1, 0x01, "imprecise ending"),
    (2, 0x40, "correctable"),
    (2, 0x20, "first logging action"),
    (2, 0x10, "environmental data present"),
)
_REJECTS: Final = {
    1: "invalid command",
    2: "invalid command sequence",
    3: "CCW count less than required",
    4: "invalid parameter",
    5: "diagnostic write not permitted by the file mask",
}
_FORMATS: Final = {
    1: "device equipment check",
    2: "storage control equipment check",
    3: "storage control check",
    4: "data check",
    5: "data check with displacement",
    6: "usage or error counters",
    7: "device control check",
    8: "device equipment check",
    9: "device statistics",
    15: "cache",
}
_COMMAND_REJECT, _PASSING = 0x80, 0x10 | 0x08 | 0x04 | 0x20
_INTERVENTION_REQUIRED, _EQUIPMENT_CHECK, _DATA_CHECK, _INVALID_TRACK = 0x40, 0x10, 0x08, 0x40
_PERMANENT, _NO_RECORD_FOUND, _FILE_PROTECTED, _WRITE_INHIBITED = 0x80, 0x08, 0x04, 0x02
_ENVIRONMENTAL: Final = 0x10
_CHANNEL_ERRORS: Final = Cstat.INTERFACE_CONTROL_CHECK | Cstat.CHANNEL_CONTROL_CHECK | Cstat.CHANNEL_DATA_CHECK


@dataclass(frozen=True, slots=True)
class Sense:
    """Up to 32 sense bytes (`raw`; what is missing counts as zeros).

    >>> print(Sense(bytes.fromhex("0008")))
    no record found; sense 0008
    """

    raw: bytes

    def _byte(self, number: int) -> int:
        return self.raw[number] if number < len(self.raw) else 0

    @property
    def words(self) -> tuple[str, ...]:
        """All conditions that the bytes say."""
        found = [words for byte, bit, words in _WORDS if self._byte(byte) & bit]
        if self._byte(0) & _COMMAND_REJECT and self.message in _REJECTS and not self._byte(7) >> 4:
            found.append(_REJECTS[self.message])
        return tuple(found)

    @property
    def message(self) -> int:
        """The message code (byte 7, its low 4 bits)."""
        return self._byte(7) & 0x0F

    @property
    def place(self) -> tuple[int, int]:
        """Cylinder and head where the mechanism stood."""
        return self._byte(29) << 8 | self._byte(30), self._byte(31) & 0x0F

    @property
    def no_record_found(self) -> bool:
        """Whether the record is not there (an unformatted track answers so)."""
        return bool(self._byte(1) & _NO_RECORD_FOUND)

    @property
    def intervention_required(self) -> bool:
        """Whether the drive is not ready, and somebody has to do something about it."""
        return bool(self._byte(0) & _INTERVENTION_REQUIRED)

    @property
    def format_words(self) -> str:
        """What kind of bytes these are (byte 7, its high 4 bits); empty for format 0, or when there is no byte 7."""
        return _FORMATS.get(self._byte(7) >> 4, "")

    @property
    def next_step(self) -> str:
        """What to do about it, empty when nothing is known."""
        for is_so, step in (
            (
                self.write_inhibited,
                "write elsewhere, or lift the write protection of the volume at its storage control",
            ),
            (self.intervention_required, "make the drive ready at its storage control, then try again"),
            (self.no_record_found, "pyvfio dasd format DEV --check shows which tracks are not formatted"),
            (bool(self._byte(1) & _INVALID_TRACK), "pyvfio dasd format DEV --tracks ... writes these tracks anew"),
            (bool(self._byte(0) & (_DATA_CHECK | _EQUIPMENT_CHECK)), "the medium or the device is bad if it stays so"),
        ):
            if is_so:
                return step
        return ""

    @property
    def file_protected(self) -> bool:
        """Whether the program left its extent or broke its mask."""
        return bool(self._byte(1) & _FILE_PROTECTED)

    @property
    def write_inhibited(self) -> bool:
        """Whether the volume cannot be written."""
        return bool(self._byte(1) & _WRITE_INHIBITED)

    @property
    def retryable(self) -> bool:
        """Whether the same program may succeed when it is started again."""
        stays = self._byte(1) & (_PERMANENT | _WRITE_INHIBITED | _INVALID_TRACK)
        if stays or self._byte(0) & (_COMMAND_REJECT | _INTERVENTION_REQUIRED):
            return False
        passing = bool(self._byte(0) & _PASSING)
        return passing or (not self._byte(0) and not self._byte(1) and bool(self._byte(2) & _ENVIRONMENTAL))

    def __str__(self) -> str:
        words = ", ".join(self.words) or "nothing known"
        if self.format_words:
            words += f" (format {self._byte(7) >> 4:x}, {self.format_words})"
        return f"{words}; sense {self.raw.rstrip(bytes(1)).hex() or '00'}"


class DasdFailed(ChannelProgramFailed):
    """A program for a DASD ended with an error: `irb` is its status, `sense` the decoded sense bytes."""

    def __init__(self, operation: str, obj: str, irb: Irb, tries: int) -> None:
        sense = Sense(irb.sense)
        words = str(sense) if irb.scsw.dstat & Dstat.UNIT_CHECK else ""
        if irb.sense and sense.place != (0, 0):
            words += f" at cylinder {sense.place[0]} head {sense.place[1]}"
        again = f" (tried {tries} times)" if tries > 1 else ""
        cause = "; ".join(part for part in (words, decode(irb)) if part) + again
        super().__init__(operation, obj, cause=cause, irb=irb)
        self.sense = sense
        if words and not self.next_step:
            self.next_step = sense.next_step.replace("DEV", obj)


def is_busy(irb: Irb) -> bool:
    """Whether the device was busy (another system has reserved it, say): worth to wait."""
    return bool(irb.scsw.dstat & Dstat.BUSY) and not irb.scsw.dstat & Dstat.UNIT_CHECK


def is_channel_error(irb: Irb) -> bool:
    """Whether something between channel and control unit went wrong, so that another path may do."""
    return bool(irb.scsw.cstat & _CHANNEL_ERRORS)


def is_retryable(irb: Irb) -> bool:
    """Whether the program may succeed when it is started again as it is."""
    if is_channel_error(irb) or is_busy(irb):
        return True
    return bool(irb.scsw.dstat & Dstat.UNIT_CHECK) and Sense(irb.sense).retryable
