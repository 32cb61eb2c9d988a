"""Commands that act: plans, refusals, interruptions, and what is left to restore."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from rig import DEVICE, FUNCTION, Rig, differences

from pyvfio import binding
from pyvfio.binding.steps import Bind, Probe, Unbind
from pyvfio.files import HostFiles
from pyvfio.host import Host
from pyvfio.sysfs import Sysfs
from pyvfio_tools import options
from pyvfio_tools.cli import run


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = Rig(lambda host: None)
    monkeypatch.setattr(options, "open_host", lambda *words: Host(made.backend))
    yield made
    made.close()


def kill(rig: Rig, monkeypatch: pytest.MonkeyPatch, command: list[str], step: type[binding.Step]) -> None:
    """Run a command that ends in `step` as a killed one does: no rollback."""

    def stop(self: binding.Step, sysfs: Sysfs) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(step, "do", stop)
        broken.setattr("pyvfio.binding.running._roll_back", lambda work, reason: None)
        assert run(command) == 130
    assert len(binding.records(rig.host.sysfs)) == 1


@pytest.mark.parametrize(
    "command", [["bind", FUNCTION], ["unbind", FUNCTION], ["release", FUNCTION], ["ccw-take", DEVICE]]
)
def test_a_plan_changes_nothing(rig: Rig, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert run(["plan", *command]) == 0
    text = capsys.readouterr().out
    assert "driver" in text
    assert ("undo:" in text) == (command[0] != "release")
    assert "ok:" not in text
    assert not differences(rig.state(), rig.before)


def test_a_plan_as_data(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "bind", FUNCTION, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["done"] is False
    assert plan["objects"] == [FUNCTION]
    assert {"device": FUNCTION, "what": "driver", "value": "virtio-pci"} in plan["facts"]
    assert [step["step"] for step in plan["steps"]] == ["override", "unbind", "bind"]
    assert all(step["undo"] and step["paths"] for step in plan["steps"])


def test_verbs_of_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--help"]) == 0
    assert "ccw-take" in capsys.readouterr().out
    assert run(["plan", "fly"]) == 2


@pytest.mark.parametrize("force", ["--force", "--force=", "--force=,"])
def test_force_alone_is_refused(rig: Rig, capsys: pytest.CaptureFixture[str], force: str) -> None:
    assert run(["bind", FUNCTION, force]) == 2
    error = capsys.readouterr().err
    assert "--force alone is refused" in error
    assert "mounted" in error
    assert not differences(rig.state(), rig.before)


def test_force_of_no_probe(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bind", FUNCTION, "--force=mounted,everything"]) == 2
    assert "there is no probe 'everything'" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_followed_by_the_rollback(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    real = Unbind.do

    def interrupted(step: Unbind, sysfs: Sysfs) -> None:
        real(step, sysfs)
        signal.raise_signal(number)

    before = signal.getsignal(number)
    monkeypatch.setattr(Unbind, "do", interrupted)
    assert run(["bind", FUNCTION]) == 130
    assert signal.getsignal(number) is before
    assert not differences(rig.state(), rig.before)
    assert not binding.records(rig.host.sysfs)


def test_restore(rig: Rig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    kill(rig, monkeypatch, ["bind", FUNCTION], Bind)
    kept = rig.state()
    assert kept != rig.before
    assert run(["bind", FUNCTION]) == 5
    assert "was killed" in capsys.readouterr().err
    for listing in ("--list", "--dry-run"):
        assert run(["restore", listing]) == 0
        text = capsys.readouterr().out
        assert f"bind {FUNCTION} to vfio-pci" in text
        assert "bind it to virtio-pci" in text
        assert rig.state() == kept
    assert run(["restore", "--list", "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["objects"] == [FUNCTION]
    assert {"step": f"unbind {FUNCTION} from virtio-pci", "undo": "bind it to virtio-pci"} in document["undo"]
    assert document["done"] is False
    assert run(["restore"]) == 0
    assert "restored" in capsys.readouterr().out
    assert not differences(rig.state(), rig.before)
    assert run(["restore"]) == 0
    assert "nothing to undo" in capsys.readouterr().out


def test_restore_of_one(rig: Rig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    kill(rig, monkeypatch, ["bind", FUNCTION], Bind)
    (record,) = binding.records(rig.host.sysfs)
    assert run(["restore", "none.json"]) == 3
    assert "none.json" in capsys.readouterr().err
    assert run(["restore", record.path.rpartition("/")[2]]) == 0
    assert not differences(rig.state(), rig.before)


def test_forget(rig: Rig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    kill(rig, monkeypatch, ["bind", FUNCTION], Bind)
    kept = rig.state()
    assert run(["restore", "--forget"]) == 0
    assert "forgotten" in capsys.readouterr().out
    assert rig.state() == kept
    assert not binding.records(rig.host.sysfs)


def test_another_directory(rig: Rig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYVFIO_JOURNAL", "/run/journals")
    log = rig.faults.log = []
    assert run(["bind", FUNCTION]) == 0
    rig.faults.log = None
    assert {path.rpartition("/")[0] for verb, path in log if path.endswith(".json")} == {"/run/journals"}


def test_all_devices_or_none(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.faults.fail("write", 5, path="/sys/bus/pci/drivers/vfio-pci/bind", nth=2)
    assert run(["bind", FUNCTION, "0022:00:00.0"]) == 10
    assert "as it was before" in capsys.readouterr().err
    assert not differences(rig.state(), rig.before)


@pytest.mark.parametrize("again", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_rollback_is_not_interrupted(
    rig: Rig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, again: signal.Signals
) -> None:
    """People press Ctrl-C more than once."""
    do, undo = Unbind.do, Unbind.undo

    def interrupted(step: Unbind, sysfs: Sysfs) -> None:
        do(step, sysfs)
        signal.raise_signal(signal.SIGINT)

    def interrupted_again(step: Unbind, sysfs: Sysfs) -> None:
        signal.raise_signal(again)
        undo(step, sysfs)

    monkeypatch.setattr(Unbind, "do", interrupted)
    monkeypatch.setattr(Unbind, "undo", interrupted_again)
    assert run(["bind", FUNCTION]) == 130
    assert "host: it is as it was before" in capsys.readouterr().err
    assert not differences(rig.state(), rig.before)
    assert not binding.records(rig.host.sysfs)


def test_a_rollback_after_a_failure_is_not_interrupted(
    rig: Rig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    undo = Unbind.undo

    def interrupted(step: Unbind, sysfs: Sysfs) -> None:
        signal.raise_signal(signal.SIGINT)
        undo(step, sysfs)

    monkeypatch.setattr(Unbind, "undo", interrupted)
    rig.faults.fail("write", 5, path="/sys/bus/pci/drivers/vfio-pci/bind")
    assert run(["bind", FUNCTION]) == 10
    assert not differences(rig.state(), rig.before)


@pytest.mark.parametrize("seconds", ["inf", "nan", "1e300"])
def test_seconds_that_nobody_can_wait(rig: Rig, capsys: pytest.CaptureFixture[str], seconds: str) -> None:
    assert run(["bind", FUNCTION, f"--deadline={seconds}"]) == 2
    assert not differences(rig.state(), rig.before)


def test_a_journal_directory_without_a_place(
    rig: Rig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYVFIO_JOURNAL", "journals")
    assert run(["bind", FUNCTION]) == 2
    assert "not an absolute path" in capsys.readouterr().err
    assert not differences(rig.state(), rig.before)


def test_a_damaged_journal_does_not_keep_the_others_from_being_undone(
    rig: Rig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(rig, monkeypatch, ["bind", FUNCTION], Bind)
    HostFiles(rig.backend).write(f"{binding.journal.DIRECTORY}/00.json", "{")
    assert run(["restore"]) == 2
    assert "00.json" in capsys.readouterr().err
    assert not differences(rig.state(), rig.before)
    assert [record.path.rpartition("/")[2] for record in binding.records(rig.host.sysfs)] == ["00.json"]


def test_restore_of_what_is_in_use_by_now(
    rig: Rig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["bind", FUNCTION, "0022:00:00.0"]) == 0
    kill(rig, monkeypatch, ["release", FUNCTION, "0022:00:00.0"], Probe)
    assert run(["restore"]) == 0
    fd = open_node(rig, FUNCTION)
    kill(rig, monkeypatch, ["bind", "0022:00:00.0", "--to=virtio-pci"], Bind)
    assert run(["restore"]) == 0  # the other is in use, and is not touched
    rig.backend.close(fd)
    assert run(["release", FUNCTION, "0022:00:00.0"]) == 0
    bind = Bind.do

    def killed(step: Bind, sysfs: Sysfs) -> None:
        bind(step, sysfs)
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(Bind, "do", killed)
        broken.setattr("pyvfio.binding.running._roll_back", lambda work, reason: None)
        assert run(["bind", FUNCTION]) == 130
    fd = open_node(rig, FUNCTION)
    capsys.readouterr()
    kept = rig.state()
    assert run(["restore"]) == 5
    assert "--force=vfio" in capsys.readouterr().err
    assert rig.state() == kept
    rig.backend.close(fd)
    assert run(["restore"]) == 0
    assert not differences(rig.state(), rig.before)


def open_node(rig: Rig, name: str) -> int:
    group = rig.host.function(name).group
    assert group is not None
    return rig.backend.open(group.node, os.O_RDWR)


def test_who_gives_up_waiting_is_let_go(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """With --wait, Ctrl-C leads to a rollback that does not wait for the same program again."""
    rig.faults.hang("write", path="*/drivers/virtio-pci/unbind")
    rig.faults.hang("write", path=f"*/{FUNCTION}/driver_override", nth=2)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    assert run(["bind", FUNCTION, "--deadline=0.1", "--wait"]) == 9
    assert time.monotonic() - began < 10
    assert "pyvfio restore" in capsys.readouterr().err
    timer.join()
    rig.faults.clear()
    until = time.monotonic() + 5
    while run(["restore"]) and time.monotonic() < until:
        time.sleep(0.05)
    assert not differences(rig.state(), rig.before)
