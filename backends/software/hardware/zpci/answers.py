"""What CLP answers, as blocks, from the facts of functions and groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pyvfio.zpci.clp import FunctionResponse, GroupResponse
from pyvfio_backends.software.hardware.zpci.clp import MIO_WRITE_BACK, UTILITY_STRING_SIZE, FunctionFacts, GroupFacts

__all__ = ["query_function", "query_group"]

_REGION_THIRD_ONLY: Final = 0x40


def query_function(facts: FunctionFacts, bars: tuple[int, ...], mio: Mapping[int, int]) -> FunctionResponse:
    """The answer of QUERY PCI FUNCTION; `bars` are the six registers now, `mio` the addresses of the BARs."""
    addresses = [(mio[bar] | MIO_WRITE_BACK, mio[bar]) if bar in mio else (0, 0) for bar in range(len(bars))]
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
        fidparm=facts.fidparm,
        fmb_length=facts.fmb_words,
        pft=facts.pft,
        sdma=facts.start_dma,
        edma=facts.end_dma,
        rid=facts.rid or 0,
        tid_available=int(facts.tid is not None),
        tid=facts.tid or 0,
        mio_available=int(facts.mio_capable),
        mio_valid=sum(1 << len(bars) - bar - 1 for bar in mio),
        mio=b"".join(address.to_bytes(8, "big") for pair in addresses for address in pair),
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
        maxfaal=group.forwarded,
        dnoi=group.directed,
        maxcpu=group.processors,
        dasm=group.dma_mask,
        msia=group.msi_address,
    )
