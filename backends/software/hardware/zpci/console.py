"""What people at the machine's console, and the machine itself, do with PCI functions while it runs.

::

                 offer                assign
    reserved -----------> standby -------------> configured
        ^    <-----------    ^   <-------------      |
        |      reserve       |        take           |
        +--------------------+-----------------------+
                          surprise

The operating system is told of each step by an event; what it has to answer, it answers with SCLP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pyvfio.errors import Misuse
from pyvfio.zpci.event_code import AvailabilityCode, ErrorCode
from pyvfio_backends.software.hardware.zpci.function import FunctionState, ZpciFunction

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.zpci.facility import ZpciEvent, ZpciFacility

__all__ = ["ZpciConsole"]

_MEASUREMENT: Final = (ErrorCode.MEASUREMENT_ADDRESS, ErrorCode.MEASUREMENT_UPDATE, ErrorCode.MEASUREMENT_PROTECTED)
_PERMANENT: Final = (ErrorCode.PERMANENT_ERROR, ErrorCode.RECOVERY_FAILED)
_GIVEN: Final = {"reserved": FunctionState.RESERVED, "standby": FunctionState.STANDBY}


class ZpciConsole:
    """The console of `facility`.  Every verb raises `NoSuchDevice` for a function that there is not, and `Misuse` for
    one that is in another state than the verb needs; nothing has happened then.
    """

    def __init__(self, facility: ZpciFacility) -> None:
        self._facility = facility

    def offer(self, fid: int) -> None:
        """Reserved to standby: this system may have the function (event 0x0302)."""
        with self._facility.lock:
            function = self._in("offer PCI function", fid, FunctionState.RESERVED)
            function.state = FunctionState.STANDBY
            self._facility.tell(AvailabilityCode.STANDBY, function)

    def assign(self, fid: int) -> None:
        """Reserved or standby to configured: this system gets the function (event 0x0301)."""
        with self._facility.lock:
            function = self._in("assign PCI function", fid, FunctionState.RESERVED, FunctionState.STANDBY)
            function.state = FunctionState.DISABLED
            self._facility.tell(AvailabilityCode.CONFIGURED, function)

    def take(self, fid: int, *, reserve: bool = False) -> None:
        """Configured to standby, or reserved, without asking (event 0x0304): loads and stores fail from now on."""
        with self._facility.lock:
            function = self._configured("take PCI function", fid)
            function.reset()
            function.state = FunctionState.RESERVED if reserve else FunctionState.STANDBY
            self._facility.tell(AvailabilityCode.DECONFIGURED, function)

    def ask(self, fid: int) -> None:
        """Ask for a configured function (event 0x0303): the operating system answers by deconfiguring it."""
        with self._facility.lock:
            self._facility.tell(AvailabilityCode.DECONFIGURE_REQUESTED, self._configured("ask for PCI function", fid))

    def reserve(self, fid: int) -> None:
        """Standby to reserved: another system has the function (event 0x0308)."""
        with self._facility.lock:
            function = self._in("reserve PCI function", fid, FunctionState.STANDBY)
            function.state = FunctionState.RESERVED
            self._facility.tell(AvailabilityCode.RESERVED, function)

    def change(self, states: Mapping[int, str]) -> None:
        """Have several functions be ``standby`` or ``reserved``, told by one event (0x0306).

        None of them may be configured.
        """
        operation = "change PCI functions"
        with self._facility.lock:
            functions = {
                self._in(operation, fid, FunctionState.RESERVED, FunctionState.STANDBY): state
                for fid, state in states.items()
            }
            for state in states.values():
                if state not in _GIVEN:
                    raise Misuse(operation, cause=f"standby or reserved, not {state}")
            if not functions:
                raise Misuse(operation, cause="it names no function")
            for function, state in functions.items():
                function.state = _GIVEN[state]
            self._facility.tell(AvailabilityCode.SEVERAL_CHANGED, next(iter(functions)))

    def fail(self, fid: int, code: ErrorCode = ErrorCode.SERVICE_ACTION, *, address: int = 0) -> None:
        """Have an enabled function report an error, at a DMA `address` if that is the cause.

        It goes into the error state, with a permanent error or a failed recovery for good; an error of its measurement
        block leaves it as it is.
        """
        with self._facility.lock:
            function = self._in("fail PCI function", fid, FunctionState.ENABLED)
            if code in _PERMANENT:
                function.state = FunctionState.PERMANENT_ERROR
            elif code not in _MEASUREMENT:
                function.state = FunctionState.ERROR
            self._facility.report(fid, code, address=address)

    def inject(self, event: ZpciEvent) -> None:
        """Report an event as it is, whatever the function's state: a late one, or one of no function."""
        with self._facility.lock:
            if self._facility.on_event is not None:
                self._facility.on_event(event)

    def _in(self, operation: str, fid: int, *states: FunctionState) -> ZpciFunction:
        function = self._facility.function(fid)
        if function.state not in states:
            wanted = " or ".join(state.value for state in states)
            raise Misuse(operation, f"fid {fid:#x}", cause=f"it is {function.state.value}, not {wanted}")
        return function

    def _configured(self, operation: str, fid: int) -> ZpciFunction:
        function = self._facility.function(fid)
        if not function.configured:
            raise Misuse(operation, f"fid {fid:#x}", cause=f"it is {function.state.value}, not configured")
        return function
