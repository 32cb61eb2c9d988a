"""What the channel formats share: exact length, big-endian words and bits numbered from the left.

The Principles of Operation number bits from the most significant one, so a field is described by its first bit and
its width: bit 0 of a 32-bit word is ``0x80000000``.
"""

from __future__ import annotations

from typing import TypeAlias

from pyvfio.errors import Misuse

__all__ = ["BytesLike", "check_range", "exactly"]

BytesLike: TypeAlias = bytes | bytearray | memoryview


def exactly(data: BytesLike, size: int, what: str) -> bytes:
    """Return `data` as bytes.  Raise `Misuse` unless it has exactly `size` bytes."""
    if len(data) != size:
        raise Misuse(f"read {what}", cause=f"it has {size} bytes, not {len(data)}")
    return bytes(data)


def check_range(what: str, **fields: tuple[int, int]) -> None:
    """Raise `Misuse` for the first field (name = (value, width in bits)) which does not fit its width."""
    for name, (value, width) in fields.items():
        if not 0 <= value < 1 << width:
            raise Misuse(f"build {what}", cause=f"{name}={value:#x} does not fit into {width} bits")
