"""Errors made on purpose: the next access of a kind to an endpoint, at an address under a mask, fails once.

::

    config   bus << 52 | device, function << 44 | register << 32
    memory   an address of the processor in a window of the endpoint
    DMA      an address that the function uses

The registers take an address that is not the endpoint's as none: then anything of the endpoint is struck (of a bus,
any function on it; of its windows, the first).  Source: ``hw/phb3.c`` and ``hw/phb4.c`` of skiboot (phb3_err_inject,
phb4_err_inject).  There a mask can strike other endpoints too; here it never does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from pyvfio.abi.eeh import EehErrorFunction
from pyvfio.ioda.pest import Cause
from pyvfio_backends.software.hardware.ioda.model import Injectable

__all__ = ["FUNCTIONS", "Injected", "InjectedFunction", "Injector", "config_address"]

_RID_SHIFT, _REGISTER_SHIFT = 44, 32


class InjectedFunction(NamedTuple):
    """What a function of error injection strikes, whether it is a write, and what the error looks like."""

    kind: Injectable
    write: bool
    cause: Cause


def _functions() -> dict[EehErrorFunction, InjectedFunction]:
    kinds = {"MEM": Injectable.MEMORY, "IO": Injectable.IO, "CFG": Injectable.CONFIG}
    causes = {
        "ADDR": Cause.UNSUPPORTED_REQUEST,
        "DATA": Cause.PARITY,
        "MASTER": Cause.UNSUPPORTED_REQUEST,
        "TARGET": Cause.COMPLETER_ABORT,
    }
    found: dict[EehErrorFunction, InjectedFunction] = {}
    for function in EehErrorFunction:
        first, second, what = function.name.split("_")
        if first == "DMA":
            found[function] = InjectedFunction(Injectable.DMA, second == "WR", causes[what])
        else:
            found[function] = InjectedFunction(kinds[second], first == "ST", causes[what])
    return found


FUNCTIONS: Final = _functions()
"""By function."""


def config_address(rid: int, register: int = 0) -> int:
    """The address of a register of a function in configuration space, as the injection registers have it."""
    return rid << _RID_SHIFT | register << _REGISTER_SHIFT


@dataclass(frozen=True, slots=True)
class Injected:
    """An error that waits for its access: where ``address & mask`` is the same, in an endpoint."""

    endpoint: int
    function: InjectedFunction
    address: int
    mask: int

    def strikes(self, kind: Injectable, endpoint: int, address: int, length: int, *, write: bool) -> bool:
        """Whether an access is the one."""
        if kind is not self.function.kind or write is not self.function.write or endpoint != self.endpoint:
            return False
        return any(not (one ^ self.address) & self.mask for one in (address, address + length - 1))


class Injector:
    """The registers: one error at a time, which goes when it strikes."""

    def __init__(self) -> None:
        self.armed: Injected | None = None

    def take(self, kind: Injectable, endpoint: int, address: int, length: int, *, write: bool) -> Injected | None:
        """The error that strikes this access, if any."""
        armed = self.armed
        if armed is None or not armed.strikes(kind, endpoint, address, length, write=write):
            return None
        self.armed = None
        return armed
