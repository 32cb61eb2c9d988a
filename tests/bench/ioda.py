"""What partitionable endpoints cost: accesses below a POWER host bridge against the same without endpoints."""

from __future__ import annotations

from measure import Line, best

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.ioda.routing import RidMatch
from pyvfio.ioda.segments import Segments
from pyvfio_backends.software.hardware.ioda.model import PHB4
from pyvfio_backends.software.hardware.ioda.phb import Phb
from pyvfio_backends.software.hardware.ioda.placement import apertures, arrange
from pyvfio_backends.software.hardware.ioda.port import phb_port
from pyvfio_backends.software.hardware.pci.bar import Bar
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pcie.block import Memory
from pyvfio_backends.software.hardware.pcie.express import Express
from pyvfio_backends.software.hardware.pcie.firmware import Firmware
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.models import ioh3420
from pyvfio_backends.software.hardware.pcie.remapping import NOTHING
from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex

__all__ = ["ioda"]

_TIMES, _LEAST = 5_000, 0.7
_BASE, _BUS, _SIZE, _FUNCTION_SIZE = 0x600C000000000, 0x80000000, 0x80000000, 1 << 20


def _function() -> Function:
    config = ConfigSpace(Identity(0x1234, 0x5678, class_code=0xFF0000), interrupt_pin=1)
    bar = Bar(0, _FUNCTION_SIZE, regs.PCI_BASE_ADDRESS_SPACE_MEMORY, Memory(_FUNCTION_SIZE))
    function = Function(config, [bar])
    function.add(Express(ExpressType.ENDPOINT))
    return function


def ioda() -> list[Line]:
    """Configuration reads and loads, while nothing is frozen and while another endpoint is."""
    plain, port, one = RootComplex(), ioh3420(), _function()
    plain.add_root_bus().plug(port)
    port.plug(one)
    Firmware().set_up(plain)
    below = phb_port(PHB4)
    phb = Phb(PHB4, NOTHING, below, Segments(_BASE, _BUS, _SIZE, PHB4.segments))
    other = below.plug(_function())
    with phb.probing():
        Firmware(apertures(phb), arrange=arrange(phb)).set_up(phb)
    phb.map_rids(1, RidMatch.of_buses(1))
    at, rid = one.address(one.bars[0]), one.rid
    there, other_rid = other.address(other.bars[0]) - _BUS + _BASE, other.rid
    config = 1 / best(lambda: plain.config_read(0, rid, 0, 4), _TIMES)
    load = 1 / best(lambda: plain.load(at, 4), _TIMES)
    lines: list[Line] = []
    for how in ("", ", another endpoint frozen"):
        own_config = 1 / best(lambda: phb.config_read(0, other_rid, 0, 4), _TIMES)
        own_load = 1 / best(lambda: phb.load(there, 4), _TIMES)
        for what, own, against in (("configuration reads", own_config, config), ("BAR reads", own_load, load)):
            wanted = f"{_LEAST:g} of {against:,.0f}/s without endpoints"
            lines.append(Line(f"IODA {what}{how}", f"{own:,.0f}/s", wanted, own / against / _LEAST))
        phb.endpoints.set(99, frozen=True, stopped=True)
    return lines
