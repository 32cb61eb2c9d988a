"""Recovery from frozen endpoints, with drivers that answer as they are told.

Source of each rule: ``arch/powerpc/kernel/eeh_driver.c`` of Linux 6.12 (the function is named), where no other is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from eeh_rig import DEBUG, DOWNSTREAM, EDU, LEFT, NET, OTHER, RIGHT, RIGHT1, UPSTREAM, EehRig
from pci_fixture import errno_of
from pnv_fixture import Pnv

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_spapr as spapr
from pyvfio.abi.eeh_state import EehDevMode, EehPeFlag, EehPlatformState
from pyvfio.abi.opal import OpalFreezeAction
from pyvfio_backends.software.linux.eeh import EEH
from pyvfio_backends.software.linux.eeh_pe import PeType
from pyvfio_backends.software.linux.eeh_report import merge
from pyvfio_backends.software.linux.pci_device import ErrorState
from pyvfio_backends.software.linux.pci_driver import Recovery

FROZEN, NORMAL = "frozen", "normal"


@pytest.fixture
def rig() -> Iterator[EehRig]:
    rig = EehRig()
    with rig.host:
        yield rig


def told(rig: EehRig) -> list[tuple[str, str]]:
    """The events of recovery: of which function, and what."""
    return [(event.name, event.properties["ERROR_EVENT"]) for event in rig.seen() if "ERROR_EVENT" in event.properties]


def test_all_functions_have_the_driver(rig: EehRig) -> None:
    assert {rig.device(name).driver.name for name in NET} == {"answers"}  # type: ignore[union-attr]
    assert [rig.eeh_pe(name).type for name in (LEFT, RIGHT, EDU)] == [PeType.DEVICE, PeType.BUS, PeType.DEVICE]
    assert rig.eeh_pe(LEFT).parent is rig.eeh_pe(DOWNSTREAM)
    assert rig.eeh_pe(DOWNSTREAM).parent is rig.eeh_pe(UPSTREAM)


def test_drivers_that_can_recover_need_no_reset(rig: EehRig) -> None:
    """``eeh_handle_normal_event``: loads go again, they look, DMA goes again, they go on."""
    rig.strike(RIGHT)
    assert rig.answers.asked == [
        (RIGHT, "error_detected", FROZEN),
        (RIGHT1, "error_detected", FROZEN),
        (RIGHT, "mmio_enabled", FROZEN),
        (RIGHT1, "mmio_enabled", FROZEN),
        (RIGHT, "resume", NORMAL),
        (RIGHT1, "resume", NORMAL),
    ]
    assert rig.works(RIGHT)
    assert rig.eeh_pe(RIGHT).freezes == 1
    assert rig.log[-1] == "EEH: Recovery successful."
    assert rig.kernel.clock.now == 0  # nothing to wait for


def test_others_are_not_concerned(rig: EehRig) -> None:
    """``eeh_pe_dev_traverse``: what is asked is of the endpoint, and of those below it."""
    rig.strike(RIGHT)
    rig.wait()
    assert {name for name, _, _ in rig.answers.asked} == {RIGHT, RIGHT1}
    assert [rig.eeh_pe(name).freezes for name in (LEFT, OTHER, EDU)] == [0, 0, 0]


def test_one_that_needs_a_reset_has_all_reset(rig: EehRig) -> None:
    """``pci_ers_merge_result``, then ``eeh_reset_device`` and ``eeh_report_reset``."""
    rig.answers.said[RIGHT, "error_detected"] = Recovery.NEED_RESET
    rig.strike(RIGHT)
    assert rig.asked(RIGHT1) == ["error_detected"]
    assert rig.state(RIGHT)[1] & EehPeFlag.RESET
    rig.wait()
    assert [rig.asked(name) for name in (RIGHT, RIGHT1)] == [["error_detected", "slot_reset", "resume"]] * 2
    assert rig.works(RIGHT)
    assert rig.works(RIGHT1)


@pytest.mark.parametrize("question", ["error_detected", "mmio_enabled", "slot_reset"])
def test_who_gives_up_has_all_taken_away(rig: EehRig, question: str) -> None:
    """The devices of the endpoint go, and nobody may look there again (``recover_failed``)."""
    if question == "slot_reset":
        rig.answers.said[RIGHT, "error_detected"] = Recovery.NEED_RESET
    rig.answers.said[RIGHT, question] = Recovery.DISCONNECT
    rig.strike(RIGHT)
    rig.wait()
    assert rig.answers.asked[-2:] == [(name, "error_detected", "permanent failure") for name in (RIGHT, RIGHT1)]
    assert not rig.there(RIGHT)
    assert not rig.there(RIGHT1)
    assert rig.dev(RIGHT).mode & EehDevMode.REMOVED
    rig.write("/sys/bus/pci/rescan", "1")
    assert not rig.there(RIGHT)
    assert rig.there(LEFT)


def test_events_tell_of_it(rig: EehRig) -> None:
    """``pci_uevent_ers``."""
    rig.strike(LEFT)
    rig.wait()
    assert told(rig) == [(LEFT, "BEGIN_RECOVERY"), (LEFT, "SUCCESSFUL_RECOVERY")]
    rig.answers.said[LEFT, "error_detected"] = Recovery.DISCONNECT
    rig.strike(LEFT)
    rig.wait()
    assert told(rig) == [(LEFT, "FAILED_RECOVERY")] * 2


# without a driver that takes part


def test_without_a_driver_the_device_goes_and_comes_back(rig: EehRig) -> None:
    """``eeh_reset_device``: unplugged, reset, and plugged in after five seconds."""
    rig.device(EDU).write_config(0x3C, 1, 0x77)
    before, place = rig.eeh_pe(EDU), [(one.start, one.size) for one in rig.device(EDU).resources]
    rig.strike(EDU)
    assert not rig.there(EDU)
    rig.wait(4)
    assert not rig.there(EDU)
    rig.wait(26)
    assert rig.eeh_pe(EDU) is before
    assert [(one.start, one.size) for one in rig.device(EDU).resources] == place
    assert rig.state(EDU) == (int(EehPlatformState(0x78)), EehPeFlag.PRI_BUS)
    assert rig.device(EDU).iommu_group is not None
    assert "EEH: Sleep 5s ahead of complete hotplug" in rig.log


def test_only_those_without_a_handler_go(rig: EehRig) -> None:
    """``eeh_rmv_device``: who takes part stays, who does not comes back."""
    rig.answers.said[RIGHT, "error_detected"] = Recovery.NEED_RESET
    rig.leave(RIGHT1)
    rig.strike(RIGHT)
    assert (rig.there(RIGHT), rig.there(RIGHT1)) == (True, False)
    rig.wait()
    assert (rig.there(RIGHT), rig.there(RIGHT1)) == (True, True)
    assert rig.asked(RIGHT) == ["error_detected", "slot_reset", "resume"]
    assert f"EEH: Removing {RIGHT1} without EEH sensitive driver" in rig.log
    assert "EEH: Sleep 5s ahead of partial hotplug" in rig.log
    assert rig.works(RIGHT)


def test_who_needs_the_list_of_devices_waits_for_recovery(rig: EehRig) -> None:
    """``pci_lock_rescan_remove``: a program that is kept waiting by it has virtual time go on."""
    rig.strike(EDU)
    assert not rig.there(EDU)
    rig.write("/sys/bus/pci/rescan", "1")
    assert rig.there(EDU)
    assert rig.kernel.clock.now >= 5
    assert rig.log[-1] == "EEH: Recovery successful."


# how often


def test_too_many_freezes_in_an_hour_are_the_end(rig: EehRig) -> None:
    """``eeh_max_freezes``."""
    for count in range(1, 6):
        rig.strike(LEFT)
        rig.wait(60)
        assert rig.eeh_pe(LEFT).freezes == count
        assert rig.works(LEFT)
    pe = rig.eeh_pe(LEFT)
    rig.strike(LEFT)
    rig.wait(60)
    assert not rig.there(LEFT)
    assert pe.flags & EehPeFlag.REMOVED
    assert any("has failed 6 times in the last hour and has been permanently disabled." in line for line in rig.log)


def test_after_an_hour_they_are_counted_anew(rig: EehRig) -> None:
    """``eeh_pe_update_time_stamp``: the hour begins with the first of them."""
    for _ in range(5):
        rig.strike(LEFT)
        rig.wait(60)
    rig.wait(3600)
    rig.strike(LEFT)
    rig.wait(60)
    assert rig.eeh_pe(LEFT).freezes == 1
    assert rig.works(LEFT)


def test_how_many_can_be_told(rig: EehRig) -> None:
    """``eeh_max_freezes`` of debugfs (``eeh_init`` in ``eeh.c``)."""
    rig.write(f"{DEBUG}/eeh_max_freezes", "0")
    rig.strike(LEFT)
    rig.wait()
    assert not rig.there(LEFT)


def test_nobody_recovers_when_told_so(rig: EehRig) -> None:
    """``eeh_disable_recovery``; ``eeh_force_recover`` does then."""
    rig.write(f"{DEBUG}/eeh_disable_recovery", "Y")
    rig.strike(LEFT)
    rig.wait()
    assert rig.asked(LEFT) == []
    assert rig.log[-1] == "EEH: Event dropped due to no_recover setting"
    rig.write(f"{DEBUG}/eeh_force_recover", f"0:{rig.eeh_pe(LEFT).address:x}")
    rig.wait()
    assert rig.asked(LEFT) == ["error_detected", "mmio_enabled", "resume"]
    assert rig.works(LEFT)


# bridges


def bridge_error(rig: EehRig, name: str) -> None:
    """An error of the endpoint of a bridge, which takes those behind it along."""
    with rig.machine.lock:
        rig.phb(0).parity(rig.eeh_pe(name).address)


def test_an_error_of_a_bridge_concerns_all_behind_it(rig: EehRig) -> None:
    """Their endpoints go along, and registers of all come back: bus numbers first."""
    for name in (LEFT, RIGHT, RIGHT1):
        rig.answers.said[name, "error_detected"] = Recovery.NEED_RESET
    bridge_error(rig, DOWNSTREAM)
    rig.wait(60)
    for name in (LEFT, RIGHT, RIGHT1):
        assert rig.asked(name) == ["error_detected", "slot_reset", "resume"]
        assert rig.works(name)
    assert not rig.phb(0).endpoints.troubled()
    assert rig.device(DOWNSTREAM).error_state is ErrorState.NORMAL


def test_an_error_of_two_bridges_above_each_other_is_lost(rig: EehRig) -> None:
    """``pnv_eeh_get_pe``: asking for the state of the upper one isolates both, and what is isolated is passed over.

    The firmware tells the lower one first; a state of 0 (all is frozen) is taken for none.  People can help.
    """
    bridge_error(rig, UPSTREAM)
    rig.wait(60)
    assert rig.answers.asked == []
    assert rig.eeh_pe(UPSTREAM).flags & EehPeFlag.ISOLATED
    assert rig.phb(0).endpoints.frozen == {rig.eeh_pe(name).address for name in (UPSTREAM, DOWNSTREAM, LEFT, RIGHT)}
    for name in (LEFT, RIGHT, RIGHT1):
        rig.answers.said[name, "error_detected"] = Recovery.NEED_RESET
    rig.write(f"{DEBUG}/eeh_force_recover", f"0:{rig.eeh_pe(UPSTREAM).address:x}")
    rig.wait(60)
    for name in (LEFT, RIGHT, RIGHT1):
        assert rig.asked(name) == ["error_detected", "slot_reset", "resume"]
        assert rig.works(name)
    assert not rig.phb(0).endpoints.troubled()


def test_a_fenced_bridge_is_reset_completely(rig: EehRig) -> None:
    """All drivers are told of a reset, whatever they said (``eeh_handle_normal_event`` of a PHB)."""
    with rig.machine.lock:
        rig.phb(0).fence()
    rig.wait(60)
    assert not rig.phb(0).fenced
    for name in (LEFT, RIGHT, RIGHT1):
        assert rig.asked(name) == ["error_detected", "slot_reset", "resume"]
        assert rig.works(name)
    assert rig.asked(OTHER) == []
    assert "EEH: Fenced PHB#0 detected, location: N/A" in rig.log


def test_a_fence_is_noticed_by_a_load(rig: EehRig) -> None:
    """``eeh_phb_check_failure``: without an interrupt, too."""
    with rig.machine.lock:
        rig.phb(0).fence_quietly()
        rig.device(LEFT).load_bar(1, 0, 4)
    rig.wait(60)
    assert rig.works(LEFT)


def test_a_dead_bridge_takes_everything_along(rig: EehRig) -> None:
    """``eeh_handle_special_event``: EEH_NEXT_ERR_DEAD_PHB."""
    with rig.machine.lock:
        rig.phb(0).kill()
    rig.wait()
    assert [name for name in rig.kernel.buses["pci"].devices if name.startswith("0000:")] == []
    assert rig.asked(LEFT) == ["error_detected"]
    assert rig.answers.asked[0][2] == "permanent failure"
    assert rig.there(OTHER)
    assert rig.there(EDU)


# programs


def opened(rig: EehRig, name: str) -> tuple[int, int]:
    """A container and the function for a program."""
    driver = rig.device(name).driver
    if driver is None or driver.name != "vfio-pci":
        rig.give_vfio(name)
    device = rig.open(name, iommu=abi.VFIO_SPAPR_TCE_v2_IOMMU)
    return device.container, device.fd


def operate(rig: EehRig, container: int, operation: int) -> int:
    return rig.host.ioctl(container, spapr.VFIO_EEH_PE_OP, spapr.EehPeOp.sized(op=operation))


def test_what_a_program_has_is_not_recovered(rig: EehRig) -> None:
    """``eeh_pe_passed``; and nobody tells the program: ``eeh_edev_actionable`` is false for its endpoint."""
    container, fd = opened(rig, EDU)
    with rig.machine.lock:
        rig.phb(2).parity(rig.eeh_pe(EDU).address)
    rig.wait(4000)
    assert operate(rig, container, spapr.VFIO_EEH_PE_GET_STATE) == spapr.EehState.STOPPED
    assert rig.eeh_pe(EDU).freezes == 0
    rig.host.close(fd)
    assert operate(rig, container, spapr.VFIO_EEH_PE_GET_STATE) == spapr.EehState.NORMAL  # eeh_dev_release


def test_a_program_waits_for_the_bridge_above(rig: EehRig) -> None:
    """``eeh_pe_get_state``: not known while that recovers; what is the program's stays frozen then.

    ``eeh_reset_device``, ``eeh_pe_refreeze_passed``.
    """
    rig.answers.said[RIGHT, "error_detected"] = Recovery.NEED_RESET
    container, _ = opened(rig, LEFT)
    address = rig.eeh_pe(LEFT).address
    bridge_error(rig, DOWNSTREAM)
    rig.wait(0.5)
    assert operate(rig, container, spapr.VFIO_EEH_PE_GET_STATE) == spapr.EehState.UNAVAIL
    rig.wait(60)
    assert rig.asked(RIGHT) == ["error_detected", "slot_reset", "resume"]
    assert rig.asked(LEFT) == []
    assert rig.phb(0).endpoints.frozen == {address}
    assert operate(rig, container, spapr.VFIO_EEH_PE_GET_STATE) == spapr.EehState.STOPPED
    for operation in (spapr.VFIO_EEH_PE_UNFREEZE_IO, spapr.VFIO_EEH_PE_UNFREEZE_DMA):
        assert operate(rig, container, operation) == 0
    assert operate(rig, container, spapr.VFIO_EEH_PE_GET_STATE) == spapr.EehState.NORMAL
    assert rig.works(RIGHT)


def test_a_function_of_vfio_that_nobody_has_open_is_recovered(rig: EehRig) -> None:
    """vfio-pci can recover, as it has nothing to lose (``vfio_pci_core_aer_err_detected``)."""
    rig.give_vfio(EDU)
    rig.strike(EDU)
    rig.wait()
    assert "PCI 0002:01:00.0#00fd: EEH: vfio-pci driver reports: 'can recover'" in rig.log
    assert rig.state(EDU) == (int(EehPlatformState(0x78)), EehPeFlag.PRI_BUS)
    assert rig.there(EDU)


def test_opening_thaws(rig: EehRig) -> None:
    """``eeh_dev_open``: a program would have no use for a frozen one."""
    rig.give_vfio(EDU)
    rig.write(f"{DEBUG}/eeh_disable_recovery", "1")
    rig.strike(EDU)
    assert rig.phb(2).endpoints.frozen
    container, _ = opened(rig, EDU)
    assert not rig.phb(2).endpoints.frozen
    assert operate(rig, container, spapr.VFIO_EEH_PE_GET_STATE) == spapr.EehState.NORMAL


# details


def test_answers_are_merged_by_priority() -> None:
    """``pci_ers_merge_result``: who wants a reset wins, then who gives up."""
    order = [
        *(Recovery.NONE, Recovery.NO_DRIVER, Recovery.RECOVERED),
        *(Recovery.CAN_RECOVER, Recovery.DISCONNECT, Recovery.NEED_RESET),
    ]
    for low, one in enumerate(order):
        for other in order[low:]:
            assert merge(one, other) is merge(other, one) is other


def test_the_newest_event_goes_first(rig: EehRig) -> None:
    """``__eeh_send_failure_event`` puts it at the head of the list."""
    with rig.machine.lock:
        for name in (LEFT, OTHER):
            rig.eeh.recovery.send_anyway(rig.eeh_pe(name))
    rig.wait()
    assert [name for name, _, _ in rig.answers.asked][:3] == [OTHER] * 3


def test_the_error_log_is_written_down(rig: EehRig) -> None:
    """``eeh_slot_error_detail``: the bridge's log, and registers of all functions."""
    rig.strike(LEFT)
    rig.wait()
    address = rig.eeh_pe(LEFT).address
    assert f"EEH: of node={LEFT}" in rig.log
    assert "PHB4 PHB#0 Diag-data (Version: 1)" in rig.log
    assert any(line.startswith(f"PE[{address:03x}] A/B: ") for line in rig.log)


