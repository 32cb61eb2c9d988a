"""The MSI-X table of a function that a guest was given.

vfio-pci keeps the real table to itself: it programs it when interrupts are enabled, drops what is written to it through
the BAR, and shows all ones.  So the guest's table is kept here.

Source: ``drivers/vfio/pci/vfio_pci_rdwr.c`` (the excluded part of the BAR), ``drivers/vfio/pci/vfio_pci_config.c``
(writes of the capability are dropped).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

from pyvfio.abi import pci_regs as regs
from pyvfio.pci.config import ConfigSpace
from pyvfio.pci.msix import MsixEntries

__all__ = ["GuestMsix", "MsixPlace"]

_OURS: Final = regs.PCI_MSIX_FLAGS_ENABLE | regs.PCI_MSIX_FLAGS_MASKALL
_TABLE, _PENDING, _HEADER = 4, 8, 2

Send: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class MsixPlace:
    """Where the capability says everything is: `flags` in configuration space, table and pending bits in their BARs."""

    flags: int
    vectors: int
    table_bar: int
    table: int
    pending_bar: int
    pending: int

    @classmethod
    def of(cls, config: ConfigSpace) -> Self | None:
        """The place of a function's table, None when it has no MSI-X."""
        for capability in config.capabilities():
            if capability.id == regs.PCI_CAP_ID_MSIX:
                data = capability.data
                vectors = (int.from_bytes(data[_HEADER:_TABLE], "little") & regs.PCI_MSIX_FLAGS_QSIZE) + 1
                table = int.from_bytes(data[_TABLE:_PENDING], "little")
                pending = int.from_bytes(data[_PENDING : _PENDING + 4], "little")
                bir = regs.PCI_MSIX_TABLE_BIR
                return cls(
                    capability.offset + _HEADER, vectors, table & bir, table & ~bir, pending & bir, pending & ~bir
                )
        return None


class GuestMsix:
    """The guest's table at `place`.  `switch` is called with whether interrupts are to be on at the host."""

    def __init__(self, place: MsixPlace, switch: Callable[[bool], None]) -> None:
        self.place = place
        self.send: Send | None = None
        self._switch = switch
        self._flags = 0
        self._entries = MsixEntries(place.vectors)

    def reset(self) -> None:
        """All vectors masked, none pending, off."""
        self._entries.reset()
        if self._flags & regs.PCI_MSIX_FLAGS_ENABLE:
            self._switch(False)
        self._flags = 0
        self.send = None

    # the capability

    def read_flags(self, host: int) -> int:
        """The control word that the guest sees; `host` is what the host shows."""
        return host & ~_OURS | self._flags

    def write_flags(self, value: int) -> None:
        """The guest wrote the control word."""
        was, self._flags = self._flags, value & _OURS
        on = self._flags & regs.PCI_MSIX_FLAGS_ENABLE
        if on != was & regs.PCI_MSIX_FLAGS_ENABLE:
            self._switch(bool(on))
        self.deliver()

    # the BAR

    def holds(self, bar: int, offset: int, length: int) -> bool:
        """Whether an access is one of the table or of the pending bits."""
        place, entries = self.place, self._entries
        table = bar == place.table_bar and place.table <= offset <= place.table + entries.size - length
        last = place.pending + entries.pending_size - length
        return table or (bar == place.pending_bar and place.pending <= offset <= last)

    def _in_table(self, bar: int, offset: int) -> bool:
        return bar == self.place.table_bar and 0 <= offset - self.place.table < self._entries.size

    def read(self, bar: int, offset: int, length: int) -> int:
        """Load from table or pending bits, a little-endian number."""
        if self._in_table(bar, offset):
            return self._entries.read(offset - self.place.table, length)
        return self._entries.read_pending(offset - self.place.pending, length)

    def write(self, bar: int, offset: int, length: int, value: int) -> None:
        """Store into the table; the pending bits are read-only."""
        if self._in_table(bar, offset):
            self._entries.write(offset - self.place.table, length, value)
            self.deliver()

    # messages

    def fire(self, vector: int) -> None:
        """The host's device has raised `vector`."""
        if vector < self.place.vectors:
            self._entries.signal(vector)
            self.deliver()

    def deliver(self) -> None:
        """Send what is pending and may go."""
        left = self._entries.pending
        while left and self.send is not None and self._flags == regs.PCI_MSIX_FLAGS_ENABLE:
            vector = (left & -left).bit_length() - 1
            left &= left - 1
            message = self._entries.take(vector)
            if message is not None:
                self.send(*message)
