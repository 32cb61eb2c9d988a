"""What a kernel counts of its interrupts: ``/proc/interrupts`` (``arch/s390/kernel/irq.c``).

The file has a line for each class (external, I/O and adapter interrupts are sums), one for each number of a message,
and one for each kind within the classes, with a column for each processor.  Of the kinds, those are counted whose
devices this machine has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

__all__ = ["InterruptCounts", "InterruptLine", "columns"]

_CLASSES: Final = ("EXT", "I/O", "AIO")
_KINDS: Final = {
    "CLK": "[EXT] Clock Comparator",
    "EXC": "[EXT] External Call",
    "EMS": "[EXT] Emergency Signal",
    "TMR": "[EXT] CPU Timer",
    "TAL": "[EXT] Timing Alert",
    "PFL": "[EXT] Pseudo Page Fault",
    "DSD": "[EXT] DASD Diag",
    "VRT": "[EXT] Virtio",
    "SCP": "[EXT] Service Call",
    "IUC": "[EXT] IUCV",
    "CMS": "[EXT] CPU-Measurement: Sampling",
    "CMC": "[EXT] CPU-Measurement: Counter",
    "FTP": "[EXT] HMC FTP Service",
    "WTI": "[EXT] Warning Track",
    "CIO": "[I/O] Common I/O Layer Interrupt",
    "DAS": "[I/O] DASD",
    "C15": "[I/O] 3215",
    "C70": "[I/O] 3270",
    "TAP": "[I/O] Tape",
    "VMR": "[I/O] Unit Record Devices",
    "LCS": "[I/O] LCS",
    "CTC": "[I/O] CTC",
    "ADM": "[I/O] EADM Subchannel",
    "CSC": "[I/O] CHSC Subchannel",
    "VIR": "[I/O] Virtual I/O Devices",
    "QAI": "[AIO] QDIO Adapter Interrupt",
    "APB": "[AIO] AP Bus",
    "PCF": "[AIO] PCI Floating Interrupt",
    "PCD": "[AIO] PCI Directed Interrupt",
    "MSI": "[AIO] MSI Interrupt",
    "VAI": "[AIO] Virtual I/O Devices AI",
    "GAL": "[AIO] GIB Alert",
    "NMI": "[NMI] Machine Check",
    "RST": "[CPU] CPU Restart",
}


class InterruptLine:
    """An interrupt number with its chip; `name` is who handles it, empty for nobody.  `counts` are by processor.

    `affinity` is the mask of processors that may take it; `move` gives it to one of them, None where that cannot be.
    `source` is what some architectures show behind the chip: its number there, and how it flows.
    """

    __slots__ = ("affinity", "chip", "counts", "move", "name", "source")

    def __init__(self, chip: str, processors: int) -> None:
        self.chip = chip
        self.source = ""
        self.name = ""
        self.affinity = (1 << processors) - 1
        self.move: Callable[[int], None] | None = None
        self.counts = [0] * processors


class InterruptCounts:
    """The counters, by processor; `lines` has the numbers of messages, which begin with `first`."""

    first = 3
    """0 to 2 are external, I/O and adapter interrupts (``arch/s390/include/asm/irq.h``)."""

    def __init__(self, processors: int = 1) -> None:
        self.processors = processors
        self.lines: dict[int, InterruptLine] = {}
        self._counts: dict[str, list[int]] = {}

    def count(self, kind: str, cpu: int = 0) -> None:
        """Count one of a class or of a kind."""
        self.of(kind)[cpu] += 1

    def of(self, kind: str) -> list[int]:
        """The counters of a class or kind; who counts often keeps them."""
        found = self._counts.get(kind)
        if found is None:
            found = self._counts[kind] = [0] * self.processors
        return found

    def add(self, number: int, chip: str) -> InterruptLine:
        """A number is in use now."""
        line = self.lines[number] = InterruptLine(chip, self.processors)
        return line

    def remove(self, number: int) -> None:
        """It is in use no more."""
        self.lines.pop(number, None)

    def show(self) -> str:
        """The text of ``/proc/interrupts``."""
        return "".join(self.text())

    def head(self) -> str:
        """The line above the columns."""
        return " " * 11 + "".join(f"CPU{cpu:<8}" for cpu in range(self.processors)) + "\n"

    def text(self) -> Iterator[str]:
        """The lines."""
        yield self.head()
        for name in _CLASSES:
            yield f"{name}: {columns(self.of(name))}\n"
        for number, line in sorted(self.lines.items()):
            handler = f"  {line.name}" if line.name else ""
            yield f"{number:3}: {columns(line.counts)} {line.chip:>8}{handler}\n"
        for name, words in _KINDS.items():
            yield f"{name}: {columns(self.of(name))}  {words}\n"


def columns(counts: list[int]) -> str:
    """The counts of a line, each in its column."""
    return "".join(f"{count:10} " for count in counts)
