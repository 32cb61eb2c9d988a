"""A machine's host bridges as one: configuration space by segment, the processor's addresses by window.

::

    HostBridge      a root complex with one root bus, a segment of its own and windows for the processor
    HostBridges     all of them; answers as a `RootComplex` does, with a segment for each bridge

POWER has such bridges, each with a bus of its own: the same address on the bus is there once for each.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.request import Completion, Outcome, Request, Space
from pyvfio_backends.software.hardware.pcie.root_complex import RootBus, RootComplex, Segment

__all__ = ["HostBridge", "HostBridges"]


class HostBridge(RootComplex):
    """The bridge of segment `number`, whose addresses of `load` and `store` are the processor's."""

    number: int
    root_bus: RootBus

    @abstractmethod
    def reaches(self, space: Space, address: int) -> bool:
        """Whether an address of the processor leads to it."""


B = TypeVar("B", bound=HostBridge)


class HostBridges(Generic[B]):
    """The bridges `phbs`, by segment.  Raise `Misuse` when two have the same segment."""

    def __init__(self, phbs: Iterable[B]) -> None:
        self.phbs: dict[int, B] = {}
        for phb in phbs:
            if phb.number in self.phbs:
                raise Misuse("put host bridges together", f"segment {phb.number:04x}", cause="two bridges have it")
            self.phbs[phb.number] = phb

    @property
    def segments(self) -> dict[int, Segment]:
        """See `RootComplex.segments`."""
        return {number: phb.segments[number] for number, phb in self.phbs.items()}

    @property
    def root_buses(self) -> list[RootBus]:
        """See `RootComplex.root_buses`."""
        return [self.phbs[number].root_bus for number in sorted(self.phbs)]

    def functions(self) -> Iterator[tuple[int, Function]]:
        """See `RootComplex.functions`."""
        for number in sorted(self.phbs):
            yield from self.phbs[number].functions()

    def function(self, segment: int, rid: int) -> Function | None:
        """See `RootComplex.function`."""
        phb = self.phbs.get(segment)
        return phb.function(segment, rid) if phb is not None else None

    def config_read(self, segment: int, rid: int, offset: int, length: int) -> int:
        """See `RootComplex.config_read`."""
        phb = self.phbs.get(segment)
        return phb.config_read(segment, rid, offset, length) if phb is not None else (1 << 8 * length) - 1

    def config_write(self, segment: int, rid: int, offset: int, length: int, value: int) -> None:
        """See `RootComplex.config_write`."""
        phb = self.phbs.get(segment)
        if phb is not None:
            phb.config_write(segment, rid, offset, length, value)

    def at(self, address: int, space: Space = Space.MEMORY) -> B | None:
        """The bridge that an address of the processor leads to."""
        return next((phb for phb in self.phbs.values() if phb.reaches(space, address)), None)

    def transfer(self, request: Request) -> Completion:
        """See `RootComplex.transfer`."""
        phb = self.at(request.address, request.space)
        return phb.transfer(request) if phb is not None else Completion(Outcome.UNSUPPORTED)

    def load(self, address: int, length: int, *, space: Space = Space.MEMORY) -> int:
        """See `RootComplex.load`."""
        phb = self.at(address, space)
        return phb.load(address, length, space=space) if phb is not None else (1 << 8 * length) - 1

    def store(self, address: int, length: int, value: int, *, space: Space = Space.MEMORY) -> None:
        """See `RootComplex.store`."""
        phb = self.at(address, space)
        if phb is not None:
            phb.store(address, length, value, space=space)
