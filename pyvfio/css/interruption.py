"""The I/O-interruption code: what an interruption, or TEST PENDING INTERRUPTION, stores at real location 184 (b8).

::

    word  0 1 2   5                                                  31
         +---------------------------------------------------------------+
     0   |          subsystem-identification word (see `pyvfio.css.Sid`) |
         +---------------------------------------------------------------+
     1   |                   interruption parameter                      |
         +-+-+---+-------------------------------------------------------+
     2   |0|0|isc|                      zeros                            |
         +-+-+---+-------------------------------------------------------+

Bit 0 of word 2 is on for adapter interruptions (PCI functions, QDIO), which have another form and are not of a
subchannel.  Source: z/Architecture Principles of Operation, "I/O-Interruption Code", "TEST PENDING INTERRUPTION";
``arch/s390/include/asm/tpi.h``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self

from pyvfio.address import SubchannelId
from pyvfio.css.layout import BytesLike, check_range, exactly
from pyvfio.css.sid import SID_SIZE, Sid
from pyvfio.errors import Misuse

__all__ = ["ALL_SUBCLASSES", "IO_INTERRUPTION_SIZE", "Interruptions", "IoInterruption", "subclass_mask"]

IO_INTERRUPTION_SIZE: Final = 12
#: The mask (control register 6) that enables all eight interruption subclasses; subclass 0 is its leftmost bit.
ALL_SUBCLASSES: Final = 0xFF
_WORDS = struct.Struct(">II")
_NOT_A_SUBCHANNEL: Final = 0xC0000000


def subclass_mask(*subclasses: int) -> int:
    """The mask that enables these interruption subclasses (0 to 7).  Raise `Misuse` for another number.

    >>> f"{subclass_mask(0, 3):02x}"
    '90'
    """
    mask = 0
    for isc in subclasses:
        check_range("subclass mask", isc=(isc, 3))
        mask |= 0x80 >> isc
    return mask


@dataclass(frozen=True, slots=True)
class IoInterruption:
    """The interruption of a subchannel: its `schid`, `intparm` (32 bits) and subclass `isc` (0 to 7).

    >>> print(IoInterruption(SubchannelId(0, 0, 5), 0x1265400, 3))
    I/O interruption of subchannel 0.0.0005: parameter 01265400, subclass 3
    """

    schid: SubchannelId
    intparm: int = 0
    isc: int = 0

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Read 12 big-endian bytes.  Raise `Misuse` on another length and for an adapter interruption."""
        raw = exactly(data, IO_INTERRUPTION_SIZE, "I/O-interruption code")
        intparm, word = _WORDS.unpack_from(raw, SID_SIZE)
        if word & _NOT_A_SUBCHANNEL:
            raise Misuse("read I/O-interruption code", cause="it is of an adapter, not of a subchannel")
        return cls(Sid.from_bytes(raw[:SID_SIZE]).schid, intparm, word >> 27 & 7)

    def to_bytes(self) -> bytes:
        """The 12 bytes, big-endian.  Raise `Misuse` when a field does not fit."""
        check_range("I/O-interruption code", intparm=(self.intparm, 32), isc=(self.isc, 3))
        return Sid.of(self.schid).to_bytes() + _WORDS.pack(self.intparm, self.isc << 27)

    def __str__(self) -> str:
        return f"I/O interruption of subchannel {self.schid}: parameter {self.intparm:08x}, subclass {self.isc}"


class Interruptions:
    """The I/O interruptions that are pending: each subchannel has one at most.

    A processor's mask (control register 6) says which subclasses it takes, subclass 0 leftmost.  Requests of the others
    stay pending.  The lowest subclass comes first, and within it the request that came first.
    """

    def __init__(self) -> None:
        self._requests: dict[SubchannelId, IoInterruption] = {}

    def request(self, schid: SubchannelId, intparm: int, isc: int) -> None:
        """Make an interruption pending; a request of the subchannel which is pending already keeps its place."""
        self._requests[schid] = IoInterruption(schid, intparm, isc)

    def withdraw(self, schid: SubchannelId) -> None:
        """Take the request of a subchannel back, if there is one: its status was taken or cleared."""
        self._requests.pop(schid, None)

    def take(self, iscs: int) -> IoInterruption | None:
        """The most urgent request of the enabled subclasses, which is pending no more."""
        best: IoInterruption | None = None
        for request in self._requests.values():
            if iscs & 0x80 >> request.isc and (best is None or request.isc < best.isc):
                best = request
        if best is not None:
            del self._requests[best.schid]
        return best

    def clear(self) -> None:
        """Forget all requests."""
        self._requests.clear()

    def __len__(self) -> int:
        return len(self._requests)
