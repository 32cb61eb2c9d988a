"""The monitor of the QEMU in which this host runs: a test has devices plugged, and errors sent, when it is ready.

The guests of ``make hil`` have it on a virtio port named ``qmp``.  QMP is a line of JSON each way; events come in
between (QEMU, ``docs/interop/qmp-spec.rst``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, Self

from pyvfio.address import PciAddress
from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes

__all__ = ["Monitor", "MonitorError"]

_PORTS = "/sys/class/virtio-ports"
_NAME = "qmp"
_AT_MOST = 1 << 16


class MonitorError(Exception):
    """QEMU refused a command; the message is its own."""


class Monitor:
    """A QMP connection over a virtio port.  A context manager; one program at a time may have the port open."""

    def __init__(self, backend: Backend, path: str) -> None:
        self._backend = backend
        self._fd = backend.open(path, os.O_RDWR)
        self._rest = b""
        self._number = 0
        self.events: list[str] = []
        """The names of the events that came, in order."""
        self._send({"execute": "qmp_capabilities"})  # refused if an earlier program has said it: that does no harm
        self._answer()

    @staticmethod
    def find(backend: Backend) -> str | None:
        """The node of the port, or None on a host that has none."""
        sysfs = Attributes(backend)
        if not sysfs.exists(_PORTS):
            return None
        names = [name for name in backend.listdir(_PORTS) if sysfs.read(f"{_PORTS}/{name}/name") == _NAME]
        return f"/dev/{names[0]}" if names else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._backend.close(self._fd)

    def ask(self, command: str, **arguments: object) -> Any:
        """Run a QMP command and give what it returns.  Raise MonitorError if QEMU refuses it."""
        self._send({"execute": command, "arguments": arguments})
        answer = self._answer()
        if "error" in answer:
            raise MonitorError(f"{command}: {answer['error']['desc']}")
        return answer["return"]

    def line(self, text: str) -> str:
        """Run a line of the human monitor; what it prints."""
        said = self.ask("human-monitor-command", **{"command-line": text})
        return str(said)

    def device(self, address: str) -> str:
        """QEMU's name of a PCI function, by the address that the guest has for it.  Raise LookupError without one.

        QEMU knows no domains: where several host bridges have such a function, that of the domain counts, of bridges in
        the order in which they were made, which is the reverse of QEMU's list.
        """
        wanted = PciAddress.parse(address)
        place = (wanted.bus, wanted.device, wanted.function)
        found: dict[int, str] = {}
        for domain, bus in enumerate(reversed(self.ask("query-pci"))):
            for one in _walk(bus["devices"]):
                if (one["bus"], one["slot"], one["function"]) == place:
                    found[domain] = str(one["qdev_id"])
        if len(found) == 1:
            return next(iter(found.values()))
        if wanted.domain in found:
            return found[wanted.domain]
        raise LookupError(f"QEMU has no PCI function {address}")

    def _send(self, message: dict[str, object]) -> None:
        self._number += 1
        line = json.dumps({**message, "id": self._number}).encode() + b"\n"
        while line:
            line = line[self._backend.write(self._fd, line) :]

    def _answer(self) -> dict[str, Any]:
        """The answer to what was sent last; others' and the greeting are passed over, events are kept by name."""
        while True:
            line, end, rest = self._rest.partition(b"\n")
            if not end:
                more = self._backend.read(self._fd, _AT_MOST)
                if not more:
                    raise MonitorError("the monitor has hung up")
                self._rest += more
                continue
            self._rest = rest
            message: dict[str, Any] = json.loads(line)
            if "event" in message:
                self.events.append(message["event"])
            elif message.get("id") == self._number:
                return message


def _walk(devices: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for one in devices:
        yield one
        yield from _walk(one.get("pci_bridge", {}).get("devices", []))
