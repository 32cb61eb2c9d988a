"""A block of registers behind a base address, made of parts at offsets; and memory as such a part."""

from __future__ import annotations

from pyvfio_backends.software.hardware.pci.bar import Registers, Unmapped

__all__ = ["Block", "Memory"]


class Block:
    """`size` bytes of registers; what no part covers is `Unmapped`."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._parts: list[tuple[int, Registers]] = []

    def place(self, offset: int, part: Registers) -> None:
        """Put registers at an offset, in place of what was put there before; they end where the next part begins."""
        others = [one for one in self._parts if one[0] != offset]
        self._parts = sorted([*others, (offset, part)], key=lambda one: -one[0])

    @property
    def parts(self) -> list[Registers]:
        """What was placed, by offset."""
        return [part for _, part in reversed(self._parts)]

    def _find(self, offset: int) -> tuple[int, Registers]:
        for start, part in self._parts:
            if start <= offset:
                return offset - start, part
        raise Unmapped

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        place, part = self._find(offset)
        return part.read(place, length)

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`."""
        place, part = self._find(offset)
        part.write(place, length, value)

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        try:
            place, part = self._find(offset)
        except Unmapped:
            return False
        return part.takes(place, length)

    def reset(self) -> None:
        """See `Registers.reset`."""
        for _, part in self._parts:
            part.reset()


class Memory:
    """Memory on a device: `data` keeps what is written, also over a reset."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        if offset + length > len(self.data):
            raise Unmapped
        return int.from_bytes(self.data[offset : offset + length], "little")

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`."""
        if offset + length > len(self.data):
            raise Unmapped
        self.data[offset : offset + length] = value.to_bytes(length, "little")

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        return offset + length <= len(self.data)

    def reset(self) -> None:
        """See `Registers.reset`: memory keeps its content."""
