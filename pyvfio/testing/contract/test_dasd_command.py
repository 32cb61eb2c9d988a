"""``pyvfio ccw take`` and ``pyvfio dasd`` on a disk: what they print, read, write, copy and refuse."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.plugin import Lab

SIZE, BLOCK, TRACK = 4096, 340 * 15 * 12, 340 * 15
Command = Callable[..., str]
VARIABLES = ("PYVFIO_BACKEND", "PYVFIO_MACHINE", "PYVFIO_JOURNAL", "PYVFIO_SANDBOX", "COLUMNS")


def run(words: list[str]) -> int:
    """Run the command `pyvfio` as installed; its exit status."""
    (command,) = entry_points(group="console_scripts", name="pyvfio")
    try:
        command.load()(words)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(scope="module")
def taken(disk_backend: Backend, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The number of the disk, which the command took; given back at the end."""
    before = {name: os.environ.pop(name, None) for name in VARIABLES}
    os.environ.update(lab.environment(tmp_path_factory.mktemp("commands"), disk=True), COLUMNS="120")
    try:
        assert run(["ccw", "take", lab.dasd]) == 0
        yield lab.dasd
        assert run(["ccw", "give-back", lab.dasd]) == 0
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@pytest.fixture
def dasd_command(taken: str, capfd: pytest.CaptureFixture[str]) -> Command:
    """A function that runs ``pyvfio dasd`` and gives its output, or its errors when a `status` is expected."""

    def told(verb: str, *words: object, status: int = 0) -> str:
        capfd.readouterr()
        ended = run(["dasd", verb, *map(str, words)])
        output = capfd.readouterr()
        assert ended == status, output.err
        return output.err if status else output.out

    return told


# refusals


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--blocks", f"{BLOCK}-"], "--volser"),
        (["--blocks", f"{BLOCK}-", "--volser", "OTHER"], "not volume OTHER"),
        (["--blocks", f"{BLOCK}-", "--no-label"], "LAB001"),
        (["--blocks", "x-y", "--volser", "LAB001"], "x-y"),
    ],
    ids=["no-serial", "other-serial", "no-label", "no-number"],
)
def test_nothing_is_written_by_mistake(
    dasd_command: Command, taken: str, tmp_path: Path, words: list[str], why: str
) -> None:
    (tmp_path / "data").write_bytes(b"\xff" * SIZE)
    before = dasd_command("read", taken, "--blocks", f"{BLOCK}-{BLOCK}", "-o", tmp_path / "before")
    assert why in dasd_command("write", taken, "-i", tmp_path / "data", *words, status=2)
    dasd_command("read", taken, "--blocks", f"{BLOCK}-{BLOCK}", "-o", tmp_path / "after")
    assert before == ""
    assert (tmp_path / "after").read_bytes() == (tmp_path / "before").read_bytes()


@pytest.mark.parametrize(
    ("blocks", "why"),
    [
        pytest.param("200340", "200339", id="200340"),
        pytest.param("5-4", "it ends before it begins", id="5-4"),
        pytest.param("200339-200340", "200339", id="200339-200340"),
    ],
)
def test_blocks_that_are_not_there(dasd_command: Command, taken: str, tmp_path: Path, blocks: str, why: str) -> None:
    assert why in dasd_command("read", taken, "--blocks", blocks, "-o", tmp_path / "none", status=2)


# what it is


@pytest.mark.parametrize(
    "line",
    [
        "device type   3390/02",
        "control unit  3990/c2",
        "identity      HRC.ZZ000000000001.0a00.00",
        "cylinders     1113",
        "tracks        16695",
        "label         VOL1 LAB001",
        "dasd-eckd 0.0.0a00: New DASD 3390/02 (CU 3990/02) with 1113 cylinders, 15 heads, 224 sectors",
        " dasda:VOL1/  LAB001:",
    ],
)
def test_info(dasd_command: Command, taken: str, line: str) -> None:
    assert line in dasd_command("info", taken).splitlines()


def test_info_as_json(dasd_command: Command, taken: str) -> None:
    found = json.loads(dasd_command("info", taken, "--json"))
    assert isinstance(found, dict)


def test_label(dasd_command: Command, taken: str) -> None:
    lines = [line.split() for line in dasd_command("label", taken).splitlines()]
    assert ["kind", "VOL1"] in lines
    assert ["volser", "LAB001"] in lines


def test_vtoc(dasd_command: Command, taken: str) -> None:
    text = dasd_command("vtoc", taken)
    assert "0/1/1" in text
    assert "10 free records" in text


def test_records_of_a_track(dasd_command: Command, taken: str) -> None:
    lines = dasd_command("read", taken, "--tracks", "0", "--records").splitlines()
    assert lines[3].split() == ["0", "0", "3", "4", "80", "VOL1"]
    assert len(lines) == 13


# both ways


@pytest.mark.parametrize("count", [1, 30])
def test_written_and_verified(dasd_command: Command, taken: str, tmp_path: Path, count: int) -> None:
    data = bytes(number % 251 for number in range(count * SIZE))
    (tmp_path / "data").write_bytes(data)
    words = ("--blocks", f"{BLOCK}-", "-i", tmp_path / "data", "--volser", "LAB001", "--verify")
    assert f"{count} block" in dasd_command("write", taken, *words)


def test_a_copy_to_a_file_and_back(dasd_command: Command, taken: str, tmp_path: Path) -> None:
    image, tracks = tmp_path / "copy.ckd", "0-14"
    assert "15 tracks copied" in dasd_command("copy", taken, image, "--tracks", tracks)
    assert "15 tracks copied" in dasd_command("copy", image, taken, "--tracks", tracks, "--volser", "LAB001")
    assert "volser  LAB001" in dasd_command("label", taken)
