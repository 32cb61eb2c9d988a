"""Interrupts of PCI functions, from the machine's bit vectors to handlers (``arch/s390/pci/pci_irq.c``).

::

    floating   function --> its vector, its summary bit --> one handler, on any processor, looks at both
    directed   function --> the vector of a processor   --> that processor's handler looks at it

Which of the two is decided at boot: directed where the machine has it, unless the kernel's command line says
``pci=force_floating``.  Both go through the instructions (MPCIFC, SIC) and storage.  What is set up at boot is told to
the machine when somebody could notice: most runs only look at a machine.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from pyvfio_backends.software.linux.msi_domain import MsiDomain
from pyvfio_backends.software.linux.vfs import fail
from pyvfio_backends.software.linux.zpci import to_zpci

if TYPE_CHECKING:
    from pyvfio.zpci.event import ErrorEvent
    from pyvfio.zpci.processor import Processor
    from pyvfio_backends.software.hardware.zpci.function import ZpciFunction
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pci_msi import PciMsi
    from pyvfio_backends.software.linux.zpci_irq_delivery import Delivery
    from pyvfio_backends.software.machine import Machine

__all__ = ["MakeProcessor", "PciInterrupts", "function_of", "machine_instructions"]

_TOD_PER_SECOND: Final = 4_096_000_000  # units of the time-of-day clock
MakeProcessor = Callable[[Callable[[int], None], Callable[[int, int], None]], "Processor"]
"""Gives the machine's PCI instructions, with what to call for a floating interruption (its subclass) and for a directed
one (processor, subclass)."""


def function_of(msi: PciMsi) -> ZpciFunction:
    """The hardware that has the interrupts."""
    return to_zpci(msi.device).function


class PciInterrupts(MsiDomain):
    """The interrupts of all functions; `directed` says in which form."""

    def __init__(self, kernel: Kernel, make_processor: MakeProcessor, *, directed: bool) -> None:
        self._kernel = kernel
        self._make_processor = make_processor
        self.directed = directed
        self.booting = True
        """Nobody could have noticed anything yet."""
        self._delivery: Delivery | None = None
        self._put_off: dict[PciMsi, None] = {}
        self.later: list[Callable[[], None]] = []
        """What else was put off while the machine booted."""
        self.handlers: dict[int, Callable[[int], None]] = {}
        """Who handles the adapter interruptions of other subclasses than PCI's (``register_adapter_interrupt``)."""

    def _make(self, floating: Callable[[int], None], directed: Callable[[int, int], None]) -> Processor:
        return self._make_processor(lambda isc: self.handlers.get(isc, floating)(isc), directed)

    @property
    def delivery(self) -> Delivery:
        """The vectors and handlers; what was put off is done first."""
        delivery = self._delivery
        if delivery is None:
            from pyvfio_backends.software.linux.zpci_irq_delivery import DirectedDelivery, FloatingDelivery

            kind = DirectedDelivery if self.directed else FloatingDelivery
            delivery = self._delivery = kind(self._kernel, self._make)
            for msi in self._put_off:
                delivery.set_up(msi)
            self._put_off.clear()
            later, self.later = self.later, []
            for work in later:
                work()
        return delivery

    @property
    def processor(self) -> Processor:
        """The machine's PCI instructions."""
        return self.delivery.processor

    @property
    def movable(self) -> bool:
        """See `MsiDomain.movable`."""
        return self.directed

    def limit(self, msi: PciMsi) -> int:
        """See `MsiDomain.limit`: what the function's group says."""
        return function_of(msi).group.max_interrupts

    def set_up(self, msi: PciMsi) -> None:
        """See `MsiDomain.set_up` (``arch_setup_msi_irqs``).  Raise OSError EIO when the machine refuses."""
        if not self.booting or self._delivery is not None:
            if not self.delivery.set_up(msi):
                raise fail(errno.EIO)
            return
        self._put_off[msi] = None
        function_of(msi).register_interrupts(lambda address, data: self._first(msi, address, data))

    def _first(self, msi: PciMsi, address: int, data: int) -> None:
        """The first message since the boot: whatever was put off is done now, and then it goes its way."""
        table = function_of(msi).msix
        if msi in self._put_off and self.delivery is not None and table is not None and table.send is not None:
            table.send(address, data)

    def restore(self, msi: PciMsi) -> None:
        """See `MsiDomain.restore` (``arch_restore_msi_irqs``): register again, and look away if that is refused."""
        if msi not in self._put_off:
            self.delivery.restore(msi)

    def tear_down(self, msi: PciMsi) -> None:
        """See `MsiDomain.tear_down` (``arch_teardown_msi_irqs``)."""
        if msi in self._put_off:
            del self._put_off[msi]
            function_of(msi).register_interrupts(None)
        elif self._delivery is not None:
            self._delivery.tear_down(msi)

    def compose(self, msi: PciMsi, vector: int, cpu: int) -> tuple[int, int]:
        """See `MsiDomain.compose`: the data is the vector."""
        base = function_of(msi).group.msi_address
        if not self.directed:
            return base, vector
        from pyvfio.zpci.directed import message_address

        return message_address(base, cpu), vector


def machine_instructions(
    machine: Machine, on_interruption: Callable[[int], None], on_directed: Callable[[int, int], None]
) -> Processor:
    """The PCI instructions of a machine, a `MakeProcessor`; errors go to its facility."""
    from pyvfio.zpci.event_code import ErrorCode
    from pyvfio.zpci.processor import Processor

    def report(event: ErrorEvent) -> None:
        code, vector, write = ErrorCode(event.pec), event.vector, bool(event.write)
        machine.zpci.report(event.fid, code, address=event.address, vector=vector, write=write)

    return Processor(
        machine.zpci,
        machine.memory,
        on_interruption=on_interruption,
        on_error=report,
        schedule=partial(machine.clock.schedule, background=True),
        now=lambda: int(machine.clock.now * _TOD_PER_SECOND),
        lock=machine.lock,
        processors=machine.zpci.processors,
        on_directed=on_directed,
        forwards=machine.zpci.forwards,
    )
