"""Uevents as changes in words, on made-up events and on the software machine's."""

from __future__ import annotations

import collections
import errno
import json
import threading
from collections.abc import Callable

import pytest
from small_machine import BELL, DISK

import pyvfio
from pyvfio.host import Host
from pyvfio.uevent import Uevent
from pyvfio.watch import TOGETHER, Change, Watch, device_in
from pyvfio_backends.software.linux.uevents import UeventQueue
from pyvfio_tools import options
from pyvfio_tools.cli import run

PCI = "/devices/pci0000:00/0000:00:1c.0/0000:3b:00.0"
CCW = "/devices/css0/0.0.0005/0.0.013f"
UUID = "66826a94-72c4-557f-beca-d135a70628e9"
Boot = Callable[..., Host]


class Stream:
    """Events that a test wrote."""

    def __init__(self, *events: Uevent) -> None:
        self.events = collections.deque(events)
        self.now = 0.0

    def read(self, timeout: float | None = 0.0) -> Uevent | None:
        if self.events:
            return self.events.popleft()
        self.now += 1.0 if timeout is None else timeout
        return None

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.events.clear()


def event(action: str, devpath: str, subsystem: str, **properties: str) -> Uevent:
    return Uevent(action, devpath, {"SUBSYSTEM": subsystem, "SEQNUM": "7", **properties})


def changes(host: Host, *events: Uevent, devices: tuple[str, ...] = ()) -> list[Change]:
    stream = Stream(*events)
    with Watch(host, devices=devices, stream=stream, clock=lambda: stream.now) as watch:  # type: ignore[arg-type]
        found = []
        while (change := watch.read(2 * TOGETHER)) is not None:
            found.append(change)
        return [*found, *watch.rest()]


@pytest.mark.parametrize(
    ("path", "device"),
    [
        (PCI, "0000:3b:00.0"),
        (f"{PCI}/virtio3/net/eth0", "0000:3b:00.0"),
        (f"{CCW}/block/dasda/dasda1", "0.0.013f"),
        (f"/devices/css0/0.0.0005/{UUID}/vfio-dev/vfio0", UUID),
        ("/devices/pci10000:00/10000:00:00.0", "10000:00:00.0"),
        ("/devices/virtual/net/lo", ""),
        ("/devices/pci0000:00", ""),
    ],
)
def test_the_device_of_a_path(path: str, device: str) -> None:
    assert device_in(path) == device


@pytest.mark.parametrize(
    ("one", "kind", "text"),
    [
        (event("add", PCI, "pci"), "device", "0000:3b:00.0 appeared"),
        (event("remove", PCI, "pci"), "device", "0000:3b:00.0 gone"),
        (event("change", PCI, "pci"), "device", "0000:3b:00.0 changed"),
        (event("change", CCW, "ccw"), "device", "0.0.013f changed"),
        (event("change", CCW, "css", MDEV_STATE="registered"), "device", "0.0.013f takes mediated devices"),
        (event("offline", PCI, "pci"), "device", "0000:3b:00.0 offline"),
        (event("bind", PCI, "pci", DRIVER="igb"), "driver", "0000:3b:00.0 driver none -> igb"),
        (event("unbind", PCI, "pci"), "driver", "0000:3b:00.0 driver none -> none"),
        (event("add", f"{CCW}/{UUID}", "mdev"), "mdev", f"{UUID} mdev created on 0.0.013f"),
        (event("remove", f"/devices/virtual/mtty/mtty/{UUID}", "mdev"), "mdev", f"{UUID} mdev removed"),
        (event("add", f"{PCI}/net/eth0", "net"), "net", "0000:3b:00.0 net eth0 appeared"),
        (
            event("move", f"{PCI}/net/ens1", "net", DEVPATH_OLD=f"{PCI}/net/eth0"),
            "net",
            "0000:3b:00.0 net eth0 renamed to ens1",
        ),
        (event("remove", "/devices/virtual/net/br0", "net"), "net", "net br0 gone"),
        (event("add", f"{CCW}/block/dasda", "block"), "block", "0.0.013f block dasda appeared"),
        (event("add", "/devices/virtual/vfio/3", "vfio", DEVNAME="vfio/3"), "vfio", "node /dev/vfio/3 appeared"),
        (event("add", "/devices/virtual/vfio/3", "vfio", DEVNAME="/dev/vfio/3"), "vfio", "node /dev/vfio/3 appeared"),
        (
            event("remove", f"{PCI}/vfio-dev/vfio0", "vfio-dev"),
            "vfio",
            "0000:3b:00.0 node /dev/vfio/devices/vfio0 gone",
        ),
        (event("add", f"{PCI}/virtio3", "virtio"), "event", "0000:3b:00.0 virtio virtio3 appeared"),
        (event("add", "/devices/virtual/bdi/254:0", "bdi"), "event", "bdi 254:0 appeared"),
        (event("add", "/devices/css0/defunct", "css"), "event", "css defunct appeared"),
    ],
)
def test_words(boot: Boot, one: Uevent, kind: str, text: str) -> None:
    (change,) = changes(boot(), one)
    assert (change.kind, str(change)) == (kind, text)
    assert change.events == (one,)
    assert change.seqnum == 7


