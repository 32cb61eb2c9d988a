"""Plans that are undone, interrupted, or whose steps lie: the host is as before, or the error says what is left.

Calls that fail one by one are in `test_fault_sweep`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from small_machine import BELL, DISK, state

import pyvfio
from pyvfio.binding import Phase, Plan, Step, records, restore, undo
from pyvfio.binding.steps import Bind, Unbind
from pyvfio.errors import DeviceBusy, KernelRefused, PyvfioError, RollbackFailed, StepFailed
from pyvfio.host import Host
from pyvfio.sysfs import Sysfs

DASD = "0.0.013f"
UUID = "11111111-2222-3333-4444-555555555555"
Planner = Callable[[Host], Plan]


def bind_disk(host: Host) -> Plan:
    return pyvfio.plan_bind(host.function(DISK))


def release_disk(host: Host) -> Plan:
    pyvfio.bind(host.function(DISK))
    return pyvfio.plan_release(host.function(DISK))


def take_dasd(host: Host) -> Plan:
    return pyvfio.plan_ccw_take(host, DASD, uuid=UUID)


def give_dasd_back(host: Host) -> Plan:
    pyvfio.ccw_take(host, DASD, uuid=UUID)
    return pyvfio.plan_ccw_give_back(host, DASD, online_after=True)


PLANNERS = [bind_disk, release_disk, take_dasd, give_dasd_back]


@pytest.mark.parametrize("planner", PLANNERS)
def test_a_plan_that_is_undone_leaves_nothing(host: Host, planner: Planner) -> None:
    plan = planner(host)
    before = state(host)
    pyvfio.run(plan)
    assert state(host) != before
    undo(plan)
    assert state(host) == before


def test_an_interruption_is_rolled_back_too(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(host)
    plan = pyvfio.plan_bind(host.function(DISK))

    def stop(step: Bind, sysfs: Sysfs) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Bind, "do", stop)
    with pytest.raises(KeyboardInterrupt):
        pyvfio.run(plan)
    assert state(host) == before
    assert not records(host.sysfs)


def test_a_rollback_that_fails_says_what_is_left(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = pyvfio.plan_bind(host.function(DISK))

    def refuse(step: object, sysfs: Sysfs) -> None:
        raise KernelRefused("bind to virtio-pci", DISK, errno=errno.ENODEV)

    phases: list[tuple[int, Phase]] = []
    with monkeypatch.context() as broken:
        broken.setattr(Bind, "do", refuse)
        broken.setattr(Unbind, "undo", refuse)
        with pytest.raises(RollbackFailed) as caught:
            pyvfio.run(plan, lambda event: phases.append((event.index, event.phase)))
    assert "bind it to virtio-pci: bind to virtio-pci ENODEV" in caught.value.cause
    assert "between" in caught.value.host
    assert isinstance(caught.value.__cause__, KernelRefused)
    assert phases[-6:] == [
        (2, Phase.UNDOING),
        (2, Phase.UNDONE),
        (1, Phase.UNDOING),
        (1, Phase.UNDO_FAILED),
        (0, Phase.UNDOING),
        (0, Phase.UNDONE),
    ]
    assert host.function(DISK).override is None
    # The journal is kept; what could not be undone then can be now.
    (record,) = records(host.sysfs)
    assert [step.text for step in record.left()] == [f"unbind {DISK} from virtio-pci"]
    restore(host.sysfs, record)
    assert host.function(DISK).driver == "virtio-pci"
    assert not records(host.sysfs)


def test_a_write_that_the_kernel_takes_and_does_not_do(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(host)
    plan = pyvfio.plan_bind(host.function(DISK))
    monkeypatch.setattr(Bind, "do", lambda step, sysfs: None)
    with pytest.raises(StepFailed) as caught:
        pyvfio.run(plan)
    assert caught.value.cause == "the kernel took the write, but reading back: its driver is none, not vfio-pci"
    assert "as it was before" in caught.value.host
    assert state(host) == before


def test_what_a_plan_says(host: Host) -> None:
    text = str(pyvfio.plan_bind(host.function(DISK)))
    title, *lines = text.splitlines()
    assert title == f"bind {DISK} to vfio-pci"
    assert f"  {DISK}: driver: virtio-pci" in lines
    assert [line for line in lines if line.split()[0].rstrip(".").isdecimal()] == [
        f"  1. set driver_override of {DISK} to vfio-pci (undo: clear it)",
        f"  2. unbind {DISK} from virtio-pci (undo: bind it to virtio-pci)",
        f"  3. bind {DISK} to vfio-pci (undo: unbind it from vfio-pci)",
    ]
    pyvfio.unbind(host.function(BELL))
    assert str(pyvfio.plan_unbind(host.function(BELL))).splitlines()[0] == f"unbind {BELL}: nothing to do"


def test_a_step_names_the_file_it_writes(host: Host) -> None:
    steps: tuple[Step, ...] = pyvfio.plan_ccw_take(host, DASD).steps
    assert len(steps) == 6
    for step in steps:
        assert step.paths
        assert all(path.startswith(("/sys/", "/run/")) for path in step.paths)


def test_a_second_mediated_device(host: Host) -> None:
    taken = pyvfio.ccw_take(host, DASD)
    with pytest.raises(DeviceBusy) as caught:
        pyvfio.ccw_take(host, DASD, uuid=UUID)
    assert f"has the mediated device {taken.mdev.name} already" in caught.value.cause
    assert "give-back" in caught.value.next_step
    assert [str(mdev) for mdev in host.mdevs()] == [taken.mdev.name]


def test_an_interrupted_take_is_continued(host: Host) -> None:
    before = state(host)
    host.ccw_device(DASD).set_online(False)
    subchannel = host.subchannel("0.0.0000")
    pyvfio.unbind(subchannel)
    plan = pyvfio.plan_ccw_take(host, DASD)
    assert [step.text.split()[0] for step in plan.steps] == ["set", "bind", "create"]
    pyvfio.run(plan)
    assert subchannel.driver == "vfio_ccw"
    pyvfio.ccw_give_back(host, DASD, online=True)
    assert state(host) == before


@pytest.mark.parametrize("verb", [pyvfio.unbind, pyvfio.release, lambda it: pyvfio.bind(it, "virtio-pci")])
def test_nothing_is_taken_from_a_program(host: Host, verb: Callable[[pyvfio.PciFunction], object]) -> None:
    function = host.function(DISK)
    pyvfio.bind(function)
    before = state(host)
    with pyvfio.open_device(host, function):
        with pytest.raises(PyvfioError, match="is open in"):
            verb(function)
        assert state(host) == before
