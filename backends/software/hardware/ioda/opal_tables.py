"""The part of OPAL that fills in a host bridge's tables: endpoints, outbound windows, DMA windows, interrupts."""

from __future__ import annotations

from collections.abc import Mapping

from pyvfio.abi import opal as api
from pyvfio.abi.opal import OpalBusCompare, OpalM64Action, OpalTceKill, OpalWindow
from pyvfio.ioda.message import message_32, message_64
from pyvfio.ioda.routing import ROUTING_IDS, RidMatch
from pyvfio.ioda.segments import Segments
from pyvfio.ioda.tce import BypassEntry, TableEntry
from pyvfio.ioda.window import MOST_LEVELS
from pyvfio_backends.software.hardware.ioda.phb import Phb

__all__ = ["OpalTables"]

_GRANULE_MASK = 0xFFF
_LEAST_TABLE, _MOST_TABLE_BITS = 0x1000, 31 + 11
_BYPASS_GRANULE_MASK, _BYPASS_END = 0xFFFFFF, 0x3FFFFFFFFFFFF
_WINDOW_SHIFT = 59
_KILL_ADDRESS_BITS = 60


class OpalTables:
    """These calls; see `Opal`."""

    def __init__(self, phbs: Mapping[int, Phb]) -> None:
        self.phbs = phbs

    def _phb(self, phb_id: int, endpoint: int = 0) -> Phb | None:
        """A bridge that has such an endpoint."""
        phb = self.phbs.get(phb_id)
        return phb if phb is not None and 0 <= endpoint < phb.model.endpoints else None

    # endpoints

    def pci_set_pe(
        self, phb_id: int, endpoint: int, rid: int, bus: int, device: int, function: int, action: int
    ) -> int:
        """``opal_pci_set_pe``: give routing ids to an endpoint, or to the reserved one."""
        phb = self._phb(phb_id, endpoint)
        compares = {one.value for one in OpalBusCompare}
        if (
            phb is None
            or not 0 <= rid < ROUTING_IDS
            or bus not in compares
            or device not in (0, 1)
            or function not in (0, 1)
            or action not in (api.OPAL_MAP_PE, api.OPAL_UNMAP_PE)
        ):
            return api.OPAL_PARAMETER
        match = RidMatch(rid, OpalBusCompare(bus), bool(device), bool(function))
        phb.map_rids(endpoint if action == api.OPAL_MAP_PE else phb.model.reserved, match)
        return api.OPAL_SUCCESS

    def pci_set_peltv(self, phb_id: int, parent: int, child: int, state: int) -> int:
        """``opal_pci_set_peltv``: have errors of an endpoint freeze another one too."""
        phb = self._phb(phb_id, parent)
        if phb is None or self._phb(phb_id, child) is None:
            return api.OPAL_PARAMETER
        phb.endpoints.take_along(parent, child, add=bool(state))
        return api.OPAL_SUCCESS

    # outbound windows

    def pci_set_phb_mem_window(self, phb_id: int, type_: int, number: int, address: int, bus: int, size: int) -> int:
        """``opal_pci_set_phb_mem_window``: place a 64-bit window; its addresses on the bus are the same."""
        phb = self._phb(phb_id)
        if phb is not None and type_ in (OpalWindow.M32, OpalWindow.IO):
            return api.OPAL_UNSUPPORTED
        window = phb.windows.of(OpalWindow.M64, number) if phb is not None and type_ == OpalWindow.M64 else None
        if window is None or (address | size) & _GRANULE_MASK or size <= 0 or size & size - 1 or address & size - 1:
            return api.OPAL_PARAMETER
        if window.enabled:
            return api.OPAL_PARTIAL
        window.place(Segments(address, address, size, len(window.owners)))
        return api.OPAL_SUCCESS

    def pci_phb_mmio_enable(self, phb_id: int, type_: int, number: int, action: int) -> int:
        """``opal_pci_phb_mmio_enable``: switch a 64-bit window off, or on: in segments, or as one endpoint's."""
        phb = self._phb(phb_id)
        if phb is not None and type_ in (OpalWindow.M32, OpalWindow.IO):
            return api.OPAL_UNSUPPORTED
        window = phb.windows.of(OpalWindow.M64, number) if phb is not None and type_ == OpalWindow.M64 else None
        if phb is None or window is None or action not in {one.value for one in OpalM64Action}:
            return api.OPAL_PARAMETER
        if action == OpalM64Action.DISABLE:
            window.enabled, window.single = False, None
        elif (window.single is None) is not (action == OpalM64Action.SPLIT):
            return api.OPAL_PARAMETER
        elif window.segments is None:
            return api.OPAL_PARTIAL
        else:
            window.enabled = True
        phb.windows.changed()
        return api.OPAL_SUCCESS

    def pci_map_pe_mmio_window(self, phb_id: int, endpoint: int, type_: int, number: int, segment: int) -> int:
        """``opal_pci_map_pe_mmio_window``: give a segment to an endpoint, or all of a 64-bit window."""
        phb = self._phb(phb_id, endpoint)
        if phb is None or type_ not in {one.value for one in OpalWindow}:
            return api.OPAL_PARAMETER
        if type_ == OpalWindow.IO and phb.windows.io is None:
            return api.OPAL_UNSUPPORTED
        window = phb.windows.of(OpalWindow(type_), number)
        if window is None:
            return api.OPAL_PARAMETER
        if type_ == OpalWindow.M64 and not phb.model.segment_map:
            if window.enabled:
                return api.OPAL_PARTIAL
            window.single = endpoint
            return api.OPAL_SUCCESS
        if not 0 <= segment < len(window.owners):
            return api.OPAL_PARAMETER
        window.owners[segment] = endpoint
        return api.OPAL_SUCCESS

    # DMA windows

    def _dma_window(self, phb_id: int, endpoint: int, window: int) -> Phb | None:
        phb = self._phb(phb_id, endpoint)
        if phb is None or not 0 <= window < phb.model.dma_windows:
            return None
        return phb if phb.model.slice_shift is not None or window >> 1 == endpoint else None

    def pci_map_pe_dma_window(
        self, phb_id: int, endpoint: int, window: int, levels: int, table: int, table_size: int, page_size: int
    ) -> int:
        """``opal_pci_map_pe_dma_window``: a window with tables; `table_size` 0 for none."""
        phb = self._dma_window(phb_id, endpoint, window)
        if phb is None:
            return api.OPAL_PARAMETER
        if not table_size:
            phb.inbound.entries[window] = None
            if phb.model.slice_shift is not None:
                phb.inbound.slices[window] = phb.model.reserved
            return api.OPAL_SUCCESS
        shift = page_size.bit_length() - 1
        if (
            not 1 <= levels <= MOST_LEVELS
            or table_size & table_size - 1
            or not _LEAST_TABLE <= table_size <= 1 << _MOST_TABLE_BITS
            or page_size != 1 << shift
            or shift not in phb.model.page_shifts
        ):
            return api.OPAL_PARAMETER
        phb.inbound.entries[window] = TableEntry(table & ~_GRANULE_MASK, levels, table_size, shift)
        if phb.model.slice_shift is not None:
            phb.inbound.slices[window] = endpoint
        return api.OPAL_SUCCESS

    def pci_map_pe_dma_window_real(self, phb_id: int, endpoint: int, window: int, start: int, size: int) -> int:
        """``opal_pci_map_pe_dma_window_real``: a window whose addresses are real ones; `size` 0 for none."""
        phb = self._dma_window(phb_id, endpoint, window)
        if phb is None:
            return api.OPAL_PARAMETER
        if phb.model.slice_shift is not None:
            return api.OPAL_UNSUPPORTED
        if not size:
            phb.inbound.entries[window] = None
            return api.OPAL_SUCCESS
        first = start & (1 << _WINDOW_SHIFT) - 1
        misplaced = start >> _WINDOW_SHIFT != window & 1 or (first | size) & _BYPASS_GRANULE_MASK
        if misplaced or first + size > _BYPASS_END:
            return api.OPAL_PARAMETER
        phb.inbound.entries[window] = BypassEntry(first, first + size)
        return api.OPAL_SUCCESS

    def pci_tce_kill(self, phb_id: int, kind: int, endpoint: int, page_size: int, address: int, count: int) -> int:
        """``opal_pci_tce_kill``: have the bridge read TCEs again, of pages, of an endpoint, or all."""
        phb = self._phb(phb_id)
        if phb is None or kind not in {one.value for one in OpalTceKill}:
            return api.OPAL_PARAMETER
        if kind == OpalTceKill.ALL:
            phb.inbound.forget()
            return api.OPAL_SUCCESS
        slices = phb.inbound.slices
        owned = [window for window, owner in enumerate(slices) if owner == endpoint]
        windows = owned if slices else [2 * endpoint, 2 * endpoint + 1]
        if kind == OpalTceKill.PE:
            for window in windows:
                phb.inbound.forget(window)
            return api.OPAL_SUCCESS
        shift = page_size.bit_length() - 1
        if shift not in phb.model.page_shifts or address & page_size - 1 or address >> _KILL_ADDRESS_BITS:
            return api.OPAL_PARAMETER
        bits = phb.model.slice_shift or _WINDOW_SHIFT
        window = address >> bits if slices else 2 * endpoint + (address >> bits)
        phb.inbound.forget(window, (address & (1 << bits) - 1) >> shift, count)
        return api.OPAL_SUCCESS

    # interrupts

    def pci_set_xive_pe(self, phb_id: int, endpoint: int, interrupt: int) -> int:
        """``opal_pci_set_xive_pe``: take a message interrupt from an endpoint only."""
        phb = self._phb(phb_id, endpoint)
        if phb is None or not 0 <= interrupt < phb.model.messages:
            return api.OPAL_PARAMETER
        phb.inbound.owners[interrupt] = endpoint
        return api.OPAL_SUCCESS

    def get_msi_32(self, phb_id: int, endpoint: int, interrupt: int, range_: int = 1) -> tuple[int, int, int]:
        """``opal_get_msi_32``: code, address and data."""
        phb = self._phb(phb_id, endpoint)
        if phb is None or not 0 <= interrupt < phb.model.messages or range_ != 1:
            return api.OPAL_PARAMETER, 0, 0
        return (api.OPAL_SUCCESS, *message_32(interrupt))

    def get_msi_64(self, phb_id: int, endpoint: int, interrupt: int, range_: int = 1) -> tuple[int, int, int]:
        """``opal_get_msi_64``: code, address and data."""
        phb = self._phb(phb_id, endpoint)
        if phb is None or not 0 <= interrupt < phb.model.messages or range_ != 1:
            return api.OPAL_PARAMETER, 0, 0
        return (api.OPAL_SUCCESS, *message_64(interrupt))
