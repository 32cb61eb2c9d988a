"""A dump of configuration spaces, in the format that ``lspci -F`` of pciutils reads and ``lspci -xxxx`` writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex

__all__ = ["dump", "dump_lines"]

_ROW = 16


def dump_lines(name: str, data: bytes) -> Iterator[str]:
    """The lines for one function: its address, rows of 16 bytes, an empty line."""
    yield f"{name} Unknown"
    for at in range(0, len(data), _ROW):
        yield f"{at:02x}: {data[at : at + _ROW].hex(' ')}"
    yield ""


def dump(complex_: RootComplex) -> str:
    """All functions that have a routing id now, by segment and routing id."""
    found = sorted(
        (segment, function.rid, bytes(function.config.data))
        for segment, function in complex_.functions()
        if complex_.function(segment, function.rid) is function
    )
    return "\n".join(_all(found))


def _all(found: Iterable[tuple[int, int, bytes]]) -> Iterator[str]:
    for segment, rid, data in found:
        yield from dump_lines(f"{segment:04x}:{rid >> 8:02x}:{rid >> 3 & 0x1F:02x}.{rid & 7}", data)
