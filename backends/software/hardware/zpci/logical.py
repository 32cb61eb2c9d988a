"""What CALL LOGICAL PROCESSOR finds: the functions of a facility by their handles."""

from __future__ import annotations

from typing import Final

from pyvfio.zpci.clp import ClpCode, SetOperation
from pyvfio_backends.software.hardware.zpci import clp_service
from pyvfio_backends.software.hardware.zpci.clp import FunctionEntry, FunctionFacts, GroupFacts
from pyvfio_backends.software.hardware.zpci.facility import ZpciFacility
from pyvfio_backends.software.hardware.zpci.function import FH_ENABLED, FunctionState, ZpciFunction

__all__ = ["LogicalProcessor"]

_INDEX: Final = 0xFFFF
_BARS: Final = 6
_FIRST_BAR: Final = 0x10


class LogicalProcessor:
    """The logical processor for PCI (implements `clp_service.ClpFunctions`)."""

    max_functions = 4096
    """How many functions it says there can be."""

    def __init__(self, facility: ZpciFacility) -> None:
        self._facility = facility

    def call(self, request: bytes, room: int) -> bytes:
        """See `clp_service.call`."""
        return clp_service.call(self, request, room)

    def by_index(self, fh: int) -> ZpciFunction | None:
        """The function whose handle has the index of `fh`, whatever its state."""
        for function in self._facility.functions.values():
            if (function.fh ^ fh) & _INDEX == 0:
                return function
        return None

    def find(self, fh: int) -> ZpciFunction | None:
        """The function that has exactly this handle now."""
        function = self.by_index(fh)
        return function if function is not None and function.fh == fh else None

    @property
    def uid_checking(self) -> bool:
        """Whether identifiers of the user are unique."""
        return self._facility.uid_checking

    def entries(self) -> list[FunctionEntry]:
        """All functions that are not reserved, in the order of their handles' indexes."""
        return sorted(self._facility.entries(), key=lambda entry: entry.fh & _INDEX)

    def facts(self, fh: int) -> tuple[FunctionFacts, tuple[int, ...]] | None:
        """What a handle names."""
        function = self.find(fh)
        if function is None or function.state is FunctionState.RESERVED:
            return None
        bars = tuple(function.config.read(_FIRST_BAR + 4 * bar, 4) for bar in range(_BARS))
        return function.facts, bars

    def group(self, pfgid: int) -> GroupFacts | None:
        """A function group."""
        for function in self._facility.functions.values():
            if function.group.pfgid == pfgid:
                return function.group
        return None

    def set_function(self, fh: int, operation: int, spaces: int) -> tuple[int, int]:
        """SET PCI FUNCTION: enable or disable."""
        function = self.find(fh)
        if function is None or not function.configured:
            return ClpCode.INVALID_HANDLE, 0
        if function.state is FunctionState.PERMANENT_ERROR:
            return ClpCode.PERMANENT_ERROR, 0
        if operation == SetOperation.ENABLE:
            if spaces != 1:
                return (ClpCode.INSUFFICIENT_RESOURCES if spaces else ClpCode.INVALID_DMA_SPACES), 0
            if fh & FH_ENABLED:
                return ClpCode.HANDLE_NOT_FOR_OPERATION, 0
            return ClpCode.OK, function.enable()
        if operation == SetOperation.DISABLE and fh & FH_ENABLED:
            return ClpCode.OK, function.disable()
        return ClpCode.HANDLE_NOT_FOR_OPERATION, 0
