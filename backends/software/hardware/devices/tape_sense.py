"""The sense bytes of a 3480 or 3490 tape drive.

======  =====  ==============================================================================================
byte    value  meaning
======  =====  ==============================================================================================
0       80     command reject; 40 intervention required; 10 equipment check; 08 data check;
               02 deferred unit check; 01 assigned elsewhere
1       80     locate failure; 40 drive online; 08 beginning of tape; 02 write protected, or no tape
2       20     reported by channel adapter A
3              the error-recovery action (ERA), see below
7              the format: 20, 21 the buffered log, 22 end of volume
25      06     compaction and the larger buffer are installed
27             model (f 3480, e 3490) and serial number, up to byte 30
======  =====  ==============================================================================================

====  ==========================  ====  ==========================  ====  ==========================
ERA                               ERA                               ERA
====  ==========================  ====  ==========================  ====  ==========================
27    command reject              31    tape void (3480: no data)   39    backward at the load point
25    write data check            35    drive equipment check       43    drive not ready
2b    unloaded, as it was asked   36    end of data (3490)          44    block not found
30    write protected             38    physical end of tape        45    assigned elsewhere
                                                                    47    volume fenced
====  ==========================  ====  ==========================  ====  ==========================

Sources: "3490 Magnetic Tape Subsystem Hardware Reference" GA32-0127; ``drivers/s390/char/tape_34xx.c``
(tape_34xx_unit_check), ``tape_std.h``; answers of Hercules.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from pyvfio.css.scsw import Dstat
from pyvfio_backends.software.hardware.css.controlunit import Ending, unit_check

__all__ = ["LOG_SIZE", "Trouble", "log_sense", "tape_sense"]

LOG_SIZE: Final = 32
_ONLINE, _LOAD_POINT, _PROTECTED = 0x40, 0x08, 0x02
_INTERVENTION: Final = 0x40
_CHANNEL_A: Final = 0x20
_FORMAT, _FORMAT_LOG, _FORMAT_END_OF_VOLUME = 0x20, 0x21, 0x22
_UPGRADED: Final = 0x06
_MODEL_BYTES: Final = {0x3480: 0xF0, 0x3490: 0xE0}
_AT_ONCE: Final = Dstat(0)  # unit check alone: the command was not begun


class Trouble(Enum):
    """What can be wrong: sense byte 0, byte 1 (beside the drive's state), ERA, whether the command was begun."""

    REJECT = (0x80, 0x00, 0x27, False)
    PROTECTED = (0x80, 0x00, 0x30, True)
    WRITE_CHECK = (0x08, 0x00, 0x25, True)
    EQUIPMENT = (0x10, 0x00, 0x35, True)
    UNLOADED = (0x40, 0x00, 0x2B, True)
    NOT_READY = (0x40, 0x00, 0x43, False)
    VOID = (0x08, 0x00, 0x31, True)
    END_OF_DATA = (0x10, 0x00, 0x36, True)
    END_OF_TAPE = (0x10, 0x00, 0x38, True)
    LOAD_POINT = (0x00, 0x00, 0x39, True)
    NOT_FOUND = (0x10, 0x80, 0x44, True)
    ELSEWHERE = (0x01, 0x00, 0x45, False)
    FENCED = (0x12, 0x00, 0x47, True)

    def ending(self) -> Ending:
        """The unit check; the drive's state and its number are laid over it when the bytes are read."""
        kind, flags, action, begun = self.value
        sense = bytearray(8)
        sense[0], sense[1], sense[3] = kind, flags, action
        sense[7] = _FORMAT_END_OF_VOLUME if self is Trouble.UNLOADED else _FORMAT
        if begun:
            return unit_check(*sense)
        return unit_check(*sense, dstat=_AT_ONCE)


def tape_sense(
    sense: bytes, device_type: int, serial: int, *, loaded: bool, at_load_point: bool, protected: bool
) -> bytes:
    """The 32 bytes: `sense` with the drive's state and its number (16 bits)."""
    full = bytearray(sense.ljust(LOG_SIZE, b"\0"))
    if not loaded:
        full[0] |= _INTERVENTION
    full[1] |= _ONLINE
    full[1] |= _LOAD_POINT if loaded and at_load_point else 0
    full[1] |= _PROTECTED if protected or not loaded else 0
    full[2] |= _CHANNEL_A
    if full[7] in (0, _FORMAT):
        full[7] = _FORMAT
        full[25] = _UPGRADED
    full[27] = _MODEL_BYTES[device_type] | 0x0C
    full[28:31] = (serial << 4 | serial & 0x0F).to_bytes(3, "big")
    return bytes(full)


def log_sense(sense: bytes) -> bytes:
    """The buffered log: the drive's state in the log's format, and no counts."""
    full = bytearray(sense)
    full[7] = _FORMAT_LOG
    full[25] = 0
    return bytes(full)
