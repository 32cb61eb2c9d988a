"""The argument of an ioctl and the memory of the caller, as the kernel sees them (``copy_from_user``).

The caller gives either an integer, which is a value or an address of its memory, or a buffer of its process.  The
kernel's half reads and writes both through the same few methods and need not know which it is.
"""

from __future__ import annotations

import errno
from typing import Protocol

from pyvfio.process import ProcessMemory
from pyvfio_backends.software.linux.vfs import fail

__all__ = ["AddressArgument", "Argument", "BufferArgument"]

_COPIED = 1024  # `fcntl.ioctl` hands the kernel a copy of at least this size


class Argument(Protocol):
    """The third argument of ``ioctl``; offsets count from where it points."""

    caller: ProcessMemory
    value: int
    """The argument itself, for requests that take a number (its address when a buffer was given)."""

    def read(self, offset: int, count: int) -> bytes:
        """Copy from user.  Raise OSError EFAULT."""

    def write(self, offset: int, data: bytes) -> None:
        """Copy to user.  Raise OSError EFAULT."""

    def string(self, limit: int) -> str:
        """A zero-ended string of at most `limit` bytes.  Raise OSError EFAULT or EINVAL."""


class AddressArgument:
    """An integer argument: `value`, or an address in the memory of `caller`."""

    __slots__ = ("caller", "value")

    def __init__(self, caller: ProcessMemory, value: int) -> None:
        self.caller = caller
        self.value = value & (1 << 64) - 1

    def read(self, offset: int, count: int) -> bytes:
        return self.caller.read(self.value + offset, count)

    def write(self, offset: int, data: bytes) -> None:
        self.caller.write(self.value + offset, data)

    def string(self, limit: int) -> str:
        return self.caller.string(self.value, limit).decode(errors="surrogateescape")


class BufferArgument:
    """A buffer argument, with `fcntl.ioctl`'s rule: the kernel sees at least 1024 bytes, those past the buffer being
    scratch (zero here), and a longer buffer as it is.
    """

    __slots__ = ("caller", "value", "view")

    def __init__(self, caller: ProcessMemory, view: memoryview) -> None:
        self.caller = caller
        self.view = view
        self.value = 0

    def read(self, offset: int, count: int) -> bytes:
        data = bytes(self.view[offset : offset + count])
        if len(data) == count:
            return data
        if offset + count > _COPIED:
            raise fail(errno.EFAULT)
        return data + bytes(count - len(data))

    def write(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        room = len(self.view)
        if end > room:
            if end > _COPIED:
                raise fail(errno.EFAULT)
            data = data[: max(0, room - offset)]
            end = offset + len(data)
        if data:
            self.view[offset:end] = data

    def string(self, limit: int) -> str:
        text = bytes(self.view[: limit + 1])
        end = text.find(b"\0")
        if end < 0:
            if len(text) > limit:
                raise fail(errno.EINVAL)
            end = len(text)
        return text[:end].decode(errors="surrogateescape")
