"""``VFIO_EEH_PE_OP`` on frozen endpoints, where the lab's kernel could show only ones that work.

Sources: ``drivers/vfio/vfio_iommu_spapr_tce.c`` (vfio_spapr_ioctl_eeh_pe_op), ``arch/powerpc/kernel/eeh.c``,
``platforms/powernv/{eeh-powernv,pci}.c`` of Linux 6.12; the function is named.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from eeh_rig import EDU, LEFT, RIGHT, V2, EehRig, Opened
from pci_fixture import BUS, EVENTFD, TRIGGER, Device, errno_of

import pyvfio
from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_spapr as spapr
from pyvfio.abi.eeh_state import EehPeFlag
from pyvfio.abi.vfio_spapr import EehState
from pyvfio.ioda import Pe

IDENTITY = 0x010000ED


@pytest.fixture
def rig() -> Iterator[EehRig]:
    rig = EehRig()
    with rig.host:
        yield rig


@pytest.fixture
def program(rig: EehRig) -> Opened:
    return Opened(rig)


def test_from_frozen_to_normal(program: Opened) -> None:
    """``eeh_pe_get_state``, ``eeh_pe_set_option``: loads go first, then DMA."""
    assert program.load() == IDENTITY
    program.freeze()
    assert (program.state, program.load()) == (EehState.STOPPED, 0xFFFFFFFF)
    program.op(spapr.VFIO_EEH_PE_UNFREEZE_IO)
    assert (program.state, program.load()) == (EehState.STOPPED_DMA, IDENTITY)
    program.op(spapr.VFIO_EEH_PE_UNFREEZE_DMA)
    assert program.state == EehState.NORMAL


def test_enable_thaws(program: Opened) -> None:
    """``eeh_pe_change_owner``."""
    program.freeze()
    program.op(spapr.VFIO_EEH_PE_ENABLE)
    assert (program.state, program.load()) == (EehState.NORMAL, IDENTITY)


def test_disable_does_nothing(program: Opened) -> None:
    """``eeh_pe_set_option``: EEH_OPT_DISABLE."""
    program.freeze()
    program.op(spapr.VFIO_EEH_PE_DISABLE)
    assert program.state == EehState.STOPPED


@pytest.mark.parametrize("operation", [spapr.VFIO_EEH_PE_RESET_HOT, spapr.VFIO_EEH_PE_RESET_FUNDAMENTAL])
def test_a_reset_keeps_it_frozen_until_registers_are_back(rig: EehRig, program: Opened, operation: int) -> None:
    """``eeh_pe_reset``: frozen, configuration blocked; then registers come back, and it is thawed."""
    bars = rig.bytes(f"{BUS}/devices/{EDU}/config", 64)[0x10:0x28]
    program.freeze()
    assert program.op(operation) == 0
    assert program.state == EehState.STOPPED
    assert rig.eeh_pe(EDU).flags & EehPeFlag.CFG_BLOCKED
    assert rig.bytes(f"{BUS}/devices/{EDU}/config", 64) == b"\xff" * 64
    assert errno_of(program.device.read, 1, regs.PCI_CACHE_LINE_SIZE) == "ENODEV"
    assert errno_of(program.device.write, b"\x10", regs.PCI_CACHE_LINE_SIZE) == "ENODEV"
    assert rig.hardware(EDU).config.data[0x10:0x28] == bytes(24)  # it was reset
    assert program.op(spapr.VFIO_EEH_PE_RESET_DEACTIVATE) == 0
    assert program.op(spapr.VFIO_EEH_PE_CONFIGURE) == 0
    assert program.state == EehState.NORMAL
    assert rig.eeh_pe(EDU).flags == EehPeFlag.PRI_BUS
    assert rig.bytes(f"{BUS}/devices/{EDU}/config", 64)[0x10:0x28] == bars
    assert program.load() == IDENTITY


def test_who_leaves_during_a_reset_leaves_it_blocked(rig: EehRig, program: Opened) -> None:
    """``eeh_pe_change_owner`` thaws, and does not clear what blocks configuration; the next owner can."""
    program.op(spapr.VFIO_EEH_PE_RESET_HOT)
    program.device.close()
    assert not program.phb.endpoints.troubled()
    assert rig.eeh_pe(EDU).flags & EehPeFlag.CFG_BLOCKED
    assert rig.bytes(f"{BUS}/devices/{EDU}/config", 64) == b"\xff" * 64
    again = Device(rig, EDU, iommu=V2)
    request = spapr.EehPeOp.sized(op=spapr.VFIO_EEH_PE_RESET_DEACTIVATE)
    assert rig.host.ioctl(again.container, spapr.VFIO_EEH_PE_OP, request) == 0
    assert rig.eeh_pe(EDU).flags == EehPeFlag.PRI_BUS
    assert rig.bytes(f"{BUS}/devices/{EDU}/config", 2) == b"\x34\x12"


def test_a_reset_of_what_works(program: Opened) -> None:
    """``eeh_pe_reset``: it is frozen for the time of the reset, whatever it was."""
    program.op(spapr.VFIO_EEH_PE_RESET_HOT)
    assert program.load() == 0xFFFFFFFF
    program.op(spapr.VFIO_EEH_PE_RESET_DEACTIVATE)
    assert program.load() == IDENTITY


def test_a_reset_behind_a_switch_leaves_others_alone(rig: EehRig) -> None:
    """``pnv_eeh_bridge_reset``: of the port above only."""
    device = rig.open(LEFT, iommu=V2)
    marked = rig.hardware(RIGHT).config
    marked.write(regs.PCI_INTERRUPT_LINE, 1, 0x77)
    rig.hardware(LEFT).config.write(regs.PCI_INTERRUPT_LINE, 1, 0x77)
    request = spapr.EehPeOp.sized(op=spapr.VFIO_EEH_PE_RESET_HOT)
    assert rig.host.ioctl(device.container, spapr.VFIO_EEH_PE_OP, request) == 0
    assert marked.read(regs.PCI_INTERRUPT_LINE, 1) == 0x77
    assert rig.hardware(LEFT).config.read(regs.PCI_INTERRUPT_LINE, 1) == 0
    assert rig.phb(0).endpoints.frozen == {rig.eeh_pe(LEFT).address}
    assert rig.works(RIGHT)


def test_an_injected_error_strikes_once(program: Opened) -> None:
    """``eeh_pe_inject_err``: PHB4 takes those of configuration only."""
    program.inject(0, 4)
    assert program.state == EehState.NORMAL
    program.device.read(1, regs.PCI_CACHE_LINE_SIZE)
    assert program.state == EehState.STOPPED
    program.op(spapr.VFIO_EEH_PE_ENABLE)
    program.device.read(1, regs.PCI_CACHE_LINE_SIZE)
    assert program.state == EehState.NORMAL


def test_injections_of_an_older_bridge() -> None:
    """PHB3 takes loads and stores, and DMA (``phb3_err_inject`` of skiboot)."""
    rig = EehRig("PHB3")
    with rig.host:
        program = Opened(rig)
        assert program.inject(0, 0) == 0
        assert program.load() == 0xFFFFFFFF
        assert program.state == EehState.STOPPED


@pytest.mark.parametrize(
    ("type_", "function", "error"),
    [(0, 20, "EINVAL"), (0, 0xFFFFFFFF, "EINVAL"), (2, 4, "ERANGE"), (0xFFFFFFFF, 4, "ERANGE"), (0, 2, "EIO")],
)
def test_injections_that_cannot_be(program: Opened, type_: int, function: int, error: str) -> None:
    """The function is looked at first (``eeh_pe_inject_err``), then the type (``pnv_eeh_err_inject``)."""
    assert errno_of(program.inject, type_, function) == error
    assert errno_of(program.inject, 2, 20) == "EINVAL"


def test_the_grammar(program: Opened) -> None:
    """``vfio_spapr_ioctl_eeh_pe_op``: 12 bytes, all of it for an injection; no flags; ten operations."""
    get = spapr.VFIO_EEH_PE_GET_STATE
    assert program.op(get, argsz=12, size=12) == EehState.NORMAL
    assert program.op(get, argsz=1 << 20) == EehState.NORMAL
    assert errno_of(program.op, get, argsz=11) == "EINVAL"
    assert errno_of(program.op, get, flags=1 << 31) == "EINVAL"
    for operation in (10, 0xFFFFFFFF):
        assert errno_of(program.op, operation) == "EINVAL"
    assert errno_of(program.op, spapr.VFIO_EEH_PE_INJECT_ERR, argsz=39) == "EINVAL"
    assert program.rig.phb(2).injector.armed is None


def test_nobody_signals_the_error_interrupt(rig: EehRig) -> None:
    """The endpoint of an open function is "passed", so that drivers are not asked (``eeh_edev_actionable``).

    ``vfio_pci_core_aer_err_detected`` is never called for it: a program has to ask for the state.
    """
    device = rig.open(LEFT, iommu=V2)
    event = os.eventfd(0, os.EFD_NONBLOCK)
    device.set_irqs(EVENTFD | TRIGGER, abi.VFIO_PCI_ERR_IRQ_INDEX, 0, 1, event.to_bytes(4, "little"))
    with rig.machine.lock:
        rig.phb(0).parity(rig.eeh_pe(LEFT).address)
    rig.wait(100)
    with pytest.raises(BlockingIOError):
        os.eventfd_read(event)
    os.close(event)
    assert rig.phb(0).endpoints.frozen == {rig.eeh_pe(LEFT).address}


def test_a_fenced_bridge_takes_the_program_along(rig: EehRig, program: Opened) -> None:
    """``eeh_phb_check_failure`` finds it by a program's load, too; recovery leaves what is the program's frozen."""
    with rig.machine.lock:
        program.phb.fence_quietly()
    assert program.load() == 0xFFFFFFFF
    rig.wait(60)
    assert not program.phb.fenced
    assert program.phb.endpoints.frozen == {program.address}
    assert program.state == EehState.STOPPED
    program.op(spapr.VFIO_EEH_PE_ENABLE)
    assert program.state == EehState.NORMAL


def test_a_group_without_an_endpoint_in_eeh(rig: EehRig, program: Opened) -> None:
    """``eeh_iommu_group_to_pe``."""
    with rig.machine.lock:
        rig.eeh.by_device.clear()
    assert errno_of(program.op, spapr.VFIO_EEH_PE_GET_STATE) == "ENODEV"


def test_with_the_library(rig: EehRig) -> None:
    """`pyvfio.ioda.Pe` over the same machine."""
    with pyvfio.Host(rig.host) as host:
        pyvfio.bind(host.device(EDU))
        with pyvfio.open_device(host, EDU) as device:
            pe = Pe(device)
            assert pe.state is EehState.NORMAL
            with rig.machine.lock:
                rig.phb(2).parity(rig.eeh_pe(EDU).address)
            assert pe.state is EehState.STOPPED
            pe.reset()
            assert pe.state is EehState.NORMAL
