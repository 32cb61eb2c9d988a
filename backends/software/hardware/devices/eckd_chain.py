"""What the parts of an ECKD control unit share during one chain of commands: extent, domain, masks, what went before.

All of it but the position is forgotten when a channel program begins.
"""

from __future__ import annotations

from typing import Final

from pyvfio.css.scsw import Dstat
from pyvfio_backends.software.hardware.css.controlunit import DONE, Channel, Ending
from pyvfio_backends.software.hardware.devices.ckd_track import Record
from pyvfio_backends.software.hardware.devices.eckd_domain import (
    Extent,
    Permission,
    file_protected,
    invalid_parameter,
    invalid_sequence,
    too_few_parameters,
)
from pyvfio_backends.software.hardware.devices.eckd_locate import Location, Operation
from pyvfio_backends.software.hardware.devices.eckd_position import Position
from pyvfio_backends.software.hardware.devices.eckd_volume import Volume

__all__ = ["END_OF_FILE", "LOCATES", "MULTITRACK", "Chain", "parameters", "take"]

MULTITRACK: Final = 0x80
LOCATES: Final = (0x47, 0x4B, 0xE7)
END_OF_FILE: Final = Ending(Dstat.CHANNEL_END | Dstat.DEVICE_END | Dstat.UNIT_EXCEPTION)
_READ_IPL: Final = 0x02
_SEEK_MASK: Final = 0x18
_NO_SEEKS: Final = 0x18
#: Commands, without bit 0, that leave alone what a search before them has found.
_KEEP_HOME: Final = frozenset((0x39, 0x19))
_KEEP_ID: Final = frozenset((0x31, 0x0E, 0x0D, 0x06, 0x05))
_KEEP_KEY: Final = frozenset((0x29, 0x06, 0x05))
_KEEP_WRITTEN: Final = frozenset((0x15, 0x1D))
#: Commands after which passing the index point still counts: searches, READ COUNT, READ SECTOR.
_KEEP_INDEX: Final = frozenset((0x29, 0x49, 0x69, 0x31, 0x51, 0x71, 0x39, 0x22))
_READ_COUNT: Final = 0x12


def take(channel: Channel, count: int) -> bytes:
    """At most `count` bytes of a write command, fewer when the program has no more (which is no error of its own)."""
    pieces = [channel.read_from_memory(min(count, channel.left))]
    count -= len(pieces[0])
    while count and channel.left:
        piece = channel.read_from_memory(min(count, channel.left))
        pieces.append(piece)
        count -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def parameters(channel: Channel, size: int) -> bytes:
    """The parameters of a control command.  Raise `Fault` when the program gives fewer."""
    raw = take(channel, size)
    if len(raw) < size:
        raise too_few_parameters()
    return raw


class Chain:
    """The state of the current chain on `volume`, and where the mechanism stands."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.position = Position(volume, self)
        self.begin()

    def begin(self) -> None:
        """A channel program begins."""
        self.extent: Extent | None = None
        self.location: Location | None = None
        self.file_mask: int | None = None
        self.seeked = False  # a seek, a LOCATE RECORD or READ IPL has said which track is meant
        self.ipl = False
        self.spaced = False
        self.found_home = self.found_id = self.found_key = self.written = self.home_written = False
        self.previous = 0  # the command before, 0 for the first
        self.number = 0
        self.prepared: bytes | None = None  # what READ SUBSYSTEM DATA would bring
        self.position.marked = False

    def enter(self, code: int) -> None:
        """A command begins."""
        self.number += 1
        if code & ~MULTITRACK not in _KEEP_INDEX and code != _READ_COUNT:
            self.position.marked = False

    def leave(self, code: int, *, chained: bool) -> bool:
        """A command has ended; say whether the chain ends inside a domain."""
        self.previous = code
        base = code & ~MULTITRACK
        self.found_home &= base in _KEEP_HOME
        self.found_id &= base in _KEEP_ID
        self.found_key &= base in _KEEP_KEY
        self.written &= base in _KEEP_WRITTEN
        domain = self.domain
        if domain is None or code in LOCATES:
            return False
        domain.left -= 1
        return domain.left > 0 and not chained and code != _READ_IPL

    # -- what holds ----------------------------------------------------------------------------------------------

    def has(self, cylinder: int, head: int) -> bool:
        """Whether the volume has the track, alternate ones among them."""
        volume = self.volume
        return cylinder < volume.cylinders + volume.alternates and head < volume.heads

    @property
    def domain(self) -> Location | None:
        """The domain of a LOCATE RECORD that has transfers left."""
        return self.location if self.location is not None and self.location.left else None

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

    def outside_domain(self) -> None:
        """Raise `Fault` in the domain of LOCATE RECORD."""
        if self.domain is not None:
            raise invalid_sequence()

    def after_seek(self) -> None:
        """Raise `Fault` when nothing in the chain has said which track is meant."""
        if not self.seeked:
            raise invalid_sequence()

    def inside(self, *operations: Operation) -> Location:
        """The domain, which is of one of the operations.  Raise `Fault`."""
        domain = self.domain
        if domain is None or domain.operation not in operations:
            raise invalid_sequence()
        return domain

    def length(self, size: int) -> bool:
        """Whether a record of this size may be updated in the domain: it has the length that was announced."""
        extent, domain = self.extent, self.domain
        if extent is None or domain is None or extent.conversion:
            return True
        return size == (domain.length or extent.block_size)

    # -- where the mechanism may go ------------------------------------------------------------------------------

    def head_switch(self) -> None:
        """Raise `Fault` when the mask forbids to go on to another head."""
        if self.domain is None and self.seeks == _NO_SEEKS:
            raise file_protected()

    def arrive(self, cylinder: int, head: int) -> None:
        """Raise `Fault` when a command may not go on to this track."""
        if not self.has(cylinder, head) or (self.extent is not None and not self.extent.holds(cylinder, head)):
            raise file_protected()

    def seek(self, cylinder: int, head: int) -> None:
        """Go to a track.  Raise `Fault` when there is none or it is outside the extent."""
        if not self.has(cylinder, head):
            raise invalid_parameter()
        self.arrive(cylinder, head)
        self.position.seek(cylinder, head)
        self.seeked = True

    @staticmethod
    def transferred(record: Record) -> Ending:
        """The ending of a command that has moved `record`; one without data is an end of file: unit exception."""
        return DONE if record.data else END_OF_FILE
