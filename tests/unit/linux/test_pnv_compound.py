"""Endpoints of several segments of 64-bit memory: a master and its slaves, which stand and fall together.

Source: ``pnv_ioda_pick_m64_pe``, ``pnv_ioda_set_peltv``, ``pnv_ioda_freeze_pe``, ``pnv_ioda_release_pe`` in
``arch/powerpc/platforms/powernv/pci-ioda.c``, ``pnv_eeh_get_pe`` in ``eeh-powernv.c`` (Linux 6.12).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from eeh_rig import DEBUG, OTHER, EehRig

from pyvfio.abi.eeh_state import EehPeFlag, EehPlatformState
from pyvfio.abi.opal import OpalFreezeAction, OpalFreezeState
from pyvfio_backends.software import phb_tree
from pyvfio_backends.software.linux.pnv_pe import PeFlag

SEGMENT = 8 << 10
BAR4 = 4
"""64 bits wide, prefetchable, 16 KiB."""
MASTER, SLAVE, PORT = 0, 1, 0xFE


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[EehRig]:
    """Host bridges whose segments of 64-bit memory are smaller than what functions have of it."""
    monkeypatch.setattr(phb_tree, "_M64_SIZE", 256 * SEGMENT)
    rig = EehRig()
    with rig.host:
        yield rig


def test_a_bus_with_two_segments_has_two_numbers(rig: EehRig) -> None:
    pe = rig.pe(OTHER)
    assert (pe.number, [one.number for one in pe.slaves]) == (MASTER, [SLAVE])
    assert pe.flags == PeFlag.MASTER | PeFlag.BUS
    assert pe.slaves[0].flags == PeFlag.SLAVE
    assert rig.eeh_pe(OTHER).address == MASTER
    taken = rig.phb(1).endpoints.taken_along
    assert taken(MASTER) == taken(SLAVE) == {MASTER, SLAVE}
    assert taken(PORT) >= {MASTER, SLAVE}
    rig.write(f"{DEBUG}/PCI0001/dump_ioda_pe_state", "1")
    assert any("[PE# 00]" in line and "bus master" in line for line in rig.log)
    assert any("[PE# 01]" in line and line.endswith("slave ") for line in rig.log)


@pytest.mark.parametrize("number", [MASTER, SLAVE])
def test_an_error_of_one_is_one_of_all(rig: EehRig, number: int) -> None:
    """The hardware freezes both by their vectors; Linux recovers the master."""
    rig.write(f"{DEBUG}/eeh_disable_recovery", "1")
    with rig.machine.lock:
        rig.phb(1).parity(number)
    assert rig.phb(1).endpoints.frozen == {MASTER, SLAVE}
    address = rig.device(OTHER).resources[BAR4].start
    assert [rig.phb(1).load(address + at, 4) for at in (0, SEGMENT)] == [0xFFFFFFFF] * 2
    rig.write(f"{DEBUG}/eeh_disable_recovery", "0")
    rig.write(f"{DEBUG}/eeh_force_recover", "hwcheck")
    rig.wait()
    assert rig.asked(OTHER) == ["error_detected", "mmio_enabled", "resume"]
    assert rig.works(OTHER)
    assert not rig.phb(1).endpoints.troubled()


def test_a_slave_that_is_frozen_alone(rig: EehRig) -> None:
    """Its state is the master's, who is frozen with it as soon as anybody asks."""
    rig.write(f"{DEBUG}/eeh_disable_recovery", "1")
    rig.opal.pci_eeh_freeze_set(1, SLAVE, OpalFreezeAction.ALL)
    known = rig.bridge(1).endpoints
    assert known.state(MASTER) == known.state(SLAVE) == OpalFreezeState.MMIO_DMA_FREEZE
    assert known.master_of(SLAVE) == known.master_of(MASTER) == MASTER
    assert rig.phb(1).endpoints.frozen == {SLAVE}
    assert rig.state(OTHER) == (0, EehPeFlag.PRI_BUS | EehPeFlag.ISOLATED)
    assert rig.phb(1).endpoints.frozen == {MASTER, SLAVE}
    rig.write(f"/sys/bus/pci/devices/{OTHER}/eeh_pe_state", "thaw")
    assert rig.state(OTHER) == (int(EehPlatformState(0x78)), EehPeFlag.PRI_BUS)
    assert not rig.phb(1).endpoints.troubled()


def test_numbers_are_free_again_when_it_goes(rig: EehRig) -> None:
    known = rig.bridge(1).endpoints
    before = [one.number for one in known]
    assert {MASTER, SLAVE} <= set(before)
    phb = rig.phb(1)
    assert phb.inbound.entries[2 * MASTER] is not None
    rig.write(f"/sys/bus/pci/devices/{OTHER}/remove", "1")
    assert not {MASTER, SLAVE} & {one.number for one in known}
    assert known.every[SLAVE].flags == PeFlag.NONE
    assert phb.inbound.entries[2 * MASTER : 2 * MASTER + 2] == [None, None]
    owners = phb.windows.m32.owners  # all begin as endpoint 0's; those that it was given are nobody's now
    assert owners == [phb.model.reserved] + [MASTER] * (len(owners) - 1)
    rig.write("/sys/bus/pci/rescan", "1")
    assert [one.number for one in known] == before
    assert [one.number for one in rig.pe(OTHER).slaves] == [SLAVE]
