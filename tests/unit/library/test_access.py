"""Nodes given to users: owner and mode, the rule of udev, what is still needed, and the way back."""

from __future__ import annotations

import errno
import io
import json
import os
import pwd
import stat
from collections.abc import Callable

import pytest
from small_machine import BELL, DISK, machine_of

import pyvfio
from pyvfio.binding import undo
from pyvfio.binding.access import Grantee, grant, grantee, limits_line, nodes_of, plan_grant, rule_path, udev_rule
from pyvfio.errors import Misuse, NotAvailable, PermissionDenied, StepFailed
from pyvfio.files import HostFiles
from pyvfio.host import Host
from pyvfio_tools.cli import run

ALICE = Grantee("1000", 1000, None, None)
STAFF = Grantee(None, None, "50", 50)
NODES = ["/dev/vfio/0", "/dev/vfio/devices/vfio0"]


@pytest.fixture
def host(boot: Callable[[], Host]) -> Host:
    return boot()


def owner(host: Host, node: str) -> tuple[int, int, int]:
    status = host.backend.stat(node)
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


def test_names_and_numbers() -> None:
    me = pwd.getpwuid(os.getuid())
    assert grantee(me.pw_name, None) == Grantee(me.pw_name, me.pw_uid, None, None)
    assert grantee("1000", "50") == Grantee("1000", 1000, "50", 50)
    assert str(grantee("1000", "50")) == "user 1000 and group 50"


@pytest.mark.parametrize(
    ("user", "group", "word"), [("nobody-of-this-name", None, "user"), (None, "no-such-group", "group"), ("", None, "")]
)
def test_names_that_are_none(user: str | None, group: str | None, word: str) -> None:
    with pytest.raises(Misuse) as caught:
        grantee(user, group)
    assert f"has no {word}" in caught.value.cause
    assert "getent" in caught.value.next_step


def test_nobody_at_all() -> None:
    with pytest.raises(Misuse):
        grantee(None, None)


def test_give_and_give_back(host: Host) -> None:
    assert nodes_of(host.function(BELL)) == NODES
    before = {node: owner(host, node) for node in NODES}
    plan = grant(host, BELL, ALICE)
    assert all(owner(host, node) == (1000, before[node][1], 0o660) for node in NODES)
    assert plan_grant(host, BELL, ALICE).empty
    undo(plan)
    assert {node: owner(host, node) for node in NODES} == before


def test_a_group(host: Host) -> None:
    before = owner(host, NODES[0])
    plan = grant(host, BELL, STAFF, mode=0o640, iommu=True)
    assert owner(host, NODES[0]) == (before[0], 50, 0o640)
    assert owner(host, "/dev/iommu")[1:] == (50, 0o640)
    undo(plan)
    assert owner(host, NODES[0]) == before


def test_a_node_that_is_gone_is_nothing_to_undo(host: Host) -> None:
    plan = grant(host, BELL, ALICE)
    pyvfio.unbind(host.function(BELL))
    undo(plan)


def test_a_refusal_names_the_node(host: Host) -> None:
    machine_of(host).faults.fail("chown", errno.EPERM)
    with pytest.raises(StepFailed) as caught:
        grant(host, BELL, ALICE)
    assert f"{NODES[0]} belongs to uid 0" in caught.value.cause
    assert isinstance(caught.value.__cause__, PermissionDenied)


def test_half_of_it_is_undone(host: Host) -> None:
    before = {node: owner(host, node) for node in NODES}
    machine_of(host).faults.fail("chmod", errno.EIO, nth=2)
    with pytest.raises(StepFailed):
        grant(host, BELL, ALICE)
    assert {node: owner(host, node) for node in NODES} == before


def test_without_a_vfio_driver(host: Host) -> None:
    with pytest.raises(NotAvailable) as caught:
        plan_grant(host, DISK, ALICE)
    assert "virtio-pci" in caught.value.cause


def test_a_mode_that_is_none(host: Host) -> None:
    with pytest.raises(Misuse):
        plan_grant(host, BELL, ALICE, mode=0o10000)
    with pytest.raises(Misuse):
        plan_grant(host, BELL, ALICE, root="/image")


