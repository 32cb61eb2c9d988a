"""``/proc/interrupts`` of POWER: a line for each number that has a handler, then the processors' own interrupts.

Source: ``arch/powerpc/kernel/irq.c`` (6.12), and what the POWER lab's kernel shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pyvfio_backends.software.linux.interrupts import InterruptCounts, columns

__all__ = ["PowerInterruptCounts", "source_text"]

_KINDS: Final = (
    ("LOC", "LOC", "Local timer interrupts for timer event device"),
    ("BCT", "BCT", "Broadcast timer interrupts for timer event device"),
    ("LOC", "LOC others", "Local timer interrupts for others"),
    ("SPU", "SPU", "Spurious interrupts"),
    ("PMI", "PMI", "Performance monitoring interrupts"),
    ("MCE", "MCE", "Machine check exceptions"),
    ("HMI", "HMI", "Hypervisor Maintenance Interrupts"),
    ("NMI", "NMI", "System Reset interrupts"),
    ("WDG", "WDG", "Watchdog soft-NMI interrupts"),
    ("DBL", "DBL", "Doorbell interrupts"),
)


def source_text(number: int, kind: str) -> str:
    """What stands behind the name of an interrupt's chip: its number there, and ``Edge`` or ``Level``."""
    return f"{number:3} {kind:8}"


class PowerInterruptCounts(InterruptCounts):
    """The counters of a kernel for POWER: its own numbers begin after the 16 of the old ISA bus."""

    first = 16

    def text(self) -> Iterator[str]:
        """See `InterruptCounts.text`."""
        yield self.head()
        for number, line in sorted(self.lines.items()):
            if line.name:
                yield f"{number:3}: {columns(line.counts)} {line.chip:>8} {line.source}  {line.name}\n"
        for label, name, words in _KINDS:
            yield f"{label}: {columns(self.of(name))}  {words}\n"
