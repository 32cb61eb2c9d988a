"""Configuration space as vfio-pci shows it: partly the device's, partly a copy of its own.

Each byte belongs to the header, to a capability, or to nobody.  The model is ``drivers/vfio/pci/vfio_pci_config.c``
(6.12), whose parts are

=====================================  ============================================================================
`vfio_pci_lengths`                     how long a capability is, or that it is hidden
`vfio_pci_permissions`                 which bits are virtual, and which can be written
`vfio_pci_map`                         which capability a byte belongs to
`vfio_pci_handlers`                    what a write does beside
`vfio_pci_virtual_bars`                base addresses
`vfio_pci_power`                       power states
=====================================  ============================================================================

An access is cut into pieces of 1, 2 or 4 bytes that do not cross a word or a capability.  The function is any that
`vfio_pci_physical` describes.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.pci_power import is_low
from pyvfio_backends.software.linux.vfio_pci_handlers import HANDLERS, write_header
from pyvfio_backends.software.linux.vfio_pci_map import ConfigMap
from pyvfio_backends.software.linux.vfio_pci_permissions import Access
from pyvfio_backends.software.linux.vfio_pci_physical import PhysicalFunction
from pyvfio_backends.software.linux.vfio_pci_power import OpenPower
from pyvfio_backends.software.linux.vfio_pci_virtual_bars import VirtualBars
from pyvfio_backends.software.linux.vfs import fail

__all__ = ["VirtualConfig"]

_BASIC = regs.PCI_CFG_SPACE_SIZE
_HEADER = regs.PCI_STD_HEADER_SIZEOF


class VirtualConfig:
    """The configuration space of an open device.

    `mask_intx` and `unmask_intx` are called when the program changes its INTx disable bit; without `has_intx` the
    program sees no interrupt pin.  Whether MSI is on (`msi_on`), and with how many messages (2 to `msi_exponent`), is
    told by who gives the device its interrupts.  `move_memory` is told when the memory of the device goes (True), and
    when it may have come back.
    """

    def __init__(
        self,
        device: PhysicalFunction,
        mask_intx: Callable[[], None],
        unmask_intx: Callable[[], None],
        *,
        has_intx: bool = False,
        move_memory: Callable[[bool], None] = lambda revoked: None,
    ) -> None:
        self.device = device
        self.move_memory = move_memory
        self._mask_intx = mask_intx
        self._unmask_intx = unmask_intx
        self.intx_disabled = False
        self.msi_on = False
        self.msi_exponent = 0
        self._size = device.config_size
        self.copy = bytearray(self._size)
        for offset in range(0, _HEADER, 4):
            self.put(offset, 4, device.read_config(offset, 4))
        self.bars = VirtualBars(device, self.copy)
        if device.is_virtual:
            self.put(regs.PCI_VENDOR_ID, 2, device.vendor)
            self.put(regs.PCI_DEVICE_ID, 2, device.device_id)
        if device.no_command_memory:
            self.copy[regs.PCI_COMMAND] |= regs.PCI_COMMAND_MEMORY
        if device.is_virtual or not has_intx:
            self.copy[regs.PCI_INTERRUPT_PIN] = 0
        self._map = ConfigMap(device, self.copy)
        self._virtual, self._writable = self._map.virtual, self._map.writable
        self.power = OpenPower(device)

    def word(self, offset: int, length: int) -> int:
        """A field of the copy."""
        return int.from_bytes(self.copy[offset : offset + length], "little")

    def put(self, offset: int, length: int, value: int) -> None:
        """Set a field of the copy."""
        self.copy[offset : offset + length] = value.to_bytes(length, "little")

    @property
    def memory_enabled(self) -> bool:
        """Whether memory of the device can be accessed: decoding is on, and power (``__vfio_pci_memory_enabled``)."""
        if is_low(self.device.power_state):
            return False
        return self.device.no_command_memory or bool(self.copy[regs.PCI_COMMAND] & regs.PCI_COMMAND_MEMORY)

    @property
    def interrupt_pin(self) -> int:
        """The interrupt pin that the program sees."""
        return self.copy[regs.PCI_INTERRUPT_PIN]

    def follow_intx(self) -> None:
        """Mask or unmask INTx when the program's bit changed."""
        disabled = bool(self.word(regs.PCI_COMMAND, 2) & regs.PCI_COMMAND_INTX_DISABLE)
        if disabled != self.intx_disabled:
            self.intx_disabled = disabled
            (self._mask_intx if disabled else self._unmask_intx)()

    # reading

    def read(self, count: int, position: int) -> bytes:
        """Read; OSError EFAULT outside, EIO when the device refuses."""
        end = position + count
        if end > self._size:
            raise fail(errno.EFAULT)
        self.bars.read(position, end)
        virtual = self._virtual[position:end]
        physical = self.device.config_at_once(position, end) if virtual.count(0xFF) != count else b""
        if physical is None:
            found = b"".join(self._read_piece(at, size) for at, size in self._pieces(position, count))
        elif not any(virtual):
            found = physical
        else:
            mask = int.from_bytes(virtual, "little")
            own = int.from_bytes(self.copy[position:end], "little")
            real = int.from_bytes(physical, "little")
            found = (real & ~mask | own & mask).to_bytes(count, "little")
        if self.device.no_command_memory and position <= regs.PCI_COMMAND < end:
            at = regs.PCI_COMMAND - position
            command = found[at] | self.copy[regs.PCI_COMMAND] & regs.PCI_COMMAND_MEMORY
            return found[:at] + bytes([command]) + found[at + 1 :]
        return found

    def _read_piece(self, at: int, size: int) -> bytes:
        virtual = int.from_bytes(self._virtual[at : at + size], "little")
        value = self.word(at, size)
        if virtual != (1 << 8 * size) - 1:
            value = self.device.load_config(at, size) & ~virtual | value & virtual
        return value.to_bytes(size, "little")

    def _pieces(self, position: int, count: int) -> Iterator[tuple[int, int]]:
        while count:
            size = self._map.piece(position, count)
            yield position, size
            position += size
            count -= size

    # writing

    def write(self, data: bytes, position: int) -> int:
        """Write; the number of bytes.  OSError EFAULT outside (nothing is written), EIO when the device refuses."""
        if position + len(data) > self._size:
            raise fail(errno.EFAULT)
        for at, size in self._pieces(position, len(data)):
            value = int.from_bytes(data[at - position : at - position + size], "little")
            access = self._map.permissions(at).access
            if access is Access.RAW:
                self.device.store_config(at, size, value)
            elif access is Access.DEFAULT:
                handler = write_header if at < _HEADER else HANDLERS.get(self._map.owners[at]) if at < _BASIC else None
                if handler is None:
                    self.write_default(at, size, value)
                else:
                    handler(self, at, size, value, self._map.start(at))
        return len(data)

    def write_default(self, at: int, size: int, value: int) -> None:
        """Write what the permissions allow: to the copy, to the device.  Raise OSError."""
        writable = int.from_bytes(self._writable[at : at + size], "little")
        virtual = int.from_bytes(self._virtual[at : at + size], "little")
        own, real = writable & virtual, writable & ~virtual
        if own:
            self.put(at, size, self.word(at, size) & ~own | value & own)
        if real:
            self.device.store_config(at, size, self.device.load_config(at, size) & ~real | value & real)
