"""Memory of huge pages for DMA: fewer entries for the IOMMU, and fewer pages to pin.

The pages are the process's, whatever backend the device is behind.  The kernel keeps them in pools by size, which are
mostly empty until somebody fills them (``/sys/kernel/mm/hugepages``; `pyvfio doctor` shows them).
"""

from __future__ import annotations

import errno
from typing import Final

from pyvfio.errors import Misuse, NotAvailable
from pyvfio.process import AnonymousMemory

__all__ = ["SIZES", "huge_memory"]

SIZES: Final = (1 << 30, 1 << 21, 1 << 20)
"""Huge pages of x86 (1 GiB, 2 MiB) and of IBM Z (1 MiB), the largest first."""
_KIB: Final = 1024


def huge_memory(length: int, wanted: bool | int, room: int = 0) -> tuple[AnonymousMemory, str]:
    """Memory of at least `length` bytes, and why it has no huge pages if `wanted` says that it should.

    `wanted` is False, True (the largest that the length fills, else ordinary pages with `room` more bytes), or a page
    size, which is insisted on: raise `NotAvailable` with the reason then, and `Misuse` for what is no page size.
    """
    if wanted is False or wanted == 0:
        return _ordinary(length + room), ""
    if wanted is not True:
        if wanted < 0 or wanted & (wanted - 1):
            raise Misuse("make DMA buffer", cause=f"{wanted:#x} is no size of a page")
        try:
            return AnonymousMemory(_rounded(length, wanted), huge=wanted), ""
        except OSError as error:
            cause, step = _why(error, wanted, length)
            raise NotAvailable("make DMA buffer", errno=error.errno, cause=cause, next_step=step) from error
    reasons: list[str] = []
    for size in SIZES:
        if size > length:
            continue
        try:
            return AnonymousMemory(_rounded(length, size), huge=size), ""
        except OSError as error:
            reasons.append(_why(error, size, length)[0])
    return _ordinary(length + room), "; ".join(reasons) or f"{length:#x} bytes fill no huge page"


def _ordinary(length: int) -> AnonymousMemory:
    try:
        return AnonymousMemory(length)
    except (OSError, OverflowError) as error:
        number = error.errno if isinstance(error, OSError) else errno.ENOMEM
        cause = f"this process gets no {length:#x} bytes of memory"
        raise NotAvailable("make DMA buffer", errno=number, cause=cause) from error


def _rounded(length: int, page: int) -> int:
    return -(-length // page) * page


def _why(error: OSError, size: int, length: int) -> tuple[str, str]:
    name = f"{size >> 30} GiB" if size >> 30 else f"{size >> 20} MiB" if size >> 20 else f"{size // _KIB} KiB"
    if error.errno == errno.ENOMEM:
        count = _rounded(length, size) // size
        pool = f"/sys/kernel/mm/hugepages/hugepages-{size // _KIB}kB/nr_hugepages"
        return f"fewer than {count} huge pages of {name} are free", f"as root: write a larger number to {pool}"
    return f"this kernel has no huge pages of {name}", "leave the size out"
