"""pyvfio sandbox: every command in it works with one machine, in the order of a working day, and after a kill."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from walk import differences, walk

from pyvfio import binding
from pyvfio.binding.journal import DIRECTORY
from pyvfio.errors import Misuse
from pyvfio.sandbox import VARIABLE, Sandbox
from pyvfio_backends.software import software_of
from pyvfio_tools.cli import run

FUNCTION = "0060:00:00.0"
DEVICE = "0.0.013f"
UUID = "66826a94-72c4-557f-beca-d135a70628e9"
COUNTERS = ("uevent_seqnum", "function_handle", "diskseq", "dasda/uevent")
"""Files with numbers that a kernel does not give out twice."""


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (VARIABLE, "PYVFIO_BACKEND", "PYVFIO_MACHINE", "PYVFIO_JOURNAL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def box(tmp_path: Path, outside: None, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A sandbox, and this process in it."""
    made = Sandbox.create(tmp_path / "box", "z15-lpar")
    monkeypatch.setenv(VARIABLE, str(made.directory))
    return made


def state(box: Sandbox, *roots: str) -> dict[str, tuple[object, ...]]:
    with box.host() as host:
        found = walk(host.backend, *roots)
    return {path: fact for path, fact in found.items() if not path.endswith(COUNTERS)}


