"""The PCI tree of a host, as the directories of sysfs nest: root buses, ports and bridges, functions.

::

    /sys/devices / pci0000:00 / 0000:00:0a.0 / 0000:05:00.0 / 0000:06:01.0 / 0000:08:00.0
                   root bus     root port      upstream port  downstream     the function

`topology` reads the whole tree; `branch` only the way from one function up to its root bus, whatever else the host has.
A root bus may itself hang below a function (Intel VMD), and on s390 every zPCI function has a root bus of its own.
Sources: ``Documentation/PCI/sysfs-pci.rst``, ``pci_create_root_bus()`` in ``drivers/pci/probe.c``.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pyvfio.address import PciAddress
from pyvfio.devices import PciFunction
from pyvfio.errors import BadAddress
from pyvfio.pci.acs import FunctionFacts, read_facts
from pyvfio.pci.classes import class_name, is_bridge
from pyvfio.sysfs import Sysfs

__all__ = ["PciNode", "RootBus", "branch", "branches", "functions_up", "topology"]


@dataclass(slots=True)
class PciNode:
    """A function in the tree.  `facts` is read for bridges only; `group` is the number of its IOMMU group.

    `class_code` has 24 bits.  `uid` and `fid` are what s390 calls it, None elsewhere.
    """

    address: PciAddress
    path: str
    class_code: int
    driver: str | None
    group: int | None
    facts: FunctionFacts | None = None
    uid: int | None = None
    fid: int | None = None
    parent: PciNode | None = None
    children: list[PciNode] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The address as sysfs prints it."""
        return str(self.address)

    @property
    def bridge(self) -> bool:
        """Whether it is a bridge or port, by its class."""
        return is_bridge(self.class_code)

    @property
    def kind(self) -> str:
        """What it is, in words: the kind of port for a bridge, the class for anything else."""
        if self.facts is None or self.facts.unknown:
            name = class_name(self.class_code)
            return name if self.facts is None else f"{name}, kind unknown ({self.facts.unknown})"
        return self.facts.kind

    def walk(self) -> Iterator[PciNode]:
        """This function and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(slots=True)
class RootBus:
    """A root bus: its `name` in sysfs (``pci0000:00``), its directory, and the functions on it."""

    name: str
    path: str
    children: list[PciNode] = field(default_factory=list)

    def walk(self) -> Iterator[PciNode]:
        """All functions below it, parents first."""
        for child in self.children:
            yield from child.walk()


def functions_up(path: str) -> list[str]:
    """The directories of a function and of the bridges above it, the function first, up to its root bus.

    >>> functions_up("/sys/devices/pci0000:00/0000:00:0a.0/0000:05:00.0")
    ['/sys/devices/pci0000:00/0000:00:0a.0/0000:05:00.0', '/sys/devices/pci0000:00/0000:00:0a.0']
    """
    found: list[str] = []
    while _address(path) is not None:
        found.append(path)
        path = posixpath.dirname(path)
    return found


def topology(sysfs: Sysfs) -> list[RootBus]:
    """The whole tree, root buses in the order of their first functions.  Its cost grows with the host."""
    links = (sysfs.link(f"/sys/bus/pci/devices/{name}") for name in sysfs.names("/sys/bus/pci/devices"))
    return _tree(sysfs, [path for path in links if path is not None])


def branches(sysfs: Sysfs, functions: Sequence[PciFunction]) -> list[RootBus]:
    """The tree of these functions and the bridges above them.  Raise `NoSuchDevice` when one is gone."""
    return _tree(sysfs, list(dict.fromkeys(path for function in functions for path in functions_up(function.path))))


def branch(sysfs: Sysfs, function: PciFunction) -> RootBus:
    """The way from a root bus down to `function`; nothing else of the host is read."""
    return branches(sysfs, [function])[0]


def _tree(sysfs: Sysfs, paths: list[str]) -> list[RootBus]:
    addressed = sorted((address, path) for path in paths if (address := _address(path)) is not None)
    s390 = bool(addressed) and sysfs.exists(f"{addressed[0][1]}/function_id")
    nodes = {path: _node(sysfs, address, path, s390=s390) for address, path in addressed}
    roots: dict[str, RootBus] = {}
    for path, node in nodes.items():
        above = posixpath.dirname(path)
        node.parent = nodes.get(above)
        if node.parent is not None:
            node.parent.children.append(node)
        else:
            roots.setdefault(above, RootBus(posixpath.basename(above), above)).children.append(node)
    return list(roots.values())


def _node(sysfs: Sysfs, address: PciAddress, path: str, *, s390: bool) -> PciNode:
    code = _number(sysfs, f"{path}/class") or 0
    group = sysfs.link_name(f"{path}/iommu_group")
    node = PciNode(
        address,
        path,
        code,
        sysfs.link_name(f"{path}/driver"),
        int(group) if group is not None and group.isdecimal() else None,
    )
    if node.bridge:
        node.facts = read_facts(sysfs, path)
    if s390:
        node.uid, node.fid = _number(sysfs, f"{path}/uid"), _number(sysfs, f"{path}/function_id")
    return node


def _number(sysfs: Sysfs, path: str) -> int | None:
    text = sysfs.attribute(path)
    try:
        return None if text is None else int(text, 0)
    except ValueError:
        return None


def _address(path: str) -> PciAddress | None:
    try:
        return PciAddress.parse(posixpath.basename(path))
    except BadAddress:
        return None
