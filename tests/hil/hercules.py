"""The guest with a DASD: Hercules, the configuration of its machine, and a run in it.

subchannel   device     what
0.0.0000     0.0.0009   3215, the console        conmode=3215 condev=0x0009
0.0.0001     0.0.0a00   3390-1, behind a 3990    for the tests
0.0.0002     0.0.0a01   9336, root disk
0.0.0003     0.0.0a02   9336, the host's tree    /src
0.0.0004     0.0.0a03   9336, results            /out, see volumes.py

`nosyncio` on the 3390: a program that does not end would run inside the guest's START SUBCHANNEL otherwise, and
Hercules takes a processor that does nothing else for broken.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from . import volumes
from .guest import GuestDied, Machine, clear, last_lines, watch
from .progress import StepFailed

# Places in the guest's storage: kernel, initial RAM disk, where the kernel looks for its address and size, and for its
# command line (arch/s390/include/asm/setup.h).
_KERNEL, _INITRD, _INITRD_WHERE, _COMMAND_LINE = 0x0, 0x2000000, 0x10408, 0x10480
_LONGEST_LINE = 895
_PATIENCE = 5.0
# By itself Hercules gives its processor a lower priority than its devices and other programs have: a busy host, or a
# program that does not end, would then starve it.
_MACHINE = """\
CPUSERIAL 002623
CPUMODEL  2097
MAINSIZE  768
XPNDSIZE  0
NUMCPU    1
ARCHMODE  ESAME
OSTAILOR  LINUX
PANRATE   SLOW
TIMERINT  1000
CPUPRIO   0
DEVPRIO   0
CNSLPORT  {port}
0009 3215-C /
"""


def configuration(port: int, more: tuple[str, ...] = ()) -> str:
    """Give Hercules' configuration, for the folder of the volumes; `more` are further lines of devices."""
    lines = [f"{volumes.DASD:04X} 3390 {volumes.DASD_FILE} nosyncio"]
    lines += [f"{number:04X} 9336 {name}" for number, name in volumes.FILES.items()]
    return _MACHINE.format(port=port) + "\n".join((*lines, *more)) + "\n"


def command_line() -> str:
    """Give the kernel's command line."""
    words = ["console=ttyS0", "conmode=3215", "condev=0x0009", "quiet", "panic=0", "rdinit=/init"]
    line = " ".join((*words, *(f"{name}={value}" for name, value in volumes.words().items())))
    assert len(line) <= _LONGEST_LINE
    return line


def lay_out(folder: Path, machine: Machine, port: int) -> None:
    """Put into `folder` what Hercules reads: configuration, commands and what is loaded where.  Raise StepFailed."""
    if machine.initrd is None:
        raise StepFailed("the guest under Hercules needs an initial RAM disk")
    size = machine.initrd.stat().st_size
    shutil.copyfile(machine.kernel, folder / "bzImage")  # Hercules loads nothing from outside of its folder
    shutil.copyfile(machine.initrd, folder / "initrd")
    (folder / "where").write_bytes(_INITRD.to_bytes(8, "big") + size.to_bytes(8, "big"))
    (folder / "line").write_bytes(command_line().encode() + b"\0")
    places = {"bzImage": _KERNEL, "initrd": _INITRD, "where": _INITRD_WHERE, "line": _COMMAND_LINE}
    (folder / "guest.ins").write_text("".join(f"{name} {place:#010x}\n" for name, place in places.items()))
    (folder / "guest.cnf").write_text(configuration(port, machine.more))
    (folder / "guest.rc").write_text("ipl guest.ins\n")


def run(
    machine: Machine,
    src: Path,
    out: Path,
    script: str,
    on_text: Callable[[str], None],
    timeout: float = 1500,
    quiet: float = 240,
) -> int:
    """Run `script` in the guest and give its exit status; as `guest.run`, but `out` is filled at the end."""
    out.mkdir(parents=True, exist_ok=True)
    clear(out)
    # the 3390 takes almost a gigabyte: not in a /tmp that may be memory
    with (
        tempfile.TemporaryDirectory(prefix="volumes", dir=out) as name,
        open(out / "hercules.log", "w", encoding="utf-8") as log,
    ):
        folder = Path(name)
        volumes.make(folder, machine.disk, src.resolve(), f"cd /tmp\n{script}\n", out / "volumes.log")
        results = volumes.Results(folder)
        lay_out(folder, machine, _free_port())
        command = ["hercules", "-d", "-f", "guest.cnf"]
        print(shlex.join(command), file=log, flush=True)
        env = {**os.environ, "HERCULES_RC": "guest.rc"}
        hercules = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

        def done() -> bool:
            ended = results.status is not None
            results.follow(out / "job.log")
            return ended

        try:
            why = watch(hercules, out, on_text, timeout, quiet, "Hercules", done)
            shown = last_lines(out, "Hercules")
        finally:
            _end(hercules)
            (folder / volumes.DASD_FILE).replace(out / volumes.DASD_FILE)
        if results.status is not None:
            results.take(out)
            (out / "job.status").write_text(f"{results.status}\n")
            return results.status
    raise GuestDied(f"{why}\n{shown}")


def _free_port() -> int:
    """Give a port for the consoles that nobody has: two guests may run at a time."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _end(hercules: subprocess.Popen[bytes]) -> None:
    """Let Hercules close its volumes; kill it if it does not."""
    hercules.terminate()
    try:
        hercules.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        hercules.kill()
        hercules.wait()
