"""Adapter interruptions: which subclasses may interrupt, and what becomes of a function's messages.

A function's message sets a bit in its vector, then the summary bit, then makes an adapter interruption of its subclass
pending, unless the program has suppressed these (SET INTERRUPTION CONTROLS).  A suppressed interruption is not made
later: the program finds the bits when it looks, which it does after it has allowed interruptions again.

Sources: ``arch/s390/pci/pci_irq.c`` (who clears, sets and looks in which order); ``hw/s390x/css.c`` of QEMU
(``css_do_sic``, ``css_adapter_interrupt``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pyvfio.css.instructions import Storage
from pyvfio.zpci.fib import Fib
from pyvfio.zpci.instructions import OperandException
from pyvfio.zpci.sic import SicOperation
from pyvfio.zpci.vector import set_bit

__all__ = ["SUBCLASSES", "AdapterInterruptions", "Registration", "StorageBits"]

SUBCLASSES: Final = 8
_INTERLOCK: Final = threading.Lock()


class StorageBits:
    """Storage as `BitMemory`: an update is interlocked, whoever makes it here."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def read(self, address: int, count: int) -> bytes:
        """See `BitMemory.read`."""
        return self._storage.read(address, count)

    def update_byte(self, address: int, keep: int, give: int) -> int:
        """See `BitMemory.update_byte`."""
        with _INTERLOCK:
            old = self._storage.read(address, 1)[0]
            self._storage.write(address, bytes((old & keep | give,)))
        return old


class AdapterInterruptions:
    """The subclasses of adapter interruptions.  `on_interruption` is called with the subclass of each one.

    `made` and `suppressed` count them by subclass.
    """

    def __init__(self, on_interruption: Callable[[int], None]) -> None:
        self._on_interruption = on_interruption
        self._single = [False] * SUBCLASSES
        self._armed = [True] * SUBCLASSES
        self.made = [0] * SUBCLASSES
        self.suppressed = [0] * SUBCLASSES

    def control(self, operation: int, isc: int) -> None:
        """SET INTERRUPTION CONTROLS: all interruptions, or one.  Raise `OperandException`."""
        if operation not in (SicOperation.ALL, SicOperation.SINGLE):
            raise OperandException("set interruption controls", cause=f"operation {operation} is not installed")
        if not 0 <= isc < SUBCLASSES:
            raise OperandException("set interruption controls", cause=f"there is no subclass {isc}")
        self._single[isc] = operation == SicOperation.SINGLE
        self._armed[isc] = True

    def request(self, isc: int) -> None:
        """A function has set its bits."""
        if not self._armed[isc]:
            self.suppressed[isc] += 1
            return
        if self._single[isc]:
            self._armed[isc] = False
        self.made[isc] += 1
        self._on_interruption(isc)


@dataclass(frozen=True, slots=True)
class Registration:
    """Where the messages of a function go, as registered by a FIB of format 0."""

    isc: int
    noi: int
    aibv: int
    aibvo: int
    sum: bool
    aisb: int
    aisbo: int

    @classmethod
    def from_fib(cls, fib: Fib) -> Registration:
        """What a FIB says."""
        return cls(fib.isc, fib.noi, fib.aibv, fib.aibvo, bool(fib.sum), fib.aisb, fib.aisbo)

    def deliver(self, bits: StorageBits, vector: int) -> None:
        """Set the bits of a message.  Raise `StorageError`."""
        set_bit(bits, self.aibv, self.aibvo + vector)
        if self.sum:
            set_bit(bits, self.aisb, self.aisbo)
