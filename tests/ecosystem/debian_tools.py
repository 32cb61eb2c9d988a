"""Programs of Debian packages: the installed one, or the package unpacked below build/ (nothing is installed)."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

from tests.hil.debian import Suite, host_mirror
from tests.hil.packages import os_release
from tests.hil.progress import StepFailed

CACHE = Path(__file__).resolve().parents[2] / "build" / "ecosystem"


class NoTool(Exception):
    """A program cannot be had, and why."""


def tool(package: str, program: str, suite: str = "") -> Path:
    """The path of `program` from Debian's `package`, of a suite or of the host's own release.  Raise `NoTool`."""
    if not suite:
        installed = shutil.which(program, path="/usr/bin:/usr/sbin:/bin:/sbin")
        if installed:
            return Path(installed)
    folder = unpacked(package, suite or own_suite())
    for directory in ("usr/bin", "usr/sbin", "bin", "sbin", "lib/systemd", "usr/lib/systemd"):
        path = folder / directory / program
        if path.exists():
            _check_starts(path)
            return path
    raise NoTool(f"Debian's package {package} has no program {program}")


def _check_starts(path: Path) -> None:
    """Raise `NoTool` when a library that the program needs is not on this host."""
    answer = subprocess.run([str(path), "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if "error while loading shared libraries" in answer.stderr:
        raise NoTool(answer.stderr.strip())


def own_suite() -> str:
    """The codename of the host's release.  Raise `NoTool` when it is not Debian."""
    release = os_release()
    if release.get("ID") != "debian" or "VERSION_CODENAME" not in release:
        raise NoTool(f"this host is {release.get('PRETTY_NAME', 'unknown')}, and its tools are not installed")
    return release["VERSION_CODENAME"]


@functools.cache
def unpacked(package: str, suite: str) -> Path:
    """The directory with a package's files.  Raise `NoTool`."""
    folder = CACHE / suite / package
    if (folder / ".complete").exists():
        return folder
    try:
        archive = _download(package, suite)
        subprocess.run(["dpkg", "-x", str(archive), str(folder)], check=True, capture_output=True)
    except (StepFailed, OSError, subprocess.CalledProcessError) as error:
        raise NoTool(f"Debian's package {package} ({suite}) cannot be fetched: {str(error).splitlines()[0]}") from error
    (folder / ".complete").touch()
    return folder


@functools.cache
def _suite(name: str) -> Suite:
    suite = Suite(CACHE / name / "apt", host_mirror(), name)
    if not suite.is_fresh:
        suite.update()
    return suite


def _download(package: str, suite: str) -> Path:
    folder = CACHE / suite / "archives"
    folder.mkdir(parents=True, exist_ok=True)
    source = _suite(suite)
    return source.download(package, source.version(package), folder)
