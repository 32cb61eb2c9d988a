"""The state of an endpoint and what froze it: two numbers of 64 bits, as hardware and the error log have them.

::

    A   | frozen | 0 | by MMIO, read, write config (3) | type (3) | causes (14) ... | RID (16) | message data (16) |
    bit   0           2       3     4                   5          8                  32         48
    B   | stopped | 0 0 |  address that failed (61) |
    bit   0               3

A's bit 0 says that loads and stores are frozen, B's that DMA is.  Source: ``phb4-regs.h`` of skiboot (the IODA2 PEST);
``platforms/powernv/pci.h`` of Linux.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from pyvfio.abi.opal import OpalFreezeState

__all__ = ["Cause", "PestEntry", "Transfer", "freeze_state"]

_WIDTH: Final = 64
_TYPE_SHIFT, _TYPE_MASK = _WIDTH - 1 - 7, 0x7
_RID_SHIFT, _WORD = 16, 0xFFFF
_STOPPED = 1 << _WIDTH - 1
_ADDRESS_MASK = (1 << 61) - 1


def _bit(number: int) -> int:
    return 1 << _WIDTH - 1 - number


class Transfer(IntEnum):
    """What was going on when an error struck."""

    DMA_WRITE = 0
    MESSAGE = 1
    DMA_READ = 2
    DMA_READ_RESPONSE = 3
    LOAD = 4
    STORE = 5
    OTHER = 7


class Cause(IntFlag):
    """What went wrong; several can be set."""

    NONE = 0
    MMIO = _bit(2)
    CONFIG_READ = _bit(3)
    CONFIG_WRITE = _bit(4)
    COMPLETER_ABORT = _bit(8)
    UNSUPPORTED_REQUEST = _bit(9)
    NONFATAL_MESSAGE = _bit(10)
    FATAL_MESSAGE = _bit(11)
    PARITY = _bit(13)
    CORRECTABLE_MESSAGE = _bit(14)
    WINDOW = _bit(16)
    PAGE_FAULT = _bit(18)
    ACCESS_FAULT = _bit(19)
    TIMEOUT = _bit(20)


_CAUSES = Cause(sum(Cause))
_TRANSFERS = {int(one): one for one in Transfer}


@dataclass(frozen=True, slots=True)
class PestEntry:
    """What froze an endpoint: the kind of transfer, the causes, whose it was, the address, and a message's data."""

    transfer: Transfer
    causes: Cause
    rid: int = 0
    address: int = 0
    data: int = 0

    def encode(self, *, frozen: bool, stopped: bool) -> tuple[int, int]:
        """A and B; `frozen` are loads and stores, `stopped` is DMA."""
        state = int(self.causes) | self.transfer << _TYPE_SHIFT | self.rid << _RID_SHIFT | self.data & _WORD
        return (
            (state | _STOPPED) if frozen else 0,
            (self.address & _ADDRESS_MASK | _STOPPED) if stopped else 0,
        )

    @classmethod
    def decode(cls, a: int, b: int) -> PestEntry:
        """From A and B."""
        kind = a >> _TYPE_SHIFT & _TYPE_MASK
        transfer = _TRANSFERS.get(kind, Transfer.OTHER)
        return cls(transfer, Cause(a) & _CAUSES, a >> _RID_SHIFT & _WORD, b & _ADDRESS_MASK, a & _WORD)


def freeze_state(a: int, b: int) -> OpalFreezeState:
    """What of an endpoint is frozen, from A and B."""
    return OpalFreezeState(
        (OpalFreezeState.MMIO_FREEZE if a & _STOPPED else 0) | (OpalFreezeState.DMA_FREEZE if b & _STOPPED else 0)
    )
