"""`pyvfio lscss` on 65,536 subchannels beside a loop that only opens and reads; run by `inside.run_inside`.

Which attributes the loop reads is not chosen here: a first run of lscss is listened to, and the loop opens and reads
exactly those files, in that order, by paths that are made beforehand.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from css_tree import write_css_tree
from inside import memory_tree, over_sys, report
from measure import Line

import pyvfio_tools.options
from pyvfio.backend import Backend
from pyvfio.host import Host
from pyvfio_backends.kernel import KernelBackend
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import ChannelPathSpec, MachineSpec, SubchannelSpec
from pyvfio_backends.software.machine import Machine
from pyvfio_tools.cli import run

COUNT = 65536
PAGE = os.sysconf("SC_PAGE_SIZE")
_LOOP = """
import os, sys, time
paths = sys.stdin.read().split("\\n")
start = time.perf_counter()
for path in paths:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    os.read(fd, %d)
    os.close(fd)
print(time.perf_counter() - start)
"""


def listed(backend: Backend) -> float:
    """Seconds that lscss takes within this process on a backend."""
    pyvfio_tools.options.open_host = lambda *_: Host(backend)  # type: ignore[assignment]
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        start = time.perf_counter()
        code = run(["lscss"])
        seconds = time.perf_counter() - start
    if code:
        raise RuntimeError(f"lscss ended with {code}")
    return seconds


@contextlib.contextmanager
def opened(backend: Any) -> Iterator[list[str]]:
    """The paths that are opened on a backend."""
    paths: list[str] = []
    inner: Callable[..., int] = backend.open

    def listening(path: str, flags: int, mode: int = 0o777) -> int:
        fd = inner(path, flags, mode)
        if not flags & os.O_DIRECTORY:
            paths.append(path)
        return fd

    backend.open = listening
    yield paths
    del backend.open


def on_files() -> list[Line]:
    """Whole processes on a tree over ``/sys``; the loop's own start does not count."""
    command = [str(Path(sys.executable).parent / "pyvfio"), "lscss"]
    with memory_tree() as tree:
        write_css_tree(tree, COUNT)
        with over_sys(tree):
            backend = KernelBackend()
            with opened(backend) as paths:
                listed(backend)
            ours = bare = float("inf")
            for _ in range(3):
                start = time.perf_counter()
                table = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
                ours = min(ours, time.perf_counter() - start)
                loop = [sys.executable, "-c", _LOOP % PAGE]
                done = subprocess.run(loop, input="\n".join(paths), check=True, stdout=subprocess.PIPE, text=True)
                bare = min(bare, float(done.stdout))
    if table.count(b"\n") != COUNT + 2:
        raise RuntimeError(f"lscss printed {table.count(10)} lines")
    return [_line("files", ours, bare, len(paths))]


def on_the_software_machine() -> list[Line]:
    """Within one process, on machines that were just built: what is built at the first look is built for both."""
    with _machine() as first, opened(first) as paths:
        listed(first)
    with _machine() as backend:
        ours = listed(backend)
    with _machine() as backend:
        start = time.perf_counter()
        for path in paths:
            fd = backend.open(path, os.O_RDONLY | os.O_CLOEXEC)
            backend.read(fd, PAGE)
            backend.close(fd)
        bare = time.perf_counter() - start
    return [_line("software machine", ours, bare, len(paths))]


def _machine() -> SoftwareBackend:
    every = SubchannelSpec(schid="0.0.0000", device="0.0.0000", unit="echo", count=COUNT)
    return SoftwareBackend(Machine(MachineSpec("many", paths=[ChannelPathSpec(0)], subchannels=[every])))


def _line(where: str, ours: float, bare: float, reads: int) -> Line:
    ratio = ours / bare
    return Line(
        f"lscss of {COUNT:,} subchannels ({reads / COUNT:.0f} reads each), {where}",
        f"{ours:.2f} s, {bare:.2f} s: {ratio:.2f}x",
        "2x a bare loop",
        2 / ratio,
    )


if __name__ == "__main__":
    report([on_files, on_the_software_machine])
