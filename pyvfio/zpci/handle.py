"""The function handle (FH), by which instructions name a PCI function.

::

    bit   0 1        8              16                            31
         +-+--------+---------------+------------------------------+
         |E|instance| sharing       |  index                       |
         +-+--------+---------------+------------------------------+

E is one while the function is enabled.  A machine gives another handle whenever a function is enabled, disabled or
plugged anew, so a handle is never a name to keep: the FID is stable in one configuration, the UID across them.
The parts after E are the machine's own; an emulated machine numbers them as here, with 2 in `sharing` for an emulated
function and 1 for one that is passed through.

Source: ``hw/s390x/s390-pci-bus.h`` of QEMU (``FH_MASK_*``); ``arch/s390/include/asm/pci.h`` (``zdev_enabled``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from pyvfio.zpci.block import BigBlock, at

__all__ = ["FH_ENABLED", "FH_INDEX", "FunctionHandle", "Sharing"]

FH_ENABLED: Final = 1 << 31
"""The bit of a handle, as a number of 32 bits, that says whether the function is enabled."""
FH_INDEX: Final = 0xFFFF
"""The bits that number the functions of an emulated machine."""


class Sharing(IntEnum):
    """What QEMU puts into the second byte of a handle."""

    NONE = 0
    PASSED_THROUGH = 1
    EMULATED = 2


@dataclass(frozen=True, slots=True)
class FunctionHandle(BigBlock, size=4):
    """A handle by its parts: `enabled` (one bit), `instance` (7 bits), `sharing` (8), `index` (16).

    >>> print(FunctionHandle.from_word(0x80020001))
    80020001 (enabled, emulated, index 1)
    """

    enabled: int = at(0, 1)
    instance: int = at(0, 7, bit=1)
    sharing: int = at(1, 8)
    index: int = at(2, 16)

    @classmethod
    def from_word(cls, word: int) -> FunctionHandle:
        """Read a handle of 32 bits."""
        return cls.from_bytes(word.to_bytes(4, "big"))

    def to_word(self) -> int:
        """The handle as a number of 32 bits.  Raise `Misuse` when a part does not fit."""
        return int.from_bytes(self.to_bytes(), "big")

    def __str__(self) -> str:
        state = "enabled" if self.enabled else "disabled"
        kinds: dict[int, str] = {Sharing.PASSED_THROUGH: ", passed through", Sharing.EMULATED: ", emulated"}
        instance = f", instance {self.instance}" if self.instance else ""
        return f"{self.to_word():08x} ({state}{kinds.get(self.sharing, '')}{instance}, index {self.index})"
