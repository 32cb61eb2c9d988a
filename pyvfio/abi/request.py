"""Request numbers of ioctl, and the names that a number has.

VFIO and iommufd use only ``_IO``: no direction and no size in the number, because every structure carries its own
size.  Source: ``include/uapi/asm-generic/ioctl.h`` and its counterparts of each architecture.
"""

from __future__ import annotations

import functools
import importlib
import os

from ioctl_opt import IO

__all__ = ["VFIO_BASE", "VFIO_TYPE", "request", "request_names"]

VFIO_TYPE = ord(";")
"""The letter of VFIO (``vfio.h``) and of iommufd (``IOMMUFD_TYPE``)."""
VFIO_BASE = 100
"""What ``vfio.h`` adds to each of its numbers."""

_NONE_IS_A_BIT = ("ppc", "powerpc", "mips", "sparc", "alpha")
"""Machines (prefixes of ``uname -m``) whose ``_IOC_NONE`` is 1 in a direction field of 3 bits, not 0 in one of 2."""
_NONE_BIT = 1 << 29


def request(kind: int, number: int, machine: str | None = None) -> int:
    """Return ``_IO(kind, number)`` as the kernel of `machine` (``uname -m``; default: this one) has it.

    >>> hex(request(VFIO_TYPE, VFIO_BASE + 0, "s390x")), hex(request(VFIO_TYPE, VFIO_BASE + 0, "ppc64le"))
    ('0x3b64', '0x20003b64')
    """
    name = os.uname().machine if machine is None else machine
    direction = _NONE_BIT if name.startswith(_NONE_IS_A_BIT) else 0
    return int(IO(kind, number)) | direction


_HOLDERS = ("vfio", "vfio_type1", "vfio_feature", "vfio_gfx", "vfio_spapr", "iommufd")


@functools.cache
def _names() -> dict[int, tuple[str, ...]]:
    # Read off the modules, so that a request is written down once, where its header has it.
    base = request(VFIO_TYPE, 0)
    found: dict[int, list[str]] = {}
    for holder in _HOLDERS:
        for name, value in vars(importlib.import_module(f"{__package__}.{holder}")).items():
            if name.startswith(("VFIO_", "IOMMU_")) and type(value) is int and base <= value < base + 256:
                found.setdefault(value, []).append(name)
    return {number: tuple(names) for number, names in found.items()}


def request_names(number: int) -> tuple[str, ...]:
    """All names of a request number, for traces and errors; empty if VFIO and iommufd have none.

    The kind of file decides which one is meant: base + 12 is ``VFIO_IOMMU_GET_INFO`` on a container and
    ``VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`` on a device.
    """
    return _names().get(number, ())
