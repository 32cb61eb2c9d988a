"""The commands of a 3480 or 3490 that need no tape.

====  =========================  ======  ================================================================
code  command                    length  note
====  =========================  ======  ================================================================
24    READ BUFFERED LOG          32
34    SENSE PATH GROUP ID        12      the only command of its program, as AF
3E    READ SUBSYSTEM DATA        any     what 77 has prepared (3490)
5B    SUSPEND MULTIPATH RECONN.
64    READ DEVICE CHARACT.       64
77    PERFORM SUBSYSTEM FUNC.    12      18: prepare for READ SUBSYSTEM DATA, an attention message (03: none) (3490)
9F    LOAD DISPLAY               17      control byte and two messages of eight letters
AF    SET PATH GROUP ID          12      00 establish, 20 disband, 40 resign; no multipath mode
B7    ASSIGN                     11      zeros, or this system's path-group identifier; C7 UNASSIGN
DB    MODE SET                   1       bit 3: no supervisor commands in the rest of this program
FA    READ CONFIGURATION DATA    160     (3490)
====  =========================  ======  ================================================================

The mode sets of older drives (13, 23, ...) do nothing.  Supervisor commands are 34, 5B, 77, 9F, AF, B7, C7, DB.
CONTROL ACCESS (E3), READ MESSAGE ID (4E) and what libraries have are not there: command reject.
Sources: "3490 Magnetic Tape Subsystem Hardware Reference" GA32-0127; ``drivers/s390/char/tape_std.c``; answers of
Hercules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyvfio.css.senseid import SenseId
from pyvfio_backends.software.hardware.css.controlunit import DONE, Channel, Ending
from pyvfio_backends.software.hardware.devices.eckd_chain import take
from pyvfio_backends.software.hardware.devices.path_group import PathGroup
from pyvfio_backends.software.hardware.devices.tape_sense import Trouble, log_sense

__all__ = ["TapeCommands", "TapeFault"]

_SENSE_GROUP, _SET_GROUP, _MODE_SET = 0x34, 0xAF, 0xDB
_CHARACTERISTICS: Final = 0x64
_IDENTIFY: Final = frozenset((_SENSE_GROUP, _CHARACTERISTICS, _SET_GROUP, 0xFA))
_SUPERVISOR: Final = frozenset((_SENSE_GROUP, 0x5B, 0x77, 0x9F, _SET_GROUP, 0xB7, 0xC7, _MODE_SET))
_ALONE: Final = frozenset((_SENSE_GROUP, _SET_GROUP))
_OLD_MODES: Final = frozenset(
    (0x13, 0x23, 0x2B, 0x33, 0x3B, 0x53, 0x63, 0x6B, 0x73, 0x7B, 0x93, 0xA3, 0xAB, 0xB3, 0xBB, 0xCB, 0xD3)
)
_ONLY_3490: Final = frozenset((0x3E, 0x77, 0xFA))
_SUPERVISOR_INHIBIT: Final = 0x10
_PREPARE, _MESSAGE = 0x18, 0x03
_ASSIGNMENT_SIZE: Final = 11
_DISPLAY_SIZE: Final = 17
_CHARACTERISTICS_SIZE: Final = 64
_FACILITIES: Final = 0x000002C0
_CLASS, _TYPE = 0x80, 0x80
_RECORDERS: Final = {0x3480: (0x41, 0x80), 0x3490: (0x42, 0x81)}
_SERIAL: Final = "IBM75000000000001"


class TapeFault(Exception):
    """A command ends with the unit check of `trouble`.  It never leaves the control unit."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble)
        self.trouble = trouble


