"""The interrupts of vfio-pci: MSI-X vectors, the request and the error interrupt.

The model is ``drivers/vfio/pci/vfio_pci_intrs.c`` (6.12) on s390, where no function has INTx and a
table of MSI-X vectors cannot grow while it is in use.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.errors import NotModelled
from pyvfio.process import EventFdReference
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfio_irqs import IrqRequest, read_irq_set
from pyvfio_backends.software.linux.vfio_pci_msi import message_count
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice
    from pyvfio_backends.software.linux.vfio_pci_config import VirtualConfig

__all__ = ["Interrupts"]

_NONE = abi.VFIO_IRQ_SET_DATA_NONE
_BOOL = abi.VFIO_IRQ_SET_DATA_BOOL
_EVENTFD = abi.VFIO_IRQ_SET_DATA_EVENTFD


class Interrupts:
    """The eventfds of an open device: `triggers` by vector, `request` and `error`.

    `pci_2_3` says that the device can mask INTx in its command register.
    """

    def __init__(self, device: PciDevice, *, pci_2_3: bool) -> None:
        self.device = device
        self.pci_2_3 = pci_2_3
        self.msix_on = False
        self.triggers: dict[int, EventFdReference] = {}
        self.request: EventFdReference | None = None
        self.error: EventFdReference | None = None

    def count(self, index: int, config: VirtualConfig) -> int:
        """How many interrupts of a kind the device has."""
        if index == abi.VFIO_PCI_INTX_IRQ_INDEX:
            return int(config.interrupt_pin != 0)
        if index == abi.VFIO_PCI_MSIX_IRQ_INDEX:
            return self.device.msi.table_size
        if index == abi.VFIO_PCI_MSI_IRQ_INDEX:
            return message_count(self.device)
        if index == abi.VFIO_PCI_ERR_IRQ_INDEX:
            return int(self.has_error)
        return int(index == abi.VFIO_PCI_REQ_IRQ_INDEX)

    @property
    def has_error(self) -> bool:
        """Whether there is an error interrupt: only PCI Express devices have one."""
        return bool(self.device.find_capability(regs.PCI_CAP_ID_EXP))

    # INTx does not exist, but its bit in the command register follows the program's

    def mask_intx(self) -> None:
        """The program disabled INTx."""
        if self.pci_2_3:
            self.device.set_intx(False)

    def unmask_intx(self) -> None:
        """The program enabled INTx."""
        if self.pci_2_3:
            self.device.set_intx(True)

    # VFIO_DEVICE_SET_IRQS

    def set(self, argument: Argument, config: VirtualConfig) -> int:
        """Answer the request.  Raise OSError."""
        request = read_irq_set(argument, abi.VFIO_PCI_NUM_IRQS, lambda index: self.count(index, config))
        if request.action != abi.VFIO_IRQ_SET_ACTION_TRIGGER:
            if request.index == abi.VFIO_PCI_INTX_IRQ_INDEX and request.action in (
                abi.VFIO_IRQ_SET_ACTION_MASK,
                abi.VFIO_IRQ_SET_ACTION_UNMASK,
            ):
                raise fail(errno.EINVAL)
            raise fail(errno.ENOTTY)
        if request.index == abi.VFIO_PCI_REQ_IRQ_INDEX:
            self.request = self._single(request, self.request)
        elif request.index == abi.VFIO_PCI_ERR_IRQ_INDEX:
            if not self.has_error:
                raise fail(errno.ENOTTY)
            self.error = self._single(request, self.error)
        elif request.index == abi.VFIO_PCI_MSIX_IRQ_INDEX:
            self._msix(request)
        elif request.index == abi.VFIO_PCI_MSI_IRQ_INDEX:
            if request.data == _EVENTFD:
                # No device with MSI has a behaviour here, so none would ever interrupt.
                raise NotModelled("MSI of PCI functions", self.device.name)
            raise fail(errno.EINVAL)  # nothing is on
        else:
            raise fail(errno.EINVAL)
        return 0

    def _single(self, request: IrqRequest, now: EventFdReference | None) -> EventFdReference | None:
        """Set, clear or test an interrupt that is only an eventfd; the eventfd afterwards."""
        if request.start or request.count > 1:
            raise fail(errno.EINVAL)
        if request.data == _NONE:
            if now is None:
                raise fail(errno.EINVAL)
            if request.count:
                now.signal()
                return now
            now.close()
            return None
        if not request.count:
            raise fail(errno.EINVAL)
        value = request.values[0]
        if request.data == _BOOL:
            if value and now is not None:
                now.signal()
            return now
        if value < -1:
            raise fail(errno.EINVAL)
        new = EventFdReference(value) if value >= 0 else None
        if now is not None:
            now.close()
        return new

    def _msix(self, request: IrqRequest) -> None:
        if self.msix_on and not request.count and request.data == _NONE:
            self.disable_msix()
            return
        if request.data == _EVENTFD:
            if self.msix_on:
                self._set_block(request.start, request.values)
                return
            with _MemoryDecoding(self.device):
                self.device.msi.allocate(1, request.start + request.count)
            self.msix_on = True
            try:
                self._set_block(request.start, request.values)
            except OSError:
                self.disable_msix()
                raise
            return
        if not self.msix_on:
            raise fail(errno.EINVAL)
        for place in range(request.count):
            trigger = self.triggers.get(request.start + place)
            if trigger is not None and (request.data == _NONE or request.values[place]):
                trigger.signal()

    def _set_block(self, start: int, descriptors: Sequence[int]) -> None:
        for place, descriptor in enumerate(descriptors):
            try:
                self._set_vector(start + place, descriptor)
            except OSError:
                for vector in range(start, start + place + 1):
                    self._drop_vector(vector)
                raise

    def _set_vector(self, vector: int, descriptor: int) -> None:
        self._drop_vector(vector)
        if descriptor < 0:
            return
        if vector not in self.device.msi.irqs:
            raise fail(errno.EINVAL)
        trigger = EventFdReference(descriptor)
        with _MemoryDecoding(self.device):
            self.device.msi.request(vector, trigger.signal, f"vfio-msix[{vector}]({self.device.name})")
        self.triggers[vector] = trigger

    def _drop_vector(self, vector: int) -> None:
        trigger = self.triggers.pop(vector, None)
        if trigger is not None:
            with _MemoryDecoding(self.device):
                self.device.msi.release(vector)
            trigger.close()

    def disable_msix(self) -> None:
        """Turn MSI-X off."""
        for vector in tuple(self.triggers):
            self._drop_vector(vector)
        with _MemoryDecoding(self.device):
            self.device.msi.free()
        self.msix_on = False

    def close(self) -> None:
        """The device is closed: no interrupt is left."""
        if self.msix_on:
            self.disable_msix()

    def close_channels(self) -> None:
        """Drop the error and the request eventfd."""
        for channel in (self.error, self.request):
            if channel is not None:
                channel.close()
        self.error = self.request = None


class _MemoryDecoding:
    """Memory decoding for a moment; afterwards the command register is as before, whatever happened to it inside
    (``vfio_pci_memory_lock_and_enable`` and ``_unlock_and_restore``).
    """

    def __init__(self, device: PciDevice) -> None:
        self._device = device
        self._command = 0

    def __enter__(self) -> None:
        self._command = self._device.command
        self._device.set_command(0, regs.PCI_COMMAND_MEMORY)

    def __exit__(self, *exc: object) -> None:
        self._device.write_config(regs.PCI_COMMAND, 2, self._command)
