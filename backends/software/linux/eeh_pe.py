"""Endpoints as Linux' error handling (EEH) has them: a tree for each host bridge (``arch/powerpc/kernel/eeh_pe.c``).

::

    PE of the host bridge            type PHB      fenced or dead: all of it
      `-- PE of the root port        type DEVICE   one function
            `-- PE of a bus          type BUS      two functions or more
                  `-- ...            type VF       a virtual function, below its physical one's

What happens to an endpoint happens to all below it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import TYPE_CHECKING, Final, Protocol

from pyvfio.abi.eeh_state import EehDevMode, EehPeFlag, EehPlatformState
from pyvfio_backends.software.linux.pci_device import ErrorState

if TYPE_CHECKING:
    from pyvfio.abi.opal import OpalFreezeAction, OpalFreezeState
    from pyvfio_backends.software.linux.pci_device import PciDevice
    from pyvfio_backends.software.linux.pcie_bus import PcieBus

__all__ = [
    "ACTIVE",
    "EehDev",
    "EehHost",
    "EehPe",
    "Endpoints",
    "Numbered",
    "PeType",
    "bus_of",
    "is_active",
]

_WINDOW = 3600.0
"""Seconds in which freezes are counted."""


class PeType(Flag):
    """``EEH_PE_*``: what an endpoint is."""

    INVALID = auto()
    PHB = auto()
    DEVICE = auto()
    BUS = auto()
    VF = auto()


ACTIVE: Final = (
    EehPlatformState.MMIO_ACTIVE
    | EehPlatformState.DMA_ACTIVE
    | EehPlatformState.MMIO_ENABLED
    | EehPlatformState.DMA_ENABLED
)
"""Of an endpoint that works."""


def is_active(state: EehPlatformState) -> bool:
    """Whether neither loads and stores nor DMA are stopped (``eeh_state_active``)."""
    both = EehPlatformState.MMIO_ACTIVE | EehPlatformState.DMA_ACTIVE
    return state & both == both


class Numbered(Protocol):
    """An endpoint of the platform."""

    @property
    def number(self) -> int:
        """Its number."""


class Endpoints(Protocol):
    """The endpoints of a host bridge as the platform has them; one may consist of several of the hardware's."""

    def of(self, rid: int) -> Numbered | None:
        """That of a routing id."""

    def master_of(self, number: int) -> int:
        """The number that one of the hardware's goes by."""

    def state(self, number: int) -> OpalFreezeState:
        """What of one is frozen."""

    def freeze(self, number: int) -> None:
        """Freeze it."""

    def unfreeze(self, number: int, action: OpalFreezeAction) -> bool:
        """Let it go again; whether the firmware did."""


class EehHost:
    """A host bridge (``struct pci_controller``): its domain's `number`, its id to the firmware, its root bus."""

    def __init__(self, number: int, opal_id: int, bus: PcieBus, endpoints: Endpoints) -> None:
        self.number = number
        self.opal_id = opal_id
        self.bus = bus
        self.endpoints = endpoints
        self.pe = EehPe(self, PeType.PHB)
        """The endpoint that stands for the bridge."""
        self.devs: dict[int, EehDev] = {}
        """By routing id: of a function that was there once, also while Linux has no device for it."""

    def get(self, address: int) -> EehPe | None:
        """The endpoint with a number (``eeh_pe_get``)."""
        return next((pe for pe in self.pe.walk() if not pe.type & PeType.PHB and pe.address == address), None)

    def insert(self, dev: EehDev, parent: EehPe | None) -> EehPe:
        """Add a function to its endpoint, which is made if it is not there; that (``eeh_pe_tree_insert``).

        A new one goes below `parent`, or below that of the bridge.
        """
        pe = self.get(dev.address)
        if pe is None:
            pe = EehPe(self, PeType.VF if dev.physfn is not None else PeType.DEVICE, dev.address)
            pe.parent = self.pe if parent is None else parent
            pe.parent.children.append(pe)
        elif pe.type & PeType.INVALID:
            above: EehPe | None = pe
            while above is not None and above.type & PeType.INVALID:
                above.type &= ~PeType.INVALID
                above = above.parent
        else:
            pe.type = PeType.BUS
        pe.devs.append(dev)
        dev.pe = pe
        return pe

    def remove(self, dev: EehDev) -> None:
        """Take a function out of its endpoint, which goes if it was the last, but not in a recovery.

        ``eeh_pe_tree_remove``: then it stays as an invalid one, for whoever comes back.
        """
        pe = dev.pe
        if pe is None:
            return
        dev.pe = None
        pe.devs.remove(dev)
        while not pe.type & PeType.PHB and pe.parent is not None:
            if not pe.flags & (EehPeFlag.KEEP | EehPeFlag.RECOVERING):
                if pe.devs or pe.children:
                    return
                pe.parent.children.remove(pe)
            elif not pe.devs:
                if any(not child.type & PeType.INVALID for child in pe.children):
                    return
                pe.type |= PeType.INVALID
            pe = pe.parent


