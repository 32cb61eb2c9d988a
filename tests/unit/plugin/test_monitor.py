"""The client of QEMU's monitor: answers, events between them, refusals, and a PCI function's name."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.monitor import Monitor, MonitorError

PCI = [
    {
        "bus": 0,
        "devices": [
            {"bus": 0, "slot": 0, "function": 0, "qdev_id": ""},
            {
                "bus": 0,
                "slot": 0x10,
                "function": 1,
                "qdev_id": "port",
                "pci_bridge": {"devices": [{"bus": 14, "slot": 0, "function": 0, "qdev_id": "disk"}]},
            },
            {"bus": 0, "slot": 0x11, "function": 0, "qdev_id": "empty", "pci_bridge": {}},
        ],
    },
    {"bus": 64, "devices": [{"bus": 64, "slot": 0, "function": 0, "qdev_id": "far"}]},
]
ANSWERS: dict[str, Any] = {"query-status": {"status": "running"}, "query-pci": PCI}


class Qemu:
    """Plays QEMU at one end of a socket pair; as a backend, gives the other."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.said: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        self.theirs.sendall(b'{"QMP": {"version": {}}}\r\n')
        for line in self.theirs.makefile("rb"):
            message = json.loads(line)
            name, number = message["execute"], message["id"]
            self.asked.append((name, message.get("arguments", {})))
            event = json.dumps({"event": "DEVICE_DELETED", "data": {}}).encode()
            if name == "quit":
                self.theirs.shutdown(socket.SHUT_RDWR)
                return
            if name in ("qmp_capabilities", "refuse"):
                answer: dict[str, Any] = {"error": {"class": "CommandNotFound", "desc": "no such thing"}, "id": number}
            elif name == "human-monitor-command":
                answer = {"return": f"OK {message['arguments']['command-line']}\r\n", "id": number}
            else:
                answer = {"return": ANSWERS[name], "id": number}
            for piece in (event + b"\r\n", json.dumps(answer).encode()[:7], json.dumps(answer).encode()[7:] + b"\r\n"):
                self.theirs.sendall(piece)

    def open(self, path: str, flags: int) -> int:
        assert path == "/dev/vport1p1"
        return self.ours.fileno()

    def read(self, fd: int, n: int) -> bytes:
        return self.ours.recv(min(n, 5))

    def write(self, fd: int, data: bytes) -> int:
        return self.ours.send(data[:11])

    def close(self, fd: int) -> None:
        self.ours.close()


@pytest.fixture
def qemu() -> Qemu:
    return Qemu()


@pytest.fixture
def monitor(qemu: Qemu) -> Iterator[Monitor]:
    with Monitor(cast("Backend", qemu), "/dev/vport1p1") as opened:
        yield opened


def test_a_command(qemu: Qemu, monitor: Monitor) -> None:
    assert monitor.ask("query-status", extra=1) == {"status": "running"}
    assert qemu.asked == [("qmp_capabilities", {}), ("query-status", {"extra": 1})]


def test_a_line(monitor: Monitor) -> None:
    assert monitor.line("info pci").strip() == "OK info pci"


def test_a_refusal(monitor: Monitor) -> None:
    with pytest.raises(MonitorError, match="refuse: no such thing"):
        monitor.ask("refuse")
    assert monitor.ask("query-status")


def test_events_are_kept(monitor: Monitor) -> None:
    assert monitor.events == ["DEVICE_DELETED"]
    monitor.ask("query-status")
    assert monitor.events == ["DEVICE_DELETED"] * 2


def test_a_monitor_that_hangs_up(monitor: Monitor) -> None:
    with pytest.raises(MonitorError, match="has hung up"):
        monitor.ask("quit")


@pytest.mark.parametrize(
    ("address", "name"), [("00:10.1", "port"), ("0e:00.0", "disk"), ("00:11.0", "empty"), ("40:00.0", "far")]
)
def test_the_name_of_a_function(monitor: Monitor, address: str, name: str) -> None:
    assert monitor.device(f"0000:{address}") == name


def test_a_function_that_is_not_there(monitor: Monitor) -> None:
    with pytest.raises(LookupError, match=r"no PCI function 0000:0e:00\.1"):
        monitor.device("0000:0e:00.1")


def test_where_the_port_is(software_machine: Any) -> None:
    assert (Monitor.find(software_machine("lab-s390x")) or "").startswith("/dev/vport")
    assert Monitor.find(software_machine("z15-lpar")) is None
