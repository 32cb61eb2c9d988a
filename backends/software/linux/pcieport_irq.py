"""The interrupts of a port, shared by its services (``drivers/pci/pcie/portdrv.c``: `pcie_init_service_irqs`, 6.12).

A service's message number is in the PCI Express capability (hot-plug and power management events) or in root error
status.  As many messages are allocated as the highest number needs, and services with one number share its handler.  A
port that has no messages, or is refused them, interrupts by its pin, whose line its services share with other devices.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.pcie_services import PortService

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.irq_line import IrqAction, IrqLine
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["Handler", "PortInterrupts"]

Handler = Callable[[], bool]
"""Takes an interrupt, and says whether it was its own."""

_MESSAGE_SHIFT, _ERROR_SHIFT, _NUMBER = 9, 27, 0x1F
_SLOT_SERVICES = (PortService.PME, PortService.HOTPLUG, PortService.BANDWIDTH)
"""What shares the message of the PCI Express capability."""
_ORDER = ("PCIe PME", "aerdrv", "pciehp", "pcie-dpc")
"""In which order Linux makes the services of a port (``PCIE_PORT_SERVICE_*_SHIFT``)."""


class PortInterrupts:
    """The messages of `device`, a port, or its pin; `there` is whether it has any way to interrupt."""

    def __init__(self, device: PciDevice) -> None:
        self.device = device
        self.there = False
        self._handlers: dict[int, list[tuple[str, Handler]]] = {}
        self._line: IrqLine | None = None
        self._actions: dict[Handler, IrqAction] = {}

    @property
    def slot_message(self) -> int:
        """The number of the message of hot-plug and power management events."""
        flags = self.device.read_config(self.device.express + regs.PCI_EXP_FLAGS, 2)
        return flags >> _MESSAGE_SHIFT & _NUMBER

    @property
    def error_message(self) -> int:
        """The number of the message of errors."""
        at = self.device.find_extended_capability(extended.PCI_EXT_CAP_ID_ERR)
        return self.device.read_config(at + extended.PCI_ERR_ROOT_STATUS, 4) >> _ERROR_SHIFT if at else 0

    @property
    def containment_message(self) -> int:
        """The number of the message of downstream port containment."""
        at = self.device.find_extended_capability(extended.PCI_EXT_CAP_ID_DPC)
        return self.device.read_config(at + extended.PCI_EXP_DPC_CAP, 2) & extended.PCI_EXP_DPC_IRQ if at else 0

    def number(self, message: int) -> int:
        """The Linux number of the interrupt that a message is, or of the pin."""
        return self._line.number if self._line is not None else self.device.msi.irqs.get(message, 0)

    def allocate(self, services: Collection[PortService]) -> None:
        """Turn messages on for `services`: MSI-X, or MSI; without them let the pin interrupt, if it leads anywhere.

        There are as many messages as the last one that a service has needs (``pcie_message_numbers``).
        """
        msi = self.device.msi
        numbers = [self.slot_message] if any(one in _SLOT_SERVICES for one in services) else []
        numbers += [self.error_message] if PortService.AER in services else []
        numbers += [self.containment_message] if PortService.DPC in services else []
        needed = max(numbers, default=0) + 1
        for msix, most in ((True, msi.table_size), (False, msi.message_count)):
            if not most:
                continue
            try:
                got = msi.allocate(1, min(needed, most), msix=msix)
            except OSError:
                continue
            self.there = got >= needed
            if self.there:
                return
            msi.free()
        self._line = self.device.sysdata.irq_line()
        if self._line is not None:
            self.device.set_intx(True)
            self.there = True

    def request(self, message: int, handler: Handler, name: str) -> None:
        """Have a message handled, or the pin, besides those who have it already; `name` is in ``/proc/interrupts``.

        Raise OSError ENOSPC (no vector is left), EBUSY (somebody does not want to share the line).
        """
        if self._line is not None:
            self._actions[handler] = self._line.request(handler, name)
            return
        sharing = [*self._handlers.get(message, ()), (name, handler)]
        sharing.sort(key=lambda one: _ORDER.index(one[0]) if one[0] in _ORDER else len(_ORDER))
        self._handle(message, sharing)

    def release(self, handler: Handler) -> None:
        """Have what was asked for with `handler` handled no more (``free_irq``); others who share it stay."""
        if self._line is not None:
            self._line.free(self._actions.pop(handler))
            return
        for message, sharing in self._handlers.items():
            left = [one for one in sharing if one[1] != handler]
            if len(left) < len(sharing):
                self._handle(message, left)
                return

    def _handle(self, message: int, sharing: list[tuple[str, Handler]]) -> None:
        """Have a message handled by these, in their order, or by nobody."""

        def handle() -> None:
            for _, one in sharing:
                one()

        if sharing:
            self.device.msi.request(message, handle, ", ".join(text for text, _ in sharing))
            self._handlers[message] = sharing
        else:
            self.device.msi.release(message)
            del self._handlers[message]

    def free(self) -> None:
        """Turn messages off, or handle the pin no more."""
        self._handlers.clear()
        if self._line is not None:
            for action in self._actions.values():
                self._line.free(action)
            self._actions.clear()
            self._line = None
        elif self.there:
            self.device.msi.free()
        self.there = False
