"""Make active what is persistent: at boot, when a device appears, or when a person says so.

It is right to do this again and again: what is so already is left alone.  Each definition is a transaction of its own,
and one that fails keeps none of the others from being tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from pyvfio.binding.inspection import plan_for
from pyvfio.binding.mediated import plan_mdev_create
from pyvfio.binding.plan import Plan
from pyvfio.binding.step import Step
from pyvfio.binding.steps import set_override, take_from
from pyvfio.binding.verbs import plan_bind
from pyvfio.devices import device_named
from pyvfio.errors import UNTOUCHED, DeviceBusy, DeviceInUse, NoSuchDevice, NotAvailable, PyvfioError
from pyvfio.persistence.definition import NO_DRIVER, Definition, PersistentDriver, PersistentMdev, Unreadable

if TYPE_CHECKING:
    from pyvfio.host import Host

__all__ = ["EXPECTED", "Applied", "Outcome", "apply", "plan_apply"]

EXPECTED = ("signature",)
"""Probes whose findings do not keep a definition from being applied: that a disk has content is no news to whoever
wrote down that a guest gets it.  That it is mounted, or a network's way to this host, is."""

_BUSES = ("pci", "css")
_LOOK_EVERY = 0.25


class Outcome(StrEnum):
    """How it went with one definition."""

    APPLIED = "applied"
    PLANNED = "planned"
    SAME = "already so"
    ABSENT = "absent"
    MANUAL = "manual"
    ELSEWHERE = "not for pyvfio"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a `definition`; `detail` says why in words, `error` is what failed, `plan` what was to be done."""

    definition: Definition | Unreadable
    outcome: Outcome
    detail: str = ""
    error: PyvfioError | None = None
    plan: Plan | None = None

    @property
    def name(self) -> str:
        """The device."""
        return self.definition.name

    def as_dict(self) -> dict[str, object]:
        """As plain data."""
        return {
            "name": self.name,
            "outcome": str(self.outcome),
            "detail": self.detail,
            "error": None if self.error is None else self.error.as_dict(),
            "definition": self.definition.as_dict(),
        }


def plan_apply(host: Host, definition: Definition) -> Plan:
    """Plan to make a definition active.

    Raise `NoSuchDevice` (the device or the parent is not there), `NotAvailable` (no such driver, or a bus that only
    driverctl handles), `DeviceBusy`.
    """
    plan = _plan(host, definition)
    expected = [finding for finding in plan.findings if finding.probe in EXPECTED]
    notes = tuple(
        f"{one.device}: {one.summary} ({one.probe}); its definition says that it is meant" for one in expected
    )
    left = tuple(finding for finding in plan.findings if finding not in expected)
    return replace(plan, findings=left, notes=(*plan.notes, *notes))


def _plan(host: Host, definition: Definition) -> Plan:
    if isinstance(definition, PersistentMdev):
        return plan_mdev_create(
            host, definition.type, definition.parent, uuid=definition.uuid, attributes=definition.attrs
        )
    if definition.bus not in _BUSES:
        raise NotAvailable(
            "apply definition",
            definition.name,
            cause=f"pyvfio changes drivers on {' and '.join(_BUSES)}, not on bus {definition.bus}",
            next_step=f"driverctl -b {definition.bus} load-override {definition.address}",
        )
    return _plan_driver(host, definition)


def _plan_driver(host: Host, definition: PersistentDriver) -> Plan:
    device = device_named(host.sysfs, definition.bus, definition.address)
    device.require()
    wanted, now = definition.driver, device.driver
    if wanted not in (NO_DRIVER, now):
        return plan_bind(device, wanted)
    steps: list[Step] = [] if device.override == wanted else [set_override(device, wanted)]
    taken = wanted == NO_DRIVER and now is not None
    if taken and now is not None:
        steps.append(take_from(device, now))
    title = f"keep {device.name} without a driver" if wanted == NO_DRIVER else f"bind {device.name} to {wanted}"
    return plan_for(title, device, steps, probes=taken)


def apply(
    host: Host,
    definitions: Iterable[Definition | Unreadable],
    run: Callable[[Plan], bool],
    *,
    automatic: bool = True,
    patience: float = 0.0,
) -> Iterator[Applied]:
    """Apply definitions, in their order; `run` carries out a plan and says whether it did, or raises.

    With `automatic`, mediated devices whose start is manual are left alone.  A device that another run of pyvfio is at
    work on is tried again for `patience` seconds.  No `PyvfioError` leaves this function: it is in what is yielded.
    """
    for definition in definitions:
        if isinstance(definition, Unreadable):
            yield Applied(definition, Outcome.FAILED, definition.why, _untouched(definition.error()))
        elif automatic and isinstance(definition, PersistentMdev) and definition.start != "auto":
            yield Applied(definition, Outcome.MANUAL, f"pyvfio apply {definition.name} starts it")
        elif isinstance(definition, PersistentDriver) and definition.bus not in _BUSES:
            yield Applied(definition, Outcome.ELSEWHERE, f"on bus {definition.bus}")
        else:
            yield _one(host, definition, run, time.monotonic() + patience)


def _one(host: Host, definition: Definition, run: Callable[[Plan], bool], until: float) -> Applied:
    while True:
        plan = None
        try:
            plan = plan_apply(host, definition)
            if plan.empty:
                return Applied(definition, Outcome.SAME, plan=plan)
            return Applied(definition, Outcome.APPLIED if run(plan) else Outcome.PLANNED, plan.title, plan=plan)
        except NoSuchDevice as error:
            if plan is None and not _is_there(host, definition):
                return Applied(definition, Outcome.ABSENT, error.cause, error)
            return Applied(definition, Outcome.FAILED, error.cause, _untouched(error), plan)
        except PyvfioError as error:
            busy = isinstance(error, DeviceBusy) and not isinstance(error, DeviceInUse)
            if not busy or time.monotonic() >= until:
                return Applied(definition, Outcome.FAILED, error.cause or error.operation, _untouched(error), plan)
        time.sleep(_LOOK_EVERY)


def _untouched(error: PyvfioError) -> PyvfioError:
    """Say that nothing was changed, unless the run of a plan said in which state the host is."""
    error.host = error.host or UNTOUCHED
    return error


def _is_there(host: Host, definition: Definition) -> bool:
    """Whether the device, or the parent with its types, is there."""
    if isinstance(definition, PersistentMdev):
        return any(parent.device.name == definition.parent for parent in host.mdev_parents())
    return device_named(host.sysfs, definition.bus, definition.address).exists
