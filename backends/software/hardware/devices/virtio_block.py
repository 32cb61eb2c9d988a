"""The virtio disk as QEMU 7.2 offers it: its features and configuration, the same on channels and on PCI.

Source: Virtual I/O Device specification 1.1, "Block Device"; the golden files ccw-blk.json and zpci-vfio.json.
"""

from __future__ import annotations

from typing import Final

from pyvfio.errors import Misuse

__all__ = ["BLOCK_FEATURES", "block_config"]

#: SEG_MAX, GEOMETRY, BLK_SIZE, FLUSH, TOPOLOGY, CONFIG_WCE, DISCARD, WRITE_ZEROES
BLOCK_FEATURES: Final = sum(1 << bit for bit in (2, 4, 6, 9, 10, 11, 13, 14))
_SECTOR: Final = 512
_HEADS, _SECTORS_OF_TRACK, _MOST_CYLINDERS = 16, 63, 0x3FFF
_MOST_AT_ONCE: Final = 0x3FFFFF


def block_config(size: int, block_size: int = _SECTOR, queues: int = 1) -> tuple[tuple[str, int | bytes], ...]:
    """The configuration of a disk of `size` bytes, ``struct virtio_blk_config``: pairs of a `struct` code and a value,
    without padding; the transport decides the byte order.  Raise `Misuse` unless these are whole sectors of 512 bytes
    and `block_size` is a power of two that is not less.
    """
    sectors, rest = divmod(size, _SECTOR)
    if size <= 0 or rest:
        raise Misuse("build virtio disk", cause=f"its size is a multiple of {_SECTOR} bytes, not {size}")
    if block_size < _SECTOR or block_size & block_size - 1:
        raise Misuse("build virtio disk", cause=f"its blocks have 512, 1024, ... bytes, not {block_size}")
    sectors_of_block = block_size // _SECTOR
    return (
        ("Q", sectors),
        ("I", 0),  # largest segment: not offered
        ("I", 254),  # most segments
        ("H", min(sectors // (_HEADS * _SECTORS_OF_TRACK), _MOST_CYLINDERS)),
        ("B", _HEADS),
        ("B", _SECTORS_OF_TRACK & -sectors_of_block),
        ("I", block_size),
        ("B", 0),  # physical block exponent
        ("B", 0),  # alignment offset
        ("H", 0),  # smallest I/O
        ("I", 0),  # best I/O
        ("B", 1),  # write-back cache
        ("B", 0),
        ("H", queues),
        ("I", _MOST_AT_ONCE),  # sectors discarded at once
        ("I", 1),
        ("I", sectors_of_block),
        ("I", _MOST_AT_ONCE),  # sectors zeroed at once
        ("I", 1),
        ("B", 1),
        ("3s", bytes(3)),
    )
