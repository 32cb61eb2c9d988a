"""The PCI Express hardware of the software machine: accesses through a switch, and a large machine's enumeration.

The peer of the accesses is cocotbext-pcie, which simulates packets, in the same run on the same topology: root port,
switch, one endpoint with 1 MiB of memory (`simulated`).
"""

from __future__ import annotations

import time
from pathlib import Path

from measure import Line, best, left_out
from simulated import simulated

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.hardware.pci.bar import Bar
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pcie.block import Memory
from pyvfio_backends.software.hardware.pcie.express import Express
from pyvfio_backends.software.hardware.pcie.firmware import Apertures, Firmware
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.models import ioh3420, x3130_upstream, xio3130_downstream
from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex

__all__ = ["pcie"]

_TIMES = 100
_FOLDER = Path(__file__).resolve().parents[2] / "build" / "bench"
_FUNCTIONS, _SECONDS = 4096, 5.0


def _endpoint(size: int) -> Function:
    config = ConfigSpace(Identity(0x1234, 0x5678, class_code=0xFF0000), interrupt_pin=1)
    function = Function(config, [Bar(0, size, regs.PCI_BASE_ADDRESS_SPACE_MEMORY, Memory(size))])
    function.add(Express(ExpressType.ENDPOINT))
    return function


def _accesses() -> list[Line]:
    machine, port, up, down = RootComplex(), ioh3420(), x3130_upstream(), xio3130_downstream()
    machine.add_root_bus().plug(port)
    port.plug(up)
    up.secondary.plug(down)
    endpoint = down.plug(_endpoint(1 << 20))
    Firmware().set_up(machine)
    address, rid = endpoint.address(endpoint.bars[0]), endpoint.rid
    ours = {
        "config": 1 / best(lambda: machine.config_read(0, rid, 0, 4), 5_000),
        "bar": 1 / best(lambda: machine.load(address, 4), 5_000),
    }
    theirs = simulated(_FOLDER)
    names = {"config": "PCIe configuration reads behind a switch", "bar": "PCIe BAR reads behind a switch"}
    if isinstance(theirs, str):
        return [left_out(f"{name}: {ours[kind]:,.0f}/s, the peer", theirs) for kind, name in names.items()]
    return [_against(name, ours[kind], theirs[kind]) for kind, name in names.items()]


def _against(name: str, ours: float, theirs: float) -> Line:
    figure = f"{ours:,.0f}/s ({ours / theirs:,.0f}x cocotbext-pcie's {theirs:,.0f})"
    return Line(name, figure, f"at least {_TIMES}x", ours / theirs / _TIMES)


def _enumeration() -> Line:
    machine, ports, left = RootComplex(), 0, _FUNCTIONS
    while left:
        bus = machine.root_buses[-1] if ports % 240 else machine.add_root_bus(ports // 240)
        port = ioh3420()
        bus.plug(port, 1 + ports % 240 // 8, ports % 8)
        ports, left = ports + 1, left - 1
        for number in range(min(8, left)):
            port.plug(_endpoint(0x1000), number)
            left -= 1
    start = time.perf_counter()
    setup = Firmware(Apertures(memory=range(0x40000000, 0xFEC00000))).set_up(machine)
    seconds = time.perf_counter() - start
    if len(setup.functions()) != _FUNCTIONS or setup.layout.unplaced:
        raise RuntimeError("not everything was set up")
    return Line("4,096 PCIe functions, numbered and placed", f"{seconds:.2f} s", f"{_SECONDS:g} s", _SECONDS / seconds)


def pcie() -> list[Line]:
    """Accesses through a PCI Express switch, and setting up 4,096 functions."""
    return [*_accesses(), _enumeration()]
