"""The registers of `pci-testdev`, QEMU's PCI device to test accesses with.

1b36:0005.  BAR 0 is memory, BAR 1 is I/O, and both show the same header, of the test that was started last (zeros while
none is)::

    00  TEST    wo  the number of a test to start, counted on each BAR from 0; a number that does not exist stops it
                    (it reads as the number over both BARs)
    01  WIDTH   ro  bytes of an access of this test
    04  OFFSET  ro  4 bytes: where in this BAR to write
    08  DATA    ro  4 bytes: what to write
    0c  COUNT   ro  4 bytes: writes that the device counted since the test was started
    10  NAME    ro  ASCII, with a zero at its end

========  ==============================================================================
0         ``no-eventfd``: writes of DATA are counted
1         ``wildcard-eventfd``: any write is an event, and not counted
2         ``datamatch-eventfd``: a write of DATA is an event, and not counted
========  ==============================================================================

All is little-endian.  Source: QEMU's ``docs/specs/pci-testdev.rst`` and ``hw/misc/pci-testdev.c``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = [
    "COUNT",
    "DATA",
    "DEVICE_ID",
    "IO_BAR",
    "IO_BAR_SIZE",
    "MATCH",
    "MEMORY_BAR",
    "MEMORY_BAR_SIZE",
    "NAME",
    "NO_MATCH",
    "OFFSET",
    "TEST",
    "VENDOR_ID",
    "WIDTH",
    "TestKind",
]

VENDOR_ID: Final = 0x1B36
DEVICE_ID: Final = 0x0005
MEMORY_BAR: Final = 0
IO_BAR: Final = 1
MEMORY_BAR_SIZE: Final = 1 << 12
IO_BAR_SIZE: Final = 1 << 8
TEST: Final = 0x00
WIDTH: Final = 0x01
OFFSET: Final = 0x04
DATA: Final = 0x08
COUNT: Final = 0x0C
NAME: Final = 0x10
MATCH: Final = 0xFA
"""DATA of tests that look at what is written."""
NO_MATCH: Final = 0xCE


class TestKind(IntEnum):
    """The tests that each BAR has."""

    __test__ = False  # nothing for pytest to collect

    NO_EVENT = 0
    ANY_EVENT = 1
    DATA_EVENT = 2

    @property
    def label(self) -> str:
        """The part of NAME that follows ``mmio-`` or ``portio-``."""
        return ("no-eventfd", "wildcard-eventfd", "datamatch-eventfd")[self]