class TapeCommands:
    """The handlers of these commands for one drive; `sense` brings its sense bytes when nothing is wrong."""

    def __init__(self, sense_id: SenseId, sense: Callable[[], bytes]) -> None:
        self._sense_id = sense_id
        self._sense = sense
        self._group = PathGroup()
        self.display = b""
        self.assigned = False
        self.assigned_elsewhere = False
        self._handlers: dict[int, Callable[[Channel], Ending]] = {
            0x24: lambda channel: _bring(channel, log_sense(sense())),
            _SENSE_GROUP: lambda channel: _bring(channel, self._group.state(channel.path)),
            0x3E: self._read_subsystem_data,
            0x5B: lambda channel: DONE,
            _CHARACTERISTICS: self._read_characteristics,
            0x77: self._perform_function,
            0x9F: self._load_display,
            _SET_GROUP: self._set_group,
            0xB7: self._assign,
            0xC7: self._unassign,
            _MODE_SET: self._set_mode,
            0xFA: self._read_configuration,
        }
        self.begin()

    def begin(self) -> None:
        """A channel program begins."""
        self._number = 0
        self._inhibited = False
        self._prepared: bytes | None = None

    @staticmethod
    def identifies(code: int) -> bool:
        """Whether a drive that another system has answers this command all the same."""
        return code in _IDENTIFY

    @property
    def display_text(self) -> str:
        """The first message on the display."""
        return self.display[1:9].decode("cp037").rstrip()

    def perform(self, code: int, channel: Channel) -> Ending:
        """Do a command.  Raise `TapeFault`."""
        self._number += 1
        if code in _OLD_MODES:
            return DONE
        handler = self._handlers.get(code)
        rejected = (
            handler is None
            or (code in _ONLY_3490 and self._sense_id.dev_type != 0x3490)
            or (code in _SUPERVISOR and self._inhibited)
            or (code in _ALONE and (self._number > 1 or channel.chained))
        )
        if rejected or handler is None:
            raise TapeFault(Trouble.REJECT)
        return handler(channel)

    def _parameters(self, channel: Channel, size: int) -> bytes:
        raw = take(channel, size)
        if len(raw) < size:
            raise TapeFault(Trouble.REJECT)
        return raw

    def _set_group(self, channel: Channel) -> Ending:
        raw = self._parameters(channel, PathGroup.SIZE)
        if not self._group.set(bytes([raw[0] & 0x7F]) + raw[1:], channel.path):
            raise TapeFault(Trouble.REJECT)
        return DONE

    def _assign(self, channel: Channel) -> Ending:
        group = self._parameters(channel, _ASSIGNMENT_SIZE)
        if any(group) and group != self._group.identifier(channel.path):
            raise TapeFault(Trouble.REJECT)
        self.assigned = True
        return DONE

    def _unassign(self, channel: Channel) -> Ending:
        self._parameters(channel, _ASSIGNMENT_SIZE)
        self.assigned = False
        return DONE

    def _set_mode(self, channel: Channel) -> Ending:
        self._inhibited = bool(self._parameters(channel, 1)[0] & _SUPERVISOR_INHIBIT)
        return DONE

    def _load_display(self, channel: Channel) -> Ending:
        self.display = take(channel, _DISPLAY_SIZE)
        return DONE

    # -- what it is ----------------------------------------------------------------------------------------------

    def _read_characteristics(self, channel: Channel) -> Ending:
        kind = self._sense_id
        data = bytearray(_CHARACTERISTICS_SIZE)
        data[0:6] = kind.to_bytes()[1:7]
        data[6:10] = _FACILITIES.to_bytes(4, "big")
        data[10:12] = bytes((_CLASS, _TYPE))
        data[40:42] = bytes(_RECORDERS[kind.dev_type])
        return _bring(channel, bytes(data))

    def _read_configuration(self, channel: Channel) -> Ending:
        text = f"00{self._sense_id.dev_type:04X}{self._sense_id.dev_model:03X}{_SERIAL}".encode("cp037") + bytes(2)
        heads = (b"\xcc\x01\x02\0", b"\xc4\x02\0\0", b"", b"\xec\0\0\0")
        nodes = b"".join((head + text if head else b"").ljust(32, b"\0") for head in heads)
        return _bring(channel, nodes + b"\x80\x80\x00\x80".ljust(32, b"\0"))

    def _perform_function(self, channel: Channel) -> Ending:
        order = self._parameters(channel, 12)
        if order[0] != _PREPARE or any(order[1:6]) or order[6] != _MESSAGE:
            raise TapeFault(Trouble.REJECT)
        self._prepared = b"\0\x09\0\0" + order[8:12] + b"\0"
        return DONE

    def _read_subsystem_data(self, channel: Channel) -> Ending:
        data, self._prepared = self._prepared, None
        if data is None:
            raise TapeFault(Trouble.REJECT)
        return _bring(channel, data)


def _bring(channel: Channel, data: bytes) -> Ending:
    channel.write_to_memory(data)
    return DONE
