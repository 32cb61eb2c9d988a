"""Slots in sysfs: names, files and events that all hotplug drivers share (``drivers/pci``: `slot.c`, and
``hotplug/pci_hotplug_core.c``, 6.12).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci import PciBus
    from pyvfio_backends.software.linux.pci_host import HotplugSlot

__all__ = ["add_slot", "remove_slot", "simple_byte"]

_DIGITS = re.compile(rb"[0-9]+")
_BYTE = 0xFF


def simple_byte(data: bytes) -> int:
    """The digits that a write begins with, 0 without any, as one byte (``simple_strtoul``, and a ``u8``)."""
    match = _DIGITS.match(data)
    return int(match[0]) & _BYTE if match is not None else 0


def add_slot(bus: PciBus, name: str, slot: HotplugSlot, *, quiet: bool) -> str:
    """Add a slot and tell, unless `quiet`; the name that it got, which has a number after it where it was taken."""
    found, number = name, 0
    while found in bus.slots:
        number += 1
        found = f"{name}-{number}"
    bus.slots[found] = slot
    if not quiet:
        bus.kernel.uevents.send("add", f"/bus/pci/slots/{found}", [("SUBSYSTEM", "slots")])
    return found


def remove_slot(bus: PciBus, name: str) -> None:
    """Take a slot away (``kobject_put`` tells of it)."""
    del bus.slots[name]
    bus.kernel.vfs.forget(f"/sys/bus/pci/slots/{name}")
    bus.kernel.uevents.send("remove", f"/bus/pci/slots/{name}", [("SUBSYSTEM", "slots")])
