"""A 3480 or 3490 cartridge drive on its own control unit, with the tape in a file.

====  =========================  ======  ================================================================
code  command                    length  note
====  =========================  ======  ================================================================
01    WRITE                      any     unit exception behind the logical end of the tape
02    READ                       any     unit exception when a tape mark is read
07    REWIND
0C    READ BACKWARD              any     the block before, from its end on; unit exception as above
0F    REWIND UNLOAD                      ends with unit check, ERA 2b; the drive then needs intervention
12    READ BUFFER                any     nothing: what was written is on the tape
17    ERASE GAP                          nothing
1F    WRITE TAPE MARK
22    READ BLOCK ID              8       the number of the next block, twice
27    BACKSPACE BLOCK                    unit exception when it was a tape mark; 37 FORWARD SPACE BLOCK too
2F    BACKSPACE FILE                     to before the tape mark
3F    FORWARD SPACE FILE                 to behind the tape mark
43    SYNCHRONIZE                        nothing
4F    LOCATE BLOCK               4       low 22 bits; when there is none, the volume is fenced until it is rewound
97    DATA SECURITY ERASE                directly after ERASE GAP; what lies behind is gone
C3    SET TAPE-WRITE IMMEDIATE           nothing
====  =========================  ======  ================================================================

`tape_commands` has those that need no tape, `tape_sense` the sense bytes.  A block of more bytes than the program takes
is passed over as a whole.
Sources: "3490 Magnetic Tape Subsystem Hardware Reference" GA32-0127; ``drivers/s390/char/tape_std.h``,
``tape_34xx.c``; answers of Hercules.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from pyvfio.css.scsw import Dstat
from pyvfio.css.senseid import SenseId
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.css.controlunit import DONE, Channel, ControlUnit, Ending
from pyvfio_backends.software.hardware.devices.aws_tape import AwsTape
from pyvfio_backends.software.hardware.devices.eckd_chain import take
from pyvfio_backends.software.hardware.devices.tape_commands import TapeCommands, TapeFault
from pyvfio_backends.software.hardware.devices.tape_sense import Trouble, tape_sense

__all__ = ["DRIVES", "Tape3490", "make_tape"]

_UNIT_EXCEPTION: Final = Ending(Dstat.CHANNEL_END | Dstat.DEVICE_END | Dstat.UNIT_EXCEPTION)
_BLOCK_ID_BITS: Final = 0x3FFFFF
_BLOCK_FORMAT: Final = 0xC00000
_SENSE_ID_SIZE: Final = 7  # there are no command-information words
_SEGMENT: Final = 1 << 24  # where on the tape a block lies: all in the first segment
_REWIND, _UNLOAD, _ERASE_GAP, _READ_BACKWARD = 0x07, 0x0F, 0x17, 0x0C
DRIVES: Final = {"3480": SenseId(0x3480, 0x31, 0x3480, 0x31), "3490": SenseId(0x3490, 0x10, 0x3490, 0x40)}
"""What the drives say in SENSE ID."""


class Tape3490(ControlUnit):
    """A drive with `tape` loaded, or none; `model` is one of `DRIVES`, `serial` 16 bits of its serial number.

    It presents device end (04) when a tape was put in.  Raise `Misuse`.
    """

    def __init__(self, tape: AwsTape | None = None, *, model: str = "3490", serial: int = 0) -> None:
        if model not in DRIVES:
            raise Misuse("build control unit", "tape", cause=f"no model {model!r}; there is {', '.join(DRIVES)}")
        super().__init__(DRIVES[model])
        self.sense_id_data = self.sense_id_data[:_SENSE_ID_SIZE]
        self.tape = tape
        self.serial = serial
        self._previous = 0
        self._fenced = False
        self._commands = TapeCommands(self.sense_id, lambda: self.full_sense(b""))
        self._with_tape: dict[int, Callable[[AwsTape, Channel], Ending]] = {
            0x01: self._write,
            0x02: self._read,
            _REWIND: self._rewind,
            _READ_BACKWARD: self._read_backward,
            _UNLOAD: self._unload,
            0x12: self._read_nothing,
            _ERASE_GAP: self._erase_gap,
            0x1F: self._write_mark,
            0x22: self._read_block_id,
            0x27: self._back_block,
            0x2F: self._back_file,
            0x37: self._forward_block,
            0x3F: self._forward_file,
            0x43: self._nothing,
            0x4F: self._locate,
            0x97: self._erase,
            0xC3: self._nothing,
        }

    @property
    def display(self) -> bytes:
        """What LOAD DISPLAY brought last."""
        return self._commands.display

    @property
    def display_text(self) -> str:
        """The message of eight letters on the drive's display."""
        return self._commands.display_text

    def load(self, tape: AwsTape) -> None:
        """Put a tape in."""
        self.tape = tape
        self._fenced = False
        if self.present is not None:
            self.present(Dstat.DEVICE_END)

    def unload(self) -> None:
        """Take the tape out by hand."""
        self.tape = None

    def assign_elsewhere(self, elsewhere: bool = True) -> None:
        """Let another system assign the drive to itself, or give it back."""
        self._commands.assigned_elsewhere = elsewhere

    def program_starts(self) -> None:
        """See `ControlUnit.program_starts`."""
        self._previous = 0
        self._commands.begin()

    def no_operation(self, channel: Channel) -> Ending:
        """See `ControlUnit.no_operation`; a drive that is not ready says so."""
        return DONE if self.tape is not None else Trouble.NOT_READY.ending()

    def command(self, code: int, channel: Channel) -> Ending:
        """Do a command of the table above, or of those that need no tape."""
        try:
            if self._commands.assigned_elsewhere and not self._commands.identifies(code):
                raise TapeFault(Trouble.ELSEWHERE)
            handler = self._with_tape.get(code)
            if handler is None:
                return self._commands.perform(code, channel)
            if self.tape is None:
                raise TapeFault(Trouble.NOT_READY)
            if self._fenced and code not in (_REWIND, _UNLOAD):
                raise TapeFault(Trouble.FENCED)
            return handler(self.tape, channel)
        except TapeFault as fault:
            return fault.trouble.ending()
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
            return (Trouble.END_OF_TAPE if full else Trouble.EQUIPMENT).ending()
        finally:
            self._previous = code

    def full_sense(self, sense: bytes) -> bytes:
        """See `ControlUnit.full_sense`; how the drive is, is in it."""
        tape = self.tape
        return tape_sense(
            sense,
            self.sense_id.dev_type,
            self.serial,
            loaded=tape is not None,
            at_load_point=tape is not None and not tape.position,
            protected=tape is not None and tape.readonly,
        )

    # -- data ----------------------------------------------------------------------------------------------------

    def _no_more(self) -> TapeFault:
        return TapeFault(Trouble.VOID if self.sense_id.dev_type == 0x3480 else Trouble.END_OF_DATA)

    def _read(self, tape: AwsTape, channel: Channel) -> Ending:
        if tape.at_end:
            raise self._no_more()
        data = tape.read()
        channel.write_to_memory(data or b"")
        return _UNIT_EXCEPTION if data is None else DONE

    def _read_backward(self, tape: AwsTape, channel: Channel) -> Ending:
        if not tape.position:
            raise TapeFault(Trouble.LOAD_POINT)
        tape.position -= 1
        data = tape.read()
        tape.position -= 1
        channel.write_to_memory((data or b"")[::-1])
        return _UNIT_EXCEPTION if data is None else DONE

    def _read_nothing(self, tape: AwsTape, channel: Channel) -> Ending:
        channel.write_to_memory(b"")
        return DONE

    def _writable(self, tape: AwsTape) -> None:
        """Raise `TapeFault` when nothing can be written."""
        if tape.readonly:
            raise TapeFault(Trouble.PROTECTED)
        if tape.full:
            raise TapeFault(Trouble.END_OF_TAPE)

    def _written(self, tape: AwsTape) -> Ending:
        return _UNIT_EXCEPTION if tape.past_capacity else DONE

    def _write(self, tape: AwsTape, channel: Channel) -> Ending:
        self._writable(tape)
        pieces: list[bytes] = []
        while channel.left:
            pieces.append(channel.read_from_memory(channel.left))
        tape.write(b"".join(pieces))
        return self._written(tape)

    def _write_mark(self, tape: AwsTape, channel: Channel) -> Ending:
        self._writable(tape)
        tape.write_mark()
        return self._written(tape)

    def _erase_gap(self, tape: AwsTape, channel: Channel) -> Ending:
        self._writable(tape)
        return DONE

    def _erase(self, tape: AwsTape, channel: Channel) -> Ending:
        if self._previous != _ERASE_GAP:
            raise TapeFault(Trouble.REJECT)
        self._writable(tape)
        tape.cut()
        return DONE

    # -- motion --------------------------------------------------------------------------------------------------

    def _nothing(self, tape: AwsTape, channel: Channel) -> Ending:
        return DONE

    def _rewind(self, tape: AwsTape, channel: Channel) -> Ending:
        tape.position = 0
        self._fenced = False
        return DONE

    def _unload(self, tape: AwsTape, channel: Channel) -> Ending:
        self._rewind(tape, channel)
        self.tape = None
        raise TapeFault(Trouble.UNLOADED)

    def _read_block_id(self, tape: AwsTape, channel: Channel) -> Ending:
        channel.write_to_memory((_SEGMENT | tape.position & _BLOCK_ID_BITS).to_bytes(4, "big") * 2)
        return DONE

    def _locate(self, tape: AwsTape, channel: Channel) -> Ending:
        raw = take(channel, 4)
        block = int.from_bytes(raw, "big")
        if len(raw) < 4 or block & _BLOCK_FORMAT == _BLOCK_FORMAT:
            raise TapeFault(Trouble.REJECT)
        number = block & _BLOCK_ID_BITS
        if number > len(tape):
            self._fenced = True
            raise TapeFault(Trouble.NOT_FOUND)
        tape.position = number
        return DONE

    def _forward_block(self, tape: AwsTape, channel: Channel) -> Ending:
        if tape.at_end:
            raise self._no_more()
        tape.position += 1
        return _UNIT_EXCEPTION if tape.is_mark(tape.position - 1) else DONE

    def _back_block(self, tape: AwsTape, channel: Channel) -> Ending:
        if not tape.position:
            raise TapeFault(Trouble.LOAD_POINT)
        tape.position -= 1
        return _UNIT_EXCEPTION if tape.is_mark(tape.position) else DONE

    def _forward_file(self, tape: AwsTape, channel: Channel) -> Ending:
        while not tape.at_end:
            tape.position += 1
            if tape.is_mark(tape.position - 1):
                return DONE
        raise self._no_more()

    def _back_file(self, tape: AwsTape, channel: Channel) -> Ending:
        while tape.position:
            tape.position -= 1
            if tape.is_mark(tape.position):
                return DONE
        raise TapeFault(Trouble.LOAD_POINT)

    def __str__(self) -> str:
        return f"tape drive {self.sense_id}, {self.tape or 'not loaded'}"


def make_tape(
    *, image: str = "", readonly: bool = False, capacity: int = 0, model: str = "3490", serial: int = 0
) -> Tape3490:
    """The drive that a machine file describes: with the tape in `image`, or empty.  Raise `BadImage` or `Misuse`."""
    if not 0 <= serial < 1 << 16:
        raise Misuse("build control unit", "tape", cause=f"serial number {serial:#x} has more than 16 bits")
    tape = AwsTape(image, readonly=readonly, capacity=capacity) if image else None
    return Tape3490(tape, model=model, serial=serial)
