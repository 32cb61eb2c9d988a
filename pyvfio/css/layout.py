"""What the channel formats share: exact length, big-endian words and bits numbered from the left.

The Principles of Operation number bits from the most significant one, so a field is described by its first bit and
its width: bit 0 of a 32-bit word is ``0x80000000``.
"""

from __future__ import annotations

from typing import Final, TypeAlias, TypeVar

from pyvfio.errors import Misuse

__all__ = ["BytesLike", "changed", "check_range", "exactly"]

BytesLike: TypeAlias = bytes | bytearray | memoryview


def exactly(data: BytesLike, size: int, what: str) -> bytes:
    """Return `data` as bytes.  Raise `Misuse` unless it has exactly `size` bytes."""
    if len(data) != size:
        raise Misuse(f"read {what}", cause=f"it has {size} bytes, not {len(data)}")
    return bytes(data)


_Value = TypeVar("_Value")
_put: Final = object.__setattr__


def changed(value: _Value, **fields: object) -> _Value:
    """A copy of a block with other `fields`, which must be known to fit: ``dataclasses.replace`` in half its time.

    It is for what is done for every program; the class must have slots.
    """
    kind = type(value)
    copy = object.__new__(kind)
    for name in kind.__dict__["__slots__"]:
        _put(copy, name, getattr(value, name))
    for name, content in fields.items():
        _put(copy, name, content)
    return copy


def check_range(what: str, **fields: tuple[int, int]) -> None:
    """Raise `Misuse` for the first field (name = (value, width in bits)) which does not fit its width."""
    for name, (value, width) in fields.items():
        if not 0 <= value < 1 << width:
            raise Misuse(f"build {what}", cause=f"{name}={value:#x} does not fit into {width} bits")
