"""A guest's PCI instructions: carried out by the host's machine where it does that (`interpretation`), else here."""

from __future__ import annotations

from collections.abc import Callable

from pyvfio.backend import Backend
from pyvfio.passthrough.interpretation import Accesses, Interpretation, InterpretingBackend, SharedLock
from pyvfio.passthrough.memory import GuestStorage
from pyvfio.passthrough.zpci_interpreted import InterpretedFunction
from pyvfio.zpci import access
from pyvfio.zpci.event import ErrorEvent
from pyvfio.zpci.fib import DirectedFib, Fib
from pyvfio.zpci.function import FunctionSet
from pyvfio.zpci.instructions import Answer, FunctionOperation, OperandException, Request, Status
from pyvfio.zpci.measurement import Schedule
from pyvfio.zpci.processor import Processor

__all__ = ["GuestProcessor"]


class GuestProcessor(Processor):
    """The instructions of a guest with the storage `memory` on `functions`; the rest is as of `Processor`.

    `accesses` counts loads and stores by who carried them out.
    """

    def __init__(
        self,
        functions: FunctionSet,
        memory: GuestStorage,
        *,
        on_interruption: Callable[[int], None],
        on_error: Callable[[ErrorEvent], None],
        schedule: Schedule,
        now: Callable[[], int],
    ) -> None:
        self.accesses = Accesses()
        self._memory = memory
        self._shared = SharedLock()
        self._machines: dict[Backend, Interpretation | None] = {}
        self._direct: dict[int, InterpretedFunction] = {}
        super().__init__(
            functions,
            memory,
            on_interruption=on_interruption,
            on_error=on_error,
            schedule=schedule,
            now=now,
            lock=self._shared,
        )

    def _machine(self, backend: Backend) -> Interpretation | None:
        """This guest, as the machine of a host knows it."""
        if backend not in self._machines:
            self._machines[backend] = (
                backend.interpretation(self._memory.areas, self._forwarded)
                if isinstance(backend, InterpretingBackend)
                else None
            )
        return self._machines[backend]

    def _forwarded(self, isc: int) -> None:
        """A machine interrupts: as SET INTERRUPTION CONTROLS allows, and without waiting for the guest."""
        self._shared.leave(lambda: self.interruptions.request(isc))

    def _changed(self, function: InterpretedFunction) -> None:
        """The machine may carry out a function's loads and stores, or may no more."""
        self._direct = {fh: known for fh, known in self._direct.items() if known is not function}
        if function.usable:
            function.counts = self.controls(function).counts
            self._direct[function.fh] = function

    # instructions

    def pcilg(self, request: Request, offset: int) -> Answer:
        """PCI LOAD."""
        function = self._direct.get(request.fh)
        if function is None:
            self.accesses.intercepted += 1
            return super().pcilg(request, offset)
        self.accesses.interpreted += 1
        answer = access.load(function.host, request, offset)
        function.counts.loads += answer.cc == 0
        return answer

    def pcistg(self, data: int, request: Request, offset: int) -> Answer:
        """PCI STORE."""
        function = self._direct.get(request.fh)
        if function is None:
            self.accesses.intercepted += 1
            return super().pcistg(data, request, offset)
        self.accesses.interpreted += 1
        answer = access.store(function.host, data, request, offset)
        function.counts.stores += answer.cc == 0
        return answer

    def pcistb(self, data: bytes, request: Request, offset: int) -> Answer:
        """PCI STORE BLOCK."""
        function = self._direct.get(request.fh)
        if function is None:
            self.accesses.intercepted += 1
            return super().pcistb(data, request, offset)
        self.accesses.interpreted += 1
        answer = access.store_block(function.host, function.store_block, data, request, offset)
        function.counts.store_blocks += answer.cc == 0
        return answer

    def mpcifc(self, fh: int, space: int, operation: int, fib: Fib | DirectedFib) -> Answer:
        """MODIFY PCI FUNCTION CONTROLS."""
        with self.lock:
            function = self._logical.find(fh)
            if not isinstance(function, InterpretedFunction):
                return super().mpcifc(fh, space, operation, fib)
            if isinstance(fib, DirectedFib) or operation in (
                FunctionOperation.REGISTER_DIRECTED,
                FunctionOperation.DEREGISTER_DIRECTED,
            ):
                raise OperandException("modify PCI function controls", cause="directed interruptions are not forwarded")
            answer = super().mpcifc(fh, space, operation, fib)
            if operation == FunctionOperation.REGISTER_INTERRUPTS and answer.cc == 0:
                try:
                    function.forward(fib)
                except OSError:
                    super().mpcifc(fh, space, FunctionOperation.DEREGISTER_INTERRUPTS, fib)
                    return Answer(1, Status.FUNCTION_ALREADY_ENABLED)
            return answer
