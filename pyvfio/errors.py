"""The exceptions of pyvfio.

Every error says what was tried (`operation`), on what (`obj`, in the user's words: ``0.0.013f``), at which `path`,
what the kernel answered (`errno`), why as far as it was checked (`cause`), in which state the host is when a change
was wanted (`host`), and what to do next (`next_step`).

=====================  ==================================================  =========
class                  raised when                                         exit code
=====================  ==================================================  =========
BadAddress             an address, UUID or number cannot be read           2
BadMachine             a machine file has an error                         2
NoSuchDevice           the named device is not there                       3
WrongBus               the device is there but on another bus              3
PermissionDenied       the kernel answered EACCES or EPERM                 4
DeviceBusy             somebody has the device                             5
DeviceInUse            probes found the device in use; nothing was done    5
NotAvailable           no ``/dev/vfio``, a module or facility is missing   6
KernelRefused          any other errno                                     7
MalformedAnswer        the kernel's answer does not parse                  7
ChannelProgramFailed   a channel program ended with an error status        8
Timeout                an awaited event did not come                       9
StillWaiting           the kernel still waits in a write that was given up 9
PartialUnmap           fewer bytes were unmapped than asked                7
StepFailed             a step of a plan failed and was rolled back         10
RollbackFailed         a step failed and so did its rollback               11
NotModelled            the software machine does not do this               12
Misuse                 a call in the wrong state or with wrong arguments   2
=====================  ==================================================  =========

Three more are of what they are about: `pyvfio.drivers.NvmeError` (a controller ended a command with an error, 8),
`pyvfio.drivers.failures.VerifyFailed` (what was written came back as something else, 8) and
`pyvfio.persistence.definition.BadDefinition` (a file of driverctl or mdevctl has an error, 2).

An argument of the wrong type is Python's own `TypeError`, with the name of the argument (`pyvfio.arguments`).

The exit codes are those of the command ``pyvfio`` (its page lists them); 0 is success and 1 an internal error.
"""

from __future__ import annotations

import contextlib
import errno as _errno
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pyvfio.css.irb import Irb

__all__ = [
    "UNTOUCHED",
    "BadAddress",
    "BadMachine",
    "ChannelProgramFailed",
    "DeviceBusy",
    "DeviceInUse",
    "KernelRefused",
    "MalformedAnswer",
    "Misuse",
    "NoSuchDevice",
    "NotAvailable",
    "NotModelled",
    "PartialUnmap",
    "PermissionDenied",
    "PyvfioError",
    "RollbackFailed",
    "StepFailed",
    "StillWaiting",
    "Timeout",
    "WrongBus",
    "explained",
    "from_oserror",
]

UNTOUCHED = "nothing was changed"
"""What `host` says when no step was begun."""


class PyvfioError(Exception):
    """Base of all errors of pyvfio.  The attributes are those of the module's first paragraph."""

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        operation: str,
        obj: str = "",
        *,
        path: str = "",
        errno: int | None = None,
        cause: str = "",
        next_step: str = "",
    ) -> None:
        super().__init__(operation, obj)
        self.operation = operation
        self.obj = obj
        self.path = path
        self.errno = errno
        self.cause = cause
        self.next_step = next_step
        self.host = ""

    @property
    def errno_name(self) -> str:
        """The name of the errno (``EBUSY``), or an empty string."""
        return "" if self.errno is None else _errno.errorcode.get(self.errno, str(self.errno))

    def __str__(self) -> str:
        text = f"{self.obj}: {self.operation}" if self.obj else self.operation
        if self.errno is not None:
            text += f": {self.errno_name} ({os.strerror(self.errno)})"
        if self.path:
            text += f" [{self.path}]"
        if self.cause:
            text += f"\n  cause: {self.cause}"
        if self.host:
            text += f"\n  host:  {self.host}"
        if self.next_step:
            text += f"\n  next:  {self.next_step}"
        return text

    def as_dict(self) -> dict[str, object]:
        """The error as plain data for ``--json``."""
        return {
            "error": type(self).__name__,
            "operation": self.operation,
            "object": self.obj,
            "path": self.path,
            "errno": self.errno_name or None,
            "cause": self.cause,
            "host": self.host,
            "next_step": self.next_step,
            "exit_code": self.exit_code,
        }


class BadAddress(PyvfioError):
    """An address, UUID or number cannot be read."""

    exit_code = 2

    def __init__(self, text: str, cause: str, next_step: str = "") -> None:
        super().__init__(
            "read address",
            repr(text),
            cause=cause,
            next_step=next_step or "pyvfio list shows the addresses of this host",
        )
        self.text = text


class BadMachine(PyvfioError):
    """A machine description has an error; `path`, `key` and `line` say where."""

    exit_code = 2

    def __init__(self, path: str, key: str, line: int | None, cause: str, next_step: str = "") -> None:
        where = path if line is None else f"{path}:{line}"
        place = where if key or line is not None else ""  # without either, the file itself is the object
        super().__init__(
            "read machine file",
            key or path,
            path=place,
            cause=cause,
            next_step=next_step or "docs/machines.md describes machine files; pyvfio machines lists those installed",
        )
        self.key = key
        self.line = line


