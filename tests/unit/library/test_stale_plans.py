"""What happened since: between a plan and its run, between a killed run and its `restore`, between two runs."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import pytest
from small_machine import BELL, DISK, state
from test_journal import DASD, kill_at

import pyvfio
from pyvfio.binding import Event, Phase, Plan, records, restore
from pyvfio.binding import running as running_module
from pyvfio.binding.journal import DIRECTORY, Journal, Record
from pyvfio.binding.probes.surroundings import Surroundings, Swap
from pyvfio.binding.steps_files import WriteFile
from pyvfio.binding.steps_mdev import CreateMdev
from pyvfio.errors import UNTOUCHED, DeviceBusy, DeviceInUse, StepFailed
from pyvfio.files import HostFiles
from pyvfio.host import Host
from pyvfio.sysfs import Sysfs
from pyvfio_backends.software import software_of


def open_group(host: Host, name: str) -> int:
    group = host.function(name).group
    assert group is not None
    return host.backend.open(group.node, os.O_RDWR)


def test_restore_does_not_take_a_device_from_who_uses_it_by_now(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_at(host, pyvfio.plan_bind(host.function(DISK)), Phase.DONE, 2, monkeypatch)
    fd = open_group(host, DISK)  # a guest was started with it
    before = state(host)
    (record,) = records(host.sysfs)
    with pytest.raises(DeviceInUse) as caught:
        restore(host.sysfs, record)
    assert {finding.probe for finding in caught.value.findings} == {"vfio"}
    assert caught.value.host == UNTOUCHED
    assert state(host) == before
    assert len(records(host.sysfs)) == 1
    host.backend.close(fd)
    restore(host.sysfs, record)
    assert host.function(DISK).driver == "virtio-pci"


def test_restore_of_a_release_looks_at_the_disk(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    pyvfio.bind(host.function(DISK))
    kill_at(host, pyvfio.plan_release(host.function(DISK)), Phase.DONE, 2, monkeypatch)
    assert host.function(DISK).driver == "virtio-pci"
    with monkeypatch.context() as swapping:
        swapping.setattr(Surroundings, "swaps", (Swap("/dev/vda", "partition", 1, 0),))
        with pytest.raises(DeviceInUse) as caught:
            restore(host.sysfs, records(host.sysfs)[0])
        assert [finding.probe for finding in caught.value.findings] == ["swap"]
        assert host.function(DISK).driver == "virtio-pci"
        restore(host.sysfs, records(host.sysfs)[0], force=["swap"])
    assert host.function(DISK).driver == "vfio-pci"


def test_a_plan_whose_device_got_another_driver_changes_nothing(host: Host) -> None:
    plan = pyvfio.plan_bind(host.function(DISK))
    pyvfio.unbind(host.function(DISK))
    before = state(host)
    with pytest.raises(StepFailed) as caught:
        pyvfio.run(plan)
    assert "changed since the plan was made: its driver is none, not virtio-pci" in caught.value.cause
    assert state(host) == before
    assert not records(host.sysfs)


def test_a_plan_whose_file_was_changed_leaves_it(host: Host) -> None:
    files = HostFiles(host.backend)
    files.make_directory("/etc/driverctl.d")
    files.write("/etc/driverctl.d/x", "ours\n")
    plan = Plan("x", ("x",), (WriteFile("/etc/driverctl.d/x", "new\n", "ours\n"),), sysfs=host.sysfs)
    files.write("/etc/driverctl.d/x", "theirs\n")
    with pytest.raises(StepFailed):
        pyvfio.run(plan)
    assert files.read("/etc/driverctl.d/x") == "theirs\n"


def test_a_mediated_device_of_somebody_else_is_not_removed_by_a_rollback(host: Host) -> None:
    uuid = "11111111-2222-3333-4444-555555555555"
    taken = pyvfio.ccw_take(host, DASD, uuid=uuid)
    step = CreateMdev("css", taken.subchannel.name, "vfio_ccw-io", uuid)
    plan = Plan("create", (uuid,), (step,), sysfs=host.sysfs)
    with pytest.raises(StepFailed, match="is there already"):
        pyvfio.run(plan)
    assert [str(mdev) for mdev in host.mdevs()] == [uuid]


def test_an_old_plan_is_looked_at_again(host: Host) -> None:
    pyvfio.bind(host.function(DISK))
    plan = pyvfio.plan_release(host.function(DISK))
    fd = open_group(host, DISK)
    before = state(host)
    old = replace(plan, made=plan.made - 60)
    with pytest.raises(DeviceInUse) as caught:
        pyvfio.run(old)
    assert "since the plan was made" in caught.value.cause
    assert caught.value.host == UNTOUCHED
    assert state(host) == before
    assert not records(host.sysfs)
    host.backend.close(fd)
    pyvfio.run(replace(plan, made=plan.made - 60))
    assert host.function(DISK).driver == "virtio-pci"


def test_of_two_runs_that_begin_at_once_not_both_act(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Journal.begin
    other = Journal(host.sysfs)

    def begin(journal: Journal, *words: object) -> None:
        if not other.path:
            real(other, "another", [DISK], [])
        real(journal, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(Journal, "begin", begin)
    before = state(host)
    with pytest.raises(DeviceBusy, match="is at work on it") as caught:
        pyvfio.run(pyvfio.plan_bind(host.function(DISK)))
    assert caught.value.host == UNTOUCHED
    assert state(host) == before
    assert [record.path for record in records(host.sysfs)] == [other.path]
    other.end("done")


def test_a_run_on_another_thread_of_this_program_is_at_work(host: Host) -> None:
    seen: list[bool] = []

    def progress(event: Event) -> None:
        (record,) = records(host.sysfs)
        seen.append(record.alive(host.sysfs))
        with pytest.raises(DeviceBusy):
            restore(host.sysfs, record)

    pyvfio.run(pyvfio.plan_bind(host.function(DISK)), progress)
    assert all(seen)
    assert seen


def test_a_commit_that_was_taken_back_is_no_commit(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line "done" may be on the disk although its flush failed; a kill in the rollback must not be lost then."""
    before = state(host)
    faults = software_of(host.backend).faults
    monkeypatch.setattr(running_module._Run, "back", lambda work, steps: (_ for _ in ()).throw(SystemExit))
    log = faults.log = []
    pyvfio.run(pyvfio.plan_bind(host.function(DISK)))
    faults.log = None
    last = sum(1 for verb, path in log if verb == "fsync" and path.endswith(".json"))
    with monkeypatch.context() as undone:
        undone.undo()
        pyvfio.release(host.function(DISK))
    monkeypatch.setattr(running_module._Run, "back", lambda work, steps: (_ for _ in ()).throw(SystemExit))
    faults.fail("fsync", errno.EIO, path="*.json", nth=last)
    with pytest.raises(SystemExit):
        pyvfio.run(pyvfio.plan_bind(host.function(DISK)))
    faults.clear()
    monkeypatch.undo()
    (record,) = records(host.sysfs)
    restore(host.sysfs, record)
    assert state(host) == before


