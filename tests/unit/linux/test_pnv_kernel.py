"""What bare-metal POWER has otherwise than PCs: addresses on the bus, no driver of ports, the platform's DMA domain."""

from __future__ import annotations

import os
from errno import EINVAL, EPERM

from pyvfio.abi import pci_regs as regs
from pyvfio.backend import open_backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails

ENTROPY = "0002:01:00.0"
BAR1 = regs.PCI_BASE_ADDRESS_1


def test_a_base_address_is_one_of_the_bus_again() -> None:
    """The processor's addresses of the 32-bit window are others (``pci_restore_bars``, ``pcibios_resource_to_bus``)."""
    with open_backend("software", machine="contract-ppc64") as backend:

        def base() -> int:
            fd = backend.open(f"/sys/bus/pci/devices/{ENTROPY}/config", os.O_RDONLY)
            try:
                return int.from_bytes(backend.pread(fd, 4, BAR1), "little")
            finally:
                backend.close(fd)

        before = base()
        assert before >= 1 << 31
        with BoundFunction(backend, ENTROPY):
            assert Attributes(backend).read(f"/sys/bus/pci/devices/{ENTROPY}/power_state") == "D3hot"
            assert base() == before
        assert base() == before


def test_ports_have_no_driver() -> None:
    """The platform sets ``pcie_ports_disabled`` (``arch/powerpc/platforms/powernv/pci.c``)."""
    with open_backend("software", machine="contract-ppc64") as backend:
        assert "pcieport" not in backend.listdir("/sys/bus/pci/drivers")


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