def test_a_file_thaws(rig: EehRig) -> None:
    """``eeh_pe_state_store``: of what is known to be frozen; else nothing is done."""
    rig.write(f"{DEBUG}/eeh_disable_recovery", "1")
    rig.write(f"/sys/bus/pci/devices/{LEFT}/eeh_pe_state", "anything")
    rig.bridge(0).endpoints.freeze(rig.eeh_pe(LEFT).address)
    assert rig.state(LEFT) == (0, EehPeFlag.PRI_BUS | EehPeFlag.ISOLATED)  # reading found it
    rig.write(f"/sys/bus/pci/devices/{LEFT}/eeh_pe_state", "anything")
    assert rig.state(LEFT) == (0x78, EehPeFlag.PRI_BUS)


def test_half_frozen(rig: EehRig) -> None:
    """``pnv_eeh_get_pe_state``; ``eeh_pe_get_state`` for the program."""
    container, _ = opened(rig, EDU)
    number, half = rig.eeh_pe(EDU).address, rig.bridge(2).endpoints
    half.freeze(number)
    half.unfreeze(number, OpalFreezeAction.MMIO)
    assert rig.state(EDU)[0] == EehPlatformState.MMIO_ACTIVE | EehPlatformState.MMIO_ENABLED
    assert operate(rig, container, spapr.VFIO_EEH_PE_GET_STATE) == spapr.EehState.STOPPED_DMA
    half.freeze(number)
    half.unfreeze(number, OpalFreezeAction.DMA)
    assert rig.state(EDU)[0] == EehPlatformState.DMA_ACTIVE | EehPlatformState.DMA_ENABLED
    assert operate(rig, container, spapr.VFIO_EEH_PE_GET_STATE) == spapr.EehState.UNAVAIL


