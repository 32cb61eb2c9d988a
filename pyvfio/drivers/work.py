"""What drivers do, without any waiting: sequences of channel programs as generators.

A `Work` yields a `Request` and is sent the `ProgramResult`; so the same code serves a driver that blocks and one for
asyncio.  A `Stream` yields results, too, each in an `Item`, as soon as it has them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pyvfio.channel_program import ChannelCommand, ProgramResult

__all__ = ["Item", "Progress", "Request", "Stream", "Work", "untold"]

T = TypeVar("T")
Progress = Callable[[int], None]
"""Called with the number of blocks or tracks that were just done."""


@dataclass(frozen=True, slots=True)
class Request:
    """A program to run: what for (`words`), whether an error ends the operation (`check`), on which paths (`lpm`).

    `firm` says that it goes to exactly these paths, also when one of them has failed.
    """

    commands: Sequence[ChannelCommand]
    words: str
    check: bool = True
    lpm: int = 0xFF
    firm: bool = False


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """A result of a `Stream`."""

    value: T


Work = Generator[Request, ProgramResult, T]
"""An operation with a result."""

Stream = Generator[Request | Item[T], ProgramResult | None, None]
"""An operation with many results; it is sent None after each of them."""


def untold(count: int) -> None:
    """The `Progress` of whom nobody wants to hear."""
