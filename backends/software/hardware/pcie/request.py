"""Requests, as they travel between functions, ports and the root complex, and what becomes of them.

A request is memory or I/O; configuration requests are routed by `RootComplex.function` and need no object.  One
`Request` is one transaction layer packet, or with `packet` a train of packets of that size with the same fate, which
spares the way from being gone for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

__all__ = ["AddressType", "Completion", "Outcome", "Refusal", "Request", "Space", "devfn_of", "rid_of"]

_DEVFN_BITS, _FUNCTION_BITS = 8, 3


def devfn_of(device: int, function: int = 0) -> int:
    """Device (5 bits) and function (3 bits) in one byte; with ARI the byte is the function."""
    return device << _FUNCTION_BITS | function


def rid_of(bus: int, devfn: int) -> int:
    """The routing id: bus (8 bits), device and function.  A virtual function's may go on in the buses that follow."""
    return (bus << _DEVFN_BITS) + devfn


class Space(Enum):
    """An address space."""

    MEMORY = "memory"
    IO = "I/O"


class AddressType(IntEnum):
    """What the address of a memory request is: to be translated, asking for a translation, translated already (ATS)."""

    UNTRANSLATED = 0
    TRANSLATION = 1
    TRANSLATED = 2


class Outcome(Enum):
    """What became of a request.

    The first four are completion statuses; with the others no completion came, or one that cannot be used.
    """

    SUCCESS = "successful completion"
    UNSUPPORTED = "unsupported request"
    RETRY = "request retry status"
    ABORT = "completer abort"
    TIMEOUT = "completion timeout"
    POISONED = "poisoned"
    MALFORMED = "malformed packet"
    ECRC = "ECRC error"
    VIOLATION = "ACS violation"


class Refusal(Exception):
    """Raised by registers: the request ends with `outcome` (`Outcome.ABORT`: it breaks the device's programming model;
    `Outcome.TIMEOUT`: the device does not answer; `Outcome.POISONED`: the data is bad).
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


@dataclass(slots=True)
class Request:
    """A read of `length` bytes, or a write of `data`, at `address` of a space.

    `requester` is the routing id of who asks, as the next one up or down the way sees it.  `poisoned`: the data is
    known to be bad.  `digest`: whether the end-to-end CRC is right; it only matters where it is checked.  `packet` is
    the largest payload of its packets where it is more than one.  `redirected` is set by access control services on
    the way: nobody may answer before the IOMMU saw it.
    """

    space: Space
    write: bool
    address: int
    length: int
    data: bytes = b""
    requester: int = 0
    address_type: AddressType = AddressType.UNTRANSLATED
    pasid: int | None = None
    poisoned: bool = False
    digest: bool = True
    packet: int = 0
    redirected: bool = False

    @classmethod
    def read(cls, address: int, length: int, *, space: Space = Space.MEMORY, requester: int = 0) -> Request:
        """A read."""
        return cls(space, False, address, length, requester=requester)

    @classmethod
    def store(cls, address: int, data: bytes, *, space: Space = Space.MEMORY, requester: int = 0) -> Request:
        """A write."""
        return cls(space, True, address, len(data), data, requester)

    @property
    def last(self) -> int:
        """The address of the last byte."""
        return self.address + self.length - 1

    @property
    def payload(self) -> int:
        """The bytes of data in its largest packet: none for a read."""
        return (self.packet or self.length) if self.write else 0

    @property
    def posted(self) -> bool:
        """Whether no completion comes back: memory writes."""
        return self.write and self.space is Space.MEMORY


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back: the outcome, the bytes of a successful read, and the routing id of who answered."""

    outcome: Outcome
    data: bytes = b""
    completer: int = 0

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.outcome is Outcome.SUCCESS
