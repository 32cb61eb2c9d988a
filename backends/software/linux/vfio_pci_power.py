"""Power of a function that a program has open (``vfio_pci_core.c``, 6.12).

`OpenPower` are the states that the program asks for in configuration space; `LowPower` is the promise to leave the
function alone for a while, so that it may sleep::

    ENTRY              nobody uses it any more: it sleeps
    any access, ioctl  wakes it for as long as it takes; with a wake-up eventfd that is told, and low power is over
    EXIT               low power is over
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_feature
from pyvfio.process import EventFdReference
from pyvfio_backends.software.linux.pci_power import D0, D3HOT, is_low
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfio_core import FEATURE_DATA, check_feature
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import SavedState
    from pyvfio_backends.software.linux.vfio_pci import VfioPciDevice
    from pyvfio_backends.software.linux.vfio_pci_physical import PhysicalFunction

__all__ = ["LowPower", "OpenPower"]

_WAKEUP = struct.Struct("=iI")


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


class LowPower:
    """Whether the program of `vdev` has promised to leave the function alone (`engaged`)."""

    def __init__(self, vdev: VfioPciDevice) -> None:
        self._vdev = vdev
        self.engaged = False
        self._wakeup: EventFdReference | None = None
        self._masked = False

    def feature(self, flags: int, argument: Argument, size: int) -> None:
        """VFIO_DEVICE_FEATURE_LOW_POWER_*, while the function is kept awake.  Raise OSError ENOTTY for any other.

        EINVAL for a second entry and for what is no eventfd, EBADF.
        """
        number = flags & abi.VFIO_DEVICE_FEATURE_MASK
        supported = abi.VFIO_DEVICE_FEATURE_SET
        if number == vfio_feature.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY:
            if check_feature(flags, size, supported, 0):
                self._enter(None)
        elif number == vfio_feature.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP:
            if check_feature(flags, size, supported, _WAKEUP.size):
                descriptor, _ = _WAKEUP.unpack(argument.read(FEATURE_DATA, _WAKEUP.size))
                if descriptor < 0:
                    raise fail(errno.EINVAL)
                self._enter(EventFdReference(descriptor))
        elif number == vfio_feature.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT:
            if check_feature(flags, size, supported, 0):
                self.leave()
                self._vdev.dma_bufs.move(False)
        else:
            raise fail(errno.ENOTTY)

    def _enter(self, wakeup: EventFdReference | None) -> None:
        self._vdev.dma_bufs.move(True)
        if self.engaged:
            if wakeup is not None:
                wakeup.close()
            raise fail(errno.EINVAL)
        self.engaged = True
        self._wakeup = wakeup
        self._vdev.pdev.runtime.users -= 1  # the request itself still is one

    def leave(self) -> None:
        """Take the promise back; the function is in use again."""
        if not self.engaged:
            return
        self.engaged = False
        self._vdev.pdev.runtime.users += 1
        if self._wakeup is not None:
            self._wakeup.close()
            self._wakeup = None

    def suspend(self) -> None:
        """The function goes to sleep: from D0, where it comes back to, with its interrupt pin masked meanwhile."""
        vdev = self._vdev
        vdev.set_power_state(D0)
        intx = vdev.interrupts.intx if vdev.open_count else None
        self._masked = intx is not None and not intx.masked
        if intx is not None:
            intx.mask()

    def resume(self) -> None:
        """The function is awake."""
        if self._wakeup is not None:
            self._wakeup.signal()
            self.leave()
        if self._masked:
            self._masked = False
            intx = self._vdev.interrupts.intx
            if intx is not None:
                intx.unmask()
