"""Interrupt numbers, and MSI-X as the kernel sets it up (``drivers/pci/msi``); a `MsiDomain` has the machine's part."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.ida import Ida
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.vfs import Attribute, Directory, StaticDirectory, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.interrupts import InterruptLine
    from pyvfio_backends.software.linux.pci_device import PciDevice
    from pyvfio_backends.software.linux.pci_host import MsiDomain

__all__ = ["PciMsi", "interrupt_numbers"]

_FIRST_FREE = 3  # 0 to 2 are external, I/O and adapter interrupts (arch/s390/include/asm/irq.h)
_ENTRY = regs.PCI_MSIX_ENTRY_SIZE
_CHIP = "PCI-MSI"
_UNMASKED, _MASKED = 0, regs.PCI_MSIX_ENTRY_CTRL_MASKBIT


def interrupt_numbers(kernel: Kernel) -> Ida:
    """Linux's interrupt numbers, made when they are first asked for."""
    numbers = kernel.subsystems.get("irq")
    if not isinstance(numbers, Ida):
        numbers = kernel.subsystems["irq"] = Ida(_FIRST_FREE)
    return numbers


def _nothing() -> None:
    """What a driver of this kernel does, which makes no requests."""


class PciMsi:
    """The message-signalled interrupts of a device: `irqs` are their Linux numbers, empty while MSI-X is off.

    `listed` is whether ``msi_irqs`` is there: from the first use until the driver leaves.
    """

    def __init__(self, device: PciDevice) -> None:
        self.device = device
        self.irqs: list[int] = []
        self.listed = False
        self._handlers: dict[int, Callable[[], None]] = {}
        self._lines: list[InterruptLine] = []
        self._targets: list[int] = []

    @property
    def capability(self) -> int:
        """Where the MSI-X capability is, 0 when there is none."""
        return self.device.find_capability(regs.PCI_CAP_ID_MSIX)

    @property
    def table_size(self) -> int:
        """The vectors that the device has."""
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
        """How many vectors are in use."""
        return len(self.irqs)

    def allocate(self, minimum: int, maximum: int, names: Sequence[str] = ()) -> None:
        """Turn MSI-X on with `maximum` vectors (``pci_alloc_irq_vectors``); `names` are the handlers' that follow.

        Raise OSError ERANGE, EINVAL (on already, or not permitted by ``msi_bus``), ENOSPC (more than the table has),
        EIO (the machine does not take the registration).
        """
        if maximum < minimum:
            raise fail(errno.ERANGE)
        if self.irqs or self.device.no_msi:
            raise fail(errno.EINVAL)
        if not self.capability or maximum > min(self.table_size, self._domain.limit(self)):
            raise fail(errno.ENOSPC)
        kernel = self.device.kernel
        numbers = interrupt_numbers(kernel)
        self.irqs = [numbers.take() for _ in range(maximum)]
        self._lines = [kernel.interrupts.add(number, _CHIP) for number in self.irqs]
        self._targets = [0] * maximum
        if self._domain.movable:
            for vector, line in enumerate(self._lines):
                line.move = partial(self._move, vector)
        for vector, (line, name) in enumerate(zip(self._lines, names, strict=False)):
            line.name = name
            self._handlers[vector] = _nothing
        self.listed = True
        self._set_flags(0, regs.PCI_MSIX_FLAGS_MASKALL | regs.PCI_MSIX_FLAGS_ENABLE)
        self.device.set_intx(False)
        try:
            self._domain.set_up(self)
        except OSError:
            self._stop()
            raise
        self._write_entries()

    @property
    def _domain(self) -> MsiDomain:
        return self.device.sysdata.msi_domain

    def _write_entries(self) -> None:
        for vector in range(len(self.irqs)):
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

    def request(self, vector: int, handler: Callable[[], None], name: str = "") -> None:
        """Have a vector handled (``request_irq``); `name` is the handler's in ``/proc/interrupts``."""
        self._handlers[vector] = handler
        self._lines[vector].name = name
        self._write_entry(vector)

    def release(self, vector: int) -> None:
        """Have it handled no more (``free_irq``)."""
        self._handlers.pop(vector, None)
        self._lines[vector].name = ""
        self._write_entry(vector)

    def _move(self, vector: int, cpu: int) -> None:
        """Have a processor take a vector from now on (``msi_domain_set_affinity``)."""
        self._targets[vector] = cpu
        self._write_entry(vector)

    def deliver(self, vector: int, cpu: int) -> None:
        """An interrupt came (``generic_handle_irq``)."""
        if vector < len(self._lines):
            self._lines[vector].counts[cpu] += 1
        handler = self._handlers.get(vector)
        if handler is not None:
            handler()

    def free(self) -> None:
        """Turn MSI-X off and give the numbers back (``pci_free_irq_vectors``)."""
        if not self.irqs:
            return
        self._domain.tear_down(self)
        self._stop()

    def _stop(self) -> None:
        self._handlers.clear()
        self._lines = []
        self._set_flags(regs.PCI_MSIX_FLAGS_ENABLE, 0)
        self.device.set_intx(True)
        kernel = self.device.kernel
        numbers = interrupt_numbers(kernel)
        for number in self.irqs:
            kernel.interrupts.remove(number)
            numbers.free(number)
        self.irqs = []

    def restore(self) -> None:
        """After a reset: as it was before (``pci_restore_msi_state``)."""
        if not self.irqs:
            return
        self._domain.restore(self)
        self._set_flags(0, regs.PCI_MSIX_FLAGS_MASKALL | regs.PCI_MSIX_FLAGS_ENABLE)
        self.device.set_intx(False)
        self._write_entries()

    def driver_left(self) -> None:
        """The driver is gone, and with it ``msi_irqs`` (device-managed)."""
        self.free()
        self.listed = False

    def directory(self) -> Directory:
        """``msi_irqs``."""
        return StaticDirectory({str(number): Attribute(lambda: "msix\n") for number in self.irqs})
