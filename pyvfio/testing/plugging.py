"""Plug PCI devices into the host under test and take them away: a software machine, or a guest that has its monitor.

The guest of ``make hil`` owns a port called ``qmp``, which leads to the monitor of the QEMU that runs it.  Both are
spoken to in the words of ``-device``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, Final, Protocol

from pyvfio.backend import Backend
from pyvfio.errors import Misuse, NoSuchDevice
from pyvfio.testing.attributes import Attributes
from pyvfio.zpci.device_option import DeviceOption
from pyvfio.zpci.identifiers import FID_LIMIT, UID_LIMIT

__all__ = ["PlugRefused", "Plugger", "plugger"]

_PORTS: Final = "/sys/class/virtio-ports"
_LARGE: Final = 1 << 16


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
    """The monitor of QEMU (QMP): a JSON object a line.  It may have been spoken to before, in this boot."""

    def __init__(self, backend: Backend, node: str) -> None:
        self._backend = backend
        self._node = node
        self._call("qmp_capabilities", {})  # refused the second time, which does no harm

    def plug(self, words: str) -> None:
        option = DeviceOption.parse(words)
        properties: dict[str, Any] = dict(option.properties)
        for name, limit in (("uid", UID_LIMIT), ("fid", FID_LIMIT)):
            if name in properties:
                properties[name] = option.number(name, limit)
        self._checked("device_add", {"driver": option.driver, **properties})

    def unplug(self, name: str) -> None:
        self._checked("device_del", {"id": name})

    def _checked(self, command: str, arguments: dict[str, Any]) -> None:
        answer = self._call(command, arguments)
        if "error" in answer:
            raise PlugRefused(answer["error"]["desc"])

    def _call(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        mark = os.urandom(8).hex()
        request = {"execute": command, "arguments": arguments, "id": mark}
        fd = self._backend.open(self._node, os.O_RDWR)
        try:
            self._backend.write(fd, json.dumps(request).encode() + b"\n")
            rest = b""
            while True:
                *lines, rest = (rest + self._backend.read(fd, _LARGE)).split(b"\n")
                for line in lines:
                    answer = _object(line)
                    if answer.get("id") == mark:
                        return answer
        finally:
            self._backend.close(fd)


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}  # the end of what somebody else did not read
    return found if isinstance(found, dict) else {}


def plugger(backend: Backend) -> Plugger | None:
    """What plugs devices into the host that `backend` answers for; None where nothing does."""
    machine = getattr(backend, "machine", None)
    if hasattr(machine, "pci_devices"):
        return _OfMachine(machine)
    sysfs = Attributes(backend)
    if sysfs.exists(_PORTS):
        for port in backend.listdir(_PORTS):
            if sysfs.read(f"{_PORTS}/{port}/name") == "qmp":
                return _OfMonitor(backend, f"/dev/{port}")
    return None
