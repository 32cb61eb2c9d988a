"""PCI LOAD, STORE and STORE BLOCK of a function that was found and may be used: how they end, and the order of bytes.

The same for whoever carries them out: a machine, a hypervisor that was asked to, or a machine for a guest.
"""

from __future__ import annotations

from typing import Final, Protocol

from pyvfio.zpci.instructions import Answer, Refused, Request, SpecificationException, Status

__all__ = ["Accessible", "load", "store", "store_block"]

_BARS: Final = 6
_DOUBLEWORD: Final = 8
_REGISTER: Final = (1 << 8 * _DOUBLEWORD) - 1
_BOUNDARY: Final = 1 << 12


class Accessible(Protocol):
    """What answers loads and stores."""

    def load(self, space: int, offset: int, length: int) -> int:
        """Load a little-endian number.  Raise `Refused` or `OperandException`."""
        ...

    def store(self, space: int, offset: int, length: int, value: int) -> None:
        """Store a little-endian number.  Raise `Refused` or `OperandException`."""
        ...

    def check_block(self, space: int, offset: int, length: int) -> None:
        """Whether doublewords from `offset` on can be stored in a BAR.  Raise `Refused` or `OperandException`."""
        ...

    def has_bar(self, number: int) -> bool:
        """Whether there is a base address register of this number."""
        ...


def load(function: Accessible, request: Request, offset: int) -> Answer:
    """PCI LOAD.  Raise `OperandException`."""
    try:
        value = function.load(request.space, offset, request.length)
    except Refused as refused:
        return Answer(refused.cc, refused.status)
    return Answer(data=int.from_bytes(value.to_bytes(request.length, "little"), "big"))


def store(function: Accessible, data: int, request: Request, offset: int) -> Answer:
    """PCI STORE.  Raise `OperandException`."""
    length = request.length
    kept = (data & _REGISTER).to_bytes(_DOUBLEWORD, "big")[-length:] if 0 < length <= _DOUBLEWORD else b""
    try:
        function.store(request.space, offset, length, int.from_bytes(kept, "little"))
    except Refused as refused:
        return Answer(refused.cc, refused.status)
    return Answer()


def store_block(function: Accessible, most: int, data: bytes, request: Request, offset: int) -> Answer:
    """PCI STORE BLOCK of at most `most` bytes, all of them or none.

    Raise `SpecificationException` or `OperandException`.
    """
    length = len(data)
    if request.space >= _BARS or not function.has_bar(request.space):
        return Answer(1, Status.INVALID_ADDRESS_SPACE)
    if offset % _DOUBLEWORD or length <= _DOUBLEWORD or length % _DOUBLEWORD or length > most:
        raise SpecificationException(
            "PCI store block", f"handle {request.fh:08x}", cause=f"{length} bytes at {offset:#x}, at most {most}"
        )
    if offset % _BOUNDARY + length > _BOUNDARY:
        raise SpecificationException("PCI store block", f"handle {request.fh:08x}", cause="it crosses a 4 KiB boundary")
    try:
        function.check_block(request.space, offset, length)
        for place in range(0, length, _DOUBLEWORD):
            value = int.from_bytes(data[place : place + _DOUBLEWORD], "little")
            function.store(request.space, offset + place, _DOUBLEWORD, value)
    except Refused as refused:
        return Answer(refused.cc, refused.status)
    return Answer()
