"""Adapter-event notification forwarding: interruptions of functions that belong to guests.

Such a function sets bits in the vector of its guest, and a bit of its own in the forwarding summary.  An entry of the
guest-adapter-interruption table (GAIT) says what follows::

    forwarding summary   bit n, one per function
    GAIT                 entry n: GISA, ISC, summary bits of the guest (address, bit)

With a GISA (the guest's interruption state) the machine sets the guest's summary bit and interrupts the guest itself.
Without, the host's operating system gets an interruption and does the same (`AdapterForwarding.on_alert`).

Source: ``arch/s390/kvm/pci.h`` (struct zpci_gaite), ``arch/s390/kvm/interrupt.c`` (``aen_host_forward``,
``aen_process_gait``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from pyvfio.css.instructions import Storage, StorageError
from pyvfio.zpci.interruptions import StorageBits
from pyvfio.zpci.vector import set_bit

__all__ = ["AdapterForwarding", "ForwardedVector", "ForwardingEntry", "Gisa"]

_VECTORS = 0x7FF

Gisa: TypeAlias = Callable[[int], None]
"""A guest's interruption state: called with the subclass of an adapter interruption that becomes pending there."""


@dataclass(frozen=True, slots=True)
class ForwardingEntry:
    """An entry of the table: `aisb` is an absolute address (None: no summary bit), `gisa` None without the assist."""

    gisa: Gisa | None
    isc: int
    aisb: int | None
    aisbo: int


class AdapterForwarding:
    """The table and the summary of a machine with `storage`; `on_alert` is called when its system has to act."""

    def __init__(self, storage: Storage, on_alert: Callable[[], None]) -> None:
        self.bits = StorageBits(storage)
        self.entries: dict[int, ForwardingEntry] = {}
        self.summary: set[int] = set()
        self._on_alert = on_alert

    def add(self, entry: ForwardingEntry) -> int:
        """Put an entry in; its number."""
        number = next(number for number in range(len(self.entries) + 1) if number not in self.entries)
        self.entries[number] = entry
        return number

    def remove(self, number: int) -> None:
        """Take it out; interruptions that were not forwarded are lost with it."""
        self.entries.pop(number, None)
        self.summary.discard(number)

    def notify(self, number: int) -> None:
        """A function has set bits of its vector.  Raise `StorageError`."""
        entry = self.entries[number]
        if entry.gisa is not None:
            self.present(entry, entry.gisa)
        else:
            self.summary.add(number)
            self._on_alert()

    def present(self, entry: ForwardingEntry, gisa: Gisa) -> None:
        """Set the guest's summary bit and interrupt it.  Raise `StorageError`."""
        if entry.aisb is not None:
            set_bit(self.bits, entry.aisb, entry.aisbo)
        gisa(entry.isc)


class ForwardedVector:
    """Where the messages of a function go: bits from bit `aibvo` of absolute address `aibv` on, for `noi` vectors.

    `failed` is called for a vector that there is not, or storage that is gone.
    """

    def __init__(
        self,
        forwarding: AdapterForwarding,
        number: int,
        *,
        noi: int,
        aibv: int,
        aibvo: int,
        failed: Callable[[], None],
    ) -> None:
        self._forwarding = forwarding
        self._number = number
        self._noi = noi
        self._aibv = aibv
        self._aibvo = aibvo
        self._failed = failed

    def __call__(self, address: int, data: int) -> None:
        """A message."""
        vector = data & _VECTORS
        if vector >= self._noi:
            self._failed()
            return
        try:
            set_bit(self._forwarding.bits, self._aibv, self._aibvo + vector)
            self._forwarding.notify(self._number)
        except StorageError:
            self._failed()
