"""The path-group identifier that SET PATH GROUP ID sets and SENSE PATH GROUP ID brings.

::

    byte   0        1                                            12
         +--------+----------------------------------------------+
         | state  |  path-group identifier                       |
         +--------+----------------------------------------------+
    set:    bits 0 (multipath), 1-2 00 establish, 01 disband, 10 resign
    sense:  bits 0-1 00 reset, 10 ungrouped, 11 grouped; bit 4 multipath

Source: "3990/9390 Storage Control Reference" GA32-0274; ``drivers/s390/cio/device_pgid.c``, ``io_sch.h`` (struct pgid).
"""

from __future__ import annotations

from typing import ClassVar, Final

__all__ = ["PathGroup"]

_MULTIPATH_MODE: Final = 0x80
_FUNCTION: Final = 0x60
_ESTABLISH, _DISBAND = 0x00, 0x20
_RESET, _UNGROUPED, _GROUPED, _MULTIPATH = 0x00, 0x80, 0xC0, 0x08


class PathGroup:
    """The path group of one device."""

    SIZE: ClassVar[int] = 12

    def __init__(self) -> None:
        self._state = _RESET
        self._identifier = bytes(self.SIZE - 1)

    def set(self, raw: bytes) -> bool:
        """Do what the 12 bytes of SET PATH GROUP ID say; False when the path is in another group already."""
        function, identifier = raw[0] & _FUNCTION, raw[1:]
        if function == _ESTABLISH:
            if self._state & _GROUPED == _GROUPED and identifier != self._identifier:
                return False
            self._state = _GROUPED | (_MULTIPATH if raw[0] & _MULTIPATH_MODE else 0)
            self._identifier = identifier
        else:
            self._state = _RESET if function == _DISBAND else _UNGROUPED
            self._identifier = bytes(self.SIZE - 1)
        return True

    def state(self) -> bytes:
        """The 12 bytes of SENSE PATH GROUP ID."""
        return bytes([self._state]) + self._identifier
