"""What a program has registered for a function: interruptions, DMA translation, measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from pyvfio.css.instructions import Storage
from pyvfio.zpci.event import ErrorCode
from pyvfio.zpci.fib import DirectedFib, Fib, FunctionControl
from pyvfio.zpci.function import FunctionState, InstructedFunction, InsufficientMappings, Space
from pyvfio.zpci.instructions import Answer, OperandException, Status
from pyvfio.zpci.interruptions import AdapterInterruptions, InterruptionFault, Registration, StorageBits
from pyvfio.zpci.measurement import Counts, Measurement
from pyvfio.zpci.table import FRAME, Iota, TranslationFault
from pyvfio.zpci.vector import BitMemory

if TYPE_CHECKING:  # few machines have directed interruptions
    from pyvfio.zpci.directed import DirectedRegistration

__all__ = ["FunctionControls"]

_VECTORS: Final = 0x7FF
_END: Final = 1 << 64
_SEQUENCE: Final = Answer(1, Status.FUNCTION_ALREADY_ENABLED)
_NO_RESOURCE: Final = Answer(1, Status.RESOURCE_NOT_AVAILABLE)
_DONE: Final = Answer()
_ENABLED: Final = FunctionControl.ENABLED
_STATES: Final = {
    FunctionState.ENABLED: _ENABLED,
    FunctionState.BLOCKED: _ENABLED | FunctionControl.ERROR,
    FunctionState.ERROR: _ENABLED | FunctionControl.ERROR | FunctionControl.BLOCKED,
}

#: What an error event is told: function, code, DMA address, MSI vector, whether it was a store.
Report = Callable[[InstructedFunction, ErrorCode, int, int, bool], None]


class FunctionControls:
    """The controls of one function; a reset of the function forgets all of them.

    `report` makes an error event (and puts the function into the error state, if the event is one of that kind).
    """

    def __init__(
        self,
        function: InstructedFunction,
        storage: Storage,
        interruptions: AdapterInterruptions,
        report: Report,
        measure: Callable[[Counts, Callable[[int], None]], Measurement],
    ) -> None:
        self.function = function
        self.group = function.query_group()
        self.counts = function.counts
        self.space: Space | None = None
        self._iota = 0
        self.registration: Registration | DirectedRegistration | None = None
        self.measurement = measure(self.counts, lambda at: report(function, ErrorCode.MEASUREMENT_ADDRESS, at, 0, True))
        self._storage = storage
        self._bits = storage if isinstance(storage, BitMemory) else StorageBits(storage)
        self._interruptions = interruptions
        self._report = report
        function.on_reset = self.forget
        function.without_space(self._fault)

    def forget(self) -> None:
        """Forget everything: the function was reset."""
        if self.space is not None:
            self.space.close()
        self.space = self.registration = None
        self.function.without_space(self._fault)
        self.measurement.stop()
        self.counts.clear()

    def stored(self) -> Fib | DirectedFib:
        """STORE PCI FUNCTION CONTROLS: the FIB of a function that is enabled, in error or blocked."""
        space, interrupts = self.space, self.registration
        state = _STATES.get(self.function.state, FunctionControl(0))
        if space is not None:
            state |= FunctionControl.DMA_REGISTERED
        pba, pal, iota = (space.pba, space.pal, self._iota) if space else (0, 0, 0)
        fmb = self.measurement.address
        if interrupts is None:
            return Fib(fc=state, pba=pba, pal=pal, iota=iota, fmb=fmb)
        if not isinstance(interrupts, Registration):
            return DirectedFib(1, state, pba, pal, iota, interrupts.noi, interrupts.dibvo, fmb, interrupts.gd)
        return Fib(
            fc=state,
            pba=pba,
            pal=pal,
            iota=iota,
            isc=interrupts.isc,
            noi=interrupts.noi,
            aibvo=interrupts.aibvo,
            sum=int(interrupts.sum),
            aisbo=interrupts.aisbo,
            aibv=interrupts.aibv,
            aisb=interrupts.aisb,
            fmb=fmb,
            gd=interrupts.gd,
        )

    # interruptions

    def register_interrupts(self, fib: Fib) -> Answer:
        """Messages of vectors below the FIB's number go into its vector."""
        if self.registration is not None:
            return _SEQUENCE
        if not 0 < fib.noi <= self.group.noi:
            return _NO_RESOURCE
        self.registration = Registration.from_fib(fib)
        self.function.register_interrupts(self._message)
        return _DONE

    def register_directed(self, fib: DirectedFib) -> Answer:
        """Messages go into the vector of the processor that they name."""
        from pyvfio.zpci.directed import DirectedRegistration

        directed = self._interruptions.directed
        if self.registration is not None or directed is None or directed.block is None:
            return _SEQUENCE
        if not 0 < fib.noi <= self.group.dnoi:
            return _NO_RESOURCE
        self.registration = DirectedRegistration.from_fib(fib)
        self.function.register_interrupts(self._message)
        return _DONE

    def deregister_interrupts(self, *, directed: bool = False) -> Answer:
        """Messages go nowhere.  The form must be that in which they were registered."""
        if self.registration is None or isinstance(self.registration, Registration) is directed:
            return _SEQUENCE
        self.registration = None
        self.function.register_interrupts(None)
        return _DONE

    def message(self, address: int, data: int) -> Iterator[None]:
        """What a message of the function does, in steps between which a program may look."""
        registration, vector = self.registration, data & _VECTORS
        if registration is None or self.function.state is not FunctionState.ENABLED:
            return
        if vector >= registration.noi:
            self._report(self.function, ErrorCode.NO_MESSAGE_VECTOR, address, vector, True)
            return
        try:
            yield from self._interruptions.steps(self._bits, registration, vector, address)
        except InterruptionFault as fault:
            self._report(self.function, fault.code, fault.address, vector, True)

    def _message(self, address: int, data: int) -> None:
        for _ in self.message(address, data):
            pass

    # translation

    def register_translation(self, fib: Fib) -> Answer:
        """Give the function an address space.  Raise `OperandException` for limits or a table that it cannot have."""
        if self.space is not None:
            return _SEQUENCE
        facts, anchor = self.function.query(), Iota.from_word(fib.iota)
        pba, pal = fib.pba & -FRAME, fib.pal | FRAME - 1
        if pba > pal or pba < facts.sdma or pal > facts.edma:
            raise OperandException(
                "modify PCI function controls",
                f"fid {facts.fid:#x}",
                cause=f"DMA from {pba:#x} to {pal:#x} is not inside {facts.sdma:#x} to {facts.edma:#x}",
            )
        if anchor.direct or not self.group.dtsm & 0x80 >> anchor.designation:
            raise OperandException(
                "modify PCI function controls", f"fid {facts.fid:#x}", cause=f"the group has no tables of type {anchor}"
            )
        try:
            self.space = self.function.make_space(self._storage, anchor, pba, pal, self._fault)
        except InsufficientMappings:
            return Answer(1, Status.INSUFFICIENT_RESOURCES)
        self._iota = fib.iota
        return _DONE

    def deregister_translation(self) -> Answer:
        """Take the address space away."""
        if self.space is None:
            return _SEQUENCE
        self.space.close()
        self.space = None
        self.function.without_space(self._fault)
        return _DONE

    def _fault(self, code: ErrorCode, iova: int, write: bool) -> None:
        self._report(self.function, code, iova, 0, write)

    def refresh(self, start: int, length: int) -> Answer:
        """Take in what the tables say now of a range of DMA addresses; what they cannot say is an error event.

        So is a range that is not in the address space at all, or that ends beyond the last address there is.
        """
        space = self.space
        if space is None:
            code = ErrorCode.INVALID_ADDRESS_SPACE
        elif start + length < space.pba or start > space.pal or start + length > _END:
            code = ErrorCode.OUT_OF_RANGE
        else:
            try:
                space.refresh(start, length)
            except InsufficientMappings:
                self.counts.refreshes += 1
                return Answer(1, Status.INSUFFICIENT_RESOURCES)
            except TranslationFault as fault:
                self._report(self.function, fault.code, fault.iova, 0, False)
                return Answer(1, Status.FUNCTION_IN_ERROR)
            self.counts.refreshes += 1
            return _DONE
        self._report(self.function, code, start, 0, False)
        return Answer(1, Status.FUNCTION_IN_ERROR)

    def reregister_translation(self, fib: Fib) -> Answer:
        """Replace the address space.  Raise `OperandException`; the old one stays then."""
        old = self.space
        if old is None:
            return _SEQUENCE
        self.space = None
        try:
            answer = self.register_translation(fib)
        except OperandException:
            self.space = old
            raise
        if answer.cc == 0:
            old.close()
        else:
            self.space = old
        return answer

    # error recovery and measurement

    def reset_error(self) -> Answer:
        """Back from error (or blocked) to enabled."""
        if self.function.state not in (FunctionState.ERROR, FunctionState.BLOCKED):
            return _SEQUENCE
        self.function.state = FunctionState.ENABLED
        return _DONE

    def reset_block(self) -> Answer:
        """Allow loads and stores again; DMA and interruptions stay blocked."""
        if self.function.state is not FunctionState.ERROR:
            return _SEQUENCE
        self.function.state = FunctionState.BLOCKED
        return _DONE

    def set_measurement(self, fib: Fib) -> Answer:
        """Measure into the FIB's block, or stop and count anew."""
        if fib.fmb_key:
            self._report(self.function, ErrorCode.MEASUREMENT_PROTECTED, fib.fmb, 0, True)
            self.measurement.stop()
            return Answer(1)
        if fib.fmb:
            self.measurement.start(fib.fmb)
        else:
            self.measurement.stop()
            self.counts.clear()
        return _DONE
