"""The label of a ZFS device: which pool it belongs to.

Four copies lie in the first and the last 512 KiB, 256 KiB each.  From 16 KiB in each copy there is a list of names and
values in XDR (RFC 4506), big-endian::

    offset  size
     0      1    encoding, 1: XDR
     4      4    version, 0
     8      4    flags
    12      -    pairs: size (4), size in memory (4), name, type (4), count (4), value; a pair of size 0 ends the list

A text is its length (4) and its bytes, padded to 4.  The second half of each copy is a ring of uberblocks, 1 KiB apart
or more, each of which begins with the magic number 0x00bab10c in the order of bytes of who wrote it.

Source: OpenZFS, ``include/sys/nvpair.h``, ``vdev_impl.h`` and ``uberblock_impl.h``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

__all__ = ["is_member", "pool_of"]

_KIB = 1 << 10
_COPY = 256 * _KIB
_LIST_AT = 16 * _KIB
_ENOUGH = 8 * _KIB
"""The names of the pool stand at the beginning of a list of up to 112 KiB."""
_UBERBLOCK = (struct.pack("<Q", 0x00BAB10C), struct.pack(">Q", 0x00BAB10C))
_UBERBLOCKS = 4
_UINT64 = 8
_STRING = 9

Read = Callable[[int, int], bytes]


def is_member(read: Read, size: int) -> bool:
    """Whether one of the copies has a list that names the device or as many uberblocks as ``blkid`` wants to see.

    `read(offset, count)` reads a device of `size` bytes.  Raise what it raises.
    """
    return any(_is_label(_list(read, start)) or _uberblocks(read, start) >= _UBERBLOCKS for start in _copies(size))


def pool_of(read: Read, size: int) -> str:
    """The name of the pool that a device belongs to; empty for a spare or a device without a label.  As `is_member`."""
    labels = (_list(read, start) for start in _copies(size))
    return next((str(values.get("name", "")) for values in labels if _is_label(values)), "")


def _copies(size: int) -> tuple[int, ...]:
    end = size // _COPY * _COPY
    return 0, _COPY, end - 2 * _COPY, end - _COPY


def _list(read: Read, start: int) -> dict[str, str | int]:
    return _pairs(read(start + _LIST_AT, _ENOUGH))


def _is_label(values: dict[str, str | int]) -> bool:
    return "version" in values and ("pool_guid" in values or "guid" in values)


def _uberblocks(read: Read, start: int) -> int:
    ring = read(start + _COPY // 2, _COPY // 2)
    return sum(ring[at : at + 8] in _UBERBLOCK for at in range(0, len(ring), _KIB))


def _pairs(data: bytes) -> dict[str, str | int]:
    values: dict[str, str | int] = {}
    if data[:1] != b"\x01" or data[4:8] != bytes(4):
        return values
    at = 12
    try:
        while True:
            (size,) = struct.unpack_from(">I", data, at)
            if not size or at + size > len(data):
                return values
            name, after = _text(data, at + 8)
            kind, count = struct.unpack_from(">II", data, after)
            if kind == _STRING and count == 1:
                values[name], _ = _text(data, after + 8)
            elif kind == _UINT64 and count == 1:
                (values[name],) = struct.unpack_from(">Q", data, after + 8)
            at += size
    except (struct.error, UnicodeDecodeError):
        return values


def _text(data: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">I", data, at)
    text = data[at + 4 : at + 4 + length].decode("ascii")
    return text, at + 4 + (length + 3) // 4 * 4
