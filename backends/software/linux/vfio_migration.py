"""Migration of a VFIO device, version 2: its states, the arcs between them and the three features for it.

The model is ``vfio_mig_get_next_state()`` and ``vfio_ioctl_device_feature_mig_*()`` in ``drivers/vfio/vfio_main.c``
(6.12).  Which states there are depends on what the driver supports::

                 RESUMING
                    |
    RUNNING ---- [RUNNING_P2P] ---- STOP ---- STOP_COPY        [ ]: with VFIO_MIGRATION_P2P
       |              |                           |            ( ): with VFIO_MIGRATION_PRE_COPY
   (PRE_COPY) -- ([PRE_COPY_P2P]) ----------------'

A state that is further away is reached in several steps, and one that the driver does not support is stepped over.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_feature
from pyvfio.abi.layout import native_struct
from pyvfio.abi.vfio_feature import MigrationState as S
from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.vfio_core import FEATURE_DATA, check_feature
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.uaccess import Argument

__all__ = ["Migration", "feature", "next_state"]

_STOP_COPY, _P2P = vfio_feature.VFIO_MIGRATION_STOP_COPY, vfio_feature.VFIO_MIGRATION_P2P
_PRE_COPY = vfio_feature.VFIO_MIGRATION_PRE_COPY
_NEEDS: Final = {
    S.STOP: _STOP_COPY,
    S.RUNNING: _STOP_COPY,
    S.STOP_COPY: _STOP_COPY,
    S.RESUMING: _STOP_COPY,
    S.RUNNING_P2P: _STOP_COPY | _P2P,
    S.PRE_COPY: _STOP_COPY | _PRE_COPY,
    S.PRE_COPY_P2P: _STOP_COPY | _PRE_COPY | _P2P,
}
"""State -> what a driver must support to have it.  ERROR is no state that can be asked for."""


def _row(stop: S, running: S, pre_copy: S, pre_copy_p2p: S, stop_copy: S, resuming: S, running_p2p: S) -> dict[S, S]:
    targets = (S.STOP, S.RUNNING, S.PRE_COPY, S.PRE_COPY_P2P, S.STOP_COPY, S.RESUMING, S.RUNNING_P2P)
    steps = (stop, running, pre_copy, pre_copy_p2p, stop_copy, resuming, running_p2p)
    return dict(zip(targets, steps, strict=True))


_NEXT: Final = {
    S.STOP: _row(S.STOP, *(S.RUNNING_P2P,) * 3, S.STOP_COPY, S.RESUMING, S.RUNNING_P2P),
    S.RUNNING: _row(S.RUNNING_P2P, S.RUNNING, S.PRE_COPY, *(S.RUNNING_P2P,) * 4),
    S.PRE_COPY: _row(S.RUNNING, S.RUNNING, S.PRE_COPY, *(S.PRE_COPY_P2P,) * 2, *(S.RUNNING,) * 2),
    S.PRE_COPY_P2P: _row(*(S.RUNNING_P2P,) * 2, S.PRE_COPY, S.PRE_COPY_P2P, S.STOP_COPY, *(S.RUNNING_P2P,) * 2),
    S.STOP_COPY: _row(S.STOP, S.STOP, S.ERROR, S.ERROR, S.STOP_COPY, S.STOP, S.STOP),
    S.RESUMING: _row(*(S.STOP,) * 5, S.RESUMING, S.STOP),
    S.RUNNING_P2P: _row(S.STOP, S.RUNNING, S.RUNNING, S.PRE_COPY_P2P, S.STOP, S.STOP, S.RUNNING_P2P),
}
"""State -> the state that is wanted -> the next one on the way; ERROR: there is none."""


def next_state(current: S, wanted: int, flags: int) -> S:
    """The next state on the way, of a driver that supports `flags` (``VFIO_MIGRATION_*``).  Raise OSError EINVAL."""

    def has(state: S) -> bool:
        return state in _NEEDS and _NEEDS[state] & flags == _NEEDS[state]

    if wanted not in tuple(S) or not has(S(wanted)) or current not in _NEXT:
        raise fail(errno.EINVAL)
    step = _NEXT[current][S(wanted)]
    while step is not S.ERROR and not has(step):
        step = _NEXT[step][S(wanted)]
    if step is S.ERROR:
        raise fail(errno.EINVAL)
    return step


class Migration(ABC):
    """What a driver does for migration (``struct vfio_migration_ops``); `flags` are ``VFIO_MIGRATION_*``.

    `state` is the device's.  Drivers subclass it, and put one into `VfioDevice.migration`.
    """

    def __init__(self, kernel: Kernel, flags: int) -> None:
        self.kernel = kernel
        self.flags = flags
        self.state = S.RUNNING

    @abstractmethod
    def step(self, new: S) -> File | None:
        """Go to a neighbouring state, whose data file is the result where it has one.  Raise OSError."""

    @abstractmethod
    def data_size(self) -> int:
        """How many bytes will have to be copied while the device is stopped, at most."""

    def set_state(self, wanted: int) -> File | None:
        """Go to a state, in as many steps as it takes.  Raise OSError; the device is where it got to then."""
        file: File | None = None
        while self.state != wanted:
            new = next_state(self.state, wanted, self.flags)
            file = self.step(new)
            self.state = new
        return file

    def reset(self) -> None:
        """The device was reset: it runs, and files of before are dead."""
        self.state = S.RUNNING


_FLAGS, _STATE = native_struct(vfio_feature.DeviceFeatureMigration), native_struct(vfio_feature.DeviceFeatureMigState)
_SIZE = native_struct(vfio_feature.DeviceFeatureMigDataSize)
_LABEL = "anon_inode:[vfio-mig]"
_GET = abi.VFIO_DEVICE_FEATURE_GET


def feature(migration: Migration, flags: int, argument: Argument, size: int) -> int:
    """Answer one of the three features; `size` is that of the data.  Raise OSError."""
    number = flags & abi.VFIO_DEVICE_FEATURE_MASK
    if number == vfio_feature.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE:
        if check_feature(flags, size, _GET | abi.VFIO_DEVICE_FEATURE_SET, _STATE.size):
            _device_state(migration, flags, argument)
    elif number == vfio_feature.VFIO_DEVICE_FEATURE_MIGRATION:
        if check_feature(flags, size, _GET, _FLAGS.size):
            argument.write(FEATURE_DATA, _FLAGS.pack(migration.flags))
    elif check_feature(flags, size, _GET, _SIZE.size):
        argument.write(FEATURE_DATA, _SIZE.pack(migration.data_size()))
    return 0


def _device_state(migration: Migration, flags: int, argument: Argument) -> None:
    wanted, _ = _STATE.unpack(argument.read(FEATURE_DATA, _STATE.size))
    if flags & _GET:
        argument.write(FEATURE_DATA, _STATE.pack(migration.state, -1))
        return
    try:
        file = migration.set_state(wanted)
    except OSError:
        argument.write(FEATURE_DATA, _STATE.pack(wanted, -1))
        raise
    if file is None:
        argument.write(FEATURE_DATA, _STATE.pack(wanted, -1))
        return
    fds = migration.kernel.fds
    fd = fds.install(file, _LABEL)
    try:
        argument.write(FEATURE_DATA, _STATE.pack(wanted, fd))
    except OSError:
        fds.close(fd)
        raise
