"""The virtio devices of the lab's machine, with the features and configuration that QEMU 7.2 gives them.

Source: Virtual I/O Device specification 1.1, "Device Types"; the golden files ccw-blk.json and sysfs-ccw-blk.json.
"""

from __future__ import annotations

from typing import Final

from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.devices.virtio_ccw import ConfigSpace, VirtioCcw

__all__ = ["virtio_9p", "virtio_blk", "virtio_console", "virtio_rng"]

_SECTOR: Final = 512


def virtio_blk(size: int = 1 << 20) -> VirtioCcw:
    """A virtio disk of `size` bytes.  Raise `Misuse` unless these are whole sectors of 512 bytes."""
    if size <= 0 or size % _SECTOR:
        raise Misuse("build virtio disk", cause=f"its size is a multiple of {_SECTOR} bytes, not {size}")
    sectors = size // _SECTOR
    features = sum(1 << bit for bit in (2, 4, 6, 9, 10, 11, 13, 14))
    sixteen_heads_63_sectors = 16 * 63
    config: ConfigSpace = (
        ("Q", sectors),
        ("I", 0),  # largest segment: not offered
        ("I", 254),  # most segments
        ("H", min(sectors // sixteen_heads_63_sectors, 0x3FFF)),
        ("B", 16),
        ("B", 63),
        ("I", _SECTOR),  # block size
        ("B", 0),  # physical block exponent
        ("B", 0),  # alignment offset
        ("H", 0),  # smallest I/O
        ("I", 0),  # best I/O
        ("B", 1),  # write-back cache
        ("B", 0),
        ("H", 1),  # queues
        ("I", 0x3FFFFF),  # most sectors discarded at once
        ("I", 1),
        ("I", 1),
        ("I", 0x3FFFFF),  # most sectors zeroed at once
        ("I", 1),
        ("B", 1),
        ("3s", bytes(3)),
    )
    return VirtioCcw(2, features, config, (256,))


def virtio_console() -> VirtioCcw:
    """A virtio console with multiple ports."""
    config: ConfigSpace = (("H", 0), ("H", 0), ("I", 31), ("I", 0))
    return VirtioCcw(3, 1 << 1 | 1 << 2, config, (128,) * 4)


def virtio_rng() -> VirtioCcw:
    """A virtio entropy source."""
    return VirtioCcw(4, 0, (), (8,))


def virtio_9p(tag: str) -> VirtioCcw:
    """A virtio 9p file system with the mount tag `tag`."""
    name = tag.encode()
    return VirtioCcw(9, 1, (("H", len(name)), (f"{len(name)}s", name)), (128,))
