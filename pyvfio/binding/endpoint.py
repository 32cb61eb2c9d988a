"""Plans for endpoints of POWER: have one fail on purpose, and bring one back; who else is in it, and who uses that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pyvfio.abi.eeh import EehErrorFunction, EehErrorType
from pyvfio.abi.vfio_spapr import EehState
from pyvfio.address import PciAddress
from pyvfio.binding.inspection import plan_for
from pyvfio.binding.plan import Plan
from pyvfio.binding.step import Step
from pyvfio.binding.steps_eeh import (
    InjectByDebugfs,
    InjectEndpointError,
    RecoverEndpoint,
    UnfreezeEndpoint,
    injection_file,
)
from pyvfio.devices import PciFunction
from pyvfio.errors import Misuse, NotAvailable
from pyvfio.ioda.injection import needed_type, strikes
from pyvfio.ioda.pe import STATE_WORDS
from pyvfio.ioda.status import EndpointStatus, no_endpoint, read_status

__all__ = ["BY", "HOW", "find_function", "plan_inject_endpoint", "plan_recover_endpoint"]

HOW: Final = ("hot", "fundamental", "unfreeze")
BY: Final = ("vfio", "debugfs")
"""By what an error is injected: a request of VFIO, or the kernel's file for root."""
_LIMIT: Final = 1 << 64


def find_function(name: str) -> EehErrorFunction:
    """A function of error injection by its name (``LD_MEM_ADDR``, ``ld-mem-addr``) or number.  Raise `Misuse`."""
    wanted = name.upper().replace("-", "_")
    for one in EehErrorFunction:
        if wanted in (one.name, str(int(one))):
            return one
    names = ", ".join(one.name for one in EehErrorFunction)
    raise Misuse("inject an error", cause=f"there is no function {name!r}; there are {names}")


def plan_inject_endpoint(
    function: PciFunction,
    error: EehErrorFunction,
    *,
    address: int = 0,
    mask: int = 0,
    bits: int | None = None,
    by: str | None = None,
) -> Plan:
    """Plan to have the next transfer of a kind fail in a function's endpoint, which freezes it.

    `address` and `mask` say which one (`pyvfio.ioda.injection`); `bits` is 32 or 64 by the window that the address is
    in, None: it is looked up.  `by` is one of `BY`, None: VFIO where it has the function, else debugfs.  Whoever uses a
    function of the endpoint is a finding.  Raise `Misuse`, and `NotAvailable`: no EEH, not VFIO's, or no debugfs.
    """
    if by not in (None, *BY):
        raise Misuse("inject an error", function.name, cause=f"it is injected by {' or '.join(BY)}, not {by!r}")
    if bits not in (None, 32, 64):
        raise Misuse("inject an error", function.name, cause=f"an address has 32 or 64 bits, not {bits}")
    if not (0 <= address < _LIMIT and 0 <= mask < _LIMIT):
        raise Misuse("inject an error", function.name, cause="address and mask are numbers of 64 bits")
    if bits == 32 and address >> 32 and strikes(error) == "dma":
        raise Misuse("inject an error", function.name, cause=f"{address:#x} has more than 32 bits")
    _status(function, "inject an error")
    by = by or ("vfio" if function.has_vfio_driver else "debugfs")
    _require(function, by)
    types = {32: EehErrorType.BITS_32, 64: EehErrorType.BITS_64}
    kind = needed_type(function, error, address) if bits is None else types[bits]
    step: Step
    if by == "vfio":
        step = InjectEndpointError(function.name, int(error), int(kind), address, mask)
        after = "While no program has the device open, Linux notices that and recovers it by itself"
    elif function.has_vfio_driver:
        step = InjectByDebugfs(function.name, int(error), int(kind), address, mask)
        after = "A program that has the device open has to recover it; while none has, Linux does"
    else:
        step = InjectByDebugfs(function.name, int(error), int(kind), address, mask)
        after = "Linux recovers it: with its driver, or it takes the device out, resets it and brings it back"
    notes = (f"The endpoint freezes with the next {error.name}, whoever does it", after)
    return _for_all(f"inject {error.name} into the endpoint of {function.name}", function, step, notes)


