"""Plug PCI devices into the host under test and take them away: a software machine, or a guest that has its monitor.

The guest of ``make hil`` owns a port called ``qmp``, which leads to the monitor of the QEMU that runs it.  Both are
spoken to in the words of ``-device``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pyvfio.backend import Backend
from pyvfio.errors import Misuse, NoSuchDevice
from pyvfio.testing.monitor import Monitor, MonitorError
from pyvfio.zpci.device_option import DeviceOption
from pyvfio.zpci.identifiers import FID_LIMIT, UID_LIMIT

__all__ = ["PlugRefused", "Plugger", "plugger"]


class PlugRefused(Exception):
    """The machine does not take the device, or has none of this name."""


class Plugger(Protocol):
    """Plugs devices, as ``device_add`` and ``device_del`` do."""

    def plug(self, words: str) -> None:
        """Plug one device in.  Raise `PlugRefused`."""

    def unplug(self, name: str) -> None:
        """Ask for a device by its name; its pair goes with it.  Raise `PlugRefused`."""


class _OfMachine:
    def __init__(self, machine: Any) -> None:
        self._machine = machine

    def plug(self, words: str) -> None:
        self._do(self._machine.pci_devices.plug, words)

    def unplug(self, name: str) -> None:
        self._do(self._machine.pci_devices.unplug, name)

    def _do(self, call: Callable[[str], None], word: str) -> None:
        with self._machine.lock:
            try:
                call(word)
            except (Misuse, NoSuchDevice) as error:
                raise PlugRefused(error.cause) from error
            self._machine.clock.settle()


class _OfMonitor:
    """The monitor of QEMU, opened for each request: one program at a time may have its port open."""

    def __init__(self, backend: Backend, port: str) -> None:
        self._backend = backend
        self._port = port

    def plug(self, words: str) -> None:
        option = DeviceOption.parse(words)
        properties: dict[str, object] = dict(option.properties)
        for name, limit in (("uid", UID_LIMIT), ("fid", FID_LIMIT)):
            if name in properties:
                properties[name] = option.number(name, limit)
        self._ask("device_add", driver=option.driver, **properties)

    def unplug(self, name: str) -> None:
        self._ask("device_del", id=name)

    def _ask(self, command: str, **arguments: object) -> None:
        with Monitor(self._backend, self._port) as monitor:
            try:
                monitor.ask(command, **arguments)
            except MonitorError as error:
                raise PlugRefused(str(error)) from error


def plugger(backend: Backend) -> Plugger | None:
    """What plugs devices into the host that `backend` answers for; None where nothing does."""
    machine = getattr(backend, "machine", None)
    if hasattr(machine, "pci_devices"):
        return _OfMachine(machine)
    port = Monitor.find(backend)
    return None if port is None else _OfMonitor(backend, port)
