"""How the checks of a machine file tell what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

__all__ = ["Report", "check_range", "listing"]


class Report(Protocol):
    """Makes an exception to raise, of a key that is wrong: `where` it is, in which row of its table, and why."""

    def __call__(
        self, where: tuple[str, ...], cause: str, index: int | None = None, next_step: str = ""
    ) -> Exception: ...


def check_range(
    error: Report, value: int, limits: tuple[int, int], where: tuple[str, ...], index: int | None = None
) -> None:
    """Raise what `error` makes of a number beyond the `limits`, which it may have."""
    low, high = limits
    if not low <= value <= high:
        raise error(where, f"must be between {low:#x} and {high:#x}, not {value:#x}", index)


def listing(names: Iterable[str]) -> str:
    """Names that there are, for a cause."""
    return ", ".join(sorted(names))
