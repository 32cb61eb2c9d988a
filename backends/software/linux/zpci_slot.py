"""Slots of zPCI: ``/sys/bus/pci/slots/FID`` (``drivers/pci/hotplug``: `pci_hotplug_core.c`, `s390_pci_hpc.c`)."""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.pci_host import HotplugSlot
from pyvfio_backends.software.linux.vfs import Attribute, Directory, StaticDirectory, fail
from pyvfio_backends.software.linux.zpci_state import ZpciState

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.zpci import ZpciDev

__all__ = ["ZpciSlot"]

_DIGITS = re.compile(rb"[0-9]+")
_POWER_MASK = 0xFF


class ZpciSlot(HotplugSlot):
    """The slot of a function; it is there as long as the machine has the function."""

    def __init__(self, zdev: ZpciDev) -> None:
        self.zdev = zdev

    def uevent(self, action: str) -> None:
        """Send the event of the slot, which is a plain object of the set ``slots``."""
        self.zdev.bus.kernel.uevents.send(action, f"/bus/pci/slots/{self.zdev.fid:08x}", [("SUBSYSTEM", "slots")])

    def directory(self) -> Directory:
        """See `HotplugSlot.directory`."""
        zdev = self.zdev
        return StaticDirectory(
            {
                "adapter": Attribute(lambda: "1\n"),
                "address": Attribute(lambda: f"{zdev.bridge.domain:04x}:00:{zdev.devfn:02x}\n"),
                "cur_bus_speed": Attribute(lambda: "Unknown\n"),
                "max_bus_speed": Attribute(lambda: "Unknown\n"),
                "power": Attribute(lambda: f"{int(zdev.configured)}\n", self._store_power),
            }
        )

    def power_on(self) -> None:
        """Standby to configured, with its device.

        Raise OSError EIO in any other state and when the machine refuses, ENODEV when no device is found.
        """
        zdev = self.zdev
        with zdev.state_lock():
            if zdev.state is not ZpciState.STANDBY:
                raise fail(errno.EIO)
            zdev.configure()
            zdev.scan_configured()

    def power_off(self) -> None:
        """Configured to standby, without its device; may block.

        Raise OSError EIO in any other state and when the machine refuses, EBUSY while it has virtual functions.
        """
        zdev = self.zdev
        with zdev.state_lock():
            if not zdev.configured:
                raise fail(errno.EIO)
            if zdev.pdev is not None and zdev.pdev.sriov is not None and zdev.pdev.sriov.num_vfs:
                raise fail(errno.EBUSY)
            zdev.deconfigure()

    def _store_power(self, data: bytes) -> None:
        # simple_strtoul: the digits at the start, 0 without any
        match = _DIGITS.match(data)
        power = int(match[0]) & _POWER_MASK if match is not None else 0
        if power == 0:
            self.power_off()
        elif power == 1:
            self.power_on()
        else:
            raise fail(errno.EINVAL)
