"""The path-group identifier that SET PATH GROUP ID sets and SENSE PATH GROUP ID brings, for each path.

::

    byte   0        1                                            12
         +--------+----------------------------------------------+
         | state  |  path-group identifier                       |
         +--------+----------------------------------------------+
    set:    bits 0 (multipath), 1-2 00 establish, 01 disband, 10 resign
    sense:  bits 0-1 00 reset, 10 ungrouped, 11 grouped; bits 2-3 10 another system has reserved the device, 11 this
            one has; bit 4 multipath

Establish and resign are about the path of the command, disband about all paths of the group.
Source: "3990/9390 Storage Control Reference" GA32-0274; ``drivers/s390/cio/device_pgid.c``, ``io_sch.h`` (struct pgid).
"""

from __future__ import annotations

from typing import ClassVar, Final

__all__ = ["PathGroup"]

_MULTIPATH_MODE: Final = 0x80
_FUNCTION: Final = 0x60
_ESTABLISH, _DISBAND = 0x00, 0x20
_RESET, _UNGROUPED, _GROUPED, _MULTIPATH = 0x00, 0x80, 0xC0, 0x08
_RESERVED_ELSEWHERE, _RESERVED = 0x20, 0x30


class PathGroup:
    """What one device knows of its paths: the state and the identifier of each, by its one-bit mask."""

    SIZE: ClassVar[int] = 12

    def __init__(self) -> None:
        self._paths: dict[int, tuple[int, bytes]] = {}

    def set(self, raw: bytes, path: int) -> bool:
        """Do what the 12 bytes of SET PATH GROUP ID say; False when the path is in another group already."""
        function, identifier = raw[0] & _FUNCTION, raw[1:]
        state, own = self._path(path)
        if function == _ESTABLISH:
            if state & _GROUPED == _GROUPED and identifier != own:
                return False
            self._paths[path] = _GROUPED | (_MULTIPATH if raw[0] & _MULTIPATH_MODE else 0), identifier
        elif function == _DISBAND:
            group = {one for one, known in self._paths.items() if any(own) and known[1] == own}
            self._paths = {one: known for one, known in self._paths.items() if one not in group and one != path}
        else:
            self._paths[path] = _UNGROUPED, bytes(self.SIZE - 1)
        return True

    def identifier(self, path: int) -> bytes:
        """The identifier of a path, zeros for none."""
        return self._path(path)[1]

    def state(self, path: int, *, reserved: bool = False, elsewhere: bool = False) -> bytes:
        """The 12 bytes of SENSE PATH GROUP ID; the device is `reserved` by this system, or by another one."""
        state, identifier = self._path(path)
        return bytes([state | (_RESERVED if reserved else _RESERVED_ELSEWHERE if elsewhere else 0)]) + identifier

    def _path(self, path: int) -> tuple[int, bytes]:
        return self._paths.get(path, (_RESET, bytes(self.SIZE - 1)))
