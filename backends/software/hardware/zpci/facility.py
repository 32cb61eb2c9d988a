"""The zPCI facility of a machine: its functions, what CLP and SCLP do with them, and the events of plugging."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyvfio.errors import Misuse, NoSuchDevice
from pyvfio.zpci.event_code import AvailabilityCode, ErrorCode
from pyvfio.zpci.handle import FH_INDEX, Sharing
from pyvfio_backends.software.hardware.zpci.clp import GroupFacts
from pyvfio_backends.software.hardware.zpci.function import FunctionState, ZpciFunction
from pyvfio_backends.software.hardware.zpci.instructions import Refused
from pyvfio_backends.software.hardware.zpci.models import FunctionDescription, Schedule, build_function, virtual

if TYPE_CHECKING:
    from pyvfio.zpci.sclp import ErrorNotification
    from pyvfio_backends.software.hardware.dma import DmaFault
    from pyvfio_backends.software.hardware.zpci.console import ZpciConsole

__all__ = ["ZpciEvent", "ZpciFacility"]

_FORWARDED = 0xFFFF
"""Functions whose interruptions can be forwarded at a time."""


@dataclass(frozen=True, slots=True)
class ZpciEvent:
    """An event about function `fid`, with its handle then.

    An error may tell of an access to `address` (a store, with `write`), or of an MSI `vector`.
    """

    code: AvailabilityCode | ErrorCode
    fid: int
    fh: int
    address: int = 0
    vector: int = 0
    write: bool = False


def _taken(fid: int) -> Misuse:
    return Misuse("plug PCI function", f"fid {fid:#x}", cause="there is a function with this identifier")


class ZpciFacility:
    """The functions, by function identifier.

    `sharing` says in their handles whose they are, `mio` whether they can be reached by PCI memory I/O instructions.
    So many `processors` can have directed interruptions (0: none); a machine that `forwards` brings interruptions to
    guests.  The operating system sets `on_event`; it is called for each event and must not keep the caller waiting.
    """

    def __init__(
        self,
        specs: Iterable[FunctionDescription] = (),
        *,
        uid_checking: bool = True,
        sharing: Sharing = Sharing.EMULATED,
        mio: bool = False,
        groups: Iterable[GroupFacts] = (),
        processors: int = 0,
        forwards: bool = False,
        schedule: Schedule | None = None,
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        self.lock = lock if lock is not None else contextlib.nullcontext()
        self.uid_checking = uid_checking
        self._sharing = sharing
        self.mio = mio
        self._groups = {group.pfgid: group for group in groups}
        self.processors = processors
        self.forwards = forwards
        self.functions: dict[int, ZpciFunction] = {}
        self.on_event: Callable[[ZpciEvent], None] | None = None
        self.on_leave: Callable[[ZpciFunction], None] = lambda function: None
        """Called when a function has left the machine."""
        self.takes_reports = False
        """Whether SCLP takes notifications of errors."""
        self.reports: list[tuple[ErrorNotification, bytes]] = []
        """Those that it took, with their data."""
        self._schedule = schedule
        self._number = 0
        self._leaving: set[int] = set()
        self._left: weakref.WeakSet[ZpciFunction] = weakref.WeakSet()
        """Those that are gone, but may be known to somebody, who has their memory mapped."""
        self._virtual: dict[int, list[ZpciFunction]] = {}
        for spec in specs:
            self._add(spec)

    def _add(self, spec: FunctionDescription) -> ZpciFunction:
        specs = [spec, *virtual(spec)]
        known = set(self.functions)
        for one in specs:
            if one.fid in known:
                raise _taken(one.fid)
            known.add(one.fid)
        function, *others = (self._make(one, self._number + place) for place, one in enumerate(specs))
        self._number += len(specs)
        self.functions |= {one.fid: one for one in (function, *others)}
        if function.sriov is not None:
            self._virtual[function.fid] = others
            function.sriov.on_enable = lambda count: self._virtual_functions(others, count)
        return function

    def _make(self, spec: FunctionDescription, number: int) -> ZpciFunction:
        function = build_function(spec, number, self._schedule, mio=self.mio, groups=self._groups)
        function.sharing = self._sharing
        function.on_dma_fault = functools.partial(self._dma_failed, function)
        if self.processors or self.forwards:
            group = function.group
            function.group = replace(
                group,
                directed=group.max_interrupts if self.processors else 0,
                processors=self.processors,
                forwarded=_FORWARDED if self.forwards else 0,
            )
        if spec.state != "configured":
            function.state = FunctionState(spec.state)
        return function

    def _virtual_functions(self, functions: list[ZpciFunction], count: int) -> None:
        """Configure the first `count` virtual functions, and take the others away; not those that have left."""
        for place, function in enumerate(functions):
            if self.functions.get(function.fid) is not function:
                continue
            if place < count and function.state is FunctionState.RESERVED:
                function.state = FunctionState.DISABLED
                self._later(AvailabilityCode.CONFIGURED, function)
            elif place >= count and function.state is not FunctionState.RESERVED:
                function.reset()
                function.state = FunctionState.RESERVED
                self._leaving.discard(function.fid)
                self._later(AvailabilityCode.DECONFIGURED, function)

    def _later(self, code: AvailabilityCode | ErrorCode, function: ZpciFunction) -> None:
        """Report when the store that caused it is over."""
        if self._schedule is None:
            self.tell(code, function)
        else:
            self._schedule(0.0, lambda: self.tell(code, function))

    def _dma_failed(self, function: ZpciFunction, fault: DmaFault) -> None:
        """The function used an address that it was not given: it is in error, which is reported when it has stopped."""
        inside = function.facts.start_dma <= fault.iova <= function.facts.end_dma
        code = ErrorCode.INVALID_TABLE_ENTRY if inside else ErrorCode.OUT_OF_RANGE

        def report() -> None:
            if self.functions.get(function.fid) is function and function.state is FunctionState.ERROR:
                self.report(function.fid, code, address=fault.iova, write=fault.write)

        if self._schedule is None:
            report()
        else:
            self._schedule(0.0, report)

    def tell(self, code: AvailabilityCode | ErrorCode, function: ZpciFunction) -> None:
        """Report an event of a function to the operating system."""
        if self.on_event is not None:
            self.on_event(ZpciEvent(code, function.fid, function.fh))

    def function(self, fid: int) -> ZpciFunction:
        """The function with this identifier.  Raise `NoSuchDevice`."""
        function = self.functions.get(fid)
        if function is None:
            known = ", ".join(f"{one:x}" for one in sorted(self.functions)) or "none"
            raise NoSuchDevice("find PCI function", f"fid {fid:#x}", cause=f"the machine has none (FIDs: {known})")
        return function

    def all_functions(self) -> list[ZpciFunction]:
        """All of them, also the reserved ones (for `pyvfio.zpci.function.FunctionSet`)."""
        return list(self.functions.values())

    # CLP and SCLP, for the operating system

    def listed(self) -> list[ZpciFunction]:
        """The functions of CLP LIST PCI, in its order: all that are not reserved (`ZpciFunction.entry` for each)."""
        return [function for function in self.functions.values() if function.state is not FunctionState.RESERVED]

    def configure(self, fid: int) -> None:
        """SCLP CONFIGURE: standby to configured.  Raise `Refused`."""
        function = self.functions.get(fid)
        if function is None or function.state is FunctionState.RESERVED:
            raise Refused(3)
        if function.state is FunctionState.STANDBY:
            function.state = FunctionState.DISABLED

    def deconfigure(self, fid: int) -> None:
        """SCLP DECONFIGURE: configured to standby; one that is enabled is reset.  Raise `Refused`.

        A function whose removal was asked for (`unplug`) leaves the machine now.
        """
        function = self.functions.get(fid)
        if function is None or function.state is FunctionState.RESERVED:
            raise Refused(3)
        if function.state not in (FunctionState.DISABLED, FunctionState.STANDBY):
            function.reset()
        function.state = FunctionState.STANDBY
        if fid in self._leaving:
            self._leave(function)

    def close(self) -> None:
        """Give back what functions hold: the memory behind BARs."""
        for function in (*self.functions.values(), *self._left):
            for bar in function.bars.values():
                if bar.memory is not None:
                    bar.memory.close()

    def adapter_state(self, fid: int) -> FunctionState | None:
        """The state of a function, None for one that there is not (see `pyvfio.zpci.sclp.Adapters`)."""
        function = self.functions.get(fid)
        return None if function is None else function.state

    def notified(self, notification: ErrorNotification, data: bytes) -> bool:
        """Keep a report of an error, if the machine takes some.

        One that asks for it has an enabled function reset, which is then to be recovered, as an error event says.
        """
        from pyvfio.zpci.sclp import ReportAction  # hardly a run reports errors

        if self.takes_reports:
            self.reports.append((notification, data))
            function = self.functions.get(notification.fid)
            enabled = function is not None and function.state is FunctionState.ENABLED
            if enabled and notification.action == ReportAction.RESET:
                self.fail(notification.fid)
        return self.takes_reports

    # people at the console

    def plug(self, spec: FunctionDescription) -> ZpciFunction:
        """Add a function at run time.  Raise `Misuse` when its identifier is taken."""
        with self.lock:
            function = self._add(spec)
            if function.configured:
                self.tell(AvailabilityCode.CONFIGURED, function)
            elif function.state is FunctionState.STANDBY:
                self.tell(AvailabilityCode.STANDBY, function)
            return function

    def adopt(self, function: ZpciFunction) -> None:
        """Add a function that was made elsewhere, configured.  Raise `Misuse` when its identifier is taken."""
        with self.lock:
            if function.fid in self.functions:
                raise _taken(function.fid)
            self.functions[function.fid] = function
            self._number = max(self._number, (function.fh & FH_INDEX) + 1)
            self.tell(AvailabilityCode.CONFIGURED, function)

    def report(self, fid: int, code: ErrorCode, *, address: int = 0, vector: int = 0, write: bool = False) -> None:
        """Report an error of a function that has left the enabled state by itself.  Raise `NoSuchDevice`."""
        with self.lock:
            function = self.function(fid)
            if self.on_event is not None:
                self.on_event(ZpciEvent(code, fid, function.fh, address, vector, write))

    def unplug(self, fid: int, *, surprise: bool = False) -> None:
        """Take a function away.  Raise `NoSuchDevice`.

        The operating system is asked to let it go, and it leaves when that is done.  With `surprise` it is gone at
        once, and loads and stores fail from now on.
        """
        with self.lock:
            function = self.function(fid)
            if surprise:
                self._lose_virtual(function)
                function.reset()
                function.state = FunctionState.RESERVED
                self._forget(function)
                self.tell(AvailabilityCode.DECONFIGURED, function)
                self.on_leave(function)
                return
            self._leaving.add(fid)
            if function.configured:
                self.tell(AvailabilityCode.DECONFIGURE_REQUESTED, function)
            else:
                self._leave(function)

    def _lose_virtual(self, function: ZpciFunction) -> None:
        """The physical function goes: so do its virtual ones."""
        others = self._virtual.pop(function.fid, [])
        if function.sriov is not None:
            function.sriov.switch_off()
        for other in others:
            self._forget(other)

    def _forget(self, function: ZpciFunction) -> None:
        """The machine has a function no more, nor is it waited for."""
        if self.functions.get(function.fid) is function:
            del self.functions[function.fid]
            self._left.add(function)
            self._leaving.discard(function.fid)

    def _leave(self, function: ZpciFunction) -> None:
        self._lose_virtual(function)
        function.state = FunctionState.RESERVED
        self._forget(function)
        self.tell(AvailabilityCode.RESERVED, function)
        self.on_leave(function)

    def fail(self, fid: int) -> None:
        """Put an enabled function into the error state.  Raise `NoSuchDevice`, `Misuse` when it is not enabled."""
        self.console.fail(fid)

    @property
    def console(self) -> ZpciConsole:
        """What else people do with functions, and what goes wrong."""
        from pyvfio_backends.software.hardware.zpci.console import ZpciConsole  # few machines need it

        return ZpciConsole(self)
