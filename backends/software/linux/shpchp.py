"""``shpchp``: the driver of the hot-plug controllers of bridges to conventional PCI (``drivers/pci/hotplug``, 6.12).

It shows their slots.  Unlike pcieport it lets nobody else own its group's DMA, so that a program cannot have what is
behind its bridge.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_regs as regs
from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pci_driver import ANY, PciDriver, PciId
from pyvfio_backends.software.linux.pci_host import HotplugSlot
from pyvfio_backends.software.linux.pci_hotplug import add_slot, remove_slot
from pyvfio_backends.software.linux.vfs import Attribute, Directory, StaticDirectory, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci import PciBus

__all__ = ["ShpcDriver"]

_BRIDGE_CLASS = 0x060400
_SELECT, _DATA = 2, 4
_CONFIG, _FIRST_SLOT = 3, 9  # registers by their numbers
_SLOTS, _DEVICE_SHIFT, _PHYSICAL_SHIFT, _UP_SHIFT = 0x1F, 8, 16, 29
_PHYSICAL = 0x7FF
_STATE, _ENABLED = 3, 2
_ATTENTION_SHIFT, _LATCH_SHIFT, _PRESENT_SHIFT = 4, 8, 10
_ATTENTION = {1: 1, 2: 2, 3: 0}
_SPEED = "33 MHz PCI"


class _Slot(HotplugSlot):
    """A slot of the controller of `device`: the one at device number `place` behind it."""

    def __init__(self, driver: ShpcDriver, device: PciDevice, number: int, place: int) -> None:
        self._driver, self._device, self._number, self._place = driver, device, number, place

    def _register(self) -> int:
        return self._driver.register(self._device, _FIRST_SLOT + self._number)

    def directory(self) -> Directory:
        """See `HotplugSlot.directory`."""
        device = self._device
        bus = device.read_config(bridge_regs.PCI_SECONDARY_BUS, 1)
        domain = device.name.partition(":")[0]
        return StaticDirectory(
            {
                "address": Attribute(lambda: f"{domain}:{bus:02x}:{self._place:02x}\n"),
                "max_bus_speed": Attribute(lambda: f"{_SPEED}\n"),
                "cur_bus_speed": Attribute(lambda: f"{_SPEED}\n"),
                "power": Attribute(lambda: f"{int(self._register() & _STATE == _ENABLED)}\n", self._refuse),
                "attention": Attribute(
                    lambda: f"{_ATTENTION.get(self._register() >> _ATTENTION_SHIFT & 3, 0xFF)}\n", self._refuse
                ),
                "latch": Attribute(lambda: f"{self._register() >> _LATCH_SHIFT & 1}\n"),
                "adapter": Attribute(lambda: f"{int(self._register() >> _PRESENT_SHIFT & 3 != 3)}\n"),
            }
        )

    def _refuse(self, data: bytes) -> None:
        raise NotModelled("power and indicators of the slots of a bridge to conventional PCI", self._device.name)


class ShpcDriver(PciDriver):
    """The driver; each controller has its slots."""

    table = (PciId(class_code=_BRIDGE_CLASS, class_mask=ANY),)

    def __init__(self, bus: PciBus) -> None:
        super().__init__(bus, "shpchp")
        self._pci = bus
        self._slots: dict[PciDevice, list[str]] = {}

    def probe(self, device: Device) -> None:
        """See `Driver.probe`.  Raise OSError ENODEV for a bridge without such a controller."""
        self._hold(device, quiet=False)

    def boot(self, devices: Sequence[PciDevice]) -> None:
        """Hold the bridges that have a controller and no driver, as after boot, without events."""
        for device in devices:
            if device.driver is None and device.class_code == _BRIDGE_CLASS and self._capability(device):
                device.driver = self
                self.devices[device.name] = device
                self._hold(device, quiet=True)

    @staticmethod
    def _capability(device: PciDevice) -> int:
        return device.find_capability(regs.PCI_CAP_ID_SHPC)

    def register(self, device: PciDevice, number: int) -> int:
        """A working register, by its number (``shpc_indirect_read``)."""
        at = self._capability(device)
        device.write_config(at + _SELECT, 1, number)
        return device.read_config(at + _DATA, 4)

    def _hold(self, device: Device, *, quiet: bool) -> None:
        if not isinstance(device, PciDevice) or not self._capability(device):
            raise fail(errno.ENODEV)
        config = self.register(device, _CONFIG)
        count, first = config & _SLOTS, config >> _DEVICE_SHIFT & _SLOTS
        physical, step = config >> _PHYSICAL_SHIFT & _PHYSICAL, 1 if config >> _UP_SHIFT & 1 else -1
        device.enable()
        device.msi.allocate(1, 1, ["shpchp"], msix=False)
        device.set_master(True)
        self._slots[device] = [
            add_slot(self._pci, str(physical + step * number), _Slot(self, device, number, first + number), quiet=quiet)
            for number in range(count)
        ]
        self.register(device, _FIRST_SLOT + count - 1)  # it has read them all, and this one last

    def remove(self, device: Device) -> None:
        """See `Driver.remove`."""
        if isinstance(device, PciDevice):
            for name in self._slots.pop(device, []):
                remove_slot(self._pci, name)
            device.msi.driver_left()
            device.disable()
