"""The two ways from the processor to configuration space: memory-mapped (ECAM), and the I/O ports CF8 and CFC.

::

    ECAM   base + | bus (8) | device (5), function (3) | register (12)     the whole 4 KiB, all segments
    CF8    | E .. | bus (8) | device (5), function (3) | register (6) 00   256 bytes, segment 0
    CFC    the four bytes of data of that register

Source: PCI Express Base Specification, 6.0, 7.2.2; PCI Local Bus Specification, 3.0, 3.2.2.3.2.
"""

from __future__ import annotations

from typing import Protocol

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pcie.request import Completion, Outcome, Request

__all__ = ["AddressPorts", "ConfigAccess", "Ecam"]

_FUNCTION_BITS, _BUS_BITS = 12, 20
_ADDRESS_PORT, _DATA_PORT, _DWORD = 0xCF8, 0xCFC, 4
_ENABLE, _REGISTER = 0x80000000, 0xFC
_LENGTHS = (1, 2, 4)


class ConfigAccess(Protocol):
    """Whoever reads and writes configuration space by segment and routing id."""

    def config_read(self, segment: int, rid: int, offset: int, length: int) -> int:
        """Read 1, 2 or 4 bytes; ones where nothing is."""

    def config_write(self, segment: int, rid: int, offset: int, length: int, value: int) -> None:
        """Write 1, 2 or 4 bytes; lost where nothing is."""


class Ecam:
    """The configuration space of a segment in memory, from `base` on, for buses 0 to `last_bus`."""

    def __init__(self, access: ConfigAccess, segment: int, base: int, last_bus: int) -> None:
        self.access = access
        self.segment = segment
        self.base = base
        self.last_bus = last_bus

    @property
    def size(self) -> int:
        """Its size in bytes: 1 MiB for each bus."""
        return self.last_bus + 1 << _BUS_BITS

    def address(self, rid: int, offset: int = 0) -> int:
        """Where a register of a function is."""
        return self.base + (rid << _FUNCTION_BITS) + offset

    def contains(self, address: int) -> bool:
        """Whether an address is in it."""
        return self.base <= address < self.base + self.size

    def perform(self, request: Request) -> Completion:
        """Do a request: 1, 2 or 4 bytes within a word, anything else is unsupported."""
        offset = request.address - self.base
        if request.length not in _LENGTHS or offset % request.length:
            return Completion(Outcome.UNSUPPORTED)
        rid, register = offset >> _FUNCTION_BITS, offset & (1 << _FUNCTION_BITS) - 1
        if request.write:
            value = int.from_bytes(request.data, "little")
            self.access.config_write(self.segment, rid, register, request.length, value)
            return Completion(Outcome.SUCCESS)
        value = self.access.config_read(self.segment, rid, register, request.length)
        return Completion(Outcome.SUCCESS, value.to_bytes(request.length, "little"))


class AddressPorts:
    """Configuration mechanism 1: an address register at CF8, its data at CFC to CFF."""

    def __init__(self, access: ConfigAccess) -> None:
        self.access = access
        self.address = 0

    def owns(self, port: int, length: int) -> bool:
        """Whether an access is its own: four bytes at CF8, or any within CFC to CFF."""
        if port == _ADDRESS_PORT:
            return length == _DWORD
        return port >= _DATA_PORT and port + length <= _DATA_PORT + _DWORD

    def _place(self, port: int) -> tuple[int, int]:
        return self.address >> 8 & 0xFFFF, (self.address & _REGISTER) + port - _DATA_PORT

    def read(self, port: int, length: int) -> int:
        """Read the address, or 1, 2 or 4 bytes of data."""
        if port == _ADDRESS_PORT:
            return self.address
        if not self.address & _ENABLE:
            return (1 << 8 * length) - 1
        rid, offset = self._place(port)
        return self.access.config_read(0, rid, offset, length)

    def write(self, port: int, length: int, value: int) -> None:
        """Write the address, or data."""
        if port == _ADDRESS_PORT:
            self.address = value & (_ENABLE | 0xFFFF << 8 | _REGISTER)
        elif self.address & _ENABLE:
            rid, offset = self._place(port)
            if offset < regs.PCI_CFG_SPACE_SIZE:
                self.access.config_write(0, rid, offset, length, value)
