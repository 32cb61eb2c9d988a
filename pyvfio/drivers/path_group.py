"""Path groups: a host's name at a storage control, by which it knows the host on every path.

::

    SENSE PATH GROUP ID   state | id (11)          SET PATH GROUP ID   function | id (11)

The state's bits 0-1 are 00 reset, 10 ungrouped, 11 grouped; bits 2-3 are 10 reserved to another group, 11 to this one;
bit 4 is multipath mode.
Source: ``drivers/s390/cio/device_pgid.c``; ``arch/s390/include/asm/cio.h`` (struct pgid).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Final, Self

from pyvfio.css.layout import exactly

__all__ = ["ESTABLISH", "GROUP_SIZE", "LEAVE", "MULTIPATH", "PathGroup", "own_group"]

GROUP_SIZE: Final = 12
ESTABLISH, LEAVE, MULTIPATH = 0x00, 0x20, 0x80
_STATE, _GROUPED = 0xC0, 0xC0
_RESERVED, _ELSEWHERE = 0x30, 0x20
_MULTIPATH_STATE: Final = 0x08


@dataclass(frozen=True, slots=True)
class PathGroup:
    """What a device says of one path: its `state` (8 bits) and the `group` that has it (11 bytes, zeros for none)."""

    state: int
    group: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read 12 bytes.  Raise `Misuse` on another length."""
        raw = exactly(data, GROUP_SIZE, "path group")
        return cls(raw[0], raw[1:])

    @property
    def is_grouped(self) -> bool:
        """Whether the path belongs to a group."""
        return self.state & _STATE == _GROUPED and any(self.group)

    @property
    def is_multipath(self) -> bool:
        """Whether the device answers on any path of the group."""
        return bool(self.state & _MULTIPATH_STATE)

    @property
    def is_reserved_elsewhere(self) -> bool:
        """Whether another host has reserved the device."""
        return self.state & _RESERVED == _ELSEWHERE


def own_group(name: str) -> bytes:
    """An id of 11 bytes for this process and the device `name`: no other host, and no other run, has it."""
    return hashlib.sha256(f"pyvfio {name} {os.getpid()}".encode() + os.urandom(8)).digest()[: GROUP_SIZE - 1]
