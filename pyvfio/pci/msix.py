"""The table of MSI-X: messages, masks and pending bits, as they lie in a BAR (little-endian)::

    entry n at 16 n   +0  message address     +4  upper address     +8  message data     +c  ... M (masked)
    pending bits      one for each vector, in doublewords

Source: PCI Local Bus Specification 3.0, 6.8.2.
"""

from __future__ import annotations

from typing import Final

from pyvfio.abi import pci_regs as regs

__all__ = ["MsixEntries"]

_ENTRY: Final = regs.PCI_MSIX_ENTRY_SIZE
_MASKED: Final = regs.PCI_MSIX_ENTRY_CTRL_MASKBIT
_DOUBLEWORD: Final = 64


class MsixEntries:
    """The entries of `vectors` vectors and their pending bits, after a reset: all masked, none pending."""

    def __init__(self, vectors: int) -> None:
        self.vectors = vectors
        self.pending = 0
        """Vector n is bit n, counted from the right."""
        self._table = bytearray()
        self.reset()

    def reset(self) -> None:
        """Mask all vectors, and forget what is pending."""
        entry = bytearray(_ENTRY)
        entry[regs.PCI_MSIX_ENTRY_VECTOR_CTRL] = _MASKED
        self._table = entry * self.vectors
        self.pending = 0

    @property
    def size(self) -> int:
        """Bytes of the table."""
        return len(self._table)

    @property
    def pending_size(self) -> int:
        """Bytes of the pending bits."""
        return -(-self.vectors // _DOUBLEWORD) * 8

    def read(self, offset: int, length: int) -> int:
        """A field of the table."""
        return int.from_bytes(self._table[offset : offset + length], "little")

    def write(self, offset: int, length: int, value: int) -> range:
        """Change a field of the table; the vectors whose entries it is in."""
        self._table[offset : offset + length] = value.to_bytes(length, "little")
        return range(offset // _ENTRY, -(-(offset + length) // _ENTRY))

    def read_pending(self, offset: int, length: int) -> int:
        """Some of the pending bits, which are read-only."""
        return self.pending >> 8 * offset & (1 << 8 * length) - 1

    def signal(self, vector: int) -> None:
        """Make a vector pending."""
        self.pending |= 1 << vector

    def take(self, vector: int) -> tuple[int, int] | None:
        """Address and data of the message that a vector sends now, which is pending no more; None while it may not."""
        at = vector * _ENTRY
        if not self.pending >> vector & 1 or self._table[at + regs.PCI_MSIX_ENTRY_VECTOR_CTRL] & _MASKED:
            return None
        self.pending &= ~(1 << vector)
        return self.read(at, 8), self.read(at + regs.PCI_MSIX_ENTRY_DATA, 4)
