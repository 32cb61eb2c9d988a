"""Interruptions of functions that a guest has, brought to the guest without its hypervisor.

A hypervisor registers a function's interruptions with the guest's vector, a summary bit of its own, and the designation
of the guest's interruption state.  The summary bit's number is the place of an entry in a table (GAIT)::

    byte  0        4      5       6       7       8                10
         +--------+------+-------+-------+-------+----------------+
         |  gisa  | gisc | count |       | aisbo |      aisb      |
         +--------+------+-------+-------+-------+----------------+

With `gisa`, the guest's own summary bit is set (`aisbo` at `aisb`, unless that is 0) and an interruption of the guest's
subclass `gisc` is made pending in the guest's interruption state (GISA)::

    byte  0            4     5      6      7     8            10                 20
         +------------+-----+------+------+-----+------------+------------------+
         | next alert | ipm | simm | nimm | iam |    aism    |                  |
         +------------+-----+------+------+-----+------------+------------------+

`ipm` has a bit for each pending subclass; `simm` for those that interrupt once, `nimm` for those of them that may not
now (SET INTERRUPTION CONTROLS in the guest).  Where `iam` has a bit, the hypervisor wants to know: it is alerted once,
and says so again.  Without `gisa` the summary bit of the host is set, and a floating interruption of its own subclass
lets the hypervisor do all that.

Sources: ``arch/s390/kvm/pci.c`` and ``pci.h`` (struct zpci_gaite, struct zpci_aipb), ``arch/s390/kvm/interrupt.c``
(aen_host_forward, gisa_get_ipm_or_restore_iam), ``arch/s390/include/asm/kvm_host.h`` (struct kvm_s390_gisa, format 1).
(Offsets in hexadecimal.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from pyvfio.css.instructions import StorageError
from pyvfio.zpci.block import BigBlock, at
from pyvfio.zpci.event import ErrorCode
from pyvfio.zpci.instructions import OperandException
from pyvfio.zpci.interruptions import InterruptionFault, Registration
from pyvfio.zpci.sic import ForwardingBlock, SicOperation
from pyvfio.zpci.vector import BitMemory, set_bit

__all__ = ["GUEST_ENTRY_SIZE", "Forwarding", "GuestEntry", "GuestState", "GuestSubclasses"]

GUEST_ENTRY_SIZE: Final = 16
_DOUBLEWORD: Final = 8
_IPM, _SIMM, _NIMM, _IAM = 4, 5, 6, 7
_ALL: Final = 0xFF


@dataclass(frozen=True, slots=True)
class GuestEntry(BigBlock, size=GUEST_ENTRY_SIZE):
    """An entry of the table.  `count` is the hypervisor's own."""

    gisa: int = at(0, 32)
    gisc: int = at(4, 8)
    count: int = at(5, 8)
    aisbo: int = at(7, 8)
    aisb: int = at(8, 64)


@dataclass(frozen=True, slots=True)
class GuestState(BigBlock, size=32):
    """A guest's interruption state of format 1."""

    next_alert: int = at(0, 32)
    ipm: int = at(_IPM, 8)
    simm: int = at(_SIMM, 8)
    nimm: int = at(_NIMM, 8)
    iam: int = at(_IAM, 8)
    aism: int = at(8, 64)
    g: int = at(16, 1, bit=6)
    c: int = at(16, 1, bit=7)
    airq_count: int = at(28, 32)


