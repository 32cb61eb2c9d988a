"""``/dev/clp``: what the machine's logical processor tells of PCI functions, on a real s390 host or a software machine.

Handles change whenever a function is enabled, disabled or plugged; what is asked by handle is asked soon after `list`.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Final, Self

from pyvfio.abi import clp as abi
from pyvfio.backend import Backend
from pyvfio.call import Call
from pyvfio.errors import MalformedAnswer, NotAvailable
from pyvfio.process import AnonymousMemory
from pyvfio.refusal import refusal
from pyvfio.zpci.clp import (
    ClpCode,
    ClpCommand,
    FunctionResponse,
    GroupResponse,
    HandleEntry,
    ListRequest,
    ListResponse,
    QueryRequest,
    response_name,
)

__all__ = ["CLP_NODE", "ClpNode"]

CLP_NODE: Final = "/dev/clp"
_MOST_ANSWERS: Final = 1 << 16


class ClpNode:
    """The node, open for reading; a context manager.

    Opening raises `NotAvailable` on a host without it, `PermissionDenied` with owner and mode, else the class for the
    errno.
    """

    def __init__(self, backend: Backend) -> None:
        try:
            fd = backend.open(CLP_NODE, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotAvailable(
                "open the logical processor",
                path=CLP_NODE,
                errno=error.errno,
                cause="this host has no such node: it is not an s390x host with PCI support",
                next_step="run this on IBM Z or LinuxONE, or try --machine z15-lpar",
            ) from error
        except OSError as error:
            raise refusal(backend, error, "open the logical processor", path=CLP_NODE) from error
        self._call = Call(backend, fd, "", CLP_NODE)
        self._memory = AnonymousMemory(abi.CLP_PAGE)

    def close(self) -> None:
        """Close it; a second call does nothing."""
        self._memory.close()
        self._call.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, request: bytes, *, processor: int = abi.LPS_PCI) -> bytes:
        """The response to any request, as it came (big-endian, with whatever its room had behind it).

        Raise the class for the errno: the kernel lets only requests pass that change nothing.
        """
        page = self._memory.view
        page[:] = bytes(len(page))
        page[: len(request)] = request
        page[len(request) : len(request) + 2] = (len(page) - len(request)).to_bytes(2, "big")
        wanted = bytearray(abi.CLP_REQ.pack(processor, 0, 0, 0, self._memory.address))
        self._call("call the logical processor", abi.CLP_SYNC, wanted)
        return bytes(page[len(request) :])

    def _ask(self, request: bytes, what: str) -> bytes:
        answer = self.call(request)
        code = int.from_bytes(answer[2:4], "big")
        if code != ClpCode.OK:
            raise NotAvailable(f"ask the logical processor for {what}", path=CLP_NODE, cause=response_name(code))
        return answer

    def list(self) -> list[HandleEntry]:
        """All functions that this partition has or may have.  Raise `MalformedAnswer` if that does not end."""
        return list(self.listing().entries)

    def listing(self) -> ListResponse:
        """The same, with what else LIST PCI tells: whether UIDs are unique, and how many functions there can be."""
        entries: list[HandleEntry] = []
        token, seen = 0, {0}
        while True:
            answer = ListResponse.from_bytes(self._ask(ListRequest(resume_token=token).to_bytes(), "its functions"))
            entries += answer.entries
            token = answer.resume_token
            if not token:
                return ListResponse(tuple(entries), 0, answer.max_functions, answer.uid_checking)
            if token in seen or len(entries) > _MOST_ANSWERS:
                raise MalformedAnswer("list PCI functions", CLP_NODE, f"resume token {token:#x} came again")
            seen.add(token)

    def function(self, fh: int) -> FunctionResponse:
        """QUERY PCI FUNCTION.  Raise `NotAvailable` for a handle that names nothing (now)."""
        request = QueryRequest(handle=fh).to_bytes()
        answer = self._ask(request, f"the function with handle {fh:08x}")
        return FunctionResponse.from_bytes(answer[: FunctionResponse.SIZE])

    def group(self, pfgid: int) -> GroupResponse:
        """QUERY PCI FUNCTION GROUP.  Raise `NotAvailable` for a group that no function is in."""
        request = QueryRequest(command=ClpCommand.QUERY_PCI_FUNCTION_GROUP, handle=pfgid & 0xFF).to_bytes()
        return GroupResponse.from_bytes(self._ask(request, f"the group {pfgid:02x}")[: GroupResponse.SIZE])
