"""Resets by the firmware's calls: what they reset, what stays frozen, what they answer meanwhile."""

from __future__ import annotations

import pytest
from ioda_rig import PE_A, PE_B, ROOT, IodaRig, rig

from pyvfio.abi import opal as api
from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.eeh import EehErrorFunction
from pyvfio.abi.opal import OpalFreezeState, OpalReset
from pyvfio.abi.pci_extended_regs import PCI_ERR_UNC_UNSUP, PCI_ERR_UNCOR_STATUS, PCI_EXT_CAP_ID_ERR
from pyvfio.ioda.tce import TceAccess
from pyvfio_backends.software.hardware.pcie.upstream import Source

ASSERT, DEASSERT = api.OPAL_ASSERT_RESET, api.OPAL_DEASSERT_RESET


def finish(r: IodaRig, code: int, slot: int = 0) -> tuple[int, int]:
    """Poll until it is done: the last answer, and the milliseconds in all."""
    waited = 0
    while code > 0:
        waited += code
        code = r.opal.pci_poll(slot)
    return code, waited


def sticky(r: IodaRig) -> int:
    at = r.a.offset(PCI_EXT_CAP_ID_ERR, extended=True)
    assert at is not None
    return r.a.config.read(at + PCI_ERR_UNCOR_STATUS, 4)


def mark(r: IodaRig) -> None:
    at = r.a.offset(PCI_EXT_CAP_ID_ERR, extended=True)
    assert at is not None
    r.a.config.put(at + PCI_ERR_UNCOR_STATUS, 4, PCI_ERR_UNC_UNSUP)


@pytest.mark.parametrize(
    ("scope", "milliseconds", "kept"), [(OpalReset.PCI_HOT, 2000, True), (OpalReset.PCI_FUNDAMENTAL, 250, False)]
)
def test_hot_and_fundamental(scope: OpalReset, milliseconds: int, kept: bool) -> None:
    """A frozen endpoint stays so until it is cleared (pnv_eeh_reset); a fundamental reset clears sticky bits too."""
    r = rig()
    r.phb.parity(PE_A)
    mark(r)
    log = len(r.phb.endpoints.log)
    code = r.opal.pci_reset(0, scope, ASSERT)
    assert code > 0
    assert r.opal.pci_config_read(0, 0x400, 0, 4) == (api.OPAL_HARDWARE, 0xFFFFFFFF)
    assert r.phb.config_read(0, 0x400, 0, 4) == 0xFFFFFFFF
    assert r.opal.pci_config_read(0, 0, 0, 4) == (0, 0x03DC1014)
    assert finish(r, code) == (api.OPAL_SUCCESS, milliseconds)
    assert r.opal.pci_reset(0, OpalReset.PCI_HOT, DEASSERT) == api.OPAL_SUCCESS
    assert not r.a.config.command & regs.PCI_COMMAND_MEMORY
    assert bool(sticky(r)) is kept
    assert r.phb.endpoints.frozen == r.phb.endpoints.stopped == {PE_A}
    assert len(r.phb.endpoints.log) == log


def test_an_empty_slot() -> None:
    r = rig()
    r.phb.port.unplug()
    r.phb.endpoints.clear_all()
    assert r.opal.pci_reset(0, OpalReset.PCI_HOT, ASSERT) == api.OPAL_SUCCESS
    assert finish(r, r.opal.pci_reset(0, OpalReset.PCI_FUNDAMENTAL, ASSERT))[0] == api.OPAL_HARDWARE
    assert not r.phb.held


