"""Root complexes to test on: a fixed one with a switch, and random ones."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.pci.bar import Bar
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pcie.aer import Aer
from pyvfio_backends.software.hardware.pcie.block import Memory
from pyvfio_backends.software.hardware.pcie.bus import Bus
from pyvfio_backends.software.hardware.pcie.capabilities import Msi
from pyvfio_backends.software.hardware.pcie.express import Express, Slot
from pyvfio_backends.software.hardware.pcie.extended import Acs
from pyvfio_backends.software.hardware.pcie.firmware import Firmware, Setup
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.models import (
    ioh3420,
    pcie_pci_bridge,
    root_port,
    x3130_upstream,
    xio3130_downstream,
)
from pyvfio_backends.software.hardware.pcie.port import DownstreamPort, RootPort
from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex
from pyvfio_backends.software.hardware.pcie.upstream import Source

VENDOR, DEVICE = 0x1234, 0x5678
MEMORY32 = regs.PCI_BASE_ADDRESS_SPACE_MEMORY
MEMORY64 = regs.PCI_BASE_ADDRESS_MEM_TYPE_64
PREFETCH64 = MEMORY64 | regs.PCI_BASE_ADDRESS_MEM_PREFETCH
IO = regs.PCI_BASE_ADDRESS_SPACE_IO
MASTER, MEMORY = regs.PCI_COMMAND_MASTER, regs.PCI_COMMAND_MEMORY


def endpoint(
    bars: list[tuple[int, int]] | None = None,
    *,
    kind: ExpressType | None = ExpressType.ENDPOINT,
    aer: bool = True,
    acs: bool = False,
    name: str = "",
) -> Function:
    """A function with memory behind its base addresses: (size, flags) of each; a 64-bit one takes two registers."""
    config = ConfigSpace(Identity(VENDOR, DEVICE, VENDOR, 1, 0xFF0000, 1), interrupt_pin=1)
    made: list[Bar] = []
    index = 0
    for size, flags in bars if bars is not None else [(0x1000, MEMORY32)]:
        made.append(Bar(index, size, flags, Memory(size)))
        index += 2 if flags & MEMORY64 else 1
    function = Function(config, made, name=name)
    function.add_msi(Msi(4, maskable=True))
    if kind is not None:
        function.add(Express(kind))
        if aer:
            function.add(Aer())
        if acs:
            function.add(Acs())
    return function


@dataclass
class Host:
    """An IOMMU that maps `memory` (1 MiB at 0) to everybody, and writes down who came."""

    memory: bytearray = field(default_factory=lambda: bytearray(0x100000))
    seen: list[tuple[str, Source, int, int]] = field(default_factory=list)
    messages: list[tuple[Source, int, int]] = field(default_factory=list)

    def _check(self, address: int, count: int, write: bool) -> None:
        if address + count > len(self.memory):
            raise DmaFault(address, count, write=write)

    def read(self, source: Source, address: int, count: int) -> bytes:
        self.seen.append(("read", source, address, count))
        self._check(address, count, False)
        return bytes(self.memory[address : address + count])

    def write(self, source: Source, address: int, data: bytes) -> None:
        self.seen.append(("write", source, address, len(data)))
        self._check(address, len(data), True)
        self.memory[address : address + len(data)] = data

    def message(self, source: Source, address: int, data: int) -> None:
        self.messages.append((source, address, data))


@dataclass
class Rig:
    """Two root ports, a switch with two endpoints, a device of two functions, a conventional bus::

    00.0 [rp0] -- up -- [dn0] -- a
                     -- [dn1] -- b
    01.0 [rp1] -- c (function 0), d (function 1)
    02.0 [rp2] -- bridge -- e, f (conventional)
    03.0 g (integrated)
    """

    host: Host
    complex: RootComplex
    setup: Setup
    rp: list[RootPort]
    dn: list[DownstreamPort]
    up: Function
    a: Function
    b: Function
    c: Function
    d: Function
    e: Function
    f: Function
    g: Function

    def at(self, function: Function, index: int = 0) -> int:
        """Where a base address of a function is."""
        return function.address(function.bars[index])


def rig(*, peer_to_peer: bool = True, acs: bool = False, endpoint_acs: bool = False) -> Rig:
    host = Host()
    complex_ = RootComplex(host, peer_to_peer=peer_to_peer)
    bus = complex_.add_root_bus()
    make = root_port if acs else ioh3420
    ports = [make(Slot(number + 1), name=f"rp{number}") for number in range(3)]
    for number, port in enumerate(ports):
        bus.plug(port, number)
    up = ports[0].plug(x3130_upstream())
    down = [xio3130_downstream(Slot(6 + number), name=f"dn{number}") for number in range(2)]
    for number, port in enumerate(down):
        if acs:
            port.add(Acs())
        up.secondary.plug(port, number)
    a, b = (port.plug(endpoint(name=name)) for port, name in zip(down, "ab", strict=True))
    c = ports[1].plug(endpoint([(0x1000, MEMORY32), (0x100000, PREFETCH64)], name="c", acs=endpoint_acs))
    d = ports[1].plug(endpoint(name="d", acs=endpoint_acs), 1)
    bridge = ports[2].plug(pcie_pci_bridge())
    e = bridge.secondary.plug(endpoint([(0x1000, MEMORY32), (0x100, IO)], kind=None, name="e"), 1)
    f = bridge.secondary.plug(endpoint(kind=None, name="f"), 2)
    g = bus.plug(endpoint(kind=ExpressType.RC_END, name="g"), 3)
    setup = Firmware().set_up(complex_)
    for function in (a, b, c, d, e, f, g):
        function.config.write(regs.PCI_COMMAND, 2, function.config.command | MASTER)
    return Rig(host, complex_, setup, ports, down, up, a, b, c, d, e, f, g)


def switch_acs(port: Function, services: int) -> None:
    """Write the ACS control register."""
    at = port.offset(regs.PCI_EXT_CAP_ID_ACS, extended=True)
    assert at is not None
    port.config.write(at + regs.PCI_ACS_CTRL, 2, services)


# ---- random ones -----------------------------------------------------------------------------------------------------

SIZES = st.sampled_from([0x10, 0x100, 0x1000, 0x4000, 0x100000, 0x400000])
BARS = st.lists(
    st.one_of(
        st.tuples(SIZES, st.sampled_from([MEMORY32, MEMORY64, PREFETCH64, regs.PCI_BASE_ADDRESS_MEM_PREFETCH])),
        st.tuples(st.sampled_from([0x4, 0x20, 0x100]), st.just(IO)),
    ),
    max_size=3,
)


@st.composite
def trees(draw: st.DrawFn, *, acs: bool = False) -> RootComplex:
    """A root complex with up to three root buses and a few levels below; with `acs` all ports have and use it."""
    complex_ = RootComplex(Host())
    for segment, number in draw(st.sampled_from([[(0, 0)], [(0, 0), (0, 0x80)], [(0, 0), (0, 0x40), (3, 0)]])):
        bus = complex_.add_root_bus(segment, number)
        for device in sorted(draw(st.sets(st.integers(0, 31), max_size=4))):
            for function in range(draw(st.sampled_from([1, 1, 2]))):
                _grow(draw, bus, device, function, acs)
    return complex_


def _grow(draw: st.DrawFn, bus: Bus, device: int, number: int, acs: bool) -> None:
    what = draw(st.sampled_from(["endpoint", "port", "port", "hotplug"]))
    if what == "endpoint":
        bus.plug(endpoint(draw(BARS), kind=ExpressType.RC_END), device, number)
        return
    make = root_port if acs or draw(st.booleans()) else ioh3420
    port = make(Slot(1) if what == "hotplug" else None)
    bus.plug(port, device, number)
    _below(draw, port, 0, acs)


def _below(draw: st.DrawFn, port: DownstreamPort, depth: int, acs: bool) -> None:
    what = draw(st.sampled_from(["nothing", "endpoint", "functions", "switch", "pci"] if depth < 2 else ["endpoint"]))
    if what in ("endpoint", "functions"):
        for number in range(1 if what == "endpoint" else draw(st.integers(2, 8))):
            port.plug(endpoint(draw(BARS)), number)
    elif what == "switch":
        up = port.plug(x3130_upstream())
        for number in range(draw(st.integers(1, 3))):
            down = xio3130_downstream(Slot(number))
            if acs:
                down.add(Acs())
            up.secondary.plug(down, number)
            _below(draw, down, depth + 1, acs)
    elif what == "pci":
        bridge = port.plug(pcie_pci_bridge())
        for device in sorted(draw(st.sets(st.integers(0, 31), max_size=3))):
            bridge.secondary.plug(endpoint(draw(BARS), kind=None), device)
