"""An error of PCI Express that reached a program, put together from what was seen before and after.

Linux clears most of what it handled, and of a fatal error of an endpoint it reads nothing.  So the errors come from
what its counters gained, and from what the function still has noted: registers of AER survive a reset of the link.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi.pci_extended_regs import AerControl
from pyvfio.address import PciAddress
from pyvfio.errors import Misuse
from pyvfio.pci.aer import AerError, AerRegisters, DpcRegisters, Severity, errors_of, find_error
from pyvfio.pci.error_state import FunctionErrors, TreeErrors
from pyvfio.pci.tlp import TlpHeader

__all__ = ["DeviceError", "describe"]

_ORDER = (Severity.FATAL, Severity.NONFATAL, Severity.CORRECTABLE)


@dataclass(frozen=True, slots=True)
class DeviceError:
    """An error that `device` was affected by; what could not be found out is None.

    `source` is the function that reported it (by the source id at the root port), `severity` how bad, `errors` which
    ones it was and `first` the one of the packet in `header` (and `prefix`, words).  `containment` says why a port took
    the link down, `answers` whether the device can be reached, `reset` whether it was reset meanwhile, and `outcome`
    what the kernel made of it: ``recovered``, ``failed``, or None, when it had not come to an end.  `counters` are the
    kernel's that have changed, as (function, severity, name) -> (before, after), the totals as ``messages``; `log` is
    what the kernel said.
    """

    device: str
    source: str | None
    severity: Severity | None
    errors: tuple[AerError, ...]
    first: AerError | None
    header: TlpHeader | None
    prefix: tuple[int, ...]
    containment: str | None
    answers: bool
    reset: bool
    outcome: str | None
    counters: dict[tuple[str, str, str], tuple[int, int]]
    log: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """As plain data."""
        return {
            "device": self.device,
            "source": self.source,
            "severity": None if self.severity is None else self.severity.value,
            "errors": [{"name": one.name, "bit": one.bit, "words": one.words} for one in self.errors],
            "first": None if self.first is None else self.first.name,
            "header": None if self.header is None else self.header.as_dict(),
            "prefix": [f"{word:08x}" for word in self.prefix],
            "containment": self.containment,
            "answers": self.answers,
            "reset": self.reset,
            "outcome": self.outcome,
            "counters": [
                {"function": function, "severity": severity, "name": name, "before": before, "after": after}
                for (function, severity, name), (before, after) in self.counters.items()
            ],
            "log": list(self.log),
        }

    def __str__(self) -> str:
        severity = "unknown" if self.severity is None else self.severity.value
        names = ", ".join(one.name for one in self.errors) or "not known which"
        text = f"{self.device}: {severity} error ({names})"
        if self.source is not None and self.source != self.device:
            text += f" of {self.source}"
        if self.header is not None:
            text += f", {self.header}"
        if self.containment is not None:
            text += f", contained: {self.containment}"
        done = [] if self.outcome is None else [self.outcome]
        done += ["was reset"] if self.reset else []
        done += [] if self.answers else ["does not answer"]
        return text + (f"; {', '.join(done)}" if done else "")


def describe(
    before: TreeErrors, after: TreeErrors, *, outcome: str | None = None, log: Sequence[str] = ()
) -> DeviceError:
    """What happened between two looks at the same tree."""
    counters = _changes(before, after)
    port, contained = _contained(before, after)
    severity = _severity(before, after, contained)
    source = _source(before, after, severity, contained, port)
    reporter = None if source is None else after.functions.get(source)
    earlier = None if source is None else before.functions.get(source)
    errors = _errors(earlier, reporter, severity)
    registers = None if reporter is None else reporter.registers
    first: AerError | None = None
    header: TlpHeader | None = None
    prefix: tuple[int, ...] = ()
    if registers is not None and severity is not Severity.CORRECTABLE and errors:
        pointed = errors_of(1 << (registers.control & AerControl.FIRST_ERROR))[0]
        first = pointed if pointed in errors else None
        if first is not None or not _same_log(earlier, registers):  # else the log is that of an error of before
            header, prefix = registers.packet, registers.prefix
    own, own_before = after.own, before.own
    own_lines = tuple(line for line in log if any(str(one) in line for one in after.functions))
    return DeviceError(
        device=str(after.device),
        source=None if source is None else str(source),
        severity=severity,
        errors=errors,
        first=first,
        header=header,
        prefix=prefix,
        containment=None if contained is None else contained.reason,
        answers=own is not None and own.answers,
        reset=own is not None and own_before is not None and own.was_reset_since(own_before),
        outcome=outcome,
        counters=counters,
        log=own_lines,
    )


def _same_log(earlier: FunctionErrors | None, now: AerRegisters) -> bool:
    if earlier is None or earlier.registers is None:
        return False
    return (earlier.registers.header, earlier.registers.prefix) == (now.header, now.prefix)


def _changes(before: TreeErrors, after: TreeErrors) -> dict[tuple[str, str, str], tuple[int, int]]:
    found: dict[tuple[str, str, str], tuple[int, int]] = {}
    for address, now in after.functions.items():
        then = before.functions.get(address)
        if now.counters is None or then is None or then.counters is None:
            continue
        for severity, gained in now.counters.since(then.counters).items():
            for name in gained:
                old, new = then.counters.errors[severity].get(name, 0), now.counters.errors[severity][name]
                found[str(address), severity.value, name] = old, new
        for severity in now.counters.messages_since(then.counters):
            old, new = then.counters.messages[severity], now.counters.messages[severity]
            found[str(address), severity.value, "messages"] = old, new
    return found


def _contained(before: TreeErrors, after: TreeErrors) -> tuple[PciAddress | None, DpcRegisters | None]:
    """The port above the device that has contained an error since: it is triggered, or says another reason."""
    for port in after.ports:
        now, then = after.functions.get(port), before.functions.get(port)
        if now is None or now.containment is None or then is None or then.containment is None:
            continue
        told = extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN | extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_EXT
        told |= extended.PCI_EXP_DPC_STATUS_TRIGGER
        was = then.containment.status & told, then.containment.source
        if (now.containment.status & told, now.containment.source) != was or now.containment.triggered:
            return port, now.containment
    return None, None


def _severity(before: TreeErrors, after: TreeErrors, contained: DpcRegisters | None) -> Severity | None:
    """The worst message that came to the root port, or what a function counted, or why a port contained."""
    worst: set[Severity] = set()
    for address, now in after.functions.items():
        then = before.functions.get(address)
        if now.counters is not None and then is not None and then.counters is not None:
            worst |= set(now.counters.messages_since(then.counters))
            worst |= set(now.counters.since(then.counters))
    if contained is not None:
        reason = contained.status & extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN
        nonfatal = reason == extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_NFE
        worst.add(Severity.NONFATAL if nonfatal else Severity.FATAL)
    return next((severity for severity in _ORDER if severity in worst), None)


def _source(
    before: TreeErrors,
    after: TreeErrors,
    severity: Severity | None,
    contained: DpcRegisters | None,
    port: PciAddress | None,
) -> PciAddress | None:
    root, then = after.root, before.root
    if contained is not None and port is not None:
        reason = contained.status & extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN
        below = reason in (extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_FE, extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_NFE)
        return _address(after, contained.source) if below else port
    messages = (
        root.counters.messages_since(then.counters)
        if root is not None and root.counters is not None and then is not None and then.counters is not None
        else {}
    )
    if root is not None and root.registers is not None and severity in messages:
        correctable = severity is Severity.CORRECTABLE
        rid = root.registers.correctable_source if correctable else root.registers.uncorrectable_source
        if rid:
            return _address(after, rid)
    for address, now in after.functions.items():
        earlier = before.functions.get(address)
        if now.counters and earlier and earlier.counters and severity in now.counters.since(earlier.counters):
            return address
    return None


def _address(tree: TreeErrors, rid: int) -> PciAddress:
    return PciAddress(tree.device.domain, rid >> 8 & 0xFF, rid >> 3 & 0x1F, rid & 7)


def _errors(
    before: FunctionErrors | None, after: FunctionErrors | None, severity: Severity | None
) -> tuple[AerError, ...]:
    """Which errors: those counted that are of this severity, and those still noted that were not before.

    Of a fatal error, if nothing is new, all fatal ones that are noted: the same one may have come again.
    """
    if after is None or severity is None:
        return ()
    found: set[AerError] = set()
    if after.counters is not None and before is not None and before.counters is not None:
        for name in after.counters.since(before.counters).get(severity, {}):
            with contextlib.suppress(Misuse):  # a bit that has no name, or one of a later kernel's
                found.add(find_error(name))
    registers, old = after.registers, None if before is None else before.registers
    if registers is not None:
        found = {one for one in found if registers.severity_of(one) is severity} or found
        if severity is not Severity.CORRECTABLE:
            fatal = severity is Severity.FATAL
            noted = registers.status & ~registers.mask & (registers.severity if fatal else ~registers.severity)
            new = noted & ~(old.status if old is not None else 0)
            found |= set(errors_of(new or (noted if fatal and not found else 0)))
    return tuple(sorted(found, key=lambda one: one.bit))
