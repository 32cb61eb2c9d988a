"""Plans: what is known, what speaks against it, and the steps with their inverses."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pyvfio.binding.findings import UNSEEN, Finding
from pyvfio.binding.step import Step
from pyvfio.errors import DeviceInUse
from pyvfio.sysfs import Sysfs
from pyvfio.sysfs_device import SysfsDevice

__all__ = ["Look", "Plan"]


@dataclass(frozen=True, slots=True)
class Look:
    """That `device` was looked at, and which `probes` found something then, or could not see."""

    device: SysfsDevice
    probes: frozenset[str]


_MEMBER = ": member"
_NAMED = 3
"""Of so many devices or parts the names stand in a line; of more, the first ones and how many follow."""


_ON_DISKS = frozenset({"boot", "mounted", "swap", "holders"})
"""Probes that find content in use: nobody is told to wipe that."""


def _facts_once(plans: Sequence[Plan]) -> tuple[tuple[str, str], ...]:
    """The facts of several plans, without members of groups that are told already."""
    told = {obj for plan in plans for obj in plan.objects}
    found = []
    for plan in plans:
        for what, value in plan.facts:
            member = value.partition(" ")[0] if what.endswith(_MEMBER) else ""
            if member in told:
                continue
            if member:
                told.add(member)
            found.append((what, value))
    return tuple(found)


def _few(names: Sequence[str], separator: str) -> str:
    if len(names) <= _NAMED:
        return separator.join(names)
    return separator.join(names[: _NAMED - 1]) + f"{separator}and {len(names) - _NAMED + 1} more"


def _ends(findings: Sequence[Finding]) -> list[str]:
    """What would end the use that was found, a line for each probe."""
    from pyvfio.binding.probes import PROBES  # only a refusal needs them

    found = {finding.probe for finding in findings}
    how = {
        finding.probe: "look as root" if finding.summary == UNSEEN else PROBES[finding.probe].ends
        for finding in findings
        if finding.probe in PROBES and not (finding.probe == "signature" and found & _ON_DISKS)
    }
    return [f"{probe}: {ends}" for probe, ends in how.items()]


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done to `objects` (addresses): a `title`, and the `steps` in order.

    `facts` are (``DEVICE: what``, value) pairs of the present state, `findings` what the in-use probes saw, `notes`
    what people should read first.  `sysfs` is the host; `looked` is what the probes saw when it was `made` (monotonic
    seconds), so that an old plan can be looked at again.  A plan is a value: nothing is changed before
    `pyvfio.binding.run`.
    """

    title: str
    objects: tuple[str, ...]
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    sysfs: Sysfs | None = field(default=None, compare=False, repr=False)
    looked: tuple[Look, ...] = field(default=(), compare=False, repr=False)
    made: float = field(default_factory=time.monotonic, compare=False, repr=False)

    @property
    def obj(self) -> str:
        """The objects as one text, of many the first ones."""
        return _few(self.objects, ", ")

    @property
    def empty(self) -> bool:
        """Whether everything is as wanted already."""
        return not self.steps

    @classmethod
    def join(cls, plans: Sequence[Plan], title: str = "") -> Plan:
        """One plan of several: either all of it is done or nothing.

        A member of a group that is told of one device of the plan is not told of the others again, and one that the
        plan is about itself has facts of its own.
        """
        if len(plans) == 1 and not title:
            return plans[0]
        return cls(
            title or _few([plan.title for plan in plans], "; "),
            tuple(dict.fromkeys(obj for plan in plans for obj in plan.objects)),
            tuple(step for plan in plans for step in plan.steps),
            tuple(dict.fromkeys(note for plan in plans for note in plan.notes)),
            tuple(dict.fromkeys(finding for plan in plans for finding in plan.findings)),
            _facts_once(plans),
            next((plan.sysfs for plan in plans if plan.sysfs is not None), None),
            tuple(one for plan in plans for one in plan.looked),
            min((plan.made for plan in plans), default=time.monotonic()),
        )

    def refuse(self, force: Iterable[str] = ()) -> None:
        """Raise `DeviceInUse` when a finding is not overridden by the name of its probe in `force`.

        A plan without steps is never refused.
        """
        overridden = set(force)
        left = [finding for finding in self.findings if finding.probe not in overridden]
        if not left or self.empty:
            return
        probes = dict.fromkeys(finding.probe for finding in left)
        raise DeviceInUse(
            f"refused: {self.title}",
            self.obj,
            left,
            cause="\n         ".join(line for finding in left for line in str(finding).splitlines()),
            next_step="\n         ".join(
                [f"end that use; or override it knowingly with --force={','.join(probes)}", *_ends(left)]
            ),
        )

    def as_dict(self) -> dict[str, object]:
        """The plan as plain data, for ``--json``.  A device may have several facts of one kind (``member``)."""
        facts = [(*what.partition(": ")[::2], value) for what, value in self.facts]
        return {
            "title": self.title,
            "objects": list(self.objects),
            "facts": [{"device": device, "what": what, "value": value} for device, what, value in facts],
            "findings": [finding.as_dict() for finding in self.findings],
            "notes": list(self.notes),
            "steps": [
                {"text": step.text, "undo": step.undo_text, "paths": list(step.paths), **step.as_dict()}
                for step in self.steps
            ],
        }

    def __str__(self) -> str:
        lines = [self.title + (": nothing to do" if self.empty else "")]
        lines += [f"  {what}: {value}" for what, value in self.facts]
        lines += [f"  {line}" for finding in self.findings for line in str(finding).splitlines()]
        lines += [f"  {number}. {step.text} (undo: {step.undo_text})" for number, step in enumerate(self.steps, 1)]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])
