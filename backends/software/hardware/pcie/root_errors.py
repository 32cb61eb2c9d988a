"""What a root port, or an event collector, makes of error messages: root error status, their source, an interrupt.

The first correctable and the first uncorrectable message since software cleared its bit leave the routing id of their
sender; later ones only say that there were several.  There is an interrupt while a kind that the root error command
register enables has come: a message when that becomes so, or else the pin for as long as it is.  Registers are drawn
in `aer`.  Source: PCI Express Base Specification, 6.0, 7.8.4.9 to 11 and 6.2.4.1.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.abi import pci_extended_regs as extended
from pyvfio_backends.software.hardware.pcie.reporting import ErrorMessage, Severity

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyvfio_backends.software.hardware.pcie.function import Function

__all__ = ["RootErrors"]

_VECTOR_SHIFT = 27
_SOURCE_BITS = 16
_PIN = "errors"
_PAIRS = (
    (extended.PCI_ERR_ROOT_COR_RCV, extended.PCI_ERR_ROOT_CMD_COR_EN),
    (extended.PCI_ERR_ROOT_NONFATAL_RCV, extended.PCI_ERR_ROOT_CMD_NONFATAL_EN),
    (extended.PCI_ERR_ROOT_FATAL_RCV, extended.PCI_ERR_ROOT_CMD_FATAL_EN),
)


class RootErrors:
    """The root error registers of `function`; `received` is every message that came, for whoever watches."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.received: list[ErrorMessage] = []
        self.on_message: Callable[[ErrorMessage], None] | None = None
        """Told of each message, whatever the registers make of it."""
        self._pending = False

    def receive(self, message: ErrorMessage) -> None:
        """Take a message."""
        self.received.append(message)
        if self.on_message is not None:
            self.on_message(message)
        function = self.function
        aer = function.offset(extended.PCI_EXT_CAP_ID_ERR, extended=True)
        if aer is None:
            return
        config = function.config
        status = config.read(aer + extended.PCI_ERR_ROOT_STATUS, 4)
        source = config.read(aer + extended.PCI_ERR_ROOT_ERR_SRC, 4)
        if message.severity is Severity.CORRECTABLE:
            if status & extended.PCI_ERR_ROOT_COR_RCV:
                status |= extended.PCI_ERR_ROOT_MULTI_COR_RCV
            else:
                source = source & ~0xFFFF | message.rid
            status |= extended.PCI_ERR_ROOT_COR_RCV
        else:
            fatal = message.severity is Severity.FATAL
            if status & extended.PCI_ERR_ROOT_UNCOR_RCV:
                status |= extended.PCI_ERR_ROOT_MULTI_UNCOR_RCV
            else:
                source = source & 0xFFFF | message.rid << _SOURCE_BITS
                status |= extended.PCI_ERR_ROOT_FIRST_FATAL if fatal else 0
            status |= extended.PCI_ERR_ROOT_FATAL_RCV if fatal else extended.PCI_ERR_ROOT_NONFATAL_RCV
            status |= extended.PCI_ERR_ROOT_UNCOR_RCV
        config.put(aer + extended.PCI_ERR_ROOT_STATUS, 4, status)
        config.put(aer + extended.PCI_ERR_ROOT_ERR_SRC, 4, source)
        self._interrupt(aer)

    def watch(self, aer: int) -> None:
        """Interrupt, or stop to, as software writes the root error command and status registers."""
        for register in (extended.PCI_ERR_ROOT_COMMAND, extended.PCI_ERR_ROOT_STATUS):
            self.function.config.watch(aer + register, 4, lambda before, ones: self._interrupt(aer))
        self.function.on_reset.append(lambda: self._interrupt(aer))

    def _interrupt(self, aer: int) -> None:
        function = self.function
        status = function.config.read(aer + extended.PCI_ERR_ROOT_STATUS, 4)
        command = function.config.read(aer + extended.PCI_ERR_ROOT_COMMAND, 4)
        was, self._pending = self._pending, any(status & bit and command & enable for bit, enable in _PAIRS)
        function.pin.drive(_PIN, self._pending and not function.messages_on)
        if self._pending and not was and function.messages_on:
            function.signal(status >> _VECTOR_SHIFT)
