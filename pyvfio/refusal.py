"""From an `OSError` of the seam to the pyvfio error, with owner and mode where it was a question of permission."""

from __future__ import annotations

import errno
import posixpath

from pyvfio.backend import Backend
from pyvfio.causes import Cause, not_permitted
from pyvfio.errors import PyvfioError, from_oserror

__all__ = ["MISSING", "NO_VALUE", "permission_of", "refusal"]

MISSING = (errno.ENOENT, errno.ENOTDIR)
"""There is no such file."""
NO_VALUE = (errno.ENODEV, errno.ENXIO, errno.EINVAL, errno.EOPNOTSUPP)
"""Drivers answer these for an attribute whose value a device does not have, or has no more."""

_PERMISSION = (errno.EACCES, errno.EPERM)


def refusal(backend: Backend, error: OSError, operation: str, obj: str = "", *, path: str) -> PyvfioError:
    """The error for a call on `path` that failed; of EACCES and EPERM the cause names the file, its owner and mode."""
    why = permission_of(backend, path) if error.errno in _PERMISSION else Cause()
    return from_oserror(error, operation, obj, path=path, cause=why.sentence, next_step=why.next_step)


def permission_of(backend: Backend, path: str) -> Cause:
    """Owner and mode of `path`; of the nearest directory above it that can be looked at, when it cannot."""
    at, below = path, ""
    while True:
        try:
            status = backend.stat(at)
        except OSError:
            if at in ("", "/"):
                return Cause(next_step="run as root")
            at, below = posixpath.dirname(at), at
            continue
        why = not_permitted(at, status.st_mode, status.st_uid, status.st_gid)
        return why if not below else Cause(f"directory {why.sentence}", why.next_step)