def test_switched_off(rig: EehRig) -> None:
    """``eeh_enable`` of debugfs: nobody looks, nobody is asked; programs are told so."""
    container, _ = opened(rig, EDU)
    rig.write(f"{DEBUG}/eeh_enable", "0")
    assert rig.text_of("eeh_enable") == "0x0\n"
    assert rig.host.ioctl(container, abi.VFIO_CHECK_EXTENSION, abi.VFIO_EEH) == 0
    assert errno_of(operate, rig, container, spapr.VFIO_EEH_PE_ENABLE) == "EIO"
    rig.strike(LEFT)
    rig.wait()
    assert rig.asked(LEFT) == []
    fd = rig.host.open("/proc/powerpc/eeh", os.O_RDONLY)
    assert rig.host.read(fd, 100) == b"EEH Subsystem is globally disabled\neeh_total_mmio_ffs=0\n"
    rig.host.close(fd)


# virtual functions


PF = "0002:01:00.0"
VFS = ["0002:01:10.0", "0002:01:10.2"]


@pytest.fixture
def power9() -> Iterator[Pnv]:
    """The machine power9-phb4, with two virtual functions."""
    lab = Pnv("power9-phb4")
    with lab.host:
        lab.write(f"/sys/bus/pci/devices/{PF}/sriov_numvfs", "2")
        yield lab


