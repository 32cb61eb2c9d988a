"""What the device tree of a guest on POWER tells of the machine and its host bridges; `device_tree` has what is below.

Source: the tree of the POWER lab's pseries guest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from pyvfio_backends.software.hardware.spapr.dma import DEFAULT_SIZE
from pyvfio_backends.software.linux.device_tree import add_tree, cells, functions_below, text
from pyvfio_backends.software.linux.nodes import Node, StaticDirectory

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pseries_host import PseriesHostBridge

__all__ = ["MODEL", "add_device_tree"]

MODEL: Final = "IBM pSeries (emulated by qemu)"
"""What the hypervisor calls the machine."""
_CALLS: Final = (0x2026, 0x2027, 0x2028)
"""The tokens of the calls that query, create and remove DMA windows."""
_EXTENSIONS: Final = (2, 0x2029, 1)
"""How many follow; the token of the call that resets DMA windows; six answers of the query."""
_WORD: Final = 0xFFFFFFFF


def add_device_tree(kernel: Kernel, bridges: Iterable[PseriesHostBridge]) -> None:
    """Have the tree of these bridges."""
    base: dict[str, Node] = {"compatible": text("qemu,pseries"), "model": text(MODEL), "name": text("")}
    for bridge in bridges:
        buid, liobn = bridge.phb.buid, bridge.phb.dma.tables[0].liobn
        base[bridge.of_path.removeprefix("/")] = StaticDirectory(
            {
                "bus-range": cells(bridge.root.number, bridge.last),
                "compatible": text(*bridge.root_node().compatible),
                "device_type": text(bridge.root_node().type),
                "ibm,ddw-applicable": cells(*_CALLS),
                "ibm,ddw-extensions": cells(*_EXTENSIONS),
                "ibm,dma-window": cells(liobn, 0, 0, 0, DEFAULT_SIZE),
                "name": text("pci"),
                "reg": cells(buid >> 32, buid & _WORD, 0, 0),
                **functions_below(bridge.root, bridge.node_name),
            }
        )
    add_tree(kernel, base)
