"""Have PCI Express functions of the host under test detect errors: of a software machine, or of a guest with a monitor.

The guest of ``make hil`` owns a port called ``qmp``, which leads to the monitor of the QEMU that runs it.  Both know
the names of QEMU's ``pcie_aer_inject_error``.
"""

from __future__ import annotations

from typing import Any, Protocol

from pyvfio.backend import Backend
from pyvfio.testing.monitor import Monitor

__all__ = ["Injector", "injector"]


class Injector(Protocol):
    """Makes functions detect errors."""

    def inject(self, address: str, error: str) -> None:
        """Have the function at `address` detect an error, by QEMU's name for it."""


class _OfMachine:
    def __init__(self, machine: Any) -> None:
        self._machine = machine

    def inject(self, address: str, error: str) -> None:
        self._machine.errors.inject(address, error)


class _OfMonitor:
    """The monitor of QEMU, opened for each request: one program at a time may have its port open."""

    def __init__(self, backend: Backend, port: str) -> None:
        self._backend = backend
        self._port = port

    def inject(self, address: str, error: str) -> None:
        with Monitor(self._backend, self._port) as monitor:
            said = monitor.line(f"pcie_aer_inject_error {monitor.device(address)} {error}")
        assert said.startswith("OK"), said


def injector(backend: Backend) -> Injector | None:
    """What makes functions of the host that `backend` answers for detect errors; None where nothing does."""
    machine = getattr(backend, "machine", None)
    if machine is not None:
        return _OfMachine(machine) if hasattr(machine, "pcie") else None
    port = Monitor.find(backend)
    return None if port is None else _OfMonitor(backend, port)
