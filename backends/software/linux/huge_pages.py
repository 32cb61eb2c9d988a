"""Huge pages: how many there are, in ``/sys/kernel/mm/hugepages`` and for each NUMA node (``mm/hugetlb_sysfs.c``).

A new number is always reached (a kernel may find less memory); pages in use are not taken away.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.host_state import HugePages
from pyvfio_backends.software.linux.kstrtox import kstrtoul
from pyvfio_backends.software.linux.numa import list_text, listed, mask
from pyvfio_backends.software.linux.vfs import Attribute, Node, StaticDirectory

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel

__all__ = ["node_directory", "size_directory"]

_NONE = "0\n"


def size_directory(pools: list[HugePages]) -> StaticDirectory:
    """``/sys/kernel/mm/hugepages``: a directory for each size, of all nodes together."""
    found: dict[str, Node] = {}
    for size in sorted({pool.size for pool in pools}):
        found[f"hugepages-{size}kB"] = _counts(
            [pool for pool in pools if pool.size == size],
            "nr_hugepages_mempolicy",
            {"nr_overcommit_hugepages": Attribute(lambda: _NONE), "resv_hugepages": Attribute(lambda: _NONE)},
        )
    return StaticDirectory(found)


def node_directory(kernel: Kernel) -> StaticDirectory:
    """``/sys/devices/system/node``: the nodes of the machine, those that have pools, or the only one."""
    pools = kernel.huge_pages
    nodes = sorted({pool.node for pool in pools} | set(range(kernel.numa_nodes)) or {0})
    text = list_text(sum(1 << node for node in nodes))
    found: dict[str, Node] = {name: Attribute(lambda: f"{text}\n") for name in ("has_memory", "online", "possible")}
    for node in nodes:
        own = {
            f"hugepages-{pool.size}kB": _counts([pool])
            for pool in sorted(pools, key=lambda pool: pool.size)
            if pool.node == node
        }
        entries: dict[str, Node] = {"hugepages": StaticDirectory(dict(own))}
        if kernel.numa_nodes:
            entries["cpulist"] = Attribute(partial(listed, kernel, node))
            entries["cpumap"] = Attribute(partial(mask, kernel, node))
        found[f"node{node}"] = StaticDirectory(entries)
    return StaticDirectory(found)


def _counts(pools: list[HugePages], also: str = "", more: dict[str, Node] | None = None) -> StaticDirectory:
    number = Attribute(partial(_sum, lambda pool: pool.total, pools), partial(_resize, pools), 0o644)
    entries: dict[str, Node] = {
        "free_hugepages": Attribute(partial(_sum, lambda pool: pool.free, pools)),
        "nr_hugepages": number,
        **({also: number} if also else {}),
        **(more or {}),
        "surplus_hugepages": Attribute(lambda: _NONE),
    }
    return StaticDirectory(entries)


def _sum(count: Callable[[HugePages], int], pools: list[HugePages]) -> str:
    return f"{sum(map(count, pools))}\n"


def _resize(pools: list[HugePages], data: bytes) -> None:
    """Change the number on the first node that can."""
    missing = kstrtoul(data, 10) - sum(pool.total for pool in pools)
    for pool in pools:
        change = max(missing, -pool.free)
        pool.total += change
        pool.free += change
        missing -= change
