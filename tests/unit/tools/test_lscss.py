"""``pyvfio lscss``: options that do not go together, then the text of each option on a tree with all kinds.

The widths are those of lscss of s390-tools (zconf/css/lscss.c): 8 9 7 7 4 3 3 4 17, with --vpm 3 3 for the masks' end,
with --avail 6 more; --vfio: 37 9 3 3 4 17.  Every column is filled up with blanks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pyvfio.channel_ranges import ChannelRanges
from pyvfio.errors import BadAddress
from pyvfio.host import Host
from pyvfio_tools import options
from pyvfio_tools.cli import run

UUID = "66826a94-72c4-557f-beca-d135a70628e9"
Lscss = Callable[..., str]


def _write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")


def _subchannel(root: Path, name: str, kind: int, driver: str = "", **files: str) -> Path:
    folder = root / "devices/css0" / name
    _write(folder, type=str(kind), **files)
    (root / "bus/css/devices").mkdir(parents=True, exist_ok=True)
    os.symlink(f"../../../devices/css0/{name}", root / "bus/css/devices" / name)
    if driver:
        (root / "bus/css/drivers" / driver).mkdir(parents=True, exist_ok=True)
        os.symlink(f"../../../bus/css/drivers/{driver}", folder / "driver")
    return folder


def _device(root: Path, folder: Path, name: str, **files: str) -> None:
    _write(folder / name, **files)
    (root / "bus/ccw/devices").mkdir(parents=True, exist_ok=True)
    os.symlink(f"../../../{(folder / name).relative_to(root)}", root / "bus/ccw/devices" / name)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A /sys with a DASD, an OSA of another set, a subchannel of vfio_ccw, one without a device, CHSC, EADM, a lost
    device."""
    root = tmp_path_factory.mktemp("sys")
    paths = {"pimpampom": "f0 70 ff", "chpids": "42 43 44 45 00 00 00 00 ", "vpm": "70"}
    dasd = _subchannel(root, "0.0.0000", 0, "io_subchannel", dev_busid="0.0.013f", **paths)
    _device(root, dasd, "0.0.013f", devtype="3390/0c", cutype="3990/e9", online="1", availability="good")
    _subchannel(root, "0.0.0001", 0, "vfio_ccw", dev_busid="0.0.0a0b", **paths).joinpath(UUID).mkdir()
    _subchannel(root, "0.0.0002", 0, "vfio_ccw", dev_busid="0.0.0a0c", **paths)
    _subchannel(root, "0.0.0003", 0, "io_subchannel", dev_busid="none", **paths)
    osa = _subchannel(root, "0.1.0004", 0, "io_subchannel", dev_busid="0.1.1220", **paths)
    _device(root, osa, "0.1.1220", devtype="n/a", cutype="1731/01", online="0", availability="no path")
    _subchannel(root, "0.0.0100", 1, "chsc_subchannel")
    _subchannel(root, "0.0.0200", 3, "eadm_subchannel")
    defunct = root / "devices/css0/defunct"
    _device(root, defunct, "0.0.0bad", devtype="3390/0a", cutype="3990/e9", online="1", availability="no device")
    return root