def test_a_complete_reset_ends_a_fence() -> None:
    """Tables stay as software set them up (phb4_ioda_reset without purge); the root port starts over."""
    r = rig()
    assert r.opal.pci_err_inject(0, PE_B, 0, EehErrorFunction.LD_CFG_ADDR, 0, 0) == api.OPAL_SUCCESS
    r.phb.parity(PE_A)
    r.phb.parity()
    assert r.opal.pci_reset(0, OpalReset.PCI_HOT, ASSERT) == api.OPAL_HARDWARE
    code, waited = finish(r, r.opal.pci_reset(0, OpalReset.PHB_COMPLETE, ASSERT))
    assert code == api.OPAL_SUCCESS
    assert waited == 260
    assert r.phb.injector.armed is None
    assert not r.phb.fenced
    assert not r.phb.endpoints.troubled()
    assert r.phb.port.config.data[bridge_regs.PCI_SECONDARY_BUS] == 0
    assert r.phb.rids[0x300] == PE_A
    assert r.phb.inbound.entries[2 * PE_B] is not None
    assert r.opal.pci_eeh_freeze_status(0, ROOT).state == OpalFreezeState.NOT_FROZEN


def test_a_complete_reset_forgets_what_was_read_of_tables() -> None:
    """The bridge begins anew, and reads entries again that nobody said were old."""
    r = rig()
    rid = r.a.rid
    r.a.dma_read(0, 4)
    other = r.real(PE_A) + 0x2000
    r.memory.write(other, b"new")
    r.tables[PE_A].set(0, other, TceAccess.READ)
    finish(r, r.opal.pci_reset(0, OpalReset.PHB_COMPLETE, ASSERT))
    assert r.phb.inbound.read(Source(0, rid), 0, 3) == b"new"


def test_the_bus_of_a_bridge_below() -> None:
    r = rig()
    slot = api.OPAL_SLOT_ID_PREFIX | r.down[1].rid << 16
    assert r.a.config.command & regs.PCI_COMMAND_MASTER
    assert finish(r, r.opal.pci_reset(slot, OpalReset.PCI_HOT, ASSERT), slot) == (api.OPAL_SUCCESS, 1250)
    assert not r.b.config.command & regs.PCI_COMMAND_MASTER
    assert r.a.config.command & regs.PCI_COMMAND_MASTER
    assert not r.phb.endpoints.troubled()
    for scope in (OpalReset.PHB_COMPLETE, OpalReset.PCI_IODA_TABLE, OpalReset.PHB_ERROR):
        assert r.opal.pci_reset(slot, scope, ASSERT) == api.OPAL_UNSUPPORTED
    no_bridge = api.OPAL_SLOT_ID_PREFIX | r.a.rid << 16
    assert r.opal.pci_reset(no_bridge, OpalReset.PCI_HOT, ASSERT) == api.OPAL_PARAMETER


def test_all_tables() -> None:
    r = rig()
    r.phb.parity(PE_A)
    assert r.opal.pci_reset(0, OpalReset.PCI_IODA_TABLE, ASSERT) == api.OPAL_SUCCESS
    assert set(r.phb.rids) == {r.phb.model.reserved}
    assert set(r.phb.windows.m32.owners) == {0}
    assert set(r.phb.inbound.entries) == {None}
    assert not r.phb.endpoints.troubled()
    r.phb.parity(ROOT)
    assert r.phb.endpoints.frozen == {ROOT}


def test_resets_that_are_refused() -> None:
    r = rig()
    assert r.opal.pci_reset(7, OpalReset.PCI_HOT, ASSERT) == api.OPAL_PARAMETER
    assert r.opal.pci_reset(0, OpalReset.PCI_HOT, 2) == api.OPAL_PARAMETER
    assert r.opal.pci_reset(0, OpalReset.PCI_LINK, ASSERT) == api.OPAL_UNSUPPORTED
    assert r.opal.pci_poll(7) == api.OPAL_PARAMETER
    assert r.opal.pci_poll(0) == api.OPAL_SUCCESS
    assert r.opal.pci_reset(0, OpalReset.PCI_HOT, ASSERT) > 0
    assert r.opal.pci_reset(0, OpalReset.PCI_HOT, ASSERT) == api.OPAL_HARDWARE
