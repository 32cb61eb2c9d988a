"""define, undefine, defined, apply, install-units and mdev: what they print, their exit codes, and --root."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyvfio.files import HostFiles
from pyvfio.host import Host
from pyvfio.persistence.units import unit_files
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import ChannelPathSpec, FunctionSpec, MachineSpec, SubchannelSpec
from pyvfio_backends.software.machine import Machine
from pyvfio_tools import options
from pyvfio_tools.cli import run

UUID, OTHER = "66826a94-72c4-557f-beca-d135a70628e9", "66826a94-72c4-557f-beca-d135a70628ea"
FUNCTION, PARENT, TYPE = "0011:00:00.0", "0.0.0005", "vfio_ccw-io"
Command = Callable[..., str]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """One machine for all commands of a test; its subchannel 0.0.0005 is with vfio_ccw."""
    spec = MachineSpec(
        "small",
        paths=[ChannelPathSpec(0)],
        subchannels=[
            SubchannelSpec(PARENT, "0.0.013f", "dasd-3390", driver="dasd-eckd"),
            SubchannelSpec("0.0.0006", "0.0.0140", "dasd-3390", driver="dasd-eckd"),
        ],
        functions=[FunctionSpec(0x11, 0x10, "virtio-rng", driver="virtio-pci")],
    )
    backend = SoftwareBackend(Machine(spec))
    monkeypatch.setattr(options, "open_host", lambda *words: Host(backend))
    assert run(["bind", PARENT, "--bus", "css", "--force=signature"]) == 0
    yield Host(backend)
    backend.close()


@pytest.fixture
def command(host: Host, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        status = run(list(arguments))
        captured = capsys.readouterr()
        assert status == code, f"{status}: {captured.out}{captured.err}"
        return captured.out if code == 0 else captured.out + captured.err

    return call


def parsed(command: Command, *arguments: str) -> Any:
    return json.loads(command(*arguments, "--json"))


MISTAKES = [
    (["define"], 2),
    (["define", "nonsense"], 3),
    (["define", FUNCTION, "--to", "a/b"], 2),
    (["define", UUID], 3),
    (["undefine", FUNCTION], 3),
    (["undefine", UUID], 3),
    (["apply", FUNCTION], 3),
    (["apply", FUNCTION, "--parent", PARENT], 2),
    (["install-units", "--print", "--remove"], 2),
    (["install-units", "--program", "pyvfio"], 2),
    (["mdev", "types", FUNCTION], 3),
    (["mdev", "create", TYPE], 2),
    (["mdev", "create", "--auto", PARENT, TYPE], 2),
    (["mdev", "create", "--auto", "no-such-type"], 3),
    (["mdev", "create", PARENT, "no-such-type"], 3),
    (["mdev", "create", PARENT, TYPE, "--attr", "a"], 2),
    (["mdev", "create", PARENT, TYPE, "--uuid", "x"], 2),
    (["mdev", "define"], 2),
    (["mdev", "define", UUID], 2),
    (["mdev", "define", UUID, "--parent", PARENT], 2),
    (["mdev", "define", "--type", "no-such-type"], 3),
    (["mdev", "define", "--type", TYPE, "--parent", "a/b"], 2),
    (["mdev", "modify", UUID, "--start", "auto"], 3),
    (["mdev", "undefine", UUID], 3),
    (["mdev", "attributes", UUID], 3),
    (["mdev", "list", "--root", "/run"], 2),
]


@pytest.mark.parametrize(("arguments", "code"), MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_a_mistake_has_its_exit_code_and_changes_nothing(command: Command, arguments: list[str], code: int) -> None:
    command(*arguments, code=code)
    assert [row["agreement"] for row in parsed(command, "defined")] == ["not persistent"]
    assert parsed(command, "mdev", "list") == []


def test_define_apply_undefine(host: Host, command: Command) -> None:
    out = command("define", FUNCTION)
    assert "1. write /etc/driverctl.d/pci-0011:00:00.0 (0011:00:00.0 gets vfio-pci)" in out
    assert f"pci/{FUNCTION}: applied: bind {FUNCTION} to vfio-pci" in command("apply")
    assert host.function(FUNCTION).driver == "vfio-pci"
    assert "already so" in command("apply", FUNCTION)
    assert command("apply", "--boot") == ""
    assert "same" in command("defined")
    command("undefine", FUNCTION)
    assert host.function(FUNCTION).driver == "vfio-pci"
    assert "nothing is persistent" in command("apply")


def test_dry_runs_change_nothing(host: Host, command: Command) -> None:
    command("define", FUNCTION, "--dry-run")
    assert "nothing is persistent" in command("apply")
    command("define", FUNCTION)
    assert "planned" in command("apply", "--dry-run")
    assert "planned" in command("plan", "apply", FUNCTION)
    assert host.function(FUNCTION).driver == "virtio-pci"


def test_apply_goes_on_and_ends_with_the_first_failure(host: Host, command: Command) -> None:
    command("define", "0099:00:00.0")  # not there: no failure when all is applied
    command("define", "0.0.0006", "--bus", "css", "--to", "no-such-driver")
    command("define", FUNCTION)
    err = command("apply", code=6)
    assert "css/0.0.0006: failed" in err
    assert "1 of 3 failed" in err
    assert host.function(FUNCTION).driver == "vfio-pci"
    command("apply", "0099:00:00.0", code=3)
    command("apply", "--boot", "pci-0099:00:00.0")


def test_apply_at_boot_as_the_units_do(host: Host, command: Command) -> None:
    command("define", "0.0.0140")
    command("mdev", "define", OTHER, "--parent", PARENT, "--type", TYPE, "--start", "auto")
    command("apply", "--boot", "css-0.0.0006", "--force=online")
    assert host.subchannel("0.0.0006").driver == "vfio_ccw"
    command("apply", "--boot", "--parent", "0.0.0006")
    command("apply", "--boot", "--parent", "0.0.0042")
    assert [mdev.parent.name for mdev in host.mdevs()] == ["0.0.0006"]
    report = parsed(command, "apply", "--boot")
    assert [one["outcome"] for one in report["results"]] == ["already so", "applied", "already so"]
    assert report["failed"] == 0


def test_units(command: Command, tmp_path: Path) -> None:
    printed = parsed(command, "install-units", "--print", "--root", "/run/image")
    assert set(printed) == {f"/run/image{path}" for path in unit_files()}
    assert "ExecStart=/usr/bin/pyvfio apply --boot %i" in command(
        "install-units", "--print", "--program", "/usr/bin/pyvfio"
    )
    out = command("install-units", "--root", "/run/image")
    assert "systemctl --root=/run/image enable pyvfio-apply.service" in out
    assert "nothing to do" in command("install-units", "--root", "/run/image")
    command("install-units", "--root", "/run/image", "--remove")
    assert "nothing to do" in command("install-units", "--root", "/run/image", "--remove")


def test_units_beside_those_of_driverctl(host: Host, command: Command) -> None:
    files = HostFiles(host.backend)
    files.make_directory("/run/image/etc/udev/rules.d")
    files.write("/run/image/etc/udev/rules.d/05-driverctl.rules", "")
    out = command("install-units", "--root", "/run/image")
    assert "driverctl is installed too" in out
    assert "mdevctl is" not in out


# mediated devices


def test_types(command: Command) -> None:
    (row,) = parsed(command, "mdev", "types")
    assert row == {
        "parent": PARENT,
        "type": TYPE,
        "device_api": "vfio-ccw",
        "available_instances": 1,
        "name": "I/O subchannel (Non-QDIO)",
        "description": "",
        "devices": [],
    }
    assert parsed(command, "mdev", "types", PARENT) == [row]


def test_create_chooses_a_parent_with_room(host: Host, command: Command) -> None:
    command("bind", "0.0.0006", "--bus", "css", "--force=signature")
    made = parsed(command, "mdev", "create", "--auto", TYPE, "--uuid", UUID)
    assert (made["uuid"], made["parent"], made["done"]) == (UUID, PARENT, True)
    last = command("mdev", "create", "--auto", TYPE).splitlines()[-1]
    assert {str(mdev) for mdev in host.mdevs()} == {UUID, last}
    assert sorted(mdev.parent.name for mdev in host.mdevs()) == [PARENT, "0.0.0006"]
    err = command("mdev", "create", "--auto", TYPE, code=5)
    assert UUID in err
    command("mdev", "create", PARENT, TYPE, code=5)
    assert "nothing to do" in command("mdev", "create", PARENT, TYPE, "--uuid", UUID)


def test_remove_says_what_holds_it(host: Host, command: Command) -> None:
    command("mdev", "create", PARENT, TYPE, "--uuid", UUID)
    group = host.mdev(UUID).group
    assert group is not None
    fd = host.backend.open(group.node, 2)
    err = command("mdev", "remove", UUID, code=5)
    assert group.node in err
    assert "pid" in err
    (row,) = parsed(command, "mdev", "list")
    assert [user["fd"] for user in row["users"]]
    host.backend.close(fd)
    command("mdev", "remove", UUID)
    assert host.mdevs() == []


def test_define_modify_list(command: Command) -> None:
    command("mdev", "create", PARENT, TYPE, "--uuid", UUID)
    command("mdev", "define", UUID, "--start", "auto")
    assert OTHER in command(
        "mdev", "define", OTHER, "--type", "t", "--parent", "matrix", "--attr", "a=1", "--attr", "a=2"
    )
    command("mdev", "modify", OTHER, "--type", "u", "--remove-attr", "a=1", "--attr", "b=3")
    command("mdev", "modify", OTHER, "--remove-attr", "c", code=2)
    rows = {row["uuid"]: row for row in parsed(command, "mdev", "list", "--defined")}
    assert rows[UUID]["active"] is True
    assert (rows[OTHER]["type"], rows[OTHER]["attributes"], rows[OTHER]["active"]) == (
        "u",
        [{"a": "2"}, {"b": "3"}],
        False,
    )
    assert "a=2 b=3" in command("mdev", "list", "--defined")
    (active,) = parsed(command, "mdev", "list")
    assert active["defined"] == "auto"
    command("mdev", "undefine", UUID, OTHER)
    assert command("mdev", "list", "--defined") == "no mediated device is defined\n"


def test_attributes_of_a_device_that_has_none(command: Command) -> None:
    command("mdev", "create", PARENT, TYPE, "--uuid", UUID)
    assert "no attributes of its own" in command("mdev", "attributes", UUID)
    assert parsed(command, "mdev", "attributes", UUID) == []
    assert "none" in command("mdev", "attributes", UUID, "a=1", code=3)
    command("mdev", "remove", UUID)
    command("mdev", "create", PARENT, TYPE, "--uuid", UUID, "--attr", "a=1", code=10)
    assert parsed(command, "mdev", "list") == []


# images, on the files of this computer


def test_an_image(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYVFIO_JOURNAL", "/proc/no-journal-is-needed")
    root = ["--root", str(tmp_path)]
    assert run(["define", FUNCTION, "css/0.0.0005", *root]) == 0
    assert run(["mdev", "define", UUID, "--parent", PARENT, "--type", TYPE, *root]) == 0
    assert (tmp_path / "etc/driverctl.d/css-0.0.0005").read_text() == "vfio_ccw\n"
    assert run(["install-units", *root]) == 0
    capsys.readouterr()
    assert run(["defined", *root, "--json"]) == 0
    assert {row["agreement"] for row in json.loads(capsys.readouterr().out)} == {"not compared"}
    assert run(["undefine", FUNCTION, UUID, *root]) == 0
    assert [path.name for path in (tmp_path / "etc/driverctl.d").iterdir()] == ["css-0.0.0005"]


# what uses a device today would miss it after the next boot


def test_a_device_in_use_is_not_defined_unless_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYVFIO_MACHINE", "s390x-server")
    assert run(["define", "vda"]) == 5
    captured = capsys.readouterr()
    assert "vda1 is mounted on /boot (ext4) [/dev/vda1]" in captured.out
    assert "--force=boot,mounted,swap,holders,signature" in captured.err
    assert run(["define", "eth0", "--force=network"]) == 5
    assert "YOUR OWN SESSION" in capsys.readouterr().out
    assert run(["define", "0.0.0200", "--dry-run"]) == 5, "a DASD with a mounted file system"
    assert run(["define", "0.0.0000", "--bus", "css", "--force=mounted"]) == 5
    assert run(["define", "0.0.0200", "--force=mounted,signature"]) == 0, "that it is online is no reason of its own"
    assert run(["define", "vde", "eth2", "0.0.0201", "0060:00:00.0"]) == 0, "what nobody uses"
    assert run(["define", "vda", "--root", str(tmp_path), "--dry-run"]) == 0, "an image is not this host"


def test_what_has_the_driver_already_loses_nothing(command: Command) -> None:
    command("bind", FUNCTION)
    assert "in use" not in command("define", FUNCTION)
