"""What subsystems keep for the whole kernel, each under a key that tells its type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Key", "Subsystems"]

T = TypeVar("T")


class Key(Generic[T]):
    """What a subsystem keeps is found by this; the module that makes it has the key, and nobody else makes another.

    `name` is for people: two keys are never the same.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Key({self.name!r})"


class Subsystems:
    """One kernel's table of them."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[Key[Any], Any] = {}

    def __setitem__(self, key: Key[T], kept: T) -> None:
        self._kept[key] = kept

    def __getitem__(self, key: Key[T]) -> T:
        """What is kept.  Raise KeyError where this kernel has nothing of it."""
        found: T = self._kept[key]
        return found

    def get(self, key: Key[T]) -> T | None:
        """What is kept; None where this kernel has nothing of it."""
        return self._kept.get(key)

    def get_or_make(self, key: Key[T], make: Callable[[], T]) -> T:
        """What is kept, made when it is first asked for."""
        if key not in self._kept:
            self._kept[key] = make()
        return self[key]