class GuestSubclasses:
    """The interruption state at `address`.  Each method is one interlocked update; all raise `StorageError`."""

    def __init__(self, bits: BitMemory, address: int) -> None:
        self._bits = bits
        self.address = address

    def _mask(self, at: int) -> int:
        return self._bits.read(self.address + at, 1)[0]

    def _set(self, at: int, mask: int, on: bool) -> bool:
        """Change a bit; what it was."""
        keep, give = (_ALL, mask) if on else (_ALL ^ mask, 0)
        return bool(self._bits.update_byte(self.address + at, keep, give) & mask)

    @property
    def pending(self) -> int:
        """The pending subclasses, subclass 0 leftmost (8 bits)."""
        return self._mask(_IPM)

    def control(self, operation: int, isc: int) -> None:
        """SET INTERRUPTION CONTROLS of the guest, ``ALL`` or ``SINGLE``.  Raise `OperandException`."""
        if operation not in (SicOperation.ALL, SicOperation.SINGLE):
            raise OperandException("set interruption controls", cause=f"a guest has no operation {operation}")
        mask = 0x80 >> isc
        self._set(_SIMM, mask, operation == SicOperation.SINGLE)
        self._set(_NIMM, mask, False)

    def request(self, isc: int) -> bool:
        """Make an interruption pending if the guest allows it; whether its hypervisor wants to know."""
        mask = 0x80 >> isc
        single = self._mask(_SIMM) & mask
        if single and self._mask(_NIMM) & mask:
            return False
        if single:
            self._set(_NIMM, mask, True)
        self._set(_IPM, mask, True)
        # Alerted once: the hypervisor puts its mask back when nothing is pending any more.
        return bool(self._mask(_IAM) & mask) and bool(self._bits.update_byte(self.address + _IAM, 0, 0))

    def take(self, isc: int) -> bool:
        """Clear a pending interruption, as its processor does; whether there was one."""
        return self._set(_IPM, 0x80 >> isc, False)

    def watch(self, mask: int) -> int:
        """Have alerts for these subclasses; or, if one of them is pending already, return those and change nothing."""
        pending = self.pending & mask
        if not pending:
            self._bits.update_byte(self.address + _IAM, 0, mask)
        return pending


class Forwarding:
    """The table of a machine.  `floating` makes a floating interruption, `on_alert` gets a GISA's address.

    A hypervisor that comes later sets `on_alert`.
    """

    def __init__(self, floating: Callable[[int], None], on_alert: Callable[[int], None]) -> None:
        self.block: ForwardingBlock | None = None
        self.forwarded = 0
        self._floating = floating
        self.on_alert = on_alert

    def set_up(self, block: ForwardingBlock) -> None:
        """SIC, ``SET_FORWARDING``.  Raise `OperandException` for addresses that are not aligned."""
        if block.faisb % _DOUBLEWORD or block.gait % GUEST_ENTRY_SIZE:
            raise OperandException(
                "set interruption controls",
                cause=f"no tables begin at {block.faisb:#x} and {block.gait:#x}",
            )
        self.block = block

    def takes(self, registration: Registration) -> bool:
        """Whether messages go by the table: the function is a guest's, and its summary bit one of the table's."""
        return bool(registration.gd) and registration.sum and self._entry(registration) is not None

    def _entry(self, registration: Registration) -> int | None:
        if self.block is None:
            return None
        number = (registration.aisb - self.block.faisb) * 8 + registration.aisbo
        return number if 0 <= number < self.block.faal else None

    def steps(self, bits: BitMemory, registration: Registration) -> Iterator[None]:
        """What follows when the vector's bit is set.  Raise `InterruptionFault`."""
        number, block = self._entry(registration), self.block
        if number is None or block is None:
            return
        try:
            entry = GuestEntry.from_bytes(bits.read(block.gait + number * GUEST_ENTRY_SIZE, GUEST_ENTRY_SIZE))
            if entry.gisa:
                if entry.aisb:
                    set_bit(bits, entry.aisb, entry.aisbo)
                    yield
                alert = GuestSubclasses(bits, entry.gisa).request(entry.gisc & 7)
            else:
                set_bit(bits, block.faisb, number)
                yield
        except StorageError as error:
            raise InterruptionFault(ErrorCode.INTERRUPTION_ERROR, error.address) from None
        self.forwarded += 1
        if not entry.gisa:
            self._floating(block.afi)
        elif alert:
            self.on_alert(entry.gisa)
