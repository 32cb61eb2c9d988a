"""Enumeration, as firmware does it: finding functions and giving bus numbers, by configuration requests alone.

A bridge found on a bus gets the next number for the bus behind it, all that is behind it is found before the next
function is looked at, and then its subordinate number is the last one given.  Below a port only device 0 is looked
for; where port and device have alternative routing ids (ARI), its functions are followed by them.  A slot for hot-plug
keeps numbers for what may come (`Reserve.buses`); a physical function (SR-IOV) those that its virtual ones need.
`allocation` then gives addresses.  Source: PCI Express Base Specification, 6.0, 7.3 and implementation notes there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.hardware.pcie.bar_sizing import FoundBar, size_bars
from pyvfio_backends.software.hardware.pcie.config_mechanism import ConfigAccess
from pyvfio_backends.software.hardware.pcie.request import rid_of

__all__ = ["Found", "FoundBus", "Reserve", "number_behind", "number_buses"]

_DEVICES, _FUNCTIONS = 32, 8
_NOTHING = 0xFFFFFFFF
_LINKED = (ExpressType.ROOT_PORT, ExpressType.DOWNSTREAM)


@dataclass(frozen=True, slots=True)
class Reserve:
    """What a slot for hot-plug keeps free: bus numbers beyond its own, and at least these windows in bytes."""

    buses: int = 0
    io: int = 0x1000
    memory: int = 0x200000
    prefetchable: int = 0x200000


@dataclass(slots=True)
class FoundBus:
    """A bus: its number, the last one behind it, its functions in the order of their numbers."""

    segment: int
    number: int
    last: int
    functions: list[Found] = field(default_factory=list)

    def walk(self) -> Iterator[Found]:
        """All functions on it and behind it, bridges before what is behind them."""
        for function in self.functions:
            yield function
            if function.behind is not None:
                yield from function.behind.walk()


@dataclass(slots=True)
class Found:
    """A function: where it is, what it says it is, its base addresses; for a bridge the bus `behind` it.

    `behind` is None too for a bridge that no bus number was left for.  `parent` is the bridge that leads to it.
    """

    segment: int
    rid: int
    vendor: int
    device: int
    bridge: bool
    pin: int
    kind: ExpressType | None = None
    hotplug: bool = False
    bars: list[FoundBar] = field(default_factory=list)
    behind: FoundBus | None = None
    parent: Found | None = None

    @property
    def name(self) -> str:
        """Its address as it is commonly written."""
        return f"{self.segment:04x}:{self.rid >> 8:02x}:{self.rid >> 3 & 0x1F:02x}.{self.rid & 7}"


def number_buses(access: ConfigAccess, segment: int, number: int, last: int, reserve: Reserve) -> FoundBus:
    """Find everything behind root bus `number`, with bus numbers up to `last`.  What was numbered before is undone."""
    return _Numbering(access, segment, last, reserve).root(number)


def number_behind(access: ConfigAccess, bridge: Found, buses: range, reserve: Reserve) -> FoundBus:
    """Find everything behind a bridge that has these bus numbers, and number what is behind that within them."""
    numbering = _Numbering(access, bridge.segment, buses[-1], reserve)
    bridge.behind = numbering.behind(bridge, buses.start)
    bridge.behind.last = buses[-1]
    return bridge.behind


class _Numbering:
    def __init__(self, access: ConfigAccess, segment: int, last: int, reserve: Reserve) -> None:
        self.access = access
        self.segment = segment
        self.last = last
        self.reserve = reserve
        self.used = 0

    def _read(self, rid: int, offset: int, length: int) -> int:
        return self.access.config_read(self.segment, rid, offset, length)

    def _write(self, rid: int, offset: int, length: int, value: int) -> None:
        self.access.config_write(self.segment, rid, offset, length, value)

    def root(self, number: int) -> FoundBus:
        self.used = number
        bus = self._bus(number, None)
        bus.last = self.used
        return bus

    def behind(self, bridge: Found, number: int) -> FoundBus:
        self.used = number
        return self._bus(number, bridge)

    def _bus(self, number: int, bridge: Found | None) -> FoundBus:
        bus = FoundBus(self.segment, number, number)
        bus.functions = [self._function(rid, bridge) for rid in self._present(number, bridge)]
        for one in bus.functions:  # numbers of before would lead astray
            if one.bridge:
                self._write(one.rid, bridge_regs.PCI_PRIMARY_BUS, 2, 0)
                self._write(one.rid, bridge_regs.PCI_SUBORDINATE_BUS, 1, 0)
        for one in bus.functions:
            if one.bridge:
                self._behind(one, number)
            else:
                self._virtual(one)
        return bus

    def _present(self, number: int, bridge: Found | None) -> Iterator[int]:
        linked = bridge is not None and bridge.kind in _LINKED
        for device in range(1 if linked else _DEVICES):
            first = rid_of(number, device * _FUNCTIONS)
            if self._read(first, regs.PCI_VENDOR_ID, 4) == _NOTHING:
                continue
            yield first
            if linked and bridge is not None and self._forward_ari(bridge, first):
                yield from self._ari(first)
            elif self._read(first, regs.PCI_HEADER_TYPE, 1) & regs.PCI_HEADER_TYPE_MFD:
                others = range(first + 1, first + _FUNCTIONS)
                yield from (rid for rid in others if self._read(rid, regs.PCI_VENDOR_ID, 4) != _NOTHING)

    def _forward_ari(self, bridge: Found, first: int) -> bool:
        at = self._capability(bridge.rid, regs.PCI_CAP_ID_EXP)
        able = at and self._read(bridge.rid, at + express.PCI_EXP_DEVCAP2, 4) & express.PCI_EXP_DEVCAP2_ARI
        if not able or not self._extended(first, extended.PCI_EXT_CAP_ID_ARI):
            return False
        control = self._read(bridge.rid, at + regs.PCI_EXP_DEVCTL2, 2)
        self._write(bridge.rid, at + regs.PCI_EXP_DEVCTL2, 2, control | regs.PCI_EXP_DEVCTL2_ARI)
        return True

    def _ari(self, first: int) -> Iterator[int]:
        rid = first
        while at := self._extended(rid, extended.PCI_EXT_CAP_ID_ARI):
            following = self._read(rid, at + extended.PCI_ARI_CAP + 1, 1)
            if following <= rid & 0xFF:
                return
            rid = first + following
            if self._read(rid, regs.PCI_VENDOR_ID, 4) == _NOTHING:  # the capability names one that is not there
                return
            yield rid

    def _function(self, rid: int, parent: Found | None) -> Found:
        ids = self._read(rid, regs.PCI_VENDOR_ID, 4)
        header = self._read(rid, regs.PCI_HEADER_TYPE, 1) & regs.PCI_HEADER_TYPE_MASK
        bridge = header == regs.PCI_HEADER_TYPE_BRIDGE
        pin = self._read(rid, regs.PCI_INTERRUPT_PIN, 1)
        found = Found(self.segment, rid, ids & 0xFFFF, ids >> 16, bridge, pin, parent=parent)
        at = self._capability(rid, regs.PCI_CAP_ID_EXP)
        if at:
            flags = self._read(rid, at + regs.PCI_EXP_FLAGS, 2)
            found.kind = ExpressType(regs.pci_exp_type(flags))
            if flags & regs.PCI_EXP_FLAGS_SLOT:
                slot = self._read(rid, at + express.PCI_EXP_SLTCAP, 4)
                found.hotplug = bool(slot & express.PCI_EXP_SLTCAP_HPC)
                self._write(rid, at + express.PCI_EXP_SLTSTA, 2, 0xFFFF)  # what happened before this is no event
        found.bars = size_bars(self.access, self.segment, rid, bridge=bridge)
        sriov = self._extended(rid, regs.PCI_EXT_CAP_ID_SRIOV)
        if sriov:
            total = self._read(rid, sriov + regs.PCI_SRIOV_TOTAL_VF, 2)
            found.bars += size_bars(self.access, self.segment, rid, sriov=sriov, count=total)
        return found

    def _behind(self, found: Found, number: int) -> None:
        if self.used >= self.last:
            return
        self.used += 1
        secondary = self.used
        numbers = number | secondary << 8 | self.last << 16
        self._write(found.rid, bridge_regs.PCI_PRIMARY_BUS, 2, numbers & 0xFFFF)
        self._write(found.rid, bridge_regs.PCI_SUBORDINATE_BUS, 1, numbers >> 16)
        found.behind = self._bus(secondary, found)
        if found.hotplug:
            self.used = min(self.last, max(self.used, secondary + self.reserve.buses))
        found.behind.last = self.used
        self._write(found.rid, bridge_regs.PCI_SUBORDINATE_BUS, 1, self.used)

    def _virtual(self, found: Found) -> None:
        at = self._extended(found.rid, regs.PCI_EXT_CAP_ID_SRIOV)
        if at:
            total, offset, stride = (
                self._read(found.rid, at + field_, 2)
                for field_ in (regs.PCI_SRIOV_TOTAL_VF, regs.PCI_SRIOV_VF_OFFSET, regs.PCI_SRIOV_VF_STRIDE)
            )
            if total:
                farthest = found.rid + offset + (total - 1) * stride >> 8
                self.used = min(self.last, max(self.used, farthest))

    def _capability(self, rid: int, number: int) -> int:
        if not self._read(rid, regs.PCI_STATUS, 2) & regs.PCI_STATUS_CAP_LIST:
            return 0
        at = self._read(rid, regs.PCI_CAPABILITY_LIST, 1)
        while at and self._read(rid, at, 1) != number:
            at = self._read(rid, at + regs.PCI_CAP_LIST_NEXT, 1)
        return at

    def _extended(self, rid: int, number: int) -> int:
        at = regs.PCI_CFG_SPACE_SIZE
        while at:
            header = self._read(rid, at, 4)
            if header in (0, _NOTHING):
                return 0
            if regs.pci_ext_cap_id(header) == number:
                return at
            at = regs.pci_ext_cap_next(header)
        return 0
