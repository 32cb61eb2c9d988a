"""Conventional capabilities, declared: power management, MSI, MSI-X, subsystem id, vital product data, vendor's own.

Power management, and MSI with 64-bit addresses and masks (without them what follows moves up)::

    00 | capabilities         | next | id=01 |    00 | control          | next | id=05 |
    04 | data | bridge | control, status     |    04 | message address             .. |
                                                  08 | upper address                  |
                                                  0c | reserved         | message data|
                                                  10 | mask bits                      |
                                                  14 | pending bits                   |

MSI-X is drawn in `pyvfio.abi.pci_regs`.  The subsystem of a bridge, and vital product data::

    00 | reserved             | next | id=0d |    00 | F, address (15)  | next | id=03 |
    04 | subsystem id  | subsystem vendor id |    04 | data                           |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pyvfio.abi import pci_bridge_regs as bridge
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pci.register import Capability, Register

__all__ = ["Msi", "Msix", "PowerManagement", "SubsystemId", "VendorSpecific", "VitalProductData"]

_WORD, _DWORD = 0xFFFF, 0xFFFFFFFF


@dataclass(frozen=True)
class PowerManagement(Capability):
    """Power management: which states there are, and from which ones PME can be signalled (``PCI_PM_CAP_PME_*``).

    `device_specific`: it needs initialization of its own after a reset; `data_select`: the field that chooses what the
    data register tells can be written.
    """

    id: ClassVar[int] = regs.PCI_CAP_ID_PM
    version: int = 3
    no_soft_reset: bool = True
    d1: bool = False
    d2: bool = False
    pme: int = 0
    device_specific: bool = False
    data_select: bool = False

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`.  What belongs to PME is sticky where D3cold can signal it."""
        able = self.version | self.pme & regs.PCI_PM_CAP_PME_MASK
        able |= regs.PCI_PM_CAP_D1 if self.d1 else 0
        able |= regs.PCI_PM_CAP_D2 if self.d2 else 0
        able |= regs.PCI_PM_CAP_DSI if self.device_specific else 0
        yield Register(regs.PCI_PM_PMC, 2, able)
        enable, status = regs.PCI_PM_CTRL_PME_ENABLE, regs.PCI_PM_CTRL_PME_STATUS
        yield Register(
            regs.PCI_PM_CTRL,
            2,
            regs.PCI_PM_CTRL_NO_SOFT_RESET if self.no_soft_reset else 0,
            rw=regs.PCI_PM_CTRL_STATE_MASK
            | (enable if self.pme else 0)
            | (regs.PCI_PM_CTRL_DATA_SEL_MASK if self.data_select else 0),
            w1c=status if self.pme else 0,
            sticky=enable | status if self.pme & regs.PCI_PM_CAP_PME_D3cold else 0,
        )
        yield Register(regs.PCI_PM_DATA_REGISTER, 1)


@dataclass(frozen=True)
class Msi(Capability):
    """Message-signalled interrupts: `vectors` (a power of two, up to 32), 64-bit addresses, a mask for each vector."""

    id: ClassVar[int] = regs.PCI_CAP_ID_MSI
    vectors: int = 1
    wide: bool = True
    maskable: bool = False

    @property
    def data_offset(self) -> int:
        """Where the message data is."""
        return regs.PCI_MSI_DATA_64 if self.wide else regs.PCI_MSI_DATA_32

    @property
    def mask_offset(self) -> int:
        """Where the mask bits are, if there are any; the pending bits follow."""
        return regs.PCI_MSI_MASK_64 if self.wide else regs.PCI_MSI_MASK_32

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`."""
        flags = (self.vectors.bit_length() - 1) << 1
        flags |= regs.PCI_MSI_FLAGS_64BIT if self.wide else 0
        flags |= regs.PCI_MSI_FLAGS_MASKBIT if self.maskable else 0
        yield Register(regs.PCI_MSI_FLAGS, 2, flags, rw=regs.PCI_MSI_FLAGS_ENABLE | regs.PCI_MSI_FLAGS_QSIZE)
        yield Register(regs.PCI_MSI_ADDRESS_LO, 4, rw=_DWORD & ~3)
        if self.wide:
            yield Register(regs.PCI_MSI_ADDRESS_HI, 4, rw=_DWORD)
        yield Register(self.data_offset, 2, rw=_WORD)
        if self.maskable:
            yield Register(self.mask_offset, 4, rw=(1 << self.vectors) - 1)
            yield Register(self.mask_offset + 4, 4)


@dataclass(frozen=True)
class Msix(Capability):
    """MSI-X: `vectors` in a table at `table_offset` of BAR `table_bar`; their pending bits likewise."""

    id: ClassVar[int] = regs.PCI_CAP_ID_MSIX
    vectors: int
    table_bar: int
    table_offset: int = 0
    pending_bar: int | None = None
    pending_offset: int = 0x800

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`."""
        able = regs.PCI_MSIX_FLAGS_ENABLE | regs.PCI_MSIX_FLAGS_MASKALL
        yield Register(regs.PCI_MSIX_FLAGS, 2, self.vectors - 1, rw=able)
        yield Register(regs.PCI_MSIX_TABLE, 4, self.table_offset | self.table_bar)
        pending = self.table_bar if self.pending_bar is None else self.pending_bar
        yield Register(regs.PCI_MSIX_PBA, 4, self.pending_offset | pending)


@dataclass(frozen=True)
class SubsystemId(Capability):
    """Vendor and id of the subsystem that a bridge belongs to."""

    id: ClassVar[int] = regs.PCI_CAP_ID_SSVID
    vendor: int
    subsystem: int = 0

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`."""
        yield Register(bridge.PCI_SSVID_VENDOR_ID, 2, self.vendor)
        yield Register(bridge.PCI_SSVID_DEVICE_ID, 2, self.subsystem)


@dataclass(frozen=True)
class VitalProductData(Capability):
    """The window on vital product data; `vpd.ProductData` does what the flag in the address asks for."""

    id: ClassVar[int] = regs.PCI_CAP_ID_VPD

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`."""
        yield Register(bridge.PCI_VPD_ADDR, 2, rw=_WORD)
        yield Register(bridge.PCI_VPD_DATA, 4, rw=_DWORD)


@dataclass(frozen=True)
class VendorSpecific(Capability):
    """A capability of the vendor's own: its length in the third byte, then `body`, whose `writable` bits are its mask.

    Both count from the fourth byte.
    """

    id: ClassVar[int] = regs.PCI_CAP_ID_VNDR
    body: bytes
    writable: bytes = b""

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`."""
        yield Register(regs.PCI_CAP_FLAGS, 1, regs.PCI_CAP_FLAGS + 1 + len(self.body))
        mask = int.from_bytes(self.writable[: len(self.body)], "little")
        yield Register(regs.PCI_CAP_FLAGS + 1, len(self.body), int.from_bytes(self.body, "little"), rw=mask)
