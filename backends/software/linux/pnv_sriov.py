"""Virtual functions on bare-metal POWER: an endpoint each, and 64-bit windows for their base addresses.

Segment n of a 64-bit window is endpoint n's.  So a base address of the virtual functions has room for as many as there
are endpoints, is aligned to all of that, and begins, while they are enabled, at the segment of the first one's
endpoint.  That would be a waste of addresses where each function has more than a quarter of a segment of the bridge's
large window: then each gets a window of its own, all of which is its endpoint's.
Source: ``arch/powerpc/platforms/powernv/pci-sriov.c`` of Linux 6.12.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.opal import OpalM64Action, OpalWindow
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
_LEAST_WINDOW = 32 << 20
"""Windows of one endpoint are aligned to so many bytes."""


def fix_virtual(host: PnvHostBridge, physical: PnvFunction) -> PnvSriov | None:
    """Make the base addresses of virtual functions as large as they have to be (``pnv_pci_ioda_fixup_iov_resources``).

    None, and they have none, if one of them is not 64 bits wide and prefetchable, or is too large for a segment and too
    small for a window.
    """
    device = physical.pdev
    sriov = device.sriov if device is not None else None
    if device is None or sriov is None:
        return None
    own = device.resources[FIRST_IOV : FIRST_IOV + regs.PCI_STD_NUM_BARS]
    single = {bar for bar, size in enumerate(sriov.bar_sizes) if size > host.m64_segment // _SHARE}
    if any(one.flags and (one.flags & _M64 != _M64 or _is_between(sriov, single, bar)) for bar, one in enumerate(own)):
        for one in own:
            one.clear()
        return None
    for bar, (one, size) in enumerate(zip(own, sriov.bar_sizes, strict=True)):
        if one.flags and bar not in single:
            one.end = one.start + size * host.phb.model.endpoints - 1
    return PnvSriov(host, physical, sriov, frozenset(single))


def _is_between(sriov: PciSriov, single: set[int], bar: int) -> bool:
    return bar in single and sriov.bar_sizes[bar] < _LEAST_WINDOW


class _Place(NamedTuple):
    """A base address of all virtual functions, what each has of it, and whether each has a window of its own."""

    resource: Resource
    size: int
    single: bool


class PnvSriov:
    """The virtual functions of `physical` (``struct pnv_iov_data``).

    `single` are the base addresses of which each virtual function has a window of its own.
    """

    def __init__(self, host: PnvHostBridge, physical: PnvFunction, sriov: PciSriov, single: frozenset[int]) -> None:
        self._host = host
        self._physical = physical
        self._sriov = sriov
        self._single = single
        self.endpoints: list[PnvPe] = []
        """Theirs while they are enabled, by number."""
        self._windows: list[int] = []

    def alignment(self, bar: int) -> int:
        """See `PciSysdata.iov_alignment`: all that the base address can ever have, or that of one function."""
        return self._sriov.bar_sizes[bar] * (1 if bar in self._single else self._host.phb.model.endpoints)

    def _places(self) -> list[_Place]:
        """The base addresses that there are."""
        device = self._sriov.device
        own = device.resources[FIRST_IOV : FIRST_IOV + regs.PCI_STD_NUM_BARS]
        found = [
            _Place(one, size, bar in self._single)
            for bar, (one, size) in enumerate(zip(own, self._sriov.bar_sizes, strict=True))
        ]
        return [one for one in found if one.resource.flags and one.resource.claimed]

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
        """Windows for each base address (``pnv_pci_vf_assign_m64``); whether there were enough."""
        for resource, size, single in self._places():
            if not single:
                if not self._window(resource.start, resource.size, None):
                    return False
                continue
            for place, pe in enumerate(self.endpoints):
                if not self._window(resource.start + size * place, size, pe.number):
                    return False
        return True

    def _window(self, start: int, size: int, single: int | None) -> bool:
        """A window in segments, or all of it endpoint `single`'s (``pnv_ioda_map_m64_segmented``, ``_single``)."""
        opal, bridge = self._host.opal, self._host.opal_id
        number = self._host.take_m64()
        if number is None:
            return False
        self._windows.append(number)
        if single is not None and opal.pci_map_pe_mmio_window(bridge, single, OpalWindow.M64, number, 0):
            return False
        action = OpalM64Action.SPLIT if single is None else OpalM64Action.NON_SPLIT
        return not (
            opal.pci_set_phb_mem_window(bridge, OpalWindow.M64, number, start, 0, size)
            or opal.pci_phb_mmio_enable(bridge, OpalWindow.M64, number, action)
        )

    def _shift(self, segments: int, count: int) -> bool:
        """Have base addresses in segments begin `segments` later (``pnv_pci_vf_resource_shift``).

        Whether `count` fit then.
        """
        places = [one for one in self._places() if not one.single]
        if any(one.start + size * (segments + count) - 1 > one.end for one, size, _ in places):
            return False
        for one, size, _ in places:
            one.start += size * segments
        if places:
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
