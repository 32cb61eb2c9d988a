"""A 3270 display station on a local control unit (3270/00).

====  =========================  ==============================================================
code  command                    what it does
====  =========================  ==============================================================
01    WRITE                      control character, orders and characters; see `stream3270`
05    ERASE/WRITE                the same on an empty screen of 24 lines and 80 columns
0D    ERASE/WRITE ALTERNATE      the same on an empty screen of its model's size
0F    ERASE ALL UNPROTECTED
11    WRITE STRUCTURED FIELD     queries, and writes as fields
0B    SELECT                     nothing
02    READ BUFFER                all of the screen
06    READ MODIFIED              what was keyed in
0E    READ MODIFIED ALL          the same for every key
====  =========================  ==============================================================

======  =====  ========================================================================
sense   bit    meaning
======  =====  ========================================================================
80      0      command reject
40      1      intervention required: nobody is connected
01      7      operation check: the data stream cannot be followed
======  =====  ========================================================================

======  =============  =======================
model   lines          columns
======  =============  =======================
2       24             80
3       32             80
4       43             80
5       27             132
======  =============  =======================

A test is the person in front of it:

>>> terminal = Terminal3270()
>>> terminal.stream.write(bytes.fromhex("02114040 1d40 c8c5d3d3d6"))
>>> print(terminal.screen.text)
 HELLO
>>> terminal.screen.move(1, 7)
>>> terminal.screen.type(" YOU")
>>> terminal.press("ENTER")
>>> terminal.stream.read_modified().hex()
'7d404a1140c1c8c5d3d3d640e8d6e4'

Source: "3270 Information Display System: Data Stream Programmer's Reference" GA23-0059; "3274 Control Unit Description
and Programmer's Guide" GA23-0061; ``drivers/s390/char/raw3270.c``.
"""

from __future__ import annotations

from typing import Final

from pyvfio.css.scsw import Dstat
from pyvfio.css.senseid import SenseId
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.css.controlunit import (
    COMMAND_REJECT,
    DONE,
    INTERVENTION_REQUIRED,
    Channel,
    ControlUnit,
    Ending,
    unit_check,
)
from pyvfio_backends.software.hardware.devices.screen3270 import Screen
from pyvfio_backends.software.hardware.devices.stream3270 import BadStream, DataStream

__all__ = ["MODELS", "Terminal3270"]

_WRITE, _ERASE_WRITE, _ERASE_WRITE_ALTERNATE, _WRITE_STRUCTURED = 0x01, 0x05, 0x0D, 0x11
_READ_BUFFER, _READ_MODIFIED, _READ_MODIFIED_ALL = 0x02, 0x06, 0x0E
_SELECT, _ERASE_ALL_UNPROTECTED = 0x0B, 0x0F
_ERASES: Final = {_WRITE: None, _ERASE_WRITE: False, _ERASE_WRITE_ALTERNATE: True}
_OPERATION_CHECK: Final = 0x01
_DEFAULT_SIZE: Final = (24, 80)
MODELS: Final = {2: _DEFAULT_SIZE, 3: (32, 80), 4: (43, 80), 5: (27, 132)}
"""Lines and columns of the alternate screen of each model."""

#: A command that it does not know is refused by the initial status, which is unit check alone.
_REFUSED: Final = unit_check(COMMAND_REJECT, dstat=Dstat(0))


class Terminal3270(ControlUnit):
    """A display station of `model` (2 to 5).

    While `connected` is false every command but NOP, SENSE and SENSE ID needs intervention.  `screen` is what a person
    sees and types on.  It presents attention (80) when it wants to be read; with `answers` off not for an answer
    to a query, which it then does not give.  Raise `Misuse`.
    """

    def __init__(self, connected: bool = True, model: int = 2, *, answers: bool = True) -> None:
        if model not in MODELS:
            models = ", ".join(map(str, MODELS))
            raise Misuse("build control unit", "3270", cause=f"no model {model}; there is {models}")
        super().__init__(SenseId(0x3270))
        self.connected = connected
        self.screen = Screen(*_DEFAULT_SIZE)
        self.stream = DataStream(self.screen, _DEFAULT_SIZE, MODELS[model], answers=answers)
        self._raw: bytes | None = None

    def press(self, key: str) -> None:
        """Press a key that attracts attention (see `Screen.press`), and ask for it.  Raise `Misuse`."""
        self.screen.press(key)
        self._attract()

    def key_in(self, stream: bytes) -> None:
        """Let the next read bring exactly `stream`, whatever is on the screen."""
        self._raw = stream
        self._attract()

    def _attract(self) -> None:
        if self.present is not None:
            self.present(Dstat.ATTENTION)

    def command(self, code: int, channel: Channel) -> Ending:
        """Do a 3270 command."""
        if not self.connected:
            return unit_check(INTERVENTION_REQUIRED)
        stream = self.stream
        try:
            if code in _ERASES:
                stream.write(_all(channel), erase=_ERASES[code])
            elif code == _WRITE_STRUCTURED:
                if stream.write_structured(_all(channel)):
                    self._attract()
            elif code in (_READ_BUFFER, _READ_MODIFIED, _READ_MODIFIED_ALL):
                channel.write_to_memory(self._answer(code))
            elif code == _ERASE_ALL_UNPROTECTED:
                stream.erase_unprotected()
            elif code != _SELECT:
                return _REFUSED
        except BadStream:
            return unit_check(_OPERATION_CHECK)
        return DONE

    def _answer(self, code: int) -> bytes:
        raw, self._raw = self._raw, None
        if raw is not None:
            return raw
        if code == _READ_BUFFER:
            return self.stream.read_buffer()
        return self.stream.read_modified(everything=code == _READ_MODIFIED_ALL)

    def __str__(self) -> str:
        return f"3270 terminal {self.sense_id}, {'connected' if self.connected else 'not connected'}"


def _all(channel: Channel) -> bytes:
    """All the bytes of a write."""
    pieces: list[bytes] = []
    while channel.left:
        pieces.append(channel.read_from_memory(channel.left))
    return b"".join(pieces)
