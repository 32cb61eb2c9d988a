"""``pyvfio dasd``: nothing is written by mistake, and what is printed, read, written and copied."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyvfio.drivers.ckd_file import CkdFile
from pyvfio.sandbox import VARIABLE, Sandbox
from pyvfio_tools.cli import run

LAB = "0.0.0a00"
SIZE = 4 * 1024


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sandbox of hercules-lab, whose disk was taken."""
    for name in ("PYVFIO_BACKEND", "PYVFIO_MACHINE", "PYVFIO_JOURNAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv(VARIABLE, str(Sandbox.create(tmp_path / "box", "hercules-lab").directory))
    return tmp_path


def told(capfd: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    capfd.readouterr()
    assert run(["dasd", *map(str, arguments)]) == status
    output = capfd.readouterr()
    return output.err if status else output.out


def test_a_disk_that_was_not_taken(lab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for command in ("info", "label", "vtoc", "read", "write"):
        error = told(capfd, command, LAB, status=6)
        assert "dasd-eckd has it" in error
        assert f"pyvfio ccw take {LAB}, or say --take" in error


def test_what_is_no_disk(lab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told(capfd, "info", "0.0.4711", status=3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "say --volser LAB001"),
        (["--volser", "OTHER"], "is volume LAB001, not volume OTHER; nothing was written"),
        (["--volser", "TOOLONG"], "1 to 6 characters"),
        (["--no-label"], "is volume LAB001, not one without label"),
        (["--no-label", "--volser", "LAB001"], "exclude each other"),
        (["--volser", "LAB001", "--blocks", "24-24"], "more than the 1 blocks"),
        (["--volser", "LAB001", "--blocks", "x"], "FIRST-LAST"),
        (["--volser", "LAB001", "--tracks", "16695-"], "the disk has tracks 0 to 16694"),
        (["--volser", "LAB001", "--blocks", "5-4"], "it ends before it begins"),
        (["--volser", "LAB001", "--tracks", "16695"], "tracks 0 to 16694"),
        (["--volser", "LAB001", "--tracks", "1", "--blocks", "2"], "exclude each other"),
    ],
)
def test_nothing_is_written(lab: Path, capfd: pytest.CaptureFixture[str], options: list[str], words: str) -> None:
    (lab / "in.bin").write_bytes(b"w" * SIZE * 2)
    assert words in told(capfd, "write", LAB, "-i", lab / "in.bin", "--take", *options, status=2)
    assert told(capfd, "read", LAB, "--blocks", "24", "--take", "-o", lab / "out.bin") == ""
    assert (lab / "out.bin").read_bytes() == bytes(SIZE)
    (lab / "in.bin").write_bytes(b"w" * 10)
    last = told(capfd, "write", LAB, "-i", lab / "in.bin", "--take", "--volser", "LAB001", status=2)
    assert "not whole blocks of 4096 bytes; nothing was written" in last
    told(capfd, "write", LAB, "-i", lab / "absent", "--take", "--volser", "LAB001", status=2 + 5)


def test_too_much_from_a_pipe_is_told(
    lab: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pipe:
        buffer = io.BytesIO(b"p" * SIZE * 200)

    monkeypatch.setattr("sys.stdin", Pipe())
    error = told(capfd, "write", LAB, "--take", "--volser", "LAB001", "--blocks", "24-160", status=2)
    assert "more than the 9 blocks" in error
    assert "128 blocks were written" in error


def test_it_takes_and_gives_back(lab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    facts = json.loads(told(capfd, "info", LAB, "--take", "--json"))
    assert facts["characteristics"]["cylinders"] == 1113
    assert facts["label"]["volser"] == "LAB001"
    assert facts["messages"][1].endswith("New DASD 3390/02 (CU 3990/02) with 1113 cylinders, 15 heads, 224 sectors")
    assert "dasd-eckd has it" in told(capfd, "info", LAB, status=6)


def test_a_command_that_is_ended_gives_the_disk_back(lab: Path) -> None:
    """SIGTERM (``timeout``, systemd) while a program runs: what was read is there, the disk is the kernel's again."""
    command = [sys.executable, "-c", "from pyvfio_tools.cli import main; main()"]
    output = lab / "all.bin"
    reading = subprocess.Popen([*command, "dasd", "read", LAB, "--take", "-o", str(output)], stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while time.monotonic() < end and not (output.exists() and output.stat().st_size):
        time.sleep(0.05)
    reading.send_signal(signal.SIGTERM)
    assert b"interrupted" in reading.communicate(timeout=60)[1]
    assert reading.returncode == 130
    status = subprocess.run([*command, "ccw", "status"], capture_output=True, text=True, check=False)
    assert "no channel device is taken" in status.stdout


def test_what_it_prints(lab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["ccw", "take", LAB]) == 0
    text = told(capfd, "info", LAB)
    assert "blocks        200340 of 4096 bytes, 12 on a track" in text
    assert " dasda:VOL1/  LAB001:" in text
    assert "owner   HERCULES" in told(capfd, "label", LAB)
    assert json.loads(told(capfd, "label", LAB, "--json"))["vtoc"] == [0, 1, 1]
    records = json.loads(told(capfd, "read", LAB, "--tracks", "0", "--records", "--json"))
    assert [one["key"] for one in records[:4]] == ["IPL1", "IPL2", "VOL1", ""]
    assert "VOL1" in told(capfd, "read", LAB, "--tracks", "0", "--records")
    told(capfd, "vtoc", LAB)
    assert isinstance(json.loads(told(capfd, "vtoc", LAB, "--json")), list)
    told(capfd, "read", LAB, "--json", status=2)
    told(capfd, "read", LAB, "--records", "--blocks", "1", status=2)


def test_written_blocks_are_read_and_copied_both_ways(lab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = bytes(number * 7 % 251 for number in range(SIZE * 40))
    (lab / "in.bin").write_bytes(data)
    machine = ["--take"]
    one = told(capfd, "write", LAB, "-i", lab / "in.bin", "--volser", "lab001", "--blocks", "30-", *machine)
    assert one == f"{LAB}: 40 blocks written, from block 30 on\n"


def test_copies(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYVFIO_BACKEND", "PYVFIO_MACHINE", "PYVFIO_JOURNAL", VARIABLE):
        monkeypatch.delenv(name, raising=False)
    small = tmp_path / "small.toml"
    disk = """
[machine]
name = "two-disks"
architecture = "s390x"
[[css.path]]
chpid = 0x10
type = 0x1b
[[css.subchannel]]
schid = "0.0.0000"
device = "0.0.0a00"
unit = "dasd-3390"
driver = "dasd-eckd"
chpids = [0x10]
options = { image = "IMAGE" }
"""
    with CkdFile.create(tmp_path / "disk.ckd", 0x3390, 3):
        pass
    small.write_text(disk.replace("IMAGE", str(tmp_path / "disk.ckd")))
    place = ["--take", "--machine", small]
    assert "3 tracks copied" in told(capfd, "copy", LAB, tmp_path / "out.ckd", "--tracks", "0-2", *place)
    assert (tmp_path / "out.ckd").read_bytes() == (tmp_path / "disk.ckd").read_bytes()
    told(capfd, "copy", LAB, tmp_path / "out.ckd", *place, status=7)  # it is there
    told(capfd, "copy", LAB, "0.0.0a01", *place, status=3)
    assert "cp" in told(capfd, "copy", tmp_path / "disk.ckd", tmp_path / "out.ckd", *place, status=2)
    from pyvfio.drivers import TrackImage, TrackRecord

    with CkdFile(tmp_path / "out.ckd", writable=True) as image:
        for head in range(15):
            image.write(TrackImage(1, head, (TrackRecord(1, head, 1, b"k", b"data" * head),)))
    assert "no label" in told(capfd, "copy", tmp_path / "out.ckd", LAB, "--volser", "X", *place, status=2)
    assert "45 tracks copied" in told(capfd, "copy", tmp_path / "out.ckd", LAB, "--no-label", *place)
    assert (tmp_path / "out.ckd").read_bytes()[512:] == (tmp_path / "disk.ckd").read_bytes()[512:]
    with CkdFile.create(tmp_path / "large.ckd", 0x3390, 4):
        pass
    error = told(capfd, "copy", tmp_path / "large.ckd", LAB, "--no-label", *place, status=2)
    assert "with 4 cylinders, the disk a 3390 with 3" in error
