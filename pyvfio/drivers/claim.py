"""One driver at a time: two that use the same registers and interrupts would take each other's work away."""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary

from pyvfio.errors import Misuse
from pyvfio.vfio.device import Device

__all__ = ["Claim"]

_CLAIMED: Final[WeakKeyDictionary[Device, Claim]] = WeakKeyDictionary()


class Claim:
    """That a driver of this program has `device`, until `close`.  Raise `Misuse` when one has it already."""

    def __init__(self, device: Device, what: str) -> None:
        if _CLAIMED.setdefault(device, self) is not self:
            cause = "a driver of this program has it already"
            raise Misuse(f"drive {what}", device.name, cause=cause, next_step="close that one first")
        self._device = device

    def close(self) -> None:
        """Let another driver have it."""
        if _CLAIMED.get(self._device) is self:
            del _CLAIMED[self._device]
