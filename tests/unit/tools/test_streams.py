"""Standard streams that nobody reads, that are full, or that are closed: what is done, and the exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pyvfio.sandbox import VARIABLE, Sandbox

BELL = "0060:00:00.0"
PROGRAM = "from pyvfio_tools.cli import main; main()"


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    made = Sandbox.create(tmp_path / "sandbox", "z15-lpar")
    monkeypatch.setenv(VARIABLE, str(made.directory))
    with made.host() as host:
        assert host.function(BELL).driver is None
    return made


def pyvfio(*words: str, **streams: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], **{"stderr": subprocess.PIPE, **streams}, text=True, check=False
    )


def driver(sandbox: Sandbox) -> str | None:
    with sandbox.host() as host:
        return host.function(BELL).driver


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_the_error_of_a_full_disk_says_what_was_done(sandbox: Sandbox, options: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = pyvfio("bind", BELL, *options, stdout=full)
    assert done.returncode == 7
    if options:
        assert json.loads(done.stderr)["host"] == "what was asked for is done"
    else:
        assert "host:  nothing was changed" in done.stderr
    assert driver(sandbox) == ("vfio-pci" if options else None)


@pytest.mark.parametrize(("words", "status"), [(("show", "nothing"), 3), (("show", "--nothing"), 2)])
def test_an_error_that_cannot_be_told_has_its_exit_code(words: tuple[str, ...], status: int) -> None:
    with Path("/dev/full").open("w") as full:
        assert pyvfio(*words, "--machine", "z15-lpar", stderr=full).returncode == status


def test_no_file_of_the_host_gets_the_number_of_a_closed_stream() -> None:
    words = "import os, sys; from pyvfio_tools import cli; cli.run = lambda arguments: os.open('/dev/zero', 0) + 40; "
    run = [sys.executable, "-c", f"{words} cli.main()"]
    done = subprocess.run(["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *run], check=False)
    assert done.returncode == 43
