"""The part of the PCI fabric that decides about groups: a few functions, the bridges above them, and what links them.

The rules are in `pyvfio.pci.grouping`; this is the ground that they walk on.
"""

from __future__ import annotations

import posixpath
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from pyvfio.address import PciAddress
from pyvfio.pci.acs import Answer, FunctionFacts, read_facts
from pyvfio.pci.topology import functions_up
from pyvfio.sysfs import Sysfs

__all__ = ["Fabric", "Lack", "Link", "LinkKind"]

_FUNCTIONS = range(8)


class LinkKind(Enum):
    """Which rule makes a link."""

    SAME_BUS = "same conventional PCI bus"
    BEHIND = "behind an aliasing bridge"
    BELOW = "below a bridge without ACS"
    FUNCTIONS = "functions of one device without ACS"


@dataclass(frozen=True, slots=True)
class Lack:
    """A function `name` which is a `kind` and does not isolate: the ACS services it lacks (SV, RR, CR, UF), and why."""

    name: str
    kind: str
    missing: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.kind}: {self.reason})"


@dataclass(frozen=True, slots=True)
class Link:
    """`one` and `other` are in one group because of what is `at`: a bridge, or the slot of a device.

    `lacks` are the functions which would have to isolate and do not.  Not `certain`: one of them could not be asked.
    """

    kind: LinkKind
    one: str
    other: str
    at: str
    lacks: tuple[Lack, ...]
    certain: bool
    text: str


