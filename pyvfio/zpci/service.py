"""CALL LOGICAL PROCESSOR for PCI: listing, querying and setting functions.

Source: ``arch/s390/include/asm/pci_clp.h``, ``arch/s390/pci/pci_clp.c``; ``hw/s390x/s390-pci-inst.c`` of QEMU (which
response code for what).
"""

from __future__ import annotations

from typing import Final, Protocol

from pyvfio.zpci.block import BigBlock
from pyvfio.zpci.clp import (
    CLP_REQUEST_SIZE,
    ClpCode,
    ClpCommand,
    ClpRequest,
    FunctionResponse,
    GroupResponse,
    HandleEntry,
    ListRequest,
    ListResponse,
    QueryRequest,
    SetRequest,
    SetResponse,
)
from pyvfio.zpci.instructions import OperandException

__all__ = ["ClpFunctions", "call", "condition"]

_HEADER: Final = 16
_LEAST_RESPONSE: Final = 8
_MOST: Final = 8 * 1024
_LEAST_LIST: Final = ListResponse.HEAD_SIZE + ListResponse.ENTRY_SIZE


class ClpFunctions(Protocol):
    """The functions that CLP tells of."""

    @property
    def uid_checking(self) -> bool:
        """Whether identifiers of the user are unique."""
        ...

    @property
    def max_functions(self) -> int:
        """How many functions there can be."""
        ...

    def entries(self) -> list[HandleEntry]:
        """All functions that are not reserved, in the order of their handles' indexes."""
        ...

    def query(self, fh: int) -> FunctionResponse | None:
        """What a handle names; None for no such function."""
        ...

    def group(self, pfgid: int) -> GroupResponse | None:
        """A function group; None for one that no function is in."""
        ...

    def set_function(self, fh: int, operation: int, spaces: int) -> tuple[int, int]:
        """Enable or disable; the response code and the handle then."""
        ...


def call(functions: ClpFunctions, request: bytes, room: int) -> bytes:
    """The response to a request, with `room` bytes for it.  Raise `OperandException` for lengths no CLP has."""
    if len(request) < _HEADER:
        raise OperandException("call logical processor", cause=f"a request has at least {_HEADER} bytes")
    head = ClpRequest.from_bytes(request[:_HEADER])
    for what, length, least, most in (
        ("request", head.length, _HEADER, _MOST - _LEAST_RESPONSE),
        ("response", room, _LEAST_RESPONSE, _MOST - _HEADER),
    ):
        if length < least or length % 8 or length > most:
            raise OperandException("call logical processor", cause=f"the {what} has {length} bytes")
    if head.length != len(request) or len(request) + room > _MOST:
        raise OperandException("call logical processor", cause="the blocks do not fit")
    if head.length != CLP_REQUEST_SIZE:
        return _refuse(ClpCode.LENGTH, room)
    if head.command == ClpCommand.LIST_PCI:
        return _list(functions, ListRequest.from_bytes(request), room)
    if head.command == ClpCommand.QUERY_PCI_FUNCTION:
        found = functions.query(QueryRequest.from_bytes(request).handle)
        return _refuse(ClpCode.INVALID_HANDLE, room) if found is None else _fit(found, room)
    if head.command == ClpCommand.QUERY_PCI_FUNCTION_GROUP:
        group = functions.group(QueryRequest.from_bytes(request).group)
        return _refuse(ClpCode.UNKNOWN_GROUP, room) if group is None else _fit(group, room)
    if head.command == ClpCommand.SET_PCI_FUNCTION:
        wanted = SetRequest.from_bytes(request)
        code, fh = functions.set_function(wanted.handle, wanted.operation, wanted.dma_spaces)
        return _fit(SetResponse(fh=fh), room) if code == ClpCode.OK else _refuse(code, room)
    return _refuse(ClpCode.COMMAND, room)


def condition(request: bytes, response: bytes) -> int:
    """The condition code of a call that was answered: 3 where LIST PCI has room for no whole number of entries."""
    head = ClpRequest.from_bytes(request[:_HEADER])
    code = int.from_bytes(response[2:4], "big")
    listed = head.command == ClpCommand.LIST_PCI and head.length == CLP_REQUEST_SIZE
    return 3 if listed and code == ClpCode.LENGTH else 0


def _refuse(code: int, room: int) -> bytes:
    """Of a refused request only the code is stored; the response's length stays what the program wrote."""
    return room.to_bytes(2, "big") + code.to_bytes(2, "big")


def _fit(block: BigBlock, room: int) -> bytes:
    """A response cut to its room, with its length as the program wrote it."""
    return room.to_bytes(2, "big") + block.to_bytes()[2:room]


def _list(functions: ClpFunctions, request: ListRequest, room: int) -> bytes:
    if request.fmt:
        return _refuse(ClpCode.FORMAT, room)
    if request.reserved or request.reserved2:
        return _refuse(ClpCode.RESERVED_NOT_ZERO, room)
    entries = functions.entries()
    first = 0
    if request.resume_token:
        # A token is the index of the next function's handle.
        places = [place for place, entry in enumerate(entries) if _index(entry) == request.resume_token]
        if not places:
            return _refuse(ClpCode.RESUME_TOKEN, room)
        first = places[0]
    if room < _LEAST_LIST:
        return _refuse(ClpCode.NEEDS_8K, room)
    if (room - ListResponse.HEAD_SIZE) % ListResponse.ENTRY_SIZE:
        return _refuse(ClpCode.LENGTH, room)
    last = first + (room - ListResponse.HEAD_SIZE) // ListResponse.ENTRY_SIZE
    token = _index(entries[last]) if last < len(entries) else 0
    return ListResponse(tuple(entries[first:last]), token, functions.max_functions, functions.uid_checking).to_bytes()


def _index(entry: HandleEntry) -> int:
    # Index 0 is a function too, and token 0 the beginning.
    return (entry.fh & 0xFFFF) + 1
