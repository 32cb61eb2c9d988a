"""All zPCI functions of the machine, as Linux keeps them (``arch/s390/pci/pci.c``)."""

from __future__ import annotations

import contextlib
import errno
import itertools
from typing import TYPE_CHECKING, Final

from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.zpci import ZpciFunction
from pyvfio_backends.software.hardware.zpci.facility import ZpciFacility
from pyvfio_backends.software.linux.ida import Ida
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.pci import PciBus
from pyvfio_backends.software.linux.subsystems import Key
from pyvfio_backends.software.linux.vfs import fail
from pyvfio_backends.software.linux.zpci import ZpciDev, ZpciState
from pyvfio_backends.software.linux.zpci_bus import ZpciBus
from pyvfio_backends.software.linux.zpci_debug import ZpciNotes
from pyvfio_backends.software.linux.zpci_events import ZpciEvents
from pyvfio_backends.software.linux.zpci_irq import PciInterrupts

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.zpci_debug import FunctionStatistics

__all__ = ["MIO", "ZpciHost", "kernel_options", "zpci_host"]

_ZPCI: Final[Key[ZpciHost]] = Key("zpci")
MIO = "pcimio"
"""The feature of a machine with PCI memory I/O instructions."""


class ZpciHost:
    """The functions that Linux knows (`zdevs`, by function identifier) on the bus type `bus`, and their `buses`."""

    def __init__(self, bus: PciBus, facility: ZpciFacility, interrupts: PciInterrupts) -> None:
        self.kernel = kernel = bus.kernel
        self.bus = bus
        self.facility = facility
        self.interrupts = interrupts
        self.zdevs: dict[int, ZpciDev] = {}
        self.buses: list[ZpciBus] = []
        self.domains: set[int] = set()
        self.statistics: dict[str, FunctionStatistics] = {}
        """By device, while it is enabled."""
        self.unique_uid = facility.uid_checking
        """Whether Linux takes the UIDs for domains (``zpci_unique_uid``)."""
        self.mio = MIO in kernel.features
        """Whether Linux uses PCI memory I/O instructions."""
        self.uses_rid = "norid" not in kernel_options(kernel.cmdline)
        self.notes = ZpciNotes(kernel.clock)
        self.notes.note(3, f"uid checking:{int(facility.uid_checking)}")
        self.iomap = Ida()
        """The table of BARs: each has an entry, the lowest free one."""
        self.event = ZpciEvents(self).put
        """Takes an event of the machine."""
        kernel.subsystems[_ZPCI] = self

    def take_domain(self, uid: int) -> int:
        """The domain of a function: its UID if UIDs are checked, else the lowest free one (``zpci_alloc_domain``).

        A function without a UID (0) ends the use of UIDs, until the functions are listed again.  Raise OSError EEXIST.
        """
        domain = uid & 0xFFFF
        if self.unique_uid and domain:
            if domain in self.domains:
                raise fail(errno.EEXIST)
        else:
            self.unique_uid = False
            domain = next(number for number in itertools.count() if number not in self.domains)
        self.domains.add(domain)
        return domain

    def list_functions(self) -> list[ZpciFunction]:
        """CLP LIST PCI, with which Linux also learns whether UIDs are unique."""
        self.unique_uid = self.facility.uid_checking
        return self.facility.listed()

    def find_functions(self, *, quiet: bool) -> None:
        """Get to know the functions that are new, and find all devices; `quiet` at boot (``zpci_scan_devices``)."""
        new = [function for function in self.list_functions() if function.fid not in self.zdevs]
        # Those without a routing identifier first (zpci_cmp_rid).
        for function in sorted(new, key=lambda one: (one.facts.rid or 0, one.facts.rid is not None)):
            state = ZpciState.CONFIGURED if function.configured else ZpciState.STANDBY
            with contextlib.suppress(OSError):  # Linux goes on without the function
                ZpciDev(self, function, state).add(quiet=quiet)
        for bridge in tuple(self.buses):
            bridge.scan(quiet=quiet)


def zpci_host(kernel: Kernel) -> ZpciHost:
    """The zPCI functions of a kernel.  Raise `Misuse` when it was booted without any facility for them."""
    host = kernel.subsystems.get(_ZPCI)
    if host is None:
        raise Misuse("look for zPCI functions", cause="this machine's Linux knows no zPCI")
    return host


def kernel_options(cmdline: str) -> frozenset[str]:
    """The values of the kernel's parameter ``pci=``."""
    words = [word.removeprefix("pci=") for word in cmdline.split() if word.startswith("pci=")]
    return frozenset(option for word in words for option in word.split(","))
