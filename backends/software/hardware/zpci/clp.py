"""What the call logical processor tells of functions and groups, as values.

Sources: ``arch/s390/include/asm/pci_clp.h`` (what a query returns), ``arch/s390/pci/pci_clp.c``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyvfio.errors import Misuse

__all__ = [
    "MIO_WRITE_BACK",
    "PFIP_SEGMENTS",
    "UTILITY_STRING_SIZE",
    "FunctionFacts",
    "GroupFacts",
    "mio_addresses",
]

UTILITY_STRING_SIZE = 64
PFIP_SEGMENTS = 4
MIO_WRITE_BACK = 1 << 46
"""The bit by which the write-back address of a BAR differs from the write-through one.  It is the machine's choice."""
_MIO = 0xFFFF_8000_0000_0000
_MIO_ROOM = 34
_PAGE_SHIFT = 12


@dataclass(frozen=True, slots=True)
class FunctionFacts:
    """The answer of QUERY PCI FUNCTION.

    `bar_sizes` are exponents of two, 0 for a BAR that is not there, `bar_values` the registers as in configuration
    space.  `start_dma` and `end_dma` are the first and the last address for DMA.  `util_str` is EBCDIC, empty when
    the function has none.  `rid` is the routing identifier (bus and devfn) and `tid` the topology in which it is valid,
    each None where the machine gives none; `is_physfn` says that it can make virtual functions, `mio_capable` that its
    BARs have addresses for PCI memory I/O instructions.  `fmb_words` is the length of its measurement block in words of
    4 bytes, as CLP tells it, `fidparm` the parameter of its definition (8 bits).
    """

    fid: int
    uid: int
    pchid: int
    pfgid: int
    pft: int
    vfn: int
    port: int
    bar_sizes: tuple[int, int, int, int, int, int]
    bar_values: tuple[int, int, int, int, int, int]
    start_dma: int
    end_dma: int
    pfip: bytes
    util_str: bytes = b""
    fmb_words: int = 0
    rid: int | None = None
    tid: int | None = None
    is_physfn: bool = False
    mio_capable: bool = False
    fidparm: int = 0


def mio_addresses(number: int, sizes: Sequence[int]) -> dict[int, int]:
    """The write-through address of each BAR of function `number` of the machine; `sizes` are exponents of two.

    Raise `Misuse` for BARs that do not fit into the 16 GiB which a function has there.
    """
    found, at = {}, 0
    for bar in sorted((bar for bar, order in enumerate(sizes) if order), key=lambda bar: (-sizes[bar], bar)):
        found[bar] = _MIO + (number << _MIO_ROOM) + at
        at += 1 << max(sizes[bar], _PAGE_SHIFT)
    if at > 1 << _MIO_ROOM:
        raise Misuse("build PCI function", cause=f"BARs of {at:#x} bytes have no room among the memory I/O addresses")
    return dict(sorted(found.items()))


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """The answer of QUERY PCI FUNCTION GROUP.

    `msi_address` is where messages go, `max_interrupts` how many a function may have, `max_store` the bytes of one
    store block, `frame_update` the measurement interval in milliseconds.
    """

    pfgid: int
    dma_mask: int = 0
    msi_address: int = 0xFE00000000000000
    refresh: bool = True
    frame_update: int = 4000
    max_interrupts: int = 128
    max_store: int = 128
    version: int = 0
    directed: int = 0
    processors: int = 0
    forwarded: int = 0
