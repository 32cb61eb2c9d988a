"""The channel subsystem's instructions, as an interface.

It is implemented by the software machine's hardware and, for a guest, by passthrough; the same tests run on both.
Methods are named after the instructions and return the condition code, where the architecture has one:

====  ======================================================================================
code  meaning
====  ======================================================================================
0     done, or the function was accepted
1     a status is pending (TSCH: none is)
2     busy, or the function is not applicable
3     not operational: no such subchannel, not enabled, or without a valid device
====  ======================================================================================

Operand exceptions come before condition codes.  An instruction whose subchannel is not of the sets and images that are
enabled (CHSC does that) finds it not operational.

Source: z/Architecture Principles of Operation, chapter "I/O Instructions".
"""

from __future__ import annotations

from typing import Protocol

from pyvfio.address import SubchannelId
from pyvfio.css.crw import Crw
from pyvfio.css.interruption import ALL_SUBCLASSES, IoInterruption
from pyvfio.css.irb import Irb
from pyvfio.css.measurement import ChannelMonitor
from pyvfio.css.orb import Orb
from pyvfio.css.schib import Schib
from pyvfio.errors import PyvfioError

__all__ = ["ChannelSubsystem", "OperandException", "Storage", "StorageError"]


class StorageError(PyvfioError):
    """An addressing exception: storage at `address` for `count` bytes is not there (or not for this access)."""

    def __init__(self, address: int, count: int, access: str = "access") -> None:
        super().__init__(f"{access} {count} bytes of storage", f"{address:#x}", cause="no storage at this address")
        self.address = address
        self.count = count


class OperandException(PyvfioError):
    """An instruction's operand has a bit or an address that the architecture does not allow.

    Linux turns this program interruption into -EIO (``drivers/s390/cio/ioasm.c``).
    """


class Storage(Protocol):
    """Absolute storage, addressed with 64 bits."""

    def read(self, address: int, count: int) -> bytes:
        """Return exactly `count` bytes.  Raise `StorageError` unless all of them can be fetched."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Store `data`.  Raise `StorageError` unless all of it can be stored."""
        ...


class ChannelSubsystem(Protocol):
    """One channel subsystem; every method is one instruction and returns at once."""

    def stsch(self, schid: SubchannelId) -> tuple[int, Schib | None]:
        """Store subchannel: (0, the SCHIB), or (3, None) when no such subchannel is provided."""
        ...

    def msch(self, schid: SubchannelId, schib: Schib) -> int:
        """Modify subchannel: 0, 1 status pending, 2 busy, 3.  Raise `OperandException`."""
        ...

    def ssch(self, schid: SubchannelId, orb: Orb) -> int:
        """Start subchannel: 0 accepted, 1 status pending, 2 busy, 3.  Raise `OperandException`."""
        ...

    def tsch(self, schid: SubchannelId) -> tuple[int, Irb]:
        """Test subchannel: 0 a status was pending and is now cleared, 1 none was, 3."""
        ...

    def hsch(self, schid: SubchannelId) -> int:
        """Halt subchannel: 0 accepted, 1 status pending, 2 a halt or clear is under way, 3."""
        ...

    def csch(self, schid: SubchannelId) -> int:
        """Clear subchannel: 0 accepted, 3."""
        ...

    def rsch(self, schid: SubchannelId) -> int:
        """Resume subchannel: 0 accepted, 1 status pending, 2 not applicable, 3."""
        ...

    def xsch(self, schid: SubchannelId) -> int:
        """Cancel subchannel: 0 the start was taken back, 1 status pending, 2 not applicable, 3."""
        ...

    def tpi(self, iscs: int = ALL_SUBCLASSES) -> IoInterruption | None:
        """Test pending interruption: the most urgent one of the enabled subclasses, which is cleared; or None.

        `iscs` is the mask of control register 6, subclass 0 leftmost.  The lowest subclass is the most urgent.  The
        status stays pending at the subchannel until TSCH takes it.
        """
        ...

    def stcrw(self) -> Crw | None:
        """Store channel report word: the oldest pending CRW, which is cleared; or None."""
        ...

    def rchp(self, cssid: int, chpid: int) -> int:
        """Reset channel path: 0 accepted (a channel report follows), 2 another reset is under way, 3 no such path.

        Raise `OperandException` for an image that is not there.
        """
        ...

    def schm(self, monitor: ChannelMonitor) -> None:
        """Set channel monitor.  Raise `OperandException`."""
        ...

    def chsc(self, request: bytes) -> tuple[int, bytes]:
        """Channel subsystem call: (0, the response block), or (3, b"") when the channel subsystem takes no calls.

        `request` begins with its length and its command code (`pyvfio.css.chsc`); what follows the length is ignored.
        In storage the response lies right behind the request.  Raise `OperandException` for a length which is not a
        multiple of 8 from 16 to 4088.
        """
        ...
