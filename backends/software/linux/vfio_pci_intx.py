"""The interrupt pin of an open device (``drivers/vfio/pci/vfio_pci_intrs.c``, 6.12).

It is masked when it fires, until the program unmasks it.  A device that can is masked in its command register
(`pci_2_3`); the line of any other is, which it must have for itself then.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.process import EventFdReference
from pyvfio_backends.software.linux.vfs import fail
from pyvfio_backends.software.linux.virqfd import Watched, event_watch

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.irq_line import IrqAction, IrqLine
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["Intx"]


class Intx:
    """The pin in use, from the first eventfd on; `disabled` says that the program's own bit forbids it.

    Raise OSError ENODEV (no interrupt line), EBUSY (it cannot be shared).
    """

    def __init__(self, device: PciDevice, trigger: EventFdReference | None, *, pci_2_3: bool, disabled: bool) -> None:
        line = device.sysdata.irq_line()
        if line is None:
            raise fail(errno.ENODEV)
        self._device = device
        self._line: IrqLine = line
        self._pci_2_3 = pci_2_3
        self._unmask: Watched | None = None
        self.trigger = trigger
        self.disabled = disabled
        self.masked = disabled
        if pci_2_3:
            device.set_intx(not disabled)
        self._action: IrqAction | None = None
        name = f"vfio-intx({device.name})"
        self._action = line.request(self._handle, name, shared=pci_2_3, enabled=pci_2_3 or not disabled)

    def signal(self) -> None:
        """Tell the program."""
        if not self.disabled and self.trigger is not None:
            self.trigger.signal()

    def _handle(self) -> bool:
        if not self._pci_2_3:
            self._line.disable()
        elif self.masked or not self._device.check_and_set_intx_mask(True):
            return False
        self.masked = True
        self.signal()
        return True

    def mask(self) -> None:
        """Let nothing through."""
        if self.masked:
            return
        if self._pci_2_3:
            self._device.set_intx(False)
        else:
            self._line.disable()
        self.masked = True

    def unmask(self) -> None:
        """Let interrupts through again; one that is pending is told of at once, and the pin stays masked."""
        if not self.masked or self.disabled:
            return
        if not self._pci_2_3:
            self.masked = False
            self._line.enable()
        elif self._device.check_and_set_intx_mask(False):
            self.masked = False
        else:
            self.signal()

    def unmask_by(self, fd: int) -> None:
        """Unmask when this eventfd is signalled, -1: none.  Raise OSError EBUSY (there is one), EBADF, EINVAL."""
        if fd < 0:
            self._forget_unmask()
            return
        watch = event_watch(self._device.kernel)
        if self._unmask is not None:
            EventFdReference(fd).close()  # a bad one is found first
            raise fail(errno.EBUSY)
        self._unmask = watch.add(fd, self.unmask)

    def _forget_unmask(self) -> None:
        if self._unmask is not None:
            self._unmask.close()
            self._unmask = None

    def set_trigger(self, trigger: EventFdReference | None) -> None:
        """Tell another eventfd, or none."""
        old, self.trigger = self.trigger, trigger
        if old is not None:
            old.close()

    def close(self) -> None:
        """Use the pin no more."""
        self._forget_unmask()
        if self._action is not None:
            self._line.free(self._action)
            self._action = None
        self.set_trigger(None)
