"""Outbound windows: a range of the processor's addresses that reaches a bus, in segments of equal size.

::

    processor   base                                   base + size
                |  0  |  1  |  2  |  ...        | n - 1 |           segment -> endpoint
    bus         bus_base

A segment belongs to one endpoint, and an endpoint can have many.  So what belongs to different endpoints may not share
a segment: windows of bridges are aligned to segments.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyvfio.errors import Misuse

__all__ = ["Segments"]


@dataclass(frozen=True, slots=True)
class Segments:
    """`size` bytes at `base` of the processor that are `bus_base` on the bus, as `count` segments.

    Raise `Misuse` unless the size is a multiple of the count.
    """

    base: int
    bus_base: int
    size: int
    count: int

    def __post_init__(self) -> None:
        if self.count < 1 or self.size < self.count or self.size % self.count:
            what = f"{self.size:#x} bytes in {self.count} segments"
            raise Misuse("describe an outbound window", what, cause="the segments would not be equal")

    @property
    def segment_size(self) -> int:
        """Bytes of a segment."""
        return self.size // self.count

    def contains(self, address: int) -> bool:
        """Whether an address of the processor is in the window."""
        return self.base <= address < self.base + self.size

    def contains_bus(self, address: int) -> bool:
        """Whether an address on the bus is what the window reaches."""
        return self.bus_base <= address < self.bus_base + self.size

    def to_bus(self, address: int) -> int:
        """The address on the bus of one of the processor."""
        return address - self.base + self.bus_base

    def from_bus(self, address: int) -> int:
        """The processor's address of one on the bus."""
        return address - self.bus_base + self.base

    def segment(self, address: int) -> int:
        """The segment of an address of the processor in the window."""
        return (address - self.base) // self.segment_size

    def of_bus_range(self, first: int, last: int) -> range:
        """The segments that a range of addresses on the bus touches, both ends included; none outside of the window."""
        first, last = max(first, self.bus_base), min(last, self.bus_base + self.size - 1)
        if first > last:
            return range(0)
        size = self.segment_size
        return range((first - self.bus_base) // size, (last - self.bus_base) // size + 1)

    def start(self, segment: int) -> int:
        """The processor's address where a segment begins."""
        return self.base + segment * self.segment_size
