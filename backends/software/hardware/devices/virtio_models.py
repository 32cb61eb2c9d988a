"""The virtio devices of the lab's machine, with the features and configuration that QEMU 7.2 gives them.

Source: Virtual I/O Device specification 1.1, "Device Types"; the golden files ccw-blk.json and sysfs-ccw-blk.json.
"""

from __future__ import annotations

from pyvfio_backends.software.hardware.devices.virtio_block import BLOCK_FEATURES, block_config
from pyvfio_backends.software.hardware.devices.virtio_ccw import ConfigSpace, VirtioCcw

__all__ = ["virtio_9p", "virtio_blk", "virtio_console", "virtio_rng"]


def virtio_blk(size: int = 1 << 20) -> VirtioCcw:
    """A virtio disk of `size` bytes.  Raise `Misuse` unless these are whole sectors of 512 bytes."""
    return VirtioCcw(2, BLOCK_FEATURES, block_config(size), (256,))


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
