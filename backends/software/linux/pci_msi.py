"""Interrupt numbers, MSI and MSI-X as the kernel sets them up (``drivers/pci/msi``); a `MsiDomain` has the rest.

One of the two is on at a time.  A vector is masked, where the device can do that, until somebody asks for it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from pyvfio.abi import pci_regs as regs
from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux.ida import Ida
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.subsystems import Key
from pyvfio_backends.software.linux.vfs import Attribute, Directory, StaticDirectory, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.interrupts import InterruptLine
    from pyvfio_backends.software.linux.msi_domain import MsiDomain
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["PciMsi", "interrupt_numbers"]

_ENTRY = regs.PCI_MSIX_ENTRY_SIZE
_NUMBERS: Final[Key[Ida]] = Key("irq")
_UNMASKED, _MASKED = 0, regs.PCI_MSIX_ENTRY_CTRL_MASKBIT
_COUNT_SHIFT, _MOST_SHIFT = 4, 1


def interrupt_numbers(kernel: Kernel) -> Ida:
    """Linux's interrupt numbers, made when they are first asked for."""
    return kernel.subsystems.get_or_make(_NUMBERS, lambda: Ida(kernel.interrupts.first))


def _nothing() -> None:
    """What a driver of this kernel does, which makes no requests."""


