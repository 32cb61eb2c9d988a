"""``pyvfio chccwdev``: mistakes and refusals first, then what it prints and does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from pyvfio.backend import Backend, open_backend
from pyvfio.binding import plan_ccw_take, step_from_dict
from pyvfio.binding import run as carry_out
from pyvfio.binding.ccw_settings import Settings, plan_ccw_settings
from pyvfio.binding.steps_ccw import ForceOnline, SafeOffline, SetAttribute
from pyvfio.errors import NotAvailable
from pyvfio.files import HostFiles
from pyvfio.host import Host
from pyvfio_backends.software import software_of
from pyvfio_backends.software.description import ChannelPathSpec, MachineSpec, SubchannelSpec
from pyvfio_tools import options
from pyvfio_tools.cli import run

FIRST, SECOND, FREE, TERMINAL = "0.0.0100", "0.0.0101", "0.0.0200", "0.0.0300"
Command = Callable[..., list[str]]


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A machine with two DASDs online, a device without a driver, and an offline terminal."""
    specs = [
        SubchannelSpec("0.0.0001", FIRST, "dasd-3390", driver="dasd-eckd", online=True),
        SubchannelSpec("0.0.0002", SECOND, "dasd-3390", driver="dasd-eckd", online=True),
        SubchannelSpec("0.0.0003", FREE, "echo"),
        SubchannelSpec("0.0.0004", TERMINAL, "3270", driver="3270"),
    ]
    spec = MachineSpec("m", paths=[ChannelPathSpec(0)], subchannels=specs)
    with open_backend("software", machine=spec) as one:
        yield one


@pytest.fixture
def host(backend: Backend) -> Host:
    return Host(backend)


