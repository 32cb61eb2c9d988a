"""What CALL LOGICAL PROCESSOR finds: functions by their handles."""

from __future__ import annotations

from typing import Final

from pyvfio.zpci import service
from pyvfio.zpci.clp import ClpCode, FunctionResponse, GroupResponse, HandleEntry, SetOperation
from pyvfio.zpci.function import FunctionSet, FunctionState, InstructedFunction
from pyvfio.zpci.handle import FH_ENABLED, FH_INDEX

__all__ = ["LogicalProcessor"]

_NOT_CONFIGURED: Final = (FunctionState.RESERVED, FunctionState.STANDBY)


class LogicalProcessor:
    """The logical processor for the functions of a machine or a guest (implements `service.ClpFunctions`)."""

    max_functions = 1 << 12
    """How many functions it says there can be."""

    def __init__(self, functions: FunctionSet) -> None:
        self._functions = functions

    def call(self, request: bytes, room: int) -> bytes:
        """See `service.call`."""
        return service.call(self, request, room)

    @property
    def uid_checking(self) -> bool:
        """Whether identifiers of the user are unique."""
        return self._functions.uid_checking

    def by_index(self, fh: int) -> InstructedFunction | None:
        """The function whose handle has the index of `fh`, whatever its state."""
        for function in self._functions.all_functions():
            if (function.fh ^ fh) & FH_INDEX == 0:
                return function
        return None

    def find(self, fh: int) -> InstructedFunction | None:
        """The function that has exactly this handle now."""
        function = self.by_index(fh)
        return function if function is not None and function.fh == fh else None

    def entries(self) -> list[HandleEntry]:
        """All functions that are not reserved, in the order of their handles' indexes."""
        known = [one for one in self._functions.all_functions() if one.state is not FunctionState.RESERVED]
        return [function.entry() for function in sorted(known, key=lambda function: function.fh & FH_INDEX)]

    def query(self, fh: int) -> FunctionResponse | None:
        """What a handle names."""
        function = self.find(fh)
        return None if function is None or function.state is FunctionState.RESERVED else function.query()

    def group(self, pfgid: int) -> GroupResponse | None:
        """A function group."""
        for function in self._functions.all_functions():
            if function.query().pfgid == pfgid:
                return function.query_group()
        return None

    def set_function(self, fh: int, operation: int, spaces: int) -> tuple[int, int]:
        """SET PCI FUNCTION: enable or disable, or switch PCI memory I/O, of an enabled function that has it.

        Memory I/O is asked for by the handle from before the function was enabled, too (`clp_enable_fh` of Linux).
        """
        mio = operation in (SetOperation.ENABLE_MIO, SetOperation.DISABLE_MIO)
        function = self.by_index(fh) if mio else self.find(fh)
        if mio and function is not None and (function.fh ^ fh) & ~FH_ENABLED:
            function = None
        if function is None or function.state in _NOT_CONFIGURED:
            return ClpCode.INVALID_HANDLE, 0
        if function.state is FunctionState.PERMANENT_ERROR:
            return ClpCode.PERMANENT_ERROR, 0
        if mio:
            usable = function.fh & FH_ENABLED and function.query().mio_available
            return (ClpCode.OK, function.fh) if usable else (ClpCode.HANDLE_NOT_FOR_OPERATION, 0)
        if operation == SetOperation.ENABLE:
            if spaces != 1:
                return (ClpCode.INSUFFICIENT_RESOURCES if spaces else ClpCode.INVALID_DMA_SPACES), 0
            if fh & FH_ENABLED:
                return ClpCode.HANDLE_NOT_FOR_OPERATION, 0
            return ClpCode.OK, function.enable()
        if operation == SetOperation.DISABLE and fh & FH_ENABLED:
            return ClpCode.OK, function.disable()
        return ClpCode.HANDLE_NOT_FOR_OPERATION, 0
