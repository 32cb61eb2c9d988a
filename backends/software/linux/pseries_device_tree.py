"""What the device tree of a guest on POWER tells of the machine and its host bridges; `device_tree` has what is below.

Source: the tree of the POWER lab's pseries guest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from pyvfio_backends.software.hardware.spapr.dma import DEFAULT_SIZE
from pyvfio_backends.software.linux.device_tree import add_tree, cells, functions_below, text
from pyvfio_backends.software.linux.nodes import Node, StaticDirectory

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pseries_host import PseriesHostBridge

__all__ = ["MODEL", "add_device_tree", "name_functions"]

MODEL: Final = "IBM pSeries (emulated by qemu)"
"""What the hypervisor calls the machine."""
_CALLS: Final = (0x2026, 0x2027, 0x2028)
"""The tokens of the calls that query, create and remove DMA windows."""
_EXTENSIONS: Final = (2, 0x2029, 1)
"""How many follow; the token of the call that resets DMA windows; six answers of the query."""
_WORD: Final = 0xFFFFFFFF
_VIRTIO, _DISKS = 0x1AF4, (0x1001, 0x1042)
_INTEL, _ETHERNET = 0x8086, 0x0200


def name_functions(bridges: Iterable[PseriesHostBridge]) -> dict[str, str]:
    """The short names that firmware (SLOF) has for functions that it can boot from, each with its node's path.

    Disks are ``disk``, ``disk1``, ...; cards of Intel ``net0``, ...  Others, which firmware has drivers for, too, were
    in no recording, and have none here.
    """
    disks: list[str] = []
    cards: list[str] = []
    for bridge in bridges:
        for _, function in sorted(bridge.root.functions.items()):
            device = function.pdev
            if device is None:
                continue
            path = f"{bridge.of_path}/{bridge.node_name(function)}"
            if device.vendor == _VIRTIO and device.device_id in _DISKS:
                disks.append(path)
            elif device.vendor == _INTEL and device.class_code >> 8 == _ETHERNET:
                cards.append(path)
    return {
        **{f"disk{number or ''}": path for number, path in enumerate(disks)},
        **{f"net{number}": path for number, path in enumerate(cards)},
    }


def add_device_tree(kernel: Kernel, bridges: Iterable[PseriesHostBridge], aliases: Mapping[str, str]) -> None:
    """Have the tree of these bridges, with firmware's short names (`name_functions`)."""
    base: dict[str, Node] = {
        "aliases": StaticDirectory({"name": text("aliases"), **{name: text(path) for name, path in aliases.items()}}),
        "compatible": text("qemu,pseries"),
        "model": text(MODEL),
        "name": text(""),
    }
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
