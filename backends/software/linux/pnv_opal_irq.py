"""The interrupts that firmware of bare-metal POWER keeps for itself, which Linux has handlers for (``opal-irqchip.c``).

Their numbers come before those of pins and messages; names and numbers are those of the POWER lab's
``/proc/interrupts``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from pyvfio_backends.software.linux.interrupts_powerpc import source_text
from pyvfio_backends.software.linux.pci_msi import interrupt_numbers
from pyvfio_backends.software.linux.pnv_irq import LINES
from pyvfio_backends.software.linux.powerpc_irq import XIVE

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.ioda.phb import Phb
    from pyvfio_backends.software.linux.kernel import Kernel

__all__ = ["add_late_interrupts", "add_opal_interrupts"]

_FIRST_OF_SERVICES: Final = 0xFFFF0
_SERVICES: Final = (
    *("fsp", "occ", "fsi", "lpc-hc", "local_err", "global_err", "external", "lpc-bt", "lpc-uart"),
    *("lpc-mux2-unused", "lpc-mux3-unused", "i2c", "dio", "psu(sbe)"),
)
"""Those of the chip's service interface."""
_OF_BRIDGES: Final = ("inf", "err")
_EVENT: Final = "OPAL EVT"


def _add(kernel: Kernel, chip: str, number: int, kind: str, name: str) -> None:
    line = kernel.interrupts.add(interrupt_numbers(kernel).take(), chip)
    line.source, line.name = source_text(number, kind), name


def add_opal_interrupts(kernel: Kernel, bridges: Iterable[tuple[Phb, int]]) -> None:
    """Those that are there before PCI: of each bridge, with its first interrupt, the last two are its errors'."""
    _add(kernel, "XIVE-IPI", 0, "Edge", "IPI-0")
    for place, name in enumerate(_SERVICES):
        _add(kernel, XIVE, _FIRST_OF_SERVICES + place, "Level", f"opal-psi#0:{name}")
    for phb, first in bridges:
        last = first + phb.model.messages + LINES
        for place, name in enumerate(_OF_BRIDGES):
            _add(kernel, XIVE, last - len(_OF_BRIDGES) + place, "Level", f"opal-phb#{phb.number:04x}-{name}")
    _add(kernel, _EVENT, 11, "Level", "opal-msg")


def add_late_interrupts(kernel: Kernel) -> None:
    """Those of EEH and the console, which come when PCI functions have their lines."""
    _add(kernel, _EVENT, 9, "Level", "opal-eeh")
    _add(kernel, _EVENT, 4, "Edge", "hvc_console")
