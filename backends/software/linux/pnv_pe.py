"""Partitionable endpoints as Linux on bare-metal POWER gives them out (``struct pnv_ioda_pe``).

::

    bus     the endpoint of all functions on a bus: the usual one
    all     the same, with the buses behind it: below a bridge to conventional PCI
    device  of one function
    VF      of one virtual function, in a run of numbers of its own
    master  has slaves: what is behind it takes more than one segment of 64-bit memory

Numbers are given out from the top; the last is the reserved one, of whatever has no endpoint, and the one before it is
the root bus's.  What has 64-bit memory has the number of its first segment there, as segment n belongs to endpoint n.
Source: ``arch/powerpc/platforms/powernv/pci-ioda.c`` of Linux 6.12.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import TYPE_CHECKING

from pyvfio.abi import opal as api
from pyvfio.abi.opal import OpalBusCompare, OpalFreezeAction, OpalFreezeState

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.ioda.opal import Opal
    from pyvfio_backends.software.linux.iommu_group import IommuGroup
    from pyvfio_backends.software.linux.pcie_bus import PcieBus
    from pyvfio_backends.software.linux.pcie_function import PcieFunction
    from pyvfio_backends.software.linux.pnv_table_group import PnvTableGroup

__all__ = ["PeFlag", "PnvEndpoints", "PnvPe"]

_BUS_SHIFT = 8
_DOMAIN_ADD, _DOMAIN_REMOVE = api.OPAL_ADD_PE_TO_DOMAIN, api.OPAL_REMOVE_PE_FROM_DOMAIN
_COMPARES = {
    1: OpalBusCompare.ALL,
    2: OpalBusCompare.BITS_7,
    4: OpalBusCompare.BITS_6,
    8: OpalBusCompare.BITS_5,
    16: OpalBusCompare.BITS_4,
    32: OpalBusCompare.BITS_3,
}


class PeFlag(Flag):
    """What an endpoint is of (``PNV_IODA_PE_*``)."""

    NONE = 0
    DEVICE = auto()
    BUS = auto()
    BUS_ALL = auto()
    VF = auto()
    MASTER = auto()
    SLAVE = auto()


@dataclass(eq=False)
class PnvPe:
    """An endpoint by its `number`; `bus`, `function` or `parent` (the physical function) is what it is of.

    `rid` is its first routing id, `devices` how many it has.  `table_group` and `group` are there once a device that
    does DMA is in it.
    """

    number: int
    flags: PeFlag = PeFlag.NONE
    bus: PcieBus | None = None
    function: PcieFunction | None = None
    parent: PcieFunction | None = None
    rid: int = 0
    devices: int = 0
    master: PnvPe | None = None
    slaves: list[PnvPe] = field(default_factory=list)
    table_group: PnvTableGroup | None = None
    group: IommuGroup | None = None

    def whole(self) -> list[PnvPe]:
        """All endpoints that stand or fall with it: the master and its slaves."""
        master = self.master or self
        return [master, *master.slaves]


class PnvEndpoints:
    """The endpoints of bridge `phb_id`, through OPAL."""

    def __init__(self, opal: Opal, phb_id: int) -> None:
        self._opal = opal
        self._phb_id = phb_id
        model = opal.phbs[phb_id].model
        self.total = model.endpoints
        self.reserved = model.reserved
        self.root = self.reserved - 1
        self.every = [PnvPe(number) for number in range(self.total)]
        self._taken: set[int] = set()
        self._rids: dict[int, PnvPe] = {}
        self.reserve(self.reserved)
        self.reserve(self.root)

    def __iter__(self) -> Iterator[PnvPe]:
        """Those that are given out."""
        return (self.every[number] for number in sorted(self._taken))

    def of(self, rid: int) -> PnvPe | None:
        """The endpoint of a routing id (``pnv_pci_bdfn_to_pe``)."""
        return self._rids.get(rid)

    # numbers

    def reserve(self, number: int) -> PnvPe:
        """Take a number, whether or not somebody has it (``pnv_ioda_reserve_pe``)."""
        self._taken.add(number)
        self._opal.pci_eeh_freeze_clear(self._phb_id, number, OpalFreezeAction.ALL)
        return self.every[number]

    def allocate(self, count: int = 1) -> PnvPe | None:
        """Take the highest run of `count` free numbers; the first of them, None without (``pnv_ioda_alloc_pe``)."""
        run = 0
        for number in range(self.total - 1, -1, -1):
            run = 0 if number in self._taken else run + 1
            if run == count:
                for one in range(number, number + count):
                    self.reserve(one)
                return self.every[number]
        return None

    def free(self, pe: PnvPe) -> None:
        """Give a number back (``pnv_ioda_free_pe``)."""
        self.every[pe.number] = PnvPe(pe.number)
        self._taken.discard(pe.number)

    def of_segments(self, segments: set[int]) -> PnvPe | None:
        """The endpoint of what has these segments of 64-bit memory, the others its slaves (`pnv_ioda_pick_m64_pe`)."""
        master: PnvPe | None = None
        for number in sorted(segments):
            pe = self.every[number]
            if master is None:
                master = pe
                pe.flags |= PeFlag.MASTER
            else:
                pe.flags |= PeFlag.SLAVE
                pe.master = master
                master.slaves.append(pe)
        return master

    # routing ids

    def _match(self, pe: PnvPe) -> tuple[OpalBusCompare, bool, int]:
        """How buses are compared, whether device and function are, and how many routing ids that is."""
        if pe.bus is None:
            return OpalBusCompare.ALL, True, 1
        count = pe.bus.last - pe.bus.number + 1 if pe.flags & PeFlag.BUS_ALL else 1
        return _COMPARES.get(count, OpalBusCompare.ALL), False, count << _BUS_SHIFT

    def configure(self, pe: PnvPe) -> bool:
        """Give it its routing ids, and have errors of the bridges above freeze it (``pnv_ioda_configure_pe``)."""
        compare, exact, count = self._match(pe)
        code = self._opal.pci_set_pe(self._phb_id, pe.number, pe.rid, compare, int(exact), int(exact), api.OPAL_MAP_PE)
        if code:
            return False
        for one in (pe, *pe.slaves):
            self._opal.pci_eeh_freeze_clear(self._phb_id, one.number, OpalFreezeAction.ALL)
        self._join(pe, pe, _DOMAIN_ADD)
        for slave in pe.slaves:
            self._join(slave, pe, _DOMAIN_ADD)
        for above in self._above(pe):
            self._join(above, pe, _DOMAIN_ADD)
        for rid in range(pe.rid, pe.rid + count):
            self._rids[rid] = pe
        return True

    def deconfigure(self, pe: PnvPe) -> None:
        """Take its routing ids away (``pnv_ioda_deconfigure_pe``)."""
        compare, exact, count = self._match(pe)
        for rid in range(pe.rid, pe.rid + count):
            self._rids.pop(rid, None)
        for above in self._above(pe):
            self._opal.pci_set_peltv(self._phb_id, above.number, pe.number, _DOMAIN_REMOVE)
        self._opal.pci_eeh_freeze_clear(self._phb_id, pe.number, OpalFreezeAction.ALL)
        self._opal.pci_set_peltv(self._phb_id, pe.number, pe.number, _DOMAIN_REMOVE)
        self._opal.pci_set_pe(self._phb_id, pe.number, pe.rid, compare, int(exact), int(exact), api.OPAL_UNMAP_PE)
        pe.bus = pe.function = pe.parent = None

    def _join(self, parent: PnvPe, child: PnvPe, action: int) -> None:
        """Errors of one freeze the other, with its slaves (``pnv_ioda_set_one_peltv``)."""
        for one in (child, *child.slaves):
            self._opal.pci_set_peltv(self._phb_id, parent.number, one.number, action)

    def _above(self, pe: PnvPe) -> Iterator[PnvPe]:
        """The endpoints of the bridges above it, and of the physical function of a virtual one."""
        at = pe.parent
        if at is None and pe.bus is not None:
            at = pe.bus.above
        elif at is None and pe.function is not None:
            at = pe.function.on.above
        while at is not None:
            found = self.of(at.rid)
            if found is not None:
                yield found
            at = at.on.above

    # frozen or not, for EEH

    def master_of(self, number: int) -> int:
        """The number of the endpoint that one belongs to: its own, but of slaves."""
        return self.every[number].whole()[0].number

    def state(self, number: int) -> OpalFreezeState:
        """What of an endpoint is frozen, slaves included (``pnv_ioda_get_pe_state``)."""
        every = [self._opal.pci_eeh_freeze_status(self._phb_id, one.number) for one in self.every[number].whole()]
        return OpalFreezeState.TEMP_UNAVAIL if any(one.code for one in every) else max(one.state for one in every)

    def freeze(self, number: int) -> None:
        """Freeze it, slaves included (``pnv_ioda_freeze_pe``)."""
        for one in self.every[number].whole():
            self._opal.pci_eeh_freeze_set(self._phb_id, one.number, OpalFreezeAction.ALL)

    def unfreeze(self, number: int, action: OpalFreezeAction) -> bool:
        """Let it go again, slaves included (``pnv_ioda_unfreeze_pe``); whether the firmware did."""
        codes = [
            self._opal.pci_eeh_freeze_clear(self._phb_id, one.number, action) for one in self.every[number].whole()
        ]
        return not any(codes)
