"""Where message-signalled interrupts go, and who tells the hardware: what each architecture has of its own."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_msi import PciMsi

__all__ = ["MsiDomain"]


class MsiDomain(ABC):
    """How message-signalled interrupts reach the processors (``struct irq_domain``, ``arch_setup_msi_irqs``)."""

    dynamic = False
    """Whether vectors of MSI-X can be added while it is on (``MSI_FLAG_PCI_MSIX_ALLOC_DYN``)."""
    plain = False
    """Whether MSI is modelled, besides MSI-X."""
    several = False
    """Whether MSI can have more than one message (``MSI_FLAG_MULTI_PCI_MSI``)."""

    @property
    def movable(self) -> bool:
        """Whether a vector can be given to another processor."""
        return False

    def chip(self, msi: PciMsi) -> str:
        """The name of the interrupts in ``/proc/interrupts``."""
        return "PCI-MSI"

    def source(self, msi: PciMsi, vector: int) -> str:
        """What is behind that name there."""
        return ""

    @abstractmethod
    def limit(self, msi: PciMsi) -> int:
        """How many vectors a function can have at most, whatever its table has."""

    @abstractmethod
    def set_up(self, msi: PciMsi) -> None:
        """Have the messages of a function delivered.  Raise OSError when that is not possible."""

    @abstractmethod
    def restore(self, msi: PciMsi) -> None:
        """Do so again, after the function was reset."""

    @abstractmethod
    def tear_down(self, msi: PciMsi) -> None:
        """Have none any more."""

    def add(self, msi: PciMsi, vector: int) -> None:
        """Deliver one more vector of a function, which is set up.  Raise OSError."""
        raise fail(errno.ENOTSUP)

    def start(self, msi: PciMsi, vector: int, cpu: int) -> None:
        """Somebody asks for a vector, on a processor (``irq_domain_activate_irq``).  Raise OSError ENOSPC."""
        return

    def stop(self, msi: PciMsi, vector: int) -> None:
        """Nobody does any more."""
        return

    @abstractmethod
    def compose(self, msi: PciMsi, vector: int, cpu: int) -> tuple[int, int]:
        """Address and data of the message of a vector to a processor (``irq_compose_msi_msg``)."""