@pytest.fixture
def lscss(tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lscss:
    """The command on that tree: what it prints, or its message when it fails."""
    monkeypatch.setattr(options, "open_host", lambda *words: Host("kernel", sysfs=str(tree)))

    def command(*arguments: str, status: int = 0) -> str:
        assert run(["lscss", *arguments]) == status
        captured = capsys.readouterr()
        return captured.err if status else captured.out

    return command


@pytest.mark.parametrize("other", ["--io", "-a", "-d", "-t3390", "--avail"])
def test_vfio_does_not_go_with_what_shows_devices(lscss: Lscss, other: str) -> None:
    assert "--vfio" in lscss("--vfio", other, status=2)


@pytest.mark.parametrize("text", ["0.0", "1-", "xyz", "2-1", "0.4.0000", "1,,2"])
def test_no_range(lscss: Lscss, text: str) -> None:
    lscss(text, status=2)
    with pytest.raises(BadAddress):
        ChannelRanges.parse([text])


def test_no_type(lscss: Lscss) -> None:
    assert "device type" in lscss("-t", "disk", status=2)


LOST = "0.0.0bad n/a       3390/0a 3990/e9 yes".ljust(70)


def test_the_table(lscss: Lscss) -> None:
    assert lscss().splitlines() == [
        "Device   Subchan.  DevType CU Type Use  PIM PAM POM  CHPIDs           ",
        "----------------------------------------------------------------------",
        "0.0.013f 0.0.0000  3390/0c 3990/e9 yes  f0  70  ff   42434445 00000000",
        f"0.0.0a0b 0.0.0001                       f0  70  ff   42434445 00000000 vfio_ccw {UUID}",
        "0.0.0a0c 0.0.0002                       f0  70  ff   42434445 00000000 vfio_ccw",
        "none     0.0.0003                       f0  70  ff   42434445 00000000",
        "0.1.1220 0.1.0004  0000/00 1731/01      f0  70  ff   42434445 00000000",
        LOST,
    ]


def test_avail_and_vpm(lscss: Lscss) -> None:
    assert lscss("--avail", "--vpm", "0", "0.1.0004").splitlines() == [
        "Device   Subchan.  DevType CU Type Use  PIM PAM POM VPM CHPIDs            Avail.",
        "-" * 80,
        "0.0.013f 0.0.0000  3390/0c 3990/e9 yes  f0  70  ff  70  42434445 00000000 good  ",
        "0.1.1220 0.1.0004  0000/00 1731/01      f0  70  ff  70  42434445 00000000 no path",
    ]
    assert lscss("--vpm").splitlines()[1] == "-" * 73
    assert lscss("--avail").splitlines()[1] == "-" * 77


def test_short_and_uppercase(lscss: Lscss) -> None:
    assert lscss("-s", "-u").splitlines()[2:] == [
        "013F     0000      3390/0C 3990/E9 YES  F0  70  FF   42434445 00000000",
        f"0A0B     0001                           F0  70  FF   42434445 00000000 vfio_ccw {UUID}",
        "0A0C     0002                           F0  70  FF   42434445 00000000 vfio_ccw",
        "0BAD     N/A       3390/0A 3990/E9 YES".ljust(70),
    ]


def test_all_kinds(lscss: Lscss) -> None:
    text = lscss("-a")
    assert text.startswith("IO Subchannels and Devices:\nDevice   Subchan.")
    chsc = "Device   Subchan. \n------------------\nn/a      0.0.0100 \n"
    eadm = "Device   Subchan. \n------------------\nn/a      0.0.0200 \n"
    assert text.endswith(f"\nCHSC Subchannels:\n{chsc}\nEADM Subchannels:\n{eadm}")
    assert lscss("--chsc") == chsc
    assert lscss("--eadm") == eadm
    assert lscss("--eadm", "-t", "3390").count("\n") == 2


def test_vfio(lscss: Lscss) -> None:
    lines = [
        "MDEV                                  Subchan.  PIM PAM POM  CHPIDs           ",
        "-" * 78,
        f"{UUID}  0.0.0001  f0  70  ff   42434445 00000000",
        "none                                  0.0.0002  f0  70  ff   42434445 00000000",
    ]
    assert lscss("--vfio").splitlines() == lines
    assert lscss("--vfio", "2").splitlines() == [*lines[:2], lines[3]]
    assert lscss("--vfio", "--vpm").splitlines()[1:3] == [
        "-" * 81,
        f"{UUID}  0.0.0001  f0  70  ff  70  42434445 00000000",
    ]
    both = lscss("--vfio", "--chsc")
    assert both.startswith("CHSC Subchannels:\n")
    assert "\n\nI/O Subchannels used for VFIO:\nMDEV " in both


@pytest.mark.parametrize(
    ("arguments", "devices"),
    [
        (["1-0.0.0003"], ["0.0.0a0b", "0.0.0a0c", "none"]),
        (["0.0.0003-0.1.ffff"], ["none", "0.1.1220"]),
        (["0,2", "3"], ["0.0.013f", "0.0.0a0c", "none"]),
        (["-d", "13f,0.1.1220"], ["0.0.013f", "0.1.1220"]),
        (["-d", "a00-bff"], ["0.0.0a0b", "0.0.0a0c", "0.0.0bad"]),
        (["-t", "3390"], ["0.0.013f", "0.0.0bad"]),
        (["-t", "3390/0A,0"], ["0.1.1220", "0.0.0bad"]),
        (["-d", "-t", "3390/c"], ["0.0.013f"]),
        (["9999"], []),
    ],
)
def test_selection(lscss: Lscss, arguments: list[str], devices: list[str]) -> None:
    assert [line.split()[0] for line in lscss(*arguments).splitlines()[2:]] == devices
    assert [row["device"] or "none" for row in json.loads(lscss(*arguments, "--json"))] == devices


def test_json(lscss: Lscss) -> None:
    rows = {row["subchannel"]: row for row in json.loads(lscss("--json", "-a"))}
    assert rows["0.0.0000"] == {
        "device": "0.0.013f",
        "subchannel": "0.0.0000",
        "type": 0,
        "driver": "io_subchannel",
        "devtype": "3390/0c",
        "cutype": "3990/e9",
        "online": True,
        "availability": "good",
        "pim": "f0",
        "pam": "70",
        "pom": "ff",
        "vpm": "70",
        "chpids": "4243444500000000",
        "mdevs": [],
    }
    assert (rows["0.0.0001"]["driver"], rows["0.0.0001"]["mdevs"]) == ("vfio_ccw", [UUID])
    assert (rows["0.0.0100"]["type"], rows["0.0.0100"]["driver"]) == (1, "chsc_subchannel")
    assert rows[None]["device"] == "0.0.0bad"
    assert [row["subchannel"] for row in json.loads(lscss("--vfio", "--json"))] == ["0.0.0001", "0.0.0002"]
