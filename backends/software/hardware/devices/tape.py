"""A 3490 cartridge drive on its own control unit, with the tape in a file.

====  =========================  ======  ================================================================
code  command                    length  note
====  =========================  ======  ================================================================
01    WRITE                      any     unit exception behind the logical end of the tape
02    READ                       any     unit exception when a tape mark is read
07    REWIND
0F    REWIND UNLOAD                      the drive then needs intervention
17    ERASE GAP                          nothing
1F    WRITE TAPE MARK
22    READ BLOCK ID              8       the number of the next block, twice
27    BACKSPACE BLOCK                    unit exception when it was a tape mark; 37 FORWARD SPACE BLOCK too
2F    BACKSPACE FILE                     to before the tape mark
34    SENSE PATH GROUP ID        12      AF SET PATH GROUP ID
3F    FORWARD SPACE FILE                 to behind the tape mark
43    SYNCHRONIZE
4F    LOCATE BLOCK               4       low 22 bits
64    READ DEVICE CHARACT.       64
97    DATA SECURITY ERASE                what lies behind is gone
9F    LOAD DISPLAY               17      kept in `display`
B7    ASSIGN                     11      C7 UNASSIGN
DB    MODE SET                   1       also C3, CB, D3
====  =========================  ======  ================================================================

READ BACKWARD (0C) is not there: it is a command reject.  Sense byte 0 as of all control units; byte 1: 80 locate
failure, 40 drive online, 08 beginning of tape, 02 write protected; byte 3 is the error-recovery action:

====  =====================  ====  =====================  ====  =====================
27    command reject         36    end of data            43    drive not ready
30    write protected        38    physical end of tape   44    block not found
35    drive equipment check  39    backward at the load point
====  =====================  ====  =====================  ====  =====================

Sources: "3490 Magnetic Tape Subsystem Hardware Reference" GA32-0127; ``drivers/s390/char/tape_std.h``,
``tape_34xx.c``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyvfio.css.scsw import Dstat
from pyvfio.css.senseid import SenseId
from pyvfio_backends.software.hardware.css.controlunit import DONE, Channel, ControlUnit, Ending, unit_check
from pyvfio_backends.software.hardware.devices.aws_tape import AwsTape
from pyvfio_backends.software.hardware.devices.eckd_chain import take

__all__ = ["Tape3490", "make_tape"]

_UNIT_EXCEPTION: Final = Ending(Dstat.CHANNEL_END | Dstat.DEVICE_END | Dstat.UNIT_EXCEPTION)
_REJECT, _INTERVENTION, _EQUIPMENT = 0x80, 0x40, 0x10
_LOCATE_FAILURE, _ONLINE, _LOAD_POINT, _PROTECTED = 0x80, 0x40, 0x08, 0x02
_BLOCK_ID_BITS: Final = 0x3FFFFF
_PATH_GROUP_SIZE: Final = 12
_CHARACTERISTICS_SIZE: Final = 64
#: Commands that need no tape.
_WITHOUT_TAPE: Final = frozenset((0x34, 0x64, 0x9F, 0xAF, 0xB7, 0xC7, 0xC3, 0xCB, 0xD3, 0xDB))


class Tape3490(ControlUnit):
    """A drive with `tape` loaded, or none."""

    def __init__(self, tape: AwsTape | None = None) -> None:
        super().__init__(SenseId(0x3490, 0x10, 0x3490, 0x40))
        self.tape = tape
        self.display = b""
        self._path_group = bytes(_PATH_GROUP_SIZE)
        self._loaded: dict[int, Callable[[AwsTape, Channel], Ending]] = {
            0x01: self._write,
            0x02: self._read,
            0x07: self._rewind,
            0x0F: self._unload,
            0x17: self._nothing,
            0x1F: self._write_mark,
            0x22: self._read_block_id,
            0x27: self._back_block,
            0x2F: self._back_file,
            0x37: self._forward_block,
            0x3F: self._forward_file,
            0x43: self._nothing,
            0x4F: self._locate,
            0x97: self._erase,
        }

    def load(self, tape: AwsTape) -> None:
        """Put a tape in; whoever drives the machine presents device end (04) for it."""
        self.tape = tape

    def command(self, code: int, channel: Channel) -> Ending:
        """Do a command of the table above."""
        tape = self.tape
        if code in self._loaded:
            if tape is None:
                return self._check(_INTERVENTION, 0x43)
            try:
                return self._loaded[code](tape, channel)
            except OSError:
                return self._check(_EQUIPMENT, 0x35)
        return self._without_tape(code, channel) if code in _WITHOUT_TAPE else self._check(_REJECT, 0x27)

    def _without_tape(self, code: int, channel: Channel) -> Ending:
        if code == 0x34:
            channel.write_to_memory(self._path_group)
        elif code == 0xAF:
            self._path_group = take(channel, _PATH_GROUP_SIZE).ljust(_PATH_GROUP_SIZE, b"\0")
        elif code == 0x64:
            head = self.sense_id_data[1:7]  # both types and models
            channel.write_to_memory(head.ljust(_CHARACTERISTICS_SIZE, b"\0"))
        else:
            parameters = take(channel, channel.left)
            if code == 0x9F:
                self.display = parameters
        return DONE

    def _check(self, kind: int, action: int, flags: int = 0) -> Ending:
        return unit_check(kind, flags | self._state(), 0, action)

    def _state(self) -> int:
        tape = self.tape
        if tape is None:
            return 0
        return _ONLINE | (0 if tape.position else _LOAD_POINT) | (_PROTECTED if tape.readonly else 0)

    def full_sense(self, sense: bytes) -> bytes:
        """See `ControlUnit.full_sense`; byte 1 says how the drive is."""
        full = bytearray(super().full_sense(sense))
        full[1] |= self._state()
        return bytes(full)

    # -- data ----------------------------------------------------------------------------------------------------

    def _read(self, tape: AwsTape, channel: Channel) -> Ending:
        if tape.at_end:
            return self._check(_EQUIPMENT, 0x36)
        data = tape.read()
        if data is None:
            return _UNIT_EXCEPTION
        channel.write_to_memory(data)
        return DONE

    def _protected(self, tape: AwsTape) -> Ending | None:
        """Why nothing can be written."""
        if tape.readonly:
            return self._check(_REJECT, 0x30)
        if tape.full:
            return self._check(_EQUIPMENT, 0x38)
        return None

    def _write(self, tape: AwsTape, channel: Channel) -> Ending:
        protected = self._protected(tape)
        if protected is not None:
            return protected
        pieces: list[bytes] = []
        while channel.left:
            pieces.append(channel.read_from_memory(channel.left))
        tape.write(b"".join(pieces))
        return _UNIT_EXCEPTION if tape.past_capacity else DONE

    def _write_mark(self, tape: AwsTape, channel: Channel) -> Ending:
        protected = self._protected(tape)
        if protected is not None:
            return protected
        tape.write_mark()
        return _UNIT_EXCEPTION if tape.past_capacity else DONE

    def _erase(self, tape: AwsTape, channel: Channel) -> Ending:
        protected = self._protected(tape)
        if protected is not None:
            return protected
        tape.cut()
        return DONE

    # -- motion --------------------------------------------------------------------------------------------------

    def _nothing(self, tape: AwsTape, channel: Channel) -> Ending:
        return DONE

    def _rewind(self, tape: AwsTape, channel: Channel) -> Ending:
        tape.position = 0
        return DONE

    def _unload(self, tape: AwsTape, channel: Channel) -> Ending:
        tape.position = 0
        self.tape = None
        return DONE

    def _read_block_id(self, tape: AwsTape, channel: Channel) -> Ending:
        channel.write_to_memory((tape.position & _BLOCK_ID_BITS).to_bytes(4, "big") * 2)
        return DONE

    def _locate(self, tape: AwsTape, channel: Channel) -> Ending:
        raw = take(channel, 4)
        number = int.from_bytes(raw, "big") & _BLOCK_ID_BITS
        if len(raw) < 4:
            return self._check(_REJECT, 0x27)
        if number > len(tape):
            tape.position = len(tape)
            return self._check(_EQUIPMENT, 0x44, _LOCATE_FAILURE)
        tape.position = number
        return DONE

    def _forward_block(self, tape: AwsTape, channel: Channel) -> Ending:
        if tape.at_end:
            return self._check(_EQUIPMENT, 0x36)
        tape.position += 1
        return _UNIT_EXCEPTION if tape.is_mark(tape.position - 1) else DONE

    def _back_block(self, tape: AwsTape, channel: Channel) -> Ending:
        if not tape.position:
            return self._check(_EQUIPMENT, 0x39)
        tape.position -= 1
        return _UNIT_EXCEPTION if tape.is_mark(tape.position) else DONE

    def _forward_file(self, tape: AwsTape, channel: Channel) -> Ending:
        while not tape.at_end:
            tape.position += 1
            if tape.is_mark(tape.position - 1):
                return DONE
        return self._check(_EQUIPMENT, 0x36)

    def _back_file(self, tape: AwsTape, channel: Channel) -> Ending:
        while tape.position:
            tape.position -= 1
            if tape.is_mark(tape.position):
                return DONE
        return self._check(_EQUIPMENT, 0x39)

    def __str__(self) -> str:
        return f"tape drive {self.sense_id}, {self.tape or 'not loaded'}"


def make_tape(*, image: str = "", readonly: bool = False, capacity: int = 0) -> Tape3490:
    """The drive that a machine file describes: with the tape in `image`, or empty.  Raise `BadImage`."""
    return Tape3490(AwsTape(image, readonly=readonly, capacity=capacity) if image else None)
