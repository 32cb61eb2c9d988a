"""SCLP for PCI functions: configuring, deconfiguring, and reporting an error to the machine.

A command works on a service-call control block (SCCB), which begins with a header; the machine stores the response
code into it::

    byte  0        2        3                 6        8      9          c        10
         +--------+--------+-----------------+--------+------+----------+--------+
         | length |function|  control mask   |  code  | type |          |  fid   |    configure, deconfigure
         +--------+--------+-----------------+--------+------+----------+--------+

    byte  8        a    b       c         e      f      10        14       18
         +--------+----+-------+---------+------+------+---------+--------+---
         | length |type| flags |         |action| type |   fh    |  fid   | data     an event: error notification
         +--------+----+-------+---------+------+------+---------+--------+---

(Offsets in hexadecimal.)  What a program writes to ``report_error`` is an `ErrorReport` with its data.

Sources: ``drivers/s390/char/sclp_pci.c`` (struct pci_cfg_sccb, struct err_notify_evbuf) and ``sclp.h`` (headers),
``arch/s390/include/asm/sclp.h`` (struct zpci_report_error_header); ``include/hw/s390x/sclp.h`` and
``hw/s390x/s390-pci-bus.c`` of QEMU (which response code for what).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final, Protocol

from pyvfio.zpci.block import BigBlock, at
from pyvfio.zpci.function import FunctionState

__all__ = [
    "ADAPTER_PCI",
    "EVENT_ERROR_NOTIFICATION",
    "AdapterSccb",
    "Adapters",
    "ErrorNotification",
    "ErrorReport",
    "ReportAction",
    "SclpCode",
    "SclpCommand",
    "call",
]

ADAPTER_PCI: Final = 2
"""The type of an adapter that is a PCI function."""

EVENT_ERROR_NOTIFICATION: Final = 0x18
"""The type of the event that notifies the machine of an error."""

_HEADER: Final = 8
_EVENT_HEADER: Final = 6


class SclpCommand(IntEnum):
    """Command words."""

    CONFIGURE_ADAPTER = 0x001A0001
    DECONFIGURE_ADAPTER = 0x001B0001
    WRITE_EVENT_DATA = 0x00760005


class SclpCode(IntEnum):
    """Response codes."""

    COMPLETED = 0x0020
    NOTHING_TO_DO = 0x0120
    INVALID_COMMAND = 0x01F0
    TOO_SHORT = 0x0300
    ADAPTER_RESERVED = 0x05F0
    UNKNOWN_ADAPTER_TYPE = 0x06F0
    UNKNOWN_ADAPTER = 0x09F0
    INVALID_FUNCTION = 0x40F0
    INCONSISTENT_LENGTHS = 0x72F0


class ReportAction(IntEnum):
    """What a report of an error asks for."""

    RESET = 0
    REPAIR = 1
    INFORMATION = 2


@dataclass(frozen=True, slots=True)
class AdapterSccb(BigBlock, size=16):
    """The block of the commands that configure and deconfigure: `length` of the block, response `code`, and the `fid`
    of an adapter of the `type` `ADAPTER_PCI`.
    """

    length: int = at(0, 16)
    function: int = at(2, 8)
    control: int = at(3, 24)
    code: int = at(6, 16)
    type: int = at(8, 8)
    fid: int = at(12, 32)


@dataclass(frozen=True, slots=True)
class ErrorNotification(BigBlock, size=24):
    """The head of the block that notifies of an error; the report's data follows.

    `length` is that of the whole block, `event_length` that of the event from byte 8 on, `code` the response;
    `action` is a `ReportAction`, `fh` and `fid` say which function.
    """

    length: int = at(0, 16)
    function: int = at(2, 8)
    control: int = at(3, 24)
    code: int = at(6, 16)
    event_length: int = at(8, 16)
    event_type: int = at(10, 8)
    flags: int = at(11, 8)
    action: int = at(14, 8)
    type: int = at(15, 8)
    fh: int = at(16, 32)
    fid: int = at(20, 32)


@dataclass(frozen=True, slots=True)
class ErrorReport(BigBlock, size=4):
    """The head of what is written to ``report_error``: `version` 1, a `ReportAction`, `length` of what follows."""

    version: int = at(0, 8)
    action: int = at(1, 8)
    length: int = at(2, 16)

    def notification(self, fh: int, fid: int) -> ErrorNotification:
        """The head of the block that carries it to the machine."""
        event = ErrorNotification.SIZE - _HEADER + self.length
        return ErrorNotification(
            length=_HEADER + event,
            event_length=event,
            event_type=EVENT_ERROR_NOTIFICATION,
            action=self.action,
            type=ADAPTER_PCI,
            fh=fh,
            fid=fid,
        )


class Adapters(Protocol):
    """The functions of a machine, as SCLP sees them."""

    def adapter_state(self, fid: int) -> FunctionState | None:
        """The state of a function, None for one that there is not."""
        ...

    def configure(self, fid: int) -> None:
        """Standby to configured."""
        ...

    def deconfigure(self, fid: int) -> None:
        """Configured to standby."""
        ...

    def notified(self, notification: ErrorNotification, data: bytes) -> bool:
        """Take a report; False when the machine takes none."""
        ...


def call(adapters: Adapters, command: int, sccb: bytes) -> bytes:
    """The block after a command, with its response code.  What is no block with a header comes back as it was."""
    if len(sccb) < _HEADER:
        return sccb
    code = _carry_out(adapters, command, sccb)
    return sccb[: _HEADER - 2] + code.to_bytes(2, "big") + sccb[_HEADER:]


def _carry_out(adapters: Adapters, command: int, sccb: bytes) -> SclpCode:
    if command == SclpCommand.WRITE_EVENT_DATA:
        return _notify(adapters, sccb)
    if command not in (SclpCommand.CONFIGURE_ADAPTER, SclpCommand.DECONFIGURE_ADAPTER):
        return SclpCode.INVALID_COMMAND
    if len(sccb) < AdapterSccb.SIZE:
        return SclpCode.TOO_SHORT
    block = AdapterSccb.from_bytes(sccb[: AdapterSccb.SIZE])
    if block.length < AdapterSccb.SIZE:
        return SclpCode.TOO_SHORT
    if block.type != ADAPTER_PCI:
        return SclpCode.UNKNOWN_ADAPTER_TYPE
    state = adapters.adapter_state(block.fid)
    if state is None:
        return SclpCode.UNKNOWN_ADAPTER
    if state is FunctionState.RESERVED:
        return SclpCode.ADAPTER_RESERVED
    if (state is FunctionState.STANDBY) != (command == SclpCommand.CONFIGURE_ADAPTER):
        return SclpCode.NOTHING_TO_DO
    (adapters.configure if command == SclpCommand.CONFIGURE_ADAPTER else adapters.deconfigure)(block.fid)
    return SclpCode.COMPLETED


def _notify(adapters: Adapters, sccb: bytes) -> SclpCode:
    if len(sccb) < _HEADER + _EVENT_HEADER:
        return SclpCode.TOO_SHORT
    head = ErrorNotification.from_bytes(sccb[: ErrorNotification.SIZE].ljust(ErrorNotification.SIZE, b"\0"))
    if head.event_type != EVENT_ERROR_NOTIFICATION:
        return SclpCode.INVALID_FUNCTION
    if not ErrorNotification.SIZE <= head.length <= len(sccb) or head.event_length != head.length - _HEADER:
        return SclpCode.INCONSISTENT_LENGTHS
    if head.type != ADAPTER_PCI:
        return SclpCode.UNKNOWN_ADAPTER_TYPE
    if adapters.adapter_state(head.fid) in (None, FunctionState.RESERVED):
        return SclpCode.UNKNOWN_ADAPTER
    taken = adapters.notified(replace(head, code=0), sccb[ErrorNotification.SIZE : head.length])
    return SclpCode.COMPLETED if taken else SclpCode.INVALID_FUNCTION
