"""Boot the guest, run one shell script in it, follow its output, and notice when it panics or hangs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import tn3270
from .architecture import S390X, Architecture

# What Hercules cannot load or configure, after which it waits for an operator.
_REFUSED = re.compile(r"^HHC(?:SC|CF)\d+E .*", re.MULTILINE)
_PANIC = re.compile(r"Kernel panic|\bOops:|Unable to handle kernel|disabled wait", re.IGNORECASE)


class GuestDied(Exception):
    """The guest ended, or was ended, before its job was done."""


@dataclass(frozen=True)
class Machine:
    """What a guest is made of: kernel, root disk, device profile and further words for QEMU or lines for Hercules.

    `qemu` stands for the program's name, if it is not the host's, and `environment` is what that needs.
    """

    kernel: Path
    disk: Path
    profile: str = "all"
    more: tuple[str, ...] = ()
    initrd: Path | None = None
    architecture: Architecture = S390X
    qemu: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


class _Follower:
    """The text that a growing file has gained since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def new(self) -> str:
        if not self._path.exists():
            return ""
        with open(self._path, "rb") as file:
            file.seek(self._at)
            data = file.read()
        self._at += len(data)
        return data.decode(errors="replace")


def run(
    machine: Machine,
    src: Path,
    out: Path,
    script: str,
    on_text: Callable[[str], None],
    timeout: float = 1500,
    quiet: float = 240,
) -> int:
    """Run `script` in the guest and give its exit status.

    `src` is /src in the guest (read-only), `out` is /out. `on_text` gets the script's output as it comes, and an
    empty text now and then. Raise GuestDied, with the console's last lines, on a panic, after `timeout` seconds
    in all, or after `quiet` seconds without a byte of output.
    """
    out.mkdir(parents=True, exist_ok=True)
    clear(out)
    (out / "job.sh").write_text(f"cd /tmp\n{script}\n")
    stop = threading.Event()
    with tempfile.TemporaryDirectory(prefix="hil") as short:
        places = (machine.kernel, machine.disk, src.resolve(), out.resolve(), Path(short))
        program, *words = machine.architecture.command(*places, machine.profile, list(machine.more))
        command = [*(machine.qemu or (program,)), *words]
        terminal = threading.Thread(target=tn3270.serve, args=(Path(short, "tn3270"), stop), daemon=True)
        if machine.architecture.terminal:
            terminal.start()
        with open(out / "qemu.log", "w", encoding="utf-8") as log:
            print(shlex.join(command), file=log, flush=True)
            qemu = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **machine.environment},
            )
            try:
                why = watch(qemu, out, on_text, timeout, quiet)
            finally:
                qemu.kill()
                qemu.wait()
                stop.set()
                if machine.architecture.terminal:
                    terminal.join(2)
    status = out / "job.status"
    if status.exists():
        return int(status.read_text())
    raise GuestDied(f"{why}\n{last_lines(out)}")


def clear(out: Path) -> None:
    """Remove what an earlier run left in `out`."""
    for name in ("job.status", "job.new", "job.log", "job.uptime", "dmesg.txt", "console.log"):
        (out / name).unlink(missing_ok=True)


def last_lines(out: Path, emulator: str = "QEMU", count: int = 20) -> str:
    """Give the last lines of the emulator's messages, the guest's console and the job's output, each with its name."""
    parts = []
    log = f"{emulator.lower()}.log"
    for name, title in ((log, emulator), ("console.log", "console"), ("job.log", "job")):
        path = out / name
        lines = path.read_text(errors="replace").splitlines()[1 if name == log else 0 :] if path.exists() else []
        shown = [f"    {line}" for line in lines[-count:]] or ["    (nothing)"]
        parts += [f"  {title}, last lines ({path}):", *shown]
    return "\n".join(parts)


def watch(
    emulator: subprocess.Popen[bytes],
    out: Path,
    on_text: Callable[[str], None],
    timeout: float,
    quiet: float,
    name: str = "QEMU",
    done: Callable[[], bool] = lambda: False,
) -> str:
    """Follow the guest until it is off or `done()`; say why it ended if the job did not.

    `done` is called before each look at the job's output.
    """
    job = _Follower(out / "job.log")
    console = _Follower(out / ("console.log" if name == "QEMU" else f"{name.lower()}.log"))
    began = heard = time.monotonic()
    panic = 0.0
    while True:
        ended = emulator.poll() is not None
        finished = done()
        text, spoken = job.new(), console.new()
        now = time.monotonic()
        on_text(text)
        if finished:
            return ""
        if text or spoken:
            heard = now
        if _PANIC.search(spoken) and not panic:
            panic = now
        refused = _REFUSED.search(spoken)
        if refused is not None:
            return f"{name}: {refused[0]}"
        if ended:
            if panic:
                return "the guest's kernel panicked"
            return f"{name} ended with status {emulator.returncode} before the job did"
        if panic and now - panic > 5:
            return "the guest's kernel panicked"
        if now - began > timeout:
            return f"the guest was still running after {timeout:.0f} s and was stopped"
        if now - heard > quiet:
            return f"the guest said nothing for {quiet:.0f} s and was stopped"
        time.sleep(0.1)
