"""``/proc/interrupts`` of x86: a line for each number that has a handler, then the processors' own interrupts.

Source: ``kernel/irq/proc.c`` and ``arch/x86/kernel/irq.c`` (6.12), for a kernel without thermal and machine check
interrupts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pyvfio_backends.software.linux.interrupts import InterruptCounts, columns

__all__ = ["X86InterruptCounts"]

_WIDTH: Final = 3
_KINDS: Final = {
    "NMI": "Non-maskable interrupts",
    "LOC": "Local timer interrupts",
    "SPU": "Spurious interrupts",
    "PMI": "Performance monitoring interrupts",
    "IWI": "IRQ work interrupts",
    "RTR": "APIC ICR read retries",
    "RES": "Rescheduling interrupts",
    "CAL": "Function call interrupts",
    "TLB": "TLB shootdowns",
}
_SINGLE: Final = ("ERR", "MIS")


class X86InterruptCounts(InterruptCounts):
    """The counters of an x86 kernel: the numbers of the I/O interrupt controller come before those of messages."""

    first = 24

    def text(self) -> Iterator[str]:
        """See `InterruptCounts.text`."""
        yield self.head()
        for number, line in sorted(self.lines.items()):
            if line.name:
                yield f"{number:{_WIDTH}}: {columns(line.counts)} {line.chip:>8} {line.source}  {line.name}\n"
        for name, words in _KINDS.items():
            yield f"{name}: {columns(self.of(name))}  {words}\n"
        for name in _SINGLE:
            yield f"{name}: {sum(self.of(name)):10}\n"
