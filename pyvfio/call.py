"""Calls of the kernel's interface: errors with words, and info structures with a capability chain."""

from __future__ import annotations

import ctypes
from typing import TypeVar

from pyvfio.abi.layout import AbiStructure, Capability, parse_capability_chain
from pyvfio.backend import Backend, WritableBuffer
from pyvfio.errors import MalformedAnswer, Misuse, explained, from_oserror

__all__ = ["Call", "read_info"]

_S = TypeVar("_S", bound=AbiStructure)
_LONGEST_ANSWER = 1 << 20
_TRIES = 4


class Call:
    """Makes ioctl calls on one descriptor of `backend`; `obj` and `path` are the words for its errors.

    After `end` or `close` no call is made any more: the number may be another file's by then.
    """

    __slots__ = ("backend", "fd", "obj", "path")

    def __init__(self, backend: Backend, fd: int, obj: str, path: str = "") -> None:
        self.backend = backend
        self.fd = fd
        self.obj = obj
        self.path = path

    def __call__(self, operation: str, request: int, arg: int | WritableBuffer = 0) -> int:
        """Make the call.  Raise the class of `pyvfio.errors` for its errno, `Misuse` after the end."""
        if self.fd < 0:
            raise Misuse(operation, self.obj, path=self.path, cause="it was closed")
        try:
            return self.backend.ioctl(self.fd, request, arg)
        except OSError as error:
            raise from_oserror(error, operation, self.obj, path=self.path) from error

    def end(self) -> None:
        """Make no more calls; the descriptor is somebody else's to close."""
        self.fd = -1

    def close(self) -> None:
        """Close the descriptor; a second call does nothing.  Raise the class for the errno."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with explained("close", self.obj, path=self.path):
                self.backend.close(fd)


def read_info(
    call: Call, operation: str, request: int, cls: type[_S], kind: str, **fields: int
) -> tuple[_S, list[Capability]]:
    """Ask an info structure `cls` with these `fields` set, and the capabilities behind it.

    The kernel says in ``argsz`` how much room a whole answer needs; the question is asked again with that much.  Raise
    `MalformedAnswer` when the answer makes no sense, else the class for the errno.
    """
    size = ctypes.sizeof(cls)
    for _ in range(_TRIES):
        buffer = bytearray(size)
        head = cls.from_buffer(buffer)
        for name, value in {"argsz": size, **fields}.items():
            setattr(head, name, value)
        del head  # it would keep the buffer from being resized by its owner
        call(operation, request, buffer)
        answer = cls.from_buffer_copy(buffer)
        needed = int(getattr(answer, "argsz", size))
        if needed <= size:
            first = int(getattr(answer, "cap_offset", 0))
            return answer, parse_capability_chain(bytes(buffer), first, kind)
        if needed > _LONGEST_ANSWER:
            break
        size = needed
    raise MalformedAnswer(operation, call.obj, f"it asks for ever more room, at last {needed} bytes")
