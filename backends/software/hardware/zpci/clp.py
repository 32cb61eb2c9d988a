"""What the call logical processor tells of functions and groups, as values.

Sources: ``arch/s390/include/asm/pci_clp.h`` (what a query returns), ``arch/s390/pci/pci_clp.c``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyvfio.zpci.clp import FunctionResponse, GroupResponse

__all__ = [
    "PFIP_SEGMENTS",
    "UTILITY_STRING_SIZE",
    "FunctionEntry",
    "FunctionFacts",
    "GroupFacts",
    "query_function",
    "query_group",
]

UTILITY_STRING_SIZE = 64
PFIP_SEGMENTS = 4
_REGION_THIRD_ONLY: Final = 0x40


@dataclass(frozen=True, slots=True)
class FunctionEntry:
    """An entry of LIST PCI: `fid`, the handle `fh`, whether it is configured, and its ids."""

    fid: int
    fh: int
    configured: bool
    vendor: int
    device: int


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


def query_function(facts: FunctionFacts, bars: tuple[int, ...]) -> FunctionResponse:
    """The answer of QUERY PCI FUNCTION; `bars` are the six registers now."""
    return FunctionResponse(
        vfn=facts.vfn,
        rid_available=int(facts.rid is not None),
        physical=int(facts.is_physfn),
        utility_available=int(bool(facts.util_str)),
        pfgid=facts.pfgid,
        fid=facts.fid,
        bar_sizes=bytes(facts.bar_sizes),
        pchid=facts.pchid,
        bars=b"".join(value.to_bytes(4, "little") for value in bars),
        pfip=facts.pfip,
        port=facts.port,
        fmb_length=facts.fmb_length,
        pft=facts.pft,
        sdma=facts.start_dma,
        edma=facts.end_dma,
        rid=facts.rid or 0,
        uid=facts.uid,
        utility=facts.util_str.ljust(UTILITY_STRING_SIZE, b"\0"),
    )


def query_group(group: GroupFacts) -> GroupResponse:
    """The answer of QUERY PCI FUNCTION GROUP."""
    return GroupResponse(
        noi=group.max_interrupts,
        version=group.version,
        refresh=int(group.refresh),
        maxstbl=group.max_store,
        mui=group.frame_update,
        dtsm=_REGION_THIRD_ONLY,
        dasm=group.dma_mask,
        msia=group.msi_address,
    )
