"""SR-IOV: virtual functions come and go by the registers, with routing ids and addresses of their own."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from pcie_rig import MASTER, PREFETCH64, Host, endpoint

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.pci.bar import Bar
from pyvfio_backends.software.hardware.pci.config import ConfigSpace, Identity
from pyvfio_backends.software.hardware.pcie.block import Memory
from pyvfio_backends.software.hardware.pcie.extended import Ari
from pyvfio_backends.software.hardware.pcie.firmware import Firmware
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.models import root_port
from pyvfio_backends.software.hardware.pcie.port import RootPort
from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex
from pyvfio_backends.software.hardware.pcie.sriov import Sriov, VfBar, VirtualFunction, VirtualFunctions

SIZE, TOTAL = 0x4000, 8
VFE, MSE = regs.PCI_SRIOV_CTRL_VFE, regs.PCI_SRIOV_CTRL_MSE


@dataclass
class Made:
    host: Host
    complex: RootComplex
    port: RootPort
    physical: Function
    virtual: VirtualFunctions
    changes: list[int]

    def write(self, register: int, width: int, value: int) -> None:
        self.physical.config.write(self.virtual.offset + register, width, value)

    def enable(self, count: int, bits: int = VFE | MSE) -> None:
        self.write(regs.PCI_SRIOV_NUM_VF, 2, count)
        self.write(regs.PCI_SRIOV_CTRL, 2, bits)


def make(number: int) -> VirtualFunction:
    config = ConfigSpace(Identity(0xFFFF, 0xFFFF, 0x1AF4, 0x1100, 0x020000))
    return VirtualFunction(config, [Bar(0, SIZE, PREFETCH64, Memory(SIZE))], name=f"vf{number}")


@pytest.fixture(params=[1, 250])
def made(request: pytest.FixtureRequest) -> Made:
    host = Host()
    complex_ = RootComplex(host)
    port = complex_.add_root_bus().plug(root_port(), 0)
    assert isinstance(port, RootPort)
    physical = endpoint(name="pf")
    physical.add(Ari())
    virtual = VirtualFunctions(physical, Sriov(TOTAL, 0x10CA, request.param, 2, [VfBar(0, SIZE, PREFETCH64)]), make)
    changes: list[int] = []
    virtual.on_change = changes.append
    port.plug(physical)
    Firmware().set_up(complex_)
    return Made(host, complex_, port, physical, virtual, changes)


def test_there_are_as_many_as_asked_for(made: Made) -> None:
    made.enable(3)
    assert made.changes == [3]
    offset = made.virtual.declared.offset
    for index, one in enumerate(made.virtual.active):
        assert one.rid == made.physical.rid + offset + 2 * index
        assert made.complex.function(0, one.rid) is one
    made.enable(0, 0)
    assert made.changes == [3, 0]
    assert not made.virtual.active
    assert made.complex.function(0, made.physical.rid + offset) is None


def test_more_than_there_can_be_are_not_made(made: Made) -> None:
    made.enable(TOTAL + 5)
    assert len(made.virtual.active) == TOTAL


def test_each_has_its_part_of_the_base_address(made: Made) -> None:
    made.enable(TOTAL)
    first = made.virtual.bar_address(0)
    assert first >= 1 << 32
    for index in range(TOTAL):
        made.complex.store(first + index * SIZE + 0x10, 4, index + 1)
    assert [one.bars[0].registers.read(0x10, 4) for one in made.virtual.active] == list(range(1, TOTAL + 1))
    made.enable(TOTAL, VFE)
    assert made.complex.load(first, 4) == 0xFFFFFFFF


def test_they_do_dma_under_their_own_names(made: Made) -> None:
    made.enable(2)
    one = made.virtual.active[1]
    with pytest.raises(DmaFault):
        one.dma_write(0, b"x")
    one.config.write(regs.PCI_COMMAND, 2, MASTER)
    one.dma_write(0, b"x")
    assert made.host.seen[0][1].rid == one.rid


def test_a_reset_of_the_physical_function_takes_them_away(made: Made) -> None:
    made.enable(4)
    made.physical.reset()
    assert not made.virtual.active
    assert made.changes == [4, 0]


def test_unplugging_gives_back_the_physical_function_alone(made: Made) -> None:
    made.enable(4)
    assert made.port.unplug() == [made.physical]
    assert not made.virtual.active
    assert not made.port.present


def test_taking_the_physical_function_off_its_bus_takes_them_along(made: Made) -> None:
    made.enable(4)
    made.port.secondary.unplug(made.physical)
    assert not made.port.secondary.functions
    assert made.changes == [4, 0]