def told(capsys: pytest.CaptureFixture[str], *words: str) -> object:
    """What a command prints as JSON."""
    capsys.readouterr()
    assert run([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def drivers(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    rows = told(capsys, "list", *words)
    assert isinstance(rows, list)
    return {row["address"]: row["driver"] for row in rows}


# commands one after another


def test_bind_list_release(box: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    before, drivers_before = state(box, "/sys", "/dev"), drivers(capsys)
    assert run(["bind", FUNCTION]) == 0
    assert drivers(capsys) == drivers_before | {FUNCTION: "vfio-pci"}
    assert run(["bind", FUNCTION, "--dry-run"]) == 0
    assert run(["release", FUNCTION]) == 0
    assert drivers(capsys) == drivers_before
    assert differences(state(box, "/sys", "/dev"), before) == []


def test_take_status_give_back(box: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    before = state(box, "/sys", "/dev")
    assert run(["ccw", "take", DEVICE, "--uuid", UUID]) == 0
    assert UUID in json.dumps(told(capsys, "mdev", "list"))
    assert run(["ccw", "give-back", DEVICE, "--online"]) == 0
    assert told(capsys, "mdev", "list") == []
    assert differences(state(box, "/sys", "/dev"), before) == []


def test_make_and_remove_a_mediated_device(box: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ccw", "take", DEVICE, "--uuid", UUID]) == 0
    taken = state(box, "/sys", "/dev")
    assert run(["mdev", "remove", UUID]) == 0
    assert told(capsys, "mdev", "list") == []
    assert run(["mdev", "create", "0.0.0000", "vfio_ccw-io", "--uuid", UUID]) == 0
    assert differences(state(box, "/sys", "/dev"), taken) == []


def test_a_program_that_stays_sees_what_the_others_do(box: Sandbox) -> None:
    with box.host() as host:
        for words in (
            ["bind", FUNCTION],
            ["ccw", "take", DEVICE, "--uuid", UUID],
            ["mdev", "remove", UUID],
            ["release", FUNCTION],
            ["bind", "9999:00:00.0"],
        ):
            run(words)
            assert differences(walk(host.backend), walk(box.host().backend)) == []


def test_options_lead_out_of_it(box: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bind", FUNCTION]) == 0
    assert drivers(capsys, "--machine", "z15-lpar")[FUNCTION] is None
    assert drivers(capsys)[FUNCTION] == "vfio-pci"


# a killed command


class _KillAt(list[tuple[str, str]]):
    """A log of calls that ends the process before the one with this number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def append(self, call: tuple[str, str]) -> None:
        self.number -= 1
        if self.number == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _bind(box: Sandbox, kill_at: int = 0) -> int:
    """Bind in a process of its own, and give the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            with box.host() as host:
                plan = binding.plan_bind(host.function(FUNCTION))
                software_of(host.backend).faults.log = _KillAt(kill_at)
                binding.run(plan, journal=DIRECTORY)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status)


def test_killed_in_the_middle(box: Sandbox) -> None:
    before = state(box, "/sys", "/dev")
    with box.host() as host:
        plan = binding.plan_bind(host.function(FUNCTION))
        calls = software_of(host.backend).faults.log = []
        binding.run(plan, journal=DIRECTORY)
    done = state(box, "/sys", "/dev")
    assert run(["release", FUNCTION]) == 0
    ends = set()
    for kill_at in range(2, len(calls), 7):
        assert _bind(box, kill_at) == signal.SIGKILL
        assert run(["restore"]) == 0
        now = state(box, "/sys", "/dev")
        ends.add("before" if now == before else "done" if now == done else "between")
        assert "between" not in ends, differences(now, before)
        assert run(["release", FUNCTION]) == 0
    assert "before" in ends


# the command itself


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["true"], 0),
        (["--", "sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["no-such-program"], 2),
        (["--machine", "no-such-machine", "true"], 2),
    ],
)
def test_its_exit_code_is_that_of_the_command(outside: None, words: list[str], status: int) -> None:
    assert run(["sandbox", *words]) == status


def test_commands_in_it_find_this_pyvfio(outside: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("PYVFIO_MACHINE", "lab-s390x")
    monkeypatch.chdir(tmp_path)
    script = f"pyvfio bind {FUNCTION} > bind && pyvfio list --json > list; echo $PYVFIO_SANDBOX > name"
    assert run(["sandbox", "--", "sh", "-c", script]) == 0
    rows = {row["address"]: row["driver"] for row in json.loads((tmp_path / "list").read_text())}
    assert rows[FUNCTION] == "vfio-pci"
    assert not Path((tmp_path / "name").read_text().strip()).exists()


def test_no_sandbox_in_a_sandbox(box: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sandbox", "true"]) == 2
    assert f"in the sandbox {box.directory} already" in capsys.readouterr().err


def test_a_sandbox_that_is_gone(
    outside: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, "/no/such/directory")
    assert run(["list"]) == 2
    assert "unset PYVFIO_SANDBOX" in capsys.readouterr().err


def test_one_that_is_kept(outside: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep = ["sandbox", "--keep", str(tmp_path / "kept")]
    assert run([*keep, "sh", "-c", f"pyvfio bind {FUNCTION} >/dev/null"]) == 0
    assert run([*keep, "sh", "-c", f"pyvfio list --json > {tmp_path}/list"]) == 0
    assert "vfio-pci" in (tmp_path / "list").read_text()
    assert run([*keep, "--machine", "lab-s390x", "true"]) == 2
    assert "it has the machine z15-lpar" in capsys.readouterr().err
    assert run(["sandbox", "--keep", str(tmp_path), "true"]) == 2
    assert "not empty" in capsys.readouterr().err


def test_its_machine_file_is_a_copy(outside: None, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[machine]\nname = "mine"\n[[zpci.function]]\nuid = 1\nfid = 1\nmodel = "virtio-bell"\n')
    box = Sandbox.create(tmp_path / "box", str(file))
    file.write_text("not a machine")
    with box.host() as host:
        assert [str(function) for function in host.functions()] == ["0001:00:00.0"]
    assert box.machine == "mine"
    with pytest.raises(Misuse, match="goes with its shell"):
        Sandbox(tmp_path)


# shells


@pytest.mark.parametrize("name", ["bash", "zsh", "fish", "sh", "mksh"])
def test_the_prompt_names_the_machine(
    outside: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    shell = tmp_path / name
    shell.write_text(
        '#!/bin/sh\nfor word in "$@" "$PS1" "$ZDOTDIR/.zshrc"; do echo "$word"; cat "$word" 2>/dev/null; done '
        f"> {tmp_path}/told\nexit 0\n"
    )
    shell.chmod(0o755)
    monkeypatch.setenv("SHELL", str(shell))
    monkeypatch.delenv("PS1", raising=False)
    assert run(["sandbox"]) == 0
    assert "(sandbox z15-lpar) " in (tmp_path / "told").read_text()


def test_a_real_shell(outside: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".bashrc").write_text("PS1='mine> '\nMY_OWN=here\n")
    near, far = pty.openpty()
    command = [sys.executable, "-c", "from pyvfio_tools.cli import main; main()", "sandbox"]
    with subprocess.Popen(command, stdin=far, stdout=far, stderr=far, start_new_session=True) as process:
        os.close(far)
        text = _read_until(near, "(sandbox z15-lpar) mine> ")
        os.write(near, b"echo $MY_OWN; exit 5\n")
        text += _read_until(near, "the sandbox is gone")
        assert process.wait(20) == 5
    os.close(near)
    assert "every pyvfio command here works with this machine" in text
    assert "here\r\n" in text


def _read_until(fd: int, wanted: str) -> str:
    text = ""
    while wanted not in text:
        assert select.select([fd], [], [], 30)[0], text
        text += os.read(fd, 1 << 12).decode()
    return text


def test_a_sandbox_with_further_devices(
    tmp_path: Path, outside: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["zpci,uid=8,fid=2,target=dev1", "virtio-bell,id=dev1"]
    place = tmp_path / "box"
    devices = [option for word in words for option in ("--device", word)]
    assert run(["sandbox", "--keep", str(place), "--device", "zpci,uid=0x11,target=a", "--", "true"]) == 2
    assert not Sandbox.is_one(place)
    assert run(["sandbox", "--keep", str(place), *devices, "--", "true"]) == 0
    assert Sandbox(place).devices == tuple(words)
    assert run(["sandbox", "--keep", str(place), "--device", "virtio-bell", "--", "true"]) == 2
    assert "leave --device out" in capsys.readouterr().err
    assert run(["sandbox", "--keep", str(place), "--", "true"]) == 0
    monkeypatch.setenv(VARIABLE, str(place))
    assert run(["bind", "0008:00:00.0"]) == 0
    assert drivers(capsys)["0008:00:00.0"] == "vfio-pci"
    assert run(["list", *devices]) == 2
    assert "--device goes with --machine" in capsys.readouterr().err
