"""Run a part of the benchmark in a mount namespace of its own, where it may put another tree over ``/sys``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import Line, left_out

__all__ = ["memory_tree", "over_sys", "report", "run_inside"]


def run_inside(script: str, what: str) -> list[Line]:
    """The lines that a script of this directory prints when it runs in a mount namespace; one line why not."""
    command = [sys.executable, str(Path(__file__).with_name(script))]
    why = ""
    for unshare in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        try:
            subprocess.run(
                [*unshare, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=True, capture_output=True, text=True
            )
        except (OSError, subprocess.CalledProcessError) as error:
            why = (getattr(error, "stderr", "") or str(error)).strip()
            continue
        done = subprocess.run([*unshare, *command], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            return [left_out(what, f"{script} ended with {done.returncode}")]
        return [Line(**row) for row in json.loads(done.stdout)]
    return [left_out(what, f"no mount namespace here ({why})")]


def report(parts: Sequence[Callable[[], list[Line]]]) -> None:
    """Run the parts and print their lines for `run_inside`."""
    print(json.dumps([asdict(line) for part in parts for line in part()]))


@contextmanager
def memory_tree() -> Iterator[Path]:
    """A directory in memory, as sysfs is; it goes with the namespace."""
    with TemporaryDirectory(prefix="pyvfio-bench-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=0,size=75%", "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def over_sys(tree: Path) -> Iterator[None]:
    """Put `tree` over ``/sys``."""
    subprocess.run(["mount", "--rbind", str(tree), "/sys"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", "/sys"], check=True)
