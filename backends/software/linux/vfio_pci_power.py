"""Power states of a function that a program has open (``vfio_pci_set_power_state``, 6.12)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.pci_power import D0, D3HOT, is_low

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import SavedState
    from pyvfio_backends.software.linux.vfio_pci_physical import PhysicalFunction

__all__ = ["OpenPower"]


class OpenPower:
    """Changes the state of `device`, and keeps what a function that resets itself on the way up would lose."""

    def __init__(self, device: PhysicalFunction) -> None:
        self._device = device
        self._saved: SavedState | None = None
        at = device.find_capability(regs.PCI_CAP_ID_PM)
        control = device.read_config(at + regs.PCI_PM_CTRL, 2) if at else regs.PCI_PM_CTRL_NO_SOFT_RESET
        self._loses = not control & regs.PCI_PM_CTRL_NO_SOFT_RESET

    def change(self, state: int) -> None:
        """Go to D0 to D3hot (0 to 3), as far as that goes.  A function whose virtual functions are on stays in D0."""
        device = self._device
        if state > D0 and device.has_virtual_functions:
            return
        low = is_low(device.power_state)
        saved = device.save_state() if self._loses and not low and state >= D3HOT else None
        if not device.set_power_state(state):
            return
        if saved is not None and is_low(device.power_state):
            self._saved = saved
        elif self._loses and low and state == D0 and self._saved is not None:
            device.restore_state(self._saved)
            self._saved = None
