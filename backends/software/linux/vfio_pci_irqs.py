"""The interrupts of vfio-pci: pin, MSI and MSI-X, of which one kind is on at a time; request and error interrupt.

The model is ``drivers/vfio/pci/vfio_pci_intrs.c`` (6.12).
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.process import EventFdReference
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfio_irqs import IrqRequest, read_irq_set
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice
    from pyvfio_backends.software.linux.vfio_pci_config import VirtualConfig
    from pyvfio_backends.software.linux.vfio_pci_intx import Intx

__all__ = ["Interrupts", "MemoryDecoding"]

_NONE = abi.VFIO_IRQ_SET_DATA_NONE
_BOOL = abi.VFIO_IRQ_SET_DATA_BOOL
_EVENTFD = abi.VFIO_IRQ_SET_DATA_EVENTFD
_TRIGGER, _MASK, _UNMASK = (
    abi.VFIO_IRQ_SET_ACTION_TRIGGER,
    abi.VFIO_IRQ_SET_ACTION_MASK,
    abi.VFIO_IRQ_SET_ACTION_UNMASK,
)
_INTX, _MSI, _MSIX = abi.VFIO_PCI_INTX_IRQ_INDEX, abi.VFIO_PCI_MSI_IRQ_INDEX, abi.VFIO_PCI_MSIX_IRQ_INDEX


class Interrupts:
    """The eventfds of an open device: `triggers` by vector, `request` and `error`.

    `on` is the index of the kind that is on, `intx` the pin while that is it.  `pci_2_3` says that the device can mask
    INTx in its command register.
    """

    def __init__(self, device: PciDevice, *, pci_2_3: bool) -> None:
        self.device = device
        self.pci_2_3 = pci_2_3
        self.on: int | None = None
        self.intx: Intx | None = None
        self.triggers: dict[int, EventFdReference] = {}
        self.request: EventFdReference | None = None
        self.error: EventFdReference | None = None

    def count(self, index: int, config: VirtualConfig) -> int:
        """How many interrupts of a kind the device has."""
        if index == _INTX:
            return int(config.interrupt_pin != 0)
        if index == _MSIX:
            return self.device.msi.table_size
        if index == _MSI:
            return self.device.msi.message_count
        if index == abi.VFIO_PCI_ERR_IRQ_INDEX:
            return int(self.has_error)
        return int(index == abi.VFIO_PCI_REQ_IRQ_INDEX)

    @property
    def has_error(self) -> bool:
        """Whether there is an error interrupt: only PCI Express devices have one."""
        return bool(self.device.find_capability(regs.PCI_CAP_ID_EXP))

    # the program's bit in the command register; where the pin is not in use the device's follows it

    def mask_intx(self) -> None:
        """The program disabled INTx."""
        if self.intx is not None:
            self.intx.disabled = True
            self.intx.mask()
        elif self.pci_2_3:
            self.device.set_intx(False)

    def unmask_intx(self) -> None:
        """The program enabled INTx."""
        if self.intx is not None:
            self.intx.disabled = False
            self.intx.unmask()
        elif self.pci_2_3:
            self.device.set_intx(True)

    # VFIO_DEVICE_SET_IRQS

    def set(self, argument: Argument, config: VirtualConfig) -> int:
        """Answer the request: 0, or how many messages there were when there were fewer.  Raise OSError."""
        request = read_irq_set(argument, abi.VFIO_PCI_NUM_IRQS, lambda index: self.count(index, config))
        if request.index == _INTX:
            if request.action not in (_TRIGGER, _MASK, _UNMASK):
                raise fail(errno.ENOTTY)
            self._pin(request, config)
            return 0
        if request.action != _TRIGGER:
            raise fail(errno.ENOTTY)
        if request.index == abi.VFIO_PCI_REQ_IRQ_INDEX:
            self.request = self._single(request, self.request)
        elif request.index == abi.VFIO_PCI_ERR_IRQ_INDEX:
            if not self.has_error:
                raise fail(errno.ENOTTY)
            self.error = self._single(request, self.error)
        else:
            return self._messages(request, config)
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

    # the pin

    def _pin(self, request: IrqRequest, config: VirtualConfig) -> None:
        intx = self.intx
        if request.action == _TRIGGER:
            self._trigger_pin(request, config)
            return
        if intx is None or request.start or request.count != 1:
            raise fail(errno.EINVAL)
        if request.data == _EVENTFD:
            if request.action == _MASK:
                raise fail(errno.ENOTTY)
            intx.unmask_by(request.values[0])
        elif request.data == _NONE or request.values[0]:
            (intx.mask if request.action == _MASK else intx.unmask)()

    def _trigger_pin(self, request: IrqRequest, config: VirtualConfig) -> None:
        intx = self.intx
        if intx is not None and not request.count and request.data == _NONE:
            self._disable(config)
            return
        if self.on not in (None, _INTX) or request.start or request.count != 1:
            raise fail(errno.EINVAL)
        if request.data == _EVENTFD:
            fd = request.values[0]
            trigger = EventFdReference(fd) if fd >= 0 else None
            if intx is not None:
                intx.set_trigger(trigger)
                return
            from pyvfio_backends.software.linux.vfio_pci_intx import Intx  # most machines have no pins

            try:
                self.intx = Intx(self.device, trigger, pci_2_3=self.pci_2_3, disabled=config.intx_disabled)
            except OSError:
                if trigger is not None:
                    trigger.close()
                raise
            self.on = _INTX
        elif intx is None:
            raise fail(errno.EINVAL)
        elif request.data == _NONE or request.values[0]:
            intx.signal()

    # messages

    def _messages(self, request: IrqRequest, config: VirtualConfig) -> int:
        index = request.index
        if self.on == index and not request.count and request.data == _NONE:
            self._disable(config)
            return 0
        if self.on not in (None, index):
            raise fail(errno.EINVAL)
        if request.data == _EVENTFD:
            if self.on == index:
                self._set_block(request.start, request.values)
                return 0
            wanted = request.start + request.count
            with MemoryDecoding(self.device):
                given = self.device.msi.allocate(1, wanted, msix=index == _MSIX)
                if given < wanted:
                    self.device.msi.free()
                    return given
            self.on = index
            if index == _MSI:
                config.msi_on, config.msi_exponent = True, (2 * wanted - 1).bit_length() - 1
            try:
                self._set_block(request.start, request.values)
            except OSError:
                self._disable(config)
                raise
            return 0
        if self.on != index:
            raise fail(errno.EINVAL)
        for place in range(request.count):
            trigger = self.triggers.get(request.start + place)
            if trigger is not None and (request.data == _NONE or request.values[place]):
                trigger.signal()
        return 0

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
        msi = self.device.msi
        if vector not in msi.irqs:
            if self.on != _MSIX or not msi.can_grow:
                raise fail(errno.EINVAL)
            with MemoryDecoding(self.device):
                msi.allocate_at(vector)
        trigger = EventFdReference(descriptor)
        kind = "msix" if self.on == _MSIX else "msi"
        try:
            with MemoryDecoding(self.device):
                msi.request(vector, trigger.signal, f"vfio-{kind}[{vector}]({self.device.name})")
        except OSError:
            trigger.close()
            raise
        self.triggers[vector] = trigger

    def _drop_vector(self, vector: int) -> None:
        trigger = self.triggers.pop(vector, None)
        if trigger is not None:
            with MemoryDecoding(self.device):
                self.device.msi.release(vector)
            trigger.close()

    # off

    def _disable(self, config: VirtualConfig) -> None:
        """Turn off what is on."""
        if self.intx is not None:
            self.intx.close()
            self.intx = None
        elif self.on is not None:
            for vector in tuple(self.triggers):
                self._drop_vector(vector)
            with MemoryDecoding(self.device):
                self.device.msi.free()
            config.msi_on = False
        self.on = None

    def close(self, config: VirtualConfig) -> None:
        """The device is closed: no interrupt is left."""
        self._disable(config)

    def close_channels(self) -> None:
        """Drop the error and the request eventfd."""
        for channel in (self.error, self.request):
            if channel is not None:
                channel.close()
        self.error = self.request = None


class MemoryDecoding:
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
