"""The journal: on the disk before the host is touched, enough to undo a killed run, and gone after one that ended."""

from __future__ import annotations

import errno
import json
import os

import pytest
from small_machine import BELL, DISK, state

import pyvfio
from pyvfio.binding import Event, Phase, Plan, records, restore, step_from_dict
from pyvfio.binding import journal as journal_module
from pyvfio.binding.journal import DIRECTORY, Journal
from pyvfio.binding.steps import Bind, Probe, SetOverride, Unbind
from pyvfio.binding.steps_mdev import CreateMdev, RemoveMdev
from pyvfio.binding.steps_online import SetOnline
from pyvfio.errors import UNTOUCHED, DeviceBusy, MalformedAnswer, Misuse, PyvfioError, StepFailed
from pyvfio.files import HostFiles
from pyvfio.host import Host
from pyvfio_backends.software import software_of

DASD = "0.0.013f"


class Killed(BaseException):
    """Stands for a SIGKILL: nothing is done after it (see `kill_at`)."""


def kill_at(host: Host, plan: Plan, phase: Phase, index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run `plan` until step `index` is in `phase`, and end there as a killed process does: without a rollback."""

    def progress(event: Event) -> None:
        if (event.phase, event.index) == (phase, index):
            raise Killed

    with monkeypatch.context() as without:
        without.setattr("pyvfio.binding.running._roll_back", lambda work, reason: None)
        with pytest.raises(Killed):
            pyvfio.run(plan, progress)


STEPS = [
    SetOverride("pci", DISK, "vfio-pci", None),
    Unbind("pci", DISK, "virtio-pci", None, ("/dev/vfio/3", "/dev/vfio/devices/vfio0"), "0.0.1234"),
    Bind("css", "0.0.0005", "vfio_ccw"),
    Probe("css", "0.0.0005", "io_subchannel", "0.0.1234"),
    SetOnline("0.0.1234", True, False),
    CreateMdev("css", "0.0.0005", "vfio_ccw-io", "66826a94-72c4-557f-beca-d135a70628e9"),
    RemoveMdev("css", "0.0.0005", "vfio_ccw-io", "66826a94-72c4-557f-beca-d135a70628e9", ("/dev/vfio/0",)),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.kind)
def test_a_step_survives_the_disk(step: pyvfio.Step) -> None:
    assert step_from_dict(json.loads(json.dumps(step.as_dict()))) == step
    assert step.text
    assert step.undo_text
    assert step.paths


@pytest.mark.parametrize("data", [{}, {"step": "none"}, {"step": "bind"}, {"step": "bind", "bus": "pci", "more": 1}])
def test_what_is_no_step(data: dict[str, object]) -> None:
    with pytest.raises(MalformedAnswer):
        step_from_dict(data)


def test_the_journal_is_there_before_the_first_write(host: Host) -> None:
    plan = pyvfio.plan_bind(host.function(DISK))
    seen: list[tuple[int, int]] = []

    def progress(event: Event) -> None:
        (record,) = records(host.sysfs)
        if event.phase is Phase.START:
            if event.index == 0:
                assert host.function(DISK).override is None
            assert record.steps == plan.steps
            assert record.objects == (DISK,)
            assert record.pid == os.getpid()
            seen.append((event.index, len(record.started)))

    pyvfio.run(plan, progress)
    assert seen == [(0, 1), (1, 2), (2, 3)]
    assert records(host.sysfs) == []
    assert HostFiles(host.backend).names(DIRECTORY) == []


def test_every_line_is_flushed_before_what_it_announces(host: Host) -> None:
    faults = software_of(host.backend).faults
    log = faults.log = []
    pyvfio.bind(host.function(DISK))
    faults.log = None
    writes = [n for n, (verb, path) in enumerate(log) if verb == "write" and path.startswith("/sys/")]
    for number in writes:
        before = log[:number]
        last_write = max(n for n, (verb, path) in enumerate(before) if verb == "write" and DIRECTORY in path)
        last_flush = max(n for n, (verb, path) in enumerate(before) if verb == "fsync" and DIRECTORY in path)
        assert last_flush > last_write
    assert len(writes) == 3


@pytest.mark.parametrize("phase", [Phase.START, Phase.DONE])
@pytest.mark.parametrize("index", range(5))
def test_a_killed_take_is_undone(host: Host, index: int, phase: Phase, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(host)
    kill_at(host, pyvfio.plan_ccw_take(host, DASD), phase, index, monkeypatch)
    (record,) = records(host.sysfs)
    restore(host.sysfs, record)
    assert state(host) == before
    assert records(host.sysfs) == []


def test_a_killed_run_is_in_the_way_of_the_next_on_that_device(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_at(host, pyvfio.plan_bind(host.function(DISK)), Phase.DONE, 1, monkeypatch)
    with pytest.raises(DeviceBusy) as caught:
        pyvfio.bind(host.function(DISK))
    assert "was killed" in caught.value.cause
    assert "pyvfio restore" in caught.value.next_step
    assert caught.value.host == UNTOUCHED
    pyvfio.bind(host.function(BELL))  # another device is not concerned
    restore(host.sysfs, records(host.sysfs)[0])
    pyvfio.bind(host.function(DISK))


def test_a_run_at_work_is_not_restored(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_at(host, pyvfio.plan_bind(host.function(DISK)), Phase.DONE, 1, monkeypatch)
    monkeypatch.setattr(journal_module.Record, "alive", lambda record, sysfs: True)
    (record,) = records(host.sysfs)
    with pytest.raises(DeviceBusy, match="restore"):
        restore(host.sysfs, record)
    with pytest.raises(DeviceBusy) as caught:
        pyvfio.release(host.function(DISK))
    assert "is at work on it" in caught.value.cause


def test_a_process_is_known_by_its_start(host: Host) -> None:
    process = os.getppid()
    with pyvfio.Host("kernel") as kernel:
        began = journal_module._started(kernel.sysfs, process)
        assert began.isdecimal()
        boot = journal_module.boot_id(kernel.sysfs)
        entry = journal_module.Record("", "", (), boot, process, began, "", (), frozenset(), frozenset())
        assert entry.alive(kernel.sysfs)
        other = journal_module.Record("", "", (), boot, process, "1", "", (), frozenset(), frozenset())
        assert not other.alive(kernel.sysfs)
        # after another boot somebody else may have both its number and its start time
        earlier = journal_module.Record("", "", (), "earlier", process, began, "", (), frozenset(), frozenset())
        assert not earlier.alive(kernel.sysfs)
        assert not entry.alive(host.sysfs)


def test_after_another_boot_drivers_are_left_alone(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_at(host, pyvfio.plan_bind(host.function(DISK)), Phase.DONE, 1, monkeypatch)
    now = state(host)
    monkeypatch.setattr("pyvfio.binding.restoring.boot_id", lambda sysfs: "another")
    (record,) = records(host.sysfs)
    assert restore(host.sysfs, record).steps == ()
    assert state(host) == now
    assert records(host.sysfs) == []


HEAD = {"version": 1, "title": "", "objects": [], "boot": "", "pid": 1, "started": "", "time": "", "steps": []}
ODD_STEP = {"step": "override", "bus": 1, "name": [], "value": {}, "before": None}


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", '{"version": 2}', '{"version": 1}', '{"version": 1, "steps": [{}]}', "[" * 100_000,
        json.dumps(HEAD) + "\n[1]", json.dumps(HEAD) + '\n"start"', json.dumps(HEAD) + '\n{"start": 7}',
        json.dumps(HEAD) + '\n{"start": -1}', json.dumps(HEAD | {"steps": [1]}), json.dumps(HEAD | {"objects": 1}),
        json.dumps(HEAD | {"steps": [ODD_STEP]}), json.dumps(HEAD | {"pid": float("inf")}),
    ],
)  # fmt: skip
def test_a_damaged_journal(host: Host, text: str) -> None:
    files = HostFiles(host.backend)
    files.make_directory(DIRECTORY)
    files.write(f"{DIRECTORY}/x.json", text)
    (record,) = records(host.sysfs)
    assert record.damaged
    with pytest.raises(Misuse, match=r"x\.json"):
        restore(host.sysfs, record)


def test_a_line_that_was_cut_off(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(host)
    kill_at(host, pyvfio.plan_bind(host.function(DISK)), Phase.DONE, 2, monkeypatch)
    (record,) = records(host.sysfs)
    HostFiles(host.backend).append(record.path, '{"start"')
    restore(host.sysfs, records(host.sysfs)[0])
    assert state(host) == before


def test_a_journal_that_cannot_be_written_stops_the_run(host: Host) -> None:
    before = state(host)
    software_of(host.backend).faults.fail("open", errno.EROFS, path="/var/*")
    with pytest.raises(PyvfioError) as caught:
        pyvfio.bind(host.function(DISK))
    assert caught.value.host == UNTOUCHED
    assert state(host) == before


def test_a_run_that_cannot_commit_is_undone(host: Host) -> None:
    before = state(host)
    faults = software_of(host.backend).faults
    log = faults.log = []
    plan = pyvfio.plan_bind(host.function(DISK))
    pyvfio.run(plan)
    faults.log = None
    last = sum(1 for verb, path in log if verb == "fsync" and path.endswith(".json"))
    pyvfio.binding.undo(plan)
    assert state(host) == before
    faults.fail("fsync", errno.EIO, path="*.json", nth=last)
    with pytest.raises(StepFailed) as caught:
        pyvfio.run(pyvfio.plan_bind(host.function(DISK)))
    assert "as it was before" in caught.value.host
    faults.clear()
    assert state(host) == before


def test_no_journal_when_none_is_wanted(host: Host) -> None:
    faults = software_of(host.backend).faults
    log = faults.log = []
    pyvfio.run(pyvfio.plan_bind(host.function(DISK)), journal=None)
    faults.log = None
    assert not [path for _, path in log if path.startswith("/var")]


def test_journals_are_in_order(host: Host) -> None:
    names = []
    for _ in range(3):
        journal = Journal(host.sysfs)
        journal.begin("t", ["x"], STEPS)
        names.append(journal.path)
    assert [record.path for record in records(host.sysfs)] == names == sorted(names)
    for name in names:
        HostFiles(host.backend).remove(name)


def test_the_devices_of_a_journal_that_cannot_be_read_are_left_alone(host: Host) -> None:
    files = HostFiles(host.backend)
    files.make_directory(DIRECTORY)
    files.write(f"{DIRECTORY}/x.json", json.dumps(HEAD | {"version": 2, "objects": [DISK]}))
    with pytest.raises(DeviceBusy, match="another version"):
        pyvfio.bind(host.function(DISK))
    pyvfio.bind(host.function(BELL))


def test_a_journal_that_ends_while_it_is_listed_is_not_damaged(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostFiles, "names", lambda files, path: ["gone.json"])
    HostFiles(host.backend).make_directory(DIRECTORY)
    assert records(host.sysfs) == []


def test_the_state_of_before_is_kept(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_at(host, pyvfio.plan_ccw_take(host, DASD), Phase.DONE, 0, monkeypatch)
    (record,) = records(host.sysfs)
    assert {
        (f"ccw {DASD}", "online", "1"),
        (f"ccw {DASD}", "driver", "dasd-eckd"),
        ("css 0.0.0000", "driver", "io_subchannel"),
        ("css 0.0.0000", "driver_override", "(null)"),
    } <= set(record.before)
    restore(host.sysfs, record)
    kill_at(host, pyvfio.plan_bind(host.function(DISK)), Phase.DONE, 0, monkeypatch)
    (record,) = records(host.sysfs)
    assert (f"pci {DISK}", "enable", "1") in record.before
    restore(host.sysfs, record)


def test_a_function_that_was_enabled_without_a_driver(host: Host) -> None:
    function = host.function(DISK)
    pyvfio.unbind(function)
    function.write("enable", "1")
    before = state(host), function.read_number("enable")
    plan = pyvfio.plan_bind(function)
    pyvfio.run(plan)
    pyvfio.binding.undo(plan)
    assert (state(host), function.read_number("enable")) == before
    assert before[1] == 1
