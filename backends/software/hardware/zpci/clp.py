"""What the call logical processor tells of functions and groups, as values.

Sources: ``arch/s390/include/asm/pci_clp.h`` (what a query returns), ``arch/s390/pci/pci_clp.c``.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "PFIP_SEGMENTS",
    "UTILITY_STRING_SIZE",
    "FunctionFacts",
    "GroupFacts",
]

UTILITY_STRING_SIZE = 64
PFIP_SEGMENTS = 4


@dataclass(frozen=True, slots=True)
class FunctionFacts:
    """The answer of QUERY PCI FUNCTION.

    `bar_sizes` are exponents of two, 0 for a BAR that is not there, `bar_values` the registers as in configuration
    space.  `start_dma` and `end_dma` are the first and the last address for DMA.  `util_str` is EBCDIC, empty when
    the function has none.  `rid` is the routing identifier (bus and devfn), None where the machine gives none;
    `is_physfn` says that it can make virtual functions.
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
    fmb_length: int = 0
    rid: int | None = None
    is_physfn: bool = False


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
