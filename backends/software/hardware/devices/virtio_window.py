"""The capabilities of a virtio device: where its registers are, and a window to them within configuration space.

::

    00 | type         | length       | next         | id=09        |     type: common, ISR, device, notify, window
    04 | -                           | id           | BAR          |
    08 | offset within the BAR                                    |
    0c | length                                                   |
    10 | notify: multiplier; window: data                         |

What the window's BAR, offset and length say is what is read and written at its data.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from pyvfio.abi import virtio_pci as abi
from pyvfio_backends.software.hardware.devices.virtio_registers import COMMON, DEVICE, ISR, NOTIFY, NOTIFY_STEP, PART
from pyvfio_backends.software.hardware.pci.bar import Bar, Unmapped
from pyvfio_backends.software.hardware.pci.config import ConfigSpace

__all__ = ["ConfigWindow", "capabilities"]

_DWORD: Final = 0xFFFFFFFF
_SHORT, _LONG = 16, 20


def capabilities(bar: int, first: int) -> Iterator[tuple[int, bytes]]:
    """The offset and the content (without id and next) of each, from `first` on; the last is the window."""
    at = first
    for number, offset in (
        (abi.VIRTIO_PCI_CAP_COMMON_CFG, COMMON),
        (abi.VIRTIO_PCI_CAP_ISR_CFG, ISR),
        (abi.VIRTIO_PCI_CAP_DEVICE_CFG, DEVICE),
        (abi.VIRTIO_PCI_CAP_NOTIFY_CFG, NOTIFY),
    ):
        extra = struct.pack("<I", NOTIFY_STEP) if number == abi.VIRTIO_PCI_CAP_NOTIFY_CFG else b""
        yield at, struct.pack("<BBB3xII", _SHORT + len(extra), number, bar, offset, PART) + extra
        at += _SHORT + len(extra)
    yield at, struct.pack("<BBB3xIII", _LONG, abi.VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 0, 0)


class ConfigWindow:
    """The window of the capability at `at` of `config`, to these BARs; `open` it once the capability is there."""

    def __init__(self, config: ConfigSpace, at: int, bars: Sequence[Bar]) -> None:
        self._config, self._at, self._bars = config, at, bars
        self._data = at + abi.VIRTIO_PCI_NOTIFY_CAP_MULT
        config.refresh = self._read
        config.changed = self._written
        config.live = (self._data, self._data + 4)

    def open(self) -> None:
        """Let its registers be written."""
        self._config.allow(self._at + abi.VIRTIO_PCI_CAP_BAR, 1, 0xFF)
        for field in (abi.VIRTIO_PCI_CAP_OFFSET, abi.VIRTIO_PCI_CAP_LENGTH, abi.VIRTIO_PCI_NOTIFY_CAP_MULT):
            self._config.allow(self._at + field, 4, _DWORD)

    def _shown(self) -> tuple[Bar, int, int] | None:
        """The BAR, offset and length that it shows; None when they make no sense."""
        data = self._config.data
        number = data[self._at + abi.VIRTIO_PCI_CAP_BAR]
        offset, length = struct.unpack_from("<II", data, self._at + abi.VIRTIO_PCI_CAP_OFFSET)
        bar = next((bar for bar in self._bars if bar.index == number), None)
        if bar is None or length not in (1, 2, 4) or offset % length or offset + length > bar.size:
            return None
        return bar, offset, length

    def _read(self) -> None:
        shown = self._shown()
        if shown is not None:
            bar, offset, length = shown
            with contextlib.suppress(Unmapped):  # what no register answers leaves the data as they are
                value = bar.read(offset, length)
                self._config.data[self._data : self._data + length] = value.to_bytes(length, "little")

    def _written(self, offset: int, length: int) -> None:
        shown = self._shown() if offset < self._data + 4 and offset + length > self._data else None
        if shown is not None:
            bar, at, count = shown
            with contextlib.suppress(Unmapped):
                bar.write(at, count, int.from_bytes(self._config.data[self._data : self._data + count], "little"))
