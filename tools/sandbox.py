"""``pyvfio sandbox``: a shell in which every pyvfio command works with one software machine."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import click

from pyvfio.errors import Misuse, from_oserror
from pyvfio.process.program import run_program
from pyvfio.sandbox import VARIABLE, Sandbox
from pyvfio_tools.complete import complete_machine
from pyvfio_tools.options import plugged_option

__all__ = ["sandbox"]

_DEFAULT = "z15-lpar"
_OUTSIDE = ("PYVFIO_BACKEND", "PYVFIO_MACHINE", "PYVFIO_JOURNAL")
"""What would lead commands elsewhere."""


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--machine",
    default=None,
    shell_complete=complete_machine,
    help=f"A software machine: a name (see pyvfio machines) or a .toml file.  [default: {_DEFAULT}]",
)
@plugged_option
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the sandbox in DIR; if there is one, go on with it.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def sandbox(
    ctx: click.Context, machine: str | None, plugged: tuple[str, ...], keep: Path | None, command: tuple[str, ...]
) -> None:
    """Practise: open a shell (or run COMMAND) in which every pyvfio command works with one software machine.

    Whatever is bound, taken or defined in the shell stays so for the commands after it, also in other terminals that
    have the same PYVFIO_SANDBOX; this host is left alone. With the shell the sandbox ends, unless --keep names a
    directory for it. The exit code is that of the shell or COMMAND.

    \b
    Examples:
      pyvfio sandbox
      pyvfio sandbox --machine lab-s390x
      pyvfio sandbox --device zpci,uid=8,fid=2,target=dev1 --device virtio-rng-pci,id=dev1
      pyvfio sandbox -- sh -c 'pyvfio bind 0011:00:00.0 && pyvfio list'
      pyvfio sandbox --keep ~/practice
    """
    if VARIABLE in os.environ:
        raise Misuse(
            "open a sandbox",
            cause=f"this shell is in the sandbox {os.environ[VARIABLE]} already",
            next_step="exit leaves it; or unset PYVFIO_SANDBOX",
        )
    with tempfile.TemporaryDirectory(prefix="pyvfio-sandbox-", ignore_cleanup_errors=True) as temporary:
        place = keep if keep is not None else Path(temporary) / "sandbox"
        try:
            opened = _open(place, machine, plugged)
        except OSError as error:
            raise from_oserror(error, "make sandbox", str(place), path=str(error.filename or "")) from error
        environment = {name: value for name, value in os.environ.items() if name not in _OUTSIDE}
        environment |= {VARIABLE: str(opened.directory), "PATH": _path()}
        words = list(command) or _shell(Path(temporary), opened.machine, environment)
        if not command:
            click.echo(
                f"sandbox of {opened.machine}: every pyvfio command here works with this machine, and none with this "
                "host; exit leaves it",
                err=True,
            )
        try:
            status = run_program(words, environment)
        except OSError as error:
            raise Misuse("run", words[0], cause=f"it cannot be started: {error.strerror}") from error
        if not command:
            kept = f"the sandbox is kept; pyvfio sandbox --keep {shlex.quote(str(keep))} goes on with it"
            click.echo("the sandbox is gone" if keep is None else kept, err=True)
    ctx.exit(status)


def _open(place: Path, machine: str | None, devices: tuple[str, ...]) -> Sandbox:
    """The sandbox that is there, or a new one."""
    if not Sandbox.is_one(place):
        return Sandbox.create(place, _DEFAULT if machine is None else machine, devices=devices)
    found = Sandbox(place)
    if machine not in (None, found.machine):
        raise Misuse(
            "go on with the sandbox",
            str(place),
            cause=f"it has the machine {found.machine}, not {machine}",
            next_step="leave --machine out, or name another directory",
        )
    if devices not in ((), found.devices):
        raise Misuse(
            "go on with the sandbox",
            str(place),
            cause=f"it has {' '.join(found.devices) or 'no further devices'}, not {' '.join(devices)}",
            next_step="leave --device out, or name another directory",
        )
    found.host().close()
    return found


def _path() -> str:
    """The search path, by which this very pyvfio is found."""
    path = os.environ.get("PATH", os.defpath)
    for folder in (os.path.dirname(os.path.abspath(sys.argv[0])), os.path.dirname(sys.executable)):
        own = os.path.join(folder, "pyvfio")
        if os.access(own, os.X_OK) and os.path.isfile(own):
            return path if shutil.which("pyvfio", path=path) == own else f"{folder}{os.pathsep}{path}"
    return path


def _shell(folder: Path, machine: str, environment: dict[str, str]) -> list[str]:
    """The user's shell with a prompt that names the machine; what it reads at its start is written to `folder`."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    mark = f"(sandbox {re.sub(r'[^A-Za-z0-9._-]', '_', machine)}) "
    match os.path.basename(shell):
        case "bash":
            (folder / "bashrc").write_text(f'[ -r ~/.bashrc ] && . ~/.bashrc\nPS1="{mark}$PS1"\n')
            return [shell, "--rcfile", str(folder / "bashrc"), *(["-i"] if sys.stdin.isatty() else [])]
        case "zsh":
            home = environment.get("ZDOTDIR") or environment.get("HOME", "/")
            (folder / ".zshrc").write_text(
                f"ZDOTDIR={shlex.quote(home)}\n"
                f'[ -r "$ZDOTDIR/.zshrc" ] && . "$ZDOTDIR/.zshrc"\nPROMPT="{mark}$PROMPT"\n'
            )
            environment["ZDOTDIR"] = str(folder)
            return [shell]
        case "fish":
            prompt = f"functions -c fish_prompt pyvfio_outer; function fish_prompt; echo -n '{mark}'; pyvfio_outer; end"
            return [shell, "-C", prompt]
        case _:
            environment["PS1"] = f"{mark}$ "
            return [shell]
