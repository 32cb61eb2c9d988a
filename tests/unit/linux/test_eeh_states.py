"""What ``VFIO_EEH_PE_GET_STATE`` answers, and when: each state, from what firmware says and Linux notes.

Sources: ``eeh_pe_get_state`` of ``arch/powerpc/kernel/eeh.c``, ``pnv_eeh_get_pe_state`` of
``platforms/powernv/eeh-powernv.c``, ``pnv_ioda_get_pe_state`` of ``platforms/powernv/pci-ioda.c`` (Linux 6.12);
``phb3_eeh_freeze_status`` and ``phb4_eeh_freeze_status`` of skiboot.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from eeh_rig import DEBUG, DOWNSTREAM, EDU, LEFT, OTHER, EehRig, Opened

from pyvfio.abi import opal as api
from pyvfio.abi import vfio_spapr as spapr
from pyvfio.abi.eeh_state import EehPeFlag
from pyvfio.abi.opal import OpalFreezeAction, OpalFreezeState
from pyvfio.abi.vfio_spapr import EehState
from pyvfio.ioda.operations import pe_state
from pyvfio_backends.software.hardware.ioda.opal import FreezeStatus, Opal


@pytest.fixture
def rig() -> Iterator[EehRig]:
    rig = EehRig()
    with rig.host:
        yield rig


@pytest.fixture
def program(rig: EehRig) -> Opened:
    return Opened(rig)


FIRMWARE = [
    (OpalFreezeState.NOT_FROZEN, spapr.VFIO_EEH_PE_STATE_NORMAL),
    (OpalFreezeState.MMIO_FREEZE, spapr.VFIO_EEH_PE_STATE_UNAVAIL),
    (OpalFreezeState.DMA_FREEZE, spapr.VFIO_EEH_PE_STATE_STOPPED_DMA),
    (OpalFreezeState.MMIO_DMA_FREEZE, spapr.VFIO_EEH_PE_STATE_STOPPED),
    (OpalFreezeState.RESET, spapr.VFIO_EEH_PE_STATE_RESET),
    (OpalFreezeState.TEMP_UNAVAIL, spapr.VFIO_EEH_PE_STATE_STOPPED),
    (OpalFreezeState.PERM_UNAVAIL, spapr.VFIO_EEH_PE_STATE_STOPPED),
]


@pytest.mark.parametrize(("said", "state"), FIRMWARE, ids=lambda one: getattr(one, "name", ""))
def test_what_firmware_says(
    program: Opened, monkeypatch: pytest.MonkeyPatch, said: OpalFreezeState, state: int
) -> None:
    """``pnv_eeh_get_pe_state``, ``eeh_pe_get_state``: what is not known has neither loads nor DMA, so it is 2."""
    monkeypatch.setattr(Opal, "pci_eeh_freeze_status", lambda opal, phb, endpoint: FreezeStatus(api.OPAL_SUCCESS, said))
    assert program.op(spapr.VFIO_EEH_PE_GET_STATE) == state
    assert pe_state(said) == state


def test_firmware_that_refuses(program: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """``pnv_ioda_get_pe_state``: temporarily unavailable."""
    monkeypatch.setattr(Opal, "pci_eeh_freeze_status", lambda opal, phb, endpoint: FreezeStatus(api.OPAL_HARDWARE))
    assert program.op(spapr.VFIO_EEH_PE_GET_STATE) == spapr.VFIO_EEH_PE_STATE_STOPPED


@pytest.mark.parametrize(
    ("action", "state"),
    [
        (OpalFreezeAction.MMIO, EehState.UNAVAIL),
        (OpalFreezeAction.DMA, EehState.STOPPED_DMA),
        (OpalFreezeAction.ALL, EehState.STOPPED),
    ],
)
def test_what_is_frozen(rig: EehRig, program: Opened, action: OpalFreezeAction, state: EehState) -> None:
    """``eeh_pe_get_state``, from the host bridge's own state; the library says the same from sysfs."""
    with rig.machine.lock:
        rig.opal.pci_eeh_freeze_set(2, program.address, action)
    assert program.state is state
    with rig.machine.lock:
        rig.opal.pci_eeh_freeze_clear(2, program.address, OpalFreezeAction.ALL)
    assert program.state is EehState.NORMAL


