"""Accesses: from a request to the registers behind a base address, and from a device's buffer to requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.pci.bar import Bar, Unmapped
from pyvfio_backends.software.hardware.pci.config import ConfigSpace
from pyvfio_backends.software.hardware.pcie.request import Outcome, Refusal, Request

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.function import Function

__all__ = [
    "Control",
    "RequestFailed",
    "bar_address",
    "capabilities",
    "dma_read",
    "dma_write",
    "perform",
    "read_control",
    "requests",
]

_BOUNDARY = 1 << 12
"""No request crosses a multiple of this."""
_LARGEST = 8
_LEAST_PAYLOAD = 128
_PAYLOAD_SHIFT = 5


class RequestFailed(DmaFault):
    """A device's own request came to nothing; `outcome` says how."""

    def __init__(self, iova: int, count: int, *, write: bool, outcome: Outcome) -> None:
        super().__init__(iova, count, write=write)
        self.outcome = outcome


def capabilities(config: ConfigSpace) -> dict[tuple[bool, int], int]:
    """The offsets of a function's capabilities by whether they are extended and their id, the first of each."""
    data, found = config.data, dict[tuple[bool, int], int]()
    at = data[regs.PCI_CAPABILITY_LIST] if data[regs.PCI_STATUS] & regs.PCI_STATUS_CAP_LIST else 0
    while at:
        found.setdefault((False, data[at]), at)
        at = data[at + regs.PCI_CAP_LIST_NEXT]
    at = regs.PCI_CFG_SPACE_SIZE if len(data) > regs.PCI_CFG_SPACE_SIZE else 0
    while at:
        header = int.from_bytes(data[at : at + 4], "little")
        if header:
            found.setdefault((True, regs.pci_ext_cap_id(header)), at)
        at = regs.pci_ext_cap_next(header)
    return found


class Control(NamedTuple):
    """What the registers of a function say that requests depend on: read once, and again after a write."""

    master: bool
    power: int
    acs: int
    payload: int

    @property
    def may_ask(self) -> bool:
        """Whether it may send requests: it is bus master, and in D0."""
        return self.master and not self.power


def read_control(function: Function) -> Control:
    """Read what requests depend on."""
    config = function.config
    power = function.offset(regs.PCI_CAP_ID_PM)
    acs = function.offset(regs.PCI_EXT_CAP_ID_ACS, extended=True)
    express = function.offset(regs.PCI_CAP_ID_EXP)
    control = 0 if express is None else config.read(express + regs.PCI_EXP_DEVCTL, 2)
    return Control(
        config.bus_master,
        0 if power is None else config.read(power + regs.PCI_PM_CTRL, 2) & regs.PCI_PM_CTRL_STATE_MASK,
        0 if acs is None else config.read(acs + regs.PCI_ACS_CTRL, 2),
        _LEAST_PAYLOAD << ((control & regs.PCI_EXP_DEVCTL_PAYLOAD) >> _PAYLOAD_SHIFT),
    )


def bar_address(config: ConfigSpace, bar: Bar) -> int:
    """Where a base address register points; 0 when it was not placed, or is a ROM that is off."""
    if bar.index >= regs.PCI_STD_NUM_BARS:
        value = config.read(bridge_regs.PCI_ROM_ADDRESS1 if config.is_bridge else regs.PCI_ROM_ADDRESS, 4)
        return value & -bar.size if value & regs.PCI_ROM_ADDRESS_ENABLE else 0
    wide = not bar.is_io and bar.flags & regs.PCI_BASE_ADDRESS_MEM_TYPE_64
    return config.read(regs.PCI_BASE_ADDRESS_0 + 4 * bar.index, 8 if wide else 4) & -bar.size


def perform(bar: Bar, request: Request, offset: int) -> tuple[Outcome, bytes]:
    """Do a request on the registers of a BAR: as one access where it is 1, 2, 4 or 8 bytes, else in aligned pieces."""
    data = bytearray()
    done = 0
    try:
        while done < request.length:
            length = _piece(offset + done, request.length - done)
            if request.write:
                bar.write(offset + done, length, int.from_bytes(request.data[done : done + length], "little"))
            else:
                data += bar.read(offset + done, length).to_bytes(length, "little")
            done += length
    except Unmapped:
        return Outcome.UNSUPPORTED, b""
    except Refusal as refusal:
        return refusal.outcome, b""
    return Outcome.SUCCESS, bytes(data)


def _piece(offset: int, left: int) -> int:
    length = _LARGEST
    while length > left or offset % length:
        length //= 2
    return length


def requests(address: int, count: int) -> list[tuple[int, int]]:
    """The requests that a transfer is made of, as address and bytes of each."""
    found: list[tuple[int, int]] = []
    while count:
        length = min(count, _BOUNDARY - address % _BOUNDARY)
        found.append((address, length))
        address, count = address + length, count - length
    return found


def dma_read(function: Function, iova: int, count: int) -> bytes:
    """A function reads `count` bytes.  Raise `RequestFailed`."""
    data = bytearray()
    for address, length in requests(iova, count):
        completion = function.send(Request.read(address, length))
        if not completion.ok:
            raise RequestFailed(address, length, write=False, outcome=completion.outcome)
        data += completion.data
    return bytes(data)


def dma_write(function: Function, iova: int, data: bytes) -> None:
    """A function writes `data`.  Raise `RequestFailed` when it may send nothing at all."""
    if function.bus is None or not function.control.may_ask:
        raise RequestFailed(iova, len(data), write=True, outcome=Outcome.UNSUPPORTED)
    for address, length in requests(iova, len(data)):
        request = Request.store(address, data[address - iova : address - iova + length])
        request.packet = min(length, function.max_payload)
        function.send(request)
