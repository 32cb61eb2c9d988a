"""Which devices a guest has: their subchannels and device numbers there, its memory in their address spaces.

A device that comes or goes while the guest runs is reported by channel report words (CRW).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, Self

from pyvfio.address import DeviceNumber, SubchannelId
from pyvfio.css.crw import Crw, ErrorRecovery, ReportingSource
from pyvfio.css.interruption import Interruptions
from pyvfio.css.schib import Schib
from pyvfio.css.trace import StepListener
from pyvfio.errors import Misuse, PyvfioError
from pyvfio.iommu.address_space import AddressSpace
from pyvfio.passthrough.guest_subchannel import GuestSubchannel
from pyvfio.passthrough.host_subchannel import HostSubchannel
from pyvfio.passthrough.memory import GuestStorage, MemoryArea
from pyvfio.vfio import Device

__all__ = ["GuestInventory", "Passed"]

_NUMBERS: Final = 1 << 16


class Passed:
    """A subchannel of the guest and the host's behind it; what was warned of."""

    def __init__(self, guest: GuestSubchannel, host: HostSubchannel) -> None:
        self.guest = guest
        self.host = host
        self.warned: set[str] = set()
        #: Whether a clear was sent to the host that the guest knows nothing of.
        self.clearing = False


class GuestInventory:
    """The subchannels of a guest with the storage `memory`; `on_crw` is called when a channel report is queued."""

    def __init__(self, memory: GuestStorage, on_crw: Callable[[], None], trace: StepListener | None) -> None:
        self.memory = memory
        self._on_crw = on_crw
        self._trace = trace
        self._lock = threading.RLock()
        self._passed: dict[SubchannelId, Passed] = {}
        self._requests = Interruptions()
        self._reports: deque[Crw] = deque()
        self._spaces: dict[int, list[SubchannelId]] = {}

    def attach(
        self,
        device: Device,
        guest: DeviceNumber | str,
        *,
        schid: SubchannelId | str | None = None,
        report: bool = False,
    ) -> SubchannelId:
        """Give an open vfio-ccw device to the guest, where its device number is `guest`; the guest's subchannel.

        Without `schid` it is the first one that is free in the image and set of the device number.  The guest's memory
        becomes visible to the device at the guest's addresses.  With `report` (a device that comes while the guest
        runs) a channel report tells the guest.  The device is closed with this object, or when the host wants it back;
        it stays the caller's when this raises.

        Raise `Misuse` when the subchannel or the device number is taken, or for a device that is not vfio-ccw's;
        `NotAvailable` for a kernel without a SCHIB region; the class for the errno of a mapping.
        """
        number = guest if isinstance(guest, DeviceNumber) else DeviceNumber.parse(guest)
        with self._lock:
            chosen = self._place(number, SubchannelId.parse(schid) if isinstance(schid, str) else schid)
            host = HostSubchannel(device, trace=self._trace)
            try:
                stored = host.schib()
                self._map(device.space, chosen)
            except BaseException:
                host.release()
                raise
            self._passed[chosen] = Passed(GuestSubchannel(chosen, number.devno, stored), host)
            if report:
                self._report_subchannel(chosen)
        return chosen

    def _place(self, number: DeviceNumber, schid: SubchannelId | None) -> SubchannelId:
        place = (number.cssid, number.ssid)
        for other, passed in self._passed.items():
            if (other.cssid, other.ssid) == place and passed.guest.devno == number.devno:
                raise Misuse("attach device", str(number), cause=f"subchannel {other} has this device number")
        if schid is None:
            numbers = (SubchannelId(*place, one) for one in range(_NUMBERS))
            return next(one for one in numbers if one not in self._passed)
        if schid in self._passed:
            raise Misuse("attach device", str(schid), cause="there is a subchannel with this id already")
        if (schid.cssid, schid.ssid) != place:
            raise Misuse("attach device", str(schid), cause=f"device {number} is in another image or set")
        return schid

    def _map(self, space: AddressSpace, schid: SubchannelId) -> None:
        users = self._spaces.setdefault(id(space), [])
        try:
            if not users:
                self._show_memory(space)
            users.append(schid)
        finally:
            if not users:
                del self._spaces[id(space)]

    def memory_added(self) -> None:
        """Let the devices see memory that was added after `attach`.  Raise the class for the errno of a mapping."""
        with self._lock:
            for space in self._all_spaces():
                self._show_memory(space)

    def memory_removed(self, area: MemoryArea) -> None:
        """Hide an area of memory from the devices, before it goes away.

        A program that uses it is stopped by the kernel, and ends with interface-control check in the guest.  Raise the
        class for the errno.
        """
        with self._lock:
            for space in self._all_spaces():
                if space.mapping_at(area.start) is not None:
                    space.unmap(area.start, area.length)
            for passed in self._passed.values():
                self._stopped(passed)

    def _all_spaces(self) -> list[AddressSpace]:
        return list({id(one.host.device.space): one.host.device.space for one in self._passed.values()}.values())

    def _stopped(self, passed: Passed) -> None:
        """Look whether the host has stopped what runs there."""

    def _show_memory(self, space: AddressSpace) -> None:
        with ExitStack() as undo:
            for area in self.memory.areas():
                if space.mapping_at(area.start) is None:
                    space.map(area.address, area.length, area.start)
                    undo.callback(space.unmap, area.start, area.length)
            undo.pop_all()

    def detach(self, schid: SubchannelId) -> None:
        """Take a device away from the guest, as when it is unplugged: a channel report tells, the device is closed.

        Raise `Misuse` when there is none.
        """
        with self._lock:
            if schid not in self._passed:
                raise Misuse("detach device", str(schid), cause="there is no such subchannel")
            self._remove(schid)
            self._report_subchannel(schid)

    def _remove(self, schid: SubchannelId) -> None:
        passed = self._passed.pop(schid)
        self._requests.withdraw(schid)
        space = passed.host.device.space
        users = self._spaces[id(space)]
        users.remove(schid)
        passed.host.close()
        if not users:
            del self._spaces[id(space)]
            for area in self.memory.areas():
                if space.mapping_at(area.start) is not None:
                    space.unmap(area.start, area.length)

    def schids(self) -> list[SubchannelId]:
        """The guest's subchannels, in order."""
        with self._lock:
            return sorted(self._passed)

    def has(self, schid: SubchannelId) -> bool:
        """Whether the guest has such a subchannel."""
        return schid in self._passed

    def stored(self, schid: SubchannelId) -> Schib | None:
        """What STORE SUBCHANNEL would store, None when it would store nothing."""
        with self._lock:
            passed = self._passed.get(schid)
            return passed.guest.schib() if passed is not None and self._refresh(passed) else None

    def path_type(self, cssid: int, chpid: int) -> int | None:
        """The type (8 bits) of a channel path of the guest; None when none of its subchannels has it."""
        with self._lock:
            for schid, passed in self._passed.items():
                pmcw = passed.guest.pmcw
                if schid.cssid == cssid and any(
                    number == chpid and pmcw.pim & 0x80 >> at for at, number in enumerate(pmcw.chpid)
                ):
                    return passed.host.path_type(chpid)
            return None

    def host_name(self, schid: SubchannelId) -> str:
        """The host's name of the device behind a subchannel.  Raise `Misuse` when there is none."""
        with self._lock:
            if schid not in self._passed:
                raise Misuse("name device", str(schid), cause="there is no such subchannel")
            return self._passed[schid].host.device.name

    def _report_subchannel(self, schid: SubchannelId) -> None:
        first, second = Crw.for_subchannel(schid, ErrorRecovery.PARAMETERS_INITIALIZED)
        if schid.cssid or schid.ssid:
            self._report(first, second)
        else:
            self._report(Crw(rsc=ReportingSource.SUBCHANNEL, erc=first.erc, rsid=schid.number))

    def report(self, *crws: Crw) -> None:
        """Queue channel reports for the guest, of a hypervisor's own."""
        with self._lock:
            self._report(*crws)

    def _report(self, *crws: Crw) -> None:
        self._reports.extend(crws)
        self._on_crw()

    def _refresh(self, passed: Passed) -> bool:
        try:
            passed.guest.refresh(passed.host.schib())
        except PyvfioError:
            return False
        return True

    def close(self) -> None:
        """Close all devices; a second call does nothing."""
        with self._lock, ExitStack() as stack:
            for schid in list(self._passed):
                stack.callback(self._remove, schid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} with {len(self._passed)} subchannels>"
