"""What a PCI function is for the instructions: of the machine itself, or one that a guest was given.

`pyvfio.zpci.processor.Processor` carries out instructions on anything that is such a function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:  # every machine with PCI loads this module, most never see such a block
    from pyvfio.css.instructions import Storage
    from pyvfio.zpci.clp import FunctionResponse, GroupResponse, HandleEntry
    from pyvfio.zpci.event import ErrorCode
    from pyvfio.zpci.table import Iota

__all__ = ["Counts", "FunctionSet", "FunctionState", "InstructedFunction", "InsufficientMappings", "OnFault", "Space"]

#: Called for a DMA access that was refused: code, DMA address, whether it was a store.
OnFault: TypeAlias = "Callable[[ErrorCode, int, bool], None]"


class FunctionState(Enum):
    """The states of a function; an error blocks loads, stores, DMA and interrupts, `BLOCKED` only the last two."""

    RESERVED = "reserved"
    STANDBY = "standby"
    DISABLED = "disabled"
    ENABLED = "enabled"
    BLOCKED = "blocked"
    ERROR = "error"
    PERMANENT_ERROR = "permanent error"


@dataclass(slots=True)
class Counts:
    """The instructions that were done for a function, which its measurement block shows."""

    loads: int = 0
    stores: int = 0
    store_blocks: int = 0
    refreshes: int = 0

    def clear(self) -> None:
        """Begin with nothing."""
        self.loads = self.stores = self.store_blocks = self.refreshes = 0


class InsufficientMappings(Exception):
    """A refresh could not take in all of its range: something has to be made invalid (and refreshed) first."""


class Space(Protocol):
    """The address space for DMA that a program has registered."""

    @property
    def iota(self) -> Iota:
        """The anchor of its tables."""
        ...

    @property
    def pba(self) -> int:
        """The first DMA address."""
        ...

    @property
    def pal(self) -> int:
        """The last DMA address."""
        ...

    def refresh(self, start: int, length: int) -> None:
        """Take in what the tables say now.  Raise `TranslationFault` or `InsufficientMappings`."""
        ...

    def close(self) -> None:
        """The program has deregistered it, or the function was reset."""
        ...


class InstructedFunction(Protocol):
    """One function.  `state` and `counts` are written by instructions too; `on_reset` is called when it is reset."""

    state: FunctionState
    on_reset: Callable[[], None] | None
    counts: Counts

    @property
    def fid(self) -> int:
        """The function identifier (32 bits)."""
        ...

    @property
    def fh(self) -> int:
        """The handle now (32 bits)."""
        ...

    def entry(self) -> HandleEntry:
        """What LIST PCI tells of it."""
        ...

    def query(self) -> FunctionResponse:
        """What QUERY PCI FUNCTION tells of it."""
        ...

    def query_group(self) -> GroupResponse:
        """What QUERY PCI FUNCTION GROUP tells of its group."""
        ...

    def enable(self) -> int:
        """Enable it; its new handle.  Raise `Refused`."""
        ...

    def disable(self) -> int:
        """Disable and reset it; its new handle.  Raise `Refused`."""
        ...

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

    def register_interrupts(self, send: Callable[[int, int], None] | None) -> None:
        """Where messages (address, data) go; None: nowhere."""
        ...

    def make_space(self, storage: Storage, iota: Iota, pba: int, pal: int, on_fault: OnFault) -> Space:
        """Let the function do DMA by these tables.  Raise `InsufficientMappings`."""
        ...

    def without_space(self, on_fault: OnFault) -> None:
        """The function has no address space: each access of memory is a fault."""
        ...


class FunctionSet(Protocol):
    """The functions of a machine or a guest."""

    @property
    def uid_checking(self) -> bool:
        """Whether identifiers of the user are unique."""
        ...

    def all_functions(self) -> Iterable[InstructedFunction]:
        """All of them, also the reserved ones."""
        ...
