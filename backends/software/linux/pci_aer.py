"""What the PCI core keeps of a function's errors: where AER is, the counters, and clearing what is noted.

Every function that has the capability reports its errors from when it is found (`PciAer.start`), on a host whose
firmware left the handling to Linux.  Source: ``drivers/pci/pcie/aer.c`` of Linux 6.12 (`pci_aer_init` and what the
attributes ``aer_*`` show).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.pci.aer import CORRECTABLE, UNCORRECTABLE, AerError, Severity
from pyvfio_backends.software.linux.pcie_type import express_type
from pyvfio_backends.software.linux.vfs import Attribute, Node

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = [
    "REPORTING",
    "PciAer",
    "clear_device_status",
]

REPORTING: Final = (
    regs.PCI_EXP_DEVCTL_CERE | regs.PCI_EXP_DEVCTL_NFERE | regs.PCI_EXP_DEVCTL_FERE | regs.PCI_EXP_DEVCTL_URRE
)
"""The error enables of device control (``PCI_EXP_AER_FLAGS``)."""
_BITS: Final = {Severity.CORRECTABLE: 16, Severity.NONFATAL: 32, Severity.FATAL: 32}
_ARRAYS: Final = {
    Severity.CORRECTABLE: "dev_cor_errs",
    Severity.NONFATAL: "dev_nonfatal_errs",
    Severity.FATAL: "dev_fatal_errs",
}
_ROOT_FILES: Final = {Severity.CORRECTABLE: "cor", Severity.NONFATAL: "nonfatal", Severity.FATAL: "fatal"}


def clear_device_status(device: PciDevice) -> None:
    """Clear what device status has noted (``pcie_clear_device_status``)."""
    if device.express:
        at = device.express + regs.PCI_EXP_DEVSTA
        device.write_config(at, 2, device.read_config(at, 2))


class PciAer:
    """AER of a device, whose capability is at `at`: counters by severity and bit, and of messages at a root port."""

    def __init__(self, device: PciDevice, at: int) -> None:
        self.device = device
        self.at = at
        self.root = express_type(device) in (ExpressType.ROOT_PORT, ExpressType.RC_EC)
        """Whether messages end there."""
        self.counts = {severity: [0] * size for severity, size in _BITS.items()}
        self.totals = dict.fromkeys(Severity, 0)
        self.messages = dict.fromkeys(Severity, 0)

    # registers

    def read(self, register: int) -> int:
        """Read a register of the capability."""
        return self.device.read_config(self.at + register, 4)

    def write(self, register: int, value: int) -> None:
        """Write one."""
        self.device.write_config(self.at + register, 4, value)

    def start(self) -> None:
        """Forget old errors, and have new ones reported (``pci_aer_init``)."""
        self.clear()
        at = self.device.express + regs.PCI_EXP_DEVCTL
        self.device.write_config(at, 2, self.device.read_config(at, 2) | REPORTING)

    def clear(self) -> None:
        """Clear all that is noted (``pci_aer_raw_clear_status``)."""
        registers = [extended.PCI_ERR_COR_STATUS, extended.PCI_ERR_UNCOR_STATUS]
        for register in [extended.PCI_ERR_ROOT_STATUS, *registers] if self.root else registers:
            self.write(register, self.read(register))

    def clear_severity(self, *, fatal: bool) -> None:
        """Clear the uncorrectable errors that are reported as fatal, or the others."""
        status, severity = self.read(extended.PCI_ERR_UNCOR_STATUS), self.read(extended.PCI_ERR_UNCOR_SEVER)
        status &= severity if fatal else ~severity
        if status:
            self.write(extended.PCI_ERR_UNCOR_STATUS, status)

    # counters

    def count(self, severity: Severity, bits: int) -> None:
        """Count a report with these bits (``pci_dev_aer_stats_incr``)."""
        self.totals[severity] += 1
        counts = self.counts[severity]
        for bit in range(len(counts)):
            counts[bit] += bits >> bit & 1

    def attributes(self) -> Mapping[str, Node]:
        """``aer_dev_*``, and ``aer_rootport_total_err_*`` of a root port."""
        found: dict[str, Node] = {}
        for severity in Severity:
            found[f"aer_dev_{severity.value}"] = Attribute(partial(self._show, severity))
            if self.root:
                name = f"aer_rootport_total_err_{_ROOT_FILES[severity]}"
                found[name] = Attribute(partial(self._show_messages, severity))
        return found

    def _show(self, severity: Severity) -> str:
        table: tuple[AerError, ...] = CORRECTABLE if severity is Severity.CORRECTABLE else UNCORRECTABLE
        names = {error.bit: error.name for error in table}
        lines = []
        for bit, count in enumerate(self.counts[severity]):
            if bit in names:
                lines.append(f"{names[bit]} {count}\n")
            elif count:
                lines.append(f"{_ARRAYS[severity]}_bit[{bit}] {count}\n")
        return "".join([*lines, f"TOTAL_{severity.message} {self.totals[severity]}\n"])

    def _show_messages(self, severity: Severity) -> str:
        return f"{self.messages[severity]}\n"
