"""The built wheel, laid out as a directory that the guest and the host's run both import from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from .progress import StepFailed, run

# Makes the directory pytest's root, so that a test has the same id on both sides.
INI = "[pytest]\nconsole_output_style = count\n"


def build(root: Path, work: Path, log: Path) -> Path:
    """Build pyvfio's wheel from the project's files (no leftovers of earlier builds) and give its path."""
    copy = work / "source"
    listed = subprocess.run(
        ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
    )
    if listed.returncode:
        raise StepFailed(f"{root} is no git work tree; build the wheel yourself and name it: --wheel FILE")
    for name in os.fsdecode(listed.stdout).split("\0"):
        source = root / name
        if name and source.is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy / name)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps"]
    run([*command, "-w", work / "dist", copy], log, "building the wheel")
    return next((work / "dist").glob("*.whl"))


def lay_out(wheel: Path, tree: Path, extra: Path | None = None) -> list[str]:
    """Unzip the wheel into `tree` (emptied first), with `extra` as `suite/`; give the top folders with code."""
    if not zipfile.is_zipfile(wheel):
        raise StepFailed(f"{wheel} is not a wheel")
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tree)
    (tree / "pytest.ini").write_text(INI)
    shutil.copy2(Path(__file__).with_name("collecting.py"), tree / "conftest.py")
    if extra is not None:
        if extra.is_dir():
            shutil.copytree(extra, tree / "suite", ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (tree / "suite").mkdir()
            shutil.copy2(extra, tree / "suite")
    return sorted(path.name for path in tree.iterdir() if path.is_dir() and not path.name.endswith(".dist-info"))
