"""A function on bare-metal POWER that sleeps gets back its addresses on the bus, and ports have no driver there."""

from __future__ import annotations

import os

from pyvfio.abi import pci_regs as regs
from pyvfio.backend import open_backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction

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