class PciMsi:
    """The message-signalled interrupts of a device: `irqs` are their Linux numbers by vector, empty while none is on.

    `is_msix` says which of the two is on; `listed` whether ``msi_irqs`` is there: from the first use until the driver
    leaves.
    """

    def __init__(self, device: PciDevice) -> None:
        self.device = device
        self.irqs: dict[int, int] = {}
        self.is_msix = False
        self.listed = False
        self._handlers: dict[int, Callable[[], None]] = {}
        self._lines: dict[int, InterruptLine] = {}
        self._targets: dict[int, int] = {}

    @property
    def capability(self) -> int:
        """Where the MSI-X capability is, 0 when there is none."""
        return self.device.find_capability(regs.PCI_CAP_ID_MSIX)

    @property
    def plain_capability(self) -> int:
        """Where the MSI capability is, 0 when there is none."""
        return self.device.find_capability(regs.PCI_CAP_ID_MSI)

    @property
    def message_count(self) -> int:
        """The messages that the device's MSI has, 0 without the capability (``pci_msi_vec_count``)."""
        at = self.plain_capability
        if not at:
            return 0
        flags = self.device.read_config(at + regs.PCI_MSI_FLAGS, 2)
        return 1 << ((flags & regs.PCI_MSI_FLAGS_QMASK) >> _MOST_SHIFT)

    @property
    def table_size(self) -> int:
        """The vectors that the device's MSI-X has."""
        at = self.capability
        return (self._flags & regs.PCI_MSIX_FLAGS_QSIZE) + 1 if at else 0

    @property
    def table(self) -> tuple[int, int]:
        """BAR and offset of the table."""
        value = self.device.read_config(self.capability + regs.PCI_MSIX_TABLE, 4)
        return value & regs.PCI_MSIX_TABLE_BIR, value & regs.PCI_MSIX_TABLE_OFFSET

    @property
    def _flags(self) -> int:
        return self.device.read_config(self.capability + regs.PCI_MSIX_FLAGS, 2)

    def _set_flags(self, clear: int, set_: int) -> None:
        self.device.write_config(self.capability + regs.PCI_MSIX_FLAGS, 2, self._flags & ~clear | set_)

    @property
    def vectors(self) -> int:
        """How many vectors are allocated."""
        return len(self.irqs)

    @property
    def block(self) -> int:
        """How many messages MSI has to be switched on with: a power of two."""
        return 1 << max(len(self.irqs) - 1, 0).bit_length()

    @property
    def can_grow(self) -> bool:
        """Whether vectors of MSI-X can be added while it is on (``pci_msix_can_alloc_dyn``)."""
        return bool(self.capability) and self._domain.dynamic

    def allocate(self, minimum: int, maximum: int, names: Sequence[str] = (), *, msix: bool = True) -> int:
        """Turn MSI-X, or MSI, on with `maximum` vectors, and tell how many there are (``pci_alloc_irq_vectors``).

        `names` are the handlers' that follow.  Raise OSError ERANGE, EINVAL (on already, or not permitted by
        ``msi_bus``), ENOSPC (more than the table has), EIO (the machine does not take the registration).
        """
        if maximum < minimum:
            raise fail(errno.ERANGE)
        if self.irqs or self.device.no_msi:
            raise fail(errno.EINVAL)
        domain = self._domain
        if msix and (not self.capability or maximum > min(self.table_size, domain.limit(self))):
            raise fail(errno.ENOSPC)
        if not msix:
            if not self.message_count:
                raise fail(errno.ENOSPC)
            if not domain.plain:
                raise NotModelled("MSI of PCI functions", self.device.name)
            maximum = min(maximum, self.message_count if domain.several else 1)
            if maximum < minimum:
                raise fail(errno.ENOSPC)
        self.is_msix = msix
        numbers = interrupt_numbers(self.device.kernel)
        first = 0 if msix else numbers.take_block(maximum)
        for vector in range(maximum):
            self._add(vector, numbers.take() if msix else first + vector)
        for vector, name in zip(range(maximum), names, strict=False):
            self._lines[vector].name = name
            self._handlers[vector] = _nothing
        self.listed = True
        if msix:
            self._set_flags(0, regs.PCI_MSIX_FLAGS_MASKALL | regs.PCI_MSIX_FLAGS_ENABLE)
            self.device.set_intx(False)
        try:
            domain.set_up(self)
            for vector in self._handlers:
                domain.start(self, vector, self._targets[vector])
        except OSError:
            self._stop()
            raise
        if msix:
            self._write_entries()
        else:
            self._write_message()
            self.device.set_intx(False)
            self._switch(True)
        return maximum

    def allocate_at(self, vector: int) -> None:
        """Add a vector to MSI-X, which is on (``pci_msix_alloc_irq_at``).  Raise OSError."""
        if not self.irqs or not self.is_msix or not self.can_grow:
            raise fail(errno.ENOTSUP)
        if vector in self.irqs or vector >= self.table_size:
            raise fail(errno.EBUSY)
        self._add(vector, interrupt_numbers(self.device.kernel).take())
        self._domain.add(self, vector)
        self._write_entry(vector)

    def _add(self, vector: int, number: int) -> None:
        line = self.device.kernel.interrupts.add(number, self._domain.chip(self))
        line.source = self._domain.source(self, vector)
        if self._domain.movable:
            line.move = partial(self._move, vector)
        self.irqs[vector], self._lines[vector], self._targets[vector] = number, line, 0

    @property
    def _domain(self) -> MsiDomain:
        return self.device.sysdata.msi_domain

    # what the device is told

    def _write_entries(self) -> None:
        for vector in self.irqs:
            self._write_entry(vector)
        self._set_flags(regs.PCI_MSIX_FLAGS_MASKALL, 0)

    def _write_entry(self, vector: int) -> None:
        device = self.device
        bar, offset = self.table
        at = offset + vector * _ENTRY
        address, data = self._domain.compose(self, vector, self._targets[vector])
        device.store_bar(bar, at + regs.PCI_MSIX_ENTRY_LOWER_ADDR, 8, address)
        device.store_bar(bar, at + regs.PCI_MSIX_ENTRY_DATA, 4, data)
        masked = _UNMASKED if vector in self._handlers else _MASKED
        device.store_bar(bar, at + regs.PCI_MSIX_ENTRY_VECTOR_CTRL, 4, masked)

    def _write_message(self) -> None:
        """Address and data of MSI's first message, how many there are, and which are masked (``pci_write_msg_msi``)."""
        device, at = self.device, self.plain_capability
        address, data = self._domain.compose(self, 0, self._targets[0])
        flags = device.read_config(at + regs.PCI_MSI_FLAGS, 2)
        count = (self.block.bit_length() - 1) << _COUNT_SHIFT
        device.write_config(at + regs.PCI_MSI_FLAGS, 2, flags & ~regs.PCI_MSI_FLAGS_QSIZE | count)
        device.write_config(at + regs.PCI_MSI_ADDRESS_LO, 4, address & 0xFFFFFFFF)
        wide = flags & regs.PCI_MSI_FLAGS_64BIT
        if wide:
            device.write_config(at + regs.PCI_MSI_ADDRESS_HI, 4, address >> 32)
        device.write_config(at + (regs.PCI_MSI_DATA_64 if wide else regs.PCI_MSI_DATA_32), 2, data)
        if flags & regs.PCI_MSI_FLAGS_MASKBIT:
            masked = sum(1 << vector for vector in range(self.message_count) if vector not in self._handlers)
            place = regs.PCI_MSI_MASK_64 if wide else regs.PCI_MSI_MASK_32
            device.write_config(at + place, 4, masked)

    def _switch(self, on: bool) -> None:
        at, device = self.plain_capability + regs.PCI_MSI_FLAGS, self.device
        flags = device.read_config(at, 2) & ~regs.PCI_MSI_FLAGS_ENABLE
        device.write_config(at, 2, flags | (regs.PCI_MSI_FLAGS_ENABLE if on else 0))

    def _tell(self, vector: int) -> None:
        if self.is_msix:
            self._write_entry(vector)
        else:
            self._write_message()

    # handlers

    def request(self, vector: int, handler: Callable[[], None], name: str = "") -> None:
        """Have a vector handled (``request_irq``); `name` is the handler's in ``/proc/interrupts``.

        Raise OSError ENOSPC: the processor has no vector left.
        """
        self._domain.start(self, vector, self._targets[vector])
        self._handlers[vector] = handler
        self._lines[vector].name = name
        self._tell(vector)

    def release(self, vector: int) -> None:
        """Have it handled no more (``free_irq``)."""
        self._handlers.pop(vector, None)
        self._lines[vector].name = ""
        self._tell(vector)
        self._domain.stop(self, vector)

    def _move(self, vector: int, cpu: int) -> None:
        """Have a processor take a vector from now on (``msi_domain_set_affinity``)."""
        self._targets[vector] = cpu
        if vector in self._handlers:
            self._domain.start(self, vector, cpu)
        self._tell(vector)

    def deliver(self, vector: int, cpu: int) -> None:
        """An interrupt came (``generic_handle_irq``)."""
        line = self._lines.get(vector)
        if line is not None:
            line.counts[cpu] += 1
        handler = self._handlers.get(vector)
        if handler is not None:
            handler()

    # off, and on again

    def free(self) -> None:
        """Turn MSI-X or MSI off and give the numbers back (``pci_free_irq_vectors``)."""
        if not self.irqs:
            return
        self._domain.tear_down(self)
        self._stop()

    def _stop(self) -> None:
        self._handlers.clear()
        self._lines, self._targets = {}, {}
        if self.is_msix:
            self._set_flags(regs.PCI_MSIX_FLAGS_ENABLE, 0)
        else:
            self._switch(False)
        self.device.set_intx(True)
        kernel = self.device.kernel
        numbers = interrupt_numbers(kernel)
        for number in self.irqs.values():
            kernel.interrupts.remove(number)
            numbers.free(number)
        self.irqs = {}

    def restore(self) -> None:
        """After a reset: as it was before (``pci_restore_msi_state``)."""
        if not self.irqs:
            return
        self._domain.restore(self)
        self.device.set_intx(False)
        if self.is_msix:
            self._set_flags(0, regs.PCI_MSIX_FLAGS_MASKALL | regs.PCI_MSIX_FLAGS_ENABLE)
            self._write_entries()
        else:
            self._switch(False)
            self._write_message()
            self._switch(True)

    def driver_left(self) -> None:
        """The driver is gone, and with it ``msi_irqs`` (device-managed)."""
        self.free()
        self.listed = False

    @property
    def first_message(self) -> int:
        """Linux's number of MSI's first message, which the device then goes by; 0 while MSI is off."""
        return 0 if self.is_msix else self.irqs.get(0, 0)

    def directory(self) -> Directory:
        """``msi_irqs``."""
        kind = "msix" if self.is_msix else "msi"
        return StaticDirectory({str(number): Attribute(lambda: f"{kind}\n") for number in self.irqs.values()})
