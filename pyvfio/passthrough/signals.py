"""What the host's kernel tells of a device that a guest has, beside its interrupts: it wants it back, or it failed.

The request interrupt comes while somebody waits for the device (an unbind, a removal, deconfiguring at the host); the
error interrupt, which only PCI Express functions have (6.12), when the kernel has given the function up.

Source: ``drivers/vfio/pci/vfio_pci_core.c`` (``vfio_pci_core_request``, ``vfio_pci_core_aer_err_detected``);
``arch/s390/pci/pci_event.c`` (after which events of the machine).
"""

from __future__ import annotations

import errno
from typing import NamedTuple

from pyvfio.abi.vfio import PciIrq
from pyvfio.errors import PyvfioError
from pyvfio.vfio.device import Device
from pyvfio.vfio.irq import Irq

__all__ = ["HostNews", "HostSignals"]


class HostNews(NamedTuple):
    """What came since the last look."""

    asked: bool = False
    failed: bool = False


class HostSignals:
    """The request and the error interrupt of the open PCI `device`; they are disabled when it is closed.

    A request interrupt that somebody else watches (``open_device(let_go=True)``) is left to him.
    """

    def __init__(self, device: Device) -> None:
        self._request = _enabled(device.request)
        self._error = _enabled(_error_of(device))

    def filenos(self) -> list[int]:
        """The descriptors that can be read when something came."""
        return [event.fileno() for irq in (self._request, self._error) if irq is not None for event in irq.eventfds]

    def take(self) -> HostNews:
        """What came; never waits."""
        return HostNews(_came(self._request), _came(self._error))


def _error_of(device: Device) -> Irq | None:
    try:
        return device.irq(PciIrq.ERR)
    except PyvfioError as error:
        if error.errno != errno.EINVAL:
            raise
        return None


def _enabled(irq: Irq | None) -> Irq | None:
    if irq is None or not irq.count or irq.enabled:
        return None
    irq.enable(1)
    return irq


def _came(irq: Irq | None) -> bool:
    return irq is not None and any(event.read() for event in irq.eventfds)
