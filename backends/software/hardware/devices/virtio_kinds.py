"""The kinds of virtio device on PCI, with the ids, features, queues and configuration that QEMU 7.2 gives them.

Source: Virtual I/O Device specification 1.1, "Device Types"; the golden files zpci-vfio.json and sysfs-zpci-vfio.json;
features and queue sizes as the lab's functions answer.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.devices.virtio_block import BLOCK_FEATURES, block_config

__all__ = [
    "NET_FEATURES",
    "VirtioKind",
    "virtio_9p",
    "virtio_blk",
    "virtio_net",
    "virtio_net_fields",
    "virtio_rng",
    "virtio_serial",
]

_LINK_UP = 1
NET_FEATURES = 0x00BF8024
"""Control of guest offloads, MAC, merged buffers, status, control queue (four kinds), announcement, setting the MAC."""
_MOUNT_TAG = 1 << 0
_READ_ONLY = 1 << 5
_MANY_PORTS, _EMERGENCY_WRITE = 1 << 1, 1 << 2
_PORTS = 31
_RING_FEATURES = 1 << 28 | 1 << 29  # indirect descriptors, event index


@dataclass(frozen=True, slots=True)
class VirtioKind:
    """A kind of device: its virtio `type`, the id and class of its transitional form, features 0 to 31, the sizes of
    its queues, its own configuration (struct codes and values), its MSI-X `vectors` and the size of its expansion ROM.
    """

    type: int
    transitional_id: int
    class_code: int
    features: int
    queues: tuple[int, ...]
    fields: tuple[tuple[str, int | bytes], ...]
    vectors: int
    rom_size: int = 0
    supply: Callable[[int], bytes] | None = None
    """What an entropy source answers a request for so many bytes; None: the kind's queues are not modelled."""

    def config(self, order: str) -> bytes:
        """The device's own configuration in byte order `order`, ``<`` or ``>``."""
        return struct.pack(order + "".join(code for code, _ in self.fields), *(value for _, value in self.fields))


def virtio_net_fields(mac: str) -> tuple[tuple[str, int | bytes], ...]:
    """The configuration of an interface with the hardware address `mac`.  Raise `Misuse` when it is not one."""
    try:
        address = bytes.fromhex(mac.replace(":", ""))
    except ValueError:
        address = b""
    if len(address) != 6:
        raise Misuse("build virtio network interface", mac, cause="a MAC address is written 52:54:00:12:34:56")
    return (("6s", address), ("H", _LINK_UP))


def virtio_net(mac: str = "52:54:00:12:34:56") -> VirtioKind:
    """A network interface with the hardware address `mac`.  Raise `Misuse` when it is not one."""
    features = _RING_FEATURES | NET_FEATURES
    return VirtioKind(1, 0x1000, 0x020000, features, (256, 256, 64), virtio_net_fields(mac), 4, 0x40000)


def virtio_blk(size: int = 1 << 20, *, readonly: bool = False) -> VirtioKind:
    """A disk of `size` bytes.  Raise `Misuse` unless these are whole sectors of 512 bytes."""
    features = _RING_FEATURES | BLOCK_FEATURES | (_READ_ONLY if readonly else 0)
    return VirtioKind(2, 0x1001, 0x010000, features, (256,), tuple(block_config(size)), 2)


def virtio_rng() -> VirtioKind:
    """An entropy source."""
    return VirtioKind(4, 0x1005, 0x00FF00, _RING_FEATURES, (8,), (), 2, supply=random.randbytes)


def virtio_serial() -> VirtioKind:
    """A console of up to 31 ports; which there are it would tell in its control queue."""
    fields: tuple[tuple[str, int | bytes], ...] = (("H", 0), ("H", 0), ("I", _PORTS), ("I", 0))
    queues = (128, 128, 32, 32) + (128, 128) * (_PORTS - 1)  # the second pair is for control
    return VirtioKind(3, 0x1003, 0x078000, _RING_FEATURES | _MANY_PORTS | _EMERGENCY_WRITE, queues, fields, 2)


def virtio_9p(mount_tag: str = "src") -> VirtioKind:
    """A transport of the 9P file protocol that is mounted by this name."""
    tag = mount_tag.encode()
    fields: tuple[tuple[str, int | bytes], ...] = (("H", len(tag)), (f"{len(tag)}s", tag))
    return VirtioKind(9, 0x1009, 0x000200, _RING_FEATURES | _MOUNT_TAG, (128,), fields, 2)
