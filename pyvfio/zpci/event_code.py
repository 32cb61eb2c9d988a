"""The event codes (PEC) with which a machine reports errors and changes of availability of PCI functions.

Source: ``arch/s390/pci/pci_event.c`` (availability), ``hw/s390x/s390-pci-bus.h`` of QEMU (``ERR_EVENT_*``).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["AvailabilityCode", "ErrorCode", "event_name"]


class ErrorCode(IntEnum):
    """PCI event codes of error events."""

    INVALID_ADDRESS_SPACE = 0x01
    OUT_OF_RANGE = 0x02
    INVALID_TRANSLATION_FORMAT = 0x03
    TABLE_PROTECTED = 0x04
    ADDRESS_PROTECTED = 0x05
    KEY_PROTECTED = 0x06
    INVALID_TABLE_ENTRY = 0x07
    INVALID_TABLE_LENGTH = 0x08
    TABLE_TYPE = 0x09
    INVALID_MEASUREMENT_SPACE = 0x0A
    SERVICE_ERROR = 0x0B
    NO_MESSAGE_VECTOR = 0x10
    INVALID_BIT_VECTOR = 0x11
    BIT_VECTOR_ACCESS = 0x12
    INTERRUPTION_ERROR = 0x13
    MEASUREMENT_ADDRESS = 0x2A
    MEASUREMENT_UPDATE = 0x2B
    MEASUREMENT_PROTECTED = 0x2C
    CONFIGURATION_CHANGED = 0x30
    SERVICE_ACTION = 0x3A
    PERMANENT_ERROR = 0x3B
    RECOVERY_FAILED = 0x40


class AvailabilityCode(IntEnum):
    """PCI event codes of availability events."""

    CONFIGURED = 0x0301
    STANDBY = 0x0302
    DECONFIGURE_REQUESTED = 0x0303
    DECONFIGURED = 0x0304
    SEVERAL_CHANGED = 0x0306
    RESERVED = 0x0308


_WORDS: Final = {
    AvailabilityCode.CONFIGURED: "reserved or standby -> configured",
    AvailabilityCode.STANDBY: "reserved -> standby",
    AvailabilityCode.DECONFIGURE_REQUESTED: "deconfiguration requested",
    AvailabilityCode.DECONFIGURED: "configured -> standby or reserved",
    AvailabilityCode.SEVERAL_CHANGED: "several functions changed",
    AvailabilityCode.RESERVED: "standby -> reserved",
}


def event_name(pec: int) -> str:
    """Say an event code of either kind in words."""
    for code, words in _WORDS.items():
        if pec == code:
            return words
    try:
        return ErrorCode(pec).name.lower().replace("_", " ")
    except ValueError:
        return f"event {pec:#06x}"
