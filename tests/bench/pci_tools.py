"""`pyvfio list` beside Debian's tools, on one tree of 4,096 PCI functions; run by `inside.run_inside`.

lspci is given what its package depends on, the list of names, and reads it: that is how it runs where it is
installed.  dpdk-devbind.py runs with this Python.  driverctl is a shell script of one loop, and runs once.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

from inside import memory_tree, over_sys, report
from measure import Line, best, left_out, processes
from pci_tree import host_functions, write_tree
from peers import find_peers

import pyvfio
from pyvfio.binding import plan_bind
from pyvfio_backends.kernel import KernelBackend

COUNT = 4096
FEW = 10
ROOT = Path(__file__).resolve().parents[2]
DISK = "0000:03:00.0"  # a disk behind a switch, with a group of its own; among the first ten, too


def beside_the_peers() -> list[Line]:
    """Wall time of whole processes."""
    peers = find_peers(ROOT / "build" / "bench")
    pyvfio_list = [str(Path(sys.executable).parent / "pyvfio"), "list"]
    commands = {"pyvfio": pyvfio_list}
    arguments = {"lspci": ["-k"], "dpdk-devbind.py": ["-s"], "driverctl": ["list-devices"]}
    for name, program in peers.programs.items():
        runner = {"dpdk-devbind.py": [sys.executable], "driverctl": ["bash"]}.get(name, [])
        commands[name] = [*runner, program, *arguments[name]]
    if peers.names is not None and Path("/usr/share/misc").is_dir():
        subprocess.run(["mount", "--bind", str(peers.names), "/usr/share/misc"], check=True)
    with memory_tree() as tree:
        write_tree(tree, host_functions(COUNT))
        with over_sys(tree):
            listed = subprocess.run(pyvfio_list, check=True, capture_output=True, text=True).stdout.count("\n")
            if listed != COUNT + 1:
                raise RuntimeError(f"pyvfio list printed {listed} lines")
            rounds = {"pyvfio": 7, "lspci": 7, "dpdk-devbind.py": 2, "driverctl": 1}
            seconds = processes(commands, {name: rounds[name] for name in commands}, peers.environment)
    return [_line(name, seconds, peers.missing) for name in arguments]


_TARGETS = {
    "lspci": (1 / 2, "2x its time"),
    "dpdk-devbind.py": (8, "8x faster"),
    "driverctl": (40, "40x faster"),
}
_WORDS = {"lspci": "lspci -k", "dpdk-devbind.py": "dpdk-devbind.py -s", "driverctl": "driverctl list-devices"}


def _line(name: str, seconds: dict[str, float], missing: dict[str, str]) -> Line:
    what = f"pyvfio list beside {_WORDS[name]}"
    if name in missing:
        return left_out(what, missing[name])
    ours, theirs = seconds["pyvfio"], seconds[name]
    factor, words = _TARGETS[name]
    return Line(what, f"{ours:.2f} s, {theirs:.2f} s: {theirs / ours:.1f}x", words, theirs / ours / factor)


def plans() -> list[Line]:
    """A plan for one device, on a small host and on a large one."""
    seconds = dict.fromkeys((FEW, COUNT), float("inf"))
    with memory_tree() as tree:
        for count in seconds:
            write_tree(tree / str(count), host_functions(count))
        for _ in range(5):  # in turns, so that a busy moment hits both
            for count in seconds:
                with pyvfio.Host(KernelBackend(sysfs=str(tree / str(count)))) as host:
                    device = host.device(DISK)
                    seconds[count] = min(seconds[count], best(partial(plan_bind, device), 20, rounds=3))
    ratio = seconds[COUNT] / seconds[FEW]
    return [
        Line(
            f"plan for one device, {COUNT:,} functions / {FEW}",
            f"{seconds[COUNT] * 1000:.1f} ms, {seconds[FEW] * 1000:.1f} ms: {ratio:.2f}x",
            "at most 1.2x",
            1.2 / ratio,
        )
    ]


if __name__ == "__main__":
    report([beside_the_peers, plans])
