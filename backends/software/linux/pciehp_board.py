"""What is in a slot: how it is powered and its functions are found, and how they are taken away.

Source: ``board_added`` and ``remove_board`` of ``pciehp_ctrl.c``, and ``pciehp_pci.c`` (6.12).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.kernel_log import ERROR
from pyvfio_backends.software.linux.pci_device import ErrorState
from pyvfio_backends.software.linux.pciehp_thread import Result, Steps

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pciehp import Controller

__all__ = ["Board"]

_SETTLING = 1.0
"""Seconds that power is off before anything else is done."""
_PRESENCE, _LINK = express.PCI_EXP_SLTSTA_PDC, express.PCI_EXP_SLTSTA_DLLSC
_ON, _OFF, _BLINK = (
    express.PCI_EXP_SLTCTL_PWR_IND_ON,
    express.PCI_EXP_SLTCTL_PWR_IND_OFF,
    express.PCI_EXP_SLTCTL_PWR_IND_BLINK,
)
_ATTENTION_ON, _ATTENTION_OFF = express.PCI_EXP_SLTCTL_ATTN_IND_ON, express.PCI_EXP_SLTCTL_ATTN_IND_OFF


class Board:
    """What the slot of a `controller` has in it."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._port, self._below, self._functions = controller.port, controller.below, controller.device.pci_bus

    def bring_in(self) -> Result:
        """Power it, wait for its link and its first word, and find its functions (``board_added``); 0 or an errno."""
        controller, port = self._controller, self._port
        if port.has(express.PCI_EXP_SLTCAP_MRLSP) and not port.latched:
            controller.tell("Latch open")
            return errno.ENODEV
        if controller.controls_power:
            if port.powered:
                controller.tell("Already enabled")
                return 0
            controller.fault_reported = False
            yield from port.power_on()
        yield from port.set_indicators(_BLINK, None)
        error = yield from self._await_card()
        if not error and (controller.fault_reported or port.status & express.PCI_EXP_SLTSTA_PFD):
            controller.tell("Power fault", ERROR)
            error = errno.EIO
        if not error:
            error = yield from self._configure()
        if error:
            if controller.controls_power:
                yield from port.power_off()
                yield _SETTLING
            yield from port.set_indicators(_OFF, _ATTENTION_ON)
            return error
        yield from port.set_indicators(_ON, _ATTENTION_OFF)
        return 0

    def _await_card(self) -> Result:
        """``pciehp_check_link_status``; its -1 is EPERM to who asked for power."""
        if not (yield from self._port.link_comes()):
            self._controller.tell("No link")
            return errno.EPERM
        found = yield from self._port.device_comes(self._first_word)
        if found:
            self._controller.thread.pending &= ~(_LINK | _PRESENCE)
        untrained = self._port.untrained
        if untrained is not None:
            self._controller.tell(f"Cannot train link: status {untrained:#06x}")
            return errno.EPERM
        self._controller.speed = self._port.current_speed
        if not found:
            self._controller.tell("No device found")
            return errno.EPERM
        return 0

    def _first_word(self) -> int:
        bridge = self._below.bridge
        return bridge.complex.config_read(bridge.domain, self._below.number << 8, regs.PCI_VENDOR_ID, 4)

    def _configure(self) -> Result:
        """Find the functions (``pciehp_configure_device``); 0 also when they are there already."""
        error: list[int] = []

        def work() -> None:
            with self._functions.rescan_remove():
                if any(device.devfn == 0 for device in self._below.devices()):
                    return
                self._below.rescan_behind()
                if not self._below.devices():
                    self._controller.say("No new device found", ERROR)
                    error.append(errno.ENODEV)

        yield work
        return error[0] if error else 0

    def take_away(self, *, orderly: bool) -> Steps:
        """``remove_board``: functions that left by surprise are not touched any more."""
        if not orderly:
            for function in self._below.walk():
                if function.pdev is not None:
                    function.pdev.error_state = ErrorState.LOST
        yield lambda: self._unconfigure(orderly=orderly)
        if self._controller.controls_power:
            yield from self._port.power_off()
            yield _SETTLING
            self._controller.thread.pending &= ~(_LINK | _PRESENCE)
        yield from self._port.set_indicators(_OFF, None)

    def _unconfigure(self, *, orderly: bool) -> None:
        """Take the functions away, the last one first (``pciehp_unconfigure_device``); may block."""
        quiet = regs.PCI_COMMAND_MASTER | regs.PCI_COMMAND_SERR
        with self._functions.rescan_remove():
            for device in reversed(self._below.devices()):
                self._functions.remove_device(device)
                if orderly:
                    device.set_command(quiet, regs.PCI_COMMAND_INTX_DISABLE)