@pytest.mark.parametrize("operation", [spapr.VFIO_EEH_PE_RESET_HOT, spapr.VFIO_EEH_PE_RESET_FUNDAMENTAL])
@pytest.mark.parametrize("model", ["PHB3", "PHB4"])
def test_bare_metal_never_says_reset(monkeypatch: pytest.MonkeyPatch, model: str, operation: int) -> None:
    """A reset that a program has begun reads as STOPPED until it ends it: Linux freezes the endpoint first.

    ``eeh_pe_reset`` (EEH_OPT_FREEZE_PE); skiboot's host bridges tell of what is frozen only, never of
    OPAL_EEH_STOPPED_RESET.
    """
    rig = EehRig(model)
    said: set[int] = set()
    real = Opal.pci_eeh_freeze_status

    def noted(opal: Opal, phb: int, endpoint: int) -> FreezeStatus:
        status = real(opal, phb, endpoint)
        said.add(status.state)
        return status

    monkeypatch.setattr(Opal, "pci_eeh_freeze_status", noted)
    with rig.host:
        program = Opened(rig)
        for _ in range(2):
            assert program.op(operation) == 0
            assert program.state is EehState.STOPPED
            rig.wait(1)
            assert program.state is EehState.STOPPED
            assert program.op(spapr.VFIO_EEH_PE_RESET_DEACTIVATE) == 0
            assert program.state is EehState.NORMAL
    assert OpalFreezeState.MMIO_DMA_FREEZE in said
    assert max(said) < OpalFreezeState.RESET


def test_what_linux_resets_itself_reads_as_normal(rig: EehRig, program: Opened) -> None:
    """``pnv_eeh_get_pe_state``: while EEH_PE_RESET is noted, whatever the hardware says."""
    with rig.machine.lock:
        rig.phb(2).parity(program.address)
        rig.eeh_pe(EDU).flags |= EehPeFlag.RESET
    assert program.state is EehState.NORMAL
    rig.eeh_pe(EDU).flags &= ~EehPeFlag.RESET
    assert program.state is EehState.STOPPED


@pytest.mark.parametrize("flag", [EehPeFlag.ISOLATED, EehPeFlag.RECOVERING])
def test_unavailable_while_linux_is_at_what_is_above(rig: EehRig, flag: EehPeFlag) -> None:
    """``eeh_pe_get_state``: the endpoint above is isolated or being recovered; not of what is gone for good."""
    program = Opened(rig, LEFT)
    above = rig.eeh_pe(DOWNSTREAM)
    above.flags |= flag
    assert program.state is EehState.UNAVAIL
    with rig.machine.lock:
        rig.phb(0).parity(program.address)
    assert program.state is EehState.UNAVAIL
    rig.eeh_pe(LEFT).flags |= EehPeFlag.REMOVED
    assert program.state is EehState.STOPPED
    rig.eeh_pe(LEFT).flags &= ~EehPeFlag.REMOVED
    above.flags &= ~flag
    assert program.state is EehState.STOPPED


def test_unavailable_until_a_fenced_bridge_is_back(rig: EehRig, program: Opened) -> None:
    """The same, of the endpoint that stands for the host bridge; then what is the program's is frozen."""
    seen = []
    with rig.machine.lock:
        program.phb.fence()
    rig.wait(0)
    for _ in range(80):
        seen.append(program.state)
        rig.wait(0.25)
    changes = [one for one, before in zip(seen, [None, *seen], strict=False) if one is not before]
    assert changes == [EehState.UNAVAIL, EehState.STOPPED]


def test_a_dead_bridge(rig: EehRig, program: Opened) -> None:
    """Firmware refuses; Linux has isolated the bridge, and waits for the program to leave."""
    with rig.machine.lock:
        program.phb.kill()
    rig.wait(0)
    assert program.state is EehState.UNAVAIL


def test_with_a_program_on_another_bridge(rig: EehRig) -> None:
    """What happens to others is not told."""
    program = Opened(rig, OTHER)
    rig.strike(LEFT)
    rig.write(f"{DEBUG}/eeh_dev_break", EDU)
    assert program.state is EehState.NORMAL
    rig.wait(60)
    assert program.state is EehState.NORMAL
