"""What skiboot's device tree tells of the machine and its host bridges; `device_tree` has what is below them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from pyvfio_backends.software.linux.device_tree import add_tree, cells, functions_below, text
from pyvfio_backends.software.linux.nodes import Node, StaticDirectory

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pnv_host import PnvHostBridge

__all__ = ["MODEL", "add_device_tree"]

MODEL: Final = "IBM PowerNV (emulated by qemu)"
"""What the firmware calls the machine."""


def add_device_tree(kernel: Kernel, bridges: Iterable[PnvHostBridge]) -> None:
    """Have the tree of these bridges."""
    base: dict[str, Node] = {
        "compatible": text("qemu,powernv9", "ibm,powernv"),
        "model": text(MODEL),
        "name": text(""),
    }
    for bridge in bridges:
        model = bridge.phb.model
        name = bridge.of_path.removeprefix("/")
        base[name] = StaticDirectory(
            {
                "bus-range": cells(bridge.root.number, bridge.last),
                "compatible": text(*bridge.root_node().compatible),
                "device_type": text("pciex"),
                "ibm,opal-num-pes": cells(model.endpoints),
                "ibm,opal-phbid": cells(0, bridge.opal_id),
                "ibm,opal-reserved-pe": cells(model.reserved),
                "name": text("pciex"),
                "status": text("okay"),
                **functions_below(bridge.root),
            }
        )
    add_tree(kernel, base)
