"""Opening a node below ``/dev``, with the cause when the kernel refuses."""

from __future__ import annotations

import errno
import os
import posixpath

from pyvfio import causes
from pyvfio.errors import NotAvailable, PyvfioError, from_oserror
from pyvfio.refusal import permission_of
from pyvfio.sysfs import Sysfs

__all__ = ["open_node"]

_ABSENT = (errno.ENOENT, errno.ENODEV, errno.ENXIO)


def open_node(sysfs: Sysfs, path: str, operation: str, obj: str = "") -> int:
    """Open a node for reading and writing; the descriptor belongs to the caller.

    Raise `DeviceBusy` with the holders, `PermissionDenied` with owner and mode, `NotAvailable` with what is missing,
    else the class for the errno.
    """
    try:
        return sysfs.backend.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _explained(sysfs, error, path, operation, obj or path) from error


def _explained(sysfs: Sysfs, error: OSError, path: str, operation: str, obj: str) -> PyvfioError:
    why = causes.Cause()
    if error.errno == errno.EBUSY:
        why = causes.busy(path, sysfs.holders(path))
    elif error.errno in (errno.EACCES, errno.EPERM):
        why = permission_of(sysfs.backend, path)
    elif error.errno in _ABSENT:
        modules = [name for name in ("vfio", "iommufd") if sysfs.exists(f"/sys/module/{name}")]
        why = causes.no_vfio(path, modules, sysfs.exists(posixpath.dirname(path)))
        return NotAvailable(operation, obj, path=path, errno=error.errno, cause=why.sentence, next_step=why.next_step)
    return from_oserror(error, operation, obj, path=path, cause=why.sentence, next_step=why.next_step)
