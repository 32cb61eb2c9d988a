"""What drivers of a virtio function do whoever they are: the handshake, and one small queue in memory.

A queue of `SIZE` entries lies in one page::

    +000  descriptors (16 bytes each)     +400  driver ring     +800  device ring

Registers are reached by a function of the caller's, `Access`: by VFIO, or by instructions.
Source: VIRTIO 1.2, 2.7 (split virtqueues), 3.1.1 (initialization), 4.1 (PCI), 6 (feature bits).
"""

from __future__ import annotations

import struct
from typing import Final, Protocol

from pyvfio.abi import virtio_pci as abi
from pyvfio.errors import MalformedAnswer

__all__ = ["DEVICE_RING", "DRIVER_RING", "SIZE", "Access", "answer_at", "start", "to_be_written"]

DRIVER_RING: Final = 0x400
DEVICE_RING: Final = 0x800
SIZE: Final = 4
_ACKNOWLEDGE, _DRIVER, _DRIVER_OK, _FEATURES_OK = 1, 2, 4, 8
_VERSION_1, _ACCESS_PLATFORM = 1, 2
_WRITE_BY_DEVICE: Final = 2


class Access(Protocol):
    """Access to the common structure."""

    def __call__(self, register: int, length: int, value: int | None = None) -> int:
        """Read `length` bytes at `register`, or write `value`."""


def start(common: Access, queue: int) -> None:
    """Reset the device, agree on features, and give it queue 0 at the DMA address `queue`, with MSI-X vector 0.

    Raise `MalformedAnswer` when it does not take version 1 with addresses that an IOMMU translates.
    """
    common(abi.VIRTIO_PCI_COMMON_STATUS, 1, 0)
    common(abi.VIRTIO_PCI_COMMON_STATUS, 1, _ACKNOWLEDGE | _DRIVER)
    for half, features in ((0, 0), (1, _VERSION_1 | _ACCESS_PLATFORM)):
        common(abi.VIRTIO_PCI_COMMON_GFSELECT, 4, half)
        common(abi.VIRTIO_PCI_COMMON_GF, 4, features)
    common(abi.VIRTIO_PCI_COMMON_STATUS, 1, _ACKNOWLEDGE | _DRIVER | _FEATURES_OK)
    if not common(abi.VIRTIO_PCI_COMMON_STATUS, 1) & _FEATURES_OK:
        raise MalformedAnswer("start virtio device", "", "it does not take these features")
    common(abi.VIRTIO_PCI_COMMON_Q_SELECT, 2, 0)
    common(abi.VIRTIO_PCI_COMMON_Q_SIZE, 2, SIZE)
    common(abi.VIRTIO_PCI_COMMON_Q_MSIX, 2, 0)
    for register, place in (
        (abi.VIRTIO_PCI_COMMON_Q_DESCLO, queue),
        (abi.VIRTIO_PCI_COMMON_Q_AVAILLO, queue + DRIVER_RING),
        (abi.VIRTIO_PCI_COMMON_Q_USEDLO, queue + DEVICE_RING),
    ):
        common(register, 4, place & 0xFFFFFFFF)
        common(register + 4, 4, place >> 32)
    common(abi.VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1)
    common(abi.VIRTIO_PCI_COMMON_STATUS, 1, _ACKNOWLEDGE | _DRIVER | _FEATURES_OK | _DRIVER_OK)


def to_be_written(requests: int, target: int, count: int) -> list[tuple[int, bytes]]:
    """What is written into the queue's page, in order, to have the device write `count` bytes at `target`.

    `requests` is how many were made before.
    """
    number, made = requests % SIZE, requests + 1 & 0xFFFF
    descriptor = struct.pack("<QIHH", target, count, _WRITE_BY_DEVICE, 0)
    return [
        (number * len(descriptor), descriptor),
        (DRIVER_RING + 4 + 2 * number, number.to_bytes(2, "little")),
        (DRIVER_RING + 2, made.to_bytes(2, "little")),
    ]


def answer_at(number: int) -> int:
    """Where in the queue's page it says how many bytes (4, little-endian) answer `number` has."""
    return DEVICE_RING + 4 + 8 * (number % SIZE) + 4
