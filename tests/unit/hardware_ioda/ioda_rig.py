"""A host bridge to test on: a switch with two endpoints of their own, each with an endpoint number::

bus 0  root port                             PE 10 (takes 11, 20, 21 along)
bus 1  upstream port of a switch             PE 11
bus 2  its two downstream ports              PE 12
bus 3  a                                     PE 20
bus 4  b (function 0), c (function 1)        PE 21
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pyvfio.abi import opal as api
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.opal import OpalBusCompare, OpalWindow
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.ioda.segments import Segments
from pyvfio.ioda.table import TceTable
from pyvfio.ioda.tce import TceAccess
from pyvfio.ioda.window import DmaWindow
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.ioda.model import PHB3, PhbModel
from pyvfio_backends.software.hardware.ioda.opal import Opal
from pyvfio_backends.software.hardware.ioda.phb import Phb
from pyvfio_backends.software.hardware.ioda.placement import apertures, arrange
from pyvfio_backends.software.hardware.ioda.port import phb_port
from pyvfio_backends.software.hardware.pci.bar import Bar
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pcie.aer import Aer
from pyvfio_backends.software.hardware.pcie.block import Memory
from pyvfio_backends.software.hardware.pcie.capabilities import Msi
from pyvfio_backends.software.hardware.pcie.express import Express
from pyvfio_backends.software.hardware.pcie.extended import Acs
from pyvfio_backends.software.hardware.pcie.firmware import Firmware
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.models import x3130_upstream, xio3130_downstream
from pyvfio_backends.software.hardware.pcie.port import DownstreamPort

ROOT, UP, INSIDE, PE_A, PE_B = 10, 11, 12, 20, 21
M32_BASE, M32_BUS, M32_SIZE = 0x600C000000000, 0x80000000, 0x80000000
TABLES, PAGES, MEMORY_SIZE = 0x100000, 0x400000, 0x800000
READ_WRITE = TceAccess.READ | TceAccess.WRITE


class RealMemory:
    """Memory from real address 0 on, with a place for tables from `TABLES`."""

    def __init__(self, size: int = MEMORY_SIZE) -> None:
        self.data = bytearray(size)
        self.next = TABLES

    def _check(self, address: int, count: int, *, write: bool) -> None:
        if not 0 <= address <= len(self.data) - count:
            raise DmaFault(address, count, write=write)

    def read(self, iova: int, count: int) -> bytes:
        self._check(iova, count, write=False)
        return bytes(self.data[iova : iova + count])

    def write(self, iova: int, data: bytes) -> None:
        self._check(iova, len(data), write=True)
        self.data[iova : iova + len(data)] = data

    def copy(self, target: int, source: int, count: int) -> None:
        self.write(target, self.read(source, count))

    def allocate(self, size: int) -> int:
        address = -(-self.next // size) * size
        self.next = address + size
        return address


def endpoint(name: str) -> Function:
    """A function with 64 KiB of memory and MSI for four messages."""
    config = ConfigSpace(Identity(0x1234, 0x5678, 0x1234, 1, 0xFF0000, 1), interrupt_pin=1)
    size = 0x10000
    function = Function(config, [Bar(0, size, regs.PCI_BASE_ADDRESS_SPACE_MEMORY, Memory(size))], name=name)
    function.add_msi(Msi(4, maskable=True))
    function.add(Express(ExpressType.ENDPOINT))
    function.add(Aer())
    return function


@dataclass
class IodaRig:
    """See above.  `tables` has the DMA window of each endpoint that has one: 1 MiB from 0, 64 KiB mapped."""

    phb: Phb
    opal: Opal
    memory: RealMemory
    a: Function
    b: Function
    c: Function
    down: list[DownstreamPort]
    tables: dict[int, TceTable] = field(default_factory=dict)
    interrupts: list[tuple[int, int]] = field(default_factory=list)
    told: list[None] = field(default_factory=list)

    def pe(self, function: Function) -> int:
        return self.phb.rids[function.rid]

    def at(self, function: Function) -> int:
        """The processor's address of the function's memory."""
        return function.address(function.bars[0]) - M32_BUS + M32_BASE

    def dma(self, pe: int) -> int:
        """Where the DMA window of an endpoint begins: at 0, or P7IOC's by its number."""
        shift = self.phb.model.slice_shift
        return 0 if shift is None else pe << shift

    def real(self, pe: int) -> int:
        """Where the 64 KiB are that the beginning of an endpoint's DMA window is mapped to."""
        return PAGES + (pe - PE_A) * 0x10000

    def config(self, function: Function, offset: int = 0) -> int:
        return self.phb.config_read(0, function.rid, offset, 4)


def rig(model: PhbModel = PHB3) -> IodaRig:
    memory = RealMemory()
    port = phb_port(model)
    m32 = Segments(M32_BASE, M32_BUS, M32_SIZE, model.segments)
    io = Segments(0x3000000, 0, 1 << 20, model.segments) if model.has_io else None
    phb = Phb(model, memory, port, m32, io=io)
    up = port.plug(x3130_upstream())
    down = [xio3130_downstream(name=f"dn{number}") for number in range(2)]
    for number, one in enumerate(down):
        one.add(Acs())
        up.secondary.plug(one, number)
    a, b, c = endpoint("a"), endpoint("b"), endpoint("c")
    down[0].plug(a)
    down[1].plug_all({0: b, 1: c})
    with phb.probing():
        Firmware(apertures(phb), arrange=arrange(phb)).set_up(phb)
    phb.enable_reports()
    opal = Opal({0: phb})
    made = IodaRig(phb, opal, memory, a, b, c, down)
    for bus, pe in enumerate((ROOT, UP, INSIDE, PE_A, PE_B)):
        assert not opal.pci_set_pe(0, pe, bus << 8, OpalBusCompare.ALL, 0, 0, api.OPAL_MAP_PE)
    for child in (UP, INSIDE, PE_A, PE_B):
        assert not opal.pci_set_peltv(0, ROOT, child, api.OPAL_ADD_PE_TO_DOMAIN)
    for function, pe in ((a, PE_A), (b, PE_B), (c, PE_B)):
        segment = m32.segment(made.at(function))
        assert not opal.pci_map_pe_mmio_window(0, pe, OpalWindow.M32, 0, segment)
        function.config.write(regs.PCI_COMMAND, 2, function.config.command | regs.PCI_COMMAND_MASTER)
    for pe in (PE_A, PE_B):
        table = made.tables[pe] = TceTable(DmaWindow(1 << 20, 12, 2), memory, memory.allocate)
        table.set_run(0, made.real(pe), 16, READ_WRITE)
        window = pe if model.slice_shift is not None else 2 * pe
        entry = table.entry
        assert not opal.pci_map_pe_dma_window(0, pe, window, entry.levels, entry.table, entry.table_size, 0x1000)
    phb.inbound.deliver = lambda source, number: made.interrupts.append((source.rid, number))
    phb.on_error = lambda: made.told.append(None)
    return made
