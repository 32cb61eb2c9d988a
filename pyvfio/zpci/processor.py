"""The PCI instructions, carried out on the functions of a machine or of a guest.

`Processor` implements `pyvfio.zpci.instructions.ZpciInstructions`; what is different between the two is in the
functions (`pyvfio.zpci.function`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Concatenate, Final, ParamSpec, TypeVar

from pyvfio.css.instructions import Storage
from pyvfio.zpci import access
from pyvfio.zpci.controls import FunctionControls
from pyvfio.zpci.event import ErrorCode, ErrorEvent
from pyvfio.zpci.fib import DirectedFib, Fib
from pyvfio.zpci.function import FunctionSet, FunctionState, InstructedFunction
from pyvfio.zpci.handle import FH_ENABLED, FH_INDEX
from pyvfio.zpci.instructions import Answer, FunctionOperation, OperandException, Request, Status
from pyvfio.zpci.interruptions import AdapterInterruptions
from pyvfio.zpci.logical import LogicalProcessor
from pyvfio.zpci.measurement import Counts, Measurement, Schedule
from pyvfio.zpci.service import condition

__all__ = ["Processor"]

_INVALID_HANDLE: Final = Answer(3)
_ADDRESS: Final = (1 << 64) - 1
_TRANSLATING: Final = (
    FunctionOperation.REGISTER_TRANSLATION,
    FunctionOperation.DEREGISTER_TRANSLATION,
    FunctionOperation.REREGISTER_TRANSLATION,
)
_GONE: Final = (FunctionState.RESERVED, FunctionState.STANDBY, FunctionState.DISABLED, FunctionState.PERMANENT_ERROR)


_P = ParamSpec("_P")
_R = TypeVar("_R")


def _locked(method: Callable[Concatenate[Processor, _P], _R]) -> Callable[Concatenate[Processor, _P], _R]:
    """Hold the processor's lock during an instruction."""

    @functools.wraps(method)
    def held(self: Processor, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with self.lock:
            return method(self, *args, **kwargs)

    return held


class Processor:
    """What a program of this machine can do with its functions.

    `storage` is where FIBs point to; `on_interruption` gets the subclass of each adapter interruption and `on_error`
    each error event; `now` is the machine's clock as a growing number.  Instructions hold `lock`.

    So many `processors` can have directed interruptions (0: the machine has none; `on_directed` gets processor and
    subclass), and a machine that `forwards` interruptions to guests calls `on_alert`
    (`pyvfio.zpci.interruptions.AdapterInterruptions`).
    """

    def __init__(
        self,
        functions: FunctionSet,
        storage: Storage,
        *,
        on_interruption: Callable[[int], None],
        on_error: Callable[[ErrorEvent], None],
        schedule: Schedule,
        now: Callable[[], int] = lambda: 0,
        lock: AbstractContextManager[object] | None = None,
        processors: int = 0,
        on_directed: Callable[[int, int], None] = lambda cpu, isc: None,
        forwards: bool = False,
        on_alert: Callable[[int], None] = lambda gisa: None,
    ) -> None:
        self.lock = nullcontext() if lock is None else lock
        self.functions = functions
        self._logical = LogicalProcessor(functions)
        self._storage = storage
        self._on_error = on_error
        self._schedule = schedule
        self._now = now
        self._controls: dict[int, FunctionControls] = {}
        self.interruptions = AdapterInterruptions(
            on_interruption, processors=processors, on_directed=on_directed, forwards=forwards, on_alert=on_alert
        )

    # finding functions

    def _find(self, fh: int) -> FunctionControls | None:
        """The function that has exactly this handle now."""
        known = self._controls.get(fh & FH_INDEX)
        if known is not None and fh & FH_ENABLED and known.function.fh == fh:
            return known  # a function that has left has no enabled handle
        function = self._logical.find(fh)
        return None if function is None else self.controls(function)

    def controls(self, function: InstructedFunction) -> FunctionControls:
        """What is registered for a function."""
        index = function.fh & FH_INDEX
        known = self._controls.get(index)
        if known is None or known.function is not function:
            known = FunctionControls(
                function,
                self._storage,
                self.interruptions,
                self.report,
                lambda counts, failed: self._measurement(function, counts, failed),
            )
            self._controls[index] = known
        return known

    def _measurement(self, function: InstructedFunction, counts: Counts, failed: Callable[[int], None]) -> Measurement:
        interval = function.query_group().mui / 1000
        return Measurement(self._storage, counts, interval, self._schedule, self._now, failed)

    def forget(self, function: InstructedFunction) -> None:
        """A function has left: end its measurement and forget its controls."""
        known = self._controls.pop(function.fh & FH_INDEX, None)
        if known is not None:
            known.forget()

    def report(self, function: InstructedFunction, code: ErrorCode, address: int, vector: int, write: bool) -> None:
        """Make an error event; the function is in error then, unless it is the measurement's."""
        measured = ErrorCode.MEASUREMENT_ADDRESS <= code <= ErrorCode.MEASUREMENT_PROTECTED
        if not measured and function.state is FunctionState.ENABLED:
            function.state = FunctionState.ERROR
        self._on_error(
            ErrorEvent(
                function.fh,
                function.fid,
                vector=vector & 0xFFF,
                write=int(write),
                address=address & _ADDRESS,
                pec=int(code),
            )
        )

    # loads and stores

    def _admit(self, request: Request) -> FunctionControls | Answer:
        found = self._find(request.fh) if request.fh & FH_ENABLED else None
        if found is None:
            return _INVALID_HANDLE
        if found.function.state in (FunctionState.ERROR, FunctionState.PERMANENT_ERROR):
            return Answer(1, Status.BLOCKED)
        return found

    @_locked
    def pcilg(self, request: Request, offset: int) -> Answer:
        """PCI LOAD."""
        found = self._admit(request)
        if isinstance(found, Answer):
            return found
        answer = access.load(found.function, request, offset)
        found.counts.loads += answer.cc == 0
        return answer

    @_locked
    def pcistg(self, data: int, request: Request, offset: int) -> Answer:
        """PCI STORE."""
        found = self._admit(request)
        if isinstance(found, Answer):
            return found
        answer = access.store(found.function, data, request, offset)
        found.counts.stores += answer.cc == 0
        return answer

    @_locked
    def pcistb(self, data: bytes, request: Request, offset: int) -> Answer:
        """PCI STORE BLOCK."""
        found = self._admit(request)
        if isinstance(found, Answer):
            return found
        most = found.group.maxstbl
        answer = access.store_block(found.function, most, data, request, offset)
        found.counts.store_blocks += answer.cc == 0
        return answer

    # controls

    @_locked
    def mpcifc(self, fh: int, space: int, operation: int, fib: Fib | DirectedFib) -> Answer:
        """MODIFY PCI FUNCTION CONTROLS."""
        found = self._find(fh)
        if found is None or found.function.state in _GONE:
            return _INVALID_HANDLE
        if isinstance(fib, DirectedFib) or fib.fmt:
            return self._modify_directed(found, operation, fib)
        if operation in _TRANSLATING and space:
            return Answer(1, Status.DMA_SPACE_NOT_ENABLED)
        match operation:
            case FunctionOperation.REGISTER_INTERRUPTS:
                return found.register_interrupts(fib)
            case FunctionOperation.DEREGISTER_INTERRUPTS:
                return found.deregister_interrupts()
            case FunctionOperation.REGISTER_TRANSLATION:
                return found.register_translation(fib)
            case FunctionOperation.DEREGISTER_TRANSLATION:
                return found.deregister_translation()
            case FunctionOperation.REREGISTER_TRANSLATION:
                return found.reregister_translation(fib)
            case FunctionOperation.RESET_ERROR:
                return found.reset_error()
            case FunctionOperation.RESET_BLOCK:
                return found.reset_block()
            case FunctionOperation.SET_MEASUREMENT:
                return found.set_measurement(fib)
        raise OperandException("modify PCI function controls", cause=f"operation {operation} is not installed")

    def _modify_directed(self, found: FunctionControls, operation: int, fib: Fib | DirectedFib) -> Answer:
        """Format 1 is for registering directed interruptions and for nothing else, where the machine has them."""
        if self.interruptions.directed is None or not isinstance(fib, DirectedFib) or fib.fmt != 1:
            raise OperandException("modify PCI function controls", cause=f"FIB format {fib.fmt} is not installed")
        if operation == FunctionOperation.REGISTER_DIRECTED:
            return found.register_directed(fib)
        if operation == FunctionOperation.DEREGISTER_DIRECTED:
            return found.deregister_interrupts(directed=True)
        raise OperandException("modify PCI function controls", cause=f"operation {operation} has no FIB of format 1")

    @_locked
    def stpcifc(self, fh: int, space: int) -> tuple[Answer, Fib | DirectedFib]:
        """STORE PCI FUNCTION CONTROLS."""
        if space:
            return Answer(1, Status.DMA_SPACE_NOT_ENABLED), Fib()
        function = self._logical.by_index(fh)
        if function is None or function.state in (FunctionState.RESERVED, FunctionState.STANDBY):
            return _INVALID_HANDLE, Fib()
        if function.state is FunctionState.PERMANENT_ERROR:
            return Answer(1, Status.FUNCTION_IN_ERROR), Fib()
        if function.state is FunctionState.DISABLED:
            return (_INVALID_HANDLE if fh & FH_ENABLED else Answer()), Fib()
        return Answer(data=0 if fh & FH_ENABLED else fh | FH_ENABLED), self.controls(function).stored()

    @_locked
    def rpcit(self, fh: int, start: int, length: int) -> Answer:
        """REFRESH PCI TRANSLATIONS."""
        found = self._find(fh)
        if found is None or found.function.state in _GONE:
            return _INVALID_HANDLE
        if found.function.state is FunctionState.ERROR:
            return Answer(1, Status.FUNCTION_NOT_AVAILABLE)
        return found.refresh(start, length)

    @_locked
    def sic(self, operation: int, isc: int, block: bytes = b"", cpu: int = 0) -> None:
        """SET INTERRUPTION CONTROLS."""
        self.interruptions.control(operation, isc, block, cpu)

    @_locked
    def clp(self, request: bytes, room: int) -> tuple[int, bytes]:
        """CALL LOGICAL PROCESSOR."""
        answer = self._logical.call(request, room)
        return condition(request, answer), answer
