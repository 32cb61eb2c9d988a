"""What capabilities of configuration space are called.  Source of the ids: ``linux/pci_regs.h``."""

from __future__ import annotations

from typing import Final

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs

__all__ = ["CAPABILITIES", "EXTENDED_CAPABILITIES"]

CAPABILITIES: Final[dict[int, str]] = {
    regs.CapabilityId.PM: "power management",
    regs.CapabilityId.AGP: "AGP",
    regs.CapabilityId.VPD: "vital product data",
    regs.CapabilityId.SLOTID: "slot identification",
    regs.CapabilityId.MSI: "MSI",
    regs.CapabilityId.CHSWP: "CompactPCI hot swap",
    regs.CapabilityId.PCIX: "PCI-X",
    regs.CapabilityId.HT: "HyperTransport",
    regs.CapabilityId.VNDR: "vendor-specific",
    regs.CapabilityId.DBG: "debug port",
    regs.CapabilityId.CCRC: "CompactPCI resource control",
    regs.CapabilityId.SHPC: "standard hot-plug controller",
    regs.CapabilityId.SSVID: "bridge subsystem id",
    regs.CapabilityId.AGP3: "AGP 8x",
    regs.CapabilityId.SECDEV: "secure device",
    regs.CapabilityId.EXP: "PCI Express",
    regs.CapabilityId.MSIX: "MSI-X",
    regs.CapabilityId.SATA: "SATA configuration",
    regs.CapabilityId.AF: "advanced features",
    regs.CapabilityId.EA: "enhanced allocation",
}
"""Conventional ones, by id."""

EXTENDED_CAPABILITIES: Final[dict[int, str]] = {
    extended.PCI_EXT_CAP_ID_ERR: "advanced error reporting",
    extended.PCI_EXT_CAP_ID_VC: "virtual channels",
    extended.PCI_EXT_CAP_ID_DSN: "device serial number",
    extended.PCI_EXT_CAP_ID_PWR: "power budgeting",
    extended.PCI_EXT_CAP_ID_RCLD: "root complex link declaration",
    extended.PCI_EXT_CAP_ID_RCILC: "root complex internal link control",
    extended.PCI_EXT_CAP_ID_RCEC: "root complex event collector",
    extended.PCI_EXT_CAP_ID_MFVC: "multi-function virtual channels",
    extended.PCI_EXT_CAP_ID_VC9: "virtual channels",
    extended.PCI_EXT_CAP_ID_RCRB: "root complex register block",
    extended.PCI_EXT_CAP_ID_VNDR: "vendor-specific (VSEC)",
    extended.PCI_EXT_CAP_ID_CAC: "configuration access correlation",
    regs.PCI_EXT_CAP_ID_ACS: "access control services",
    extended.PCI_EXT_CAP_ID_ARI: "alternative routing ids (ARI)",
    extended.PCI_EXT_CAP_ID_ATS: "address translation services",
    regs.PCI_EXT_CAP_ID_SRIOV: "SR-IOV",
    extended.PCI_EXT_CAP_ID_MRIOV: "MR-IOV",
    extended.PCI_EXT_CAP_ID_MCAST: "multicast",
    extended.PCI_EXT_CAP_ID_PRI: "page requests",
    extended.PCI_EXT_CAP_ID_REBAR: "resizable BARs",
    extended.PCI_EXT_CAP_ID_DPA: "dynamic power allocation",
    extended.PCI_EXT_CAP_ID_TPH: "processing hints",
    extended.PCI_EXT_CAP_ID_LTR: "latency tolerance reporting",
    extended.PCI_EXT_CAP_ID_SECPCI: "secondary PCI Express",
    extended.PCI_EXT_CAP_ID_PMUX: "protocol multiplexing",
    extended.PCI_EXT_CAP_ID_PASID: "process address spaces (PASID)",
    extended.PCI_EXT_CAP_ID_DPC: "downstream port containment",
    extended.PCI_EXT_CAP_ID_L1SS: "L1 substates",
    extended.PCI_EXT_CAP_ID_PTM: "precision time",
    extended.PCI_EXT_CAP_ID_DVSEC: "designated vendor-specific (DVSEC)",
    extended.PCI_EXT_CAP_ID_DLF: "data link features",
    extended.PCI_EXT_CAP_ID_PL_16GT: "physical layer 16 GT/s",
    extended.PCI_EXT_CAP_ID_DOE: "data object exchange",
}
"""Extended ones, by id."""
