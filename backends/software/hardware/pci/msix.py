"""MSI-X: the table of messages in a BAR, the pending bits, and sending."""

from __future__ import annotations

from collections.abc import Callable

from pyvfio.abi import pci_regs as regs
from pyvfio.pci.msix import MsixEntries
from pyvfio_backends.software.hardware.pci.bar import Unmapped
from pyvfio_backends.software.hardware.pci.config import ConfigSpace

__all__ = ["MsixTable"]

Send = Callable[[int, int], None]


class MsixTable:
    """Registers that are nothing but the table (at 0) and the pending bits (at `pending_offset`), at `base` of a BAR.

    `send` is called with the address and the data of a message; without it, or while the vector or the function is
    masked, the pending bit is set instead.  Nothing is sent while MSI-X is off or the function is no bus master.
    `declare` adds the capability; without it, it is there already.
    """

    def __init__(
        self,
        config: ConfigSpace,
        capability: int,
        bar: int,
        vectors: int,
        pending_offset: int,
        *,
        base: int = 0,
        declare: bool = True,
    ) -> None:
        self.config = config
        self.capability = capability
        self.vectors = vectors
        self.pending_offset = pending_offset
        self.send: Send | None = None
        self._entries = MsixEntries(vectors)
        if not declare:
            return
        places = (base | bar).to_bytes(4, "little") + (base + pending_offset | bar).to_bytes(4, "little")
        config.add_capability(capability, regs.PCI_CAP_ID_MSIX, (vectors - 1).to_bytes(2, "little") + places)
        config.allow(capability + regs.PCI_MSIX_FLAGS, 2, regs.PCI_MSIX_FLAGS_ENABLE | regs.PCI_MSIX_FLAGS_MASKALL)

    @property
    def size(self) -> int:
        """Bytes up to the end of the pending bits."""
        return self.pending_offset + self._entries.pending_size

    # registers

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        entries = self._entries
        if offset + length <= entries.size:
            return entries.read(offset, length)
        if self.pending_offset <= offset and offset + length <= self.pending_offset + entries.pending_size:
            return entries.read_pending(offset - self.pending_offset, length)
        raise Unmapped

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`; the pending bits are read-only."""
        entries = self._entries
        if offset + length <= entries.size:
            for vector in entries.write(offset, length, value):
                self._deliver(vector, self._control)
        elif not self.takes(offset, length):
            raise Unmapped

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        entries = self._entries
        pending = offset - self.pending_offset
        return offset + length <= entries.size or 0 <= pending < entries.pending_size

    def reset(self) -> None:
        """See `Registers.reset`: all vectors masked, none pending."""
        self._entries.reset()

    # sending

    @property
    def enabled(self) -> bool:
        """Whether MSI-X is on."""
        return bool(self._control & regs.PCI_MSIX_FLAGS_ENABLE)

    @property
    def _control(self) -> int:
        at = self.capability + regs.PCI_MSIX_FLAGS
        return int.from_bytes(self.config.data[at : at + 2], "little")

    def signal(self, vector: int) -> None:
        """Raise interrupt `vector`.  A vector past the table is lost, as the device's own error."""
        control = self._control
        if vector >= self.vectors or not control & regs.PCI_MSIX_FLAGS_ENABLE or not self.config.bus_master:
            return
        self._entries.signal(vector)
        self._deliver(vector, control)

    def control_changed(self) -> None:
        """The control word was written: what was pending may go out now."""
        if self._entries.pending:
            for vector in range(self.vectors):
                self._deliver(vector, self._control)

    def _deliver(self, vector: int, control: int) -> None:
        if self.send is None or not control & regs.PCI_MSIX_FLAGS_ENABLE or control & regs.PCI_MSIX_FLAGS_MASKALL:
            return
        message = self._entries.take(vector)
        if message is not None:
            self.send(*message)
