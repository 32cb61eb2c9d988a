"""A unit of Intel's IOMMU (VT-d): it translates the DMA of the devices below a root complex, each by its routing id.

::

    Source (segment, routing id) --> context --> DmaSpace of the domain       mapped: memory
        |                              \\-> none, or not mapped there          `faults`, unsupported request
        |-- not `enabled` -------------> `memory`
        \\-- message range ------------> `messages`

Source: Intel Virtualization Technology for Directed I/O, Architecture Specification (chapters 3, 7 and 11).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from pyvfio_backends.software.hardware.dma import DmaFault, DmaSpace
from pyvfio_backends.software.hardware.pcie.upstream import Source

__all__ = [
    "NOTHING",
    "WIDTHS",
    "Abilities",
    "FaultReason",
    "RefusedDma",
    "RemappingFault",
    "RemappingUnit",
    "RemappingUnits",
    "unit_address",
]

_MOST_FAULTS = 64
_FIRST_ADDRESS = 0xFED90000
WIDTHS: Final = (39, 48, 57)
"""How many bits DMA addresses can have: with page tables of three, four and five levels."""
_CACHING, _PAGE_INVALIDATION, _DRAIN_WRITES, _DRAIN_READS = 1 << 7, 1 << 39, 1 << 54, 1 << 55
_SCALABLE, _DIRTY_BITS, _SECOND_STAGE, _FIRST_STAGE, _COHERENT_WALKS = 1 << 43, 1 << 45, 1 << 46, 1 << 47, 1 << 48
_NESTS, _SUPERVISOR, _EXTENDED = 1 << 26, 1 << 31, 1 << 34
_HUGE, _FIVE_LEVELS = 1 << 56, 1 << 60
_QUEUED, _REMAPS_INTERRUPTS, _PASSES, _SNOOPS = 1 << 1, 1 << 3, 1 << 6, 1 << 7
_DOMAINS_SHIFT, _TABLES_SHIFT, _WIDTH_SHIFT, _FAULTS_SHIFT, _LARGE_SHIFT, _MASK_SHIFT = 0, 8, 16, 24, 34, 48
_IOTLB_SHIFT, _HANDLE_SHIFT = 8, 20


class FaultReason(IntEnum):
    """Why a request was refused, as fault recording registers tell it (VT-d specification, 7.2.3).

    The first three are those of a unit in legacy mode, the others those of the scalable mode.
    """

    NO_CONTEXT = 0x02
    NO_WRITE = 0x05
    NO_READ = 0x06
    NO_PASID_ENTRY = 0x59
    NOT_PRESENT = 0x71
    RESERVED_BITS = 0x72
    BEYOND_WIDTH = 0x74
    ROOT_NOT_READABLE = 0x75
    TABLE_NOT_READABLE = 0x76
    TABLE_NOT_WRITABLE = 0x77
    SECOND_STAGE_ACCESS = 0x79
    NOT_CANONICAL = 0x80
    NOT_USER = 0x81
    SCALABLE_NO_WRITE = 0x85


_IN_SCALABLE_MODE: Final = {
    FaultReason.NO_CONTEXT: FaultReason.NO_PASID_ENTRY,
    FaultReason.NO_WRITE: FaultReason.SECOND_STAGE_ACCESS,
    FaultReason.NO_READ: FaultReason.SECOND_STAGE_ACCESS,
}


class RefusedDma(DmaFault):
    """A fault of which an address space knows the `reason` better than the unit."""

    def __init__(self, iova: int, count: int, reason: FaultReason, *, write: bool) -> None:
        super().__init__(iova, count, write=write)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RemappingFault:
    """A refused request: whose it was, where it went, and why."""

    source: Source
    address: int
    write: bool
    reason: FaultReason


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a unit can do, as its capability registers tell it (VT-d specification, 11.4.2 and 11.4.3).

    `width` is one of `WIDTHS`; `large_pages` has bit 0 for pages of 2 MiB and bit 1 for 1 GiB; `caching`: it may keep
    what is not present, as an emulated one does; `snoops`: it can enforce coherency against a device's wish; `dirty`:
    it has the scalable mode, in which page tables note what was written.  The defaults are QEMU's
    ``intel-iommu,intremap=on,caching-mode=on,aw-bits=48``.

    `nests`: it has the scalable mode with page tables of programs in others; these have five levels where it has
    `five_levels`, and it takes requests of supervisor mode (`supervisor`) and notes what it used in one more bit
    (`extended`).
    """

    width: int = 48
    large_pages: int = 0b11
    caching: bool = True
    snoops: bool = False
    dirty: bool = False
    nests: bool = False
    five_levels: bool = False
    supervisor: bool = False
    extended: bool = False
    domain_bits: int = 16
    version: int = 0x10

    @property
    def capability(self) -> int:
        """The capability register, 64 bits."""
        levels = WIDTHS.index(self.width) + 1
        tables = (1 << levels) - 1 << 1  # bit 1 for three levels, bit 2 for four, bit 3 for five
        faults, mask = 0x220, 18
        return (
            (self.domain_bits - 4) // 2 << _DOMAINS_SHIFT
            | self.caching * _CACHING
            | tables << _TABLES_SHIFT
            | self.width - 1 << _WIDTH_SHIFT
            | faults // 16 << _FAULTS_SHIFT
            | self.large_pages << _LARGE_SHIFT
            | mask << _MASK_SHIFT
            | _PAGE_INVALIDATION
            | _DRAIN_WRITES
            | _DRAIN_READS
            | (self.nests and self.huge) * _HUGE
            | self.five_levels * _FIVE_LEVELS
        )

    @property
    def huge(self) -> bool:
        """Whether there are pages of 1 GiB."""
        return bool(self.large_pages & 0b10)

    @property
    def scalable(self) -> bool:
        """Whether it has the scalable mode."""
        return self.dirty or self.nests

    @property
    def extended_capability(self) -> int:
        """The extended capability register, 64 bits."""
        iotlb, handles = 0xF0, 0xF
        return (
            _QUEUED
            | _REMAPS_INTERRUPTS
            | _PASSES
            | self.snoops * _SNOOPS
            | self.scalable * (_SCALABLE | _SECOND_STAGE | _COHERENT_WALKS)
            | self.dirty * _DIRTY_BITS
            | self.nests * (_FIRST_STAGE | _NESTS)
            | self.supervisor * _SUPERVISOR
            | self.extended * _EXTENDED
            | iotlb // 16 << _IOTLB_SHIFT
            | handles << _HANDLE_SHIFT
        )

    @property
    def page_sizes(self) -> int:
        """The sizes of pages that it translates, one bit each."""
        return 1 << 12 | sum(1 << 21 + 9 * level for level in range(2) if self.large_pages >> level & 1)


