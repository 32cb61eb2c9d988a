"""Names of command codes: those common to all control units, and those of DASD, 3270 displays and tapes.

The two or four bits on the right say of what kind a command is, whatever the control unit::

    xxxx 0000  invalid        xxxx xx01  write           xxxx 0100  sense
    xxxx 1000  TIC            xxxx xx10  read            xxxx xx11  control
                              xxxx 1100  read backward

Source: z/Architecture Principles of Operation, "Command Code"; "Common I/O-Device Commands" SA22-7204;
``drivers/s390/block/dasd_eckd.h``, ``arch/s390/include/uapi/asm/raw3270.h``, ``drivers/s390/char/tape_std.h``.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Final

__all__ = ["Command", "Direction", "Language", "command_name", "direction"]


class Command(IntEnum):
    """Command codes that many control units share ("Common I/O-Device Commands", SA22-7204)."""

    NOP = 0x03
    SENSE = 0x04
    TIC = 0x08
    SENSE_PGID = 0x34
    SET_PGID = 0xAF
    SENSE_ID = 0xE4


class Direction(Enum):
    """Which way data go: to storage (`IN`; `BACKWARD` with descending addresses), to the device (`OUT`), nowhere."""

    IN = "in"
    BACKWARD = "backward"
    OUT = "out"
    NONE = "none"


class Language(Enum):
    """Whose commands a program speaks, for names only."""

    DASD = "3390"
    DISPLAY = "3270"
    TAPE = "3480"

    @classmethod
    def of(cls, cu_type: int) -> Language:
        """The language of a control-unit type (``0x3990``, ``0x3174``, ``0x3490``); `DASD` for what is not known."""
        if cu_type in _TAPES:
            return cls.TAPE
        return cls.DISPLAY if cu_type in _DISPLAYS else cls.DASD


_TAPES: Final = (0x3420, 0x3422, 0x3430, 0x3480, 0x3490, 0x3590, 0x3592)
_DISPLAYS: Final = (0x3174, 0x3270, 0x3274, 0x3277, 0x3278, 0x3279)
_COMMON: Final[dict[int, str]] = {
    0x02: "READ",
    0x03: "NOP",
    0x04: "SENSE",
    0x08: "TIC",
    0x34: "SENSE PGID",
    0x64: "READ DEV CHARS",
    0xAF: "SET PGID",
    0xE4: "SENSE ID",
    0xFA: "READ CONFIG DATA",
}
_DASD: Final[dict[int, str]] = {
    0x05: "WRITE DATA",
    0x06: "READ DATA",
    0x07: "SEEK",
    0x09: "WRITE HA",
    0x0B: "SEEK CYL",
    0x0D: "WRITE KEY+DATA",
    0x0E: "READ KEY+DATA",
    0x11: "ERASE",
    0x12: "READ COUNT",
    0x13: "RECALIBRATE",
    0x14: "STEAL LOCK",
    0x15: "WRITE R0",
    0x16: "READ R0",
    0x1A: "READ HA",
    0x1B: "SEEK HEAD",
    0x1D: "WRITE CKD",
    0x1E: "READ CKD",
    0x1F: "SET FILE MASK",
    0x23: "SET SECTOR",
    0x22: "READ SECTOR",
    0x27: "PSF",
    0x29: "SEARCH KEY EQ",
    0x31: "SEARCH ID EQ",
    0x39: "SEARCH HA EQ",
    0x3E: "READ SUBSYS DATA",
    0x47: "LOCATE RECORD",
    0x49: "SEARCH KEY HI",
    0x4B: "LOCATE RECORD EXT",
    0x51: "SEARCH ID HI",
    0x54: "SENSE SUBSYS STATUS",
    0x5E: "READ MULTIPLE CKD",
    0x63: "DEFINE EXTENT",
    0x69: "SEARCH KEY EQ/HI",
    0x71: "SEARCH ID EQ/HI",
    0x85: "WRITE DATA MT",
    0x86: "READ DATA MT",
    0x8D: "WRITE KEY+DATA MT",
    0x8E: "READ KEY+DATA MT",
    0x92: "READ COUNT MT",
    0x94: "RELEASE",
    0x95: "WRITE FULL TRACK",
    0x9D: "WRITE CKD MT",
    0x9E: "READ CKD MT",
    0xA5: "WRITE TRACK DATA",
    0xA6: "READ TRACK DATA",
    0xA9: "SEARCH KEY EQ MT",
    0xB1: "SEARCH ID EQ MT",
    0xB4: "RESERVE",
    0xB9: "SEARCH HA EQ MT",
    0xDE: "READ TRACK",
    0xE7: "PREFIX",
    0xEA: "PREFIX READ",
    0xF7: "DEFINE SUBSYS OP",
    0xF9: "RESET LOCK",
}
_DISPLAY: Final[dict[int, str]] = {
    0x01: "WRITE",
    0x02: "READ BUFFER",
    0x05: "ERASE/WRITE",
    0x06: "READ MODIFIED",
    0x0B: "SELECT",
    0x0D: "ERASE/WRITE ALT",
    0x0F: "ERASE ALL UNPROTECTED",
    0x11: "WRITE STRUCTURED FIELD",
}
_TAPE: Final[dict[int, str]] = {
    0x01: "WRITE",
    0x02: "READ",
    0x07: "REWIND",
    0x0C: "READ BACKWARD",
    0x0F: "REWIND UNLOAD",
    0x12: "READ BUFFER",
    0x17: "ERASE GAP",
    0x1F: "WRITE TAPE MARK",
    0x22: "READ BLOCK ID",
    0x24: "READ BUFFERED LOG",
    0x27: "BACKSPACE BLOCK",
    0x2F: "BACKSPACE FILE",
    0x37: "FORWARD SPACE BLOCK",
    0x3E: "READ SUBSYS DATA",
    0x3F: "FORWARD SPACE FILE",
    0x43: "SYNCHRONIZE",
    0x4E: "READ MESSAGE ID",
    0x4F: "LOCATE BLOCK",
    0x5B: "SUSPEND MULTIPATH",
    0x73: "SET INTERFACE ID",
    0x77: "PERFORM SUBSYS FUNC",
    0x97: "DATA SECURITY ERASE",
    0x9F: "LOAD DISPLAY",
    0xB7: "ASSIGN",
    0xC3: "SET TAPE WRITE IMM",
    0xC7: "UNASSIGN",
    0xDB: "MODE SET",
    0xE3: "CONTROL ACCESS",
}
_SPECIFIC: Final = {Language.DASD: _DASD, Language.DISPLAY: _DISPLAY, Language.TAPE: _TAPE}
_BY_LOW_BITS: Final[dict[int, str]] = {0x1: "WRITE", 0x2: "READ", 0x3: "CONTROL"}


def command_name(code: int, language: Language = Language.DASD) -> str:
    """Name a command code in a control unit's language, else by the common name, else by its kind."""
    name = _SPECIFIC[language].get(code) or _COMMON.get(code)
    if name is not None:
        return name
    if code & 0x0F == 0x0C:
        return "READ BACKWARD"
    if code & 0x0F == 0x08:
        return "TIC"
    if code & 0x0F == 0x04:
        return "SENSE"
    return _BY_LOW_BITS.get(code & 0x03, "INVALID")


def direction(code: int) -> Direction:
    """Which way the data of a command go, by its code alone; NOP and TIC move none."""
    low = code & 0x0F
    if code == Command.NOP or low in (0x00, 0x08):
        return Direction.NONE
    if low == 0x0C:
        return Direction.BACKWARD
    return Direction.IN if low == 0x04 or code & 0x03 == 0x02 else Direction.OUT
