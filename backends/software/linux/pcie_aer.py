"""The service of a root port, or event collector, that handles errors (``drivers/pci/pcie/aer.c``, 6.12).

::

    interrupt:  root error status, source id --> cleared, queued
    thread:     counted at the port, said --> who was it? --> its status read, said, counted --> cleared,
                                                              or recovery (`pcie_recovery`) with a reset if fatal

Below a port is everybody behind it; an event collector has its integrated endpoints (`pcie_rcec`), which are reset
themselves, and not by a link.  Who reported is found by the source id.  Only when there were several errors, or the id
has bus 0, everybody below is looked at.  An endpoint with a fatal error is not asked what it was: its link may not work
any more.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pyvfio.abi import pci_express_regs as express_regs
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_extended_regs import AerControl
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.pci.aer import CORRECTABLE, UNCORRECTABLE, Severity
from pyvfio.pci.tlp import rid_text
from pyvfio_backends.software.linux.kernel_log import ERROR, INFO, WARNING, say
from pyvfio_backends.software.linux.pci_aer import REPORTING, clear_device_status
from pyvfio_backends.software.linux.pci_device import ErrorState, PciDevice
from pyvfio_backends.software.linux.pcie_rcec import reporters
from pyvfio_backends.software.linux.pcie_recovery import above, recover, reset_secondary
from pyvfio_backends.software.linux.pcie_type import express_type

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_aer import PciAer

__all__ = ["ErrorInfo", "ErrorService", "print_error", "read_error"]

_QUEUE: Final = 128
_MOST_DEVICES: Final = 5
_MESSAGES: Final = (
    extended.PCI_ERR_ROOT_CMD_COR_EN | extended.PCI_ERR_ROOT_CMD_NONFATAL_EN | extended.PCI_ERR_ROOT_CMD_FATAL_EN
)
_STATUS: Final = (
    extended.PCI_ERR_ROOT_UNCOR_RCV
    | extended.PCI_ERR_ROOT_COR_RCV
    | extended.PCI_ERR_ROOT_MULTI_COR_RCV
    | extended.PCI_ERR_ROOT_MULTI_UNCOR_RCV
)
_LOGGED: Final = (
    extended.PCI_ERR_UNC_POISON_TLP
    | extended.PCI_ERR_UNC_ECRC
    | extended.PCI_ERR_UNC_UNSUP
    | extended.PCI_ERR_UNC_COMP_ABORT
    | extended.PCI_ERR_UNC_UNX_COMP
    | extended.PCI_ERR_UNC_MALF_TLP
)
"""Errors with a packet in the header log."""
_WORDS: Final = {
    Severity.CORRECTABLE: "Correctable",
    Severity.NONFATAL: "Uncorrectable (Non-Fatal)",
    Severity.FATAL: "Uncorrectable (Fatal)",
}
_LINK_ERRORS: Final = (
    extended.PCI_ERR_COR_BAD_TLP
    | extended.PCI_ERR_COR_BAD_DLLP
    | extended.PCI_ERR_COR_REP_ROLL
    | extended.PCI_ERR_COR_REP_TIMER
)
_REPLAYS: Final = extended.PCI_ERR_COR_REP_ROLL | extended.PCI_ERR_COR_REP_TIMER
_REQUESTER: Final = extended.PCI_ERR_UNC_COMP_TIME | extended.PCI_ERR_UNC_UNSUP
_READ: Final = (ExpressType.ROOT_PORT, ExpressType.RC_EC, ExpressType.DOWNSTREAM)


@dataclass
class ErrorInfo:
    """An error that is handled (``struct aer_err_info``): who may have reported it, and what a device says of it."""

    severity: Severity
    source: int = 0
    multiple: bool = False
    devices: list[PciDevice] = field(default_factory=list)
    status: int = 0
    mask: int = 0
    first: int = 0
    header: tuple[int, ...] = ()


def read_error(device: PciDevice, info: ErrorInfo) -> bool:
    """Read what the device has noted (``aer_get_device_error_info``); False when that is nothing."""
    info.status, info.header = 0, ()
    aer = device.aer
    if aer is None:
        return False
    if info.severity is Severity.CORRECTABLE:
        info.status = aer.read(extended.PCI_ERR_COR_STATUS)
        info.mask = aer.read(extended.PCI_ERR_COR_MASK)
        return bool(info.status & ~info.mask)
    if info.severity is Severity.FATAL and express_type(device) not in _READ:
        return True  # its link may be down
    info.status = aer.read(extended.PCI_ERR_UNCOR_STATUS)
    info.mask = aer.read(extended.PCI_ERR_UNCOR_MASK)
    if not info.status & ~info.mask:
        return False
    info.first = aer.read(extended.PCI_ERR_CAP) & AerControl.FIRST_ERROR
    if info.status & _LOGGED:
        info.header = tuple(aer.read(extended.PCI_ERR_HEADER_LOG + 4 * word) for word in range(4))
    return True


def print_error(device: PciDevice, info: ErrorInfo) -> None:
    """Say what the device noted, and count it (``aer_print_error``)."""
    severity = _WORDS[info.severity]
    if not info.status:
        say(device, ERROR, f"AER: PCIe Bus Error: severity={severity}, type=Inaccessible, (Unregistered Agent ID)")
    else:
        correctable = info.severity is Severity.CORRECTABLE
        level = WARNING if correctable else ERROR
        say(device, level, f"PCIe Bus Error: severity={severity}, type={_layer(info)}, ({_agent(info)})")
        ids = f"{device.vendor:04x}:{device.device_id:04x}"
        say(device, level, f"  device [{ids}] error status/mask={info.status:08x}/{info.mask:08x}")
        shown = info.status & ~info.mask
        names = {error.bit: error.name for error in (CORRECTABLE if correctable else UNCORRECTABLE)}
        for bit in range(shown.bit_length()):
            if shown >> bit & 1:
                first = " (First)" if info.first == bit else ""
                say(device, level, f"   [{bit:2d}] {names.get(bit, 'Unknown Error Bit'):<22}{first}")
        if device.aer is not None:
            device.aer.count(info.severity, shown)
        if info.header:
            say(device, ERROR, "AER:   TLP Header: " + " ".join(f"{word:08x}" for word in info.header))
    if info.source and len(info.devices) > 1 and info.source == _rid(device):
        say(device, ERROR, "AER:   Error of this Agent is reported first")


def _layer(info: ErrorInfo) -> str:
    if info.severity is Severity.CORRECTABLE:
        if info.status & extended.PCI_ERR_COR_RCVR:
            return "Physical Layer"
        return "Data Link Layer" if info.status & _LINK_ERRORS else "Transaction Layer"
    return "Data Link Layer" if info.status & extended.PCI_ERR_UNC_DLP else "Transaction Layer"


def _agent(info: ErrorInfo) -> str:
    if info.severity is Severity.CORRECTABLE:
        return "Transmitter ID" if info.status & _REPLAYS else "Receiver ID"
    if info.status & extended.PCI_ERR_UNC_COMP_ABORT:
        return "Completer ID"
    return "Requester ID" if info.status & _REQUESTER else "Receiver ID"


def _rid(device: PciDevice) -> int:
    return device.sysdata.bus_number << 8 | device.devfn


class ErrorService:
    """The service of `port`, a root port or event collector with AER (``aer_probe``)."""

    def __init__(self, port: PciDevice, aer: PciAer) -> None:
        self.port = port
        self.aer = aer
        self._queue: collections.deque[tuple[int, int]] = collections.deque()

    def start(self) -> None:
        """Forget old errors, and have interrupts for new ones (``aer_enable_rootport``)."""
        port, aer = self.port, self.aer
        clear_device_status(port)
        control = port.express + express_regs.PCI_EXP_RTCTL
        system = express_regs.PCI_EXP_RTCTL_SECEE | express_regs.PCI_EXP_RTCTL_SENFEE
        system |= express_regs.PCI_EXP_RTCTL_SEFEE
        port.write_config(control, 2, port.read_config(control, 2) & ~system)
        status = aer.read(extended.PCI_ERR_ROOT_STATUS)
        aer.write(extended.PCI_ERR_ROOT_STATUS, status)
        if status & _STATUS:
            for device in reporters(port):
                if device.aer is not None and self._reports(device):
                    device.aer.clear()
                    clear_device_status(device)
        for register in (extended.PCI_ERR_COR_STATUS, extended.PCI_ERR_UNCOR_STATUS):
            aer.write(register, aer.read(register))
        self.enable(True)

    def stop(self) -> None:
        """Have none any more (``aer_disable_rootport``)."""
        self.enable(False)
        self.aer.write(extended.PCI_ERR_ROOT_STATUS, self.aer.read(extended.PCI_ERR_ROOT_STATUS))

    def enable(self, on: bool) -> None:
        """Interrupt on messages, or not."""
        command = self.aer.read(extended.PCI_ERR_ROOT_COMMAND) & ~_MESSAGES
        self.aer.write(extended.PCI_ERR_ROOT_COMMAND, command | (_MESSAGES if on else 0))

    @staticmethod
    def _reports(device: PciDevice) -> bool:
        return bool(device.express and device.read_config(device.express + regs.PCI_EXP_DEVCTL, 2) & REPORTING)

    # the interrupt and its thread

    def interrupt(self) -> bool:
        """The root port interrupts (``aer_irq``); whether that is for errors."""
        status = self.aer.read(extended.PCI_ERR_ROOT_STATUS)
        if not status & _STATUS:
            return False
        source = self.aer.read(extended.PCI_ERR_ROOT_ERR_SRC)
        self.aer.write(extended.PCI_ERR_ROOT_STATUS, status)
        if len(self._queue) < _QUEUE:
            self._queue.append((status, source))
            self.port.kernel.clock.schedule(0, self._thread)
        return True

    def _thread(self) -> None:
        """Handle what is queued (``aer_isr``), on a thread of its own: drivers may have to be waited for."""
        if self._queue:
            if any(device.locked for device in (self.port, *reporters(self.port))):
                self.port.kernel.clock.run_apart(self._handle, f"irq-aer-{self.port.name}")
            else:
                self._handle()

    def _handle(self) -> None:
        while self._queue:
            self._one(*self._queue.popleft())

    def _one(self, status: int, source: int) -> None:
        """``aer_isr_one_error``: the correctable one first."""
        fatal = status & extended.PCI_ERR_ROOT_FATAL_RCV
        severity = Severity.FATAL if fatal else Severity.NONFATAL
        if status & extended.PCI_ERR_ROOT_COR_RCV:
            self.aer.messages[Severity.CORRECTABLE] += 1
        if status & extended.PCI_ERR_ROOT_UNCOR_RCV:
            self.aer.messages[severity] += 1
        if status & extended.PCI_ERR_ROOT_COR_RCV:
            several = bool(status & extended.PCI_ERR_ROOT_MULTI_COR_RCV)
            self._process(ErrorInfo(Severity.CORRECTABLE, source & 0xFFFF, several))
        if status & extended.PCI_ERR_ROOT_UNCOR_RCV:
            several = bool(status & extended.PCI_ERR_ROOT_MULTI_UNCOR_RCV)
            self._process(ErrorInfo(severity, source >> 16, several))

    def _process(self, info: ErrorInfo) -> None:
        where = f"{self.port.address.domain:04x}:{rid_text(info.source)}"
        several = "Multiple " if info.multiple else ""
        say(self.port, INFO, f"AER: {several}{_WORDS[info.severity]} error message received from {where}")
        if not self._find(info):
            say(self.port, INFO, f"AER: found no error details for {where}")
            return
        for device in info.devices:
            if read_error(device, info):
                print_error(device, info)
        for device in info.devices:
            if read_error(device, info):
                self._mend(device, info)

    # who it was (find_source_device)

    def _find(self, info: ErrorInfo) -> bool:
        for device in (self.port, *reporters(self.port)):
            if not self._is_source(device, info):
                continue
            if len(info.devices) == _MOST_DEVICES:
                break
            info.devices.append(device)
            if not info.multiple:
                break
        return bool(info.devices)

    def _is_source(self, device: PciDevice, info: ErrorInfo) -> bool:
        if info.source >> 8:
            if info.source == _rid(device):
                return True
            if not info.multiple:
                return False
        if device.aer is None or not self._reports(device):
            return False
        if info.severity is Severity.CORRECTABLE:
            status, mask = extended.PCI_ERR_COR_STATUS, extended.PCI_ERR_COR_MASK
        else:
            status, mask = extended.PCI_ERR_UNCOR_STATUS, extended.PCI_ERR_UNCOR_MASK
        return bool(device.aer.read(status) & ~device.aer.read(mask))

    # what is done (pci_aer_handle_error)

    def _mend(self, device: PciDevice, info: ErrorInfo) -> None:
        if info.severity is Severity.CORRECTABLE:
            if device.aer is not None:
                device.aer.write(extended.PCI_ERR_COR_STATUS, info.status)
            clear_device_status(device)
        else:
            frozen = info.severity is Severity.FATAL
            recover(device, ErrorState.FROZEN if frozen else ErrorState.NORMAL, self._reset)

    def _reset(self, bridge: PciDevice) -> bool:
        """Reset what is below, or an integrated endpoint (``aer_root_reset``), with no interrupts meanwhile.

        A collector's own reset, and that of an endpoint that it was not linked to, leave the root registers alone.
        """
        root = bridge.is_bridge or bridge.collector is self.port
        if root:
            self.enable(False)
        if bridge.is_bridge:
            done = reset_secondary(bridge)
            which = "Root" if above(bridge) is None else "Downstream"
            say(bridge, INFO, f"AER: {which} Port link has been reset ({0 if done else -1})")
        else:
            done = True
            try:
                bridge.sysdata.reset("flr")  # pcie_reset_flr: whatever reset_method says
            except OSError as error:
                done = False
                say(bridge, INFO, f"AER: not reset (no FLR support: {-(error.errno or 0)})")
            else:
                say(bridge, INFO, "AER: has been reset")
        if root:
            self.aer.write(extended.PCI_ERR_ROOT_STATUS, self.aer.read(extended.PCI_ERR_ROOT_STATUS))
            self.enable(True)
        return done
