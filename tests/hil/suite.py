"""Run the contract suite on the software machine here and on the kernel in the guest, and compare."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from . import guest, rootfs, table, wheel
from .progress import Progress, StepFailed

AT_LEAST = 150
# pytest's statuses: all passed, some failed, nothing collected. Others say that the run itself went wrong.
_RAN = (0, 1, 5)
_DONE = re.compile(r"^(\S+::.*?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b.*?(?:\[ *(\d+)/(\d+)\])?$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command `test`."""
    parser.add_argument("--at-least", type=int, help=f"tests that must run on the kernel (default: {AT_LEAST})")
    parser.add_argument("--wheel", type=Path, help="pyvfio's built wheel (default: build one now)")
    parser.add_argument("--machine", default="lab-s390x", help="the software machine (default: %(default)s)")
    parser.add_argument("--suite", type=Path, help="a test file or folder to run instead of pyvfio.testing.contract")
    parser.add_argument("--timeout", type=float, default=1500, help="seconds for the guest (default: %(default).0f)")
    parser.add_argument("--verbose", action="store_true", help="show every line of the guest's pytest")
    parser.add_argument("words", nargs="*", metavar="PYTEST-ARGUMENT", help="for both runs, after --")


class Watch:
    """Turn pytest's verbose output into progress: failures as lines, the rest as one moving line."""

    def __init__(self, progress: Progress, update: Callable[[str, float | None], None], verbose: bool) -> None:
        self._progress = progress
        self._update = update
        self._verbose = verbose
        self._rest = ""
        self._text = "booting"
        self._share: float | None = None
        self._began = time.monotonic()
        self.booted: float | None = None

    @property
    def running(self) -> str:
        """Give the line that pytest has begun and not ended: the test that runs now."""
        return self._rest.strip()

    def feed(self, text: str) -> None:
        """Take the output's next piece; an empty one only refreshes what is shown."""
        if text and self.booted is None:
            self.booted = time.monotonic() - self._began
            self._progress.say(f"        the guest's first output after {self.booted:.1f} s")
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._line(line)
        self._update(self._text, self._share)

    def _line(self, line: str) -> None:
        found = _DONE.match(line.rstrip())
        if found is not None:
            name, result, done, total = found.groups()
            if total:
                self._share = int(done) / int(total)
                self._text = f"{done}/{total} {name.rpartition('/')[2]}"
            if result in ("FAILED", "ERROR"):
                self._progress.say(f"        {result} {name.rpartition('/')[2]}")
        if self._verbose:
            self._progress.say(f"    | {line}")


def test(arguments: argparse.Namespace, machine: guest.Machine, python: Path, root: Path, progress: Progress) -> int:
    """Run both sides and print the table; give 0 if they agree, nothing failed and enough ran, else 1.

    Raise StepFailed if a side could not run at all, GuestDied if the guest ended early.
    """
    folder: Path = arguments.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "run.log"
    log.write_text("")
    tree, software, kernel = folder / "tree", folder / "software", folder / "kernel"
    with progress.stage("wheel"):
        built = arguments.wheel or wheel.build(root, _emptied(folder / "wheel"), log)
        packages = wheel.lay_out(built, tree, arguments.suite)
        rootfs.compile_tree(python, tree, packages, log, "/src")
    progress.say(f"        {built.name}")
    if not arguments.words and not arguments.suite:
        with progress.stage("numbers of the ABI against this kernel's headers"):
            _numbers(machine.kernel.parent / "headers", root, folder / "headers.log")
    target = ["suite"] if arguments.suite else ["--pyargs", "pyvfio.testing.contract"]
    words = [*arguments.words, *target]
    with progress.stage("tests on the software machine"):
        _software(tree, _emptied(software), [*words, f"--pyvfio-machine={arguments.machine}"], progress)
    with progress.stage("tests on the kernel") as update:
        watch = Watch(progress, update, arguments.verbose)
        _guest(machine, tree, _emptied(kernel), "kernel", words, watch, arguments.timeout)
    big_endian = folder / "big-endian"
    if not arguments.words:
        with progress.stage("tests on the software machine in the big-endian guest") as update:
            watch = Watch(progress, update, arguments.verbose)
            more = [*words, f"--pyvfio-machine={arguments.machine}"]
            _guest(machine, tree, _emptied(big_endian), "software", more, watch, arguments.timeout)
    at_least = arguments.at_least if arguments.at_least is not None else 1 if arguments.words else AT_LEAST
    report = table.compare(table.read(software / "junit.xml"), table.read(kernel / "junit.xml"), at_least)
    if not arguments.words:
        report.add_big_endian(table.read(big_endian / "junit.xml"))
    lines = report.lines()
    (folder / "table.txt").write_text("\n".join(lines) + "\n")
    progress.say("\n" + "\n".join(lines))
    for side in (software / "job.log", kernel / "job.log"):
        progress.say(f"log       {side}")
        for line in failures(side.read_text(errors="replace")):
            progress.say(f"    {line}")
    progress.say(report.closing_line())
    return 1 if report.problems else 0


