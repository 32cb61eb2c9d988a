"""Interpretation: a machine that carries out a guest's PCI instructions itself, and sends it its interruptions.

::

    intercepted    guest --PCILG--> hypervisor --pread--> vfio-pci --PCILG--> function
                   guest <--bits--- hypervisor <-eventfd- vfio-pci <-bits---- function

    interpreted    guest --PCILG---------------------------------------------> function
    forwarded      guest <--bits---------------------------------------------- function

The hypervisor gives the machine the function's device and the guest's storage.  The guest then uses the handle that the
host has of the function, with which the machine finds it.  CLP, MODIFY and STORE PCI FUNCTION CONTROLS and REFRESH PCI
TRANSLATIONS are intercepted all the same.  When the guest registers its interruption vectors, the machine is told
(`HostFunction.forward`): with the forwarding assist it sets the bits and interrupts the guest by itself, without it the
host's kernel does that; neither way takes a program of the host.

On Linux this is KVM's part.  pyvfio has no virtual CPU, so a backend that models it offers it as `InterpretingBackend`,
and a guest on any other host has its instructions intercepted, as QEMU does when the facilities are missing.

Sources: ``arch/s390/kvm/pci.c`` (register, ``kvm_s390_pci_aif_enable``), ``arch/s390/kvm/kvm-s390.c``
(``kvm_s390_vcpu_pci_setup``: which instructions); ``hw/s390x/s390-pci-bus.c`` of QEMU (falling back), its properties
``interpret`` and ``forwarding-assist``.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, TypeAlias, runtime_checkable

from pyvfio.passthrough.memory import MemoryArea
from pyvfio.zpci.access import Accessible
from pyvfio.zpci.fib import Fib

__all__ = ["Accesses", "Areas", "HostFunction", "Interpretation", "InterpretingBackend", "SharedLock"]

Areas: TypeAlias = Callable[[], Sequence[MemoryArea]]
"""Where the guest's storage is now."""


@dataclass(slots=True)
class Accesses:
    """How many PCI LOAD, STORE and STORE BLOCK the hypervisor carried out, and how many the machine did."""

    intercepted: int = 0
    interpreted: int = 0


class HostFunction(Accessible, Protocol):
    """A host's function that the machine lets a guest use."""

    @property
    def fh(self) -> int:
        """The host's handle now (32 bits), enabled; 0 when the function is gone."""
        ...

    def forward(self, fib: Fib, *, assist: bool) -> None:
        """Send the function's interruptions to where `fib` says, in the guest's storage.

        Without `assist` the host's kernel has a part in it.  Raise OSError: EINVAL for a vector that is not within one
        page, summary bits that are not on a doubleword, or interruptions that are forwarded already; EIO for storage
        that the guest has not.
        """
        ...

    def stop_forwarding(self) -> None:
        """End that; nothing happens when nothing is forwarded."""
        ...

    def close(self) -> None:
        """The guest may not use it any more.  A second call does nothing."""
        ...


class Interpretation(Protocol):
    """A guest, as its machine knows it."""

    def add(self, fd: int) -> HostFunction:
        """Let the guest use the function behind an open vfio-pci device.  Raise OSError (EINVAL: it has a guest)."""
        ...


@runtime_checkable
class InterpretingBackend(Protocol):
    """A backend whose machine can carry out a guest's PCI instructions."""

    def interpretation(self, areas: Areas, interrupt: Callable[[int], None]) -> Interpretation | None:
        """A guest with storage in `areas`, of which `interrupt` is called with the subclass of each interruption.

        None when the machine has no such facility.
        """
        ...


class SharedLock:
    """A lock that its holder can enter again, with `leave` for those who must not wait for it.

    A machine that interrupts a guest holds its own lock and may not wait for an instruction of the guest, which may
    wait for the machine.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._left: deque[Callable[[], None]] = deque()
        self._depth = 0

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()
        if self._left:
            self._take_up()

    def _release(self) -> None:
        try:
            while self._depth == 1 and self._left:
                self._left.popleft()()
        finally:
            self._depth -= 1
            self._lock.release()

    def leave(self, work: Callable[[], None]) -> None:
        """Have `work` done with the lock: now if it is free, else by its holder before it goes."""
        self._left.append(work)
        self._take_up()

    def _take_up(self) -> None:
        # Whoever holds the lock looks before and after it lets go, so that nothing stays.
        while self._left and self._lock.acquire(blocking=False):
            self._depth += 1
            mine = self._depth == 1
            self._release()
            if not mine:
                return
