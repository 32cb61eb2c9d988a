"""Which capability each byte of configuration space belongs to, as vfio-pci finds them when a device is opened.

The chains are walked once, in the device; what is hidden is left out of the chain in the copy.  The first extended
capability cannot be left out: its place stays, without its id.  Where capabilities overlap the later one has the bytes.
Source: ``drivers/vfio/pci/vfio_pci_config.c`` (6.12), ``vfio_cap_init`` and ``vfio_ecap_init``.
"""

from __future__ import annotations

from pyvfio.abi import pci_capability_regs as capability_regs
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.vfio_pci_lengths import capability_length, extended_length
from pyvfio_backends.software.linux.vfio_pci_permissions import (
    CAPABILITIES,
    EXTENDED,
    HEADER,
    Access,
    Permissions,
    direct,
    msi_permissions,
)
from pyvfio_backends.software.linux.vfio_pci_physical import PhysicalFunction

__all__ = ["ConfigMap"]

_BASIC, _HEADER = regs.PCI_CFG_SPACE_SIZE, regs.PCI_STD_HEADER_SIZEOF
_HEADER_OWNER, _NOBODY = 0, 0xFF
_NEXT_FIELD = 0xFFC << 20
_RAW = Permissions(Access.RAW, b"")


class ConfigMap:
    """The owner of each byte, and from that the virtual and the writable bits of each byte.

    `copy` is vfio-pci's copy, whose header is there already: what belongs to capabilities is filled in.  An owner is
    the low byte of a capability's id.
    """

    def __init__(self, device: PhysicalFunction, copy: bytearray) -> None:
        self._device = device
        self._copy = copy
        size = len(copy)
        self.owners = bytearray([_HEADER_OWNER] * _HEADER + [_NOBODY] * (size - _HEADER))
        self._extends = False
        self._msi: Permissions | None = None
        self._take_capabilities()
        if self._extends:
            self._take_extended()
        self.virtual, self.writable = bytearray(size), bytearray(size)
        self._lay_out(0, HEADER, 0, _HEADER)
        at = _HEADER
        while at < size:
            end = at + 1
            while end < size and end != _BASIC and self.owners[end] == self.owners[at]:
                end += 1
            self._lay_out(at, self.permissions(at), at, end)
            at = end

    def _lay_out(self, start: int, permissions: Permissions, first: int, end: int) -> None:
        for target, source in ((self.virtual, permissions.virtual), (self.writable, permissions.writable)):
            target[first:end] = source[first - start : end - start].ljust(end - first, b"\0")

    def permissions(self, at: int) -> Permissions:
        """Those of whoever owns a byte."""
        owner = self.owners[at]
        if at < _HEADER:
            return HEADER
        if owner == _NOBODY:
            return _RAW
        if at >= _BASIC:
            if owner == _HEADER_OWNER:
                return Permissions(Access.DIRECT, b"")  # the kernel takes it to begin at 0, so no link is found in it
            return EXTENDED.get(owner) or direct(owner, is_extended=True)
        if owner == regs.PCI_CAP_ID_MSI and self._msi is not None:
            return self._msi
        return CAPABILITIES.get(owner) or direct(owner, is_extended=False)

    def start(self, at: int) -> int:
        """Where the capability that owns a byte begins: capabilities of one kind side by side count as one."""
        owner = self.owners[at]
        base = _BASIC if at >= _BASIC else _HEADER
        if owner == _HEADER_OWNER:
            return 0
        while at > base and self.owners[at - 1] == owner:
            at -= 1
        return at

    def piece(self, at: int, count: int) -> int:
        """How many of `count` bytes at `at` are one access: 1, 2 or 4 in a word, of one capability, aligned."""
        owners, span = self.owners, 1
        while (at + span) % 4 and owners[at + span] == owners[at]:
            span += 1
        size = min(count, span)
        if size >= 4 and not at % 4:
            return 4
        return 2 if size >= 2 and not at % 2 else 1

    def fill(self, offset: int, length: int) -> None:
        """Copy bytes of the device, by the widest accesses that fit."""
        end = min(offset + length, len(self._copy))
        while offset < end:
            size = next(width for width in (4, 2, 1) if end - offset >= width and not offset % width)
            self._copy[offset : offset + size] = self._device.read_config(offset, size).to_bytes(size, "little")
            offset += size

    def _own(self, at: int, length: int, number: int) -> None:
        length = min(length, len(self.owners) - at)
        self.owners[at : at + length] = bytes([number & 0xFF]) * length
        self.fill(at, length)

    def _test_extension(self) -> None:
        if self._device.config_size > _BASIC:
            self._extends = bool(self._device.read_config(_BASIC, 4))

    def _take_capabilities(self) -> None:
        device, copy = self._device, self._copy
        if not device.read_config(regs.PCI_STATUS, 2) & regs.PCI_STATUS_CAP_LIST:
            return
        at, link, found = device.read_config(regs.PCI_CAPABILITY_LIST, 1), regs.PCI_CAPABILITY_LIST, False
        for _ in range((_BASIC - _HEADER) // regs.PCI_CAP_SIZEOF):
            if not at:
                break
            number = device.read_config(at, 1)
            following = device.read_config(at + regs.PCI_CAP_LIST_NEXT, 1)
            length = capability_length(device, number, at)
            if number == regs.PCI_CAP_ID_EXP or (
                number == regs.PCI_CAP_ID_PCIX and length == capability_regs.PCI_CAP_PCIX_SIZEOF_V2
            ):
                self._test_extension()
            if length:
                self._own(at, length, number)
                if number == regs.PCI_CAP_ID_PM:
                    self._hide_events(at)
                elif number == regs.PCI_CAP_ID_MSI and self._msi is None:
                    self._msi = msi_permissions(device.read_config(at + regs.PCI_MSI_FLAGS, 2))
                link, found = at + regs.PCI_CAP_LIST_NEXT, True
            else:
                copy[link] = following
            at = following
        if not found:
            copy[regs.PCI_STATUS] &= ~regs.PCI_STATUS_CAP_LIST & 0xFF

    def _hide_events(self, at: int) -> None:
        """A program gets no power management events: the copy has none of their bits."""
        for register, hidden in (
            (at + regs.PCI_PM_PMC, regs.PCI_PM_CAP_PME_MASK),
            (at + regs.PCI_PM_CTRL, regs.PCI_PM_CTRL_PME_ENABLE | regs.PCI_PM_CTRL_PME_STATUS),
        ):
            value = int.from_bytes(self._copy[register : register + 2], "little") & ~hidden
            self._copy[register : register + 2] = value.to_bytes(2, "little")

    def _word(self, at: int) -> int:
        return int.from_bytes(self._copy[at : at + 4], "little")

    def _put_word(self, at: int, value: int) -> None:
        self._copy[at : at + 4] = value.to_bytes(4, "little")

    def _take_extended(self) -> None:
        device = self._device
        at, previous, found = _BASIC, 0, False
        for _ in range((device.config_size - _BASIC) // regs.PCI_CAP_SIZEOF):
            if at < _BASIC:
                break
            header = device.read_config(at, 4)
            number, following = regs.pci_ext_cap_id(header), regs.pci_ext_cap_next(header)
            length = extended_length(device, number, at)
            if not length and previous:
                self._put_word(previous, self._word(previous) & ~_NEXT_FIELD | following << 20)
            else:
                self._own(at, length or regs.PCI_CAP_SIZEOF, number)
                if length:
                    found = True
                else:
                    self._put_word(at, self._word(at) & _NEXT_FIELD)
                previous = at
            at = following
        if not found:
            self._put_word(_BASIC, 0)
