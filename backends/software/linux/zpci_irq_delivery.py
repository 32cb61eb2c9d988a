"""The two ways in which PCI interrupts come to Linux: vectors in storage, registrations, and the handlers.

The handlers clear what they find, allow one more interruption, and look once more (``zpci_floating_irq_handler``,
``zpci_handle_cpu_local_irq``, ``zpci_handle_fallback_irq`` of ``arch/s390/pci/pci_irq.c``).  An interruption that comes
while a processor is in a handler waits until that one is over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pyvfio.errors import Misuse
from pyvfio.zpci.directed import DirectedInterruptions
from pyvfio.zpci.fib import DirectedFib, Fib
from pyvfio.zpci.instructions import FunctionOperation
from pyvfio.zpci.sic import DirectedBlock, ProcessorBlock, SicOperation
from pyvfio_backends.software.linux.airq import AirqVector
from pyvfio_backends.software.linux.zpci_irq import function_of

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pci_msi import PciMsi
    from pyvfio_backends.software.linux.zpci_irq import MakeProcessor

__all__ = ["Delivery", "DirectedDelivery", "FloatingDelivery"]

_PCI_ISC: Final = 2  # arch/s390/include/asm/isc.h
_FUNCTIONS: Final = 1 << 12  # ZPCI_NR_DEVICES; a kernel is configured for fewer, and knows no more functions then
_CACHE_LINE: Final = 256
_WORD_BITS: Final = 64
_WORD: Final = 8
_SINGLE: Final = int(SicOperation.SINGLE)
_DIRECTED_SINGLE: Final = int(SicOperation.DIRECTED_SINGLE)


class Delivery(ABC):
    """What both ways have in common: a processor that is in a handler is not interrupted."""

    def __init__(self, kernel: Kernel, make_processor: MakeProcessor) -> None:
        self.memory = kernel.memory
        counts = kernel.interrupts
        self.processors = counts.processors
        self._adapter, self._messages = counts.of("AIO"), counts.of("MSI")
        self._floating_count, self._directed_count = counts.of("PCF"), counts.of("PCD")
        self._inside: set[int] = set()
        self._waiting: dict[tuple[int, Callable[[int], None]], None] = {}
        self.processor = make_processor(self.floating, self.directed)

    @abstractmethod
    def set_up(self, msi: PciMsi) -> bool:
        """Give a device bits and register it; whether that was possible."""

    @abstractmethod
    def restore(self, msi: PciMsi) -> bool:
        """Register it again, after a reset."""

    @abstractmethod
    def tear_down(self, msi: PciMsi) -> None:
        """Deregister it and take its bits back."""

    @abstractmethod
    def floating(self, isc: int) -> None:
        """A floating interruption: any processor may take it, and the first one does."""

    @abstractmethod
    def directed(self, cpu: int, isc: int) -> None:
        """A directed interruption of a processor."""

    def _modify(self, msi: PciMsi, operation: int, fib: Fib | DirectedFib) -> bool:
        return self.processor.mpcifc(function_of(msi).fh, 0, operation, fib).cc == 0

    def _interrupt(self, cpu: int, handler: Callable[[int], None]) -> None:
        """Have a processor run a handler, after the one in which it is."""
        if cpu in self._inside:
            self._waiting[cpu, handler] = None
            return
        self._inside.add(cpu)
        try:
            handler(cpu)
            while self._waiting and (waiting := next((each for each in self._waiting if each[0] == cpu), None)):
                del self._waiting[waiting]
                waiting[1](cpu)
        finally:
            self._inside.discard(cpu)


class FloatingDelivery(Delivery):
    """A vector and a summary bit for each function."""

    def __init__(self, kernel: Kernel, make_processor: MakeProcessor) -> None:
        super().__init__(kernel, make_processor)
        self._summary = AirqVector(self.memory, _FUNCTIONS, allocate=True)
        self._devices: dict[PciMsi, int] = {}
        self._vectors: dict[int, tuple[AirqVector, PciMsi]] = {}
        self.processor.sic(_SINGLE, _PCI_ISC)

    def set_up(self, msi: PciMsi) -> bool:
        """See `Delivery.set_up`."""
        summary = self._summary.allocate()
        if summary < 0:
            return False
        self._devices[msi] = summary
        self._vectors[summary] = AirqVector(self.memory, msi.vectors), msi
        if self.restore(msi):
            return True
        self._forget(msi)
        return False

    def restore(self, msi: PciMsi) -> bool:
        """See `Delivery.restore` (``zpci_set_airq``)."""
        summary = self._devices.get(msi)
        if summary is None:
            return False
        vector, _ = self._vectors[summary]
        fib = Fib(
            isc=_PCI_ISC,
            sum=1,
            noi=vector.end,
            aibv=vector.address,
            aisb=self._summary.address + summary // _WORD_BITS * _WORD,
            aisbo=summary % _WORD_BITS,
        )
        return self._modify(msi, FunctionOperation.REGISTER_INTERRUPTS, fib)

    def tear_down(self, msi: PciMsi) -> None:
        """See `Delivery.tear_down` (``zpci_clear_airq``: a function that is gone is no error)."""
        if msi in self._devices:
            self._modify(msi, FunctionOperation.DEREGISTER_INTERRUPTS, Fib())
            self._forget(msi)

    def _forget(self, msi: PciMsi) -> None:
        summary = self._devices.pop(msi)
        self._vectors.pop(summary)[0].release()
        self._summary.free(summary)

    def floating(self, isc: int) -> None:
        """See `Delivery.floating`."""
        self._interrupt(0, self._handle)

    def directed(self, cpu: int, isc: int) -> None:
        """See `Delivery.directed`; there are none in this way."""

    def _handle(self, cpu: int) -> None:
        """``zpci_floating_irq_handler``."""
        self._adapter[cpu] += 1
        self._floating_count[cpu] += 1
        scan, irqs_on, at = self._summary.scan, False, 0
        while True:
            at = scan(at)
            if at < 0:
                if irqs_on:
                    return
                self.processor.sic(_SINGLE, _PCI_ISC)
                irqs_on, at = True, 0
                continue
            known = self._vectors.get(at)
            if known is None:
                continue
            vector, msi = known
            bit = 0
            while (bit := vector.scan(bit)) >= 0:
                self._messages[cpu] += 1
                msi.deliver(bit, cpu)


class DirectedDelivery(Delivery):
    """A vector for each processor, with bits for all functions; a summary bit for each processor."""

    def __init__(self, kernel: Kernel, make_processor: MakeProcessor) -> None:
        super().__init__(kernel, make_processor)
        hardware = self.processor.interruptions.directed
        if hardware is None:
            raise Misuse("boot the machine", cause="it has no directed interruptions")
        self._hardware: DirectedInterruptions = hardware
        self._devices: dict[PciMsi, tuple[int, int]] = {}
        self._by_bit: dict[int, tuple[PciMsi, int]] = {}
        self._called: set[int] = set()
        self._summary = AirqVector(self.memory, self.processors)
        # Bits are taken in the first vector; all of each is looked at.
        self._bits = AirqVector(self.memory, 8 * _CACHE_LINE, allocate=True)
        others = [AirqVector(self.memory, 8 * _CACHE_LINE) for _ in range(1, self.processors)]
        self._vectors = [self._bits, *others]
        sic = self.processor.sic
        sic(SicOperation.DIRECT, 0, DirectedBlock(_PCI_ISC, self.processors, self._summary.address).to_bytes())
        for cpu, vector in enumerate(self._vectors):
            sic(SicOperation.SET_PROCESSOR, 0, ProcessorBlock(vector.address).to_bytes(), cpu)
            sic(_DIRECTED_SINGLE, _PCI_ISC, cpu=cpu)
        hardware.on_dispatch = self._dispatched
        sic(_SINGLE, _PCI_ISC)

    def set_up(self, msi: PciMsi) -> bool:
        """See `Delivery.set_up`."""
        count = msi.vectors
        first = self._bits.allocate(count)
        if first < 0:
            return False
        self._devices[msi] = first, count
        self._by_bit |= {first + vector: (msi, vector) for vector in range(count)}
        if self.restore(msi):
            return True
        self._forget(msi)
        return False

    def restore(self, msi: PciMsi) -> bool:
        """See `Delivery.restore` (``zpci_set_directed_irq``)."""
        if msi not in self._devices:
            return False
        first, count = self._devices[msi]
        return self._modify(msi, FunctionOperation.REGISTER_DIRECTED, DirectedFib(noi=count, dibvo=first))

    def tear_down(self, msi: PciMsi) -> None:
        """See `Delivery.tear_down` (``zpci_clear_directed_irq``)."""
        if msi in self._devices:
            self._modify(msi, FunctionOperation.DEREGISTER_DIRECTED, DirectedFib())
            self._forget(msi)

    def _forget(self, msi: PciMsi) -> None:
        first, count = self._devices.pop(msi)
        for bit in range(first, first + count):
            del self._by_bit[bit]
        self._bits.free(first, count)

    def directed(self, cpu: int, isc: int) -> None:
        """See `Delivery.directed`."""
        self._interrupt(cpu, self._handle)

    def _handle(self, cpu: int) -> None:
        self._adapter[cpu] += 1
        self._directed_count[cpu] += 1
        self._look(cpu)
        self.processor.sic(_DIRECTED_SINGLE, _PCI_ISC, cpu=cpu)
        self._look(cpu)

    def _look(self, cpu: int) -> None:
        """One look at a processor's vector (of ``zpci_handle_cpu_local_irq``)."""
        vector, bit = self._vectors[cpu], 0
        while (bit := vector.scan(bit)) >= 0:
            self._messages[cpu] += 1
            known = self._by_bit.get(bit)
            if known is not None:
                known[0].deliver(known[1], cpu)

    def floating(self, isc: int) -> None:
        """See `Delivery.floating`: a processor could not be interrupted."""
        self._interrupt(0, self._fall_back)

    def _fall_back(self, cpu: int) -> None:
        """``zpci_handle_fallback_irq``: call the processors whose summary bits are on."""
        self._adapter[cpu] += 1
        self._floating_count[cpu] += 1
        for last in (False, True):
            at = 0
            while (at := self._summary.scan(at)) >= 0:
                self._called.add(at)
            if not last:
                self.processor.sic(_SINGLE, _PCI_ISC)
        for called in sorted(self._called):
            self._dispatched(called)

    def _dispatched(self, cpu: int) -> None:
        """A processor that was called answers when it runs (``zpci_handle_remote_irq``)."""
        if cpu in self._called and self._hardware.processors[cpu].dispatched:
            self._called.discard(cpu)
            self._interrupt(cpu, self._look)
