"""What is behind a bridge to conventional PCI is one endpoint: its requests have the bridge's routing id.

Source: ``pnv_pci_configure_bus``, ``pnv_ioda_setup_pe_seg`` and ``pnv_pci_window_alignment`` of
``platforms/powernv/pci-ioda.c``, Linux 6.12.  No recording shows it: the POWER lab has no such bridge.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pnv_fixture import Pnv

import pyvfio
from pyvfio.abi.vfio_spapr import EehState
from pyvfio.drivers import Edu
from pyvfio.ioda import Pe
from pyvfio.ioda.pest import Cause, Transfer
from pyvfio_backends.software.description import PcieFunctionSpec, PciePhbSpec
from pyvfio_backends.software.hardware.pcie.access import RequestFailed
from pyvfio_backends.software.linux.pnv_pe import PeFlag

BRIDGE, ONE, OTHER, ALONE = "0000:01:00.0", "0000:02:01.0", "0000:02:03.0", "0001:01:00.0"
ONES = 0xFFFFFFFF
IDENTITY = 0x010000ED
_FUNCTIONS = [
    PcieFunctionSpec("pcie-pci-bridge", "phb0", "00.0", "bridge"),
    PcieFunctionSpec("edu", "bridge", "01.0"),
    PcieFunctionSpec("edu", "bridge", "03.0"),
    PcieFunctionSpec("edu", "phb1", "00.0"),
]


@pytest.fixture
def lab() -> Iterator[Pnv]:
    phbs = [PciePhbSpec(segment=0), PciePhbSpec(segment=1)]
    lab = Pnv(
        "power9-phb4", pcie_phbs=phbs, pcie_functions=_FUNCTIONS, modules=("vfio", "vfio_iommu_spapr_tce", "vfio_pci")
    )
    with lab.host:
        yield lab


def test_they_are_one_endpoint_and_one_group(lab: Pnv) -> None:
    one, other = lab.pe(ONE), lab.pe(OTHER)
    assert one is other
    assert (one.number, one.flags, one.rid) == (0x1FC, PeFlag.BUS_ALL, 0x200)
    assert lab.pe(BRIDGE) is not one
    group = lab.device(ONE).iommu_group
    assert group is lab.device(OTHER).iommu_group
    assert group is not None
    assert group.name == "domain0-pe1fc"
    assert lab.device(BRIDGE).iommu_group is None
    phb = lab.phb(0)
    assert {phb.rids[rid] for rid in range(0x200, 0x300)} == {0x1FC}
    assert [owner for owner in phb.windows.m32.owners if owner == 0x1FC]
    assert phb.endpoints.taken_along(lab.pe(BRIDGE).number) == {lab.pe(BRIDGE).number, 0x1FC}


def test_an_error_of_one_freezes_both(lab: Pnv) -> None:
    """The routing id of its DMA is that of the bus, function 0, which is nobody's own."""
    with pyvfio.Host(lab.host) as host:
        for name in (ONE, OTHER, ALONE):
            pyvfio.bind(host.device(name))
        with (
            pyvfio.Container(host) as container,
            pyvfio.open_device(host, ONE, space=container) as one,
            pyvfio.open_device(host, OTHER, space=container) as other,
            pyvfio.open_device(host, ALONE) as alone,
            Pe(one) as pe,
            Edu(one) as first,
            Edu(other) as second,
        ):
            for edu in (first, second):
                edu.put(b"behind")
                assert edu.get(6) == b"behind"
            with lab.machine.lock, pytest.raises(RequestFailed):
                lab.hardware(ONE).dma_read(0x700000, 4)
            assert pe.state is EehState.STOPPED
            assert [device.bar(0).read_u32(0) for device in (one, other, alone)] == [ONES, ONES, IDENTITY]
            entry = lab.phb(0).endpoints[0x1FC].entry
            assert entry is not None
            assert (entry.transfer, entry.causes, entry.rid) == (Transfer.DMA_READ, Cause.PAGE_FAULT, 0x200)
            pe.reset()
            assert pe.state is EehState.NORMAL
            assert [device.bar(0).read_u32(0) for device in (one, other)] == [IDENTITY] * 2
