"""Control units: what sits at the device's end of a channel path.

A control unit gets one command after the other, each with the `Channel` that moves its data, and answers with an
`Ending`.  It knows nothing of CCWs, IDAWs or subchannels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

from pyvfio.css.ccw import Command
from pyvfio.css.scsw import Cstat, Dstat
from pyvfio.css.senseid import SenseId

__all__ = [
    "COMMAND_REJECT",
    "DONE",
    "INTERVENTION_REQUIRED",
    "RETRY",
    "SENSE_SIZE",
    "WORKING",
    "Channel",
    "ControlUnit",
    "Ending",
    "unit_check",
]

SENSE_SIZE: Final = 32
COMMAND_REJECT: Final = 0x80
INTERVENTION_REQUIRED: Final = 0x40


_NO_CSTAT: Final = Cstat(0)
_NO_DSTAT: Final = Dstat(0)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended: device status, sense bytes when it is a unit check, and a channel's own check if any.

    The device status can also say that it has not ended:

    * nothing (`WORKING`): the device works on it; channel end and device end come later;
    * channel end alone: the device goes on by itself; device end comes later;
    * channel end, unit check, status modifier (`RETRY`): do it again, after device end or at once if that is on, too;
    * busy as answer to the first command of a program: not now.  With `later` the channel waits for that device end
      (or, with status modifier, control-unit end) and tries again; without, nobody knows how long it would have to
      wait, and busy becomes the status of the program at once.

    What comes later is `later` if it is not 0, after `after` seconds of the machine's clock, with `later_sense`;
    otherwise whoever drives the machine presents it (``css.present_status``), or nobody does.

    `cstat` is for devices that live inside the channel subsystem (a hypervisor's virtio devices) and answer a bad
    request with a subchannel status, and for faults of a channel; a real control unit leaves it 0.  With a channel-data
    check, `failing_address` can say where in storage.
    """

    dstat: Dstat
    sense: bytes = b""
    cstat: Cstat = _NO_CSTAT
    later: Dstat = _NO_DSTAT
    after: float = 0.0
    later_sense: bytes = b""
    failing_address: int | None = None


_ENDED: Final = Dstat.CHANNEL_END | Dstat.DEVICE_END
DONE: Final = Ending(_ENDED)
WORKING: Final = Ending(_NO_DSTAT)
RETRY: Final = Ending(_ENDED | Dstat.UNIT_CHECK | Dstat.STATUS_MODIFIER)
_REJECTED: Final = Ending(_ENDED | Dstat.UNIT_CHECK, bytes([COMMAND_REJECT]))


def unit_check(*sense: int, dstat: Dstat = _ENDED) -> Ending:
    """An ending with unit check and these sense bytes (filled up with zeros when they are read)."""
    return Ending(dstat | Dstat.UNIT_CHECK, bytes(sense))


_SENSE_ID_TYPE_END = 4


class Channel(Protocol):
    """The channel, as a control unit sees it during one command."""

    @property
    def path(self) -> int:
        """The one-bit mask of the channel path, path 0 leftmost; 0 where there is none."""
        ...

    @property
    def chained(self) -> bool:
        """Whether another command will follow in this program (command chaining is indicated)."""
        ...

    @property
    def exact_length(self) -> bool:
        """Whether the program asked for a length check (suppress-length indication is off)."""
        ...

    @property
    def left(self) -> int:
        """Bytes that the current CCW's count still allows."""
        ...

    def write_to_memory(self, data: bytes) -> int:
        """Offer `data` of a read or sense command; return how many bytes the program left no room for.

        The bytes are in the order in which the device brings them.  Of READ BACKWARD (code xxxx 1100) that is from the
        end of the block on: the first one is stored at the highest address.
        """
        ...

    def read_from_memory(self, count: int) -> bytes:
        """Take at most `count` bytes of a write or control command; fewer when the program has no more."""
        ...

    def ignore_data(self) -> None:
        """Count all the program's bytes as taken, without looking at them."""
        ...

    def peek_memory(self, count: int) -> bytes:
        """Look at the first `count` bytes of what is left of this CCW's area, and move nothing.

        Only for devices inside the channel subsystem (virtio): no real control unit can do it.
        """
        ...


class ControlUnit:
    """Base of all control units.  It answers NOP, SENSE and SENSE ID; `command` does the rest.

    `latency` is the time in seconds of the machine's clock from the start to the first command; a device that
    needs none leaves 0.
    """

    latency: float = 0.0
    #: Presents a status of the device's own accord (attention, device end); set by the machine that has the device.
    present: Callable[[Dstat], None] | None = None
    virtual: bool = False  # whether the channel subsystem is a hypervisor's; it says so itself
    concurrent_sense: ClassVar[bool] = True
    #: What sense looks like when nothing is wrong; sense bytes are laid over it.
    idle_sense: ClassVar[bytes] = bytes(SENSE_SIZE)

    def __init__(self, sense_id: SenseId) -> None:
        self.sense_id = sense_id
        self.sense_id_data = sense_id.to_bytes()
        self.pending_sense = b""

    def perform(self, code: int, channel: Channel) -> Ending:
        """Do one command.  Called by the channel, in the order of the program."""
        if code == Command.NOP:
            return self.no_operation(channel)
        if code == Command.SENSE:
            return self.basic_sense(channel)
        if code == Command.SENSE_ID:
            return self.read_sense_id(channel)
        self.pending_sense = b""
        return self.command(code, channel)

    def command(self, code: int, channel: Channel) -> Ending:
        """Do a command which is not common to all control units; the base rejects it (sense 80)."""
        return _REJECTED

    def no_operation(self, channel: Channel) -> Ending:
        """NOP: an immediate command; no data moves."""
        return DONE

    def basic_sense(self, channel: Channel) -> Ending:
        """SENSE: bring the sense bytes of the last unit check and forget them."""
        channel.write_to_memory(self.full_sense(self.pending_sense))
        self.pending_sense = b""
        return DONE

    def read_sense_id(self, channel: Channel) -> Ending:
        """SENSE ID: bring the identification and the command-information words.

        Behind a virtual channel subsystem, a program that says it wants less than the control unit's type (a short
        count with SLI) gets 00 for the FF at the head.  A 3390 brings FF always.
        """
        data = self.sense_id_data
        short = self.virtual and channel.left < _SENSE_ID_TYPE_END and not channel.exact_length
        channel.write_to_memory(b"\0" + data[1:] if short else data)
        return DONE

    def full_sense(self, sense: bytes) -> bytes:
        """The 32 sense bytes for the given leading ones."""
        return (sense + self.idle_sense[len(sense) :])[:SENSE_SIZE]

    def program_starts(self) -> None:
        """Called before the first command of a channel program: what holds for one chain only is forgotten."""

    def subchannel_disabled(self) -> None:
        """Called when MSCH turns the subchannel off."""

    def halted(self) -> None:
        """Called by the halt function when a command is under way: the device stops it."""

    def cleared(self) -> None:
        """Called by the clear function."""

    def __str__(self) -> str:
        return f"control unit {self.sense_id}"
