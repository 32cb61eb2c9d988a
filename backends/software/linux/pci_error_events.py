"""The events that tell of the recovery of a function (``pci_uevent_ers()`` in ``drivers/pci/pci-driver.c``)."""

from __future__ import annotations

from typing import Final

from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pci_driver import Recovery

__all__ = ["tell_recovery"]

_BEGUN: Final = (("ERROR_EVENT", "BEGIN_RECOVERY"), ("DEVICE_ONLINE", "0"))
_DONE: Final = (("ERROR_EVENT", "SUCCESSFUL_RECOVERY"), ("DEVICE_ONLINE", "1"))
_FAILED: Final = (("ERROR_EVENT", "FAILED_RECOVERY"), ("DEVICE_ONLINE", "0"))
_EVENTS: Final = {
    Recovery.NONE: _BEGUN,
    Recovery.CAN_RECOVER: _BEGUN,
    Recovery.NEED_RESET: _BEGUN,
    Recovery.RECOVERED: _DONE,
    Recovery.DISCONNECT: _FAILED,
}


def tell_recovery(device: PciDevice, said: Recovery) -> None:
    """Send the event for what a driver said; none for a device without a driver that takes part."""
    if said in _EVENTS:
        device.uevent("change", list(_EVENTS[said]))
