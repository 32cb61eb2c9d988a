"""Who has reserved a device: the state that RESERVE and RELEASE change, shared by all systems that reach the device."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Reservation"]


class Reservation:
    """The reservation of one device; `owner` is the system that holds it, any object, or None.

    `on_free` is called when the device that a system had reserved becomes free: those that were told that it is busy
    are owed a device end.
    """

    def __init__(self, on_free: Callable[[], None] | None = None) -> None:
        self.owner: object | None = None
        self.on_free = on_free

    def take(self, system: object) -> None:
        """Reserve the device for `system`, whoever had it."""
        self.owner = system

    def free(self, system: object) -> bool:
        """Release it, if `system` has it; say whether it had."""
        if self.owner is not system:
            return False
        self.owner = None
        if self.on_free is not None:
            self.on_free()
        return True

    def __str__(self) -> str:
        return "free" if self.owner is None else "reserved"
