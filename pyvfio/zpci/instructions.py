"""The PCI instructions of z/Architecture, as an interface.

It is implemented by the software machine's hardware and, for a guest, by passthrough; the same tests run on both.
Operands that lie in storage are given as values: fetching and storing them is the processor's part.

====  ===========================================================================================
code  meaning
====  ===========================================================================================
0     done
1     refused; the status says why
2     busy: again later
3     the handle names no function that is enabled (CLP: the block was not accepted)
====  ===========================================================================================

Byte order: a register that PCI LOAD fills, or PCI STORE takes, has the bytes of the PCI space right-aligned **in the
order in which they lie there**; configuration space and BARs are little-endian, so a number is to be reversed.

Sources: ``arch/s390/include/asm/pci_insn.h`` (codes, status, operations), ``arch/s390/pci/pci_insn.c`` (registers),
``arch/s390/include/asm/pci.h`` (ZPCI_CREATE_REQ); ``hw/s390x/s390-pci-inst.c`` of QEMU (lengths, boundaries, program
interruptions).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pyvfio.css.instructions import OperandException
from pyvfio.zpci.block import BigBlock, at

if TYPE_CHECKING:
    from pyvfio.zpci.fib import DirectedFib, Fib

__all__ = [
    "CONFIG_SPACE",
    "Answer",
    "FunctionOperation",
    "OperandException",
    "Refused",
    "Request",
    "SpecificationException",
    "Status",
    "ZpciInstructions",
]

CONFIG_SPACE = 15
"""The address space of configuration accesses (``ZPCI_PCIAS_CFGSPC``); 0 to 5 are the BARs."""


class SpecificationException(OperandException):
    """An operand is not aligned, or has a length that is none: a program interruption of another code.

    Who asks only whether an instruction was ended by a program interruption catches both as `OperandException`.
    """


class Status(IntEnum):
    """``ZPCI_PCI_ST_*``: why an instruction was refused.

    Code 4 of MODIFY PCI FUNCTION CONTROLS says that there is no resource for interruptions
    (``ZPCI_MOD_ST_RES_NOT_AVAIL`` of QEMU).
    """

    NONE = 0
    FUNCTION_NOT_ENABLED = 4
    RESOURCE_NOT_AVAILABLE = 4
    FUNCTION_IN_ERROR = 8
    BLOCKED = 12
    INSUFFICIENT_RESOURCES = 16
    INVALID_ADDRESS_SPACE = 20
    FUNCTION_ALREADY_ENABLED = 24
    DMA_SPACE_NOT_ENABLED = 28
    OPERAND_IN_INVALID_SPACE = 36
    FUNCTION_NOT_AVAILABLE = 40
    ALREADY_IN_REQUESTED_STATE = 44


class Refused(Exception):
    """Condition code 1 or 3: nothing was done."""

    def __init__(self, cc: int, status: Status = Status.NONE) -> None:
        super().__init__(f"condition code {cc}, status {status.value} ({status.name.lower().replace('_', ' ')})")
        self.cc = cc
        self.status = status


class FunctionOperation(IntEnum):
    """What MODIFY PCI FUNCTION CONTROLS does (``ZPCI_MOD_FC_*``)."""

    REGISTER_INTERRUPTS = 2
    DEREGISTER_INTERRUPTS = 3
    REGISTER_TRANSLATION = 4
    DEREGISTER_TRANSLATION = 5
    REREGISTER_TRANSLATION = 6
    RESET_ERROR = 7
    RESET_BLOCK = 9
    SET_MEASUREMENT = 10
    REGISTER_DIRECTED = 16
    DEREGISTER_DIRECTED = 17


@dataclass(frozen=True, slots=True)
class Request(BigBlock, size=8):
    """The register that names a function: handle `fh`, address `space`, `length` in bytes.

    >>> print(Request(0x80020001, CONFIG_SPACE, 4))
    handle 80020001 configuration space, 4 bytes
    """

    fh: int = at(0, 32)
    space: int = at(5, 8)
    length: int = at(6, 16)

    def to_word(self) -> int:
        """The register, 64 bits."""
        return int.from_bytes(self.to_bytes(), "big")

    @classmethod
    def from_word(cls, word: int) -> Request:
        """Read the register.  Its status byte is not part of the request."""
        return cls.from_bytes(word.to_bytes(8, "big"))

    def __str__(self) -> str:
        space = "configuration space" if self.space == CONFIG_SPACE else f"BAR {self.space}"
        return f"handle {self.fh:08x} {space}, {self.length} byte{'s' * (self.length != 1)}"


class Answer(NamedTuple):
    """How an instruction ended: condition code, status (of code 1), and the register that PCI LOAD filled.

    STORE PCI FUNCTION CONTROLS leaves in `data` the handle as it is, where the program gave that of a disabled one.
    """

    cc: int = 0
    status: Status = Status.NONE
    data: int = 0


class ZpciInstructions(Protocol):
    """The functions of one machine, or one guest.  Every method may raise `OperandException`."""

    def pcilg(self, request: Request, offset: int) -> Answer:
        """PCI LOAD: `length` bytes at `offset` of a space of the function."""
        ...

    def pcistg(self, data: int, request: Request, offset: int) -> Answer:
        """PCI STORE: the rightmost `length` bytes of `data`."""
        ...

    def pcistb(self, data: bytes, request: Request, offset: int) -> Answer:
        """PCI STORE BLOCK: `data`, whose length is the request's."""
        ...

    def mpcifc(self, fh: int, space: int, operation: int, fib: Fib | DirectedFib) -> Answer:
        """MODIFY PCI FUNCTION CONTROLS: a `FunctionOperation` for DMA address space `space`."""
        ...

    def stpcifc(self, fh: int, space: int) -> tuple[Answer, Fib | DirectedFib]:
        """STORE PCI FUNCTION CONTROLS: the FIB is of the format in which interruptions are registered."""
        ...

    def rpcit(self, fh: int, start: int, length: int) -> Answer:
        """REFRESH PCI TRANSLATIONS: forget what was kept of `length` bytes of DMA addresses from `start` on."""
        ...

    def sic(self, operation: int, isc: int, block: bytes = b"", cpu: int = 0) -> None:
        """SET INTERRUPTION CONTROLS: a `SicOperation` for an interruption subclass (3 bits).

        `block` is the information block of the operation (`pyvfio.zpci.sic`), `cpu` the address of the processor that
        executes the instruction: some operations are about that one only.
        """
        ...

    def clp(self, request: bytes, room: int) -> tuple[int, bytes]:
        """CALL LOGICAL PROCESSOR: the condition code and the response to `request`, at most `room` bytes."""
        ...
