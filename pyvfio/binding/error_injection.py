"""Plan to have a function report errors: who else is affected, what will be done to them, and who uses them."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence

from pyvfio.abi.pci_regs import ExpressType
from pyvfio.address import PciAddress
from pyvfio.binding.inspection import plan_for
from pyvfio.binding.plan import Plan
from pyvfio.binding.running import run
from pyvfio.binding.step import Progress
from pyvfio.binding.steps_aer import InjectErrors
from pyvfio.devices import PciFunction
from pyvfio.errors import Misuse, NotAvailable
from pyvfio.pci.aer import AerError, Severity, find_error
from pyvfio.pci.aer_inject import require_injection
from pyvfio.pci.classes import is_bridge
from pyvfio.pci.error_state import FunctionErrors, functions_below, look_at
from pyvfio.pci.topology import functions_up

__all__ = ["inject", "plan_inject"]

_WORDS = 4
_ALONE = (ExpressType.RC_END, ExpressType.RC_EC)
"""Functions of the root complex."""


def plan_inject(function: PciFunction, errors: Sequence[str | AerError], header: Sequence[int] = ()) -> Plan:
    """Plan to have a function report errors, named as Linux or QEMU does, at once.

    Recovery from an uncorrectable error runs on all functions below the same port, and a fatal one resets their link:
    what uses any of them is a finding of the plan.  `header` are the four words of a packet for the header log.
    Raise `NotAvailable` (no AER, no ``/dev/aer_inject``), `Misuse` (no such error, none named, bad words).
    """
    found = [one if isinstance(one, AerError) else find_error(one) for one in errors]
    if not found:
        raise Misuse("inject an error", function.name, cause="no error was named")
    if len(header) not in (0, _WORDS) or any(not 0 <= word <= 0xFFFFFFFF for word in header):
        raise Misuse("inject an error", function.name, cause="a header has four words of 32 bits")
    now = look_at(function.sysfs, function.path)
    if now.counters is None:
        raise NotAvailable(
            "inject an error",
            function.name,
            path=f"{function.path}/aer_dev_correctable",
            cause="Linux counts no errors of it: it has no advanced error reporting, or firmware keeps that to itself",
            next_step="pyvfio aer list shows the functions that have it",
        )
    require_injection(function.sysfs, function.name)
    names = tuple(one.name for one in found)
    step = InjectErrors(function.name, names, tuple(f"{word:08x}" for word in header))
    worst = _worst(now, found)
    title = f"inject {', '.join(names)} ({worst.value}) into {function}"
    if worst is Severity.CORRECTABLE:
        return plan_for(title, function, [step], notes=("a correctable error is only counted",), probes=False)
    affected = _affected(function)
    plans = [plan_for(title, one, [step]) for one in affected]
    own = plan_for(title, function, [step], probes=False)
    return Plan(
        title,
        (function.name, *(one.name for one in affected if one.name != function.name)),
        own.steps,
        _notes(function, now.kind, affected, worst),
        tuple(dict.fromkeys(finding for plan in plans for finding in plan.findings)),
        tuple(dict.fromkeys(fact for plan in (own, *plans) for fact in plan.facts)),
        function.sysfs,
        tuple(look for plan in plans for look in plan.looked),
        min(plan.made for plan in (own, *plans)),
    )


def inject(
    function: PciFunction,
    *errors: str | AerError,
    header: Sequence[int] = (),
    progress: Progress | None = None,
    force: Iterable[str] = (),
) -> Plan:
    """Have a function report errors.  Raise what `plan_inject` and `run` raise."""
    return run(plan_inject(function, errors, header), progress, force=force)


def _worst(now: FunctionErrors, errors: Sequence[AerError]) -> Severity:
    if all(one.correctable for one in errors):
        return Severity.CORRECTABLE
    if now.registers is None:
        return Severity.FATAL  # nobody knows
    severities = {now.registers.severity_of(one) for one in errors}
    return Severity.FATAL if Severity.FATAL in severities else Severity.NONFATAL


def _affected(function: PciFunction) -> list[PciFunction]:
    """Everybody below the port that the function is below, or, of a port, below that; bridges are not in use."""
    sysfs, own = function.sysfs, function.path
    up = functions_up(own)
    below = list(functions_below(sysfs, own))
    port = own if len(below) > 1 or len(up) < 2 else up[1]
    found = []
    for path in functions_below(sysfs, port):
        code = sysfs.attribute(f"{path}/class") or "0"
        if path == own or not is_bridge(int(code, 0)):
            found.append(PciFunction(sysfs, PciAddress.parse(posixpath.basename(path))))
    return found


def _notes(
    function: PciFunction, kind: ExpressType | None, affected: Sequence[PciFunction], worst: Severity
) -> tuple[str, ...]:
    notes = []
    others = [one.name for one in affected if one.name != function.name]
    if others:
        notes.append(f"recovery runs on {', '.join(others)}, too: below the same port")
    if worst is Severity.FATAL and kind in _ALONE:
        notes.append("the function is reset, as it has no link: what was set up in it is gone; without FLR that fails")
    elif worst is Severity.FATAL:
        notes.append("the link is reset: what was set up in these functions is gone, except what their drivers restore")
    missing = [one.name for one in affected if one.driver is None]
    if missing:
        notes.append(f"recovery fails without a driver for {', '.join(missing)}")
    return tuple(notes)
