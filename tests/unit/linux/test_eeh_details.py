"""What Linux' EEH writes to its log, which functions it asks, and how it resets what cannot be asked while frozen.

Source of each rule: ``arch/powerpc/kernel/eeh*.c``, ``platforms/powernv/eeh-powernv.c`` of Linux 6.12.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from eeh_rig import DEBUG, EDU, LEFT, OTHER, RIGHT, RIGHT1, UPSTREAM, EehRig
from pci_fixture import errno_of
from pnv_fixture import Pnv

from pyvfio.abi import opal_diag
from pyvfio.abi import pci_capability_regs as capability_regs
from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.abi.eeh_state import EehPeFlag, EehPlatformState
from pyvfio.ioda.diagnosis import Diagnosis
from pyvfio.ioda.diagnosis_text import parse_messages
from pyvfio_backends.software.description import HostSpec
from pyvfio_backends.software.linux import eeh as eeh_module
from pyvfio_backends.software.linux.eeh import EEH, ResetKind
from pyvfio_backends.software.linux.eeh_log import phb_log
from pyvfio_backends.software.linux.eeh_pe import ACTIVE, EehDev
from pyvfio_backends.software.linux.kernel_log import kernel_log
from pyvfio_backends.software.linux.pci_device import ErrorState
from pyvfio_backends.software.linux.pci_driver import Recovery

NOBODYS = 0x20
"""An endpoint that no function has."""


@pytest.fixture
def rig() -> Iterator[EehRig]:
    rig = EehRig()
    with rig.host:
        yield rig


# the kernel's log


def test_an_endpoint_that_nobody_knows_is_thawed(rig: EehRig) -> None:
    """``pnv_eeh_next_error``: "Clear non-existing", with the number in hexadecimal."""
    with rig.machine.lock:
        rig.phb(2).parity(NOBODYS)
    rig.wait()
    at = rig.log.index("EEH: Clear non-existing PHB#2-PE#20")
    assert rig.log[at + 1] == "EEH: PHB location: N/A"
    assert rig.log[at + 2] == "PHB4 PHB#2 Diag-data (Version: 1)"
    assert not rig.phb(2).endpoints.troubled()
    assert rig.answers.asked == []


def test_what_drivers_said_is_summed_up_where_it_counts(rig: EehRig) -> None:
    """``eeh_pe_report``: nothing depends on what they say of their resuming."""
    rig.strike(RIGHT)
    ends = [line for line in rig.log if line.startswith("EEH: Finished:")]
    assert ends == [
        "EEH: Finished:'error_detected(IO frozen)' with aggregate recovery state:'can recover'",
        "EEH: Finished:'mmio_enabled' with aggregate recovery state:'can recover'",
        "EEH: Finished:'resume'",
    ]


@pytest.mark.parametrize("cmdline", ["quiet", "quiet eeh=early_log"])
def test_a_notice_of_the_bridge_is_written_once(cmdline: str) -> None:
    """``OPAL_EEH_SEV_INF``; nothing is frozen."""
    rig = EehRig(host=HostSpec(cmdline=cmdline))
    with rig.host:
        phb = rig.phb(2)
        with rig.machine.lock:
            phb.informative = True
            assert phb.on_error is not None
            phb.on_error()
        rig.wait()
        assert rig.log[0] == "EEH: PHB#2 informative error detected, location: N/A"
        assert sum("Diag-data" in line for line in rig.log) == 1
        assert not phb.informative


STOPPED = 1 << 63


@pytest.mark.parametrize("kind", [opal_diag.Phb3ErrorData, opal_diag.Phb4ErrorData])
@pytest.mark.parametrize("number", [2, 11, 0x1A])
def test_the_error_log_of_a_bridge_can_be_read_back(
    rig: EehRig, kind: type[opal_diag.PhbErrorData], number: int
) -> None:
    """``pnv_pci_dump_phb3_diag_data`` writes the bridge's number in hexadecimal, ``..._phb4_...`` in decimal."""
    alike = dict.fromkeys(range(5, 9), (STOPPED | 1, 2))
    endpoints = {1: (STOPPED, 0), **alike, 9: (STOPPED | 3, STOPPED), kind.ENDPOINTS - 1: (0, STOPPED)}
    said = {"brdgCtl": 2, "slotStatus": 5, "corrErrorStatus": 7, "tlpHdr4": 9, "sourceId": 0x1_0203}
    log = Diagnosis(kind.TYPE, said, endpoints)
    phb_log(rig.kernel, number, log.to_bytes())
    assert parse_messages(rig.log) == [(number, log)]
    frozen = [line for line in rig.log if line.startswith("PE[")]
    assert [line[:7] for line in frozen] == [
        "PE[001]",
        "PE[005]",
        "PE[..00",
        "PE[009]",
        f"PE[{kind.ENDPOINTS - 1:03x}]",
    ]
    assert frozen[2] == "PE[..008] A/B: as above"


