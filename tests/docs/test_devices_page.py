"""The commands on docs/devices.md do what the page says."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "devices.md"
LINES = [line[2:] for line in PAGE.read_text().splitlines() if line.startswith("$ pyvfio") and "--machine" in line]


def test_the_page_has_examples() -> None:
    assert len(LINES) > 5


@pytest.mark.parametrize("line", LINES)
def test_example(line: str) -> None:
    program = f"{shlex.quote(sys.executable)} -c 'from pyvfio_tools.cli import main; main()'"
    script = " | ".join(f"{program} {part.removeprefix('pyvfio ')}" for part in line.split(" | "))
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
