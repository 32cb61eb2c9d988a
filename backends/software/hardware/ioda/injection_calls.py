"""From what a caller of error injection gives to what the registers take: an address of the endpoint, and its mask.

An address that is not the endpoint's stands for none; then the first thing of the endpoint that the function can strike
is taken.  Where the endpoint has no such thing, it is a bad parameter, or not supported (a DMA window).
"""

from __future__ import annotations

from pyvfio.abi import opal as api
from pyvfio.abi.eeh import EehErrorFunction, EehErrorType
from pyvfio.ioda.routing import ROUTING_IDS
from pyvfio.ioda.tce import BypassEntry, TableEntry
from pyvfio.ioda.window import window_start
from pyvfio_backends.software.hardware.ioda.injection import FUNCTIONS, Injected, config_address
from pyvfio_backends.software.hardware.ioda.model import Injectable
from pyvfio_backends.software.hardware.ioda.phb import Phb

__all__ = ["prepare"]

_ALL = (1 << 64) - 1
_RID_SHIFT, _RID_MASK = 44, 0xFFFF
_RIDS_OF_DEVICE = 8


def prepare(phb: Phb, endpoint: int, type_: EehErrorType, function: EehErrorFunction, address: int, mask: int) -> int:
    """Arm an error; a return code of OPAL."""
    what = FUNCTIONS[function]
    if what.kind is Injectable.IO and not phb.model.has_io:
        return api.OPAL_PARAMETER
    if what.kind not in phb.model.injectable:
        return api.OPAL_UNSUPPORTED
    if what.kind is Injectable.CONFIG:
        place = _config(phb, endpoint, address)
    elif what.kind is Injectable.DMA:
        place = _dma(phb, endpoint, address, wide=type_ is EehErrorType.BITS_64)
    else:
        place = _memory(phb, endpoint, what.kind, address, wide=type_ is EehErrorType.BITS_64)
    if place is None:
        return api.OPAL_UNSUPPORTED if what.kind is Injectable.DMA else api.OPAL_PARAMETER
    chosen, own = place
    phb.inject(Injected(endpoint, what, chosen, mask if own is None else own))
    return api.OPAL_SUCCESS


def _config(phb: Phb, endpoint: int, address: int) -> tuple[int, int | None] | None:
    """The address and its mask, None for the caller's mask."""
    first = _first_rid(phb, endpoint)
    if first is None:
        return None
    bus = _is_bus(phb, endpoint, first)
    if phb.rids[address >> _RID_SHIFT & _RID_MASK] == endpoint:
        return address, None
    return config_address(first), config_address(0xFF00 if bus else _RID_MASK)


def _first_rid(phb: Phb, endpoint: int) -> int | None:
    return next((rid for rid in range(ROUTING_IDS) if phb.rids[rid] == endpoint), None)


def _is_bus(phb: Phb, endpoint: int, first: int) -> bool:
    """Whether an endpoint whose first routing id is this has more than one device."""
    return first + _RIDS_OF_DEVICE < ROUTING_IDS and phb.rids[first + _RIDS_OF_DEVICE] == endpoint


def _memory(phb: Phb, endpoint: int, kind: Injectable, address: int, *, wide: bool) -> tuple[int, int | None] | None:
    if kind is Injectable.IO:
        io = phb.windows.io
        owned = (
            []
            if io is None
            else [(io.first + index * io.size, io.size) for index, owner in enumerate(io.owners) if owner == endpoint]
        )
    else:
        first = _first_rid(phb, endpoint)
        bus = first is not None and _is_bus(phb, endpoint, first)
        owned = phb.windows.owned(endpoint, wide=wide, common=None if phb.model.segment_map else bus)
    return _chosen(owned, address)


def _dma(phb: Phb, endpoint: int, address: int, *, wide: bool) -> tuple[int, int | None] | None:
    slices = phb.inbound.slices
    owned: list[tuple[int, int]] = []
    if slices:
        shift = phb.model.slice_shift or 0
        owned = [(window << shift, 1 << shift) for window, owner in enumerate(slices) if owner == endpoint]
    else:
        entry = phb.inbound.entries[2 * endpoint + wide]
        start = window_start(int(wide))
        if isinstance(entry, TableEntry):
            owned = [(start, 1 << entry.address_bits)]
        elif isinstance(entry, BypassEntry):
            owned = [(start + entry.first, entry.end - entry.first)]
    return _chosen(owned, address)


def _chosen(owned: list[tuple[int, int]], address: int) -> tuple[int, int | None] | None:
    """The caller's address if it is in one of the ranges, else the first range, as far as a mask can say it."""
    if not owned:
        return None
    if address and any(first <= address < first + size for first, size in owned):
        return address, None
    first, size = owned[0]
    return first, ~(size & -size) + 1 & _ALL
