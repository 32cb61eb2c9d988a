"""In whose name the requests of a PCI Express function can come (``pci_for_each_dma_alias``, 6.12).

A bridge between PCI Express and conventional PCI passes requests on in its own name, and some devices use the name of
another function (`dma_alias`).  Source: ``drivers/pci/search.c``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.linux.pci_quirks import dma_alias, is_express_bridge
from pyvfio_backends.software.linux.pcie_type import express_type

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pcie_function import PcieFunction

__all__ = ["Alias", "dma_aliases"]

Alias = tuple["PcieFunction", int]
"""A function, and a routing id that requests come with: its own, or one that it gives to those of others."""


def dma_aliases(function: PcieFunction) -> Iterator[Alias]:
    """All aliases, the function's own first and the one nearest to the root last."""
    yield function, function.rid
    other = dma_alias(function.pdev) if function.pdev is not None else None
    if other is not None:
        yield function, function.bus_number << 8 | other
    bridge = function.on.above
    while bridge is not None:
        alias = _alias_of(bridge)
        if alias is not None:
            yield bridge, alias
        bridge = bridge.on.above


def _alias_of(bridge: PcieFunction) -> int | None:
    """The routing id that a bridge gives to requests from behind; None for a port, which leaves theirs."""
    device = bridge.pdev
    if device is None:
        return None
    kind = express_type(device)
    above = bridge.on.above
    to_conventional = kind == ExpressType.PCI_BRIDGE or (
        kind is None and is_express_bridge(device, above.pdev if above is not None else None)
    )
    if to_conventional and bridge.subordinate is not None:
        return bridge.subordinate.number << 8
    return bridge.rid if kind is None or kind == ExpressType.PCIE_BRIDGE else None
