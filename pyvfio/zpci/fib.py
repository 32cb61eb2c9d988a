"""The function information block (FIB): operand of MODIFY and of STORE PCI FUNCTION CONTROLS, 80 bytes.

::

    byte  0        1                                  7
         +--------+--------+-----------------+--------+
     0   | format |              zeros                |
         +--------+-----------------------------------+
     8   |   fc   |              zeros                |
         +--------+-----------------------------------+
    10   |       pba: first address of DMA            |
    18   |       pal: last address of DMA             |
    20   |       iota: I/O-translation anchor         |
         +--------+--------+--+---+--------+----------+
    28   | isc noi (format 0) |aibvo|sum|aisbo | zeros |
    30   |       aibv: adapter-interruption bit vector|
    38   |       aisb: its summary bit                |
         +--------------------------------------------+
    40   |       fmb: function measurement block, key |
         +---------------------------+----------------+
    48   |           zeros           |       gd       |
         +---------------------------+----------------+

(Offsets in hexadecimal.)  In format 1, for directed interruptions, the third part is::

         +-----------------+-----------------+
    28   |       noi       |      zeros      |
    2c   |      dibvo      |      zeros      |
    30   |    zeros, 16 bytes                |
         +-----------------------------------+

Source: ``arch/s390/include/asm/pci_insn.h`` (struct zpci_fib, zpci_fib_fmt0, zpci_fib_fmt1, ``ZPCI_FIB_FC_*``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from pyvfio.css.layout import BytesLike
from pyvfio.zpci.block import BigBlock, at

__all__ = ["FIB_SIZE", "DirectedFib", "Fib", "FunctionControl", "read_fib"]

FIB_SIZE = 80


class FunctionControl(IntFlag):
    """The state of a function in a stored FIB (`Fib.fc`)."""

    ENABLED = 0x80
    ERROR = 0x40
    BLOCKED = 0x20
    DMA_REGISTERED = 0x10


@dataclass(frozen=True, slots=True)
class Fib(BigBlock, size=FIB_SIZE):
    """A FIB of format 0.  Addresses are absolute, of 64 bits.

    `isc` is the interruption subclass (3 bits), `noi` the number of interruptions (12), `aibvo` the first bit in the
    vector (6), `sum` says that there is a summary bit, `aisbo` which one (6).  `fmb` is the measurement block's address
    with the storage key in its low four bits, zero to have no measurement; `gd` the designation of a guest's
    interruption state (GISA).
    """

    fmt: int = at(0, 8)
    fc: FunctionControl = at(8, 8, kind=FunctionControl)
    pba: int = at(16, 64)
    pal: int = at(24, 64)
    iota: int = at(32, 64)
    isc: int = at(40, 3, bit=1)
    noi: int = at(40, 12, bit=4)
    aibvo: int = at(42, 6, bit=2)
    sum: int = at(43, 1)
    aisbo: int = at(43, 6, bit=2)
    aibv: int = at(48, 64)
    aisb: int = at(56, 64)
    fmb: int = at(64, 64)
    gd: int = at(76, 32)

    @property
    def fmb_address(self) -> int:
        """Where the function measurement block is; 0: nowhere."""
        return self.fmb & ~0xF

    @property
    def fmb_key(self) -> int:
        """The storage key for the measurement block (0 to 15)."""
        return self.fmb & 0xF

    def __str__(self) -> str:
        states = [str(flag.name).lower().replace("_", " ") for flag in FunctionControl if flag in self.fc]
        parts = [f"FIB {', '.join(states) or 'disabled'}"]
        if self.iota:
            parts.append(f"DMA {self.pba:#x}-{self.pal:#x} by {self.iota:#x}")
        if self.noi:
            summary = f" summary {self.aisb:#x} bit {self.aisbo}" if self.sum else ""
            parts.append(f"{self.noi} interrupts of subclass {self.isc} at {self.aibv:#x} bit {self.aibvo}{summary}")
        if self.fmb:
            parts.append(f"measured at {self.fmb_address:#x}")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class DirectedFib(BigBlock, size=FIB_SIZE):
    """A FIB of format 1: interruptions go to the processors, bit `dibvo` (16 bits) and the next `noi` - 1."""

    fmt: int = at(0, 8, default=1)
    fc: FunctionControl = at(8, 8, kind=FunctionControl)
    pba: int = at(16, 64)
    pal: int = at(24, 64)
    iota: int = at(32, 64)
    noi: int = at(40, 12, bit=4)
    dibvo: int = at(44, 16)
    fmb: int = at(64, 64)
    gd: int = at(76, 32)

    def __str__(self) -> str:
        return f"FIB format 1: {self.noi} directed interrupts from bit {self.dibvo}"


def read_fib(data: BytesLike) -> Fib | DirectedFib:
    """A FIB of the format that its first byte says (any but 1 as format 0).  Raise `Misuse` on another length."""
    return DirectedFib.from_bytes(data) if data and data[0] == 1 else Fib.from_bytes(data)
