"""Virtio devices on PCI with the identity and the registers that QEMU 7.2 gives them.

BAR 0 is the legacy register block (I/O, which zPCI cannot reach), BAR 1 the MSI-X table, and BAR 4 holds::

    0000   common configuration (`pyvfio.abi.virtio_pci` draws it)
    1000   interrupt status, one byte, cleared by reading
    2000   configuration of the device kind; big-endian, as the guest, until the driver accepts VERSION_1
    3000   notification, 4 bytes from queue to queue

An entropy source that reaches memory by the function's addresses (VIRTIO_F_ACCESS_PLATFORM) serves its queue.  For
all others notifying an enabled queue is `NotModelled`.  As QEMU does, disabling and enabling the function leaves these
registers alone; writing 0 to the device status resets what belongs to the driver.
"""

from __future__ import annotations

from pyvfio.abi import pci_regs as regs
from pyvfio.errors import NotModelled
from pyvfio_backends.software.hardware.devices.virtio_kinds import VirtioKind
from pyvfio_backends.software.hardware.devices.virtio_registers import COMMON, DEVICE, ISR, NOTIFY, VirtioRegisters
from pyvfio_backends.software.hardware.devices.virtio_window import ConfigWindow, capabilities
from pyvfio_backends.software.hardware.pci.bar import Bar
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pci.msix import MsixTable

__all__ = ["COMMON", "DEVICE", "ISR", "NOTIFY", "Legacy", "VirtioPci"]

_BAR4_SIZE = 0x4000
_TABLE_BAR, _TABLE_BAR_SIZE, _PENDING_OFFSET = 1, 0x1000, 0x800
_REGISTER_BAR = 4
_LEGACY_HEADER = 20
_VENDOR = 0x1AF4
_MODERN_FIRST_ID = 0x1040
_MODERN_SUBSYSTEM = 0x1100
_MSIX_CAPABILITY, _WINDOW_CAPABILITY = 0x98, 0x84


class VirtioPci(VirtioRegisters):
    """The device behind a function: `config` space, `bars` and `msix` are built for it; it is the registers of BAR 4.

    `legacy` devices are transitional (BAR 0 in I/O space, ids 0x1000 and up), others are version 1 only; `sriov` ones
    offer VIRTIO_F_SR_IOV, and `platform` ones insist on VIRTIO_F_ACCESS_PLATFORM: they use the function's DMA.
    """

    def __init__(self, kind: VirtioKind, *, legacy: bool = True, sriov: bool = False, platform: bool = False) -> None:
        super().__init__(kind, sriov=sriov, platform=platform, order=">")
        self.legacy = legacy
        self.config = ConfigSpace(self._identity(), interrupt_pin=1)
        first = _MSIX_CAPABILITY + regs.PCI_CAP_MSIX_SIZEOF
        size = regs.PCI_CFG_SPACE_SIZE - first
        self.config.allow(first, size, (1 << 8 * size) - 1)  # QEMU keeps what is written past the capabilities
        self.config.kept = range(_WINDOW_CAPABILITY, regs.PCI_CFG_SPACE_SIZE)  # and in the window, also over a reset
        for capability, content in capabilities(_REGISTER_BAR, 0x40):
            self.config.add_capability(capability, regs.PCI_CAP_ID_VNDR, content)
        self.msix = MsixTable(self.config, _MSIX_CAPABILITY, _TABLE_BAR, kind.vectors, _PENDING_OFFSET)
        memory64 = regs.PCI_BASE_ADDRESS_MEM_TYPE_64 | regs.PCI_BASE_ADDRESS_MEM_PREFETCH
        self.bars = [
            Bar(_TABLE_BAR, _TABLE_BAR_SIZE, regs.PCI_BASE_ADDRESS_SPACE_MEMORY, self.msix),
            Bar(_REGISTER_BAR, _BAR4_SIZE, memory64, self),
        ]
        if legacy:
            size = 1 << (_LEGACY_HEADER + len(kind.config("<")) - 1).bit_length()
            self.bars.insert(0, Bar(0, size, regs.PCI_BASE_ADDRESS_SPACE_IO, Legacy()))
        for bar in self.bars:
            self.config.set_bar(bar.index, bar.size, bar.flags)
        if kind.rom_size:
            self.config.set_rom(kind.rom_size)
        ConfigWindow(self.config, _WINDOW_CAPABILITY, self.bars).open()

    @property
    def messages_on(self) -> bool:
        """See `VirtioRegisters.messages_on`."""
        return self.msix.enabled

    def _identity(self) -> Identity:
        kind = self.kind
        if self.legacy:
            return Identity(_VENDOR, kind.transitional_id, _VENDOR, kind.type, kind.class_code)
        return Identity(_VENDOR, _MODERN_FIRST_ID + kind.type, _VENDOR, _MODERN_SUBSYSTEM, kind.class_code, 1)


class Legacy:
    """BAR 0: I/O space, which the instructions of zPCI cannot reach through Linux; it answers zeros."""

    def read(self, offset: int, length: int) -> int:
        return 0

    def takes(self, offset: int, length: int) -> bool:
        return True

    def write(self, offset: int, length: int, value: int) -> None:
        raise NotModelled("the legacy registers of virtio PCI functions")

    def reset(self) -> None:
        return
