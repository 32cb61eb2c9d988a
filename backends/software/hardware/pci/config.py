"""The configuration space of a PCI function: bytes, what a write does to each bit, and the chains of capabilities.

Everything is little-endian.  The headers of type 0 and of MSI-X are drawn in `pyvfio.abi.pci_regs`, that of type 1 in
`pyvfio.abi.pci_bridge_regs`; how bits behave is told in `register`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_regs as regs
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.pci.header import BRIDGE, COMMON
from pyvfio_backends.software.hardware.pci.register import Capability, Register

__all__ = ["ConfigSpace", "Identity", "Watcher"]

_DWORD = 0xFFFFFFFF
Watcher = Callable[[int, int], None]
"""Told of a write to a register after it was done: what the register held before, and the bits written as 1."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a function says it is: vendor, device and subsystem ids, `class_code` (24 bits) and `revision`.

    A bridge has no subsystem in its header (`SubsystemId` is a capability).
    """

    vendor: int
    device: int
    subsystem_vendor: int = 0
    subsystem: int = 0
    class_code: int = 0
    revision: int = 0


class ConfigSpace:
    """The 256 bytes of a function's configuration space, or 4 KiB after `extend`; of a `bridge` with header type 1.

    `data` are the bytes as they are read; `writable`, `clearable` and `sticky` have a 1 for each bit that a write
    changes, that a written 1 clears, and that a reset leaves (they are only as long as they have ones; past their end
    are zeros).  `changed` is called with the offset and the length of a write when it was done; `refresh` is called
    before a read of bytes in `live` (offsets: first, end), whose content only exists when it is looked at.
    """

    __slots__ = (
        "_free",
        "_used",
        "_watchers",
        "changed",
        "clearable",
        "data",
        "kept",
        "live",
        "refresh",
        "reset_values",
        "sticky",
        "writable",
    )

    def __init__(self, identity: Identity, *, interrupt_pin: int = 0, bridge: bool = False) -> None:
        size = regs.PCI_CFG_SPACE_SIZE
        self.data = bytearray(size)
        self.writable = bytearray(size)
        self.clearable = bytearray(regs.PCI_STD_HEADER_SIZEOF)
        self.sticky = bytearray()
        self.changed: Callable[[int, int], None] | None = None
        self.refresh: Callable[[], None] | None = None
        self.live: tuple[int, int] = (size, size)
        self.reset_values: bytes | None = None
        self.kept = range(0)
        """Offsets that a reset leaves as they are."""
        self._watchers: list[tuple[int, int, Watcher]] = []
        self._free = regs.PCI_STD_HEADER_SIZEOF
        self._used: list[tuple[int, int]] = []
        data = self.data
        for offset, value in (
            (regs.PCI_VENDOR_ID, identity.vendor),
            (regs.PCI_DEVICE_ID, identity.device),
            (regs.PCI_CLASS_DEVICE, identity.class_code >> 8),
        ):
            data[offset : offset + 2] = value.to_bytes(2, "little")
        data[regs.PCI_REVISION_ID] = identity.revision
        data[regs.PCI_CLASS_PROG] = identity.class_code & 0xFF
        data[regs.PCI_INTERRUPT_PIN] = interrupt_pin
        for register in COMMON:
            self.define(0, register)
        if bridge:
            data[regs.PCI_HEADER_TYPE] = regs.PCI_HEADER_TYPE_BRIDGE
            for register in BRIDGE:
                self.define(0, register)
        else:
            data[regs.PCI_SUBSYSTEM_VENDOR_ID : regs.PCI_SUBSYSTEM_ID + 2] = (
                identity.subsystem << 16 | identity.subsystem_vendor
            ).to_bytes(4, "little")

    def extend(self) -> None:
        """Grow to the 4 KiB of PCI Express; what is new reads as zeros and is read-only."""
        self.data.extend(bytes(regs.PCI_CFG_SPACE_EXP_SIZE - len(self.data)))

    # declaring

    def define(self, base: int, register: Register) -> None:
        """Declare a register of the structure that begins at `base`."""
        at, width = base + register.offset, register.width
        self.data[at : at + width] = register.reset.to_bytes(width, "little")
        self._mark(self.writable, at, width, register.rw)
        self._mark(self.clearable, at, width, register.w1c)
        self._mark(self.sticky, at, width, register.sticky)

    def allow(self, offset: int, length: int, mask: int) -> None:
        """Make the bits of `mask`, and no others, writable in the field at `offset`, `length` bytes long."""
        self._mark(self.writable, offset, length, mask)

    def keep_rest(self) -> None:
        """Keep what is written to the bytes behind the header that are of no capability: they are the device's own."""
        taken = sorted(self._used)
        for (_, start), (stop, _) in zip(
            [(0, regs.PCI_STD_HEADER_SIZEOF), *taken], [*taken, (len(self.data), 0)], strict=True
        ):
            if start < stop:
                self.allow(start, stop - start, (1 << 8 * (stop - start)) - 1)

    @staticmethod
    def _mark(masks: bytearray, offset: int, length: int, mask: int) -> None:
        if not mask and offset >= len(masks):
            return
        missing = offset + length - len(masks)
        if missing > 0:
            masks.extend(bytes(missing))
        masks[offset : offset + length] = mask.to_bytes(length, "little")

    def watch(self, offset: int, width: int, told: Watcher) -> None:
        """Have `told` called after each write that touches the register at `offset`, `width` bytes long."""
        self._watchers.append((offset, offset + width, told))

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
        at = bridge_regs.PCI_ROM_ADDRESS1 if self.is_bridge else regs.PCI_ROM_ADDRESS
        self.allow(at, 4, -size & regs.PCI_ROM_ADDRESS_MASK | regs.PCI_ROM_ADDRESS_ENABLE)

    def add(self, capability: Capability, at: int | None = None) -> int:
        """Add a declared capability at an offset, or at the next free one; give the offset.

        A conventional one becomes the head of the chain, as in `add_capability`; an extended one its end.  The first
        extended one is at 0x100 and makes the space 4 KiB long.  Raise `Misuse` where there is no room or it would
        overlap another one.
        """
        if capability.extended:
            at = self._link_extended(capability, at)
        else:
            at = self._room(self._free, regs.PCI_CFG_SPACE_SIZE, capability, at)
            self.add_capability(at, capability.id, bytes(capability.size - regs.PCI_CAP_FLAGS))
        kept = min(len(self.writable), at + capability.size) - at
        self.writable[at : at + max(kept, 0)] = bytes(max(kept, 0))  # what `keep_rest` had made of it
        for register in capability.registers():
            self.define(at, register)
        return at

    def _room(self, free: int, end: int, capability: Capability, at: int | None) -> int:
        at = free if at is None else at
        stop = at + capability.size
        taken = any(start < stop and at < over for start, over in self._used)
        if at % 4 or at < regs.PCI_STD_HEADER_SIZEOF or stop > end or taken:
            cause = f"no room for {capability.size} bytes at {at:#x}"
            raise Misuse("build configuration space", type(capability).__name__, cause=cause)
        self._used.append((at, stop))
        return at

    def _link_extended(self, capability: Capability, at: int | None) -> int:
        if len(self.data) < regs.PCI_CFG_SPACE_EXP_SIZE:
            self.extend()
        first = last = regs.PCI_CFG_SPACE_SIZE
        empty = not self.read(first, 4)
        while following := regs.pci_ext_cap_next(self.read(last, 4)):
            last = following
        if empty:
            at = first
        free = max(over for _, over in self._used) if not empty else first
        at = self._room(-(-free // 4) * 4, len(self.data), capability, at)
        if not empty:
            link = self.read(last, 4) & 0xFFFFF | at << 20
            self.data[last : last + 4] = link.to_bytes(4, "little")
        self.data[at : at + 4] = (capability.id | capability.revision << 16).to_bytes(4, "little")
        end = at + capability.size
        self.writable.extend(bytes(max(0, end - len(self.writable))))  # so that its end is known
        return at

    def add_capability(self, offset: int, number: int, body: bytes) -> None:
        """Put a capability at the head of the chain: its id, the link, then `body` from byte 2 on; all read-only."""
        data = self.data
        data[offset] = number
        data[offset + regs.PCI_CAP_LIST_NEXT] = data[regs.PCI_CAPABILITY_LIST]
        data[offset + regs.PCI_CAP_FLAGS : offset + regs.PCI_CAP_FLAGS + len(body)] = body
        length = regs.PCI_CAP_FLAGS + len(body)
        self.writable[offset : offset + length] = bytes(length)
        self._free = max(self._free, -(-(offset + length) // 4) * 4)
        data[regs.PCI_CAPABILITY_LIST] = offset
        data[regs.PCI_STATUS] |= regs.PCI_STATUS_CAP_LIST

    def mark_multifunction(self) -> None:
        """Say that the device has more functions than this one, for good."""
        at = regs.PCI_HEADER_TYPE
        self.data[at] |= regs.PCI_HEADER_TYPE_MFD
        if self.reset_values is not None:
            self.reset_values = self.reset_values[:at] + self.data[at : at + 1] + self.reset_values[at + 1 :]

    # resetting

    def seal(self) -> None:
        """Remember what the bytes are now: a reset brings them back."""
        self.reset_values = bytes(self.data)

    def reset(self, *, cold: bool = False) -> None:
        """Bring the bytes back to what they were at `seal`, except those that are `kept` and sticky bits.

        After a loss of power (`cold`) nothing is kept.
        """
        if self.reset_values is None:
            return
        before = bytes(self.data)
        self.data[:] = self.reset_values
        if cold:
            return
        for index, mask in enumerate(self.sticky):
            if mask:
                self.data[index] = self.data[index] & ~mask | before[index] & mask
        self.data[self.kept.start : self.kept.stop] = before[self.kept.start : self.kept.stop]

    # reading and writing

    def read(self, offset: int, length: int) -> int:
        """The field at `offset`."""
        if self.refresh is not None and offset < self.live[1] and offset + length > self.live[0]:
            self.refresh()
        return int.from_bytes(self.data[offset : offset + length], "little")

    def put(self, offset: int, length: int, value: int) -> None:
        """Set the field at `offset` as the hardware does: no mask, nobody is told."""
        self.data[offset : offset + length] = value.to_bytes(length, "little")

    def write(self, offset: int, length: int, value: int) -> None:
        """Change the field at `offset` as a program does: what is writable, what a 1 clears."""
        end = offset + length
        watching = [one for one in self._watchers if one[0] < end and offset < one[1]] if self._watchers else ()
        before = [self.read(start, stop - start) for start, stop, _ in watching]
        data, writable, clearable = self.data, self.writable, self.clearable
        given = value
        for index in range(offset, min(end, len(writable))):
            mask = writable[index]
            data[index] = data[index] & ~mask | value & mask
            value >>= 8
        if offset < len(clearable):
            value = given
            for index in range(offset, min(end, len(clearable))):
                data[index] &= ~(value & clearable[index])
                value >>= 8
        for (start, stop, told), held in zip(watching, before, strict=True):
            ones = given << 8 * (offset - start) if offset >= start else given >> 8 * (start - offset)
            told(held, ones & (1 << 8 * (stop - start)) - 1)
        if self.changed is not None:
            self.changed(offset, length)

    @property
    def is_bridge(self) -> bool:
        """Whether the header is of type 1."""
        return self.data[regs.PCI_HEADER_TYPE] & regs.PCI_HEADER_TYPE_MASK == regs.PCI_HEADER_TYPE_BRIDGE

    @property
    def command(self) -> int:
        """The command register."""
        return int.from_bytes(self.data[regs.PCI_COMMAND : regs.PCI_COMMAND + 2], "little")

    @property
    def bus_master(self) -> bool:
        """Whether the function may access memory and send message-signalled interrupts."""
        return bool(self.data[regs.PCI_COMMAND] & regs.PCI_COMMAND_MASTER)  # in the lower byte
