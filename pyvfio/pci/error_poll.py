"""The errors of a whole host as they come: root ports count messages, and the kernel sends events of recovery.

Event collectors count those of functions of the root complex.  A message that was counted is looked into as for a
program that owns a device (`pyvfio.pci.device_error`), but by whoever watches, who need not own anything; so
correctable errors are seen, too.
"""

from __future__ import annotations

import contextlib
import posixpath
import time
from collections.abc import Iterator, Sequence
from typing import NoReturn, Self

from pyvfio.address import PciAddress
from pyvfio.devices import PciFunction
from pyvfio.errors import NotAvailable, PyvfioError
from pyvfio.host import Host
from pyvfio.pci.device_error import DeviceError, describe
from pyvfio.pci.error_counters import ErrorCounters, read_counters
from pyvfio.pci.error_state import TreeErrors, error_root
from pyvfio.pci.kernel_messages import KernelMessages

__all__ = ["HostErrors", "error_roots"]

_EVENT = "ERROR_EVENT"
_SUCCESSFUL, _FAILED = "SUCCESSFUL_RECOVERY", "FAILED_RECOVERY"


def error_roots(host: Host) -> list[str]:
    """The directories of the root ports and event collectors whose messages Linux counts: they have a driver."""
    return [function.path for function in _roots(host) if function.driver is not None]


def _roots(host: Host) -> Iterator[PciFunction]:
    """Those that Linux has counters of messages for."""
    for function in host.functions():
        counters = read_counters(host.sysfs, function.path)
        if counters is not None and counters.messages:
            yield function


class HostErrors:
    """Looks at root ports and event collectors every `interval` seconds; `names` are the functions of interest (all).

    A context manager.  Raise `NotAvailable` where Linux counts no messages (no PCI Express root port, or firmware keeps
    its errors to itself, or ports have no driver, as on bare-metal POWER), and for a function of `names` without
    advanced error reporting, of which nothing would come.
    """

    def __init__(self, host: Host, names: Sequence[str] = (), *, interval: float = 0.5) -> None:
        self._sysfs = host.sysfs
        self._names = frozenset(names)
        self._interval = interval
        wanted = {name: host.function(name).path for name in names}
        counted = error_roots(host)
        if not counted and any(_roots(host)):
            raise NotAvailable(
                "watch for errors",
                ", ".join(names),
                cause="the root ports here have no driver, which would be told of errors and count them",
                next_step="on POWER an error stops the endpoint: pyvfio eeh status",
            )
        if not counted:
            self._refuse(", ".join(names), "there is no root port here whose errors Linux counts", "rootport_total_err")
        for name, path in wanted.items():
            if read_counters(host.sysfs, path) is None:
                self._refuse(name, "it has no advanced error reporting", "dev")
        wanted = {name: error_root(host.sysfs, path) for name, path in wanted.items()}
        for name, path in wanted.items():
            if path not in counted:
                self._refuse(name, f"Linux counts no errors at {posixpath.basename(path)}", "rootport_total_err")
        roots = [path for path in counted if not wanted or path in wanted.values()]
        self._events = None
        with contextlib.suppress(PyvfioError, OSError):
            self._events = host.uevents(["pci"])
        self._messages = KernelMessages(host.backend)
        try:
            self._trees = {path: TreeErrors.look(self._sysfs, path) for path in roots}
        except BaseException:
            self.close()
            raise
        self._found: list[DeviceError] = []

    @staticmethod
    def _refuse(name: str, why: str, files: str) -> NoReturn:
        raise NotAvailable(
            "watch for errors",
            name,
            cause=f"{why} (aer_{files}_*)",
            next_step="pyvfio aer list shows what reports errors",
        )

    def read(self, timeout: float | None = None) -> DeviceError | None:
        """The next error; wait up to `timeout` seconds (None: for ever).  None when none came."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if not self._found:
                self._look()
            if self._found:
                return self._found.pop(0)
            left = self._interval if deadline is None else min(self._interval, deadline - time.monotonic())
            if left <= 0:
                return None
            time.sleep(left)

    def _look(self) -> None:
        outcomes = self._outcomes()
        log = self._messages.new()
        for path, before in self._trees.items():
            counters = read_counters(self._sysfs, path)
            if counters is None or not self._gained(before, counters):
                continue
            after = self._trees[path] = TreeErrors.look(self._sysfs, path)
            error = describe(before, after, log=log)
            device = after.device if error.source is None else PciAddress.parse(error.source)
            found = describe(
                before.seen_from(device), after.seen_from(device), outcome=outcomes.get(str(device)), log=log
            )
            if not self._names or found.device in self._names:
                self._found.append(found)

    @staticmethod
    def _gained(before: TreeErrors, counters: ErrorCounters) -> bool:
        port = before.functions.get(before.device)
        return port is not None and port.counters is not None and bool(counters.messages_since(port.counters))

    def _outcomes(self) -> dict[str, str]:
        found: dict[str, str] = {}
        while self._events is not None and (event := self._events.read(0)) is not None:
            name, kind = event.properties.get("PCI_SLOT_NAME"), event.properties.get(_EVENT)
            if name is not None and kind in (_SUCCESSFUL, _FAILED):
                found[name] = "recovered" if kind == _SUCCESSFUL else "failed"
        return found

    def close(self) -> None:
        """Stop."""
        if self._events is not None:
            self._events.close()
        self._messages.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
