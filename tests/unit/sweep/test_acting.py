"""Commands that act: plans, refusals, interruptions, and what is left to restore."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest
from rig import DEVICE, FUNCTION, Rig, differences

from pyvfio import binding
from pyvfio.binding.steps import Bind, Unbind
from pyvfio.host import Host
from pyvfio.sysfs import Sysfs
from pyvfio_tools import options
from pyvfio_tools.cli import run


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = Rig(lambda host: None)
    monkeypatch.setattr(options, "open_host", lambda backend, machine: Host(made.backend))
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
    assert plan["facts"][f"{FUNCTION}: driver"] == "virtio-pci"
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