def disk(action: str, **properties: str) -> Uevent:
    return event(action, f"/devices/pci0020:00/{DISK}", "pci", **properties)


def test_the_driver_of_before_is_known(boot: Boot) -> None:
    (change,) = changes(boot(), disk("unbind"))
    assert (change.before, change.after) == ("virtio-pci", None)


def test_a_bind_before_the_look_at_the_drivers(boot: Boot) -> None:
    (change,) = changes(boot(), disk("bind", DRIVER="virtio-pci"))
    assert (change.before, change.after) == (None, "virtio-pci")


def test_a_bind_that_follows_is_the_same_change(boot: Boot) -> None:
    other = event("add", "/devices/virtual/vfio/3", "vfio")
    found = changes(boot(), disk("unbind"), other, disk("bind", DRIVER="vfio-pci"))
    assert [str(one) for one in found] == ["node /dev/vfio/3 appeared", f"{DISK} driver virtio-pci -> vfio-pci"]
    assert len(found[1].events) == 2


def test_a_bind_that_comes_late_is_another(boot: Boot) -> None:
    host = boot()
    stream = Stream(disk("unbind"))
    with Watch(host, stream=stream, clock=lambda: stream.now) as watch:  # type: ignore[arg-type]
        assert watch.read() is None
        assert str(watch.read(10)) == f"{DISK} driver virtio-pci -> none"
        stream.events.append(disk("bind", DRIVER="vfio-pci"))
        assert str(watch.read(10)) == f"{DISK} driver none -> vfio-pci"
        assert watch.read() is None


def test_what_else_follows_does_not_swallow_it(boot: Boot) -> None:
    found = changes(boot(), disk("unbind"), disk("remove"))
    assert [one.kind for one in found] == ["driver", "device"]


def test_the_end_gives_what_was_kept(boot: Boot) -> None:
    host = boot()
    stream = Stream(disk("unbind"))
    with Watch(host, stream=stream, clock=lambda: stream.now) as watch:  # type: ignore[arg-type]
        assert watch.read() is None
        assert [str(one) for one in watch.rest()] == [f"{DISK} driver virtio-pci -> none"]


def test_only_some_devices(boot: Boot) -> None:
    host = boot()
    group = host.function(BELL).group
    assert group is not None
    events = (
        disk("unbind"),
        disk("bind", DRIVER="x"),
        event("remove", f"/devices/virtual/vfio/{group.number}", "vfio"),
        event("remove", "/devices/virtual/vfio/77", "vfio"),
        event("add", f"/devices/pci0060:00/{BELL}/net/eth0", "net"),
        event("add", "/devices/virtual/net/lo", "net"),
    )
    texts = [str(one) for one in changes(host, *events, devices=(BELL,))]
    assert texts == [f"node /dev/vfio/{group.number} gone", f"{BELL} net eth0 appeared"]


@pytest.fixture
def listening() -> threading.Event:
    """Set when the command waits for events for the first time."""
    return threading.Event()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, listening: threading.Event) -> Host:
    host = Host("software", machine="z15-lpar")
    monkeypatch.setattr(options, "open_host", lambda *words: Host(host.backend))
    read = UeventQueue.read

    def told(queue: UeventQueue, timeout: float | None = 0.0) -> Uevent | None:
        listening.set()
        return read(queue, timeout)

    monkeypatch.setattr(UeventQueue, "read", told)
    return host


def later(listening: threading.Event, work: Callable[[], object]) -> threading.Thread:
    """Do something when the command has begun to listen."""

    def body() -> None:
        assert listening.wait(10)
        work()

    thread = threading.Thread(target=body)
    thread.start()
    return thread


