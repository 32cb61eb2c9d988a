"""Big-endian blocks as frozen dataclasses, with the place of each field written beside its name.

A field is given by its byte, its width in bits and, inside the byte, its first bit as the architecture numbers them:
bit 0 is the leftmost.  What no field covers is zero when a block is built, and ignored when it is read.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True, slots=True)
... class Example(BigBlock, size=4):
...     valid: int = at(0, 1)
...     subclass: int = at(0, 3, bit=1)
...     count: int = at(2, 16)
>>> Example(1, 3, 0x1234).to_bytes().hex()
'b0001234'
>>> Example.from_bytes(bytes.fromhex("3fff0002"))
Example(valid=0, subclass=3, count=2)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, field, fields
from typing import Any, ClassVar, NamedTuple, Self

from pyvfio.css.layout import BytesLike, exactly
from pyvfio.errors import Misuse

__all__ = ["BigBlock", "at", "raw_at"]

_KEY = "place"


class _Place(NamedTuple):
    byte: int
    bit: int
    width: int
    make: Callable[[int], Any] | None


def at(byte: int, width: int, *, bit: int = 0, kind: Callable[[int], Any] | None = None, default: int = 0) -> Any:
    """A number of `width` bits from bit `bit` of byte `byte` on; `kind` makes an enumeration or a flag of it."""
    return field(default=default if kind is None else kind(default), metadata={_KEY: _Place(byte, bit, width, kind)})


def raw_at(byte: int, size: int) -> Any:
    """`size` bytes from byte `byte` on, kept as they are."""
    return field(default=bytes(size), metadata={_KEY: _Place(byte, 0, size * 8, bytes)})


class BigBlock:
    """The base of such blocks.  `SIZE` is their length in bytes."""

    __slots__ = ()
    SIZE: ClassVar[int]
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # each subclass is a dataclass

    def __init_subclass__(cls, *, size: int = 0) -> None:
        if size:
            cls.SIZE = size

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Read a block.  Raise `Misuse` on another length."""
        whole = int.from_bytes(exactly(data, cls.SIZE, cls.__name__), "big")
        values: dict[str, Any] = {}
        for name, place in _places(cls):
            shift = cls.SIZE * 8 - place.byte * 8 - place.bit - place.width
            number = whole >> shift & (1 << place.width) - 1
            if place.make is bytes:
                values[name] = number.to_bytes(place.width // 8, "big")
            else:
                values[name] = number if place.make is None else place.make(number)
        return cls(**values)

    def to_bytes(self) -> bytes:
        """The `SIZE` bytes.  Raise `Misuse` when a field does not fit."""
        whole = 0
        for name, place in _places(type(self)):
            value = getattr(self, name)
            if place.make is bytes:
                number = int.from_bytes(exactly(value, place.width // 8, f"{type(self).__name__}.{name}"), "big")
            else:
                number = int(value)
            if not 0 <= number < 1 << place.width:
                raise Misuse(
                    f"build {type(self).__name__}", cause=f"{name}={number:#x} does not fit into {place.width} bits"
                )
            whole |= number << (self.SIZE * 8 - place.byte * 8 - place.bit - place.width)
        return whole.to_bytes(self.SIZE, "big")


_known: dict[type[BigBlock], tuple[tuple[str, _Place], ...]] = {}


def _places(cls: type[BigBlock]) -> tuple[tuple[str, _Place], ...]:
    if cls not in _known:
        _known[cls] = tuple((each.name, each.metadata[_KEY]) for each in fields(cls))
    return _known[cls]
