"""``/dev/chsc``: channel-subsystem calls for administrators (``drivers/s390/cio/chsc_sch.c``).

One program has it open at a time.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.misc import add_misc_device
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.uaccess import Argument

__all__ = ["add_chsc_device"]

_MINOR: Final = 125  # given by the kernel as the devices come
_MODE: Final = 0o600
_MAGIC: Final = ord("c")
_START, _LAST = 0x81, 0x8B
_TYPE_SHIFT: Final = 8


class _OpenChsc(File):
    """The open device; `opened` is emptied when it is closed."""

    __slots__ = ("_opened",)

    def __init__(self, opened: list[str]) -> None:
        self._opened = opened

    def ioctl(self, request: int, argument: Argument) -> int:
        if request >> _TYPE_SHIFT & 0xFF == _MAGIC and _START <= request & 0xFF <= _LAST:
            raise NotModelled("channel-subsystem calls of programs", "/dev/chsc")
        raise fail(errno.ENOTTY)

    def release(self) -> None:
        self._opened.clear()


def add_chsc_device(kernel: Kernel) -> None:
    """Put the device into the tree."""
    opened: list[str] = []

    def opener(path: str, flags: int) -> File:
        if opened:
            raise fail(errno.EBUSY, path)
        opened.append(path)
        return _OpenChsc(opened)

    add_misc_device(kernel, "chsc", _MINOR, "chsc", _MODE, opener)
