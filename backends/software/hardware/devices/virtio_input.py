"""Virtio keyboards and tablets: the driver writes what it wants to know into the configuration, and reads it there.

    0  select   8  subsel   16  size   24 ... 63  reserved   64 ...  what was asked for, `size` bytes

The configuration is as long as the longest answer makes it.

Source: Virtual I/O Device specification 1.1, "Input Device"; the golden file ccw-virtio.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pyvfio_backends.software.hardware.devices.virtio_ccw import VirtioCcw

__all__ = ["VirtioInput", "virtio_keyboard", "virtio_tablet"]

_MODEL: Final = 18
_HEAD: Final = 8
_NAME, _IDS, _EVENTS, _AXES = 0x01, 0x03, 0x11, 0x12
_KEYS, _RELATIVE, _ABSOLUTE, _LEDS, _REPEAT = 0x01, 0x02, 0x03, 0x11, 0x14
#: Bus "virtual", vendor 0627, product, version: 16 bits each, little-endian.
_KEYBOARD_IDS: Final = bytes.fromhex("0600270601000100")
_TABLET_IDS: Final = bytes.fromhex("0600270603000200")
_KEYBOARD_KEYS: Final = bytes.fromhex("feffffffffffffffffffcf7bffffbefeffdf00f8783000000000000004")
#: Buttons 272 to 276 and the wheel's two directions (336, 337): a bit for each, the lowest first.
_TABLET_KEYS: Final = bytes(34) + bytes.fromhex("1f0000000000000003")
_WHEEL: Final = bytes.fromhex("0001")
#: From 0 to 7FFF, without noise, flatness and resolution.
_AXIS: Final = bytes.fromhex("00000000ff7f0000").ljust(20, b"\0")


class VirtioInput(VirtioCcw):
    """An input device with `answers` to (select, subsel)."""

    def __init__(self, answers: Mapping[tuple[int, int], bytes]) -> None:
        longest = max(map(len, answers.values()))
        self._answers = answers
        self._longest = longest
        config = (("B", 0), ("B", 0), ("B", 0), ("5s", bytes(5)), (f"{longest}s", bytes(longest)))
        super().__init__(_MODEL, 0, config, (64, 64), legacy=None, writable=(0, 1))

    def _configured(self) -> None:
        select, subsel = self._values[:2]
        answer = self._answers.get((int(select), int(subsel)))
        found = answer is not None
        self._values = (
            select if found else 0,
            subsel if found else 0,
            len(answer or b""),
            bytes(_HEAD - 3),
            (answer or b"").ljust(self._longest, b"\0"),
        )


def virtio_keyboard() -> VirtioInput:
    """A keyboard with three lights."""
    return VirtioInput(
        {
            (_NAME, 0): b"QEMU Virtio Keyboard\0",
            (_IDS, 0): _KEYBOARD_IDS,
            (_EVENTS, _KEYS): _KEYBOARD_KEYS,
            (_EVENTS, _LEDS): b"\x07",
            (_EVENTS, _REPEAT): b"\0",
        }
    )


def virtio_tablet() -> VirtioInput:
    """A tablet with buttons and a wheel."""
    return VirtioInput(
        {
            (_NAME, 0): b"QEMU Virtio Tablet\0",
            (_IDS, 0): _TABLET_IDS,
            (_EVENTS, _KEYS): _TABLET_KEYS,
            (_EVENTS, _RELATIVE): _WHEEL,
            (_EVENTS, _ABSOLUTE): b"\x03",
            (_AXES, 0): _AXIS,
            (_AXES, 1): _AXIS,
        }
    )
