"""Make virtual functions of a physical one, and take them away."""

from __future__ import annotations

import time
from collections.abc import Iterable

from pyvfio.binding.inspection import plan_for
from pyvfio.binding.plan import Plan
from pyvfio.binding.running import run
from pyvfio.binding.step import Progress, Step
from pyvfio.binding.steps_sriov import SetAutoprobe, count, set_number, why_not
from pyvfio.devices import PciFunction
from pyvfio.errors import Misuse, NotAvailable
from pyvfio.pci.sriov import Sriov, require_sriov, virtual_functions

__all__ = ["plan_virtual_functions", "set_virtual_functions", "wait_for_virtual_functions"]

_LOOK_EVERY = 0.02


def plan_virtual_functions(function: PciFunction, number: int, *, autoprobe: bool | None = None) -> Plan:
    """Plan to have `number` virtual functions of a physical one; 0 removes them.

    From one number to another it goes by 0, so all that are there go; each of them is looked at first, and what uses
    it is a finding of the plan.  `autoprobe` says whether the kernel looks for drivers for the new ones (None: as it
    is).  Raise `NotAvailable` (no SR-IOV, no driver that makes them), `Misuse` (more than there can be).
    """
    now = require_sriov(function)
    if not 0 <= number <= now.total:
        raise Misuse(
            f"make {count(number)}",
            function.name,
            cause=f"it can have 0 to {now.total} (sriov_totalvfs)",
            next_step=f"pyvfio sriov {function} shows what there is",
        )
    steps: list[Step] = []
    if number != now.number:
        _check_driver(function)
    if autoprobe is not None and now.autoprobe is None:
        raise NotAvailable(
            "choose whether drivers are sought",
            function.name,
            cause="this kernel has no sriov_drivers_autoprobe (Linux 4.12)",
            next_step="leave the option out: the kernel always looks for drivers",
        )
    if autoprobe is not None and now.autoprobe is not None and now.autoprobe != autoprobe:
        steps.append(SetAutoprobe(function.name, autoprobe, now.autoprobe))
    steps += set_number(function, number)
    title = f"make {count(number)} of {function}" if number else f"remove the virtual functions of {function}"
    going = list(virtual_functions(function).values()) if now.number and number != now.number else []
    own = plan_for(title, function, steps, notes=_notes(function, now, going, number), probes=False)
    # What uses a virtual function that goes is said of that; the steps are those of the physical one.
    plans = [plan_for(title, one, steps) for one in going]
    return Plan(
        title,
        (function.name, *(one.name for one in going)),
        own.steps,
        tuple(dict.fromkeys(note for plan in (own, *plans) for note in plan.notes)),
        tuple(finding for plan in plans for finding in plan.findings),
        (*own.facts, *_facts(function, now), *(fact for plan in plans for fact in plan.facts)),
        function.sysfs,
        tuple(look for plan in plans for look in plan.looked),
        min((plan.made for plan in plans), default=own.made),
    )


def _check_driver(function: PciFunction) -> None:
    cause, step = why_not(function)
    if cause:
        raise NotAvailable("make virtual functions", function.name, path=function.path, cause=cause, next_step=step)


def _facts(function: PciFunction, now: Sriov) -> tuple[tuple[str, str], ...]:
    return ((f"{function}: virtual functions", f"{now.number} of {now.total}"),)


def _notes(function: PciFunction, now: Sriov, going: list[PciFunction], number: int) -> tuple[str, ...]:
    notes = []
    if going and number:
        notes.append(f"the kernel goes from {now.number} to {number} only by 0: all that are there go first")
    if number and function.driver == "vfio-pci":
        notes.append("programs need the VF token of the program that has the physical function open to open them")
    return tuple(notes)


def set_virtual_functions(
    function: PciFunction,
    number: int,
    *,
    autoprobe: bool | None = None,
    progress: Progress | None = None,
    force: Iterable[str] = (),
) -> Plan:
    """Have `number` virtual functions.  Raise what `plan_virtual_functions` and `run` raise."""
    return run(plan_virtual_functions(function, number, autoprobe=autoprobe), progress, force=force)


def wait_for_virtual_functions(function: PciFunction, seconds: float = 2.0) -> dict[int, PciFunction]:
    """The virtual functions as soon as all that are enabled have come, or after `seconds` those that have.

    On s390 each comes by an event of its own; some may belong to another partition.
    """
    deadline = time.monotonic() + seconds
    number = require_sriov(function).number
    while len(found := virtual_functions(function)) < number and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY)
    return found
