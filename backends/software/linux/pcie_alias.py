"""Which routing ids the requests of a PCI Express function can come with (``pci_for_each_dma_alias``, 6.12).

A bridge between PCI Express and conventional PCI passes requests on in its own name.  Source: ``drivers/pci/search.c``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.linux.pcieport import express_type

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pcie_function import PcieFunction

__all__ = ["Alias", "dma_aliases"]

Alias = tuple["PcieFunction", int]
"""A function, and a routing id that requests come with: its own, or one that it gives to those of others."""


def dma_aliases(function: PcieFunction) -> Iterator[Alias]:
    """All aliases, the function's own first and the one nearest to the root last."""
    yield function, function.rid
    bridge = function.on.above
    while bridge is not None:
        kind = express_type(bridge.pdev) if bridge.pdev is not None else None
        if kind == ExpressType.PCI_BRIDGE and bridge.subordinate is not None:
            yield bridge, bridge.subordinate.number << 8
        elif kind is None or kind == ExpressType.PCIE_BRIDGE:
            yield bridge, bridge.rid
        bridge = bridge.on.above
