"""What the machine tells of a function, from its description and the BARs of its device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.options import from_hex
from pyvfio_backends.software.hardware.pci.bar import Bar
from pyvfio_backends.software.hardware.zpci.clp import PFIP_SEGMENTS, UTILITY_STRING_SIZE, FunctionFacts

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.zpci.models import FunctionDescription, Place

__all__ = ["RANGES", "function_facts"]

START_DMA = 0x100000000
END_DMA = 0x1FFFFFFFFFFFFFF
_BUILD = "build PCI function"
_BYTE = 0xFF
_DMA_LIMIT = 1 << 64

RANGES: Mapping[str, tuple[int, int]] = {
    "pchid": (0, 0xFFFF),
    "pft": (-1, 0xFF),
    "pfgid": (0, 0xFF),
    "vfn": (0, 0xFFFF),
    "port": (0, 0xF),
    "rid": (-1, 0xFFFF),
    "tid": (-1, 0xFFFF),
}
"""The first and the last value of what a description says in numbers."""


def function_facts(
    spec: FunctionDescription, place: Place, bars: Sequence[Bar], *, pft: int = 0, mio: bool = True, fmb_words: int = 0
) -> FunctionFacts:
    """The facts of a function that is described by `spec`, with the BARs of its device.

    `pft` is the function type unless the description has one, `mio` whether PCI memory I/O reaches the BARs where the
    machine has it, `fmb_words` the length of a measurement block.  Raise `Misuse` for options that make no sense.
    """
    options = spec.options
    for name, (least, most) in RANGES.items():
        value = getattr(spec, name)
        if not least <= value <= most:
            raise Misuse(_BUILD, spec.model, cause=f"{name} is between {least:#x} and {most:#x}, not {value:#x}")
    sizes = [0] * regs.PCI_STD_NUM_BARS
    values = [0] * regs.PCI_STD_NUM_BARS
    for bar in bars:
        sizes[bar.index] = bar.size.bit_length() - 1
        values[bar.index] = bar.flags
    s0, s1, s2, s3, s4, s5 = sizes
    v0, v1, v2, v3, v4, v5 = values
    fidparm = options.get("fidparm", 0)
    if not 0 <= fidparm <= _BYTE:
        raise Misuse(_BUILD, spec.model, cause=f"fidparm is a byte, not {fidparm:#x}")
    first, last = options.get("start_dma", START_DMA), options.get("end_dma", END_DMA)
    if not 0 <= first <= last < _DMA_LIMIT:
        raise Misuse(_BUILD, spec.model, cause=f"start_dma and end_dma make no range: {first:#x} to {last:#x}")
    path = from_hex(_BUILD, spec.model, "pfip", options.get("pfip", ""))
    utility = from_hex(_BUILD, spec.model, "util_str", options.get("util_str", ""))
    return FunctionFacts(
        fid=spec.fid,
        uid=spec.uid,
        pchid=spec.pchid,
        pfgid=spec.pfgid,
        pft=pft if spec.pft < 0 else spec.pft,
        vfn=spec.vfn,
        port=spec.port,
        bar_sizes=(s0, s1, s2, s3, s4, s5),
        bar_values=(v0, v1, v2, v3, v4, v5),
        start_dma=first,
        end_dma=last,
        pfip=path.ljust(PFIP_SEGMENTS, b"\0")[:PFIP_SEGMENTS],
        util_str=utility.ljust(UTILITY_STRING_SIZE, b"\0")[:UTILITY_STRING_SIZE] if utility else b"",
        fmb_words=fmb_words,
        rid=spec.rid if spec.rid >= 0 else 0 if options.get("total_vfs") else None,
        tid=spec.tid if spec.tid >= 0 else None,
        is_physfn=bool(options.get("total_vfs")),
        mio_capable=place.mio and mio,
        fidparm=fidparm,
    )