@pytest.mark.parametrize("place", [DIRECTORY, f"{DIRECTORY}/x.json"])
def test_what_others_can_write_is_not_believed(host: Host, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_at(host, pyvfio.plan_bind(host.function(BELL)), Phase.DONE, 1, monkeypatch)
    (record,) = records(host.sysfs)
    host.backend.rename(record.path, f"{DIRECTORY}/x.json")
    host.backend.chmod(place, 0o777)
    now = state(host)
    with pytest.raises(pyvfio.errors.Misuse) as caught:
        restore(host.sysfs, records(host.sysfs)[0])
    assert "others can write to it" in caught.value.cause
    assert state(host) == now
    host.backend.chmod(place, 0o700)
    host.backend.chown(place, 54321, -1)
    with pytest.raises(pyvfio.errors.Misuse, match="54321"):
        restore(host.sysfs, records(host.sysfs)[0])
    assert state(host) == now


def test_a_journal_that_is_a_directory_or_a_device_is_damaged(host: Host) -> None:
    files = HostFiles(host.backend)
    files.make_directory(f"{DIRECTORY}/x.json", 0o700)
    (record,) = records(host.sysfs)
    assert record.damaged == "it is not a plain file"
    pyvfio.bind(host.function(DISK))  # and in nobody's way


def test_a_run_that_ends_at_this_moment_was_not_killed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Journal(host.sysfs)
    other.begin("another", [DISK], [])

    def alive(record: Record, sysfs: Sysfs) -> bool:
        other.end("done")  # between reading its journal and asking for its process
        return False

    monkeypatch.setattr(Record, "alive", alive)
    pyvfio.run(pyvfio.plan_bind(host.function(DISK)))
    assert host.function(DISK).driver == "vfio-pci"


def test_restore_does_not_undo_a_run_that_ended_meanwhile(host: Host) -> None:
    found: list[Record] = []
    pyvfio.run(pyvfio.plan_bind(host.function(DISK)), lambda event: found.extend(records(host.sysfs)))
    after = state(host)
    assert restore(host.sysfs, found[-1]).steps == ()
    assert state(host) == after
