"""The kernel backend: the verbs of the seam on the host that runs this program."""

from __future__ import annotations

from collections.abc import Sequence

from pyvfio.errors import Misuse
from pyvfio_backends.kernel.backend import KernelBackend

__all__ = ["KernelBackend", "open_backend"]


def open_backend(
    *, sysfs: str = "", devfs: str = "", root: str = "/", uevents: str = "auto", devices: Sequence[str] = ()
) -> KernelBackend:
    """Answer for this host.

    `root` is another root for all paths (an image, a recorded host); `sysfs` and `devfs` are other places for ``/sys``
    and ``/dev`` alone (a container), by default those below `root`.  The network is always that of this host.
    `uevents` chooses the event source: ``udev`` (events after udev's rules), ``netlink`` (the kernel's own), or
    ``auto``: udev where it runs.  Raise `Misuse` for `devices`, which only a software machine can be given.
    """
    if devices:
        raise Misuse(
            "open backend",
            "kernel",
            cause=f"this host has the devices that it has; it cannot be given {devices[0]}",
            next_step="a software machine can: --machine NAME, or Host('software', machine=..., devices=...)",
        )
    return KernelBackend(sysfs=sysfs, devfs=devfs, root=root, uevents=uevents)
