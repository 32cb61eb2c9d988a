"""A control unit that keeps what is written to it: the simplest channel-attached device that really moves data.

====  ==========  ====================================================================
code  command     what it does
====  ==========  ====================================================================
01    WRITE       keeps the bytes (at most the buffer's size); more is left over
02    READ        brings the kept bytes
03    NOP         nothing
04    SENSE       32 sense bytes
E4    SENSE ID    its type
====  ==========  ====================================================================

Everything else is a command reject.  It is invented, after no product.
"""

from __future__ import annotations

from typing import Final

from pyvfio.css.senseid import SenseId
from pyvfio_backends.software.hardware.css.controlunit import DONE, Channel, ControlUnit, Ending

__all__ = ["Echo"]

_WRITE: Final = 0x01
_READ: Final = 0x02
_DEFAULT_SIZE: Final = 0xFFFF


class Echo(ControlUnit):
    """Keeps the bytes of the last WRITE for the next READ; `size` is the most it keeps."""

    def __init__(self, size: int = _DEFAULT_SIZE, sense_id: SenseId | None = None) -> None:
        super().__init__(sense_id if sense_id is not None else SenseId(0xEC40, 0x01, 0xEC40, 0x01))
        self.size = size
        self.buffer = b""

    def command(self, code: int, channel: Channel) -> Ending:
        """WRITE, READ, or reject."""
        if code == _WRITE:
            pieces: list[bytes] = []
            room = self.size
            # An output command ends when the channel has no more, so ask for what is there, not for a fixed length.
            while room and channel.left:
                piece = channel.read_from_memory(min(channel.left, room))
                pieces.append(piece)
                room -= len(piece)
            self.buffer = b"".join(pieces)
            return DONE
        if code == _READ:
            channel.write_to_memory(self.buffer)
            return DONE
        return super().command(code, channel)

    def __str__(self) -> str:
        return f"echo {self.sense_id}, {len(self.buffer)} bytes kept"
