"""Directed interruptions: each processor has its own bit vector, and a message names the processor.

::

    message address of the group      fe000000 00000000
    of a message to processor 2       fe000000 00000200      bits 40 to 55: the processor's address

The message of vector n of a function sets bit `dibvo` + n in the vector of that processor (SIC, ``SET_PROCESSOR``) and
interrupts it.  A processor that cannot be interrupted now, because a hypervisor has not dispatched it, is told of in
the fallback way: its summary bit (SIC, ``DIRECT``) is set, and a floating interruption of the subclass is made; whoever
takes it has the processor look at its vector.

Sources: ``arch/s390/pci/pci_irq.c`` (zpci_directed_irq_init, zpci_handle_cpu_local_irq, zpci_handle_fallback_irq, the
message's address), ``arch/s390/include/asm/pci_insn.h`` (struct zpci_diib, zpci_cdiib, zpci_fib_fmt1).  No machine
without the facility can show which error event a message to an unknown processor makes: that is our choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from pyvfio.css.instructions import StorageError
from pyvfio.zpci.event import ErrorCode
from pyvfio.zpci.fib import DirectedFib
from pyvfio.zpci.instructions import OperandException
from pyvfio.zpci.interruptions import InterruptionFault
from pyvfio.zpci.sic import DirectedBlock, ProcessorBlock
from pyvfio.zpci.vector import BitMemory, set_bit

__all__ = ["DirectedInterruptions", "DirectedProcessor", "DirectedRegistration", "message_address", "processor_of"]

_PROCESSOR_SHIFT: Final = 8
_PROCESSORS: Final = 0xFFFF
_DOUBLEWORD: Final = 8
_WHAT: Final = "set interruption controls"


def message_address(base: int, cpu: int) -> int:
    """Where a message to a processor goes; `base` is the group's address (`pyvfio.zpci.clp.GroupResponse.msia`)."""
    return base & ~(_PROCESSORS << _PROCESSOR_SHIFT) | (cpu & _PROCESSORS) << _PROCESSOR_SHIFT


def processor_of(address: int) -> int:
    """The processor that a message's address names."""
    return address >> _PROCESSOR_SHIFT & _PROCESSORS


@dataclass(frozen=True, slots=True)
class DirectedRegistration:
    """Which bits the messages of a function set, as registered by a FIB of format 1."""

    noi: int
    dibvo: int
    gd: int = 0

    @classmethod
    def from_fib(cls, fib: DirectedFib) -> DirectedRegistration:
        """What a FIB says."""
        return cls(fib.noi, fib.dibvo, fib.gd)


@dataclass(slots=True)
class DirectedProcessor:
    """A processor: its vector `dibv` (0: none), which subclasses interrupt it once or not now, and the counts.

    `dispatched` is whether it can be interrupted; a hypervisor changes that.
    """

    dibv: int = 0
    dispatched: bool = True
    single: set[int] = field(default_factory=set)
    disarmed: set[int] = field(default_factory=set)
    made: int = 0
    suppressed: int = 0
    fallbacks: int = 0


class DirectedInterruptions:
    """The directed interruptions of a machine with so many `processors`.

    `floating` makes a floating interruption of a subclass, `on_directed` gets processor and subclass of each other one.
    """

    def __init__(
        self, processors: int, floating: Callable[[int], None], on_directed: Callable[[int, int], None]
    ) -> None:
        self.block: DirectedBlock | None = None
        self.processors = [DirectedProcessor() for _ in range(processors)]
        self.on_dispatch: Callable[[int], None] | None = None
        """Called with a processor that its hypervisor lets run again."""
        self._floating = floating
        self._on_directed = on_directed

    def dispatch(self, cpu: int, on: bool) -> None:
        """A hypervisor takes a processor from the machine, or gives it back."""
        self.processors[cpu].dispatched = on
        if on and self.on_dispatch is not None:
            self.on_dispatch(cpu)

    # SET INTERRUPTION CONTROLS

    def set_up(self, block: DirectedBlock) -> None:
        """``DIRECT``: forget all vectors.  Raise `OperandException` for too many processors or a bad address."""
        if not 0 < block.processors <= len(self.processors) or block.disb % _DOUBLEWORD:
            raise OperandException(
                _WHAT,
                cause=f"{block.processors} processors, summary bits at {block.disb:#x}; there are "
                f"{len(self.processors)}, and the bits begin at a doubleword",
            )
        self.block = block
        for processor in self.processors:
            processor.dibv = 0
            processor.single.clear()
            processor.disarmed.clear()

    def set_processor(self, cpu: int, block: ProcessorBlock) -> None:
        """``SET_PROCESSOR``.  Raise `OperandException` before ``DIRECT`` or for a bad address."""
        if block.dibv % _DOUBLEWORD:
            raise OperandException(_WHAT, cause=f"no vector begins at {block.dibv:#x}")
        self._processor(cpu).dibv = block.dibv

    def allow(self, cpu: int, isc: int, *, single: bool) -> None:
        """``DIRECTED_ALL`` and ``DIRECTED_SINGLE``.  Raise `OperandException` before ``DIRECT``."""
        processor = self._processor(cpu)
        processor.disarmed.discard(isc)
        if single:
            processor.single.add(isc)
        else:
            processor.single.discard(isc)

    def _processor(self, cpu: int) -> DirectedProcessor:
        if self.block is None or not 0 <= cpu < self.block.processors:
            raise OperandException(_WHAT, cause=f"processor {cpu} has no directed interruptions")
        return self.processors[cpu]

    # messages

    def steps(self, bits: BitMemory, registration: DirectedRegistration, vector: int, address: int) -> Iterator[None]:
        """A message: its bit, then the interruption.  Raise `InterruptionFault`."""
        cpu, block = processor_of(address), self.block
        if block is None or cpu >= block.processors:
            raise InterruptionFault(ErrorCode.INTERRUPTION_ERROR, address)
        processor = self.processors[cpu]
        if not processor.dibv:
            raise InterruptionFault(ErrorCode.INVALID_BIT_VECTOR, address)
        at = processor.dibv
        try:
            set_bit(bits, at, registration.dibvo + vector)
            yield
            if processor.dispatched:
                self._interrupt(cpu, processor, block.isc)
                return
            at = block.disb
            set_bit(bits, at, cpu)
            yield
        except StorageError:
            raise InterruptionFault(ErrorCode.BIT_VECTOR_ACCESS, at) from None
        processor.fallbacks += 1
        self._floating(block.isc)

    def _interrupt(self, cpu: int, processor: DirectedProcessor, isc: int) -> None:
        if isc in processor.disarmed:
            processor.suppressed += 1
            return
        if isc in processor.single:
            processor.disarmed.add(isc)
        processor.made += 1
        self._on_directed(cpu, isc)