def unit_address(number: int) -> int:
    """Where the registers of a unit are: the first as on a q35, the others one page each after it."""
    return _FIRST_ADDRESS + (number << 12)


class _Nothing:
    """An address space with nothing mapped (`hardware.dma.DmaSpace`)."""

    def read(self, iova: int, count: int) -> bytes:
        """See `DmaSpace.read`."""
        raise DmaFault(iova, count, write=False)

    def write(self, iova: int, data: bytes) -> None:
        """See `DmaSpace.write`."""
        raise DmaFault(iova, len(data), write=True)

    def copy(self, target: int, source: int, count: int) -> None:
        """See `DmaSpace.copy`."""
        raise DmaFault(source, count, write=False)


NOTHING: Final = _Nothing()
"""Page tables that are empty."""


class RemappingUnit:
    """A unit for the devices of one segment or more (an `Iommu`); its registers are at `address`.

    While it is not `enabled`, addresses of devices are those of `memory`.  Then `contexts` has the address space of
    each (segment, routing id) that has one, and requests of others are refused.  `scalable`: it was put into the
    scalable mode, which has its own reasons for that.
    `faults` has the last refused requests, oldest first, and `on_fault` is told of each (the unit's interrupt).
    `messages` is told of interrupts: source, address, data.
    """

    def __init__(
        self,
        abilities: Abilities | None = None,
        *,
        address: int = _FIRST_ADDRESS,
        memory: DmaSpace = NOTHING,
    ) -> None:
        self.enabled = False
        self.scalable = False
        self.memory = memory
        self.abilities = Abilities() if abilities is None else abilities
        self.address = address
        self.contexts: dict[tuple[int, int], DmaSpace] = {}
        self.faults: deque[RemappingFault] = deque(maxlen=_MOST_FAULTS)
        self.on_fault: Callable[[RemappingFault], None] | None = None
        self.messages: Callable[[Source, int, int], None] | None = None

    def read(self, source: Source, address: int, count: int) -> bytes:
        """See `Iommu.read`."""
        space = self._space(source, address, count, write=False)
        try:
            return space.read(address, count)
        except DmaFault as fault:
            if space is not self.memory:
                self._refuse(source, fault.iova, _reason(fault, FaultReason.NO_READ), write=False)
            raise

    def write(self, source: Source, address: int, data: bytes) -> None:
        """See `Iommu.write`."""
        space = self._space(source, address, len(data), write=True)
        try:
            space.write(address, data)
        except DmaFault as fault:
            if space is not self.memory:
                self._refuse(source, fault.iova, _reason(fault, FaultReason.NO_WRITE), write=True)
            raise

    def message(self, source: Source, address: int, data: int) -> None:
        """See `Iommu.message`: interrupts are not translated."""
        if self.messages is not None:
            self.messages(source, address, data)

    def _space(self, source: Source, address: int, count: int, *, write: bool) -> DmaSpace:
        if not self.enabled:
            return self.memory
        space = self.contexts.get((source.segment, source.rid))
        if space is None:
            self._refuse(source, address, FaultReason.NO_CONTEXT, write=write)
            raise DmaFault(address, count, write=write)
        return space

    def _refuse(self, source: Source, address: int, reason: FaultReason, *, write: bool) -> None:
        if self.scalable:
            reason = _IN_SCALABLE_MODE.get(reason, reason)
        fault = RemappingFault(source, address, write, reason)
        self.faults.append(fault)
        if self.on_fault is not None:
            self.on_fault(fault)


def _reason(fault: DmaFault, usual: FaultReason) -> FaultReason:
    return fault.reason if isinstance(fault, RefusedDma) else usual


class RemappingUnits:
    """An `Iommu` of several units, each for one segment (`units`)."""

    def __init__(self, units: Mapping[int, RemappingUnit]) -> None:
        self.units = units

    def read(self, source: Source, address: int, count: int) -> bytes:
        """See `Iommu.read`."""
        return self.units[source.segment].read(source, address, count)

    def write(self, source: Source, address: int, data: bytes) -> None:
        """See `Iommu.write`."""
        self.units[source.segment].write(source, address, data)

    def message(self, source: Source, address: int, data: int) -> None:
        """See `Iommu.message`."""
        self.units[source.segment].message(source, address, data)