class Fabric:
    """The functions whose directories are `paths`, the bridges above them, and the other functions of their devices.

    The other functions are looked for by name, so that nothing is listed.  `unknown` names those whose configuration
    space decides and could not be read, each with the reason.
    """

    def __init__(self, sysfs: Sysfs, paths: Sequence[str]) -> None:
        self.sysfs = sysfs
        self._paths: dict[str, str] = {}
        self._facts: dict[str, FunctionFacts] = {}
        self._above: dict[str, list[str]] = {}
        self._below: dict[str, list[str]] = {}
        self._slots: dict[tuple[str, str], list[str]] = {}
        for path in paths:
            self._add_with_bridges(path)
        for path in list(self._paths.values()):
            for sibling in self._siblings(path):
                self._add(sibling)
        self._alias = {name: self._find_alias(name) for name in self._paths}
        self._aliased: dict[str, list[str]] = {}
        for name, alias in self._alias.items():
            if alias is not None:
                self._aliased.setdefault(alias, []).append(name)
        self.unknown = {
            name: facts.unknown
            for name, facts in self._facts.items()
            if facts.unknown and (facts.bridge or facts.multifunction or name in self._below)
        }

    def facts(self, name: str) -> FunctionFacts:
        """What the configuration space of one of its functions says."""
        return self._facts[name]

    def group_of(self, name: str) -> int | None:
        """The number of the kernel's group, None when it has none."""
        number = self.sysfs.link_name(f"{self._paths[name]}/iommu_group")
        return int(number) if number is not None and number.isdecimal() else None

    def links(self, name: str, known: Container[str] = ()) -> Iterator[tuple[str, Link]]:
        """What the rules join to `name` directly, without those that are `known` already, and how."""
        alias, above = self._alias[name], self._above[name]
        if alias is not None:
            for other in self._aliased[alias]:
                if other != name and other not in known:
                    yield other, self._link_beside(name, other, alias)
            if alias not in known:
                yield alias, self._link_behind(name, alias, other=alias)
        elif above:
            for other in (*self._below[above[0]], above[0]):
                if other != name and other not in known and (link := self._link_below(name, above[0], other=other)):
                    yield other, link
        for other in self._aliased.get(name, ()):
            if other not in known:
                yield other, self._link_behind(other, name, other=other)
        for other in self._below.get(name, ()):
            if (
                self._alias[other] is None
                and other not in known
                and (link := self._link_below(other, name, other=other))
            ):
                yield other, link
        yield from self._functions(name, known)

    def _functions(self, name: str, known: Container[str]) -> Iterator[tuple[str, Link]]:
        """The other functions of its device, where neither isolates."""
        mine = self._facts[name]
        if mine.isolation.answer is Answer.YES:
            return
        slot = PciAddress.parse(name).slot
        for other in self._slots[posixpath.dirname(self._paths[name]), slot]:
            theirs = self._facts[other]
            together = other != name and theirs.isolation.answer is not Answer.YES
            if together and other not in known and (mine.multifunction or theirs.multifunction):
                certain = not (mine.unknown or theirs.unknown)
                lacks = (_lack(mine), _lack(theirs))
                how = "that are not kept apart" if certain else "and may not be kept apart"
                text = f"{other} and {name} are functions of one device {how}: {_reasons(lacks)}"
                yield other, Link(LinkKind.FUNCTIONS, name, other, slot, lacks, certain, text)

    # links

    def _link_beside(self, name: str, other: str, alias: str) -> Link:
        facts = self._facts[alias]
        if facts.bridge:
            text = f"{other} is on the same conventional PCI bus as {name}, behind {alias} ({facts.kind})"
        else:
            text = f"{other} and {name} are both in the PCI domain of {alias}, which does DMA in its own name"
        return Link(LinkKind.SAME_BUS, name, other, alias, (_lack(facts),), True, text)

    def _link_behind(self, name: str, alias: str, *, other: str) -> Link:
        facts = self._facts[alias]
        what = f"a {facts.kind}" if facts.bridge else "which has a PCI domain of its own"
        text = f"{alias}, {what}, passes on the requests of {name} in its own name: the IOMMU cannot tell them apart"
        return Link(LinkKind.BEHIND, name, other, alias, (_lack(facts),), True, text)

    def _link_below(self, name: str, bridge: str, *, other: str) -> Link | None:
        """None when every bridge from `bridge` up to the root isolates."""
        path = [self._facts[one] for one in (bridge, *self._above[bridge])]
        lacking = [facts for facts in path if facts.isolation.answer is not Answer.YES]
        if not lacking:
            return None
        certain = any(facts.isolation.answer is Answer.NO for facts in lacking)
        if certain:
            lacking = [facts for facts in lacking if facts.isolation.answer is Answer.NO]
        lacks = tuple(map(_lack, lacking))
        fails = "does not keep apart" if certain else "may not keep apart"
        if other in (name, bridge):
            where = f"{bridge}, the {path[0].kind} right above {name},"
        else:
            where = f"{other} and {name} are both below {bridge}, a {path[0].kind} that"
        if lacking == path[:1]:
            why = lacks[0].reason
        elif certain:
            why = f"on the way up from there {'; '.join(map(str, lacks))}"
        else:
            why = f"the ACS of {', '.join(one.name for one in lacking)} is unknown ({lacking[0].unknown})"
        text = f"{where} {fails} what is below it: {why}"
        return Link(LinkKind.BELOW, name, other, bridge, lacks, certain, text)

    # the ground

    def _find_alias(self, name: str) -> str | None:
        """The function in whose name this one's requests reach the IOMMU, None when they do so in its own.

        That is the nearest bridge that `FunctionFacts.aliases`, or the function that has the domain (Intel VMD:
        ``pci_real_dma_dev()`` in ``arch/x86/pci/common.c``).
        """
        top = functions_up(self._paths[name])[-1]
        owner = posixpath.basename(posixpath.dirname(posixpath.dirname(top)))
        if owner in self._paths:
            return owner
        return next((one for one in self._above[name] if self._facts[one].aliases is Answer.YES), None)

    def _add_with_bridges(self, path: str) -> None:
        steps = functions_up(path)
        for step in steps:
            self._add(step)
        owner = posixpath.dirname(posixpath.dirname(steps[-1])) if steps else ""
        if functions_up(owner):
            self._add_with_bridges(owner)

    def _add(self, path: str) -> None:
        name, directory = posixpath.split(path)[::-1]
        if name in self._paths:
            return
        self._paths[name] = path
        self._facts[name] = read_facts(self.sysfs, path)
        self._above[name] = [posixpath.basename(one) for one in functions_up(path)[1:]]
        self._slots.setdefault((directory, PciAddress.parse(name).slot), []).append(name)
        if self._above[name]:
            self._below.setdefault(self._above[name][0], []).append(name)

    def _siblings(self, path: str) -> Iterator[str]:
        directory, name = posixpath.split(path)
        slot = PciAddress.parse(name).slot
        for number in _FUNCTIONS:
            sibling = f"{directory}/{slot}.{number}"
            if sibling != path and self.sysfs.exists(sibling):
                yield sibling


def _lack(facts: FunctionFacts) -> Lack:
    isolation = facts.isolation
    return Lack(facts.name, facts.kind, tuple(bit.name or "" for bit in isolation.missing), isolation.reason)


def _reasons(lacks: Sequence[Lack]) -> str:
    """The reasons, each once."""
    reasons: dict[str, list[str]] = {}
    for lack in lacks:
        reasons.setdefault(lack.reason, []).append(lack.name)
    if len(reasons) == 1:
        return next(iter(reasons))
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
