"""Which registers a simple device has behind a base address: of 32 bits, some of 64, and which accesses they take.

A register of 64 bits is accessed as a whole or by its halves; the values are the device's, by the offset of a register.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pyvfio_backends.software.hardware.pci.bar import Unmapped

__all__ = ["RegisterPlaces"]


class RegisterPlaces:
    """The `registers` by their offsets, of which those in `wide` have 64 bits."""

    __slots__ = ("_places",)

    def __init__(self, registers: Collection[int], wide: Collection[int]) -> None:
        self._places: dict[tuple[int, int], tuple[int, int]] = {(one, 4): (one, 0) for one in registers}
        for one in wide:
            self._places |= {(one, 8): (one, 0), (one, 4): (one, 0), (one + 4, 4): (one, 32)}

    def locate(self, offset: int, length: int) -> tuple[int, int]:
        """The register of an access, and the bits to shift its value by.  Raise `Unmapped`: there is none."""
        found = self._places.get((offset, length))
        if found is None:
            raise Unmapped
        return found

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        return (offset, length) in self._places

    def read(self, values: Mapping[int, int], offset: int, length: int) -> int:
        """What an access reads.  Raise `Unmapped`."""
        register, shift = self.locate(offset, length)
        return values[register] >> shift & (1 << 8 * length) - 1
