"""Adapter interruptions: which subclasses may interrupt, and what becomes of a function's messages.

A function's message sets a bit in its vector, then the summary bit, then makes an adapter interruption of its subclass
pending, unless the program has suppressed these (SET INTERRUPTION CONTROLS).  A suppressed interruption is not made
later: the program finds the bits when it looks, which it does after it has allowed interruptions again.

That is the floating form, which any processor may take; `pyvfio.zpci.directed` has the one for a processor, and
`pyvfio.zpci.forwarding` that for a guest.  What happens in storage is one small update after another, and a program may
look in between; so messages are given as steps, which the tests put into every order.

Sources: ``arch/s390/pci/pci_irq.c`` (who clears, sets and looks in which order); ``hw/s390x/css.c`` of QEMU
(``css_do_sic``, ``css_adapter_interrupt``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from pyvfio.css.instructions import Storage, StorageError
from pyvfio.errors import Misuse
from pyvfio.zpci.event import ErrorCode
from pyvfio.zpci.fib import Fib
from pyvfio.zpci.instructions import OperandException
from pyvfio.zpci.sic import DirectedBlock, ForwardingBlock, ProcessorBlock, SicOperation
from pyvfio.zpci.vector import INTERLOCK, BitMemory, set_bit

if TYPE_CHECKING:  # machines that have these are rare
    from pyvfio.zpci.directed import DirectedInterruptions, DirectedRegistration
    from pyvfio.zpci.forwarding import Forwarding

__all__ = ["SUBCLASSES", "AdapterInterruptions", "InterruptionFault", "Registration", "StorageBits"]

SUBCLASSES: Final = 8
_ALL: Final = int(SicOperation.ALL)
_SINGLE: Final = int(SicOperation.SINGLE)
_WHAT: Final = "set interruption controls"
_Block = TypeVar("_Block", DirectedBlock, ProcessorBlock, ForwardingBlock)


class StorageBits:
    """Storage as `BitMemory`: an update is interlocked, whoever makes it here."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def read(self, address: int, count: int) -> bytes:
        """See `BitMemory.read`."""
        return self._storage.read(address, count)

    def update_byte(self, address: int, keep: int, give: int) -> int:
        """See `BitMemory.update_byte`."""
        with INTERLOCK:
            old = self._storage.read(address, 1)[0]
            self._storage.write(address, bytes((old & keep | give,)))
        return old


class InterruptionFault(Exception):
    """A message cannot be delivered: the `code` of the error event, and the `address` that it names."""

    def __init__(self, code: ErrorCode, address: int) -> None:
        super().__init__(f"{code.name.lower().replace('_', ' ')} at {address:#x}")
        self.code = code
        self.address = address


@dataclass(frozen=True, slots=True)
class Registration:
    """Where the messages of a function go, as registered by a FIB of format 0.

    `gd` designates a guest's interruption state; 0: the function is the host's own.
    """

    isc: int
    noi: int
    aibv: int
    aibvo: int
    sum: bool
    aisb: int
    aisbo: int
    gd: int = 0

    @classmethod
    def from_fib(cls, fib: Fib) -> Registration:
        """What a FIB says."""
        return cls(fib.isc, fib.noi, fib.aibv, fib.aibvo, bool(fib.sum), fib.aisb, fib.aisbo, fib.gd)


class AdapterInterruptions:
    """The subclasses of adapter interruptions.  `on_interruption` is called with the subclass of each floating one.

    `made` and `suppressed` count them by subclass.  A machine that has directed interruptions says for how many
    `processors` (`on_directed` gets the address of the processor and the subclass), and one that `forwards` to guests
    tells of a guest's interruption that its hypervisor wants to know of by `on_alert`, with the address of the guest's
    interruption state.
    """

    def __init__(
        self,
        on_interruption: Callable[[int], None],
        *,
        processors: int = 0,
        on_directed: Callable[[int, int], None] = lambda cpu, isc: None,
        forwards: bool = False,
        on_alert: Callable[[int], None] = lambda gisa: None,
    ) -> None:
        self._on_interruption = on_interruption
        self._single = [False] * SUBCLASSES
        self._armed = [True] * SUBCLASSES
        self.made = [0] * SUBCLASSES
        self.suppressed = [0] * SUBCLASSES
        self.directed: DirectedInterruptions | None = None
        self.forwarding: Forwarding | None = None
        if processors:
            from pyvfio.zpci.directed import DirectedInterruptions

            self.directed = DirectedInterruptions(processors, self.request, on_directed)
        if forwards:
            from pyvfio.zpci.forwarding import Forwarding

            self.forwarding = Forwarding(self.request, on_alert)

    # SET INTERRUPTION CONTROLS

    def control(self, operation: int, isc: int, block: bytes = b"", cpu: int = 0) -> None:
        """Carry out an operation.  Raise `OperandException` for one that the machine has not, or a bad operand."""
        if not 0 <= isc < SUBCLASSES:
            raise OperandException(_WHAT, cause=f"there is no subclass {isc}")
        if operation in (_SINGLE, _ALL):
            self._single[isc] = operation == _SINGLE
            self._armed[isc] = True
            return
        directed, forwarding = self.directed, self.forwarding
        if operation == SicOperation.DIRECT and directed is not None:
            directed.set_up(_read(DirectedBlock, block))
        elif operation == SicOperation.SET_PROCESSOR and directed is not None:
            directed.set_processor(cpu, _read(ProcessorBlock, block))
        elif operation in (SicOperation.DIRECTED_ALL, SicOperation.DIRECTED_SINGLE) and directed is not None:
            directed.allow(cpu, isc, single=operation == SicOperation.DIRECTED_SINGLE)
        elif operation == SicOperation.SET_FORWARDING and forwarding is not None:
            forwarding.set_up(_read(ForwardingBlock, block))
        else:
            raise OperandException(_WHAT, cause=f"operation {operation} is not installed")

    # messages

    def steps(
        self, bits: BitMemory, registration: Registration | DirectedRegistration, vector: int, address: int
    ) -> Iterator[None]:
        """A message to `address`: the bits, then the interruption, one at each step.  Raise `InterruptionFault`."""
        if not isinstance(registration, Registration):
            if self.directed is not None:
                yield from self.directed.steps(bits, registration, vector, address)
            return
        try:
            set_bit(bits, registration.aibv, registration.aibvo + vector)
            yield
            forwarding = self.forwarding
            if forwarding is not None and forwarding.takes(registration):
                yield from forwarding.steps(bits, registration)
                return
            if registration.sum:
                set_bit(bits, registration.aisb, registration.aisbo)
                yield
        except StorageError:
            raise InterruptionFault(ErrorCode.BIT_VECTOR_ACCESS, registration.aibv) from None
        self.request(registration.isc)

    def request(self, isc: int) -> None:
        """A function has set its bits: interrupt, if that is allowed."""
        if not self._armed[isc]:
            self.suppressed[isc] += 1
            return
        if self._single[isc]:
            self._armed[isc] = False
        self.made[isc] += 1
        self._on_interruption(isc)


def _read(kind: type[_Block], block: bytes) -> _Block:
    try:
        return kind.from_bytes(block)
    except Misuse as misuse:
        raise OperandException(_WHAT, cause=misuse.cause) from None
