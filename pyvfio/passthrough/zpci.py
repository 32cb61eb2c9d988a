"""A guest's PCI functions on top of VFIO: the hypervisor's half of PCI passthrough on IBM Z.

::

    guest                                here                                    host
    CLP list, query, set      <->  the guest's handles, the host's facts   <-   device info, capability chain
    PCILG, PCISTG, PCISTB      ->  lengths, spaces, states                 ->   region reads and writes
    MPCIFC register IOAT       ->  the guest's tables are read             ->   DMA mappings
    RPCIT                      ->  and read again, for a range             ->   mappings added and removed
    MPCIFC register interrupts ->  where vectors and summary bits are
    adapter interruption      <-   bits are set, as SIC allows             <-   an eventfd per MSI-X vector
    error event               <-   function in error                       <-   the device does not answer
    deconfigure request       <-                                           <-   request interrupt

Functions that are emulated can be there too (`add`): the software machine's own, or any other
`pyvfio.zpci.function.InstructedFunction`.  The instructions are those of the machine (`pyvfio.zpci.processor`).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Final, Self

from pyvfio.errors import Misuse, NoSuchDevice
from pyvfio.passthrough.memory import GuestStorage
from pyvfio.passthrough.zpci_facts import SimulatedGroups
from pyvfio.passthrough.zpci_function import GuestFunction
from pyvfio.passthrough.zpci_interpreted import InterpretedFunction
from pyvfio.passthrough.zpci_waiting import GuestWaiting
from pyvfio.refusal import refusal
from pyvfio.vfio.device import Device
from pyvfio.zpci import sclp
from pyvfio.zpci.event import AvailabilityCode, AvailabilityEvent, ErrorCode, ErrorEvent
from pyvfio.zpci.function import FunctionState, InstructedFunction
from pyvfio.zpci.handle import FH_INDEX
from pyvfio.zpci.identifiers import Identifiers, Pair
from pyvfio.zpci.instructions import Refused
from pyvfio.zpci.interruptions import SUBCLASSES
from pyvfio.zpci.sclp import ErrorNotification
from pyvfio.zpci.sic import SicOperation

__all__ = ["GuestPci"]

_MOST: Final = 1 << 16
_AT_REST: Final = (FunctionState.RESERVED, FunctionState.STANDBY, FunctionState.DISABLED)


class GuestPci(GuestWaiting):
    """The PCI functions of a guest with the storage `memory` (implements `pyvfio.zpci.ZpciInstructions`).

    `on_interruption` is called with the subclass of each adapter interruption, `on_error` and `on_availability` with
    events; they may use the instructions, but must not wait for another thread that does.  What happens at the host is
    taken in by `poll`, `wait`, `wait_async` or the thread of `serve`.  A context manager: closing it closes the
    devices, but not the memory.
    """

    uid_checking = True
    """UIDs in a guest are unique: `attach` sees to it."""

    def __init__(
        self,
        memory: GuestStorage,
        *,
        on_interruption: Callable[[int], None] = lambda isc: None,
        on_error: Callable[[ErrorEvent], None] = lambda event: None,
        on_availability: Callable[[AvailabilityEvent], None] = lambda event: None,
    ) -> None:
        self._memory = memory
        self._functions: list[InstructedFunction] = []
        self.identifiers = Identifiers()
        """Who has which UID and FID, also those that wait for their device."""
        self._on_availability = on_availability
        self._asked: set[int] = set()
        self._groups = SimulatedGroups()
        super().__init__(
            self,
            memory,
            on_interruption=on_interruption,
            on_error=on_error,
        )

    # functions

    def all_functions(self) -> list[InstructedFunction]:
        """All functions of the guest."""
        return list(self._functions)

    def attach(
        self,
        device: Device,
        *,
        uid: int | None = None,
        fid: int | None = None,
        name: str = "",
        interpret: bool = True,
        forwarding_assist: bool = True,
    ) -> GuestFunction:
        """Give the guest an open device, configured; it is told so by an event.

        `name` is what `identifiers` know it by; a pair that waits for it gives the UID (the PCI domain in the guest)
        and the FID.  Else what is not given is the lowest that is free.  With
        `interpret` the host's machine carries out loads and stores, and forwards interruptions (by itself with
        `forwarding_assist`, else its kernel does it), if it can: the function's `interpreted` tells, and its `why` when
        it cannot.  Raise `Misuse` when a name or the handle's index is taken or the device is no PCI function.
        """
        with self.lock:
            with self._joining(name or self._name_of(device), uid, fid) as pair:
                self._check_space(device)
                function = self._make(device, pair.uid, pair.fid, interpret, forwarding_assist)
            function.group = self._groups.number(device.zpci, interpreted=function.interpreted)
            self._functions.append(function)
            self._tell(function, AvailabilityCode.CONFIGURED)
            return function

    def _check_space(self, device: Device) -> None:
        for other in self._functions:
            if isinstance(other, GuestFunction) and other.device is device:
                cause = f"the guest has it already, with fid {other.fid:#x}"
                raise Misuse("give a guest a PCI function", device.name, cause=cause)
            if isinstance(other, GuestFunction) and other.device.space is device.space:
                raise Misuse(
                    "give a guest a PCI function",
                    device.name,
                    cause=f"it shares its address space with {other.device.name}, and each has tables of its own",
                    next_step="open it without space=",
                )

    def _make(self, device: Device, uid: int, fid: int, interpret: bool, assist: bool) -> GuestFunction:
        if not interpret:
            function = GuestFunction(device, self._memory, self.next_index(), uid, fid, self._device_lost)
            function.why = "it was not asked for"
            return function
        machine = self._machine(device.backend)
        if machine is None:
            function = GuestFunction(device, self._memory, self.next_index(), uid, fid, self._device_lost)
            function.why = "nothing on this host interprets PCI instructions (on Linux, KVM does for its own guests)"
            return function
        if device.kind != "pci":
            raise Misuse("give a guest a PCI function", device.name, cause=f"it is a {device.kind} device")
        try:
            host = machine.add(device.fileno())
        except OSError as error:
            raise refusal(device.backend, error, "have PCI instructions interpreted", device.name, path="") from error
        index = host.fh & FH_INDEX
        if any(function.fh & FH_INDEX == index for function in self._functions):
            host.close()
            raise Misuse(
                "give a guest a PCI function",
                device.name,
                cause=f"index {index:#x} of the host's handle is taken in the guest",
                next_step="attach it first, or with interpret=False",
            )
        return InterpretedFunction(
            device, self._memory, uid, fid, self._device_lost, host, assist=assist, changed=self._changed
        )

    def _name_of(self, device: Device) -> str:
        taken = {pair.target for pair in self.identifiers}
        names = itertools.chain([device.name], (f"{device.name}-{n}" for n in itertools.count(2)))
        return next(name for name in names if name not in taken)

    @contextlib.contextmanager
    def _joining(self, name: str, uid: int | None, fid: int | None) -> Iterator[Pair]:
        """The pair of a device; when there is no function after all, it is as before."""
        waits = any(pair.target == name for pair in self.identifiers.waiting())
        if uid is not None or fid is not None:
            self.identifiers.define(name, uid, fid)
        pair = self.identifiers.join(name)
        try:
            yield pair
        except BaseException:
            (self.identifiers.leave if waits else self.identifiers.release)(name)
            raise

    def add(self, function: InstructedFunction, *, name: str = "") -> None:
        """Let the guest have an emulated function.  Raise `Misuse` when its identifiers or its index are taken.

        A pair that waits for `name` has the function's own identifiers.
        """
        with self.lock:
            name = name or f"the function with fid {function.fid:#x}"
            uid = self._uid(function)
            for pair in self.identifiers:
                if pair.target != name and (pair.fid == function.fid or (uid and pair.uid == uid)):
                    cause = f"{pair.target} has uid {pair.uid:#x} and fid {pair.fid:#x}"
                    raise Misuse("give a guest a PCI function", f"fid {function.fid:#x}", cause=cause)
            for other in self._functions:
                if (other.fh ^ function.fh) & FH_INDEX == 0:
                    cause = "the index of its handle is taken"
                    raise Misuse("give a guest a PCI function", f"fid {function.fid:#x}", cause=cause)
            self.identifiers.hold(name, uid, function.fid)
            self._functions.append(function)
            self._tell(function, AvailabilityCode.CONFIGURED)

    def detach(self, fid: int) -> None:
        """Take a function away without asking the guest.  Raise `NoSuchDevice`."""
        with self.lock:
            function = self.function(fid)
            self._remove(function)
            self._tell(function, AvailabilityCode.DECONFIGURED)

    def request(self, fid: int) -> None:
        """Ask the guest to let a function go: it answers by deconfiguring it.  One in standby goes at once.

        Raise `NoSuchDevice`.
        """
        with self.lock:
            function = self.function(fid)
            if function.state is FunctionState.STANDBY:
                self._remove(function)
                self._tell(function, AvailabilityCode.RESERVED)
            elif fid not in self._asked:
                self._asked.add(fid)
                self._tell(function, AvailabilityCode.DECONFIGURE_REQUESTED)

    def deconfigure(self, fid: int) -> None:
        """SCLP DECONFIGURE, by the guest: the function goes to standby, or away if that was asked for.

        One that is enabled is disabled first.  Raise `NoSuchDevice`.
        """
        with self.lock:
            function = self.function(fid)
            if function.state not in (FunctionState.DISABLED, FunctionState.STANDBY, FunctionState.PERMANENT_ERROR):
                with contextlib.suppress(Refused):
                    function.disable()
            function.state = FunctionState.STANDBY
            if fid in self._asked:
                self._remove(function)
                self._tell(function, AvailabilityCode.RESERVED)

    def configure(self, fid: int) -> None:
        """SCLP CONFIGURE, by the guest: standby to configured.  Raise `NoSuchDevice`."""
        with self.lock:
            function = self.function(fid)
            if function.state is FunctionState.STANDBY:
                function.state = FunctionState.DISABLED

    def adapter_state(self, fid: int) -> FunctionState | None:
        """The state of a function, None for one that there is not (see `pyvfio.zpci.sclp.Adapters`)."""
        return next((function.state for function in self._functions if function.fid == fid), None)

    def notified(self, notification: ErrorNotification, data: bytes) -> bool:
        """Take a report of an error; the host has no way to pass it on, so none is taken."""
        return False

    def sclp(self, command: int, sccb: bytes) -> bytes:
        """SERVICE CALL, by the guest: the block after a command about a PCI function.  A guest cannot make it fail."""
        with self.lock:
            return sclp.call(self, command, sccb)

    def function(self, fid: int) -> InstructedFunction:
        """The function with this identifier.  Raise `NoSuchDevice`."""
        for function in self._functions:
            if function.fid == fid:
                return function
        known = ", ".join(f"{function.fid:x}" for function in self._functions) or "none"
        raise NoSuchDevice("find PCI function", f"fid {fid:#x}", cause=f"the guest has none (FIDs: {known})")

    @staticmethod
    def _uid(function: InstructedFunction) -> int:
        return function.uid if isinstance(function, GuestFunction) else function.query().uid

    def next_index(self) -> int:
        """The lowest index that no function's handle has."""
        taken = {function.fh & FH_INDEX for function in self._functions}
        return next(number for number in range(_MOST) if number not in taken)

    def _remove(self, function: InstructedFunction) -> None:
        self._functions.remove(function)
        self._asked.discard(function.fid)
        for pair in tuple(self.identifiers):
            if pair.fid == function.fid:
                self.identifiers.release(pair.target)
        self.forget(function)
        if isinstance(function, GuestFunction):
            function.close()
        function.state = FunctionState.RESERVED

    def _tell(self, function: InstructedFunction, code: AvailabilityCode) -> None:
        self._on_availability(AvailabilityEvent(function.fh, function.fid, int(code)))

    def _device_lost(self, function: GuestFunction) -> None:
        self.report(function, ErrorCode.PERMANENT_ERROR, 0, 0, False)

    def reset(self) -> None:
        """Put all functions into the state in which a guest starts: disabled, with nothing registered.

        Functions that the guest was asked for go now, and all interruptions are allowed again.  Source:
        ``hw/s390x/s390-pci-bus.c`` of QEMU (``s390_pcihost_reset``, ``s390_pci_device_reset``).
        """
        with self.lock:
            for function in self.all_functions():
                if function.fid in self._asked:
                    self._remove(function)
                    self._tell(function, AvailabilityCode.RESERVED)
                elif function.state not in _AT_REST:
                    function.disable()
            for isc in range(SUBCLASSES):
                self.interruptions.control(SicOperation.ALL, isc)

    def close(self) -> None:
        """Close all devices; a second call does nothing."""
        with self.lock:
            for function in self.all_functions():
                self._remove(function)
            self.forget_work()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
