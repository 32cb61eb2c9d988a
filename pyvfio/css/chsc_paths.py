"""CHSC about channel paths: their descriptions (0002).

The request, and the descriptions that are answered::

    byte  0 1 2  4    8      16  20  24    31      0       8       16      24      31
         +-+-+-+----+-------+---+---+------+      +-------+-------+-------+-------+
     4   |0|M|C|fmt | cssid | 0 |rf | first|    0 | flags |  lsn  | type  | chpid |   formats 0, 1, 3
         +-+-+-+----+-------+---+---+------+      +-------+-------+-------+-------+
     8   |          zeros           | last |    4 | swla  |   0   | chla  | chpp  |   format 0: ends here
         +--------------------------+------+    4 |       0       |  esc  | chpp  |   formats 1 and 3
    12   |              zeros              |    8 |            zeros              |
         +---------------------------------+   16 |     chid      |       0       |
                                               20 |      mdc      |      0    |rsf|
                                               24 |            zeros              |
                                                  +-------------------------------+
                                               32 |  utility string, 64 bytes     |   format 3 only

`flags`: 80 valid, 10 CHID valid, 08 CHID of an external adapter.  Formats 0 and 1 are chosen by
the bit `c`, whatever of 0 and 1 the format `rfmt` says.

Source: ``drivers/s390/cio/chsc.h`` (struct chsc_scpd, channel_path_desc_fmt1 and fmt3), ``chsc.c``, ``chp.c``;
``arch/s390/include/asm/chpid.h`` (struct channel_path_desc_fmt0).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from pyvfio.css.chsc import ChscCommand, ChscRequest
from pyvfio.css.layout import BytesLike, check_range, exactly
from pyvfio.errors import Misuse

__all__ = ["PathDescription", "StorePaths"]

_STORE = struct.Struct(">III")
_STORE_ZEROS: Final = (0xC000F000, 0xFFFFFF00, 0xFFFFFFFF)
_SHORT = struct.Struct(">8B")
_LONG = struct.Struct(">4BHBB8xHHHH8x")
_UTILITY: Final = 64
_WITH_UTILITY: Final = 3
_VALID: Final = 0x80
_CHID_VALID: Final = 0x10
_CHID_EXTERNAL: Final = 0x08


@dataclass(frozen=True, slots=True)
class StorePaths:
    """Ask for the channel paths from `first` to `last` of an image; with `m` on `cssid` names it.

    >>> print(StorePaths(0x40, 0x41, c=True))
    store channel paths 40 to 41, format 1
    """

    COMMAND: ClassVar[int] = ChscCommand.STORE_CHANNEL_PATHS

    first: int
    last: int
    cssid: int = 0
    m: bool = False
    c: bool = False
    fmt: int = 0
    rfmt: int = 0
    zeros: tuple[int, int, int] = (0, 0, 0)

    @classmethod
    def from_request(cls, request: ChscRequest) -> Self:
        """Read a request.  Raise `Misuse` on another length."""
        words = _STORE.unpack(exactly(request.data, _STORE.size, "store channel paths"))
        one, two, _ = words
        zeros = tuple(word & mask for word, mask in zip(words, _STORE_ZEROS, strict=True))
        return cls(
            one & 0xFF, two & 0xFF, one >> 16 & 0xFF, bool(one & 0x20000000), bool(one & 0x10000000),
            one >> 24 & 0xF, one >> 8 & 0xF, (zeros[0], zeros[1], zeros[2]),
        )  # fmt: skip

    def request(self) -> ChscRequest:
        """The request.  Raise `Misuse` when a field does not fit."""
        check_range(
            "store channel paths", first=(self.first, 8), last=(self.last, 8), cssid=(self.cssid, 8),
            fmt=(self.fmt, 4), rfmt=(self.rfmt, 4),
        )  # fmt: skip
        one = self.m << 29 | self.c << 28 | self.fmt << 24 | self.cssid << 16 | self.rfmt << 8 | self.first
        words = (word | zeros for word, zeros in zip((one, self.last, 0), self.zeros, strict=True))
        return ChscRequest(self.COMMAND, _STORE.pack(*words))

    @property
    def description(self) -> int:
        """The format of the descriptions that are asked for: formats 0 and 1 are chosen by `c`."""
        return int(self.c) if self.rfmt <= 1 else self.rfmt

    def __str__(self) -> str:
        image = f" of image {self.cssid:x}" if self.m else ""
        return f"store channel paths {self.first:02x} to {self.last:02x}{image}, format {self.description}"


@dataclass(frozen=True, slots=True)
class PathDescription:
    """A channel path as CHSC describes it: `chpid`, `type` (8 bits), addresses of its switch and its partner.

    `swla` and `chla` are link addresses (format 0), `lsn` the logical switch number, `chpp` its number on its channel.
    From format 1 on: `chid` (16 bits; None: not valid), `mdc` (most data count, 16 bits), `esc` (endpoint security),
    `rsf` (3 bits); format 3 has the `utility` string (64 bytes).

    >>> print(PathDescription(0x40, 0x1B))
    channel path 40 type 1b
    """

    SIZES: ClassVar[dict[int, int]] = {0: 8, 1: 32, 3: 96}

    chpid: int
    type: int
    valid: bool = True
    lsn: int = 0
    swla: int = 0
    chla: int = 0
    chpp: int = 0
    chid: int | None = None
    external: bool = False
    mdc: int = 0
    esc: int = 0
    rsf: int = 0
    utility: bytes = bytes(64)

    @classmethod
    def from_bytes(cls, data: BytesLike, fmt: int) -> Self:
        """Read a description of format 0 (8 bytes), 1 (32) or 3 (96).  Raise `Misuse` otherwise."""
        raw = exactly(data, _size(fmt), f"channel-path description of format {fmt}")
        if fmt == 0:
            flags, lsn, type_, chpid, swla, _, chla, chpp = _SHORT.unpack(raw)
            return cls(chpid, type_, bool(flags & _VALID), lsn, swla, chla, chpp)
        flags, lsn, type_, chpid, _, esc, chpp, chid, _, mdc, rsf = _LONG.unpack_from(raw)
        return cls(
            chpid, type_, bool(flags & _VALID), lsn, chpp=chpp, chid=chid if flags & _CHID_VALID else None,
            external=bool(flags & _CHID_EXTERNAL), mdc=mdc, esc=esc, rsf=rsf & 7,
            utility=raw[_LONG.size :] if fmt == _WITH_UTILITY else bytes(_UTILITY),
        )  # fmt: skip

    def to_bytes(self, fmt: int) -> bytes:
        """The description in the format.  Raise `Misuse` for another format, and when a field does not fit."""
        _size(fmt)
        check_range(
            "channel-path description", chpid=(self.chpid, 8), type=(self.type, 8), lsn=(self.lsn, 8),
            swla=(self.swla, 8), chla=(self.chla, 8), chpp=(self.chpp, 8), chid=(self.chid or 0, 16),
            mdc=(self.mdc, 16), esc=(self.esc, 8), rsf=(self.rsf, 3),
        )  # fmt: skip
        flags = _VALID if self.valid else 0
        if fmt == 0:
            return _SHORT.pack(flags, self.lsn, self.type, self.chpid, self.swla, 0, self.chla, self.chpp)
        if self.chid is not None:
            flags |= _CHID_VALID | (_CHID_EXTERNAL if self.external else 0)
        head = _LONG.pack(
            flags, self.lsn, self.type, self.chpid, 0, self.esc, self.chpp, self.chid or 0, 0, self.mdc, self.rsf
        )
        return head + exactly(self.utility, _UTILITY, "utility string") if fmt == _WITH_UTILITY else head

    @classmethod
    def list_from(cls, data: bytes, fmt: int) -> list[Self]:
        """Read as many descriptions as there are.  Raise `Misuse` when bytes are left over."""
        size = _size(fmt)
        if len(data) % size:
            raise Misuse("read channel-path descriptions", cause=f"{len(data)} is not a multiple of {size} bytes")
        return [cls.from_bytes(data[at : at + size], fmt) for at in range(0, len(data), size)]

    def __str__(self) -> str:
        chid = f" chid {self.chid:04x}" if self.chid is not None else ""
        return f"channel path {self.chpid:02x} type {self.type:02x}{chid}{'' if self.valid else ' (not valid)'}"


def _size(fmt: int) -> int:
    size = PathDescription.SIZES.get(fmt)
    if size is None:
        raise Misuse("describe channel path", cause=f"there is no format {fmt}; there is 0, 1, 3")
    return size
