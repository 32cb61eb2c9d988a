"""Store event information (SEI): what CHSC command 000e tells about a machine's channel paths, links and functions.

The response from its header's end on (byte 4 of the response block), for notification type 0::

    word  0        8        16       24      31
         +--------+--------+--------+--------+
     0   |         reserved         |   nt   |
         +--------+--------+--------+--------+
     1   | flags  |   vf   |   rs   |   cc   |
         +--------+--------+--------+--------+
     2   |       fla       |      rsid       |
         +-----------------+-----------------+
    3-4  |              reserved             |
         +-----------------------------------+
    5-   |   content-code-dependent field    |

`nt` is the notification type; in type 2 (PCI functions) only `flags` and `cc` are as here, and word 15 begins the
content-code-dependent field.  `flags` bit 0 (80): more is pending; bit 1 (40): events were lost.
`vf` bits 0 and 1: how much of the full link address `fla` is valid.  `rs` is the reporting source (4: the channel path
`rsid`).  `cc` says what happened.

Source: ``drivers/s390/cio/chsc.c`` (struct chsc_sei, struct lir, struct chp_config_data);
``arch/s390/include/asm/cio.h`` (struct node_descriptor); "ESCON I/O Interface" SA22-7202.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from pyvfio.css.layout import BytesLike, check_range
from pyvfio.errors import Misuse

__all__ = ["Configure", "EventContent", "FunctionContent", "LinkClass", "PathConfiguration", "Sei"]

_HEAD = struct.Struct(">3sBBBBBHH8s")
_MAP_SIZE: Final = 32
_MORE: Final = 0x80
_LOST: Final = 0x40
_LINK_VALID: Final = 0xC0
_PATH_SOURCE: Final = 4
_PCI_TYPE: Final = 2
_FUNCTION_EVENT: Final = 40  # bytes of `ccdf`, from word 5 to word 15


class EventContent(IntEnum):
    """Content codes of notification type 0 (`Sei.cc`)."""

    LINK_INCIDENT = 1
    RESOURCE_ACCESSIBILITY = 2
    AP_CONFIGURATION = 3
    PATH_AVAILABILITY = 7
    PATH_CONFIGURATION = 8
    SCM_CHANGE = 12
    SCM_AVAILABLE = 14
    FIBRE_CHANNEL_ENDPOINT_SECURITY = 15


class FunctionContent(IntEnum):
    """Content codes of notification type 2, about PCI functions (`Sei.cc`)."""

    ERROR = 1
    AVAILABILITY = 2


class LinkClass(IntEnum):
    """How bad a link incident is."""

    INFORMATION = 0
    DEGRADED = 1
    NOT_OPERATIONAL = 2


class Configure(IntEnum):
    """What is to be done with channel paths (`PathConfiguration.op`)."""

    CONFIGURE = 0
    DECONFIGURE = 1
    CANCEL_DECONFIGURE = 2


@dataclass(frozen=True, slots=True)
class PathConfiguration:
    """The field of a path-configuration event: paths by their `chpids`, the operation `op`, and the byte `pc`.

    ::

        byte  0                              32       33
             +------------------------------+--------+--------+
             |  a bit for each of 256 paths |   op   |   pc   |
             +------------------------------+--------+--------+

    >>> print(PathConfiguration((0x40, 0x41), Configure.DECONFIGURE))
    deconfigure paths 40 41
    """

    chpids: tuple[int, ...]
    op: int
    pc: int = 0

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Read at least 34 bytes.  Raise `Misuse` for fewer."""
        raw = bytes(data)
        if len(raw) < _MAP_SIZE + 2:
            raise Misuse("read path configuration", cause=f"it has {_MAP_SIZE + 2} bytes, not {len(raw)}")
        return cls(_paths(raw), raw[_MAP_SIZE], raw[_MAP_SIZE + 1])

    def to_bytes(self) -> bytes:
        """The 34 bytes.  Raise `Misuse` when a field does not fit."""
        check_range("path configuration", op=(self.op, 8), pc=(self.pc, 8))
        bits = bytearray(_MAP_SIZE)
        for chpid in self.chpids:
            check_range("path configuration", chpid=(chpid, 8))
            bits[chpid // 8] |= 0x80 >> chpid % 8
        return bytes(bits) + bytes((self.op, self.pc))

    def __str__(self) -> str:
        what = Configure(self.op).name if self.op in list(Configure) else f"operation {self.op}"
        paths = " ".join(f"{chpid:02x}" for chpid in self.chpids) or "-"
        return f"{what.lower().replace('_', ' ')} paths {paths}"


@dataclass(frozen=True, slots=True)
class Sei:
    """One event; `ccdf` is the content-code-dependent field, `reserved` the bytes without meaning (3 and 8).

    >>> print(Sei(cc=EventContent.RESOURCE_ACCESSIBILITY, rs=4, rsid=0x42))
    SEI resource accessibility: channel path 42
    """

    cc: int
    rs: int = 0
    rsid: int = 0
    flags: int = 0
    vf: int = 0
    fla: int = 0
    nt: int = 0
    ccdf: bytes = b""
    reserved: bytes = bytes(11)

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Read at least 20 bytes; what follows them is `ccdf`.  Raise `Misuse` for fewer."""
        raw = bytes(data)
        if len(raw) < _HEAD.size:
            raise Misuse("read event information", cause=f"it has at least {_HEAD.size} bytes, not {len(raw)}")
        before, nt, flags, vf, rs, cc, fla, rsid, after = _HEAD.unpack_from(raw)
        return cls(cc, rs, rsid, flags, vf, fla, nt, raw[_HEAD.size :], before + after)

    def to_bytes(self) -> bytes:
        """20 bytes, big-endian, and `ccdf`.  Raise `Misuse` when a field does not fit."""
        fields = {"cc": self.cc, "rs": self.rs, "flags": self.flags, "vf": self.vf, "nt": self.nt}
        check_range("event information", **{name: (value, 8) for name, value in fields.items()})
        check_range("event information", fla=(self.fla, 16), rsid=(self.rsid, 16))
        if len(self.reserved) != 11:
            raise Misuse("build event information", cause="there are 11 reserved bytes")
        head = _HEAD.pack(
            self.reserved[:3], self.nt, self.flags, self.vf, self.rs, self.cc, self.fla, self.rsid, self.reserved[3:]
        )
        return head + self.ccdf

    @property
    def more(self) -> bool:
        """Whether another event waits."""
        return bool(self.flags & _MORE)

    @property
    def lost(self) -> bool:
        """Whether events were lost before this one, so that everything has to be looked at."""
        return bool(self.flags & _LOST)

    @classmethod
    def of_function(cls, cc: FunctionContent, field: BytesLike) -> Self:
        """An event of type 2: `field` is a `pyvfio.zpci.event.ErrorEvent` or `AvailabilityEvent`."""
        return cls(cc, nt=_PCI_TYPE, ccdf=bytes(_FUNCTION_EVENT) + bytes(field))

    @property
    def function_event(self) -> bytes:
        """The content-code-dependent field of type 2, about a PCI function; empty for other types."""
        return self.ccdf[_FUNCTION_EVENT:] if self.nt == _PCI_TYPE else b""

    @property
    def link(self) -> tuple[int, int] | None:
        """The full link address and the mask of its valid bits (ff00 or ffff), None when it has none."""
        valid = 0 if self.nt else self.vf & _LINK_VALID
        return (self.fla, 0xFFFF if valid == _LINK_VALID else 0xFF00) if valid else None

    @property
    def chpids(self) -> tuple[int, ...]:
        """The channel paths that it is about."""
        if self.nt:
            return ()
        if self.rs == _PATH_SOURCE:
            return (self.rsid & 0xFF,)
        if self.cc in (EventContent.PATH_AVAILABILITY, EventContent.PATH_CONFIGURATION):
            return _paths(self.ccdf)
        return ()

    @property
    def link_class(self) -> LinkClass | None:
        """How bad a link incident is; None for other events, empty records and unknown classes."""
        if self.nt or self.cc != EventContent.LINK_INCIDENT or not self.ccdf or self.ccdf[0] & 0x80:
            return None
        value = self.ccdf[0] >> 2 & 3
        return LinkClass(value) if value in list(LinkClass) else None

    def __str__(self) -> str:
        if self.nt == _PCI_TYPE and self.cc in list(FunctionContent):
            what = f"PCI function {FunctionContent(self.cc).name.lower()}"
        elif self.nt:
            what = f"of type {self.nt}, content {self.cc}"
        elif self.cc in list(EventContent):
            what = EventContent(self.cc).name.lower().replace("_", " ")
        else:
            what = f"content {self.cc}"
        if not self.nt and self.cc == EventContent.PATH_CONFIGURATION and len(self.ccdf) >= _MAP_SIZE + 2:
            what += f": {PathConfiguration.from_bytes(self.ccdf)}"
        elif self.chpids:
            what += f": channel path {' '.join(f'{chpid:02x}' for chpid in self.chpids)}"
        if self.link_class is not None:
            what += f", link {self.link_class.name.lower().replace('_', ' ')}"
        if self.link is not None:
            what += f", link address {self.link[0]:04x}/{self.link[1]:04x}"
        return f"SEI {what}{', events were lost' if self.lost else ''}{', more is pending' if self.more else ''}"


def _paths(raw: bytes) -> tuple[int, ...]:
    """The numbers of the bits that are on in the first 32 bytes."""
    bits = raw[:_MAP_SIZE]
    return tuple(8 * at + bit for at, byte in enumerate(bits) for bit in range(8) if byte & 0x80 >> bit)
