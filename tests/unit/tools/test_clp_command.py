"""``pyvfio clp``: what it prints, and what it says of wrong names."""

from __future__ import annotations

import json
import re

import pytest

from pyvfio_tools.cli import run as run_command

MACHINE = ("--machine", "z15-lpar")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = run_command(["clp", *words, *MACHINE])
    out, err = capsys.readouterr()
    return status, out, err


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "list")
    assert status == 0
    lines = out.splitlines()
    assert lines[0].split() == ["FID", "HANDLE", "ID", "STATE"]
    assert any(line.startswith("00000060  80000002 (enabled, index 2)") for line in lines)
    assert lines[-1] == "3 of at most 4096 functions; UIDs are unique"


def test_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, "list", "--json")[1])
    assert {entry["fid"] for entry in found["entries"]} == {0x10, 0x1000, 0x60}
    assert found["uid_checking"] is True


@pytest.mark.parametrize("name", ["0060:00:00.0", "60", "0x60", "80000002", "uid=60", "fh=80000002"])
def test_a_function_by_each_of_its_names(capsys: pytest.CaptureFixture[str], name: str) -> None:
    status, out, _ = run(capsys, "function", name, "--json")
    assert status == 0
    found = json.loads(out)
    assert (found["fid"], found["uid"], found["fh"], found["bar_sizes"]) == (0x60, 0x60, 0x80000002, "0c0c00000000")


def test_a_function_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "function", "60")[1]
    assert re.search("^handle +80000002 .enabled, index 2.$", out, re.M)
    assert re.search("^type +00 .unclassified.$", out, re.M)
    assert re.search("^definition parameter +00$", out, re.M)
    assert re.search("^BARs +0: 4096 bytes$", out, re.M)


def test_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert "store block         at most 128 bytes" in run(capsys, "group", "ff")[1]
    assert "refreshes needed    also when translations become valid" in run(capsys, "group", "ff")[1]
    assert json.loads(run(capsys, "group", "ff", "--json")[1])["maxstbl"] == 128


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("function", "777"), 3, "no function has this FID, UID or handle (FIDs: 10, 60, 1000)"),
        (("function", "zz"), 3, "it is no address"),
        (("function", "0.0.013f"), 3, "it has no FID"),
        (("group", "7e"), 6, "0x010b unknown group"),
        (("group", "zz"), 2, "no number from 0 to ff"),
        (("group", "100"), 2, "no number from 0 to ff"),
    ],
)
def test_what_is_not_there(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], status: int, said: str) -> None:
    found, _, err = run(capsys, *words)
    assert found == status
    assert said in err


def test_a_host_without_the_node(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyvfio.zpci.node.CLP_NODE", "/dev/no-such-clp")
    status, _, err = run(capsys, "list")
    assert status == 6
    assert "not an s390x host with PCI support" in err