def tree(lab: Pnv) -> list[tuple[PeType, list[str]]]:
    """The endpoints below the host bridge of the virtual functions, each with its functions."""
    eeh = lab.kernel.subsystems[EEH]
    return [(pe.type, [dev.name for dev in pe.devs]) for pe in eeh.hosts[2].pe.walk()][1:]


def test_a_virtual_function_is_recovered_alone(power9: Pnv) -> None:
    """``pnv_eeh_reset_vf_pe``, ``eeh_add_virt_device``: without a driver it goes, has its reset, and comes back."""
    before = tree(power9)
    assert before[1:] == [(PeType.DEVICE, [PF]), *((PeType.VF, [name]) for name in VFS)]
    first = power9.device(VFS[0])
    with power9.machine.lock:
        power9.phb(2).parity(power9.pe(VFS[0]).number)
    power9.machine.clock.advance(1)
    assert VFS[0] not in power9.kernel.buses["pci"].devices
    assert VFS[1] in power9.kernel.buses["pci"].devices
    power9.machine.clock.advance(60)
    assert power9.device(VFS[0]) is not first
    assert tree(power9) == before
    assert not power9.phb(2).endpoints.troubled()


def test_virtual_functions_go_and_come_back_with_the_physical_one(power9: Pnv) -> None:
    """``eeh_rmv_device``: igb takes part, its virtual functions have no driver.  Their endpoints freeze with its own.

    The firmware tells of theirs first, and so Linux has to be told to recover (``pnv_eeh_get_pe``).
    """
    before = tree(power9)
    with power9.machine.lock:
        power9.phb(2).parity(power9.pe(PF).number)
    power9.machine.clock.advance(60)
    assert power9.phb(2).endpoints.frozen >= {power9.pe(name).number for name in (PF, *VFS)}
    power9.write(f"{DEBUG}/eeh_force_recover", f"2:{power9.pe(PF).number:x}")
    power9.machine.clock.advance(60)
    devices = power9.kernel.buses["pci"].devices
    assert [name for name in (PF, *VFS) if name not in devices] == []
    assert power9.device(PF).driver is not None
    assert sorted(tree(power9), key=repr) == sorted(before, key=repr)
    assert not power9.phb(2).endpoints.frozen & {power9.pe(name).number for name in (PF, *VFS)}
