"""What the parts of an ECKD control unit share during one chain of commands: extent, domain, masks, what went before.

All of it but the position is forgotten when a channel program begins.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from pyvfio.css.scsw import Dstat
from pyvfio_backends.software.hardware.css.controlunit import DONE, Channel, Ending, unit_check
from pyvfio_backends.software.hardware.devices.ckd_track import Record
from pyvfio_backends.software.hardware.devices.eckd_domain import (
    Extent,
    Fault,
    Location,
    Permission,
    invalid_parameter,
    invalid_sequence,
    too_few_parameters,
)
from pyvfio_backends.software.hardware.devices.eckd_position import Position
from pyvfio_backends.software.hardware.devices.eckd_volume import Volume

__all__ = ["Chain", "Prior", "file_protected", "parameters", "take"]

_SEEK_MASK: Final = 0x18
_NO_SEEKS: Final = 0x18
_INCOMPLETE_DOMAIN: Final = 0x81
_END_OF_FILE: Final = Ending(Dstat.CHANNEL_END | Dstat.DEVICE_END | Dstat.UNIT_EXCEPTION)


class Prior(Enum):
    """The command before, as far as the next one's validity depends on it."""

    NOTHING = auto()
    HOME = auto()  # the home address was found or written: R0 may be written
    ID = auto()  # a search by ID, or by a LOCATE RECORD, found a record
    KEY = auto()  # a search by key did
    DATA = auto()  # the data of a record was read or written: a record may be written behind it


def file_protected() -> Fault:
    """A seek, a head switch or a write that the file mask or the extent does not allow."""
    return Fault(0x00, 0x04)


def take(channel: Channel, count: int) -> bytes:
    """At most `count` bytes of a write command, fewer when the program has no more (which is no error of its own)."""
    pieces: list[bytes] = []
    while count and channel.left:
        piece = channel.read_from_memory(min(count, channel.left))
        pieces.append(piece)
        count -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def parameters(channel: Channel, size: int) -> bytes:
    """The parameters of a control command.  Raise `Fault` when the program gives fewer."""
    raw = channel.read_from_memory(size)
    if len(raw) < size:
        raise too_few_parameters()
    return raw


class Chain:
    """The state of the current chain on `volume`, and where the mechanism stands."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.position = Position(volume, self._switch)
        self.begin()

    def begin(self) -> None:
        """A channel program begins."""
        self.extent: Extent | None = None
        self.location: Location | None = None
        self.file_mask: int | None = None
        self.prior = Prior.NOTHING
        self.after = Prior.NOTHING  # what `prior` will be for the next command
        self.prepared: bytes | None = None  # what READ SUBSYSTEM DATA would bring

    def has(self, cylinder: int, head: int) -> bool:
        """Whether the volume has the track."""
        return cylinder < self.volume.cylinders and head < self.volume.heads

    @property
    def mask(self) -> int:
        """The mask in force: of the extent, of SET FILE MASK, or 0."""
        return self.extent.mask if self.extent is not None else self.file_mask or 0

    @property
    def seeks(self) -> int:
        """Bits 3-4 of the mask: 00 all seeks, 08 to cylinders and heads, 10 to heads only, 18 none."""
        return self.mask & _SEEK_MASK

    @property
    def permission(self) -> Permission:
        """What may be written."""
        return Permission.of(self.mask)

    def _switch(self, cylinder: int, head: int) -> None:
        inside = self.extent is None or self.extent.holds(cylinder, head)
        if not inside or (self.location is None and self.seeks == _NO_SEEKS):
            raise file_protected()

    def seek(self, cylinder: int, head: int) -> None:
        """Go to a track.  Raise `Fault` when there is none or it is outside the extent."""
        if not self.has(cylinder, head):
            raise invalid_parameter()
        if self.extent is not None and not self.extent.holds(cylinder, head):
            raise file_protected()
        self.position.seek(cylinder, head)

    def outside_domain(self) -> None:
        """Raise `Fault` in the domain of LOCATE RECORD."""
        if self.location is not None:
            raise invalid_sequence()

    def transfer(self, *, writes: bool) -> None:
        """Count a transfer inside the domain of LOCATE RECORD.  Raise `Fault` when it has no such transfer left."""
        location = self.location
        if location is not None:
            if not location.left or not (location.writes if writes else location.reads):
                raise invalid_sequence()
            location.left -= 1

    def transferred(self, channel: Channel, record: Record | None = None) -> Ending:
        """The ending of a transfer, which must be the domain's last one when no command follows.

        A `record` whose data were transferred and which has none is an end of file: unit exception.
        """
        self.position.oriented()
        if self.location is not None and self.location.left and not channel.chained:
            return unit_check(_INCOMPLETE_DOMAIN)
        return _END_OF_FILE if record is not None and not record.data else DONE
