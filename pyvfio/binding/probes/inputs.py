"""The host's input devices, as ``/proc/bus/input/devices`` lists them (``drivers/input/input.c``)."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["InputDevice", "input_devices"]

_KEYBOARD = 0xFFFFFFFE
"""The keys from Escape to S: udev calls a device a keyboard when it has them all (``udev-builtin-input_id.c``)."""


@dataclass(frozen=True, slots=True)
class InputDevice:
    """An input device: `name`, sysfs `path`, the `handlers` attached to it, and whether it has a keyboard's keys."""

    name: str
    path: str
    handlers: tuple[str, ...]
    is_keyboard: bool


def input_devices(text: str) -> tuple[InputDevice, ...]:
    """Read the file: paragraphs of lines such as ``N: Name="USB Keyboard"`` and ``B: KEY=...`` (words of a bitmap)."""
    found = []
    for paragraph in text.split("\n\n"):
        values = dict(re.findall(r"^\w: ([\w ]+?)=(.*)$", paragraph, re.MULTILINE))
        if "Sysfs" in values:
            keys = values.get("KEY", "0").split()
            lowest = int(keys[-1], 16) if keys else 0
            found.append(
                InputDevice(
                    values.get("Name", "").strip('"'),
                    f"/sys{values['Sysfs']}",
                    tuple(values.get("Handlers", "").split()),
                    lowest & _KEYBOARD == _KEYBOARD,
                )
            )
    return tuple(found)
