"""Endpoints of several: a master with slaves for large 64-bit memory, and what is behind a bridge to conventional PCI.

::

    0000  root port   testdev with 4 GiB of 64-bit memory, of which a segment has 1 GiB: endpoint 0, slaves 1, 2 and 3
    0001  root port   bridge to conventional PCI (endpoint fd)   edu, testdev and edu: endpoint fc
    0002  root port   edu

Source: ``arch/powerpc/platforms/powernv/pci-ioda.c`` (the function is named) and ``eeh-powernv.c`` of Linux 6.12.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import pytest
from pci_fixture import BUS, Device
from pnv_fixture import Pnv

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_spapr as spapr
from pyvfio.abi.opal import OpalFreezeAction, OpalFreezeState
from pyvfio.abi.vfio_spapr import EehState
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import MachineSpec, PcieFunctionSpec, PciePhbSpec
from pyvfio_backends.software.linux.eeh import EEH
from pyvfio_backends.software.linux.pnv_pe import PeFlag
from pyvfio_backends.software.machine import Machine

LARGE, OTHER = "0000:01:00.0", "0002:01:00.0"
BRIDGE, CONVENTIONAL = "0001:01:00.0", ("0001:02:01.0", "0001:02:02.0", "0001:02:03.0")
BAR, SIZE, SEGMENT = 2, 1 << 32, 1 << 30
NUMBERS = {0, 1, 2, 3}
ONES = b"\xff" * 4


class Lab(Pnv):
    """The machine; nobody has the functions."""

    def __init__(self) -> None:
        spec = MachineSpec(
            name="compound",
            architecture="ppc64le",
            memory=1 << 31,
            modules=("vfio", "vfio_iommu_spapr_tce", "vfio_pci"),
            pcie_phbs=[PciePhbSpec(segment=number, model="PHB4 (small)") for number in range(3)],
            pcie_functions=[
                PcieFunctionSpec("pci-testdev", "phb0", options={"membar": SIZE}),
                PcieFunctionSpec("pcie-pci-bridge", "phb1", "00.0", "conventional"),
                PcieFunctionSpec("edu", "conventional", "01.0"),
                PcieFunctionSpec("pci-testdev", "conventional", "02.0"),
                PcieFunctionSpec("edu", "conventional", "03.0"),
                PcieFunctionSpec("edu", "phb2"),
            ],
        )
        self.machine = Machine(spec)
        self.kernel = self.machine.kernel
        self.host = SoftwareBackend(self.machine)
        self.complex = self.machine.pcie
        self.eeh = self.kernel.subsystems[EEH]

    def frozen(self, domain: int) -> set[int]:
        return {one.number for one in self.phb(domain).endpoints.troubled()}

    def parity(self, domain: int, number: int) -> None:
        """An error of an endpoint of the hardware, of which the kernel is told."""
        with self.machine.lock:
            self.phb(domain).parity(number)

    def there(self, name: str) -> bool:
        return name in self.kernel.buses["pci"].devices


@pytest.fixture
def lab() -> Iterator[Lab]:
    lab = Lab()
    with lab.host:
        yield lab


class Program:
    """A program with the memory of `LARGE` mapped."""

    def __init__(self, lab: Lab) -> None:
        lab.take(LARGE)
        self.lab = lab
        self.device: Device = lab.open(LARGE, iommu=abi.VFIO_SPAPR_TCE_v2_IOMMU)
        self.device.write(regs.PCI_COMMAND_MEMORY.to_bytes(2, "little"), regs.PCI_COMMAND)
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        self.memory = lab.host.mmap(self.device.fd, SIZE, mmap.MAP_SHARED, protection, BAR << 40)

    def operate(self, operation: int) -> int:
        return self.lab.host.ioctl(self.device.container, spapr.VFIO_EEH_PE_OP, spapr.EehPeOp.sized(op=operation))

    @property
    def state(self) -> EehState:
        return EehState(self.operate(spapr.VFIO_EEH_PE_GET_STATE))

    def load(self, segment: int) -> bytes:
        at = segment * SEGMENT + 0x40
        return bytes(self.memory[at : at + 4])

    def store(self, segment: int, data: bytes) -> None:
        at = segment * SEGMENT + 0x40
        self.memory[at : at + 4] = data

    def close(self) -> None:
        self.memory.close()
        self.device.close()


# a master and its slaves


def test_who_is_the_master(lab: Lab) -> None:
    """``pnv_ioda_pick_m64_pe``: the first segment's endpoint; routing ids, DMA and the group are the master's."""
    pe = lab.pe(LARGE)
    assert pe.number == min(NUMBERS)
    assert pe.flags == PeFlag.BUS | PeFlag.MASTER
    assert [one.number for one in pe.slaves] == [1, 2, 3]
    assert {one.flags for one in pe.slaves} == {PeFlag.SLAVE}
    assert [lab.bridge(0).endpoints.master_of(number) for number in range(5)] == [0, 0, 0, 0, 4]
    assert lab.phb(0).rids[0x100] == 0
    assert pe.group is not None
    assert pe.group.name == "domain0-pe0"
    assert int(lab.attr(LARGE, "eeh_pe_config_addr"), 16) == 0
    window = next(one for one in lab.phb(0).windows.m64 if one.enabled)
    start = lab.device(LARGE).resources[BAR].start
    assert [window.owner(start + number * SEGMENT) for number in range(4)] == [0, 1, 2, 3]


def test_errors_of_each_take_all_along(lab: Lab) -> None:
    """``pnv_ioda_configure_pe``, ``pnv_ioda_set_one_peltv``: of a slave too; and of the root port."""
    taken = lab.phb(0).endpoints.taken_along
    assert all(taken(number) == NUMBERS for number in NUMBERS)
    assert taken(lab.pe("0000:00:00.0").number) >= NUMBERS


@pytest.mark.parametrize("struck", sorted(NUMBERS))
def test_a_program_has_all_of_it(lab: Lab, struck: int) -> None:
    """An error in any of the segments freezes all; it is one state, and goes again as one."""
    program = Program(lab)
    for segment in range(4):
        program.store(segment, bytes([segment]) * 4)
    lab.parity(0, struck)
    assert lab.frozen(0) == NUMBERS
    assert program.state is EehState.STOPPED
    for segment in range(4):
        assert program.load(segment) == ONES
        program.store(segment, b"lost")
    program.operate(spapr.VFIO_EEH_PE_UNFREEZE_IO)
    assert program.state is EehState.STOPPED_DMA
    assert [program.load(segment) for segment in range(4)] == [bytes([segment]) * 4 for segment in range(4)]
    program.operate(spapr.VFIO_EEH_PE_UNFREEZE_DMA)
    assert program.state is EehState.NORMAL
    assert lab.frozen(0) == set()
    program.close()


@pytest.mark.parametrize("number", sorted(NUMBERS))
@pytest.mark.parametrize("action", [OpalFreezeAction.MMIO, OpalFreezeAction.DMA, OpalFreezeAction.ALL])
def test_the_state_is_the_worst_of_all(lab: Lab, number: int, action: OpalFreezeAction) -> None:
    """``pnv_ioda_get_pe_state``: whoever is asked for; all of it frozen is frozen all over (`pnv_eeh_get_pe_state`)."""
    known = lab.bridge(0).endpoints
    with lab.machine.lock:
        lab.opal.pci_eeh_freeze_set(0, number, action)
    assert {known.state(one) for one in NUMBERS} == {OpalFreezeState(action)}
    states = {"0x00000050", "0x00000028", "0x00000000"}
    assert lab.attr(LARGE, "eeh_pe_state").split()[0] in states
    assert lab.frozen(0) == (NUMBERS if action is OpalFreezeAction.ALL else {number})
    with lab.machine.lock:
        assert known.unfreeze(3, OpalFreezeAction.ALL)
    assert lab.frozen(0) == set()


def test_a_reset_freezes_and_thaws_all_of_it(lab: Lab) -> None:
    """``pnv_ioda_freeze_pe``, ``pnv_ioda_unfreeze_pe``."""
    program = Program(lab)
    program.operate(spapr.VFIO_EEH_PE_RESET_HOT)
    assert lab.frozen(0) == NUMBERS
    assert {program.load(segment) for segment in range(4)} == {ONES}
    program.operate(spapr.VFIO_EEH_PE_RESET_DEACTIVATE)
    assert lab.frozen(0) == set()
    program.close()


@pytest.mark.parametrize("struck", sorted(NUMBERS))
def test_linux_recovers_the_master(lab: Lab, struck: int) -> None:
    """``pnv_eeh_get_pe``: EEH knows masters only."""
    lab.parity(0, struck)
    lab.machine.clock.advance(60)
    assert lab.frozen(0) == set()
    assert lab.there(LARGE)
    assert lab.attr(LARGE, "eeh_pe_state") == "0x00000078 0x00000800"
    pe = lab.pe(LARGE)
    assert (pe.number, [one.number for one in pe.slaves]) == (0, [1, 2, 3])
    assert lab.eeh.stats.slot_resets <= 1


def test_numbers_come_back(lab: Lab) -> None:
    """``pnv_ioda_release_pe``: of master and slaves; whoever comes next gets the same."""
    known = lab.bridge(0).endpoints
    lab.write(f"{BUS}/devices/{LARGE}/remove", "1")
    assert not NUMBERS & {one.number for one in known}
    assert all(known.every[number].flags is PeFlag.NONE for number in NUMBERS)
    lab.write("/sys/bus/pci/rescan", "1")
    assert [one.number for one in lab.pe(LARGE).whole()] == sorted(NUMBERS)
    lab.parity(0, 2)
    assert lab.frozen(0) == NUMBERS


# all that is behind a bridge to conventional PCI


def test_functions_behind_a_bridge_share_an_endpoint(lab: Lab) -> None:
    """``pnv_pci_configure_bus``: it has the bus and all buses behind; a group, as they are not told apart."""
    pes = {lab.pe(name) for name in CONVENTIONAL}
    assert len(pes) == 1
    (pe,) = pes
    assert pe.flags == PeFlag.BUS_ALL
    assert {lab.phb(1).rids[rid] for rid in range(0x200, 0x300)} == {pe.number}
    assert len({lab.attr(name, "eeh_pe_config_addr") for name in CONVENTIONAL}) == 1
    groups = {lab.host.readlink(f"{BUS}/devices/{name}/iommu_group").rsplit("/", 1)[-1] for name in CONVENTIONAL}
    assert len(groups) == 1
    assert lab.pe(BRIDGE) is not pe
    owners = lab.phb(1).windows.m32.owners
    m32 = lab.bridge(1).m32
    starts = [lab.device(name).resources[0].start for name in CONVENTIONAL]
    assert {owners[(start - m32.base) // m32.segment_size] for start in starts} == {pe.number}


def test_an_error_of_one_is_one_of_all(lab: Lab) -> None:
    """All go, are reset and come back; what is behind other bridges works meanwhile."""
    number = lab.pe(CONVENTIONAL[0]).number
    lab.parity(1, number)
    lab.machine.clock.advance(0)
    assert lab.frozen(1) == {number}
    assert [lab.there(name) for name in (BRIDGE, *CONVENTIONAL, OTHER)] == [True, False, False, False, True]
    lab.machine.clock.advance(60)
    assert lab.frozen(1) == set()
    assert all(lab.attr(name, "eeh_pe_state") == "0x00000078 0x00000800" for name in CONVENTIONAL)
    assert {lab.pe(name).number for name in CONVENTIONAL} == {number}


def test_an_error_of_the_bridge_takes_them_along(lab: Lab) -> None:
    """``pnv_ioda_set_peltv``.  Firmware tells of the lower one first, and Linux loses that (``pnv_eeh_get_pe``)."""
    bridge, below = (lab.pe(name).number for name in (BRIDGE, CONVENTIONAL[0]))
    assert lab.phb(1).endpoints.taken_along(bridge) == {below, bridge}
    lab.parity(1, bridge)
    lab.machine.clock.advance(120)
    assert lab.frozen(1) == {bridge, below}
    lab.write("/sys/kernel/debug/powerpc/eeh_force_recover", f"1:{bridge:x}")
    lab.machine.clock.advance(120)
    assert lab.frozen(1) == set()
    assert {lab.pe(name).number for name in CONVENTIONAL} == {below}


def test_a_program_needs_all_of_them(lab: Lab) -> None:
    """Whoever opens one has the endpoint of all: its errors are theirs."""
    for name in CONVENTIONAL:
        lab.take(name)
    device = lab.open(CONVENTIONAL[0], iommu=abi.VFIO_SPAPR_TCE_v2_IOMMU)
    others = [device.get(name) for name in CONVENTIONAL[1:]]
    for fd in (device.fd, *others):
        lab.host.pwrite(fd, b"\x02\x00", abi.VFIO_PCI_CONFIG_REGION_INDEX << 40 | regs.PCI_COMMAND)
    assert lab.host.pread(others[1], 4, 0) == b"\xed\x00\x00\x01"
    lab.parity(1, lab.pe(CONVENTIONAL[0]).number)
    assert [lab.host.pread(fd, 4, 0) for fd in (device.fd, *others)] == [ONES] * 3
    op = spapr.EehPeOp.sized(op=spapr.VFIO_EEH_PE_ENABLE)
    assert lab.host.ioctl(device.container, spapr.VFIO_EEH_PE_OP, op) == 0
    assert lab.host.pread(others[1], 4, 0) == b"\xed\x00\x00\x01"
    for fd in others:
        lab.host.close(fd)
    device.close()
