"""Downstream port containment: an error message from below takes the link down, before its data goes any further.

::

    enable 1: ERR_FATAL            --+   (or an error of the port itself that would be one)
    enable 2: and ERR_NONFATAL     --+--> triggered, reason, source id --> link down, device reset
    software trigger               --+            |
                                                  +--> interrupt, if enabled: a message, or the pin until it is cleared
    software clears "triggered"  ------------------------------------> link may come up

Registers are drawn in `dpc`.  Source: PCI Express Base Specification, 6.0, 6.2.11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi.pci_extended_regs import DpcControl
from pyvfio_backends.software.hardware.pcie.reporting import ErrorMessage, Severity

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.port import DownstreamPort

__all__ = ["Containment"]

_VECTOR = 0x1F
_PIN = "containment"


class Containment:
    """The containment of a port; without the capability it never triggers."""

    def __init__(self, port: DownstreamPort) -> None:
        self.port = port

    def finish(self) -> None:
        """Watch the registers."""
        at = self._at
        if at is not None:
            self.port.config.watch(at + extended.PCI_EXP_DPC_CTL, 2, self._control_written)
            self.port.config.watch(at + extended.PCI_EXP_DPC_STATUS, 2, lambda before, ones: self._status_written())
            self.port.on_reset.append(self._drive_pin)

    @property
    def _at(self) -> int | None:
        return self.port.offset(extended.PCI_EXT_CAP_ID_DPC, extended=True)

    @property
    def active(self) -> bool:
        """Whether the link is kept down."""
        at = self._at
        if at is None:
            return False
        return bool(self.port.config.read(at + extended.PCI_EXP_DPC_STATUS, 2) & extended.PCI_EXP_DPC_STATUS_TRIGGER)

    def takes(self, message: ErrorMessage) -> bool:
        """Whether a message, from below or of the port itself, triggers containment, and so goes no further."""
        at = self._at
        if at is None or message.severity is Severity.CORRECTABLE or self.active:
            return False
        control = self.port.config.read(at + extended.PCI_EXP_DPC_CTL, 2)
        fatal = message.severity is Severity.FATAL
        enables = extended.PCI_EXP_DPC_CTL_EN_NONFATAL | (extended.PCI_EXP_DPC_CTL_EN_FATAL if fatal else 0)
        if not control & enables:
            return False
        reason = extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_FE if fatal else extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_NFE
        if message.rid == self.port.rid:
            self._trigger(at, extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_UNCOR, 0)
        else:
            self._trigger(at, reason, message.rid)
        return True

    def _status_written(self) -> None:
        self._drive_pin()
        self.port.settle()

    def _drive_pin(self) -> None:
        """Assert the pin while there is an interrupt that is let out, and no message is sent for it."""
        at, config = self._at, self.port.config
        if at is not None:
            noted = config.read(at + extended.PCI_EXP_DPC_STATUS, 2) & extended.PCI_EXP_DPC_STATUS_INTERRUPT
            enabled = config.read(at + extended.PCI_EXP_DPC_CTL, 2) & extended.PCI_EXP_DPC_CTL_INT_EN
            self.port.pin.drive(_PIN, bool(noted and enabled) and not self.port.messages_on)

    def _control_written(self, before: int, ones: int) -> None:
        self._drive_pin()
        at = self._at
        if at is None or not ones & DpcControl.SOFTWARE_TRIGGER or self.active:
            return
        able = self.port.config.read(at + extended.PCI_EXP_DPC_CAP, 2)
        enabled = extended.PCI_EXP_DPC_CTL_EN_FATAL | extended.PCI_EXP_DPC_CTL_EN_NONFATAL
        if able & extended.PCI_EXP_DPC_CAP_SW_TRIGGER and ones & enabled:
            reason = extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_IN_EXT
            self._trigger(at, reason | extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_SW_TRIGGER, 0)

    def _trigger(self, at: int, reason: int, source: int) -> None:
        config = self.port.config
        told = extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN | extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_EXT
        status = config.read(at + extended.PCI_EXP_DPC_STATUS, 2) & ~told
        status |= reason | extended.PCI_EXP_DPC_STATUS_TRIGGER
        interrupts = config.read(at + extended.PCI_EXP_DPC_CTL, 2) & extended.PCI_EXP_DPC_CTL_INT_EN
        status |= extended.PCI_EXP_DPC_STATUS_INTERRUPT if interrupts else 0
        config.put(at + extended.PCI_EXP_DPC_STATUS, 2, status)
        config.put(at + extended.PCI_EXP_DPC_SOURCE_ID, 2, source)
        self.port.settle()
        self._drive_pin()
        if interrupts and self.port.messages_on:
            self.port.signal(config.read(at + extended.PCI_EXP_DPC_CAP, 2) & _VECTOR)
