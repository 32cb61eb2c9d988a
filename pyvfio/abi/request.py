"""Requests of ioctl: numbers by architecture, and the names of a number.

VFIO and iommufd use only ``_IO``: no direction and no size in the number, because every structure carries its own
size.  Where "no direction" is a bit of its own (powerpc, mips, sparc, alpha) the numbers are others: 0x20003b64 for
0x3b64.  Source: ``include/uapi/asm-generic/ioctl.h`` and its counterparts of each architecture.

A `Request` is the number of the machine on which this process runs, so a kernel takes it as it is, and it can tell the
number of any other.  Whoever answers for another machine knows by the type what is meant; a bare number is one of that
machine's own (`as_here`).
"""

from __future__ import annotations

import functools
import importlib
import os

from ioctl_opt import IO

__all__ = ["VFIO_BASE", "VFIO_TYPE", "Request", "as_here", "request", "request_names", "same_requests"]

VFIO_TYPE = ord(";")
"""The letter of VFIO (``vfio.h``) and of iommufd (``IOMMUFD_TYPE``)."""
VFIO_BASE = 100
"""What ``vfio.h`` adds to each of its numbers."""

_NONE_IS_A_BIT = ("ppc", "powerpc", "mips", "sparc", "alpha")
"""Machines (prefixes of ``uname -m``) whose ``_IOC_NONE`` is 1 in a direction field of 3 bits, not 0 in one of 2."""
_NONE_BIT = 1 << 29
_LETTER_AND_NUMBER = 0xFFFF
_WORD = 0xFFFFFFFF


def _none(machine: str) -> int:
    return _NONE_BIT if machine.startswith(_NONE_IS_A_BIT) else 0


class Request(int):
    """A request without direction and size: as an integer, its number on the machine of this process.

    >>> start = request(VFIO_TYPE, VFIO_BASE)
    >>> hex(start.on("s390x")), hex(start.on("ppc64le"))
    ('0x3b64', '0x20003b64')
    """

    __slots__ = ()

    def on(self, machine: str) -> int:
        """Its number for the kernel of `machine` (``uname -m``)."""
        return self & _LETTER_AND_NUMBER | _none(machine)


def request(kind: int, number: int) -> Request:
    """Return ``_IO(kind, number)``."""
    return Request(int(IO(kind, number)) | _none(os.uname().machine))


def same_requests(machine: str) -> bool:
    """Whether requests have the same numbers on `machine` as here."""
    return _none(machine) == _none(os.uname().machine)


def as_here(number: int, machine: str) -> int:
    """Return what `number`, said by a program of `machine`, is here: 32 bits.

    A number that means nothing there means nothing here either: one that only looks like ours becomes another one.
    What has a direction or a size stays as it is.

    >>> as_here(request(VFIO_TYPE, VFIO_BASE).on("ppc64le"), "ppc64le") == request(VFIO_TYPE, VFIO_BASE)
    True
    """
    number &= _WORD
    without = number & ~_NONE_BIT <= _LETTER_AND_NUMBER
    return number ^ _NONE_BIT if without and not same_requests(machine) else number


_HOLDERS = ("vfio", "vfio_type1", "vfio_feature", "vfio_gfx", "vfio_spapr", "iommufd", "iommufd_later")


@functools.cache
def _names() -> dict[int, tuple[str, ...]]:
    # Read off the modules, so that a request is written down once, where its header has it.
    found: dict[int, list[str]] = {}
    for holder in _HOLDERS:
        for name, value in vars(importlib.import_module(f"{__package__}.{holder}")).items():
            if isinstance(value, Request):
                found.setdefault(value, []).append(name)
    return {number: tuple(names) for number, names in found.items()}


def request_names(number: int, machine: str | None = None) -> tuple[str, ...]:
    """All names of a request number, for traces and errors; empty if VFIO and iommufd have none.

    A bare number is one of `machine` (``uname -m``; default: this one).  The kind of file decides which one is meant:
    base + 12 is ``VFIO_IOMMU_GET_INFO`` on a container and ``VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`` on a device.
    """
    if machine is not None and not isinstance(number, Request):
        number = as_here(number, machine)
    return _names().get(number, ())
