"""Class codes in words."""

from __future__ import annotations

import pytest

from pyvfio.abi import pci_ids
from pyvfio.pci.classes import class_name


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0x1F0000, "class 0x1f0000"),
        (0xFF0000, "unassigned class"),
        (0x00FF00, "unclassified device"),
        (0x000100, "VGA-compatible device"),
        (0x020000, "Ethernet controller"),
        (0x028000, "network controller"),
        (0x010802, "NVMe controller"),
        (0x010801, "non-volatile memory controller"),
        (0x010601, "SATA controller (AHCI)"),
        (0x010600, "SATA controller"),
        (0x060000, "host bridge"),
        (0x060400, "PCI bridge"),
        (0x060401, "PCI bridge (subtractive)"),
        (0x0C0330, "USB controller (xHCI)"),
        (0x120000, "processing accelerator"),
    ],
)
def test_class_name(code: int, name: str) -> None:
    assert class_name(code) == name


def test_every_number_of_the_table_has_its_own_words() -> None:
    codes = {name: value for name, value in vars(pci_ids).items() if name.startswith("PCI_")}
    assert len(codes) > 60
    for name, value in codes.items():
        whole = value << 16 if name.startswith("PCI_BASE") else value if value > 0xFFFF else value << 8
        if name in ("PCI_CLASS_OTHERS", "PCI_CLASS_NOT_DEFINED"):
            whole = value << 16
        elif name == "PCI_CLASS_NOT_DEFINED_VGA":
            whole = value << 8
        assert not class_name(whole).startswith("class "), name
