"""Vital product data, read and written through the window of the capability."""

from __future__ import annotations

import pytest
from pcie_rig import endpoint

from pyvfio.abi import pci_bridge_regs as bridge
from pyvfio_backends.software.hardware.pcie.vpd import ProductData, product_data

FLAG = bridge.PCI_VPD_ADDR_F


def through_the_window(vpd: ProductData, count: int) -> bytes:
    data = b""
    for place in range(0, count, 4):
        vpd.config.write(vpd.offset + bridge.PCI_VPD_ADDR, 2, place)
        assert vpd.config.read(vpd.offset + bridge.PCI_VPD_ADDR, 2) == place | FLAG
        data += vpd.config.read(vpd.offset + bridge.PCI_VPD_DATA, 4).to_bytes(4, "little")
    return data


def test_it_is_read_four_bytes_at_a_time() -> None:
    data = product_data("a bell", {"PN": "BELL-1", "SN": "0001"})
    assert data[0] == 0x82
    assert data[-1] == 0x78
    assert sum(data[:-1]) & 0xFF == 0
    assert through_the_window(ProductData(endpoint(), data), len(data))[: len(data)] == data


@pytest.mark.parametrize("read_only", [True, False])
def test_it_is_written_unless_it_is_read_only(read_only: bool) -> None:
    vpd = ProductData(endpoint(), bytes(16), read_only=read_only)
    for place in (4, 0x7FFC):
        vpd.config.write(vpd.offset + bridge.PCI_VPD_DATA, 4, 0x64636261)
        vpd.config.write(vpd.offset + bridge.PCI_VPD_ADDR, 2, place | FLAG)
        assert vpd.config.read(vpd.offset + bridge.PCI_VPD_ADDR, 2) == place
    assert through_the_window(vpd, 16) == (bytes(16) if read_only else bytes(4) + b"abcd" + bytes(8))
