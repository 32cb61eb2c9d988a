"""What the kernel says of a device, from ``/dev/kmsg``, where this user may read that.

A read gives one record, ``PRIORITY,NUMBER,MICROSECONDS,FLAGS;TEXT`` with lines for subsystem and device after it.
Source: ``Documentation/ABI/testing/dev-kmsg``.
"""

from __future__ import annotations

import errno
import os
from typing import Self

from pyvfio.backend import Backend

__all__ = ["KernelMessages"]

_NODE = "/dev/kmsg"
_RECORD = 8192


class KernelMessages:
    """The messages from now on; `readable` is whether there is a log that this user may read.  A context manager."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._fd = -1
        try:
            self._fd = backend.open(_NODE, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return  # no log, or not for this user
        self.new()

    @property
    def readable(self) -> bool:
        """Whether messages can be read."""
        return self._fd >= 0

    def new(self) -> list[str]:
        """The texts of the messages since the last look; never blocks, and never fails."""
        found: list[str] = []
        while self._fd >= 0:
            try:
                record = self._backend.read(self._fd, _RECORD)
            except OSError as error:
                if error.errno == errno.EPIPE:  # the oldest ones are gone
                    continue
                break
            if not record:
                break
            text = record.decode("utf-8", "replace").partition(";")[2]
            found.append(text.partition("\n")[0])
        return found

    def close(self) -> None:
        """Stop reading."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._backend.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
