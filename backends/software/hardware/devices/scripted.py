"""A control unit that does what a test tells it: data, status, sense, delays, busy, and what happens afterwards.

By default it is an empty script: NOP, SENSE and SENSE ID as of all control units, everything else command reject.
`Scripted.on` says what a command answers, `queue` what the next command does whatever it is.  All commands and the
bytes that programs wrote are kept in `log`.  An unsolicited status (attention, or the device end that a busy or
early-ended device owes) is presented by the channel subsystem: ``css.present_status(schid, Dstat.ATTENTION)``; an
answer's `then` can do that, at once or on the machine's clock.

>>> unit = Scripted()
>>> unit.on(0x02, Answer(data=b"hello"))
>>> unit.on(0x01, Answer(takes=4, dstat=Dstat.CHANNEL_END | Dstat.DEVICE_END | Dstat.UNIT_EXCEPTION))
>>> unit.queue(busy(), busy(after=0.5), unit_checked(0x40), retried(), split(after=0.01), working(after=2.0))

=========================  ==========================================================================================
answer                     what the channel makes of it
=========================  ==========================================================================================
`busy()`                   device status busy, at once; with `after` it waits for device end and tries again
`control_unit_busy()`      busy and status modifier; with `after` it waits for control-unit end
`working(after)`           nothing yet; channel end and device end come after so many seconds
`split(after)`             channel end; device end comes later, and until then the device is busy
`retried(after)`           the channel gives the command again: at once, or after device end
`unit_checked(bytes)`      unit check with these sense bytes
`Answer(cstat=...)`        a check of the channel, as a faulty path has it
`Answer(dstat=..., ...)`   any other status: 80 attention, 10 busy, 01 unit exception, 40 status modifier
=========================  ==========================================================================================

A path that fails is not the control unit's matter: ``css.break_path(cssid, chpid)``.

In a machine file (``unit = "scripted"``) the option `script` is a table from command codes to answers: ``"02" =
"data 68656c6c6f"``, ``"01" = "take 4, status 0d"``, ``"07" = "sense 8000"``, ``"0b" = "status 08, later 04, after
0.5"``.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pyvfio.css.ccw import Command
from pyvfio.css.scsw import Cstat, Dstat
from pyvfio.css.senseid import SenseId
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.css.controlunit import SENSE_SIZE, Channel, ControlUnit, Ending

__all__ = [
    "Answer",
    "Performed",
    "Scripted",
    "busy",
    "control_unit_busy",
    "make_scripted",
    "retried",
    "split",
    "unit_checked",
    "working",
]

_ENDED: Final = Dstat.CHANNEL_END | Dstat.DEVICE_END
_ALL: Final = -1
_NO_CSTAT: Final = Cstat(0)
_NO_DSTAT: Final = Dstat(0)
_RETRY: Final = Dstat.CHANNEL_END | Dstat.UNIT_CHECK | Dstat.STATUS_MODIFIER


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command does: takes at most `takes` bytes (-1: all there are), brings `data`, ends with `dstat`.

    `sense` is kept for a unit check in `dstat`; `cstat` is for what only a channel would report, `failing_address` for
    where in storage.  The status `later` follows `after` seconds, with `later_sense`.  `then` is called after the
    command, with the bytes that it took.
    """

    data: bytes = b""
    takes: int = 0
    dstat: Dstat = _ENDED
    sense: bytes = b""
    cstat: Cstat = _NO_CSTAT
    later: Dstat = _NO_DSTAT
    after: float = 0.0
    later_sense: bytes = b""
    failing_address: int | None = None
    then: Callable[[bytes], None] | None = None


@dataclass(frozen=True, slots=True)
class Performed:
    """One command that was done: its code, the bytes that it took, and the status that it ended with."""

    code: int
    took: bytes
    dstat: Dstat


def busy(after: float | None = None) -> Answer:
    """The device is busy: the command is not done; `after` seconds it says by device end that it no longer is."""
    if after is None:
        return Answer(dstat=Dstat.BUSY)
    return Answer(dstat=Dstat.BUSY, later=Dstat.DEVICE_END, after=after)


def control_unit_busy(after: float | None = None) -> Answer:
    """The control unit is busy; `after` seconds it says by control-unit end that it no longer is."""
    dstat = Dstat.BUSY | Dstat.STATUS_MODIFIER
    return Answer(dstat=dstat) if after is None else Answer(dstat=dstat, later=Dstat.CONTROL_UNIT_END, after=after)


def working(after: float, data: bytes = b"", takes: int = 0) -> Answer:
    """The command ends only `after` seconds."""
    return Answer(data=data, takes=takes, dstat=_NO_DSTAT, later=_ENDED, after=after)


