"""Events that a machine reports for PCI functions: errors and changes of availability.

They come with STORE EVENT INFORMATION (`pyvfio.css.Sei`) of notification type 2; its content code says which of the two
the field of 32 bytes is::

    byte  0        4        8        c                10       18        1c   1e
         +--------+--------+--------+----------------+--------+---------+----+-----+
     1   | zeros  |   fh   |  fid   | ett mvn as q w | faddr  | zeros   |    | pec |   error
         +--------+--------+--------+----------------+--------+---------+----+-----+
     2   | zeros  |   fh   |  fid   |              zeros                     | pec |   availability
         +--------+--------+--------+----------------------------------------+-----+

(Offsets in hexadecimal.)  `pec` is the PCI event code.

Sources: ``arch/s390/pci/pci_event.c`` (struct zpci_ccdf_err, struct zpci_ccdf_avail, the availability codes);
``hw/s390x/s390-pci-bus.h`` of QEMU (``ERR_EVENT_*``, ``HP_EVENT_*``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from pyvfio.zpci.block import BigBlock, at

__all__ = ["EVENT_SIZE", "AvailabilityCode", "AvailabilityEvent", "ErrorCode", "ErrorEvent", "event_name"]

EVENT_SIZE: Final = 32


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


@dataclass(frozen=True, slots=True)
class ErrorEvent(BigBlock, size=EVENT_SIZE):
    """An error of a function.

    `ett` is the expected table type (4 bits), `vector` the MSI vector (12), `space` the DMA address space (8),
    `qualified` and `write` are one bit each, `address` is the failing DMA address.
    """

    fh: int = at(4, 32)
    fid: int = at(8, 32)
    ett: int = at(12, 4)
    vector: int = at(12, 12, bit=4)
    space: int = at(14, 8)
    qualified: int = at(15, 1, bit=6)
    write: int = at(15, 1, bit=7)
    address: int = at(16, 64)
    pec: int = at(30, 16)

    def __str__(self) -> str:
        where = f" at {self.address:#x}" if self.address else ""
        return f"function {self.fid:08x} (handle {self.fh:08x}): {event_name(self.pec)}{where}"


@dataclass(frozen=True, slots=True)
class AvailabilityEvent(BigBlock, size=EVENT_SIZE):
    """A function came, went, or is asked for."""

    fh: int = at(4, 32)
    fid: int = at(8, 32)
    pec: int = at(30, 16)

    def __str__(self) -> str:
        return f"function {self.fid:08x} (handle {self.fh:08x}): {event_name(self.pec)}"
