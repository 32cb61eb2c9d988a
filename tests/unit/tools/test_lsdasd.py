"""``pyvfio lsdasd``: what it refuses, then the text of each option, on a machine, and on a tree with what it has not.

The widths are those of lsdasd of s390-tools (zconf/lsdasd).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyvfio.backend import Backend, open_backend
from pyvfio.host import Host
from pyvfio_backends.software.description import ChannelPathSpec, MachineSpec, SubchannelSpec
from pyvfio_tools import options
from pyvfio_tools.cli import run

Lsdasd = Callable[..., str]
HEAD = [
    "Bus-ID    Status    Name      Device  Type         BlkSz  Size      Blocks",
    "================================================================================",
]
BASIC = {"alias": "0", "uid": "", "readonly": "0", "discipline": "ECKD"}


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A machine with two DASDs online and one offline."""
    specs = [
        SubchannelSpec("0.0.0001", "0.0.0200", "dasd-3390", driver="dasd-eckd", online=True, chpids=[0x42]),
        SubchannelSpec("0.0.0002", "0.0.0100", "dasd-3390", driver="dasd-eckd", online=True, chpids=[0x42]),
        SubchannelSpec("0.0.0003", "0.0.0300", "dasd-3390", driver="dasd-eckd", chpids=[0x42]),
    ]
    with open_backend("software", machine=MachineSpec("m", paths=[ChannelPathSpec(0x42)], subchannels=specs)) as one:
        yield one


def _command(host: Callable[[], Host], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lsdasd:
    monkeypatch.setattr(options, "open_host", lambda *words: host())

    def command(*arguments: str, status: int = 0) -> str:
        assert run(["lsdasd", *arguments]) == status
        captured = capsys.readouterr()
        return captured.err if status else captured.out

    return command


@pytest.fixture
def lsdasd(backend: Backend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lsdasd:
    return _command(lambda: Host(backend), monkeypatch, capsys)


@pytest.fixture
def lsdasd_of_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lsdasd:
    """On a tree: an unformatted disk, an alias, a secondary, thin provisioning, an unknown block size, no uid."""

    def add(number: int, disk: dict[str, str] | None = None, **more: str) -> None:
        name = f"0.0.{number:04x}"
        folder = tmp_path / "devices/css0" / f"0.0.{number + 0x1000:04x}" / name
        files = {"online": "1", **BASIC, **more}
        if disk is not None:
            block = f"block/dasd{chr(0x60 + number)}"
            files |= {f"{block}/dev": f"94:{4 * number}", **{f"{block}/{key}": text for key, text in disk.items()}}
        for key, text in files.items():
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_text(f"{text}\n")
        for place in ("bus/ccw/devices", "bus/ccw/drivers/dasd-eckd"):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
            os.symlink(folder, tmp_path / place / name)

    add(1, {"size": "0", "queue/hw_sector_size": "512"})
    add(2, alias="1", uid="IBM.1.2.03")
    add(3, copy_role="secondary")
    add(4, {"size": "4096", "queue/hw_sector_size": "4096"}, ese="1")
    add(5, {"size": "8192"}, readonly="1")
    add(6)
    (tmp_path / "bus/ccw/drivers/dasd-eckd/uevent").write_text("")
    (tmp_path / "devices/css0/0.0.1006/0.0.0006/uid").unlink()
    return _command(lambda: Host("kernel", sysfs=str(tmp_path)), monkeypatch, capsys)


def test_two_tables(lsdasd: Lsdasd) -> None:
    assert "--uid" in lsdasd("-u", "-l", status=2)


def test_no_bus_id(lsdasd: Lsdasd) -> None:
    lsdasd("dasda", status=2)


def test_the_table(lsdasd: Lsdasd) -> None:
    lines = [
        "0.0.0200  active(ro)  dasda     94:0    ECKD         4096   21129MB   5409180",
        "0.0.0100  active(ro)  dasdb     94:4    ECKD         4096   21129MB   5409180",
    ]
    assert lsdasd().splitlines() == HEAD + lines
    assert lsdasd("-a").splitlines() == [*HEAD, "0.0.0300  offline", *lines]
    assert lsdasd("-as").splitlines() == [
        *HEAD,
        "0300      offline",
        *(line[4:8] + "    " + line[8:] for line in lines),
    ]
    assert lsdasd("100-1ff", "300").splitlines() == [*HEAD, lines[1]]
    assert lsdasd("4711").splitlines() == HEAD


def test_uids(lsdasd: Lsdasd) -> None:
    uid = "IBM.75000000000001.0a00.00"
    assert lsdasd("-ua").splitlines() == [
        "Bus-ID    Name      UID",
        HEAD[1],
        "0.0.0300  offline     ",
        f"0.0.0100  dasdb       {uid}",
        f"0.0.0200  dasda       {uid}",
    ]


def test_the_old_form(lsdasd: Lsdasd) -> None:
    assert lsdasd("-ca").splitlines() == [
        "0.0.0300(none) : offline",
        "0.0.0200(ECKD) at ( 94:  0) is dasda  (ro): active at blocksize 4096, 5409180 blocks, 21129 MB",
        "0.0.0100(ECKD) at ( 94:  4) is dasdb  (ro): active at blocksize 4096, 5409180 blocks, 21129 MB",
    ]


def test_all_that_is_known(lsdasd: Lsdasd) -> None:
    text = lsdasd("-l", "200")
    assert text.startswith("0.0.0200/dasda/94:0\n  status:\t\t\t\tactive\n  type: \t\t\t\tECKD\n  blksz:\t\t\t\t4096\n")
    assert "  paths_installed: \t\t\t42              \n" in text
    assert "  paths_invalid_hpf_characteristics: \t               \n" in text
    assert {line.expandtabs()[:40].rstrip()[-1] for line in text.splitlines()[1:-1]} == {":"}
    offline = lsdasd("-la", "300")
    assert offline.startswith("0.0.0300\n  status:\t\t\t\toffline\n  use_diag:\t\t\t\t0\n")
    assert "blksz" not in offline


def test_json(lsdasd: Lsdasd) -> None:
    rows = json.loads(lsdasd("--json", "-al"))
    assert [(row["name"], row["status"], row["blocks"]) for row in rows] == [
        ("0.0.0300", "offline", None),
        ("0.0.0200", "active", 5409180),
        ("0.0.0100", "active", 5409180),
    ]
    assert rows[1]["paths_installed"] == "42"


def test_what_machines_do_not_have(lsdasd_of_tree: Lsdasd) -> None:
    lines = [
        "0.0.0002  alias                       ECKD",
        "0.0.0003  secondary                   ECKD",
        "0.0.0001  n/f       dasda     94:4    ECKD".ljust(68),
        "0.0.0004  active    dasdd     94:16   ECKD (ESE)   4096   2MB       512",
        "0.0.0005  active(ro)  dasde     94:20   ECKD         ???    4MB       ???",
    ]
    assert lsdasd_of_tree().splitlines() == HEAD + lines
    assert lsdasd_of_tree("-b").splitlines() == HEAD + lines[1:]
    assert "0.0.0002  alias       IBM.1.2.03" in lsdasd_of_tree("-u")