def _numbers(headers: Path, root: Path, log: Path) -> None:
    """Compare every number and layout of pyvfio/abi with the headers of the kernel under test.  Raise StepFailed."""
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "tests/unit/abi/test_headers.py"]
    env = {**os.environ, "PYVFIO_KERNEL_HEADERS": str(headers)}
    with open(log, "w", encoding="utf-8") as out:
        done = subprocess.run(command, cwd=root, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=600)
    if done.returncode:
        shown = "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-25:])
        raise StepFailed(f"pyvfio/abi does not agree with the kernel's headers\n{shown}")


def _guest(
    machine: guest.Machine, tree: Path, out: Path, backend: str, words: list[str], watch: Watch, timeout: float
) -> None:
    """Run the suite in a fresh guest.  Raise StepFailed or GuestDied."""
    command = ["python3", *_pytest(backend, Path("/src"), Path("/out/junit.xml")), *words]
    script = f"export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1\ncd /src\n{shlex.join(command)}"
    try:
        status = guest.run(machine, tree, out, script, watch.feed, timeout)
    except guest.GuestDied as error:
        raise guest.GuestDied(f"while it ran {watch.running or 'no test'}: {error}") from error
    if status not in _RAN:
        raise StepFailed(f"pytest in the guest ended with status {status}\n{guest.last_lines(out)}")


def failures(log: str, limit: int = 300) -> list[str]:
    """Cut pytest's account of what failed out of its output; no more than the last `limit` lines."""
    lines = log.splitlines()
    heads = [index for index, line in enumerate(lines) if re.match(r"=+ (ERRORS|FAILURES) =+$", line)]
    return lines[heads[0] :][-limit:] if heads else []


def _pytest(backend: str, tree: Path, junit: Path) -> list[str]:
    words = ["-m", "pytest", "-v", "-rfE", "--tb=short", "--color=no", "-p", "no:cacheprovider", f"--rootdir={tree}"]
    return [*words, "-p", "pyvfio.testing.plugin", f"--pyvfio-backend={backend}", f"--junitxml={junit}"]


def _software(tree: Path, out: Path, words: list[str], progress: Progress) -> None:
    """Run the suite here, from the same tree as the guest, and without other pytest plugins, as there."""
    command = [sys.executable, *_pytest("software", tree, out / "junit.xml"), *words]
    env = {**os.environ, "PYTHONPATH": str(tree), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        env.pop(name, None)
    with open(out / "job.log", "w+", encoding="utf-8") as log:
        status = subprocess.run(
            command, cwd=tree, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=900
        ).returncode
        log.seek(0)
        lines = log.read().splitlines()
    if status not in _RAN:
        shown = "\n".join(f"    {line}" for line in lines[-25:])
        raise StepFailed(f"pytest on the software machine ended with status {status}\n{shown}")
    for line in lines:
        found = _DONE.match(line)
        if found is not None and found[2] in ("FAILED", "ERROR"):
            progress.say(f"        {found[2]} {found[1].rpartition('/')[2]}")


def _emptied(folder: Path) -> Path:
    """Give the folder, new: nothing of an earlier run may be taken for this one's."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
