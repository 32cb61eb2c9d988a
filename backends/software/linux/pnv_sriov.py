"""Virtual functions on bare-metal POWER: an endpoint each, and a 64-bit window for each of their base addresses.

Segment n of a 64-bit window is endpoint n's.  So a base address of the virtual functions has room for as many as there
are endpoints, is aligned to all of that, and begins, while they are enabled, at the segment of the first one's
endpoint.
Source: ``arch/powerpc/platforms/powernv/pci-sriov.c`` of Linux 6.12.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.opal import OpalM64Action, OpalWindow
from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux.pci_iov import FIRST_IOV
from pyvfio_backends.software.linux.pnv_pe import PeFlag
from pyvfio_backends.software.linux.resource import Resource, ResourceFlag
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_iov import PciSriov
    from pyvfio_backends.software.linux.pnv_function import PnvFunction
    from pyvfio_backends.software.linux.pnv_host import PnvHostBridge
    from pyvfio_backends.software.linux.pnv_pe import PnvPe

__all__ = ["PnvSriov", "fix_virtual"]

_M64 = ResourceFlag.MEM_64 | ResourceFlag.PREFETCH
_SHARE = 4


def fix_virtual(host: PnvHostBridge, physical: PnvFunction) -> PnvSriov | None:
    """Make the base addresses of virtual functions as large as they have to be (``pnv_pci_ioda_fixup_iov_resources``).

    None, and they have none, if one of them is not 64 bits wide and prefetchable.  Raise `NotModelled` for one of more
    than a quarter of a segment, for which Linux takes a window of each virtual function.
    """
    device = physical.pdev
    sriov = device.sriov if device is not None else None
    if device is None or sriov is None:
        return None
    own = device.resources[FIRST_IOV : FIRST_IOV + regs.PCI_STD_NUM_BARS]
    if any(one.flags and one.flags & _M64 != _M64 for one in own):
        for one in own:
            one.clear()
        return None
    for one, size in zip(own, sriov.bar_sizes, strict=True):
        if not one.flags:
            continue
        if size > host.m64_segment // _SHARE:
            raise NotModelled("virtual functions with a window each", device.name)
        one.end = one.start + size * host.phb.model.endpoints - 1
    return PnvSriov(host, physical, sriov)


class PnvSriov:
    """The virtual functions of `physical` (``struct pnv_iov_data``)."""

    def __init__(self, host: PnvHostBridge, physical: PnvFunction, sriov: PciSriov) -> None:
        self._host = host
        self._physical = physical
        self._sriov = sriov
        self.endpoints: list[PnvPe] = []
        """Theirs while they are enabled, by number."""
        self._windows: list[int] = []

    def alignment(self, bar: int) -> int:
        """See `PciSysdata.iov_alignment`: all that the base address can ever have."""
        return self._sriov.bar_sizes[bar] * self._host.phb.model.endpoints

    def _resources(self) -> list[tuple[Resource, int]]:
        """The base addresses that there are, with what each virtual function has of them."""
        device = self._sriov.device
        own = device.resources[FIRST_IOV : FIRST_IOV + regs.PCI_STD_NUM_BARS]
        return [pair for pair in zip(own, self._sriov.bar_sizes, strict=True) if pair[0].flags and pair[0].claimed]

    def enable(self, count: int) -> None:
        """Give `count` of them endpoints and windows (``pnv_pci_sriov_enable``).

        Raise OSError EBUSY: there are not enough endpoints in a row, or windows; nothing is taken then.
        """
        known = self._host.endpoints
        first = known.allocate(count)
        if first is None:
            raise fail(errno.EBUSY)
        self.endpoints = [known.every[first.number + number] for number in range(count)]
        if not self._place() or not self._shift(first.number, count):
            self._release_windows()
            self._release_endpoints()
            raise fail(errno.EBUSY)
        for number, pe in enumerate(self.endpoints):
            pe.flags = PeFlag.VF
            pe.parent, pe.rid = self._physical, self._sriov.routing_id(number)
            known.configure(pe)
            self._host.set_up_dma(pe)

    def _place(self) -> bool:
        """A window, in segments, for each base address (``pnv_pci_vf_assign_m64``); whether there were enough."""
        opal, bridge = self._host.opal, self._host.opal_id
        for resource, _ in self._resources():
            number = self._host.take_m64()
            if number is None:
                return False
            self._windows.append(number)
            codes = (
                opal.pci_set_phb_mem_window(bridge, OpalWindow.M64, number, resource.start, 0, resource.size),
                opal.pci_phb_mmio_enable(bridge, OpalWindow.M64, number, OpalM64Action.SPLIT),
            )
            if any(codes):
                return False
        return True

    def _shift(self, segments: int, count: int) -> bool:
        """Have base addresses begin `segments` later (``pnv_pci_vf_resource_shift``); whether `count` fit then."""
        places = self._resources()
        if any(one.start + size * (segments + count) - 1 > one.end for one, size in places):
            return False
        for one, size in places:
            one.start += size * segments
        self._sriov.write_bars()
        return True

    def disable(self) -> None:
        """Take everything back (``pnv_pci_sriov_disable``)."""
        if not self.endpoints:
            return
        first, count = self.endpoints[0].number, len(self.endpoints)
        self._release_endpoints()
        self._shift(-first, count)
        self._release_windows()

    def _release_endpoints(self) -> None:
        for pe in self.endpoints:
            if pe.table_group is not None:
                pe.table_group.take_ownership()
            if pe.parent is not None:
                self._host.endpoints.deconfigure(pe)
            group = pe.group
            if group is not None and not group.devices:
                self._host.bus.kernel.groups.groups.pop(group.number, None)
            self._host.endpoints.free(pe)
        self.endpoints = []

    def _release_windows(self) -> None:
        for number in self._windows:
            self._host.opal.pci_phb_mmio_enable(self._host.opal_id, OpalWindow.M64, number, OpalM64Action.DISABLE)
            self._host.taken_m64.discard(number)
        self._windows = []
