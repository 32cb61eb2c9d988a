"""The slot of a port in sysfs: ``/sys/bus/pci/slots/N`` (``pciehp_core.c``: `init_slot`, 6.12)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.abi import pci_express_regs as express
from pyvfio_backends.software.linux.pci_host import HotplugSlot
from pyvfio_backends.software.linux.pci_hotplug import simple_byte
from pyvfio_backends.software.linux.vfs import Attribute, Directory, Node, StaticDirectory, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pciehp import Controller

__all__ = ["PciehpSlot"]

_SHOWN = {
    express.PCI_EXP_SLTCTL_ATTN_IND_ON: 1,
    express.PCI_EXP_SLTCTL_ATTN_IND_BLINK: 2,
    express.PCI_EXP_SLTCTL_ATTN_IND_OFF: 0,
}
_UNKNOWN = 0xFF


class PciehpSlot(HotplugSlot):
    """The slot of a controller: ``attention`` is there with the indicator, ``latch`` with the sensor."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller

    def directory(self) -> Directory:
        """See `HotplugSlot.directory`."""
        controller, port = self.controller, self.controller.port
        bus = controller.below
        found: dict[str, Node] = {
            "address": Attribute(lambda: f"{bus.bridge.domain:04x}:{bus.number:02x}:00\n"),
            "max_bus_speed": Attribute(lambda: f"{port.most_speed}\n"),
            "cur_bus_speed": Attribute(lambda: f"{controller.speed}\n"),
            "power": Attribute(lambda: f"{int(port.powered)}\n", self._store_power),
            "adapter": Attribute(lambda: f"{int(port.occupied)}\n"),
        }
        if port.has(express.PCI_EXP_SLTCAP_AIP):
            found["attention"] = Attribute(self._show_attention, self._store_attention)
        if port.has(express.PCI_EXP_SLTCAP_MRLSP):
            found["latch"] = Attribute(lambda: f"{int(not port.latched)}\n")
        return StaticDirectory(found)

    def _store_power(self, data: bytes) -> None:
        power = simple_byte(data)
        if power == 0:
            self.controller.disable()
        elif power == 1:
            self.controller.enable()
        else:
            raise fail(errno.EINVAL)

    def _show_attention(self) -> str:
        return f"{_SHOWN.get(self.controller.port.control & express.PCI_EXP_SLTCTL_AIC, _UNKNOWN)}\n"

    def _store_attention(self, data: bytes) -> None:
        self.controller.set_attention(simple_byte(data))
