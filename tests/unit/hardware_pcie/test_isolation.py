"""What access control services are for: with them on in all ports, the IOMMU sees every request of a device.

Not between functions of one device that have no such services, nor on a conventional bus, nor from what is inside the
root complex: there Linux makes one group, or asks for no services.
"""

from __future__ import annotations

import doctest

from hypothesis import given, settings
from pcie_rig import MASTER, VENDOR, Host, switch_acs, trees

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.pci.acs import REQUIRED
from pyvfio_backends.software.hardware import pcie
from pyvfio_backends.software.hardware.pcie.firmware import Firmware
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex


def prepare(complex_: RootComplex) -> list[Function]:
    """Set up, all bus masters, services on where there are any; the endpoints."""
    Firmware().set_up(complex_)
    found: list[Function] = []
    for _, function in complex_.functions():
        function.config.write(regs.PCI_COMMAND, 2, function.config.command | MASTER)
        if function.offset(regs.PCI_EXT_CAP_ID_ACS, extended=True) is not None:
            switch_acs(function, REQUIRED)
        if function.config.read(regs.PCI_VENDOR_ID, 2) == VENDOR:
            found.append(function)
    return found


def excused(source: Function, target: Function) -> bool:
    """Whether the two belong together, or the source is inside the root complex."""
    return source.bus is target.bus or source.express_type is ExpressType.RC_END


def asked(source: Function, target: Function) -> list[int]:
    """Write to a base address of a target; the addresses that the IOMMU saw, None of them if it went straight."""
    host = source_host(source)
    host.seen.clear()
    bar = next(bar for bar in target.bars.values() if not bar.is_io)
    source.dma_write(target.address(bar), b"peer")
    return [address for _, _, address, _ in host.seen]


def source_host(function: Function) -> Host:
    bus = function.bus
    while bus is not None and bus.bridge is not None:
        bus = bus.bridge.bus
    host = bus.complex.iommu  # type: ignore[union-attr]
    assert isinstance(host, Host)
    return host


def pairs(endpoints: list[Function]) -> list[tuple[Function, Function]]:
    targets = [one for one in endpoints if any(not bar.is_io and one.address(bar) for bar in one.bars.values())]
    return [(source, target) for source in endpoints for target in targets if source is not target]


@settings(max_examples=30, deadline=None)
@given(complex_=trees(acs=True))
def test_with_services_on_the_iommu_sees_everything(complex_: RootComplex) -> None:
    for source, target in pairs(prepare(complex_)):
        bar = next(bar for bar in target.bars.values() if not bar.is_io)
        if excused(source, target) or not target.address(bar):
            continue
        before = bar.registers.read(0, 4)
        assert asked(source, target) == [target.address(bar)]
        assert bar.registers.read(0, 4) == before


@settings(max_examples=20, deadline=None)
@given(complex_=trees(acs=True))
def test_with_services_off_peers_of_one_root_bus_meet(complex_: RootComplex) -> None:
    endpoints = prepare(complex_)
    for _, function in complex_.functions():
        if function.offset(regs.PCI_EXT_CAP_ID_ACS, extended=True) is not None:
            switch_acs(function, 0)
    for source, target in pairs(endpoints):
        bar = next(bar for bar in target.bars.values() if not bar.is_io)
        if root_of(source) is root_of(target) and target.address(bar):
            assert asked(source, target) == []
            assert bar.registers.read(0, 4) == int.from_bytes(b"peer", "little")
            bar.registers.write(0, 4, 0)


def root_of(function: Function) -> object:
    bus = function.bus
    while bus is not None and bus.bridge is not None:
        bus = bus.bridge.bus
    return bus


def test_the_example_of_the_package_is_true() -> None:
    assert doctest.testmod(pcie).failed == 0
    assert doctest.testmod(pcie).attempted > 5
