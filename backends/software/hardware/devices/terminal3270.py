"""A 3270 display station on a local control unit (3270/00), without a screen.

====  =========================  ==============================================================
code  command                    what it does
====  =========================  ==============================================================
01    WRITE                      keeps the data stream
05    ERASE/WRITE                forgets the earlier ones, keeps this one
0D    ERASE/WRITE ALTERNATE      the same
0F    ERASE ALL UNPROTECTED      forgets what was keyed in
11    WRITE STRUCTURED FIELD     keeps the data stream
0B    SELECT                     nothing
02    READ BUFFER                brings what was keyed in, or an empty answer
06    READ MODIFIED              the same
====  =========================  ==============================================================

The data stream itself (orders, fields, attributes) is not modelled.
Source: "3270 Information Display System: Data Stream Programmer's Reference" GA23-0059.
"""

from __future__ import annotations

from typing import Final

from pyvfio.css.senseid import SenseId
from pyvfio_backends.software.hardware.css.controlunit import (
    DONE,
    INTERVENTION_REQUIRED,
    Channel,
    ControlUnit,
    Ending,
    unit_check,
)

__all__ = ["Terminal3270"]

_WRITES: Final = (0x01, 0x05, 0x0D, 0x11)
_ERASING: Final = (0x05, 0x0D)
_READS: Final = (0x02, 0x06)
_SELECT: Final = 0x0B
_ERASE_ALL_UNPROTECTED: Final = 0x0F
#: No attention key, cursor at the first position.
_NOTHING_KEYED: Final = b"\x60\x40\x40"


class Terminal3270(ControlUnit):
    """A display station; while `connected` is false every command but SENSE and SENSE ID needs intervention."""

    def __init__(self, connected: bool = True) -> None:
        super().__init__(SenseId(0x3270))
        self.connected = connected
        self.screen = b""
        self._keyed = b""

    def key_in(self, stream: bytes) -> None:
        """Let the operator send `stream`; whoever drives the machine presents attention (80) for it."""
        self._keyed = stream

    def command(self, code: int, channel: Channel) -> Ending:
        """Do a 3270 command."""
        if not self.connected:
            return unit_check(INTERVENTION_REQUIRED)
        if code in _WRITES:
            pieces = [] if code in _ERASING else [self.screen]
            while channel.left:
                pieces.append(channel.read_from_memory(channel.left))
            self.screen = b"".join(pieces)
            return DONE
        if code in _READS:
            channel.write_to_memory(self._keyed or _NOTHING_KEYED)
            self._keyed = b""
            return DONE
        if code == _ERASE_ALL_UNPROTECTED:
            self._keyed = b""
            return DONE
        return DONE if code == _SELECT else super().command(code, channel)

    def __str__(self) -> str:
        return f"3270 terminal {self.sense_id}, {'connected' if self.connected else 'not connected'}"
