"""What happens by itself to PCI functions while a machine runs: ``[[zpci.event]]`` of its file.

An event that the machine cannot have any more (its function has gone, or is in another state) does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from pyvfio.errors import Misuse, NoSuchDevice
from pyvfio.zpci.event_code import ErrorCode
from pyvfio_backends.software.description import ZPCI_ACTIONS, MachineSpec, ZpciEventSpec
from pyvfio_backends.software.file_report import Report

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.zpci.facility import ZpciFacility
    from pyvfio_backends.software.machine import Machine

__all__ = ["check_zpci_events", "plan"]

_WHERE: Final = ("zpci", "event")
_MILLISECOND: Final = 0.001


def check_zpci_events(spec: MachineSpec, error: Report) -> None:
    """Raise what `error` makes of the first event that cannot be; `spec` has the functions of all devices."""
    fids = {function.fid for function in spec.functions}
    for n, event in enumerate(spec.zpci_events):
        if event.action not in ZPCI_ACTIONS:
            listed = ", ".join(sorted(ZPCI_ACTIONS))
            raise error((*_WHERE, "action"), f"no action {event.action!r}; there is {listed}", n)
        if event.fid not in fids:
            raise error((*_WHERE, "fid"), f"there is no function with fid {event.fid:#x}", n)
        if event.after < 0:
            raise error((*_WHERE, "after"), "must not be negative", n)
        if event.code not in tuple(ErrorCode):
            raise error((*_WHERE, "code"), f"{event.code:#x} is no event code of an error", n)


def plan(machine: Machine) -> None:
    """Have the events of the machine's file happen."""
    for event in machine.spec.zpci_events:
        work = partial(_do, _action(machine.zpci, event))
        machine.clock.schedule(event.after * _MILLISECOND, work, background=True)


def _do(act: Callable[[], object]) -> None:
    try:
        act()
    except (Misuse, NoSuchDevice):
        return  # what it is about is not there any more, or not so


def _action(facility: ZpciFacility, event: ZpciEventSpec) -> Callable[[], object]:
    fid = event.fid
    console = facility.console
    actions: dict[str, Callable[[], object]] = {
        "unplug": partial(facility.unplug, fid),
        "surprise": partial(facility.unplug, fid, surprise=True),
        "offer": partial(console.offer, fid),
        "assign": partial(console.assign, fid),
        "ask": partial(console.ask, fid),
        "take": partial(console.take, fid),
        "reserve": partial(console.reserve, fid),
        "fail": partial(console.fail, fid, ErrorCode(event.code)),
    }
    return actions[event.action]