def plan_recover_endpoint(function: PciFunction, how: str = "hot", *, healthy: bool = False) -> Plan:
    """Plan to bring an endpoint back in one of the ways `HOW`; nothing is to be done for one that is well.

    A reset that a killed program has begun is ended.  With `healthy` what is well is reset, too.  A function that the
    kernel's driver has is only unfrozen: its recovery is Linux' own.  Raise `NotAvailable`, `Misuse`.
    """
    if how not in HOW:
        raise Misuse("recover the endpoint", function.name, cause=f"how is one of {', '.join(HOW)}, not {how!r}")
    found = _status(function, "recover the endpoint")
    title = f"recover the endpoint of {function.name}"
    state = found.state
    if state is EehState.NORMAL and not healthy and not found.held:
        return plan_for(title, function, (), notes=("The endpoint is NORMAL: there is nothing to recover",))
    words = () if state is None else (f"The endpoint is {state.name}: {STATE_WORDS[state]}",)
    if found.held:
        words = (*words, "A reset of it was begun and not ended, so its configuration space is blocked")
    if not function.has_vfio_driver:
        if how != "unfreeze" or found.held:
            raise _not_vfio(function, found)
        return _for_all(title, function, UnfreezeEndpoint(function.name), words)
    notes = words if how == "unfreeze" else (*words, "A reset clears what was set up in its functions")
    return _for_all(f"{title} ({how})", function, RecoverEndpoint(function.name, how), notes)


def _status(function: PciFunction, operation: str) -> EndpointStatus:
    function.require()
    found = read_status(function)
    if found is None or found.endpoint is None:
        raise NotAvailable(
            operation,
            function.name,
            path=f"{function.path}/eeh_mode",
            cause="it has no endpoint under EEH" if found else no_endpoint(function),
            next_step="pyvfio eeh status shows the functions that have one",
        )
    return found


def _not_vfio(function: PciFunction, found: EndpointStatus) -> NotAvailable:
    who = "no driver" if function.driver is None else f"driver {function.driver}"
    cause = f"{who} has it, and a reset is done through VFIO; Linux recovers by itself what its drivers have"
    steps = [] if found.held else [f"pyvfio eeh recover {function.name} --how unfreeze"]
    if function.group is not None:
        steps.append(f"pyvfio bind {function.name}")
    step = ", or ".join(steps)
    return NotAvailable("reset the endpoint", function.name, cause=cause, next_step=step)


def _require(function: PciFunction, by: str) -> None:
    """Raise `NotAvailable` unless an error can be injected so."""
    if by == "vfio" and not function.has_vfio_driver:
        raise NotAvailable(
            "inject an error",
            function.name,
            cause=f"VFIO does not have it (driver: {function.driver or 'none'})",
            next_step=f"--by debugfs as root, or: pyvfio bind {function.name}",
        )
    path = injection_file(function.name)
    if by == "debugfs" and not function.sysfs.exists(path):
        raise NotAvailable(
            "inject an error",
            function.name,
            path=path,
            cause=f"VFIO is not asked (driver: {function.driver or 'none'}), and the kernel's file for it is not there",
            next_step=f"as root: mount -t debugfs none /sys/kernel/debug; or: pyvfio bind {function.name}",
        )


def _for_all(title: str, function: PciFunction, step: Step, notes: Sequence[str]) -> Plan:
    """A plan with what speaks against it of all functions in the group: one endpoint has them all."""
    group = function.group
    names = [] if group is None else [one.name for one in group.members()]
    others = [PciFunction(function.sysfs, PciAddress.parse(one)) for one in names if one != function.name]
    if others:
        notes = (*notes, f"In the same endpoint: {', '.join(one.name for one in others)}")
    plans = [plan_for(title, one, (step,), notes=notes) for one in (function, *others)]
    whole = Plan.join(plans, title)
    return Plan(
        title,
        whole.objects,
        (step,),
        tuple(notes),
        whole.findings,
        whole.facts,
        whole.sysfs,
        whole.looked,
        whole.made,
    )
