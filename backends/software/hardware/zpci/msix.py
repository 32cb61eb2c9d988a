"""MSI-X: the table of messages in a BAR, the pending bits, and sending."""

from __future__ import annotations

from collections.abc import Callable

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pci_config import ConfigSpace
from pyvfio_backends.software.hardware.zpci.bar import Unmapped

__all__ = ["MsixTable"]

_MASKED = regs.PCI_MSIX_ENTRY_CTRL_MASKBIT
Send = Callable[[int, int], None]


class MsixTable:
    """The registers of a BAR that holds nothing but the table (at 0) and the pending bits (at `pending_offset`)::

        entry n at 16 n   +0  message address     +4  upper address     +8  message data     +c  ... M (masked)

    `send` is called with the address and the data of a message; without it, or while the vector or the function is
    masked, the pending bit is set instead.  Nothing is sent while MSI-X is off or the function is no bus master.
    """

    def __init__(self, config: ConfigSpace, capability: int, bar: int, vectors: int, pending_offset: int) -> None:
        self.config = config
        self.capability = capability
        self.vectors = vectors
        self.pending_offset = pending_offset
        self.send: Send | None = None
        self._table = bytearray()
        self._pending = 0
        self.reset()
        body = (vectors - 1).to_bytes(2, "little") + bar.to_bytes(4, "little")
        config.add_capability(capability, regs.PCI_CAP_ID_MSIX, body + (pending_offset | bar).to_bytes(4, "little"))
        config.allow(capability + regs.PCI_MSIX_FLAGS, 2, regs.PCI_MSIX_FLAGS_ENABLE | regs.PCI_MSIX_FLAGS_MASKALL)

    # registers

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        if offset + length <= len(self._table):
            return int.from_bytes(self._table[offset : offset + length], "little")
        start, end = self.pending_offset, self.pending_offset + self._pending_size
        if start <= offset and offset + length <= end:
            return self._pending >> 8 * (offset - start) & (1 << 8 * length) - 1
        raise Unmapped

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`; the pending bits are read-only."""
        if offset + length <= len(self._table):
            self._table[offset : offset + length] = value.to_bytes(length, "little")
            for vector in range(offset // regs.PCI_MSIX_ENTRY_SIZE, -(-(offset + length) // regs.PCI_MSIX_ENTRY_SIZE)):
                self._deliver(vector)
        elif not self.pending_offset <= offset < self.pending_offset + self._pending_size:
            raise Unmapped

    def reset(self) -> None:
        """See `Registers.reset`: all vectors masked, none pending."""
        entry = bytearray(regs.PCI_MSIX_ENTRY_SIZE)
        entry[regs.PCI_MSIX_ENTRY_VECTOR_CTRL] = _MASKED
        self._table = entry * self.vectors
        self._pending = 0

    @property
    def _pending_size(self) -> int:
        return -(-self.vectors // 64) * 8

    # sending

    @property
    def enabled(self) -> bool:
        """Whether MSI-X is on."""
        return bool(self._control & regs.PCI_MSIX_FLAGS_ENABLE)

    @property
    def _control(self) -> int:
        at = self.capability + regs.PCI_MSIX_FLAGS
        return int.from_bytes(self.config.data[at : at + 2], "little")

    def _field(self, vector: int, field: int, length: int = 4) -> int:
        at = vector * regs.PCI_MSIX_ENTRY_SIZE + field
        return int.from_bytes(self._table[at : at + length], "little")

    def signal(self, vector: int) -> None:
        """Raise interrupt `vector`.  A vector past the table is lost, as the device's own error."""
        if vector >= self.vectors or not self.enabled or not self.config.bus_master:
            return
        self._pending |= 1 << vector
        self._deliver(vector)

    def control_changed(self) -> None:
        """The control word was written: what was pending may go out now."""
        if self._pending:
            for vector in range(self.vectors):
                self._deliver(vector)

    def _deliver(self, vector: int) -> None:
        if not self._pending >> vector & 1 or self.send is None:
            return
        if not self.enabled or self._control & regs.PCI_MSIX_FLAGS_MASKALL:
            return
        if self._field(vector, regs.PCI_MSIX_ENTRY_VECTOR_CTRL) & _MASKED:
            return
        self._pending &= ~(1 << vector)
        address = self._field(vector, regs.PCI_MSIX_ENTRY_LOWER_ADDR, 8)
        self.send(address, self._field(vector, regs.PCI_MSIX_ENTRY_DATA))
