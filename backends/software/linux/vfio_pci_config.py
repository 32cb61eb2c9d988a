"""Configuration space as vfio-pci shows it: partly the device's, partly a copy of its own.

Each byte belongs to the header, to a capability, or to nobody.  The model is ``drivers/vfio/pci/vfio_pci_config.c``
(6.12): a table says which bits are virtual (read from and written to the copy) and which can be written at all, and an
access is cut into pieces of 1, 2 or 4 bytes that do not cross a word or a capability.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

from pyvfio.abi import pci_regs as regs
from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux import vfio_pci_msi as msi
from pyvfio_backends.software.linux.pci_device import ROM, PciDevice
from pyvfio_backends.software.linux.resource import ResourceFlag
from pyvfio_backends.software.linux.vfs import fail

__all__ = ["VirtualConfig"]

_BASIC = regs.PCI_CFG_SPACE_SIZE
_HEADER = regs.PCI_STD_HEADER_SIZEOF
_HEADER_ID, _NOBODY = 0, 0xFF
_BARS = range(regs.PCI_BASE_ADDRESS_0, regs.PCI_BASE_ADDRESS_5 + 4)
_ROM = range(regs.PCI_ROM_ADDRESS, regs.PCI_ROM_ADDRESS + 4)
_MEMORY_AND_IO = regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_IO
_DWORD = 0xFFFFFFFF
_NEXT_SHIFT, _NEXT_MASK = 20, 0xFFC
_HIDDEN = frozenset(
    {
        regs.PCI_CAP_ID_SLOTID,
        regs.PCI_CAP_ID_CHSWP,
        regs.PCI_CAP_ID_DBG,
        regs.PCI_CAP_ID_CCRC,
        regs.PCI_CAP_ID_SHPC,
        regs.PCI_CAP_ID_SSVID,
        regs.PCI_CAP_ID_AGP3,
        regs.PCI_CAP_ID_SECDEV,
        regs.PCI_CAP_ID_EA,
    }
)


def _header_permissions() -> tuple[bytes, bytes]:
    """The masks of the header: virtual bits, writable bits."""
    virtual, writable = bytearray(_HEADER), bytearray(_HEADER)

    def field(offset: int, length: int, virtual_bits: int, writable_bits: int) -> None:
        virtual[offset : offset + length] = virtual_bits.to_bytes(length, "little")
        writable[offset : offset + length] = writable_bits.to_bytes(length, "little")

    field(regs.PCI_VENDOR_ID, 2, 0xFFFF, 0)
    field(regs.PCI_DEVICE_ID, 2, 0xFFFF, 0)
    field(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_INTX_DISABLE, 0xFFFF)
    field(regs.PCI_STATUS, 2, regs.PCI_STATUS_CAP_LIST, 0)
    for offset in (regs.PCI_CACHE_LINE_SIZE, regs.PCI_LATENCY_TIMER, regs.PCI_BIST):
        field(offset, 1, 0, 0xFF)
    for offset in (*range(_BARS.start, _BARS.stop, 4), regs.PCI_ROM_ADDRESS):
        field(offset, 4, _DWORD, _DWORD)
    field(regs.PCI_CAPABILITY_LIST, 1, 0xFF, 0)
    field(regs.PCI_INTERRUPT_LINE, 1, 0xFF, 0xFF)
    field(regs.PCI_INTERRUPT_PIN, 1, 0xFF, 0)
    return bytes(virtual), bytes(writable)


_HEADER_VIRTUAL, _HEADER_WRITABLE = _header_permissions()


def _capabilities(device: PciDevice) -> Iterator[tuple[int, int, int, int]]:
    """The chain of a device: offset, id, length (0: to be hidden) and the offset of the next."""
    if not device.read_config(regs.PCI_STATUS, 2) & regs.PCI_STATUS_CAP_LIST:
        return
    at = device.read_config(regs.PCI_CAPABILITY_LIST, 1)
    for _ in range((_BASIC - _HEADER) // regs.PCI_CAP_SIZEOF):
        if not at:
            return
        number = device.read_config(at, 1)
        following = device.read_config(at + regs.PCI_CAP_LIST_NEXT, 1)
        yield at, number, _capability_length(device, number, at), following
        at = following


def _capability_length(device: PciDevice, number: int, at: int) -> int:
    if number == regs.PCI_CAP_ID_MSIX:
        return regs.PCI_CAP_MSIX_SIZEOF
    if number == regs.PCI_CAP_ID_MSI:
        return msi.capability_length(device, at)
    if number == regs.PCI_CAP_ID_VNDR:
        return device.read_config(at + regs.PCI_CAP_FLAGS, 1)
    if number == regs.PCI_CAP_ID_EXP:
        return regs.PCI_CAP_EXP_ENDPOINT_SIZEOF_V2  # all of this machine are endpoints with a link, version 2
    if not number or number in _HIDDEN or number > regs.PCI_CAP_ID_EA:
        return 0
    raise NotModelled(f"vfio-pci's view of PCI capability {number:#04x}", device.name)


def _extended_capabilities(device: PciDevice) -> Iterator[tuple[int, int, int]]:
    """The chain beyond the first 256 bytes: offset, id, length."""
    at = regs.PCI_CFG_SPACE_SIZE if device.config_size > _BASIC else 0
    while at >= _BASIC and (header := device.read_config(at, 4)):
        number = header & 0xFFFF
        if number != regs.PCI_EXT_CAP_ID_SRIOV:
            raise NotModelled(f"vfio-pci's view of PCI extended capability {number:#06x}", device.name)
        yield at, number, regs.PCI_EXT_CAP_SRIOV_SIZEOF
        at = header >> _NEXT_SHIFT & _NEXT_MASK


class VirtualConfig:
    """The configuration space of an open device.

    `mask_intx` and `unmask_intx` are called when the program changes its INTx disable bit.
    """

    def __init__(self, device: PciDevice, mask_intx: Callable[[], None], unmask_intx: Callable[[], None]) -> None:
        self.device = device
        self._mask_intx = mask_intx
        self._unmask_intx = unmask_intx
        self._bars_dirty = True
        self.intx_disabled = False
        self._size = size = device.config_size
        self.copy = bytearray(size)
        self._owner = bytearray([_HEADER_ID] * _HEADER + [_NOBODY] * (size - _HEADER))
        self._virtual = bytearray(_HEADER_VIRTUAL.ljust(size, b"\0"))
        self._writable = bytearray(_HEADER_WRITABLE.ljust(size, b"\0"))
        self._fill(0, _HEADER)
        self._real_bars = [self._word(offset) for offset in range(_BARS.start, _BARS.stop, 4)]
        self._real_rom = self._word(regs.PCI_ROM_ADDRESS)
        if device.no_command_memory:
            self.copy[regs.PCI_COMMAND] |= regs.PCI_COMMAND_MEMORY
        if not device.sysdata.has_intx:
            self.copy[regs.PCI_INTERRUPT_PIN] = 0  # CONFIG_VFIO_PCI_INTX
        self._msi = 0
        self._take_capabilities()

    def _fill(self, offset: int, length: int) -> None:
        for at in range(offset, offset + length):
            self.copy[at] = self.device.read_config(at, 1)

    def _word(self, offset: int, length: int = 4) -> int:
        return int.from_bytes(self.copy[offset : offset + length], "little")

    @staticmethod
    def check(device: PciDevice) -> None:
        """Raise `NotModelled` for a device with a capability that nothing here can virtualise."""
        for _ in _capabilities(device):
            continue
        for _ in _extended_capabilities(device):
            continue

    def _take_capabilities(self) -> None:
        link, found = regs.PCI_CAPABILITY_LIST, False
        for at, number, length, following in _capabilities(self.device):
            if not length:
                self.copy[link] = following
                continue
            self._owner[at : at + length] = bytes([number]) * len(self._owner[at : at + length])
            self._fill(at, min(length, self._size - at))
            self._virtual[at + regs.PCI_CAP_LIST_NEXT] = 0xFF
            if number == regs.PCI_CAP_ID_EXP:
                self._take_express(at)
            elif number == regs.PCI_CAP_ID_MSI:
                self._msi = at
                for field, size in msi.virtual_fields(self.device, at):
                    self._virtual[field : field + size] = self._writable[field : field + size] = b"\xff" * size
            link, found = at + regs.PCI_CAP_LIST_NEXT, True
        if not found:
            self.copy[regs.PCI_STATUS] &= ~regs.PCI_STATUS_CAP_LIST & 0xFF
        for at, number, length in _extended_capabilities(self.device):
            self._owner[at : at + length] = bytes([number]) * length
            self._fill(at, length)
            self._virtual[at : at + regs.PCI_CAP_SIZEOF] = _DWORD.to_bytes(4, "little")  # vfio_direct_config_read

    def _take_express(self, at: int) -> None:
        """``init_pci_cap_exp_perm``: payload size, read request size and function-level reset are virtual."""
        virtual = regs.PCI_EXP_DEVCTL_BCR_FLR | regs.PCI_EXP_DEVCTL_PAYLOAD | regs.PCI_EXP_DEVCTL_READRQ
        for offset, bits, writable in (
            (regs.PCI_EXP_DEVCTL, virtual, ~regs.PCI_EXP_DEVCTL_PHANTOM),
            (regs.PCI_EXP_DEVCTL2, 0, ~regs.PCI_EXP_DEVCTL2_ARI),
        ):
            self._virtual[at + offset : at + offset + 2] = bits.to_bytes(2, "little")
            self._writable[at + offset : at + offset + 2] = (writable & 0xFFFF).to_bytes(2, "little")

    @property
    def memory_enabled(self) -> bool:
        """Whether the program has switched memory decoding on (``__vfio_pci_memory_enabled``)."""
        return self.device.no_command_memory or bool(self.copy[regs.PCI_COMMAND] & regs.PCI_COMMAND_MEMORY)

    @property
    def interrupt_pin(self) -> int:
        """The interrupt pin that the program sees."""
        return self.copy[regs.PCI_INTERRUPT_PIN]

    # reading

    def read(self, count: int, position: int) -> bytes:
        """Read; OSError EFAULT outside, EIO when the device refuses."""
        end = position + count
        if end > self._size:
            raise fail(errno.EFAULT)
        if self._bars_dirty and position < _ROM.stop and end > _BARS.start:
            self._fix_bars()
        if not self.device.disconnected:
            virtual = self._virtual[position:end]
            if virtual.count(0xFF) == count:
                return bytes(self.copy[position:end])
            found = self.device.sysdata.peek(position, count)
            if found is not None:
                mask = int.from_bytes(virtual, "little")
                if not mask:
                    return found
                own = int.from_bytes(self.copy[position:end], "little")
                return (int.from_bytes(found, "little") & ~mask | own & mask).to_bytes(count, "little")
        return b"".join(self._read_piece(at, size) for at, size in self._pieces(position, count))

    def _read_piece(self, at: int, size: int) -> bytes:
        virtual = int.from_bytes(self._virtual[at : at + size], "little")
        value = self._word(at, size)
        if virtual != (1 << 8 * size) - 1:
            value = self.device.load_config(at, size) & ~virtual | value & virtual
        return value.to_bytes(size, "little")

    def _pieces(self, position: int, count: int) -> Iterator[tuple[int, int]]:
        while count:
            owner, span = self._owner[position], 1
            while (position + span) % 4 and self._owner[position + span] == owner:
                span += 1
            size = min(count, span)
            if size >= 4 and position % 4 == 0:
                size = 4
            elif size >= 2 and position % 2 == 0:
                size = 2
            else:
                size = 1
            yield position, size
            position += size
            count -= size

    def _fix_bars(self) -> None:
        """Let the copies of the BARs look as hardware would: size bits stay 0, flags are fixed."""
        index = 0
        while index < regs.PCI_STD_NUM_BARS:
            resource = self.device.resources[index]
            offset = _BARS.start + 4 * index
            index += 1
            if not resource.start:
                self.copy[offset : offset + 4] = bytes(4)
                continue
            mask = -resource.size
            flags = 0
            if resource.flags & ResourceFlag.PREFETCH:
                flags |= regs.PCI_BASE_ADDRESS_MEM_PREFETCH
            if resource.flags & ResourceFlag.MEM_64:
                flags |= regs.PCI_BASE_ADDRESS_MEM_TYPE_64
            self._put(offset, self._word(offset) & mask | flags)
            if self._word(offset) & regs.PCI_BASE_ADDRESS_MEM_TYPE_64:
                self._put(offset + 4, self._word(offset + 4) & mask >> 32)
                index += 1
        rom = self.device.resources[ROM]
        mask = -rom.size | regs.PCI_ROM_ADDRESS_ENABLE if rom.start else 0
        self._put(_ROM.start, self._word(_ROM.start) & mask)
        self._bars_dirty = False

    def _put(self, offset: int, value: int) -> None:
        self.copy[offset : offset + 4] = (value & _DWORD).to_bytes(4, "little")

    # writing

    def write(self, data: bytes, position: int) -> int:
        """Write; the number of bytes.  OSError EFAULT outside (nothing is written), EIO when the device refuses."""
        if position + len(data) > self._size:
            raise fail(errno.EFAULT)
        for at, size in self._pieces(position, len(data)):
            value = int.from_bytes(data[at - position : at - position + size], "little")
            owner = self._owner[at]
            if at >= _BASIC and owner != _NOBODY:
                continue  # extended capabilities are read-only
            if owner == _HEADER_ID:
                self._write_header(at, size, value)
            elif owner == regs.PCI_CAP_ID_EXP:
                self._write_express(at, size, value)
            elif owner == regs.PCI_CAP_ID_MSI:
                self._write_default(at, size, value)
                flags = self._msi + regs.PCI_MSI_FLAGS
                if at <= flags < at + size:
                    now = msi.write_flags(self.device, self._msi, self._word(flags, 2))
                    self.copy[flags : flags + 2] = now.to_bytes(2, "little")
            elif owner in (_NOBODY, regs.PCI_CAP_ID_VNDR):
                self.device.store_config(at, size, value)
        return len(data)

    def _write_header(self, at: int, size: int, value: int) -> None:
        if at == regs.PCI_COMMAND:
            self._check_decoding(value & 0xFFFF)
        self._write_default(at, size, value)
        if at == regs.PCI_COMMAND:
            kept = self._word(at, 2) & ~_MEMORY_AND_IO
            self.copy[at : at + 2] = (kept | value & _MEMORY_AND_IO).to_bytes(2, "little")
        if regs.PCI_COMMAND <= at <= regs.PCI_COMMAND + 1:
            disabled = bool(self._word(regs.PCI_COMMAND, 2) & regs.PCI_COMMAND_INTX_DISABLE)
            if disabled != self.intx_disabled:
                self.intx_disabled = disabled
                (self._mask_intx if disabled else self._unmask_intx)()
        if at in _BARS or at in _ROM:
            self._bars_dirty = True

    def _write_express(self, at: int, size: int, value: int) -> None:
        """``vfio_exp_config_write``: a new read request size goes to the device; the reset bit never stays set."""
        control = self.device.express + regs.PCI_EXP_DEVCTL
        before = self._word(control, 2) & regs.PCI_EXP_DEVCTL_READRQ
        self._write_default(at, size, value)
        after = self._word(control, 2) & ~regs.PCI_EXP_DEVCTL_BCR_FLR
        self.copy[control : control + 2] = after.to_bytes(2, "little")
        if after & regs.PCI_EXP_DEVCTL_READRQ != before:
            real = self.device.load_config(control, 2) & ~regs.PCI_EXP_DEVCTL_READRQ
            self.device.store_config(control, 2, real | after & regs.PCI_EXP_DEVCTL_READRQ)

    def _write_default(self, at: int, size: int, value: int) -> None:
        writable = int.from_bytes(self._writable[at : at + size], "little")
        virtual = int.from_bytes(self._virtual[at : at + size], "little")
        if writable & virtual:
            own = self._word(at, size) & ~(writable & virtual) | value & writable & virtual
            self.copy[at : at + size] = own.to_bytes(size, "little")
        if writable & ~virtual:
            real = writable & ~virtual
            self.device.store_config(at, size, self.device.load_config(at, size) & ~real | value & real)

    def _check_decoding(self, new: int) -> None:
        """Bring the real BARs back when the device lost them by a reset behind the driver's back."""
        device = self.device
        now = device.load_config(regs.PCI_COMMAND, 2)
        own = self._word(regs.PCI_COMMAND, 2)
        memory_lost = new & own & ~now & regs.PCI_COMMAND_MEMORY and not device.no_command_memory
        io_lost = new & own & ~now & regs.PCI_COMMAND_IO
        if memory_lost or io_lost or self._bars_lost():
            for index, value in enumerate(self._real_bars):
                device.store_config(_BARS.start + 4 * index, 4, value)
            device.store_config(_ROM.start, 4, self._real_rom)

    def _bars_lost(self) -> bool:
        return any(
            value and self.device.read_config(_BARS.start + 4 * index, 4) != value
            for index, value in enumerate(self._real_bars)
        )
