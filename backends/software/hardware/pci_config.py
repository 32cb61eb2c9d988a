"""The configuration space of a PCI function: bytes, which bits of them can be written, and the chain of capabilities.

Everything is little-endian.  The layout of the header and of MSI-X is drawn in `pyvfio.abi.pci_regs`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyvfio.abi import pci_regs as regs

__all__ = ["ConfigSpace", "Identity"]

_DWORD = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a function says it is: vendor, device and subsystem ids, `class_code` (24 bits) and `revision`."""

    vendor: int
    device: int
    subsystem_vendor: int
    subsystem: int
    class_code: int
    revision: int = 0


class ConfigSpace:
    """The 256 bytes of a function's configuration space, or 4 KiB after `extend`.

    `data` are the bytes as they are read, `writable` has a 1 for each bit that a write changes.  `changed` is called
    with the offset and the length of a write when it was done; `refresh` is called before a read of bytes in `live`
    (offsets: first, end), whose content only exists when it is looked at.
    """

    __slots__ = ("changed", "data", "kept", "live", "refresh", "reset_values", "writable")

    def __init__(self, identity: Identity, *, interrupt_pin: int = 0) -> None:
        size = regs.PCI_CFG_SPACE_SIZE
        self.data = bytearray(size)
        self.writable = bytearray(size)
        self.changed: Callable[[int, int], None] | None = None
        self.refresh: Callable[[], None] | None = None
        self.live: tuple[int, int] = (size, size)
        self.reset_values: bytes | None = None
        self.kept = range(0)
        """Offsets that a reset leaves as they are."""
        for offset, value in (
            (regs.PCI_VENDOR_ID, identity.vendor),
            (regs.PCI_DEVICE_ID, identity.device),
            (regs.PCI_CLASS_DEVICE, identity.class_code >> 8),
            (regs.PCI_SUBSYSTEM_VENDOR_ID, identity.subsystem_vendor),
            (regs.PCI_SUBSYSTEM_ID, identity.subsystem),
        ):
            self.data[offset : offset + 2] = value.to_bytes(2, "little")
        self.data[regs.PCI_REVISION_ID] = identity.revision
        self.data[regs.PCI_CLASS_PROG] = identity.class_code & 0xFF
        self.data[regs.PCI_INTERRUPT_PIN] = interrupt_pin
        self.allow(
            regs.PCI_COMMAND,
            2,
            regs.PCI_COMMAND_IO
            | regs.PCI_COMMAND_MEMORY
            | regs.PCI_COMMAND_MASTER
            | regs.PCI_COMMAND_SERR
            | regs.PCI_COMMAND_INTX_DISABLE,
        )
        self.allow(regs.PCI_CACHE_LINE_SIZE, 1, 0xFF)
        self.allow(regs.PCI_INTERRUPT_LINE, 1, 0xFF)

    def extend(self) -> None:
        """Grow to the 4 KiB of PCI Express; what is new reads as zeros."""
        more = regs.PCI_CFG_SPACE_EXP_SIZE - len(self.data)
        self.data.extend(bytes(more))
        self.writable.extend(bytes(more))

    def allow(self, offset: int, length: int, mask: int) -> None:
        """Make the bits of `mask` writable in the field at `offset`, `length` bytes long."""
        self.writable[offset : offset + length] = mask.to_bytes(length, "little")

    def set_bar(self, index: int, size: int, flags: int) -> None:
        """Make base address register `index` one of `size` bytes; `flags` are its read-only low bits.

        A 64-bit register takes the next one too.
        """
        offset = regs.PCI_BASE_ADDRESS_0 + 4 * index
        low = (
            regs.PCI_BASE_ADDRESS_IO_MASK if flags & regs.PCI_BASE_ADDRESS_SPACE_IO else regs.PCI_BASE_ADDRESS_MEM_MASK
        )
        self.data[offset : offset + 4] = flags.to_bytes(4, "little")
        self.allow(offset, 4, -size & low & _DWORD)
        wide = not flags & regs.PCI_BASE_ADDRESS_SPACE_IO and flags & regs.PCI_BASE_ADDRESS_MEM_TYPE_64
        if wide:
            self.allow(offset + 4, 4, (-size >> 32) & _DWORD)

    def set_rom(self, size: int) -> None:
        """Make the expansion ROM register one of `size` bytes."""
        self.allow(regs.PCI_ROM_ADDRESS, 4, -size & regs.PCI_ROM_ADDRESS_MASK | regs.PCI_ROM_ADDRESS_ENABLE)

    def add_capability(self, offset: int, number: int, body: bytes) -> None:
        """Put a capability at the head of the chain: its id, the link, then `body` from byte 2 on; all read-only."""
        data = self.data
        data[offset] = number
        data[offset + regs.PCI_CAP_LIST_NEXT] = data[regs.PCI_CAPABILITY_LIST]
        data[offset + regs.PCI_CAP_FLAGS : offset + regs.PCI_CAP_FLAGS + len(body)] = body
        length = regs.PCI_CAP_FLAGS + len(body)
        self.writable[offset : offset + length] = bytes(length)
        data[regs.PCI_CAPABILITY_LIST] = offset
        data[regs.PCI_STATUS] |= regs.PCI_STATUS_CAP_LIST

    def seal(self) -> None:
        """Remember what the bytes are now: a reset brings them back."""
        self.reset_values = bytes(self.data)

    def reset(self) -> None:
        """Bring the bytes back to what they were at `seal`, except those that are `kept`."""
        if self.reset_values is not None:
            kept = bytes(self.data[self.kept.start : self.kept.stop])
            self.data[:] = self.reset_values
            self.data[self.kept.start : self.kept.stop] = kept

    def read(self, offset: int, length: int) -> int:
        """The field at `offset`."""
        if self.refresh is not None and offset < self.live[1] and offset + length > self.live[0]:
            self.refresh()
        return int.from_bytes(self.data[offset : offset + length], "little")

    def write(self, offset: int, length: int, value: int) -> None:
        """Change the writable bits of the field at `offset`."""
        data, writable = self.data, self.writable
        for index in range(offset, offset + length):
            mask = writable[index]
            data[index] = data[index] & ~mask | value & mask
            value >>= 8
        if self.changed is not None:
            self.changed(offset, length)

    @property
    def command(self) -> int:
        """The command register."""
        return int.from_bytes(self.data[regs.PCI_COMMAND : regs.PCI_COMMAND + 2], "little")

    @property
    def bus_master(self) -> bool:
        """Whether the function may access memory and send message-signalled interrupts."""
        return bool(self.command & regs.PCI_COMMAND_MASTER)