@dataclass(eq=False)
class EehDev:
    """A function (``struct eeh_dev``), at `rid` of a bridge: `config` are its first 16 words as they were found.

    `pdev` is its device, None while Linux has none; `physfn` of a virtual function the physical one.
    """

    host: EehHost
    rid: int
    mode: EehDevMode = field(default_factory=lambda: EehDevMode(0))
    address: int = 0
    """The number of its endpoint."""
    config: list[int] = field(default_factory=list)
    express: int = 0
    aer: int = 0
    advanced: int = 0
    """Where its capabilities are: PCI Express, AER, Advanced Features; 0 for nowhere."""
    pe: EehPe | None = None
    pdev: PciDevice | None = None
    physfn: PciDevice | None = None
    vf_index: int = 0
    in_error: bool = False

    @property
    def name(self) -> str:
        """Its address in words."""
        return f"{self.host.number:04x}:{self.rid >> 8:02x}:{self.rid >> 3 & 0x1F:02x}.{self.rid & 7:x}"

    @property
    def passed(self) -> bool:
        """Whether a program has its endpoint."""
        return self.pe is not None and self.pe.passed > 0

    @property
    def actionable(self) -> bool:
        """Whether recovery may do something with it (``eeh_edev_actionable``)."""
        return (
            self.pdev is not None
            and self.pdev.error_state is not ErrorState.LOST
            and not self.mode & EehDevMode.REMOVED
            and not self.passed
        )


class EehPe:
    """An endpoint (``struct eeh_pe``) with number `address`; that of a bridge has number 0 and no parent.

    `passed` is how many of its functions programs have open: then recovery is theirs.  `log` is the bridge's error log
    of when it froze, `freezes` how often it did since `since`, at most an hour ago.
    """

    def __init__(self, host: EehHost, type_: PeType, address: int = 0) -> None:
        self.host = host
        self.type = type_
        self.address = address
        self.flags = EehPeFlag(0)
        self.bus: PcieBus | None = None
        self.checks = 0
        self.freezes = 0
        self.since = 0.0
        self.false_positives = 0
        self.passed = 0
        self.parent: EehPe | None = None
        self.children: list[EehPe] = []
        self.devs: list[EehDev] = []
        self.log = b""

    @property
    def name(self) -> str:
        """``PHB#0-PE#fd``."""
        return f"PHB#{self.host.number:x}-PE#{self.address:x}"

    def walk(self) -> Iterator[EehPe]:
        """It and all below, each before what is below it (``eeh_for_each_pe``)."""
        yield self
        for child in tuple(self.children):
            yield from child.walk()

    def every(self) -> Iterator[EehDev]:
        """The functions of it and of all below (``eeh_pe_dev_traverse``)."""
        for pe in self.walk():
            yield from tuple(pe.devs)

    def mark(self, flags: EehPeFlag) -> None:
        """Set flags of it and all below, but of those that are gone for good (``eeh_pe_state_mark``)."""
        for pe in self.walk():
            if not pe.flags & EehPeFlag.REMOVED:
                pe.flags |= flags

    def isolate(self) -> None:
        """Note that it and all below are frozen (``eeh_pe_mark_isolated``)."""
        self.mark(EehPeFlag.ISOLATED)
        for pe in self.walk():
            for dev in pe.devs:
                if dev.pdev is not None:
                    dev.pdev.error_state = ErrorState.FROZEN
            if pe.flags & EehPeFlag.CFG_RESTRICTED:
                pe.flags |= EehPeFlag.CFG_BLOCKED

    def clear(self, flags: EehPeFlag, *, passed: bool) -> None:
        """Clear flags of it and all below; with `passed` also of what programs have (``eeh_pe_state_clear``)."""
        for pe in self.walk():
            if pe.flags & EehPeFlag.REMOVED or (pe.passed and not passed):
                continue
            pe.flags &= ~flags
            if not flags & EehPeFlag.ISOLATED:
                continue
            pe.checks = 0
            for dev in pe.devs:
                if dev.pdev is not None:
                    dev.pdev.error_state = ErrorState.NORMAL
            if pe.flags & EehPeFlag.CFG_RESTRICTED:
                pe.flags &= ~EehPeFlag.CFG_BLOCKED

    def set_state(self, state: ErrorState) -> None:
        """Set the state of all functions that recovery is for (``eeh_set_channel_state``)."""
        for dev in self.every():
            if dev.actionable and dev.pdev is not None:
                dev.pdev.error_state = state

    def count(self, now: float) -> None:
        """Count a freeze, from 1 again after an hour (``eeh_pe_update_time_stamp``)."""
        if self.freezes <= 0 or now - self.since > _WINDOW:
            self.freezes, self.since = 0, now
        self.freezes += 1

    def top(self) -> PcieBus | None:
        """The bus that it is (``eeh_pe_bus_get``)."""
        if self.type & PeType.PHB:
            return self.host.bus
        if self.flags & EehPeFlag.PRI_BUS:
            return self.bus
        pdev = self.devs[0].pdev if self.devs else None
        return None if pdev is None else bus_of(pdev)

    def clean(self) -> None:
        """Take those below away that have nothing any more (``eeh_pe_cleanup``).

        The kernel looks for the mark of an invalid one among the flags, where the same bit says that it is frozen.
        """
        for child in tuple(self.children):
            child.clean()
        if self.flags & EehPeFlag.KEEP or not self.flags & EehPeFlag.ISOLATED or self.devs or self.children:
            return
        if self.parent is not None:
            self.parent.children.remove(self)


def bus_of(pdev: PciDevice) -> PcieBus | None:
    """The bus that a device is on (``pci_dev.bus``)."""
    from pyvfio_backends.software.linux.pcie_function import PcieFunction

    return pdev.sysdata.on if isinstance(pdev.sysdata, PcieFunction) else None
