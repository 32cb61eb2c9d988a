"""Standard streams that are full or closed: the exit code, and what is opened."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = "from pyvfio_tools.cli import main; main()"


def pyvfio(*words: str, **streams: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], **{"stderr": subprocess.PIPE, **streams}, text=True, check=False
    )


@pytest.mark.parametrize(("words", "status"), [(("show", "nothing"), 3), (("show", "--nothing"), 2)])
def test_an_error_that_cannot_be_told_has_its_exit_code(words: tuple[str, ...], status: int) -> None:
    with Path("/dev/full").open("w") as full:
        assert pyvfio(*words, "--machine", "z15-lpar", stderr=full).returncode == status


def test_no_file_of_the_host_gets_the_number_of_a_closed_stream() -> None:
    words = "import os, sys; from pyvfio_tools import cli; cli.run = lambda arguments: os.open('/dev/zero', 0) + 40; "
    run = [sys.executable, "-c", f"{words} cli.main()"]
    done = subprocess.run(["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *run], check=False)
    assert done.returncode == 43
