"""What configuration space is declared of: registers with a mask for each way a bit behaves, and capabilities of them.

======  ========================================================================================
rw      takes what is written (RW)
w1c     a written 1 clears it, a written 0 does nothing (RW1C)
sticky  outlasts every reset but loss of power (the S of RWS, RW1CS and ROS); beside one of the above
(none)  reads as it is, a write changes nothing (RO, HwInit, reserved)
======  ========================================================================================

A bit whose 1 starts something and that reads 0 (function-level reset, retrain link) is read-only here; whoever does it
watches the register (`ConfigSpace.watch`).  Source: PCI Express Base Specification, 6.0, 7.4, Register Types.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from pyvfio.abi import pci_regs as regs

__all__ = ["Capability", "ExtendedCapability", "Register"]


@dataclass(frozen=True, slots=True)
class Register:
    """`width` bytes at `offset` of a structure, little-endian: what a reset makes of it, and the masks of its bits."""

    offset: int
    width: int
    reset: int = 0
    rw: int = 0
    w1c: int = 0
    sticky: int = 0


@dataclass(frozen=True)
class Capability:
    """A capability, declared: its `id`, its `size` in bytes with the header, and its registers.

    Subclasses say what they are with dataclass fields.  `registers` count from the first byte of the capability and
    leave the header out: `ConfigSpace.add` writes that.
    """

    id: ClassVar[int]
    extended: ClassVar[bool] = False
    header_size: ClassVar[int] = regs.PCI_CAP_FLAGS

    @property
    def size(self) -> int:
        """Bytes that it takes: as far as its last register."""
        return max((one.offset + one.width for one in self.registers()), default=self.header_size)

    @property
    def revision(self) -> int:
        """The version in the header of an extended capability."""
        return 1

    def registers(self) -> Iterable[Register]:
        """Its registers."""
        return ()


@dataclass(frozen=True)
class ExtendedCapability(Capability):
    """A capability of extended configuration space, at 0x100 or after."""

    extended: ClassVar[bool] = True
    header_size: ClassVar[int] = 4
