"""The error log of a host bridge: registers of its root port, and the state of every frozen endpoint."""

from __future__ import annotations

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.ioda.diagnosis import Diagnosis
from pyvfio_backends.software.hardware.ioda.phb import Phb

__all__ = ["diagnose"]

_PAIR = 16


def diagnose(phb: Phb) -> Diagnosis:
    """What the log says now.  Registers of the bridge's own error units are not there: they read as 0."""
    config = phb.port.config
    found = {
        "brdgCtl": config.read(bridge_regs.PCI_BRIDGE_CONTROL, 2),
        "devCmdStatus": config.read(regs.PCI_COMMAND, 4),
        "devSecStatus": config.read(bridge_regs.PCI_IO_BASE, 4),
    }
    at = phb.port.offset(regs.PCI_CAP_ID_EXP)
    if at is not None:
        found["deviceStatus"] = config.read(at + regs.PCI_EXP_DEVCTL, 4)
        found["slotStatus"] = config.read(at + express.PCI_EXP_SLTCTL, 4)
        found["linkStatus"] = config.read(at + express.PCI_EXP_LNKCTL, 4)
    aer = phb.port.offset(extended.PCI_EXT_CAP_ID_ERR, extended=True)
    if aer is not None:
        found["rootErrorStatus"] = config.read(aer + extended.PCI_ERR_ROOT_STATUS, 4)
        found["uncorrErrorStatus"] = config.read(aer + extended.PCI_ERR_UNCOR_STATUS, 4)
        found["corrErrorStatus"] = config.read(aer + extended.PCI_ERR_COR_STATUS, 4)
        found["sourceId"] = config.read(aer + extended.PCI_ERR_ROOT_ERR_SRC, 4)
        for word in range(_PAIR // 4):
            found[f"tlpHdr{word + 1}"] = config.read(aer + extended.PCI_ERR_HEADER_LOG + 4 * word, 4)
    return Diagnosis(phb.model.diagnosis, found, phb.endpoints.pest())
