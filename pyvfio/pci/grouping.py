"""Why functions are in one IOMMU group: the kernel's rules applied to the topology, and what comes of them.

``pci_device_group()`` (``drivers/iommu/iommu.c``) puts a function into a group that exists already when

* a bridge above it passes on requests in its own name, so that the IOMMU cannot tell the two apart: everything on a
  conventional PCI bus goes with the bridge that leads there (``pci_for_each_dma_alias()``);
* or a bridge above it, or one above that up to the root, lacks a service of ACS, so that the bridge could send a
  request to a device beside without the IOMMU seeing it (``pci_acs_path_enabled()``): it goes with the bridge above it;
* or it and another function of its device both lack them (``get_pci_function_alias_group()``).

Each rule is a `Link` here, and a group is what the links connect.  The kernel also knows devices that misbehave, or
behave better than they say (``drivers/pci/quirks.c``).  That table is not copied: where the rules give another answer
than the kernel's, the account says so, and that a quirk may apply.

Platforms with rules of their own: on s390 every zPCI function is a group (``generic_device_group()``), on POWER a group
is what the firmware made a partitionable endpoint.
"""

from __future__ import annotations

import posixpath
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from pyvfio.groups import IommuGroup
from pyvfio.pci.classes import is_bridge
from pyvfio.pci.fabric import Fabric, Link

__all__ = ["Account", "Join", "explain"]


@dataclass(frozen=True, slots=True)
class Join:
    """How `member` comes to be with the function that the account is about: the links from that one to it.

    Without links nothing in the topology joins them, and `note` says what is known.
    """

    member: str
    links: tuple[Link, ...]
    note: str = ""

    @property
    def text(self) -> str:
        """The links in words."""
        return "; ".join(link.text for link in self.links) or self.note


@dataclass(frozen=True, slots=True)
class Account:
    """Why the group `number` is what it is, seen from `origin` (None: no PCI function is in it).

    `rule` says which rules made the group.  There is a `Join` for every other member, the nearest ones first.  `apart`
    are functions that the rules would put into the group and the kernel did not.  `agrees` compares the rules with the
    kernel's group: None where configuration space could not be read.
    """

    number: int
    origin: str | None
    rule: str
    joins: tuple[Join, ...]
    apart: tuple[str, ...]
    agrees: bool | None
    notes: tuple[str, ...]


_BY_ACS = "PCI topology and ACS"
_QUIRK = "a quirk of the kernel may apply"


def explain(group: IommuGroup, origin: str | None = None) -> Account:
    """Why the members of `group` are together, seen from `origin` (by default the first that is no bridge).

    Reads its members and the bridges above them, nothing else of the host.
    """
    paths = {posixpath.basename(path): path for path in group.device_paths}
    functions = {name: path for name, path in paths.items() if group.sysfs.link_name(f"{path}/subsystem") == "pci"}
    others = [name for name in paths if name not in functions]
    platform = _platform_rule(group, functions)
    if platform or not functions:
        rule = platform or _other_rule(group, others)
        origin = origin if origin in paths else next(iter(paths), None)
        joins = tuple(Join(name, (), rule) for name in paths if name != origin)
        return Account(group.number, origin, rule, joins, (), None, ())
    if origin not in functions:
        origin = _first_function(group, functions)
    return _by_topology(group, origin, functions, others)


def _by_topology(group: IommuGroup, origin: str, functions: dict[str, str], others: Sequence[str]) -> Account:
    fabric = Fabric(group.sysfs, list(functions.values()))
    reached = _search(fabric, origin, set(functions), certain=True)
    missed = functions.keys() - reached.keys()
    if missed and fabric.unknown:
        reached = _search(fabric, origin, set(functions), certain=False) | reached
    joins = [
        Join(name, reached.get(name, ()), "" if name in reached else _no_link(name, origin, fabric))
        for name in functions
        if name != origin
    ]
    joins.sort(key=lambda join: (not join.links, len(join.links)))
    joins += [Join(name, (), "it is no PCI function: the firmware's tables join it") for name in others]
    apart = tuple(sorted(name for name in reached.keys() - functions.keys() if fabric.group_of(name) is not None))
    notes: list[str] = []
    if fabric.unknown:
        notes.append(f"not all could be read: {_unknown(fabric)}")
    for name in apart:
        notes.append(
            f"by these rules {name} would be in this group, and it is in group {fabric.group_of(name)}: {_QUIRK}"
        )
    whole = functions.keys() <= reached.keys() and not apart
    agrees = None if fabric.unknown else whole
    return Account(group.number, origin, _BY_ACS, tuple(joins), apart, agrees, tuple(notes))


def _search(fabric: Fabric, origin: str, members: set[str], *, certain: bool) -> dict[str, tuple[Link, ...]]:
    """What is connected with `origin`, each with the shortest chain of links to it.

    Links that are not certain are followed to members only: there the kernel's group says that something joins them.
    """
    reached: dict[str, tuple[Link, ...]] = {origin: ()}
    queue = deque([origin])
    while queue:
        name = queue.popleft()
        for other, link in fabric.links(name, reached):
            if other not in reached and (link.certain or (not certain and other in members)):
                reached[other] = (*reached[name], link)
                queue.append(other)
    return reached


def _no_link(name: str, origin: str, fabric: Fabric) -> str:
    if fabric.unknown:
        return f"what joins {name} to {origin} is unknown: {_unknown(fabric)}"
    return f"nothing in the topology joins {name} to {origin}: {_QUIRK} (a device that uses another's requester ID)"


def _unknown(fabric: Fabric) -> str:
    """Whose configuration space is not known, by the reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in sorted(fabric.unknown.items()):
        by_reason.setdefault(reason, []).append(name)
    return "; ".join(f"{reason} for {', '.join(names)}" for reason, names in by_reason.items())


def _first_function(group: IommuGroup, functions: dict[str, str]) -> str:
    for name, path in functions.items():
        if not is_bridge(int(group.sysfs.attribute(f"{path}/class") or "0", 0)):
            return name
    return next(iter(functions))


def _platform_rule(group: IommuGroup, functions: dict[str, str]) -> str:
    first = next(iter(functions.values()), "")
    if first and group.sysfs.exists(f"{first}/function_id"):
        return "on s390 the machine isolates every zPCI function, and each one is a group of its own"
    if "-pe" in group.name:  # iommu_register_group() in arch/powerpc/kernel/iommu.c
        return "on POWER a group is a partitionable endpoint, which the firmware made"
    return ""


def _other_rule(group: IommuGroup, names: Sequence[str]) -> str:
    if any(group.sysfs.link_name(f"{path}/subsystem") == "mdev" for path in group.device_paths):
        return "a mediated device is a group of its own: its parent's driver does its DMA"
    return "these are no PCI functions: the firmware's tables say which of them the IOMMU tells apart"
