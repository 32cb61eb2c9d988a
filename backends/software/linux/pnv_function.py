"""A function behind a host bridge of bare-metal POWER, as the PCI core is given it.

Every access belongs to its endpoint (`pe`): what is frozen reads as ones, which is how EEH finds out.  Programs' maps
of base addresses are by item (`RegisterMapping`), those of memory too, because they read as ones then.
Source: ``arch/powerpc/platforms/powernv/{pci,pci-ioda}.c``, ``arch/powerpc/kernel/{pci-common,of}.c`` of Linux 6.12.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.eeh_files import device_files
from pyvfio_backends.software.linux.pci_host import BarMemory
from pyvfio_backends.software.linux.powerpc_function import PowerFunction
from pyvfio_backends.software.linux.vfs import Node, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.function import Function
    from pyvfio_backends.software.linux.iommu_group import IommuGroup
    from pyvfio_backends.software.linux.pci_device import PciDevice
    from pyvfio_backends.software.linux.pcie_bus import PcieBus
    from pyvfio_backends.software.linux.pnv_host import PnvHostBridge
    from pyvfio_backends.software.linux.pnv_pe import PnvPe
    from pyvfio_backends.software.linux.pnv_sriov import PnvSriov

__all__ = ["PnvFunction"]


class PnvFunction(PowerFunction):
    """See above."""

    keeps_addresses = False

    def __init__(self, host: PnvHostBridge, on: PcieBus, devfn: int, hardware: Function) -> None:
        super().__init__(host, on, devfn, hardware)
        self.host = host
        self.pe: PnvPe | None = None
        """The endpoint; None until the device has its addresses."""
        self.sriov: PnvSriov | None = None
        """Of a physical function whose virtual ones can have endpoints."""

    # accesses

    def config_read(self, where: int, size: int) -> int:
        """See `PciSysdata.config_read` (``pnv_pci_read_config``).  Raise OSError ENODEV where EEH blocks it."""
        eeh = self.host.eeh
        if eeh is None:
            return super().config_read(where, size)
        platform = eeh.platform
        if platform.blocks(self._segment, self.rid):
            raise fail(errno.ENODEV)
        value = super().config_read(where, size)
        if value == (1 << 8 * size) - 1 and platform.config_failed(self._segment, self.rid):
            raise fail(errno.ENODEV)
        return value

    def config_write(self, where: int, size: int, value: int) -> None:
        """See `PciSysdata.config_write` (``pnv_pci_write_config``).  Raise OSError ENODEV where EEH blocks it."""
        eeh = self.host.eeh
        if eeh is not None and eeh.platform.blocks(self._segment, self.rid):
            raise fail(errno.ENODEV)
        self.host.opal.pci_config_write(self.host.opal_id, self.rid, where, size, value)

    def peek(self, position: int, count: int) -> bytes | None:
        """See `PciSysdata.peek`: nothing of a bridge that something is frozen behind, or that EEH blocks."""
        eeh = self.host.eeh
        if self.host.phb.guarded or (eeh is not None and eeh.platform.blocks(self._segment, self.rid)):
            return None
        return super().peek(position, count)

    def bar_read(self, bar: int, offset: int, size: int) -> int:
        """See `PciSysdata.bar_read` (``eeh_check_failure``)."""
        value = super().bar_read(bar, offset, size)
        if self.host.eeh is not None and self.pdev is not None:
            self.host.eeh.check_read(self.pdev, value, size)
        return value

    def bar_memory(self, bar: int) -> BarMemory | None:
        """See `PciSysdata.bar_memory`: none that a program could still have when the endpoint is frozen."""
        return None

    # pcibios

    def enable(self, device: PciDevice) -> None:
        """See `PciSysdata.enable`."""
        self.host.check_enable(self)

    # resets and programs

    def reset_behind(self) -> None:
        """See `PciSysdata.reset_behind`: by firmware (``pnv_pci_reset_secondary_bus``)."""
        if self.subordinate is None:
            raise fail(errno.ENOTTY)
        if self.host.eeh is None:
            super().reset_behind()
        else:
            self.host.eeh.platform.resets.behind(self)

    def vfio_opened(self) -> None:
        """See `PciSysdata.vfio_opened` (``eeh_dev_open``)."""
        if self.host.eeh is not None and self.pdev is not None:
            self.host.eeh.open(self.pdev)

    def vfio_closed(self) -> None:
        """See `PciSysdata.vfio_closed` (``eeh_dev_release``)."""
        if self.host.eeh is not None and self.pdev is not None:
            self.host.eeh.release(self.pdev)

    # the IOMMU

    def iommu_group(self) -> IommuGroup | None:
        """See `PciSysdata.iommu_group`."""
        return self.pe.group if self.pe is not None else None

    # virtual functions

    def iov_alignment(self, bar: int) -> int:
        """See `PciSysdata.iov_alignment`."""
        return self.sriov.alignment(bar) if self.sriov is not None else super().iov_alignment(bar)

    def before_virtual(self, count: int) -> None:
        """See `PciSysdata.before_virtual`."""
        if self.sriov is None:
            raise fail(errno.ENOSPC)
        self.sriov.enable(count)

    def after_virtual(self) -> None:
        """See `PciSysdata.after_virtual`."""
        if self.sriov is not None:
            self.sriov.disable()

    # files

    def attributes(self, device: PciDevice) -> Mapping[str, Node]:
        """See `PciSysdata.attributes`."""
        found = dict(super().attributes(device))
        if self.host.eeh is not None:
            found.update(device_files(self.host.eeh, device))
        return found