def test_the_end_of_a_log_that_goes_on_alike(rig: EehRig) -> None:
    """``pnv_pci_dump_pest`` tells where a run ends with what follows: of the last, that is nowhere."""
    kind = opal_diag.Phb4ErrorData
    every = dict.fromkeys(range(kind.ENDPOINTS), (STOPPED, STOPPED))
    phb_log(rig.kernel, 0, Diagnosis(kind.TYPE, {}, every).to_bytes())
    assert rig.log[-1] == "PE[000] A/B: 8000000000000000 8000000000000000"


def test_a_thaw_that_firmware_refuses(rig: EehRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """``eeh_pci_enable`` and ``eeh_unfreeze_pe`` say so by their names."""
    rig.write(f"{DEBUG}/eeh_disable_recovery", "1")
    rig.bridge(1).endpoints.freeze(rig.eeh_pe(OTHER).address)
    assert rig.state(OTHER)[1] & EehPeFlag.ISOLATED
    monkeypatch.setattr(rig.bridge(1).endpoints, "unfreeze", lambda number, action: False)
    assert errno_of(rig.write, f"/sys/bus/pci/devices/{OTHER}/eeh_pe_state", "x") == "EIO"
    name = rig.eeh_pe(OTHER).name
    assert rig.log[-2:] == [
        f"eeh_pci_enable: Unexpected state change 2 on {name}, err=-5",
        f"eeh_unfreeze_pe: Failure -5 enabling IO on {name}",
    ]


def test_a_driver_that_goes_on_reading(rig: EehRig) -> None:
    """``EEH_MAX_FAILS`` reads of a frozen endpoint; the count begins anew with the next freeze."""
    rig.write(f"{DEBUG}/eeh_disable_recovery", "1")
    rig.strike(OTHER)
    dev, pe = rig.dev(OTHER), rig.eeh_pe(OTHER)
    assert rig.state(OTHER)[1] & EehPeFlag.ISOLATED
    pe.checks = 2100000 - 1
    assert rig.eeh.check_failure(dev)
    number = f"{pe.address:04x}"
    assert rig.log[-2:] == [
        f"PCI {OTHER}#{number}: EEH: 2100000 reads ignored for recovering device at location=unknown driver=answers",
        f"PCI {OTHER}#{number}: EEH: Might be infinite loop in answers driver",
    ]
    assert rig.eeh.check_failure(dev)
    assert pe.checks == 2100001
    assert len(rig.log) == rig.log.index(rig.log[-1]) + 1  # said once
    rig.write(f"/sys/bus/pci/devices/{OTHER}/eeh_pe_state", "thaw")
    assert pe.checks == 0


# who is asked, and what is believed


@pytest.mark.parametrize("text", ["-1:0:0.0", "+2:1:0.0", "2 :1:0.0", "00000000000000000002:1:0.0"])
def test_numbers_that_are_none(rig: EehRig, text: str) -> None:
    """As the POWER lab's kernel answered (``vsscanf``: no signs; 19 characters are looked at)."""
    assert errno_of(rig.write, f"{DEBUG}/eeh_dev_check", text) == "EINVAL"


@pytest.mark.parametrize(
    ("text", "name"), [("0x:1:0.0", UPSTREAM), ("100000002:1:0.0", EDU), ("2:1:0.0zz", EDU), ("2:1:20000000.0", EDU)]
)
def test_numbers_that_are_cut(rig: EehRig, text: str, name: str) -> None:
    """As the POWER lab's kernel answered: ``0x`` alone is 0, and of numbers 32 bits count."""
    assert rig.write(f"{DEBUG}/eeh_dev_check", text) == len(text)
    assert rig.log[-1].endswith(f"eeh_dev_check_failure({name}) = 0")


def test_a_group_answers_by_its_first_function(rig: EehRig) -> None:
    """``eeh_iommu_group_to_pe``: the others are not looked at."""
    group = rig.device(RIGHT).iommu_group
    assert group is not None
    assert rig.eeh.pe_of(group) is rig.eeh_pe(RIGHT)
    del rig.eeh.by_device[rig.device(RIGHT1)]
    assert rig.eeh.pe_of(group) is rig.eeh_pe(RIGHT)
    del rig.eeh.by_device[rig.device(RIGHT)]
    assert rig.eeh.pe_of(group) is None


@pytest.mark.parametrize("lost", [True, False])
def test_a_state_that_is_not_known(rig: EehRig, monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    """``eeh_dev_check_failure`` believes it of what is lost already, ``eeh_pe_change_owner`` of all."""
    monkeypatch.setattr(rig.eeh.platform, "state", lambda pe: EehPlatformState.NOT_SUPPORT)
    if lost:
        rig.device(OTHER).error_state = ErrorState.LOST
    rig.eeh.no_recover = True
    assert rig.eeh.change_owner(rig.eeh_pe(OTHER)) == 0
    assert rig.eeh.check_failure(rig.dev(OTHER)) is not lost
    assert rig.eeh.stats.false_positives == rig.eeh_pe(OTHER).false_positives == int(lost)
    assert bool(rig.eeh_pe(OTHER).flags & EehPeFlag.ISOLATED) is not lost


def test_events_of_a_bridge_go_together(rig: EehRig) -> None:
    """``eeh_remove_event``: a fenced bridge makes all of its endpoints' events needless, and no other's."""
    recovery = rig.eeh.recovery
    with rig.machine.lock:
        for name in (LEFT, OTHER, RIGHT):
            recovery.send_anyway(rig.eeh_pe(name))
        recovery.forget(rig.eeh.hosts[0].pe, force=True)
    rig.wait()
    assert {name for name, _, _ in rig.answers.asked} == {OTHER}


def test_what_a_program_has_keeps_its_marks(rig: EehRig) -> None:
    """``eeh_pe_state_clear`` without passed ones: neither the mark nor the state of its functions."""
    above, below = rig.eeh_pe(UPSTREAM), rig.eeh_pe(LEFT)
    below.passed = 1
    above.isolate()
    above.clear(EehPeFlag.ISOLATED, passed=False)
    assert not above.flags & EehPeFlag.ISOLATED
    assert below.flags & EehPeFlag.ISOLATED
    assert rig.device(LEFT).error_state is ErrorState.FROZEN
    above.clear(EehPeFlag.ISOLATED, passed=True)
    assert not below.flags & EehPeFlag.ISOLATED
    assert rig.device(LEFT).error_state is ErrorState.NORMAL


# registers


def test_reports_of_errors_are_as_firmware_set_them_up(rig: EehRig) -> None:
    """``eeh_restore_device_bars``: PERR and SERR are what they were at first, other bits what they are."""
    reports = regs.PCI_COMMAND_PARITY | regs.PCI_COMMAND_SERR
    first = rig.dev(RIGHT).config[1]
    assert first & reports == regs.PCI_COMMAND_SERR
    for answer in (Recovery.CAN_RECOVER, Recovery.NEED_RESET):
        rig.answers.said[RIGHT, "error_detected"] = answer
        device = rig.device(RIGHT)
        device.write_config(regs.PCI_COMMAND, 2, device.command & ~reports | regs.PCI_COMMAND_PARITY)
        rig.strike(RIGHT)
        rig.wait()
        assert device.command & reports == regs.PCI_COMMAND_SERR
        assert device.command & regs.PCI_COMMAND_MEMORY


def test_what_cannot_be_asked_while_frozen_gets_what_was_found_at_first(
    rig: EehRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``eeh_dev_save_state``, ``eeh_dev_restore_state`` of adapters with ``EEH_PE_CFG_RESTRICTED`` (BCM5719)."""
    device = rig.device(EDU)
    monkeypatch.setattr(eeh_module, "_RESET_FIRST", {(device.vendor, device.device_id)})
    rig.eeh_pe(EDU).flags |= EehPeFlag.CFG_RESTRICTED
    rig.give_vfio(EDU)
    rig.write(f"{DEBUG}/eeh_disable_recovery", "1")
    bars = bytes(rig.hardware(EDU).config.data[0x10:0x28])
    rig.strike(EDU)
    assert rig.state(EDU)[1] & EehPeFlag.CFG_BLOCKED
    rig.open(EDU, iommu=abi.VFIO_SPAPR_TCE_v2_IOMMU)
    assert not rig.phb(2).endpoints.frozen
    assert rig.hardware(EDU).config.data[0x10:0x28] == bars
    assert rig.state(EDU)[1] == EehPeFlag.PRI_BUS | EehPeFlag.CFG_RESTRICTED


# resets


def test_a_slot_that_is_not_well_after_a_reset_is_reset_again(rig: EehRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """``eeh_pe_reset_full``: three times at the most; what the last one left it in is in the log, and no failure."""
    pe, half = rig.eeh_pe(OTHER), EehPlatformState.MMIO_ACTIVE
    states, steps = [half, EehPlatformState(0), ACTIVE], [0, 0, -errno.EIO, 0, 0]
    monkeypatch.setattr(rig.eeh, "wait_state", lambda pe, seconds: states.pop(0))
    monkeypatch.setattr(rig.eeh.resets, "step", lambda pe, kind, *, passed: steps.pop(0))
    assert rig.eeh.resets.full(pe, passed=True) == 0
    assert rig.log == [
        f"EEH: {pe.name}: Slot inactive after reset: {half:#x} (attempt 1)",
        f"EEH: Failure {half:d} resetting {pe.name} (attempt 2)\n",
        f"EEH: {pe.name}: Successful reset (attempt 3)",
        f"EEH: {pe.name}: Slot inactive after reset: 0x0 (attempt 3)",
    ]
    assert states == [ACTIVE]
    assert not steps
    assert pe.flags == EehPeFlag.PRI_BUS


# resets of virtual functions


class Registers:
    """Configuration space of a virtual function, in which requests are pending for so many looks."""

    def __init__(self, capabilities: dict[int, int], pending: dict[int, list[int]]) -> None:
        self.capabilities, self.pending = capabilities, pending
        self.written: list[tuple[int, int]] = []

    def read(self, dev: EehDev, where: int, size: int) -> int:
        looks = self.pending.get(where)
        if looks:
            return looks.pop(0)
        return self.capabilities.get(where, 0)

    def write(self, dev: EehDev, where: int, size: int, value: int) -> None:
        self.written.append((where, value))


AF = 0xA0
AF_BOTH = capability_regs.PCI_AF_CAP_TP | capability_regs.PCI_AF_CAP_FLR
BUSY = capability_regs.PCI_AF_STATUS_TP << 8


@pytest.mark.parametrize(
    ("advanced", "capability", "code"),
    [
        (0, 0, -errno.ENOTTY),
        (AF, capability_regs.PCI_AF_CAP_FLR, -errno.ENOTTY),  # cannot tell whether anything is pending
        (AF, AF_BOTH, 0),
    ],
)
def test_a_virtual_function_without_pci_express(
    monkeypatch: pytest.MonkeyPatch, advanced: int, capability: int, code: int
) -> None:
    """``pnv_eeh_do_flr``, ``pnv_eeh_do_af_flr``: the status of the function says nothing of its resets."""
    lab = Pnv("power9-phb4")
    with lab.host:
        lab.write("/sys/bus/pci/devices/0002:01:00.0/sriov_numvfs", "1")
        eeh = lab.kernel.subsystems[EEH]
        dev = eeh.by_device[lab.device("0002:01:10.0")]
        dev.express, dev.advanced = 0, advanced
        known = {regs.PCI_EXP_DEVCAP: regs.PCI_EXP_DEVCAP_FLR, AF + capability_regs.PCI_AF_CAP: capability}
        registers = Registers(known, {AF + capability_regs.PCI_AF_CTRL: [BUSY, BUSY]})
        monkeypatch.setattr(eeh.platform, "read_config", registers.read)
        monkeypatch.setattr(eeh.platform, "write_config", registers.write)
        before = lab.kernel.clock.now
        assert dev.pe is not None
        with lab.machine.lock:
            assert eeh.platform.resets.step(dev.pe, ResetKind.HOT) == code
        if code:
            assert not registers.written
            return
        assert round(lab.kernel.clock.now - before, 3) == 0.1 + 0.2 + 0.25  # two looks, and the reset
        with lab.machine.lock:
            assert eeh.platform.resets.step(dev.pe, ResetKind.DEACTIVATE) == 0
        at = AF + capability_regs.PCI_AF_CTRL
        assert registers.written == [(at, capability_regs.PCI_AF_CTRL_FLR), (at, 0)]


def test_a_virtual_function_that_is_never_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """``pnv_eeh_wait_for_pending``: after 1.5 seconds it is reset nevertheless."""
    lab = Pnv("power9-phb4")
    with lab.host:
        lab.write("/sys/bus/pci/devices/0002:01:00.0/sriov_numvfs", "1")
        eeh = lab.kernel.subsystems[EEH]
        dev = eeh.by_device[lab.device("0002:01:10.0")]
        known = {dev.express + regs.PCI_EXP_DEVCAP: regs.PCI_EXP_DEVCAP_FLR}
        known[dev.express + regs.PCI_EXP_DEVSTA] = regs.PCI_EXP_DEVSTA_TRPND
        registers = Registers(known, {})
        monkeypatch.setattr(eeh.platform, "read_config", registers.read)
        monkeypatch.setattr(eeh.platform, "write_config", registers.write)
        before = lab.kernel.clock.now
        assert dev.pe is not None
        with lab.machine.lock:
            assert eeh.platform.resets.step(dev.pe, ResetKind.HOT) == 0
        assert round(lab.kernel.clock.now - before, 3) == 1.75
        assert registers.written == [(dev.express + regs.PCI_EXP_DEVCTL, regs.PCI_EXP_DEVCTL_BCR_FLR)]
        last = kernel_log(lab.kernel).lines[-1]
        assert last == "pnv_eeh_wait_for_pending: Pending transaction while issuing FLR to 0002:01:10.0"
