"""What firmware's device tree tells of a machine of POWER and its PCI functions (``/proc/device-tree``).

The node of a function is called after its class, at its device number, and its function number if that is not 0; that
of a bridge, ``pci``.  Numbers in files are big-endian.  Of each node a few files are there.
Source: the trees of the POWER lab's guests; ``core/pci.c`` of skiboot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.nodes import Attribute, Node, StaticDirectory, Symlink
from pyvfio_backends.software.linux.of_node import BASE

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pcie_bus import PcieBus
    from pyvfio_backends.software.linux.pcie_function import PcieFunction

__all__ = ["add_tree", "cells", "functions_below", "node_name", "text"]

_BRIDGE: Final = 0x0604
OTHER: Final = "device"
"""What skiboot calls what has no name."""
_CLASSES: Final = {0x01: "mass-storage", 0x02: "network", 0x03: "display", 0x07: "communication-controller"}
"""By base class."""
_SUBCLASSES: Final = {0x0100: "scsi", 0x0200: "ethernet", 0x0300: "vga", 0x0C03: "usb"}
"""By base class and subclass, where that has a name of its own."""


def node_name(function: PcieFunction, other: str = OTHER) -> str:
    """The name of a function's node; `other`: of a class that has none."""
    device = function.pdev
    class_code = device.class_code if device is not None else 0
    if class_code >> 8 == _BRIDGE:
        kind = "pci"
    else:
        kind = _SUBCLASSES.get(class_code >> 8) or _CLASSES.get(class_code >> 16) or other
    number = function.devfn & 7
    return f"{kind}@{function.devfn >> 3:x}" + (f",{number:x}" if number else "")


def add_tree(kernel: Kernel, base: Mapping[str, Node]) -> None:
    """Have the tree, as it was at boot, in ``/sys/firmware`` and ``/proc``."""
    tree = StaticDirectory({"devicetree": StaticDirectory({"base": StaticDirectory(dict(base))})})
    kernel.sys.entries["firmware"] = lambda: tree
    kernel.proc.add("device-tree", Symlink(f"/sys{BASE}"))


def functions_below(bus: PcieBus, named: Callable[[PcieFunction], str] = node_name) -> dict[str, Node]:
    """The nodes of what is on a bus, each called as `named` says."""
    found: dict[str, Node] = {}
    for function in bus.functions.values():
        device = function.pdev
        if device is None:
            continue
        pin = function.config_read(regs.PCI_INTERRUPT_PIN, 1)
        name = named(function)
        found[name] = StaticDirectory(
            {
                "class-code": cells(device.class_code),
                "device-id": cells(device.device_id),
                "name": text(name.partition("@")[0]),
                "reg": cells(function.rid << 8, 0, 0, 0, 0),
                "revision-id": cells(device.revision),
                "vendor-id": cells(device.vendor),
                **({"interrupts": cells(pin)} if pin else {}),
                **(functions_below(function.subordinate, named) if function.subordinate is not None else {}),
            }
        )
    return found


def text(*words: str) -> Node:
    """A file of texts, each with a zero behind it."""
    return Attribute(lambda: "".join(f"{word}\0" for word in words))


def cells(*numbers: int) -> Node:
    """A file of 32-bit numbers."""
    return Attribute(lambda: b"".join(number.to_bytes(4, "big") for number in numbers))
