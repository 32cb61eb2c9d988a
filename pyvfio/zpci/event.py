"""Events that a machine reports for PCI functions: errors and changes of availability.

They come with STORE EVENT INFORMATION (`pyvfio.css.Sei`) of notification type 2; its content code (`FunctionContent`)
says which of the two the field of 32 bytes is::

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
from typing import Final

from pyvfio.zpci.block import BigBlock, at, raw_at
from pyvfio.zpci.event_code import AvailabilityCode, ErrorCode, event_name

__all__ = ["EVENT_SIZE", "AvailabilityCode", "AvailabilityEvent", "ErrorCode", "ErrorEvent", "event_name"]

EVENT_SIZE: Final = 32


@dataclass(frozen=True, slots=True)
class ErrorEvent(BigBlock, size=EVENT_SIZE):
    """An error of a function.

    `ett` is the expected table type (4 bits), `vector` the MSI vector (12), `space` the DMA address space (8),
    `qualified` and `write` are one bit each, `address` is the failing DMA address.  What is reserved stays as it came.
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
    reserved: int = at(0, 32)
    reserved2: int = at(15, 6)
    reserved3: int = at(24, 48)

    def __str__(self) -> str:
        where = f" at {self.address:#x}" if self.address else ""
        return f"function {self.fid:08x} (handle {self.fh:08x}): {event_name(self.pec)}{where}"


@dataclass(frozen=True, slots=True)
class AvailabilityEvent(BigBlock, size=EVENT_SIZE):
    """A function came, went, or is asked for.  What is reserved is kept as it came."""

    fh: int = at(4, 32)
    fid: int = at(8, 32)
    pec: int = at(30, 16)
    reserved: int = at(0, 32)
    reserved2: bytes = raw_at(12, 18)

    def __str__(self) -> str:
        return f"function {self.fid:08x} (handle {self.fh:08x}): {event_name(self.pec)}"
