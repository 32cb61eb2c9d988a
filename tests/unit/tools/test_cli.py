"""The command: what it prints, its exit codes, and that a mistake changes nothing."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import IO

import click
import pytest

import pyvfio.errors
from pyvfio.backend import Backend
from pyvfio.binding import Event, Phase, plan_bind
from pyvfio.binding import run as carry_out
from pyvfio.host import Host
from pyvfio_tools.cli import COMMANDS, EXIT_CODES, SHORT, cli, run
from pyvfio_tools.progress import watcher

Z15 = ["--machine", "z15-lpar"]


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run([*arguments, *Z15]) == 0
    return capsys.readouterr().out


def test_devices_beyond_the_machine_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pair = ["--device", "zpci,uid=8,fid=2,target=dev1", "--device", "virtio-rng-pci,id=dev1"]
    assert json.loads(output(capsys, "show", "0008:00:00.0", "--json", *pair))["driver"] == "virtio-pci"
    for wrong, words in {
        (
            "--machine",
            "z15-lpar",
            "--device",
            "zpci,uid=0x11,target=a",
        ): "uid 0x11 is in use already: the function with",
        ("--machine", "z15-lpar", "--device", "virtio-gpu-pci"): "there is no model 'virtio-gpu-pci'",
        ("--backend", "kernel", "--device", "virtio-rng-pci"): "this host has the devices that it has",
    }.items():
        assert run(["list", *wrong]) == 2
        assert words in capsys.readouterr().err


MISTAKES = [
    (["show", "0011:00:00.9"], 2, "BadAddress"),
    (["show", "x:z"], 2, "BadAddress"),
    (["show", "xyz"], 3, "NoSuchDevice"),
    (["show", "0.0.4711"], 3, "NoSuchDevice"),
    (["show", "0099:00:00.0"], 3, "NoSuchDevice"),
    (["show", "66826a94-72c4-557f-beca-d135a70628e9"], 3, "NoSuchDevice"),
    (["bind", "0.0.4711"], 3, "NoSuchDevice"),
    (["bind", "0011:00:00.0", "--to", "no-such-driver"], None, None),
    (["release", "0099:00:00.0"], 3, "NoSuchDevice"),
    (["ccw", "take", "0011:00:00.0"], 3, "WrongBus"),
    (["ccw", "take", "66826a94-72c4-557f-beca-d135a70628e9"], 3, "WrongBus"),
    (["ccw", "take", "0.0.0000"], 3, "NoSuchDevice"),
    (["ccw", "take", "0.0.013f", "--uuid", "not-a-uuid"], 2, "BadAddress"),
    (["ccw", "give-back", "0.0.4711"], 3, "NoSuchDevice"),
    (["mdev", "create", "0.0.0000", "vfio_ccw-io"], 3, "NoSuchDevice"),
    (["mdev", "remove", "66826a94-72c4-557f-beca-d135a70628e9"], 3, "NoSuchDevice"),
    (["mdev", "remove", "66826a94"], 2, "BadAddress"),
    (["mdev", "remove", "-"], 2, "BadAddress"),
    (["show", "0.0.013f", "--bus", "css"], 3, "NoSuchDevice"),
    (["show", "0011:00:00.0", "--bus", "css"], 3, "WrongBus"),
    (["bind", "0.0.013f"], 3, "WrongBus"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "kind"), MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_mistakes_have_their_exit_code_and_say_what_to_do(
    arguments: list[str], code: int | None, kind: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    got = run([*arguments, *Z15])
    assert got in EXIT_CODES
    assert got not in (0, 1)
    assert code is None or got == code
    text = capsys.readouterr().err
    assert text.startswith("pyvfio: ")
    assert "cause:" in text
    assert run([*arguments, *Z15, "--json"]) == got
    document = json.loads(capsys.readouterr().err)
    assert document["exit_code"] == got
    assert document["cause"]
    assert document["next_step"]
    assert kind is None or document["error"] == kind


def test_usage_errors() -> None:
    assert run(["list", "--bus", "isa"]) == 2
    assert run(["no-such-command"]) == 2
    assert run(["list", "--backend", "kernel", "--machine", "z15-lpar"]) == 2
    assert run(["list", "--backend", "hardware"]) == 2
    assert run(["list", "--machine", ""]) == 2
    assert run(["monitor", "--seconds", "nan", *Z15]) == 2
    assert run(["monitor", "--seconds", "-1", *Z15]) == 2
    assert run(["bind", "0011:00:00.0", "--to", "../x", *Z15]) == 2
    assert run(["bind", "0011:00:00.0", "--to", "", *Z15]) == 2


def test_a_usage_error_is_json_when_json_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--bus", "isa", "--json"]) == 2
    document = json.loads(capsys.readouterr().err)
    assert "isa" in document["cause"]
    assert document["next_step"]


def _command(*arguments: str, stdout: int | IO[bytes]) -> subprocess.Popen[bytes]:
    program = "import sys; from pyvfio_tools.cli import main; main(sys.argv[1:])"
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments, *Z15], stdout=stdout, stderr=subprocess.PIPE, text=False
    )


@pytest.mark.parametrize("command", ["list", "lscss", "doctor"])
def test_a_reader_that_goes_away_is_no_error(command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe, _command(command, stdout=pipe) as process:
        assert process.communicate()[1] == b""
        assert process.returncode == 0


def test_a_change_is_rolled_back_when_its_progress_function_fails(machine: Backend) -> None:
    def fail(event: Event) -> None:
        if event.phase is Phase.DONE and event.index == 1:
            raise ValueError("a bug of the caller")

    function = Host(machine).device("0011:00:00.0")
    with pytest.raises(ValueError, match="a bug"):
        carry_out(plan_bind(function), progress=fail)
    assert (function.driver, function.override) == ("virtio-pci", None)


def test_colours_can_be_turned_off(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert "\x1b[" in output(capsys, "doctor")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in output(capsys, "doctor")


def test_a_full_disk_is_an_error() -> None:
    with open("/dev/full", "wb") as full, _command("list", stdout=full) as process:
        assert b"ENOSPC" in process.communicate()[1]
        assert process.returncode == 7


def test_a_change_is_carried_through_when_nobody_reads_its_progress(
    machine: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*args: object) -> None:
        raise BrokenPipeError

    function = Host(machine).device("0011:00:00.0")
    plan = plan_bind(function)
    monkeypatch.setattr("pyvfio_tools.progress.click.echo", gone)
    carry_out(plan, progress=watcher(False))
    assert function.driver == "vfio-pci"


def test_a_wrong_machine_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.toml").write_text('[machine]\nname = "m"\nspeed = 3\n')
    assert run(["list", "--machine", str(tmp_path / "m.toml")]) == 2
    assert "m.toml:3" in capsys.readouterr().err


def test_every_error_class_has_a_documented_exit_code() -> None:
    classes = [
        value
        for value in vars(pyvfio.errors).values()
        if isinstance(value, type) and issubclass(value, pyvfio.errors.PyvfioError)
    ]
    assert len(classes) > 10
    for kind in classes:
        assert kind.exit_code in EXIT_CODES


def _walk(command: click.Command, path: list[str]) -> list[list[str]]:
    found = [path]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            found += _walk(child, [*path, name])
    return found


@pytest.mark.parametrize("path", _walk(cli, []), ids=lambda path: " ".join(path) or "pyvfio")
def test_every_command_has_help_with_an_example(path: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Usage:" in text
    if path != ["ccw"] and path != ["mdev"]:
        assert re.search(r"^\s+pyvfio ", text, re.MULTILINE), "an example"


def test_the_list_of_commands_is_complete() -> None:
    assert set(COMMANDS) == set(SHORT)


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "list")
    assert re.search(r"^0011:00:00\.0  Ethernet controller +1af4:1000  virtio-pci +0  0x0011  ", text, re.MULTILINE)
    assert re.search(
        r"^0\.0\.013f    3390/0c  3990/e9  dasd-eckd  0\.0\.0000 +42 43 44 45  online, ", text, re.MULTILINE
    )
    assert "io_subchannel" not in text
    rows = json.loads(output(capsys, "list", "--json", "--bus", "css"))
    assert {row["bus"] for row in rows} == {"css"}
    assert rows[0]["driver"] == "io_subchannel"


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads(output(capsys, "show", "0011:00:00.0", "--json"))
    assert facts["device"] == "0011:00:00.0"
    assert facts["device_id"] == "0x1000"
    assert facts["uid"] == "0x0011"
    assert facts["driver"] == "virtio-pci"
    assert facts["group_members"][0]["blocks"] is True
    text = output(capsys, "show", "0.0.013f")
    assert "3990/e9" in text
    assert json.loads(output(capsys, "show", "0.0.013f", "--json"))["online"] is True
    assert json.loads(output(capsys, "show", "0060:00:00.0", "--json"))["driver"] is None
    assert re.search(r"^device number +0\.0\.013f$", output(capsys, "show", "0.0.0000", "--bus", "css"), re.MULTILINE)


def test_show_says_what_uses_the_device(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYVFIO_MACHINE", "s390x-server")
    assert run(["show", "vda"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^names +vda$", text, re.MULTILINE)
    assert re.search(r"^class name +SCSI controller$", text, re.MULTILINE)
    assert re.search(r"^in use +the system starts from it.* \(boot\)$", text, re.MULTILINE)
    assert "vda1 is mounted on /boot (ext4) [/dev/vda1]" in text
    assert run(["show", "0.0.0200", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["names"] == ["dasda"]
    assert {finding["probe"] for finding in facts["in_use"]} == {"mounted", "online", "signature"}
    assert run(["show", "vde"]) == 0
    assert re.search(r"^in use +nothing was found", capsys.readouterr().out, re.MULTILINE)


def test_lscss_is_the_listing_that_people_know(capsys: pytest.CaptureFixture[str]) -> None:
    lines = output(capsys, "lscss").splitlines()
    assert lines[0].split() == ["Device", "Subchan.", "DevType", "CU", "Type", "Use", "PIM", "PAM", "POM", "CHPIDs"]
    by_device = {line.split()[0]: line for line in lines[2:]}
    assert " ".join(by_device["0.0.1220"].split()) == "0.0.1220 0.0.000a 1732/01 1731/01 80 80 ff 85000000 00000000"
    assert " ".join(by_device["0.0.1800"].split()) == "0.0.1800 0.0.0014 1732/03 1731/03 80 80 ff 58000000 00000000"
    assert " ".join(by_device["0.0.013f"].split()) == "0.0.013f 0.0.0000 3390/0c 3990/e9 yes f0 f0 ff 42434445 00000000"
    assert len(by_device) == 13


def test_bind_shows_its_plan_and_its_progress(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "bind", "0011:00:00.0", "0060:00:00.0")
    assert "undo:" in text
    assert "ok:" in text
    twice = json.loads(output(capsys, "bind", "0011:00:00.0", "11:0:0.0", "--json"))
    assert twice["objects"] == ["0011:00:00.0"]
    assert len(twice["steps"]) == 3
    assert twice["done"] is True
    assert "bind 0.0.0001 to vfio_ccw" in output(capsys, "bind", "0.0.0001", "--bus", "css")
    document = json.loads(output(capsys, "bind", "0011:00:00.0", "--dry-run", "--json"))
    assert document["done"] is False
    assert document["steps"]


def test_ccw_take(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(output(capsys, "ccw", "take", "013f", "--json"))
    assert document["done"] is True
    assert len(document["mdev"]) == 36


def test_ccw_take_and_give_back_of_many(machine: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyvfio_tools.options.open_host", lambda *_: Host(machine))
    taken = Host(machine).sysfs
    assert run(["ccw", "take", "0.0.0100-0.0.0fff", "dasda", "--uuid", "66826a94-72c4-557f-beca-d135a70628e9"]) == 2
    assert run(["ccw", "take", "0.0.0100-0.0.0fff", "dasda"]) == 0
    names = taken.names("/sys/bus/css/drivers/vfio_ccw")
    assert [name for name in names if name.count(".") == 2] == ["0.0.0000", "0.0.0001"]
    assert len(taken.names("/sys/bus/mdev/devices")) == 2
    assert run(["ccw", "give-back", "0.0.0*"]) == 0
    assert taken.names("/sys/bus/mdev/devices") == []


def test_devices_from_standard_input(machine: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyvfio_tools.options.open_host", lambda *_: Host(machine))
    monkeypatch.setattr("sys.stdin", io.StringIO("# these two\n\neth0  # the first\n0061:00:00.0\n0060:00:00.0\n"))
    assert run(["bind", "-"]) == 3
    monkeypatch.setattr("sys.stdin", io.StringIO("# these two\n\nvda  # the first\n0060:00:00.0\n0020:00:00.0\n"))
    assert run(["bind", "-", "--force=boot,mounted,swap,signature,open,holders"]) == 0
    assert [Host(machine).device(name).driver for name in ("0020:00:00.0", "0060:00:00.0")] == ["vfio-pci"] * 2
    monkeypatch.setattr("sys.stdin", io.StringIO("# nothing\n"))
    assert run(["release", "-", "--driver", "vfio-pci"]) == 2
    assert Host(machine).device("0060:00:00.0").driver == "vfio-pci"


def test_mdev_lists_of_a_machine_without_any(capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "mdev", "list") == "no mediated devices\n"
    assert json.loads(output(capsys, "mdev", "list", "--json")) == []


def test_monitor_ends(capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "monitor", "--seconds", "0.01") == ""


def test_doctor_of_a_good_machine(capsys: pytest.CaptureFixture[str]) -> None:
    findings = json.loads(output(capsys, "doctor", "--json"))
    assert {finding["status"] for finding in findings} <= {"OK", "warning"}
    assert any(finding["check"] == "iommufd" for finding in findings)


def test_doctor_of_a_machine_without_vfio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bare.toml").write_text(
        '[machine]\nname = "bare"\nmodules = []\n[[zpci.function]]\nuid = 1\nfid = 1\nmodel = "virtio-rng"\n'
    )
    assert run(["doctor", "--machine", str(tmp_path / "bare.toml")]) == 13
    text = capsys.readouterr().out
    assert "modprobe vfio" in text


def test_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["machines", "--json"]) == 0
    names = {row["name"] for row in json.loads(capsys.readouterr().out)}
    assert {"z15-lpar", "lab-s390x"} <= names


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert "_PYVFIO_COMPLETE" in capsys.readouterr().out


def test_demo(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo"]) == 0
    text = capsys.readouterr().out
    for name in ("Q1", "Q2", "Q3", "Q4", "Q5", "Q6", "Q7", "K1", "K2", "K3", "K4", "K5", "K6", "K7"):
        assert re.search(rf"^\s+{name}\s", text, re.MULTILINE), name
    assert "VOL1" in text
    assert "0X3F3F" in text
    assert "NOT SO" not in text
    assert re.search(r"all \d+ checks verified", text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("bnd", "Did you mean pyvfio bind, or pyvfio unbind?"),
        ("css", "Did you mean pyvfio lscss?"),
        ("xyzzy", "No such command 'xyzzy'.\n"),
        ("plan ccw take 0.0.013f", "Did you mean pyvfio plan ccw-give-back, or pyvfio plan ccw-take?"),
        ("mdev lst", "Did you mean pyvfio mdev list?"),
        ("--machine z15-lpar list", "The options of a command follow it"),
    ],
)
def test_a_mistyped_command_is_told_what_may_be_meant(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words.split()) == 2
    assert said in capsys.readouterr().err


def test_help_cuts_no_sentence_short(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mdev", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.partition("Commands:")[2].split())
    assert "..." not in text
    assert "List the types of all parents, or of one, with how many more can be made of each." in text


@pytest.mark.parametrize(
    ("words", "cause", "next_step"),
    [
        ("sriov 0060:00:00.0", "no sriov_totalvfs", "the firmware may have to turn SR-IOV on"),
        ("group 99", "the groups are: 0, 1, 2", "pyvfio doctor"),
        ("show vdz", "no interface, disk", "goes by its address alone"),
    ],
)
def test_an_error_says_what_to_do_next(
    words: str, cause: str, next_step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words.split(), "--machine", "z15-lpar", "--json"]) in (3, 6)
    told = json.loads(capsys.readouterr().err)
    assert cause in told["cause"]
    assert next_step in told["next_step"]


def test_backends_are_named_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--backend", "nonsuch"]) == 2
    assert "one of: kernel, software" in capsys.readouterr().err


def _nobody_reads(text: str) -> int:
    raise BrokenPipeError(errno.EPIPE, "Broken pipe")


@pytest.mark.filterwarnings("error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("bind vda", 5),
        ("bind vda --dry-run --json", 5),
        ("plan bind eth0", 5),
        ("bind vde", 0),
        ("ccw take 0.0.0200", 5),
        ("list", 0),
    ],
)
def test_the_exit_code_is_true_though_nobody_reads(
    words: str, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``set -o pipefail; pyvfio bind ... | head -1 && start-the-guest``."""
    monkeypatch.setenv("PYVFIO_MACHINE", "s390x-server")
    gone = io.StringIO()
    monkeypatch.setattr(gone, "write", _nobody_reads)
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", gone)
        status = run(words.split())
        sys.stdout.close()  # /dev/null, which is there for the interpreter's end, or the file that nobody reads
    assert status == code
    assert ("--force=" in capsys.readouterr().err) == (code == 5)
