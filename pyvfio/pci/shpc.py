"""Registers of the Standard Hot-Plug Controller of conventional PCI (SHPC), behind a base address of a bridge.

::

    00 | offset of the registers from the base address                                            |
    04 | slots for 33 MHz (5), and those for PCI-X                                                 |
    08 | slots for 66 MHz (5), and those for PCI-X                                                 |
    0c | button, sensor, up (3) 0 (2) first number (11)| 0 (3) first device (5) | 0 (3) slots (5) |
    10 | interface (8)     | message (8)              | 0 (13) speed and mode (3)                 |
    14 | 0 (12) status (4)                            | 0 (3) target (5)  | command (8)           |
    18 | interrupts: 0 the command, n slot n                                                      |
    1c | system errors: 0 the arbiter, n slot n                                                   |
    20 | 0 (14) arbiter, command detected (2)         | 0 (12) masks (4): `Mask`                  |
    24 | masks (8) | events (8): `SlotEvent`  | 0 (2) PCI-X, presence (4) 66 MHz, open, button, fault |
       |           |                          | (4), attention, power indicator, state (6)           |
    28 | and so on, one word for each slot

The capability reaches them without the base address: a register's number into byte 2, then its word at byte 4.
Source: PCI Standard Hot-Plug Controller and Subsystem Specification, 1.0, chapter 4.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

__all__ = [
    "BASE_OFFSET",
    "BUTTON",
    "COMMAND",
    "CONFIGURATION",
    "DWORD_DATA",
    "DWORD_SELECT",
    "FIRST_DEVICE_SHIFT",
    "INTERFACE",
    "INTERRUPTS",
    "MASKS",
    "NUMBER_MASK",
    "PHYSICAL_MASK",
    "PHYSICAL_SHIFT",
    "PRESENCE_SHIFT",
    "SENSOR",
    "SENSOR_OPEN",
    "SLOTS",
    "SLOTS_33",
    "SPEED",
    "SPEED_MASK",
    "STATUS",
    "TARGET",
    "UP",
    "Command",
    "Indicator",
    "Mask",
    "SlotEvent",
    "SlotState",
    "Status",
]

DWORD_SELECT: Final = 0x2
DWORD_DATA: Final = 0x4
"""Offsets in the capability."""

BASE_OFFSET: Final = 0x00
SLOTS_33: Final = 0x04
CONFIGURATION: Final = 0x0C
SPEED: Final = 0x10
INTERFACE: Final = 0x13
COMMAND: Final = 0x14
TARGET: Final = 0x15
STATUS: Final = 0x16
INTERRUPTS: Final = 0x18
MASKS: Final = 0x20
SLOTS: Final = 0x24

NUMBER_MASK: Final = 0x1F
FIRST_DEVICE_SHIFT: Final = 8
PHYSICAL_SHIFT: Final = 16
PHYSICAL_MASK: Final = 0x7FF
UP: Final = 1 << 29
"""Physical numbers go up from slot to slot."""
SENSOR: Final = 1 << 30
BUTTON: Final = 1 << 31
SPEED_MASK: Final = 0x7
PRESENCE_SHIFT: Final = 10
"""Where the two bits are that are both set for an empty slot."""
SENSOR_OPEN: Final = 1 << 8


class SlotState(IntEnum):
    """Bits 0 and 1 of a slot's word, and of a command (0: leave it)."""

    KEEP = 0
    POWER_ONLY = 1
    ENABLED = 2
    DISABLED = 3


class Indicator(IntEnum):
    """Bits 2 and 3 (power) and 4 and 5 (attention) of a slot's word, and of a command (0: leave it)."""

    KEEP = 0
    ON = 1
    BLINK = 2
    OFF = 3


class Command(IntEnum):
    """Commands that are not for one slot; `SET_SPEED` is the first of eight."""

    SET_SPEED = 0x40
    POWER_ALL = 0x48
    ENABLE_ALL = 0x49


class Status(IntFlag):
    """The status word."""

    BUSY = 0x1
    SENSOR_OPEN = 0x2
    INVALID_COMMAND = 0x4
    INVALID_SPEED = 0x8


class Mask(IntFlag):
    """The word at `MASKS`: what is kept back, and what was detected (written with a one to clear it)."""

    INTERRUPTS = 1 << 0
    SYSTEM_ERRORS = 1 << 1
    COMMAND = 1 << 2
    ARBITER = 1 << 3
    COMMAND_DETECTED = 1 << 16
    ARBITER_DETECTED = 1 << 17


class SlotEvent(IntFlag):
    """Byte 2 of a slot's word, and the masks in byte 3, which has two more."""

    PRESENCE = 0x01
    ISOLATED_FAULT = 0x02
    BUTTON = 0x04
    SENSOR = 0x08
    CONNECTED_FAULT = 0x10
