"""``pyvfio lschp`` and ``pyvfio chchp``: mistakes and refusals first, then what they print and do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from pyvfio.backend import Backend, open_backend
from pyvfio.binding import run as carry_out
from pyvfio.binding import step_from_dict
from pyvfio.binding.chp_settings import PathSettings, plan_channel_paths
from pyvfio.binding.steps_chp import ConfigurePath, VaryPath
from pyvfio.channel_paths import ChannelPathId, channel_paths, parse_channel_paths
from pyvfio.errors import BadAddress, NotAvailable
from pyvfio.host import Host
from pyvfio_backends.software.description import ChannelPathSpec, MachineSpec, SubchannelSpec
from pyvfio_backends.software.usage import DiskSpec, MountSpec, PartitionSpec
from pyvfio_tools import options
from pyvfio_tools.cli import run

CSS = "/sys/devices/css0"
Command = Callable[..., list[str]]


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A mounted DASD with two paths, an offline one with a path of its own, and a path that the machine keeps."""
    disk = {"driver": "dasd-eckd"}
    spec = MachineSpec(
        "m",
        paths=[
            ChannelPathSpec(0x40, shared=True, cmg=2, speed=16 * 10**9, chid=0x1A0),
            ChannelPathSpec(0x41),
            ChannelPathSpec(0x4B, type=0x11),
            ChannelPathSpec(0x50, online=False),
        ],
        subchannels=[
            SubchannelSpec("0.0.0001", "0.0.0100", "dasd-3390", (0x40, 0x41), 0xC0, 0xC0, online=True, **disk),  # type: ignore[arg-type]
            SubchannelSpec("0.0.0002", "0.0.0101", "dasd-3390", (0x4B,), **disk),  # type: ignore[arg-type]
        ],
        disks=[DiskSpec("dasda", partition=[PartitionSpec(signature="ext4")])],
        mounts=[MountSpec("/dev/dasda1", "/data")],
    )
    with open_backend("software", machine=spec) as one:
        yield one


@pytest.fixture
def host(backend: Backend) -> Host:
    return Host(backend)


