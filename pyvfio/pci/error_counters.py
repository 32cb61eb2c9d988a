"""How often a function has reported which error, as the kernel counted: ``aer_dev_*`` and ``aer_rootport_total_err_*``.

A line is ``NAME COUNT``, with Linux's names (`pyvfio.pci.aer`), the last one ``TOTAL_ERR_... COUNT``: how many messages
were handled, each of which may have several errors.  The kernel counts what it read from the function; of a fatal error
of an endpoint it reads nothing, so that counts at the root port alone.  Source:
``Documentation/ABI/testing/sysfs-bus-pci-devices-aer`` (Linux 4.19).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyvfio.pci.aer import Severity
from pyvfio.sysfs import Sysfs

__all__ = ["ErrorCounters", "read_counters"]

_TOTAL = "TOTAL_"
_MESSAGES = {Severity.CORRECTABLE: "cor", Severity.NONFATAL: "nonfatal", Severity.FATAL: "fatal"}


@dataclass(frozen=True, slots=True)
class ErrorCounters:
    """Counters of a function: `errors` by severity and name, `totals` by severity; `messages` of a root port."""

    errors: Mapping[Severity, Mapping[str, int]]
    totals: Mapping[Severity, int]
    messages: Mapping[Severity, int]

    def since(self, before: ErrorCounters) -> dict[Severity, dict[str, int]]:
        """What was counted after `before`: how many of each error, by severity; nothing that did not change."""
        found: dict[Severity, dict[str, int]] = {}
        for severity, counts in self.errors.items():
            old = before.errors.get(severity, {})
            more = {name: count - old.get(name, 0) for name, count in counts.items() if count != old.get(name, 0)}
            if more:
                found[severity] = more
        return found

    def messages_since(self, before: ErrorCounters) -> dict[Severity, int]:
        """How many messages came to the root port after `before`, by severity."""
        new = {severity: count - before.messages.get(severity, 0) for severity, count in self.messages.items()}
        return {severity: count for severity, count in new.items() if count}

    def as_dict(self) -> dict[str, object]:
        """As plain data: all counters that are not 0, and the totals."""
        found: dict[str, object] = {
            severity.value: {
                "total": self.totals.get(severity, 0),
                "errors": {name: count for name, count in counts.items() if count},
            }
            for severity, counts in self.errors.items()
        }
        if self.messages:
            found["messages"] = {severity.value: count for severity, count in self.messages.items()}
        return found


def read_counters(sysfs: Sysfs, path: str) -> ErrorCounters | None:
    """The counters of the function whose directory is `path`; None where the kernel has none (no AER)."""
    errors: dict[Severity, dict[str, int]] = {}
    totals: dict[Severity, int] = {}
    messages: dict[Severity, int] = {}
    for severity in Severity:
        text = sysfs.attribute(f"{path}/aer_dev_{severity.value}")
        if text is None:
            return None
        counts = {}
        for line in text.splitlines():
            name, _, count = line.rpartition(" ")
            if not count.isdecimal():
                continue
            if name.startswith(_TOTAL):
                totals[severity] = int(count)
            else:
                counts[name.strip()] = int(count)
        errors[severity] = counts
        number = sysfs.attribute(f"{path}/aer_rootport_total_err_{_MESSAGES[severity]}")
        if number is not None and number.isdecimal():
            messages[severity] = int(number)
    return ErrorCounters(errors, totals, messages)
