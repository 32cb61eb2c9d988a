"""The I/O window of P7IOC: segments of ports, frozen and struck like memory."""

from __future__ import annotations

from ioda_rig import M32_BASE, M32_BUS, M32_SIZE, RealMemory

from pyvfio.abi import opal as api
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.eeh import EehErrorFunction
from pyvfio.abi.opal import OpalWindow
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.ioda.pest import Cause, Transfer
from pyvfio.ioda.routing import RidMatch
from pyvfio.ioda.segments import Segments
from pyvfio_backends.software.hardware.ioda.model import P7IOC
from pyvfio_backends.software.hardware.ioda.opal import Opal
from pyvfio_backends.software.hardware.ioda.phb import Phb
from pyvfio_backends.software.hardware.ioda.placement import apertures, arrange
from pyvfio_backends.software.hardware.ioda.port import phb_port
from pyvfio_backends.software.hardware.pci.bar import Bar
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pcie.block import Memory
from pyvfio_backends.software.hardware.pcie.express import Express
from pyvfio_backends.software.hardware.pcie.firmware import Firmware
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.request import Space

PORTS, SIZE, PE = 0x3000000, 1 << 20, 9


def build() -> tuple[Phb, Opal, Function, int]:
    """A bridge with a function that has 256 ports; the processor's address of the first one."""
    port = phb_port(P7IOC)
    io = Segments(PORTS, 0, SIZE, P7IOC.segments)
    phb = Phb(P7IOC, RealMemory(), port, Segments(M32_BASE, M32_BUS, M32_SIZE, P7IOC.segments), io=io)
    config = ConfigSpace(Identity(0x1234, 1, class_code=0xFF0000))
    function = Function(config, [Bar(0, 0x100, regs.PCI_BASE_ADDRESS_SPACE_IO, Memory(0x100))])
    function.add(Express(ExpressType.ENDPOINT))
    port.plug(function)
    with phb.probing():
        Firmware(apertures(phb), arrange=arrange(phb)).set_up(phb)
    opal = Opal({0: phb})
    phb.map_rids(PE, RidMatch.of_buses(1))
    at = phb.windows.from_bus(Space.IO, function.address(function.bars[0]))
    assert at is not None
    assert opal.pci_map_pe_mmio_window(0, PE, OpalWindow.IO, 0, io.segment(at)) == api.OPAL_SUCCESS
    return phb, opal, function, at


def test_ports_belong_to_an_endpoint() -> None:
    phb, _, function, at = build()
    phb.store(at + 4, 4, 0x1234, space=Space.IO)
    assert phb.load(at + 4, 4, space=Space.IO) == 0x1234
    assert phb.port_in(at + 4, 2) == 0x1234
    phb.parity(PE)
    phb.store(at + 4, 4, 0x5678, space=Space.IO)
    assert phb.load(at + 4, 4, space=Space.IO) == 0xFFFFFFFF
    assert function.bars[0].registers.read(4, 4) == 0x1234


def test_ports_that_nobody_has_are_an_error() -> None:
    phb, _, _, at = build()
    assert phb.load(at + 0x1000 - 0x100, 4, space=Space.IO) == 0xFFFFFFFF
    assert phb.endpoints.frozen == {PE}
    entry = phb.endpoints[PE].entry
    assert entry is not None
    assert (entry.transfer, entry.causes) == (Transfer.LOAD, Cause.MMIO | Cause.UNSUPPORTED_REQUEST)


def test_an_injected_error_strikes_a_port() -> None:
    phb, opal, function, at = build()
    mask = (1 << 64) - 1
    assert not opal.pci_err_inject(0, PE, 0, EehErrorFunction.ST_IO_DATA, at + 8, mask)
    phb.store(at + 4, 4, 1, space=Space.IO)
    assert not phb.endpoints.troubled()
    phb.store(at + 8, 4, 1, space=Space.IO)
    assert phb.endpoints.frozen == {PE}
    assert function.bars[0].registers.read(8, 4) == 0
