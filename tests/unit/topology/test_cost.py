"""What one device costs does not grow with the host, and the whole host is drawn in one pass."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from golden_tree import CONFIG, Tree

from pyvfio.host import Host
from pyvfio.pci.grouping import explain
from pyvfio.pci.topology import branch, topology
from pyvfio_backends.kernel.backend import KernelBackend

PORT = 0x060400
FEW, MANY = 4, 64


class Counting(KernelBackend):
    """A host that counts the calls which look at something by its path."""

    def __init__(self, root: Path) -> None:
        super().__init__(sysfs=str(root))
        self.calls: Counter[str] = Counter()

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        self.calls["open"] += 1
        return super().open(path, flags, mode)

    def listdir(self, path: str) -> list[str]:
        self.calls["listdir"] += 1
        return super().listdir(path)

    def readlink(self, path: str) -> str:
        self.calls["readlink"] += 1
        return super().readlink(path)

    def stat(self, path: str) -> Any:
        self.calls["stat"] += 1
        return super().stat(path)


def host_of(root: Path, ports: int) -> Counting:
    """A root bus with so many ports, and two functions of a conventional device below each."""
    tree = Tree(root)
    for number in range(ports):
        bus, slot = divmod(number, 32)
        port = f"pci0000:{bus:02x}/0000:{bus:02x}:{slot:02x}.0"
        tree.function(port, bytes(CONFIG), code=PORT, driver="pcieport", group=number)
        for function in (0, 1):
            name = f"0000:{0x40 + number:02x}:00.{function}"
            tree.function(f"{port}/{name}", bytes(CONFIG), driver="nvme", group=number)
    return Counting(root)


@pytest.mark.parametrize("act", ["branch", "explain"])
def test_one_device_costs_the_same_on_a_large_host(tmp_path: Path, act: str) -> None:
    counts = []
    for ports in (FEW, MANY):
        with Host(host_of(tmp_path / str(ports), ports)) as host:
            function = host.function("0000:41:00.0")
            if act == "branch":
                assert [node.name for node in branch(host.sysfs, function).walk()] == ["0000:00:01.0", "0000:41:00.0"]
            else:
                assert function.group is not None
                assert len(explain(function.group, function.name).joins) == 2
            assert isinstance(host.backend, Counting)
            counts.append(host.backend.calls)
    assert counts[0] == counts[1]
    assert sum(counts[0].values()) < 60


def test_the_whole_host_takes_a_few_calls_for_each_function(tmp_path: Path) -> None:
    backend = host_of(tmp_path, MANY)
    with Host(backend) as host:
        functions = sum(1 for root in topology(host.sysfs) for _ in root.walk())
    assert functions == 3 * MANY
    assert sum(backend.calls.values()) < 6 * functions