@pytest.fixture
def chccwdev(backend: Backend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command: the lines that it prints, errors last."""
    monkeypatch.setattr(options, "open_host", lambda *_: Host(backend))

    def command(*arguments: str, status: int = 0) -> list[str]:
        assert run(["chccwdev", *arguments]) == status
        captured = capsys.readouterr()
        return (captured.out + captured.err).splitlines()

    return command


@pytest.mark.parametrize(
    "arguments",
    [
        [FIRST],
        ["-e"],
        ["-e", "-d", FIRST],
        ["-f", "-s", FIRST],
        ["-e", "-a", "online=0", FIRST],
        ["-a", "erplog", FIRST],
        ["-a", "=1", FIRST],
        ["-a", "erplog=", FIRST],
        ["-a", "../online=1", FIRST],
    ],
)
def test_mistakes(chccwdev: Command, arguments: list[str]) -> None:
    chccwdev(*arguments, status=2)


def test_a_device_that_is_not_there(chccwdev: Command, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no subchannel has a device" in chccwdev("-e", "4711", status=3)[1]
    chccwdev("-e", "4000-4fff", status=3)
    chccwdev("-e", "0011:00:00.0", status=3)
    ignored = "0.0.4700-0.0.47ff\n0.1.0000-0.1.ffff\n"
    monkeypatch.setattr(HostFiles, "read", lambda self, path: ignored if path == "/proc/cio_ignore" else None)
    lines = chccwdev("-e", "4711", status=3)
    assert "list of ignored devices" in lines[1]
    assert lines[-1] == "  next:  echo free 0.0.4711 > /proc/cio_ignore"


def test_a_device_that_vfio_ccw_has(chccwdev: Command, host: Host) -> None:
    carry_out(plan_ccw_take(host, FIRST))
    lines = chccwdev("-e", FIRST, status=3)
    assert "its subchannel 0.0.0001 has driver vfio_ccw" in lines[1]
    assert lines[-1] == f"  next:  pyvfio ccw give-back {FIRST}"
    assert chccwdev("-d", "0100-01ff") == [f"Setting device {SECOND} offline", "Done"]


def test_what_the_device_cannot_do(chccwdev: Command, host: Host) -> None:
    assert "no driver has it" in chccwdev("-e", FREE, status=6)[1]
    assert "no attribute nonsense" in chccwdev("-a", "nonsense=1", FIRST, status=6)[1]
    chccwdev("-e", TERMINAL)
    assert "no attribute safe_offline" in chccwdev("-s", TERMINAL, status=6)[1]


def test_a_mounted_disk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with open_backend("software", machine="s390x-server") as backend:
        monkeypatch.setattr(options, "open_host", lambda *_: Host(backend))
        assert run(["chccwdev", "-d", "200"]) == 5
        message = capsys.readouterr().err
        assert "dasda1 is mounted on /data" in message
        assert "--force=mounted\n" in message
        assert Host(backend).ccw_device("0.0.0200").online
        assert run(["chccwdev", "-d", "200", "--force=mounted"]) == 10  # the kernel refuses, too
        assert "EBUSY" in capsys.readouterr().err
        assert Host(backend).ccw_device("0.0.0200").online


def test_one_fails_and_all_is_as_before(chccwdev: Command, backend: Backend, host: Host) -> None:
    software_of(backend).faults.fail("write", 5, path="/sys/devices/css0/0.0.0002/0.0.0101/online")
    lines = chccwdev("-d", "100-101", status=10)
    assert lines[:4] == [
        f"Setting device {FIRST} offline",
        "Done",
        f"Setting device {SECOND} offline",
        f"Undone: set {SECOND} offline",
    ]
    assert host.ccw_device(FIRST).online
    assert host.ccw_device(SECOND).online


def test_offline_and_online(chccwdev: Command, host: Host) -> None:
    assert chccwdev("-d", "100,0.0.0101", "300") == [
        f"Setting device {FIRST} offline",
        "Done",
        f"Setting device {SECOND} offline",
        "Done",
        "Done",
        f"Device {TERMINAL} is already offline",
    ]
    assert not host.ccw_device(FIRST).online
    assert chccwdev("-e", "0.0.0100-0.0.0101") == [
        f"Setting device {FIRST} online",
        "Done",
        f"Setting device {SECOND} online",
        "Done",
    ]
    assert chccwdev("-e", FIRST) == ["Done", f"Device {FIRST} is already online"]


def test_safe_and_forced(chccwdev: Command, host: Host) -> None:
    assert chccwdev("-s", FIRST) == [f"Setting device {FIRST} offline", "Done"]
    assert chccwdev("-f", FIRST) == [f"Setting device {FIRST} online", "Done"]
    assert chccwdev("-a", "safe_offline=1", FIRST) == [f"Setting device {FIRST} offline", "Done"]
    assert chccwdev("-a", "online=force", FIRST) == [f"Setting device {FIRST} online", "Done"]
    assert host.ccw_device(FIRST).online


def test_attributes(chccwdev: Command, host: Host) -> None:
    device = host.ccw_device(FIRST)
    assert chccwdev("-a", "erplog=0x1", "-a", "failfast=0", "-a", "erplog=1", FIRST) == [
        f"The failfast attribute of {FIRST} already is 0",
        f"Setting erplog attribute of {FIRST} to 1",
        "Done",
    ]
    assert device.attribute("erplog") == "1"
    # use_diag can be changed offline only: first the attribute, then online
    chccwdev("-d", FIRST)
    assert chccwdev("-e", "-a", "use_diag=1", FIRST) == [
        f"Setting use_diag attribute of {FIRST} to 1",
        f"Setting device {FIRST} online",
        "Done",
    ]
    # columns is there only when the terminal is online
    plan = plan_ccw_settings(host.ccw_device(TERMINAL), Settings(True, attributes=(("columns", "80"),)))
    assert [step.kind for step in plan.steps] == ["online", "ccw-attribute"]
    with pytest.raises(NotAvailable):
        plan_ccw_settings(host.ccw_device(TERMINAL), Settings(attributes=(("columns", "80"),)))


def test_plan_and_json(chccwdev: Command, host: Host) -> None:
    document = json.loads("\n".join(chccwdev("-d", "-a", "erplog=1", FIRST, "--json")))
    assert document["done"] is True
    assert [step["step"] for step in document["steps"]] == ["ccw-attribute", "online"]
    assert document["findings"] == []
    assert run(["plan", "chccwdev", "-e", FIRST]) == 0
    assert not host.ccw_device(FIRST).online


@pytest.mark.parametrize(
    "step",
    [SetAttribute(FIRST, "erplog", "1", "0"), SafeOffline(FIRST), ForceOnline(FIRST)],
    ids=lambda step: step.kind,
)
def test_steps_and_their_inverses(host: Host, step: SetAttribute | SafeOffline | ForceOnline) -> None:
    device = host.ccw_device(FIRST)
    if isinstance(step, ForceOnline):
        device.set_online(False)
    before = (device.online, device.attribute("erplog"))
    again = step_from_dict(step.as_dict())
    assert again == step
    step.undo(host.sysfs)
    assert (device.online, device.attribute("erplog")) == before
    for _ in range(2):
        step.do(host.sysfs)
        assert step.verify(host.sysfs) == ""
    assert (device.online, device.attribute("erplog")) != before
    for _ in range(2):
        again.undo(host.sysfs)
        assert (device.online, device.attribute("erplog")) == before
