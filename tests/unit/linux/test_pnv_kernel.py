"""What bare-metal POWER has otherwise than PCs: addresses on the bus, no driver of ports, the platform's DMA domain."""

from __future__ import annotations

import os
from dataclasses import replace
from errno import EINVAL, EPERM

import pytest
from pnv_fixture import Pnv

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.opal import OPAL_SUCCESS
from pyvfio.backend import open_backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio_backends.software.description import PcieFunctionSpec, PciePhbSpec
from pyvfio_backends.software.loader import load_machine, machine_files

ENTROPY = "0002:01:00.0"
BAR1 = regs.PCI_BASE_ADDRESS_1


@pytest.mark.parametrize(("model", "asleep"), [("PHB3", "D3hot"), ("PHB4", "D0"), ("PHB4 (small)", "D0")])
def test_a_base_address_is_one_of_the_bus_again(model: str, asleep: str) -> None:
    """The processor's addresses of the 32-bit window are others (``pci_restore_bars``, ``pcibios_resource_to_bus``).

    Whether a function sleeps at all is its firmware's choice (``hw/phb4.c`` of skiboot).
    """
    spec = load_machine(machine_files()["contract-ppc64"])
    phbs = [replace(phb, model=model) for phb in spec.pcie_phbs]
    with open_backend("software", machine=replace(spec, pcie_phbs=phbs)) as backend:

        def base() -> int:
            fd = backend.open(f"/sys/bus/pci/devices/{ENTROPY}/config", os.O_RDONLY)
            try:
                return int.from_bytes(backend.pread(fd, 4, BAR1), "little")
            finally:
                backend.close(fd)

        before = base()
        assert before >= 1 << 31
        with BoundFunction(backend, ENTROPY):
            assert Attributes(backend).read(f"/sys/bus/pci/devices/{ENTROPY}/power_state") == asleep
            assert base() == before
        assert base() == before


@pytest.mark.parametrize(("model", "kept"), [("PHB3", False), ("PHB4", True), ("PHB4 (small)", True)])
def test_firmware_keeps_functions_awake(model: str, kept: bool) -> None:
    """``phb4_pcicfg_no_dstate`` (``hw/phb4.c`` of skiboot): the control of power management goes nowhere on bus 1."""
    phbs = [PciePhbSpec(0, model=model), PciePhbSpec(1, model=model)]
    functions = [
        PcieFunctionSpec("virtio-rng-pci", "phb0"),
        PcieFunctionSpec("x3130-upstream", "phb1", id="up0"),
        PcieFunctionSpec("xio3130-downstream", "up0", id="dn0"),
        PcieFunctionSpec("virtio-rng-pci", "dn0"),
    ]
    lab = Pnv("contract-ppc64", pcie_phbs=phbs, pcie_functions=functions, disks=[], mounts=[])
    for domain, rid, held in ((0, 1 << 8, kept), (1, 3 << 8, False)):
        function = lab.phb(domain).function(domain, rid)
        assert function is not None
        at = function.offset(regs.PCI_CAP_ID_PM)
        assert at is not None
        for length in (1, 2, 4):
            assert lab.opal.pci_config_write(domain, rid, at + regs.PCI_PM_CTRL, length, 3) == OPAL_SUCCESS
            assert function.config.read(at + regs.PCI_PM_CTRL, 1) & 3 == (0 if held else 3)
            function.config.write(at + regs.PCI_PM_CTRL, 1, 0)
        assert lab.opal.pci_config_write(domain, rid, regs.PCI_INTERRUPT_LINE, 1, 0x5A) == OPAL_SUCCESS
        assert lab.opal.pci_config_read(domain, rid, regs.PCI_INTERRUPT_LINE, 1) == (OPAL_SUCCESS, 0x5A)


def test_ports_have_no_driver() -> None:
    """The platform sets ``pcie_ports_disabled`` (``arch/powerpc/platforms/powernv/pci.c``)."""
    with open_backend("software", machine="contract-ppc64") as backend:
        assert "pcieport" not in backend.listdir("/sys/bus/pci/drivers")
        assert backend.listdir("/sys/bus/pci_express/drivers") == []


def test_a_group_keeps_the_domain_of_the_platform() -> None:
    """``iommu_group_alloc_default_domain`` with ``ops->default_domain`` (``drivers/iommu/iommu.c``)."""
    with open_backend("software", machine="contract-ppc64") as backend:
        sysfs = Attributes(backend)
        bound = BoundFunction(backend, ENTROPY)
        path = f"/sys/kernel/iommu_groups/{bound.group_number}/type"
        for text in ("auto", "DMA"):
            with fails(EPERM):  # a driver has the device
                sysfs.write(path, text)
        with bound:
            sysfs.write(path, "auto")
            for text in ("identity", "DMA", "DMA-FQ", "none"):
                with fails(EINVAL):
                    sysfs.write(path, text)
            assert sysfs.read(path) == "unknown"
