"""What firmware's device tree tells of PCI functions: names of their nodes, and links to them.

A node is called after the class of its function, at its device number, and its function number if that is not 0; a
bridge, ``pci``.  Source: ``core/pci.c`` of skiboot (``pci_add_one_device_node``, ``pci_class_name``).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from pyvfio_backends.software.linux.nodes import Node, Symlink

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pcie_function import PcieFunction

__all__ = ["BASE", "node_name", "of_link"]

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