def test_the_command(machine: Host, capsys: pytest.CaptureFixture[str], listening: threading.Event) -> None:
    function = machine.function("0060:00:00.0")
    thread = later(listening, lambda: pyvfio.bind(function))
    assert run(["monitor", "0060:00:00.0", "--count", "3", "--seconds", "30"]) == 0
    thread.join()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(None, 1)[1] for line in lines] == [
        "node /dev/vfio/2 appeared",
        "0060:00:00.0 node /dev/vfio/devices/vfio0 appeared",
        "0060:00:00.0 driver none -> vfio-pci",
    ]


def test_the_command_as_data(machine: Host, capsys: pytest.CaptureFixture[str], listening: threading.Event) -> None:
    thread = later(listening, lambda: pyvfio.bind(machine.function("0020:00:00.0"), force=("signature", "open")))
    assert run(["monitor", "--bus", "pci", "--json", "--seconds", "30", "--count", "1"]) == 0
    thread.join()
    document = json.loads(capsys.readouterr().out)
    assert document["text"] == "0020:00:00.0 driver virtio-pci -> vfio-pci"
    assert (document["kind"], document["before"], document["after"]) == ("driver", "virtio-pci", "vfio-pci")
    assert [one["ACTION"] for one in document["events"]] == ["unbind", "bind"]


def test_the_command_ends_with_what_it_kept(
    machine: Host, capsys: pytest.CaptureFixture[str], listening: threading.Event
) -> None:
    thread = later(listening, lambda: pyvfio.unbind(machine.function("0020:00:00.0"), force=("signature", "open")))
    assert run(["monitor", "--bus", "pci", "--seconds", "2"]) == 0
    thread.join()
    assert "0020:00:00.0 driver virtio-pci -> none" in capsys.readouterr().out


def test_raw_events(machine: Host, capsys: pytest.CaptureFixture[str], listening: threading.Event) -> None:
    thread = later(listening, lambda: pyvfio.bind(machine.function("0060:00:00.0")))
    assert run(["monitor", "--raw", "--bus", "pci", "--json", "--seconds", "30", "--count", "1"]) == 0
    thread.join()
    assert json.loads(capsys.readouterr().out)["ACTION"] == "bind"


def test_sources_and_devices_that_make_no_sense(machine: Host) -> None:
    assert run(["monitor", "--source", "udev", "--seconds", "0"]) == 2
    assert run(["monitor", "--source", "kernel", "--seconds", "0"]) == 0
    assert run(["monitor", "--raw", "0060:00:00.0", "--seconds", "0"]) == 2
    assert run(["monitor", "0099:00:00.0", "--seconds", "0"]) == 0


def test_a_bus_that_is_none_is_no_silent_wait(machine: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["monitor", "--bus", "pci", "--bus", "nope", "--seconds", "0"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "no bus or class 'nope'. Buses:" in told
    assert all(name in told for name in (*machine.buses(), *machine.sysfs.names("/sys/class")))
    for name in ("mdev", "module", "queues", "vfio-dev"):  # a module may come, and not all is of a bus or class
        assert run(["monitor", "--bus", name, "--seconds", "0"]) == 0


@pytest.mark.parametrize("options", [[], ["--raw"]])
def test_lost_events_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    class Overrun(Stream):
        def read(self, timeout: float | None = 0.0) -> Uevent | None:
            raise OSError(errno.ENOBUFS, "No buffer space available")

    monkeypatch.setattr("pyvfio_backends.kernel.backend.open_stream", lambda source, subsystems: Overrun())
    assert run(["monitor", "--backend", "kernel", *options]) == 7
    assert "some are lost" in capsys.readouterr().err


def test_a_source_of_the_kernels_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def stream(source: str, subsystems: object) -> Stream:
        opened.append(source)
        return Stream()

    monkeypatch.setattr("pyvfio_backends.kernel.backend.open_stream", stream)
    assert run(["monitor", "--backend", "kernel", "--source", "kernel", "--seconds", "0"]) == 0
    assert run(["monitor", "--backend", "kernel", "--source", "udev", "--seconds", "0"]) == 0
    assert run(["monitor", "--backend", "kernel", "--seconds", "0"]) == 0
    assert opened == ["netlink", "udev", "auto"]
