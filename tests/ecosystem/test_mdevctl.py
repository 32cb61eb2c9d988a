"""What pyvfio defines mdevctl lists, and what mdevctl defines pyvfio lists: with Debian's package."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from private_host import PrivateHost

UUID, OTHER, THIRD = (f"66826a94-72c4-557f-beca-d135a7062{n:03x}" for n in (1, 2, 3))
PARENT, TYPE = "0.0.0313", "vfio_ccw-io"
AP = ["--attr", "assign_adapter=5", "--attr", "assign_adapter=6", "--attr", "assign_domain=0xab"]
AP_ATTRS = [{"assign_adapter": "5"}, {"assign_adapter": "6"}, {"assign_domain": "0xab"}]
SERIAL = {
    "mtty-1": {"available_instances": "24", "device_api": "vfio-pci", "name": "Single port serial"},
    "mtty-2": {"available_instances": "12", "device_api": "vfio-pci", "name": "Dual port serial"},
}
FindTool = Callable[..., Path]


class Mdevctl:
    """mdevctl on a private host."""

    def __init__(self, host: PrivateHost, program: Path) -> None:
        self.host = host
        self.program = program

    def __call__(self, *arguments: str, code: int = 0) -> str:
        return self.host.run(self.program, *arguments, code=code)

    def defined(self) -> set[str]:
        """The lines of ``list -d``."""
        return {line.strip() for line in self("list", "-d").splitlines() if line.strip()}

    def json(self, uuid: str) -> Any:
        """One definition, in the format of its file."""
        return json.loads(self("list", "-d", "-u", uuid, "--dumpjson"))


@pytest.fixture
def mdevctl(host: PrivateHost, find_tool: FindTool) -> Mdevctl:
    return Mdevctl(host, find_tool("mdevctl", "mdevctl"))


def ours(host: PrivateHost) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = host.pyvfio_json("mdev", "list", "--defined")
    return found


def file_of(host: PrivateHost, parent: str, uuid: str) -> str:
    return host.read(f"/etc/mdevctl.d/{parent}/{uuid}")


def test_mdevctl_lists_what_pyvfio_defines(host: PrivateHost, mdevctl: Mdevctl) -> None:
    host.pyvfio("mdev", "define", UUID, "--parent", PARENT, "--type", TYPE, "--start", "auto")
    host.pyvfio("mdev", "define", OTHER, "--parent", "matrix", "--type", "vfio_ap-passthrough", *AP)
    assert mdevctl.defined() == {f"{UUID} {PARENT} {TYPE} auto", f"{OTHER} matrix vfio_ap-passthrough manual"}
    assert mdevctl.json(OTHER)["attrs"] == AP_ATTRS
    assert mdevctl.json(UUID)["attrs"] == []
    host.pyvfio("mdev", "undefine", UUID)
    host.pyvfio("undefine", OTHER)
    assert mdevctl.defined() == set()


def test_mdevctl_lists_what_pyvfio_changes(host: PrivateHost, mdevctl: Mdevctl) -> None:
    mdevctl("define", "-u", UUID, "-p", "matrix", "-t", "vfio_ap-passthrough")
    host.pyvfio("mdev", "modify", UUID, "--start", "auto", *AP)
    host.pyvfio("mdev", "modify", UUID, "--remove-attr", "assign_adapter=6")
    assert mdevctl.defined() == {f"{UUID} matrix vfio_ap-passthrough auto"}
    assert mdevctl.json(UUID)["attrs"] == [AP_ATTRS[0], AP_ATTRS[2]]


def test_pyvfio_lists_what_mdevctl_defines(host: PrivateHost, mdevctl: Mdevctl) -> None:
    mdevctl("define", "-u", UUID, "-p", PARENT, "-t", TYPE, "-a")
    mdevctl("define", "-u", OTHER, "-p", "matrix", "-t", "vfio_ap-passthrough")
    for entry in AP_ATTRS:
        ((name, value),) = entry.items()
        mdevctl("modify", "-u", OTHER, f"--addattr={name}", f"--value={value}")
    known = {one["uuid"]: one for one in ours(host)}
    assert [known[UUID][key] for key in ("parent", "type", "start", "attributes")] == [PARENT, TYPE, "auto", []]
    assert [known[OTHER][key] for key in ("parent", "start", "attributes")] == ["matrix", "manual", AP_ATTRS]


def test_both_write_the_same_bytes(host: PrivateHost, mdevctl: Mdevctl) -> None:
    for number, attributes in ((UUID, []), (OTHER, [("assign_adapter", "5"), ("assign_domain", 'a"\\ü\t')])):
        words = [word for name, value in attributes for word in ("--attr", f"{name}={value}")]
        host.pyvfio("mdev", "define", number, "--parent", "matrix", "--type", "vfio_ap-passthrough", *words)
        mdevctl("define", "-u", number, "-p", "other", "-t", "vfio_ap-passthrough")
        for name, value in attributes:
            mdevctl("modify", "-u", number, "-p", "other", f"--addattr={name}", f"--value={value}")
        assert file_of(host, "matrix", number) == file_of(host, "other", number)


def test_mdevctl_undefines_what_pyvfio_defines(host: PrivateHost, mdevctl: Mdevctl) -> None:
    host.pyvfio("mdev", "define", UUID, "--parent", PARENT, "--type", TYPE)
    mdevctl("undefine", "-u", UUID)
    assert ours(host) == []


def test_both_take_a_uuid_below_two_parents(host: PrivateHost, mdevctl: Mdevctl) -> None:
    for parent in (PARENT, "0.0.0314"):
        host.pyvfio("mdev", "define", UUID, "--parent", parent, "--type", TYPE)
    assert mdevctl.defined() == {f"{UUID} {parent} {TYPE} manual" for parent in (PARENT, "0.0.0314")}
    host.pyvfio("mdev", "modify", UUID, "--start", "auto", code=2)
    host.pyvfio("mdev", "modify", UUID, "--start", "auto", "--parent", PARENT)
    assert mdevctl.defined() == {f"{UUID} {PARENT} {TYPE} auto", f"{UUID} 0.0.0314 {TYPE} manual"}


def test_both_ignore_stray_files(host: PrivateHost, mdevctl: Mdevctl) -> None:
    host.pyvfio("mdev", "define", UUID, "--parent", PARENT, "--type", TYPE)
    host.write(f"/etc/mdevctl.d/{PARENT}/README", "not a device")
    host.write(f"/etc/mdevctl.d/{PARENT}/{UUID}~", "an editor's")
    host.write("/etc/mdevctl.d/notes.txt", "not a parent")
    host.write("/etc/mdevctl.d/scripts.d/callouts/ap.sh", "#!/bin/sh\nexit 2\n")
    assert mdevctl.defined() == {f"{UUID} {PARENT} {TYPE} manual"}
    assert [one["uuid"] for one in ours(host)] == [UUID]


def test_a_malformed_file_ends_the_list_of_mdevctl_and_not_ours(host: PrivateHost, mdevctl: Mdevctl) -> None:
    host.pyvfio("mdev", "define", UUID, "--parent", PARENT, "--type", TYPE)
    host.write(f"/etc/mdevctl.d/{PARENT}/{OTHER}", '{"start": "auto"')
    mdevctl("list", "-d", code=1)
    listed = {one.get("uuid", one.get("name")): one for one in ours(host)}
    assert listed[UUID]["type"] == TYPE
    assert listed[OTHER]["path"] == f"/etc/mdevctl.d/{PARENT}/{OTHER}"
    assert "not JSON" in listed[OTHER]["why"]


def test_unknown_keys_are_kept_when_pyvfio_changes_a_file(host: PrivateHost, mdevctl: Mdevctl) -> None:
    text = {"mdev_type": TYPE, "start": "manual", "x-note": {"why": ["a", 1]}}
    host.write(f"/etc/mdevctl.d/{PARENT}/{UUID}", json.dumps(text))
    host.pyvfio("mdev", "modify", UUID, "--start", "auto")
    assert json.loads(file_of(host, PARENT, UUID)) == {**text, "start": "auto", "attrs": []}
    assert mdevctl.defined() == {f"{UUID} {PARENT} {TYPE} auto"}


def test_both_see_the_same_active_devices(host: PrivateHost, mdevctl: Mdevctl) -> None:
    parent = host.parent("mtty", "virtual/mtty", SERIAL)
    host.mdev(UUID, parent, "mtty-2", {})
    host.pyvfio("mdev", "define", UUID)  # what it is now
    assert mdevctl.defined() == {f"{UUID} mtty mtty-2 manual (active)"}
    assert mdevctl("list").split()[:4] == [UUID, "mtty", "mtty-2", "manual"]
    (row,) = host.pyvfio_json("mdev", "list")
    assert [row[key] for key in ("uuid", "parent", "type", "defined")] == [UUID, "mtty", "mtty-2", "manual"]
    assert [row["agreement"] for row in host.pyvfio_json("defined")] == ["same"]


def test_both_see_the_same_types(host: PrivateHost, mdevctl: Mdevctl) -> None:
    host.parent("mtty", "virtual/mtty", SERIAL)
    (theirs,) = json.loads(mdevctl("types", "--dumpjson"))
    listed = {kind: facts for entry in theirs["mtty"] for kind, facts in entry.items()}
    for row in host.pyvfio_json("mdev", "types"):
        facts = listed.pop(row["type"])
        assert row["parent"] == "mtty"
        assert {key: row[key] for key in ("available_instances", "device_api", "name")} == facts
    assert listed == {}
