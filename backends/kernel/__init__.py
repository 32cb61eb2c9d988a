"""The kernel backend: the verbs of the seam on the host that runs this program."""

from __future__ import annotations

from pyvfio_backends.kernel.backend import KernelBackend

__all__ = ["KernelBackend", "open_backend"]


def open_backend(*, sysfs: str = "/sys", devfs: str = "/dev", uevents: str = "auto") -> KernelBackend:
    """Answer for this host.

    `sysfs` and `devfs` are other roots for ``/sys`` and ``/dev`` (a container, an image).  `uevents` chooses the event
    source: ``udev`` (events after udev's rules), ``netlink`` (the kernel's own), or ``auto``: udev where it runs.
    """
    return KernelBackend(sysfs=sysfs, devfs=devfs, uevents=uevents)
