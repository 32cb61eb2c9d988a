"""The measurement of a function as Linux shows it: ``/sys/kernel/debug/pci/DEVICE/statistics``.

The machine keeps a measurement block (`pyvfio.zpci.fmb`) up to date, once an interval; Linux shows it while the
function is enabled, with what it has counted itself of translations.  The file takes ``1`` (measure) and ``0`` (no).

The machine forgets to measure when the function is reset, and Linux does not notice: what a program opens through VFIO
is reset, so it has to be switched off and on to be measured (`restart`).

Source: ``arch/s390/pci/pci_debug.c``; ``zpci_hot_reset_device`` in ``arch/s390/pci/pci.c``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pyvfio.errors import MalformedAnswer, NotAvailable, PyvfioError
from pyvfio.refusal import MISSING
from pyvfio.sysfs import Sysfs

if TYPE_CHECKING:
    from pyvfio.devices import PciFunction

__all__ = ["DEBUGFS", "Statistics", "find_statistics", "measure", "read_statistics", "restart", "statistics_path"]

DEBUGFS: Final = "/sys/kernel/debug"
_DISABLED: Final = "FMB statistics disabled"
_LINE: Final = re.compile(r"\s*([^:]+):\s*([0-9a-fA-F]+)(?: ms)?\Z")
_SOFTWARE: Final = ("mapped pages", "unmapped pages", "global rpcits", "sync map rpcits", "sync rpcits")
_OLDER: Final = ("allocated pages",)  # Linux before 6.7 counted these, too
_TOD_SECOND: Final = 1_000_000 << 12  # bit 51 of the clock is a microsecond


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is known of a function's use.

    `enabled` says whether it is measured at all; else the rest is empty.  `interval` is in milliseconds, `samples` how
    often the machine has updated the block, `updated` the TOD clock then (64 bits, the last one is set while the
    machine writes; 0: never).  `counters` are the machine's by the kernel's names in lower case (``load operations``,
    ``dma read bytes``, ...), `software` those of Linux (``mapped pages``, ...; empty while all DMA is blocked).
    """

    enabled: bool
    interval: int = 0
    samples: int = 0
    updated: int = 0
    counters: dict[str, int] = field(default_factory=dict)
    software: dict[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Statistics:
        """Read the kernel's text.  Raise `MalformedAnswer` when it is not of this form."""
        lines = [line for line in text.splitlines() if line.strip()]
        if lines == [_DISABLED]:
            return cls(False)
        found: dict[str, int] = {}
        for line in lines:
            match = _LINE.match(line)
            if match is None:
                if line.strip() == "Unknown format":
                    continue
                raise MalformedAnswer("read statistics", line.strip()[:40], "it is no counter")
            name = match[1].strip().lower()
            try:
                found[name] = int(match[2], 16 if name == "last update tod" else 10)
            except ValueError as error:
                raise MalformedAnswer("read statistics", line.strip()[:40], "it has no number") from error
        if "update interval" not in found:
            raise MalformedAnswer("read statistics", text[:40].strip(), "there is no update interval")
        head = (found.pop("update interval"), found.pop("samples", 0), found.pop("last update tod", 0))
        software: dict[str, int] = {name: found.pop(name) for name in (*_OLDER, *_SOFTWARE) if name in found}
        return cls(True, *head, found, software)

    @property
    def seconds(self) -> float | None:
        """The time of the last update in seconds of the machine's clock; None before the first."""
        return (self.updated >> 1) / _TOD_SECOND if self.updated else None

    def since(self, before: Statistics) -> dict[str, int]:
        """How far each counter has come since `before`; those of a measurement that began anew count from zero."""
        anew = self.samples < before.samples or self.updated < before.updated
        earlier = {} if anew else {**before.counters, **before.software}
        return {
            name: value - earlier.get(name, 0) if value >= earlier.get(name, 0) else value
            for name, value in {**self.counters, **self.software}.items()
        }


def statistics_path(device: str) -> str:
    """The file of the function at this address."""
    return f"{DEBUGFS}/pci/{device}/statistics"


def _missing(sysfs: Sysfs, function: PciFunction, path: str) -> NotAvailable:
    if function.fid is None:
        cause, step = "it is no function of IBM Z: only those are measured", ""
    elif not sysfs.exists(f"{DEBUGFS}/pci"):
        cause = "debugfs is not mounted, or this kernel has none (CONFIG_DEBUG_FS)"
        step = f"mount -t debugfs debugfs {DEBUGFS}"
    else:
        cause = "Linux measures a function while it is enabled, and no driver (or program) has enabled it now"
        step = f"pyvfio show {function} shows its driver"
    return NotAvailable("read the measurements", function.name, path=path, cause=cause, next_step=step)


def find_statistics(function: PciFunction) -> Statistics | None:
    """The measurements of a function now; None when there is no such file, as while no driver has enabled it.

    Raise `PermissionDenied` for who is not root, `MalformedAnswer` for a text of another form.
    """
    try:
        return Statistics.parse(function.sysfs.read_text(statistics_path(function.name)))
    except PyvfioError as error:
        if error.errno not in MISSING:
            raise
        return None


def read_statistics(function: PciFunction) -> Statistics:
    """The same; raise `NotAvailable` with the reason when there is no such file."""
    found = find_statistics(function)
    if found is None:
        raise _missing(function.sysfs, function, statistics_path(function.name))
    return found


def measure(function: PciFunction, on: bool) -> bool:
    """Have a function measured, or not; whether that changed anything.  Raise as `read_statistics`.

    Measuring begins with all counters at zero.
    """
    if read_statistics(function).enabled == on:
        return False
    function.sysfs.write_text(statistics_path(function.name), str(int(on)))
    return True


def restart(function: PciFunction) -> None:
    """Begin the measurement anew, with all counters at zero, also after a reset.  Raise as `read_statistics`."""
    measure(function, False)
    measure(function, True)