@pytest.fixture
def pyvfio(backend: Backend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command on the machine, expect an exit status and give the lines of both outputs."""
    monkeypatch.setattr(options, "Host", lambda *names, **machine: Host(backend))

    def command(*arguments: str, status: int = 0) -> list[str]:
        assert run(list(arguments)) == status
        out = capsys.readouterr()
        return (out.out + out.err).splitlines()

    return command


def _status(host: Host, chpid: str) -> str | None:
    return host.sysfs.attribute(f"{CSS}/chp0.{chpid}/status")


@pytest.mark.parametrize(
    "words",
    [
        ["0.40"],
        ["-v", "2", "0.40"],
        ["-v", "on", "0.40"],
        ["-c", "x", "0.40"],
        ["-v", "1"],
        ["-a", "type=1", "0.40"],
        ["-a", "status", "0.40"],
        ["-a", "configure=2", "0.40"],
        ["-v", "1", "nonsense"],
        ["-v", "1", "0.100"],
        ["-v", "1", "0.43-0.40"],
        ["-v", "1", "0.40-1.43"],
        ["-v", "1", "0.40,"],
    ],
)
def test_mistakes(pyvfio: Command, host: Host, words: list[str]) -> None:
    pyvfio("chchp", *words, status=2)
    assert _status(host, "40") == "online"


def test_a_path_that_is_not_there(pyvfio: Command) -> None:
    assert "there is no such" in pyvfio("chchp", "-v", "0", "0.77", status=3)[1]


def test_the_last_path_of_a_disk_in_use(pyvfio: Command, host: Host) -> None:
    pyvfio("chchp", "-v", "0", "0.40")
    lines = pyvfio("chchp", "-v", "0", "0.41", status=5)
    assert any("mounted on /data" in line for line in lines)
    assert _status(host, "41") == "online"
    pyvfio("chchp", "-c", "0", "0.41", status=5)
    lines = pyvfio("chchp", "-v", "0", "0.41", "--force=mounted")
    assert any("is online and loses its last path" in line for line in lines)
    assert _status(host, "41") == "offline"


def test_both_paths_at_once(pyvfio: Command, host: Host) -> None:
    pyvfio("chchp", "-v", "0", "0.40-0.41", status=5)
    assert _status(host, "40") == "online"


def test_a_machine_that_does_not_configure_paths() -> None:
    with open_backend("software", machine="lab-s390x") as virtual:
        host = Host(virtual)
        with pytest.raises(NotAvailable, match="does not let it be configured"):
            plan_channel_paths(host, [ChannelPathId(0, 1)], PathSettings(configured=False))


def test_the_table(pyvfio: Command) -> None:
    pyvfio("chchp", "-v", "0", "4b")
    assert pyvfio("lschp") == [
        "CHPID  Vary  Cfg.  Type  Cmg  Shared  PCHID",
        "===========================================",
        "0.40   1     1     1b    2    1      (01a0)",
        "0.41   1     1     1b    -    -       -",
        "0.4b   0     1     11    -    -       -",
        "0.50   1     0     1b    -    -       -",
    ]


def test_as_data(pyvfio: Command) -> None:
    rows = json.loads("\n".join(pyvfio("lschp", "--json")))
    assert rows[0] == {
        "chpid": "0.40", "online": True, "configured": 1, "type": "1b", "cmg": 2, "shared": True, "pchid": "01a0",
        "external": False,
    }  # fmt: skip
    assert rows[1]["cmg"] is rows[1]["shared"] is rows[1]["pchid"] is None


def test_varying(pyvfio: Command, host: Host) -> None:
    lines = pyvfio("chchp", "-v", "0", "0.4b")
    assert "1. vary channel path 0.4b offline" in lines[1]
    assert any("0.0.0101 loses its last path" in line for line in lines)
    assert not host.sysfs.exists("/sys/bus/ccw/devices/0.0.0101")
    assert any("is so already" in line for line in pyvfio("chchp", "--vary=0", "4B"))
    pyvfio("chchp", "-a", "status=online", "0.40-0.7f")
    assert host.sysfs.exists("/sys/bus/ccw/devices/0.0.0101")
    assert _status(host, "4b") == "online"


def test_configuring(pyvfio: Command, host: Host) -> None:
    pyvfio("chchp", "-c", "1", "0.50")
    pyvfio("chchp", "-c", "0", "0.40")
    assert host.sysfs.attribute(f"{CSS}/0.0.0001/pimpampom") == "c0 40 ff"
    pyvfio("chchp", "-v", "0", "0.40")
    paths = {str(path.id): (path.online, path.configured) for path in channel_paths(host.sysfs)}
    assert (paths["0.40"], paths["0.50"]) == ((False, 0), (True, 1))
    pyvfio("chchp", "-c", "1", "-v", "1", "0.40")
    assert host.sysfs.attribute(f"{CSS}/0.0.0001/pimpampom") == "c0 c0 ff"


def test_what_would_be_done(pyvfio: Command, host: Host) -> None:
    plan = json.loads("\n".join(pyvfio("plan", "chchp", "-c", "0", "-v", "0", "0.4b", "--json")))
    assert [step["text"] for step in plan["steps"]] == [
        "vary channel path 0.4b offline",
        "deconfigure channel path 0.4b",
    ]
    assert _status(host, "4b") == "online"


@pytest.mark.parametrize("wanted", [PathSettings(online=False), PathSettings(configured=False)])
def test_undone_from_the_journal(host: Host, wanted: PathSettings) -> None:
    plan = plan_channel_paths(host, [ChannelPathId(0, 0x4B)], wanted)
    carry_out(plan, journal=None)
    steps = [step_from_dict(json.loads(json.dumps(step.as_dict()))) for step in plan.steps]
    assert {type(step) for step in steps} <= {VaryPath, ConfigurePath}
    for _ in range(2):  # an inverse may be run again
        for step in reversed(steps):
            step.undo(host.sysfs)
    path = next(path for path in channel_paths(host.sysfs) if path.id.chpid == 0x4B)
    assert (path.online, path.configured) == (True, 1)
    assert host.sysfs.exists("/sys/bus/ccw/devices/0.0.0101")


def test_ranges() -> None:
    found = parse_channel_paths(["0.40-0.42,4b", "41"])
    assert [(str(one), named) for one, named in found] == [
        ("0.40", False), ("0.41", True), ("0.42", False), ("0.4b", True),
    ]  # fmt: skip
    for text in ("", "x", "0.1.2", "123", "0.4g"):
        with pytest.raises(BadAddress):
            ChannelPathId.parse(text)