class Misuse(PyvfioError):
    """A call in the wrong state or with wrong arguments; nothing was asked of the kernel."""

    exit_code = 2


class NoSuchDevice(PyvfioError):
    """The named device, group or type is not there."""

    exit_code = 3


class WrongBus(PyvfioError):
    """The device exists, but the operation is for another bus."""

    exit_code = 3


class PermissionDenied(PyvfioError):
    """The kernel answered EACCES or EPERM; the cause names the node, its owner and its mode."""

    exit_code = 4


class DeviceBusy(PyvfioError):
    """The kernel answered EBUSY; the cause names who has it where that could be found."""

    exit_code = 5


class DeviceInUse(DeviceBusy):
    """Probes found the device in use; `findings` are what they saw.  Nothing was done."""

    def __init__(self, operation: str, obj: str, findings: Sequence[Any], *, cause: str, next_step: str) -> None:
        super().__init__(operation, obj, cause=cause, next_step=next_step)
        self.findings = tuple(findings)
        self.host = UNTOUCHED

    def as_dict(self) -> dict[str, object]:
        """See `PyvfioError.as_dict`."""
        return {**super().as_dict(), "findings": [finding.as_dict() for finding in self.findings]}


class NotAvailable(PyvfioError):
    """A node, module or facility which the operation needs is missing on this host."""

    exit_code = 6


class KernelRefused(PyvfioError):
    """The kernel answered with an errno for which there is no class of its own."""

    exit_code = 7


class MalformedAnswer(PyvfioError):
    """An answer of the kernel does not parse (a loop in a capability chain, an offset outside the buffer)."""

    exit_code = 7

    def __init__(self, operation: str, obj: str, detail: str) -> None:
        super().__init__(operation, obj, cause=detail, next_step="report it: this kernel's answer is not understood")


class PartialUnmap(PyvfioError):
    """Fewer bytes were unmapped than asked (type 1 version 1 answers so, with success)."""

    exit_code = 7

    def __init__(self, operation: str, obj: str, *, asked: int, done: int) -> None:
        super().__init__(
            operation,
            obj,
            cause=f"asked for {asked:#x} bytes, the kernel unmapped {done:#x}",
            next_step="unmap whole earlier mappings, or use type 1 version 2, which refuses instead",
        )
        self.asked = asked
        self.done = done


class ChannelProgramFailed(PyvfioError):
    """A channel program ended with a status that is not success; the cause decodes the SCSW and the sense bytes.

    `irb` is the status itself, with the sense bytes that came with it.  `pyvfio.channel_errors` has a class for each
    kind of end (unit check, fault of the program, fault of the channel, not operational, ...).
    """

    exit_code = 8

    def __init__(
        self,
        operation: str,
        obj: str = "",
        *,
        path: str = "",
        errno: int | None = None,
        cause: str = "",
        next_step: str = "",
        irb: Irb | None = None,
    ) -> None:
        super().__init__(operation, obj, path=path, errno=errno, cause=cause, next_step=next_step)
        self.irb = irb

    def as_dict(self) -> dict[str, object]:
        """See `PyvfioError.as_dict`; the status in hexadecimal is added."""
        scsw, sense = (self.irb.scsw.to_bytes().hex(), self.irb.sense.hex()) if self.irb is not None else ("", "")
        return {**super().as_dict(), "scsw": scsw, "sense": sense}


class Timeout(PyvfioError):
    """An awaited event did not come in time."""

    exit_code = 9


class StillWaiting(Timeout):
    """The kernel still waits in a write that was given up; what can be undone was, and the journal is kept."""


class StepFailed(PyvfioError):
    """A step of a plan failed; the earlier steps were undone and the host is as it was before."""

    exit_code = 10


class RollbackFailed(PyvfioError):
    """A step of a plan failed and its rollback failed too; the cause says in which state the host is."""

    exit_code = 11


class NotModelled(PyvfioError):
    """The software machine does not do this, and says so instead of guessing."""

    exit_code = 12

    def __init__(self, what: str, obj: str = "") -> None:
        super().__init__(
            f"not modelled: {what}", obj, next_step="docs/not-modelled.md lists what the software machine leaves out"
        )


_BY_ERRNO: dict[int, type[PyvfioError]] = {
    _errno.EACCES: PermissionDenied,
    _errno.EPERM: PermissionDenied,
    _errno.EBUSY: DeviceBusy,
    _errno.ETIMEDOUT: Timeout,
}


def from_oserror(
    error: OSError, operation: str, obj: str = "", *, path: str = "", cause: str = "", next_step: str = ""
) -> PyvfioError:
    """Turn an `OSError` of the seam into the class for its errno (see the table above)."""
    number = error.errno if error.errno is not None else _errno.EIO
    kind = _BY_ERRNO.get(number, KernelRefused)
    where = path or (error.filename if isinstance(error.filename, str) else "")
    return kind(operation, obj, path=where, errno=number, cause=cause, next_step=next_step)


@contextlib.contextmanager
def explained(operation: str, obj: str = "", *, path: str = "") -> Iterator[None]:
    """Turn an `OSError` inside the block into the pyvfio error for it, with the given words."""
    try:
        yield
    except OSError as error:
        raise from_oserror(error, operation, obj, path=path) from error