def test_the_rule(host: Host) -> None:
    given = Grantee("alice", 1000, "vfio", 500)
    lines = udev_rule(host.function(BELL), given, 0o660, iommu=True).splitlines()
    words = 'OWNER="alice", GROUP="vfio", MODE="0660"'
    assert lines == [
        f"# Written by pyvfio grant: user alice and group vfio may use {BELL}.",
        f'SUBSYSTEM=="vfio", TEST=="/sys/kernel/iommu_groups/%k/devices/{BELL}", {words}',
        f'SUBSYSTEM=="vfio-dev", KERNELS=="{BELL}", {words}',
        f'SUBSYSTEM=="misc", KERNEL=="iommu", {words}',
    ]


def test_the_rule_is_installed(host: Host) -> None:
    files, path = HostFiles(host.backend), rule_path(host.function(BELL))
    plan = grant(host, BELL, ALICE, install=True)
    assert files.read(path) == udev_rule(host.function(BELL), ALICE, 0o660)
    assert [step.kind for step in plan.steps] == ["owner", "owner", "write-file"]
    undo(plan)
    assert files.read(path) is None


def test_the_rule_is_installed_elsewhere(host: Host) -> None:
    before = owner(host, NODES[0])
    grant(host, DISK, ALICE, install=True, root="/tmp/image/")
    assert HostFiles(host.backend).read(f"/tmp/image/etc/udev/rules.d/72-pyvfio-{DISK}.rules")
    assert owner(host, NODES[0]) == before


def test_notes(host: Host) -> None:
    notes = " ".join(plan_grant(host, BELL, ALICE).notes)
    assert "--install" in notes
    assert "--iommu" in notes
    assert "memlock" in notes
    host.backend.chmod("/dev/vfio/vfio", 0o600)
    assert "/dev/vfio/vfio too" in " ".join(plan_grant(host, BELL, ALICE).notes)


@pytest.mark.parametrize(
    ("to", "line"),
    [
        (Grantee("alice", 1000, None, None), "alice - memlock unlimited"),
        (ALICE, ":1000 - memlock unlimited"),
        (Grantee(None, None, "vfio", 5), "@vfio - memlock unlimited"),
        (STAFF, "@:50 - memlock unlimited"),
    ],
)
def test_lines_of_limits(to: Grantee, line: str) -> None:
    assert limits_line(to) == line


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    machine = ["--machine", "z15-lpar"]
    assert run(["grant", "0060:00:00.0", "--user", "1000", "--rule", *machine]) == 0
    assert 'OWNER="1000"' in capsys.readouterr().out
    assert run(["grant", "0060:00:00.0", "--user", "1000", "--rule", "--json", *machine]) == 0
    assert "OWNER" in json.loads(capsys.readouterr().out)[0]["rule"]
    assert run(["grant", "0060:00:00.0", "--user", "1000", *machine]) == 6
    assert run(["grant", "0060:00:00.0", *machine]) == 2
    assert run(["grant", "0060:00:00.0", "--user", "1000", "--mode", "9", *machine]) == 2
    assert run(["grant", "0060:00:00.0", "--user", "1000", "--install", *machine]) == 0
    assert run(["plan", "grant", "0060:00:00.0", "--user", "1000", "--install", *machine]) == 0
    capsys.readouterr()


def test_many_devices_are_given_away_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYVFIO_MACHINE", "s390x-server")
    assert run(["grant", "vde", "eth2", "0060:*", "--user", "1000", "--iommu", "--install", "--json", "--dry-run"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["objects"] == ["0005:00:00.0", "0013:00:00.0", "0060:00:00.0"]
    texts = [step["text"] for step in plan["steps"]]
    assert sum("/dev/iommu" in text for text in texts) == 1, "once for all of them"
    assert sum("72-pyvfio-" in text for text in texts) == 3
    monkeypatch.setattr("sys.stdin", io.StringIO("vde\n0060:00:00.0  # the bell\n"))
    assert run(["grant", "-", "--group", "no-such-group", "--rule"]) == 2, "no such group on this computer"
    monkeypatch.setattr("sys.stdin", io.StringIO("vde\n0060:00:00.0  # the bell\n"))
    assert run(["grant", "-", "--group", "5", "--rule"]) == 0
    assert capsys.readouterr().out.count("# Written by") == 2