def split(after: float, data: bytes = b"", takes: int = 0) -> Answer:
    """Channel end at once, device end `after` seconds."""
    return Answer(data=data, takes=takes, dstat=Dstat.CHANNEL_END, later=Dstat.DEVICE_END, after=after)


def retried(after: float | None = None) -> Answer:
    """The channel has to give the command again: at once, or `after` seconds, when the device is ready for it."""
    if after is None:
        return Answer(dstat=_RETRY | Dstat.DEVICE_END)
    return Answer(dstat=_RETRY, later=Dstat.DEVICE_END, after=after)


def unit_checked(*sense: int) -> Answer:
    """A unit check with these sense bytes."""
    return Answer(dstat=_ENDED | Dstat.UNIT_CHECK, sense=bytes(sense))


_REJECTED: Final = unit_checked(0x80)


class Scripted(ControlUnit):
    """A control unit whose answers are set from outside; `latency` is the time in seconds that each start takes."""

    def __init__(self, sense_id: SenseId | None = None, *, latency: float = 0.0) -> None:
        super().__init__(sense_id if sense_id is not None else SenseId(0x5C1D, 0x01, 0x5C1D, 0x01))
        self.latency = latency
        self.log: list[Performed] = []
        self.cleared_times = 0
        self._answers: dict[int, Answer] = {}
        self._queue: deque[Answer] = deque()
        self._starts = 0

    @property
    def starts(self) -> int:
        """How many channel programs have begun."""
        return self._starts

    def on(self, code: int, answer: Answer) -> None:
        """From now on the command answers so; NOP, SENSE and SENSE ID can be replaced too."""
        self._answers[code] = answer

    def queue(self, *answers: Answer) -> None:
        """The next commands answer so, one each, whatever they are."""
        self._queue.extend(answers)

    def perform(self, code: int, channel: Channel) -> Ending:
        """See `ControlUnit.perform`."""
        if not self._queue and code not in self._answers and code in (Command.NOP, Command.SENSE, Command.SENSE_ID):
            self.log.append(Performed(code, b"", _ENDED))
            return super().perform(code, channel)
        self.pending_sense = b""
        return self.command(code, channel)

    def command(self, code: int, channel: Channel) -> Ending:
        """Do what the script says."""
        answer = self._queue.popleft() if self._queue else self._answers.get(code, _REJECTED)
        taken: list[bytes] = []
        left = answer.takes
        while left and channel.left:
            taken.append(channel.read_from_memory(channel.left if left == _ALL else min(left, channel.left)))
            left = left if left == _ALL else left - len(taken[-1])
        took = b"".join(taken)
        if answer.data:
            channel.write_to_memory(answer.data)
        self.log.append(Performed(code, took, answer.dstat))
        if answer.then is not None:
            answer.then(took)
        return Ending(
            answer.dstat,
            answer.sense,
            answer.cstat,
            answer.later,
            answer.after,
            answer.later_sense,
            answer.failing_address,
        )

    def program_starts(self) -> None:
        """See `ControlUnit.program_starts`."""
        self._starts += 1

    def cleared(self) -> None:
        """See `ControlUnit.cleared`."""
        self.cleared_times += 1

    def __str__(self) -> str:
        return f"scripted {self.sense_id}, {len(self._answers)} commands"


def _answer(text: str) -> Answer:
    """An answer in a machine file's words.  Raise ValueError."""
    parts: dict[str, Any] = {}
    for part in text.split(","):
        word, _, value = part.strip().partition(" ")
        if word == "data":
            parts["data"] = bytes.fromhex(value)
        elif word == "take":
            parts["takes"] = _ALL if value == "all" else int(value)
        elif word in ("status", "later"):
            parts["dstat" if word == "status" else "later"] = Dstat(int(value, 16))
        elif word == "channel":
            parts["cstat"] = Cstat(int(value, 16))
        elif word == "after":
            parts["after"] = float(value)
            if not 0 <= parts["after"] < math.inf:
                raise ValueError(f"{value} seconds cannot be waited")
        elif word == "sense":
            parts["sense"] = bytes.fromhex(value)[:SENSE_SIZE]
            parts.setdefault("dstat", _ENDED | Dstat.UNIT_CHECK)
        elif word:
            raise ValueError(f"{word!r} is none of data, take, status, channel, sense, later, after")
    return Answer(**parts)


def make_scripted(script: Mapping[str, Any], latency: float = 0.0) -> Scripted:
    """The control unit that a machine file describes.  Raise `Misuse` for a script that cannot be read."""
    unit = Scripted(latency=latency)
    for code, text in script.items():
        try:
            number = int(code, 16)
            if not 0 < number < 256:
                raise ValueError("a command code is 01 to ff")
            unit.on(number, _answer(str(text)))
        except ValueError as error:
            raise Misuse("build control unit", "scripted", cause=f"answer to command {code!r}: {error}") from None
    return unit
