"""What firmware's device tree tells of the machine, its host bridges and PCI functions (``/proc/device-tree``).

The node of a function is called after its class, at its device number, and its function number if that is not 0; that
of a bridge, ``pci``.  Numbers in files are big-endian.  Of each node a few files are there.
Source: the tree of the POWER lab's guest; ``core/pci.c`` of skiboot.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.nodes import Attribute, Node, StaticDirectory, Symlink

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pcie_bus import PcieBus
    from pyvfio_backends.software.linux.pcie_function import PcieFunction
    from pyvfio_backends.software.linux.pnv_host import PnvHostBridge

__all__ = ["BASE", "MODEL", "add_device_tree", "node_name", "of_link"]

MODEL: Final = "IBM PowerNV (emulated by qemu)"
"""What the firmware calls the machine."""

BASE: Final = "/firmware/devicetree/base"
"""The root of the tree, below ``/sys``."""
_BRIDGE: Final = 0x0604
_OTHER: Final = "device"
_CLASSES: Final = {0x01: "mass-storage", 0x02: "network", 0x03: "display", 0x07: "communication-controller"}
"""By base class."""
_SUBCLASSES: Final = {0x0100: "scsi", 0x0200: "ethernet", 0x0300: "vga", 0x0C03: "usb"}
"""By base class and subclass, where that has a name of its own."""


def node_name(function: PcieFunction) -> str:
    """The name of a function's node."""
    device = function.pdev
    class_code = device.class_code if device is not None else 0
    if class_code >> 8 == _BRIDGE:
        kind = "pci"
    else:
        kind = _SUBCLASSES.get(class_code >> 8) or _CLASSES.get(class_code >> 16) or _OTHER
    number = function.devfn & 7
    return f"{kind}@{function.devfn >> 3:x}" + (f",{number:x}" if number else "")


def of_link(devpath: str, of_path: str) -> Node:
    """The link ``of_node`` of a device (``/devices/...``)."""
    return Symlink(os.path.relpath(BASE + of_path, devpath))


def add_device_tree(kernel: Kernel, bridges: Iterable[PnvHostBridge]) -> None:
    """Have the tree, as it was at boot, in ``/sys/firmware`` and ``/proc``."""
    base: dict[str, Node] = {
        "compatible": _text("qemu,powernv9", "ibm,powernv"),
        "model": _text(MODEL),
        "name": _text(""),
    }
    for bridge in bridges:
        model = bridge.phb.model
        name = bridge.of_path.removeprefix("/")
        base[name] = StaticDirectory(
            {
                "bus-range": _cells(bridge.root.number, bridge.last),
                "device_type": _text("pciex"),
                "ibm,opal-num-pes": _cells(model.endpoints),
                "ibm,opal-phbid": _cells(0, bridge.opal_id),
                "ibm,opal-reserved-pe": _cells(model.reserved),
                "name": _text("pciex"),
                "status": _text("okay"),
                **_below(bridge.root),
            }
        )
    tree = StaticDirectory({"devicetree": StaticDirectory({"base": StaticDirectory(base)})})
    kernel.sys.entries["firmware"] = lambda: tree
    kernel.proc.add("device-tree", Symlink(f"/sys{BASE}"))


def _below(bus: PcieBus) -> dict[str, Node]:
    """The nodes of what is on a bus."""
    found: dict[str, Node] = {}
    for function in bus.functions.values():
        device = function.pdev
        if device is None:
            continue
        pin = function.config_read(regs.PCI_INTERRUPT_PIN, 1)
        name = node_name(function)
        found[name] = StaticDirectory(
            {
                "class-code": _cells(device.class_code),
                "device-id": _cells(device.device_id),
                "name": _text(name.partition("@")[0]),
                "reg": _cells(function.rid << 8, 0, 0, 0, 0),
                "revision-id": _cells(device.revision),
                "vendor-id": _cells(device.vendor),
                **({"interrupts": _cells(pin)} if pin else {}),
                **(_below(function.subordinate) if function.subordinate is not None else {}),
            }
        )
    return found


def _text(*words: str) -> Node:
    return Attribute(lambda: "".join(f"{word}\0" for word in words))


def _cells(*numbers: int) -> Node:
    return Attribute(lambda: b"".join(number.to_bytes(4, "big") for number in numbers))
