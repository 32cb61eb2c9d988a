"""Completion: what is offered, the protocol of each shell, and the shells themselves where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import get_completion_class

from pyvfio.address import MdevUuid
from pyvfio.backend import Backend
from pyvfio.binding import bind
from pyvfio.host import Host
from pyvfio_tools import options
from pyvfio_tools.cli import COMMANDS, cli, run
from pyvfio_tools.shells import SHELLS, words_of

Z15 = "--machine z15-lpar"


def ask(shell: str, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The offers for a command line: type, word, help."""
    monkeypatch.setenv("_PYVFIO_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    capsys.readouterr()
    assert run([]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [lines[place : place + 3] for place in range(0, len(lines), 3) if lines[place]]


def test_a_line_that_cannot_be_completed_offers_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in (
        "pyvfio show --machine no-such-machine ",
        "pyvfio show --backend nothing 00",
        f"pyvfio show {Z15} zzz",
        f"pyvfio bind {Z15} --driver ixgb",
        "pyvfio completion tcs",
    ):
        assert ask("bash", line, capsys, monkeypatch) == []


OFFERS = {
    "pyvfio ": sorted(COMMANDS),
    "pyvfio li": ["list"],
    f"pyvfio show {Z15} 0": [
        "0011:00:00.0", "0020:00:00.0", "0060:00:00.0", "0.0.013f", "0.0.0e00", "0.0.1220", "0.0.1221", "0.0.1222",
        "0.0.1240", "0.0.1241", "0.0.1242", "0.0.1700", "0.0.1701", "0.0.1780", "0.0.1781", "0.0.1800",
    ],
    f"pyvfio show {Z15} 0011:": ["0011:00:00.0"],
    f"pyvfio show {Z15} 'eth": ["eth0"],
    f"pyvfio bind {Z15} 0011:00:00.0 0.0.170": ["0.0.1700", "0.0.1701"],
    f"pyvfio show {Z15} --bus css 0.0.001": ["0.0.0010", "0.0.0011", "0.0.0012", "0.0.0013", "0.0.0014"],
    f"pyvfio show {Z15} --bus c": ["css", "ccw"],
    f"pyvfio list {Z15} --driver virtio": ["virtio-pci", "virtio_ccw"],
    f"pyvfio list {Z15} --group ": ["0", "1", "2"],
    f"pyvfio list {Z15} --id ": ["1af4:1000", "1af4:1001", "1af4:10f0"],
    f"pyvfio bind {Z15} --bus pci --to vfio": ["vfio-pci"],
    f"pyvfio zpci disable {Z15} 00": ["0011:00:00.0", "0060:00:00.0", "0020:00:00.0"],
    "pyvfio zpci reset 60 --how f": ["firmware", "function"],
    "pyvfio list --machine la": ["lab-ppc64", "lab-s390x", "lab-x86"],
    f"pyvfio list {Z15} --device zpci,uid=8,": ["zpci,uid=8,fid=", "zpci,uid=8,target="],
    f"pyvfio list {Z15} --device zpci,target=d --device virtio-r": ["virtio-rng-pci,id=d"],
    "pyvfio list --backend kernel --device zpci": [],
    "pyvfio list --backend ": ["kernel", "software"],
    "pyvfio completion ": ["bash", "zsh", "fish"],
    "pyvfio list --sort=dri": ["--sort=driver"],
    f"pyvfio zpci show {Z15} uid=": ["uid=11", "uid=20", "uid=60"],
    f"pyvfio clp function {Z15} fh=8": ["fh=80000000", "fh=80000001", "fh=80000002"],
    "pyvfio zpci enable --machine z17-pci fid": ["fid=5001"],
}  # fmt: skip


@pytest.mark.parametrize("line", OFFERS)
def test_offers(line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(word for _, word, _ in ask("bash", line, capsys, monkeypatch)) == sorted(OFFERS[line])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_replace_the_whole_word(
    shell: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [word for _, word, _ in ask(shell, "pyvfio list --sort=dri", capsys, monkeypatch)] == ["--sort=driver"]
    assert [word for _, word, _ in ask(shell, "pyvfio list --sort dri", capsys, monkeypatch)] == ["driver"]


def test_help_and_files(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert ["plain", "0.0.0e00", "no driver"] in ask("zsh", f"pyvfio show {Z15} 0.", capsys, monkeypatch)
    assert ["plain", "0.0.013f", "dasd-eckd"] in ask("zsh", f"pyvfio show {Z15} 0.", capsys, monkeypatch)
    assert ["file", "/dev/v", "_"] in ask("fish", "pyvfio show /dev/v", capsys, monkeypatch)
    assert ["file", "./m", "_"] in ask("fish", "pyvfio list --machine ./m", capsys, monkeypatch)
    assert ["plain", "--driver", "_"] not in ask(
        "fish", "pyvfio list --dr", capsys, monkeypatch
    )  # it says what it does
    assert [word for _, word, _ in ask("fish", "pyvfio list --dr", capsys, monkeypatch)] == ["--driver"]


def test_what_mediated_devices_are_made_of(
    machine: Backend, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid, host = str(MdevUuid.random()), Host(machine)
    monkeypatch.setattr(options, "open_host", lambda *_: Host(machine))
    bind(host.device("0.0.0001", bus="css"))

    def words(line: str) -> list[str]:
        return [word for _, word, _ in ask("bash", line, capsys, monkeypatch)]

    assert words("pyvfio mdev create ") == ["0.0.0001"]
    assert words("pyvfio mdev create 0.0.0001 ") == ["vfio_ccw-io"]
    assert words("pyvfio mdev create --auto ") == ["vfio_ccw-io"]
    assert words("pyvfio mdev types ") == ["0.0.0001"]
    assert words("pyvfio mdev define --type ") == ["vfio_ccw-io"]
    assert words("pyvfio mdev define --parent 0.0.") == ["0.0.0001"]
    assert words("pyvfio mdev remove ") == []
    host.mdev_parents()[0].type("vfio_ccw-io").create(uuid)
    assert words("pyvfio mdev remove ") == [uuid]
    assert words(f"pyvfio mdev attributes {uuid[:3]}") == [uuid]
    assert words("pyvfio mdev undefine ") == [uuid]
    assert words(f"pyvfio show {uuid[:8]}") == [uuid]
    assert "vfio-dev" in words("pyvfio monitor --bus vfio")
    assert "root" in words("pyvfio grant --user ro")
    assert ask("fish", "pyvfio mdev define --root /v", capsys, monkeypatch) == [["dir", "/v", "_"]]


NOT_COMPLETED = {
    "--attr", "--remove-attr", "settings", "--uuid",  # new names and values
    "--deadline", "--seconds", "--count", "--mode", "--seed", "--need", "number",  # numbers
    "--offset", "--get", "--nsid",
    "--volser", "--serial", "--put", "--name", "--set", "--make",  # what the caller must know
    "--blocks", "--tracks", "-l",  # ranges
    "--interval", "--header", "--address", "--mask",  # numbers
    "command", "--program", "-t",  # anything
}  # fmt: skip


def _parameters(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Parameter]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None:
                yield from _parameters(below, (*path, name))
        return
    for parameter in command.params:
        yield " ".join(path), parameter


def test_every_parameter_is_completed() -> None:
    """A parameter with a choice completes it, a path is the shell's; all others say how, or are named above."""
    missing = []
    for command, parameter in _parameters(cli):
        own = parameter._custom_shell_complete is not None or isinstance(parameter.type, click.Choice | click.Path)
        flag = isinstance(parameter, click.Option) and (parameter.is_flag or parameter.count)
        if not own and not flag and parameter.opts[0] not in NOT_COMPLETED:
            missing.append(f"{command} {parameter.opts[0]}")
    assert missing == []


def test_attributes_of_channel_devices(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = ask("zsh", f"pyvfio chccwdev {Z15} -a er", capsys, monkeypatch)
    assert found == [["plain", "erplog=", "dasd-eckd"]]


def test_places_of_injected_errors(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the error can strike; ports have no place in words."""
    line = "pyvfio eeh inject --machine power9-phb4 0000:01:00.0"
    for error, expected in (
        ("LD_CFG_ADDR", ["config:0x"]),
        ("dma-wr-addr", ["dma:0x"]),
        ("ST_MEM_DATA", [f"bar{number}:0x" for number in range(6)]),
        ("LD_IO_ADDR", []),
    ):
        assert [word for _, word, _ in ask("zsh", f"{line} {error} --at ", capsys, monkeypatch)] == expected
    assert [word for _, word, _ in ask("zsh", f"{line} --at c", capsys, monkeypatch)] == ["config:0x"]


def test_probes_of_force(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert ["plain", "mounted", "_"] in ask("zsh", f"pyvfio bind {Z15} --force mo", capsys, monkeypatch)
    assert ["plain", "mounted,swap", "_"] in ask("zsh", f"pyvfio bind {Z15} --force mounted,s", capsys, monkeypatch)
    assert ["plain", "--force=mounted", "_"] in ask("zsh", f"pyvfio bind {Z15} --force=mo", capsys, monkeypatch)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", ([], "")),
        ("pyvfio", ([], "pyvfio")),
        ("pyvfio ", (["pyvfio"], "")),
        ("pyvfio show 00", (["pyvfio", "show"], "00")),
        ("pyvfio show '00", (["pyvfio", "show"], "00")),
        ('pyvfio "a b" c', (["pyvfio", "a b"], "c")),
        ("pyvfio a#b", (["pyvfio"], "a#b")),
        ("pyvfio 0011:00:", (["pyvfio"], "0011:00:")),
    ],
)
def test_words(line: str, expected: tuple[list[str], str]) -> None:
    assert words_of(line) == expected


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_the_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_PYVFIO_COMPLETE={shell}_complete" in script
    assert get_completion_class(shell) is SHELLS[shell]
    assert script == SHELLS[shell](cli, {}, "pyvfio", "_PYVFIO_COMPLETE").source()


# the shells themselves


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A PATH whose ``pyvfio`` is the program under test, and the scripts."""
    program = tmp_path / "bin" / "pyvfio"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom pyvfio_tools.cli import main\nmain()\n")
    program.chmod(0o755)
    for shell in SHELLS:
        script = SHELLS[shell](cli, {}, "pyvfio", "_PYVFIO_COMPLETE").source()
        (tmp_path / f"pyvfio.{shell}").write_text(script)
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return {
        **os.environ,
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": paths,
        "SCRIPTS": str(tmp_path),
        "HOME": str(tmp_path),
    }


def shell(name: str, program: str, environment: dict[str, str]) -> list[str]:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run([name, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return done.stdout.splitlines()


_BASH = """
source "$SCRIPTS/pyvfio.bash"
complete -p pyvfio >/dev/null || exit 1
compopt() {{ echo "compopt $*"; }}
COMP_LINE='{line}' COMP_POINT={point}
_pyvfio_completion pyvfio
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        (f"pyvfio show {Z15} 00", ["0011:00:00.0", "0020:00:00.0", "0060:00:00.0"]),
        # readline has "0011:" on the line already and puts an offer behind its last ":"
        (f"pyvfio show {Z15} 0011:", ["00:00.0"]),
        (f"pyvfio show {Z15} 0011:00:", ["00.0"]),
        (f"pyvfio show {Z15} eth", ["eth0"]),
        ("pyvfio list --sort=dri", ["driver"]),
        # nor is what stands before the last "=" repeated
        (f"pyvfio list {Z15} --device=zpci,uid=8,t", ["compopt -o nospace", "8,target="]),
        (f"pyvfio list {Z15} --device zpci,uid=8,t", ["compopt -o nospace", "8,target="]),
        (f"pyvfio zpci show {Z15} uid=2", ["20"]),
        ("pyvfio list --machine ./", ["compopt -o default", ""]),
        ("pyvfio mo", ["monitor"]),
    ],
)
def test_bash(line: str, offers: list[str], environment: dict[str, str]) -> None:
    assert shell("bash", _BASH.format(line=line, point=len(line)), environment) == offers


def test_bash_completes_up_to_the_cursor(environment: dict[str, str]) -> None:
    line = "pyvfio mo --json"
    assert shell("bash", _BASH.format(line=line, point=len("pyvfio mo")), environment) == ["monitor"]


_ZSH = """
compdef() {{ : }}
compadd() {{ print -rl -- ${{(P)argv[-1]}} }}
_describe() {{ print -rl -- ${{(P)3}} }}
_path_files() {{ print -r -- files }}
source "$SCRIPTS/pyvfio.zsh"
words=({words}) CURRENT=$#words
_pyvfio_completion
"""


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        (f"pyvfio show {Z15} 0011:", [r"0011\:00\:00.0:virtio-pci"]),
        (f"pyvfio list {Z15} --group ''", ["0:0011\\:00\\:00.0", "1:0020\\:00\\:00.0", "2:0060\\:00\\:00.0"]),
        ("pyvfio completion z", ["zsh"]),
        ("pyvfio show /dev/", ["files"]),
        ("pyvfio list --sort=dri", ["--sort=driver"]),
    ],
)
def test_zsh(words: str, offers: list[str], environment: dict[str, str]) -> None:
    found = shell("zsh", _ZSH.format(words=words), environment)
    assert [word.partition(":")[0] if "group" in words else word for word in found] == [
        word.partition(":")[0] if "group" in words else word for word in offers
    ]


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        (f"pyvfio show {Z15} 0011:", ["0011:00:00.0\tvirtio-pci"]),
        ("pyvfio completion z", ["zsh"]),
        ("pyvfio list --sort=dri", ["--sort=driver"]),
    ],
)
def test_fish(line: str, offers: list[str], environment: dict[str, str]) -> None:
    program = f'source "$SCRIPTS/pyvfio.fish"; complete -C "{line}"'
    assert shell("fish", program, environment) == offers
