"""The tools of Debian that write the same files as pyvfio, and a private view of /sys and /etc to run them in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # tests.hil; at the end, so that the installed pyvfio stays first

from debian_tools import NoTool, own_suite, tool, unpacked  # noqa: E402
from private_host import PrivateHost, why_not  # noqa: E402


def cannot(reason: str) -> NoReturn:
    """Skip; fail where everything is said to be there (``PYVFIO_ECOSYSTEM=required``, as in .ci/run)."""
    if os.environ.get("PYVFIO_ECOSYSTEM") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def find_tool() -> Callable[[str, str], Path]:
    """Where a program of a Debian package is: skips with the reason when it cannot be had."""

    def find(package: str, program: str, suite: str = "") -> Path:
        try:
            return tool(package, program, suite)
        except NoTool as error:
            cannot(str(error))

    return find


@pytest.fixture
def host(tmp_path: Path) -> PrivateHost:
    """An empty host: its /sys and /etc are directories of this test."""
    reason = why_not()
    if reason:
        cannot(f"no private mount namespace: {reason}")
    return PrivateHost(tmp_path / "host")


@pytest.fixture
def hercules(tmp_path: Path) -> Callable[..., str]:
    """Run a program of the package `hercules` in this test's directory; give its output."""
    installed = shutil.which("dasdinit")
    try:
        folder = Path(installed).parents[1] if installed else unpacked("hercules", own_suite()) / "usr"
    except NoTool as error:
        cannot(str(error))
    libraries = ":".join(str(folder / "lib" / name) for name in (".", "hercules"))
    work = tmp_path
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries}

    def run(program: str, *arguments: object, status: int = 0) -> str:
        command = [str(folder / "bin" / program), *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=120, check=False, cwd=work
        )
        output = done.stdout + done.stderr
        if "error while loading shared libraries" in output:
            cannot(output.strip())
        assert done.returncode == status, output
        return output

    return run


@pytest.fixture(scope="session")
def lspci() -> Callable[..., str]:
    """Run lspci of the package `pciutils` on a dump; its output, after checking that it complained of nothing."""
    try:
        folder, library = (unpacked(package, own_suite()) / "usr" for package in ("pciutils", "libpci3"))
    except NoTool as error:
        cannot(str(error))
    program = next(path for path in (folder / "bin/lspci", folder / "sbin/lspci") if path.exists())
    found = next((library / "lib").glob("*/libpci.so.3"), None)
    environment = {**os.environ, "LC_ALL": "C", **({"LD_LIBRARY_PATH": str(found.parent)} if found else {})}

    def run(*arguments: str, path: Path) -> str:
        command = [str(program), "-F", str(path), "-n", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
        if "error while loading shared libraries" in done.stderr:
            cannot(done.stderr.strip())
        said = [line for line in done.stderr.splitlines() if "libkmod" not in line]  # of the host's modules
        assert (done.returncode, said) == (0, [])
        return done.stdout

    return run
