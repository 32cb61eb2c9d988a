"""The virtio devices behind channels, with the features and configuration that QEMU 7.2 gives them.

Source: Virtual I/O Device specification 1.1, "Device Types"; the golden files ccw-blk.json, ccw-virtio.json and
sysfs-ccw-blk.json.
"""

from __future__ import annotations

from typing import Final

from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.devices.virtio_block import BLOCK_FEATURES, block_config
from pyvfio_backends.software.hardware.devices.virtio_ccw import ConfigSpace, VirtioCcw
from pyvfio_backends.software.hardware.devices.virtio_kinds import NET_FEATURES, virtio_net_fields

__all__ = [
    "virtio_9p",
    "virtio_balloon",
    "virtio_blk",
    "virtio_console",
    "virtio_crypto",
    "virtio_gpu",
    "virtio_net",
    "virtio_rng",
    "virtio_scsi",
]

_MULTI_QUEUE: Final = 1 << 12
_GSO: Final = 1 << 6
_MAC_BY_COMMAND: Final = 1 << 23 | 1 << 32  # CTRL_MAC_ADDR, VERSION_1
_WRITE_CACHE: Final = 11  # the number of that field in the configuration
_MOST_QUEUES: Final = 63


class _Balloon(VirtioCcw):
    """A memory balloon; what the driver says of its size is little-endian always, and outlives resets."""

    def __init__(self) -> None:
        config: ConfigSpace = (("I", 0), ("4s", bytes(4)), ("I", 0), ("I", 0))
        super().__init__(5, 1 << 1 | 1 << 4, config, (128, 128, 128), writable=(1,))

    def _configured(self) -> None:
        self._initial = self._values


def virtio_balloon() -> VirtioCcw:
    """A virtio memory balloon, which nobody inflates."""
    return _Balloon()


def virtio_blk(size: int = 1 << 20, block_size: int = 512, queues: int = 1) -> VirtioCcw:
    """A virtio disk of `size` bytes.  Raise `Misuse` unless these are whole sectors of 512 bytes."""
    if not 1 <= queues <= _MOST_QUEUES:
        raise Misuse("build virtio disk", cause=f"it has 1 to {_MOST_QUEUES} queues, not {queues}")
    features = BLOCK_FEATURES | (_MULTI_QUEUE if queues > 1 else 0)
    config = block_config(size, block_size, queues)[:-1]  # the padding at the end is PCI's
    return VirtioCcw(2, features, config, (256,) * queues, writable=(_WRITE_CACHE,))


def virtio_net(mac: str = "52:54:00:12:34:56") -> VirtioCcw:
    """A virtio network interface with the hardware address `mac`.  Raise `Misuse` when it is not one."""
    queues = (256, 256, 64)
    fields = virtio_net_fields(mac)
    return VirtioCcw(1, NET_FEATURES, fields, queues, legacy=_GSO, writable=(0,), fixed_by=_MAC_BY_COMMAND)


def virtio_console(ports: int = 31) -> VirtioCcw:
    """A virtio console with up to `ports` ports."""
    if not 1 <= ports <= 31:
        raise Misuse("build virtio console", cause=f"it has 1 to 31 ports, not {ports}")
    config: ConfigSpace = (("H", 0), ("H", 0), ("I", ports), ("I", 0))
    queues = (128, 128, 32, 32) + (128, 128) * (ports - 1)  # the second pair is for control
    return VirtioCcw(3, 1 << 1 | 1 << 2, config, queues)


def virtio_rng() -> VirtioCcw:
    """A virtio entropy source."""
    return VirtioCcw(4, 0, (), (8,))


def virtio_scsi() -> VirtioCcw:
    """A virtio SCSI host without disks."""
    config: ConfigSpace = (
        ("I", 1),  # request queues
        ("I", 254),  # most segments
        ("I", 0xFFFF),  # most sectors
        ("I", 128),  # commands for each unit
        ("I", 16),  # size of an event
        ("I", 96),  # of sense data
        ("I", 32),  # of a command
        ("H", 0),
        ("H", 255),  # targets
        ("I", 16383),  # units
    )
    return VirtioCcw(8, 1 << 1 | 1 << 2, config, (256,) * 3, writable=(5, 6))


def virtio_9p(tag: str) -> VirtioCcw:
    """A virtio 9p file system with the mount tag `tag`."""
    name = tag.encode()
    return VirtioCcw(9, 1, (("H", len(name)), (f"{len(name)}s", name)), (128,))


def virtio_gpu() -> VirtioCcw:
    """A virtio GPU with one screen."""
    config: ConfigSpace = (("I", 0), ("I", 0), ("I", 1), ("I", 0))
    return VirtioCcw(16, 1 << 1, config, (64, 16), legacy=None)


def virtio_crypto() -> VirtioCcw:
    """A virtio cryptographic device."""
    config: ConfigSpace = (
        ("I", 1),  # ready
        ("I", 1),  # data queues
        ("I", 0x17),  # services: cipher, hash, MAC, asymmetric
        ("Q", 1 << 3),  # ciphers: AES in CBC mode
        ("I", 1 << 2),  # hashes: SHA-1
        ("Q", 0),  # MACs
        ("I", 0),  # ciphers with authentication
        ("I", 64),  # longest key of a cipher
        ("I", 512),  # of a MAC
        ("I", 2),  # asymmetric algorithms
        ("Q", 0x7FFFFFFFFFFFFFE7),  # longest content
    )
    return VirtioCcw(20, 0, config, (1024, 1024), legacy=None)
