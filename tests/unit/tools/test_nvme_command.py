"""``pyvfio nvme`` and ``pyvfio edu``: nothing is written by mistake; what is shown, read, written and given back."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyvfio.drivers.edu_work import EduWork
from pyvfio.sandbox import VARIABLE, Sandbox
from pyvfio_tools.cli import run

DISK, EDU = "0000:01:00.0", "0000:02:00.0"
SIZE = 1 << 20
MACHINE = """
[machine]
name = "small"
architecture = "x86_64"
modules = ["vfio", "vfio_iommu_type1", "iommufd", "vfio_pci"]

[[pcie.bus]]

[[pcie.function]]
id = "one"
model = "pcie-root-port"
behind = "0000:00"
at = "01.0"

[[pcie.function]]
id = "two"
model = "pcie-root-port"
behind = "0000:00"
at = "02.0"

[[pcie.function]]
model = "nvme"
behind = "one"
options = { image = "disk.img", serial = "S1" }

[[pcie.function]]
model = "edu"
behind = "two"
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose disk is the file ``disk.img``."""
    for name in ("PYVFIO_BACKEND", "PYVFIO_SANDBOX"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "machine.toml").write_text(MACHINE)
    (tmp_path / "disk.img").write_bytes(bytes(SIZE))
    monkeypatch.setenv("PYVFIO_MACHINE", str(tmp_path / "machine.toml"))
    monkeypatch.setenv("PYVFIO_JOURNAL", str(tmp_path / "journal"))
    return tmp_path


def told(capfd: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    capfd.readouterr()
    assert run([*map(str, arguments)]) == status
    output = capfd.readouterr()
    return output.err if status and output.err else output.out


def nvme(capfd: pytest.CaptureFixture[str], command: str, *more: object, status: int = 0) -> str:
    return told(capfd, "nvme", command, DISK, "--take", *more, status=status)


# nothing by mistake


def test_a_device_that_was_not_taken(lab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for command in ("identify", "log", "read", "write", "flush"):
        error = told(capfd, "nvme", command, DISK, status=6)
        assert "vfio-pci does not have it" in error
        assert f"pyvfio bind {DISK}, or say --take" in error


@pytest.mark.parametrize(("command", "device"), [("nvme", EDU), ("edu", DISK)])
def test_another_device(lab: Path, capfd: pytest.CaptureFixture[str], command: str, device: str) -> None:
    words = ["log" if command == "nvme" else "id", device, "--take"]
    assert ", no " in told(capfd, command, *words, status=2)
    told(capfd, command, words[0], "9:9.0", "--take", status=3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "say --serial 'S1'"),
        (["--serial", "S2"], "is 'S1', not 'S2'; nothing was written"),
        (["--serial", "S1", "--blocks", "0-0"], "more than the 1 blocks that were named; nothing was written"),
        (["--serial", "S1", "--blocks", "x"], "FIRST-LAST"),
        (["--serial", "S1", "--blocks", "2048-"], "the disk has blocks 0 to 2047"),
        (["--serial", "S1", "--nsid", "2"], "there is no namespace 2; there is 1"),
    ],
)
def test_nothing_is_written(lab: Path, capfd: pytest.CaptureFixture[str], options: list[str], words: str) -> None:
    (lab / "in.bin").write_bytes(b"w" * 1024)
    assert words in nvme(capfd, "write", "-i", lab / "in.bin", *options, status=2)
    assert (lab / "disk.img").read_bytes() == bytes(SIZE)


def test_parts_of_a_block_are_refused(lab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (lab / "in.bin").write_bytes(b"w" * 1000)
    error = nvme(capfd, "write", "-i", lab / "in.bin", "--serial", "S1", status=2)
    assert "not whole blocks of 512 bytes; nothing was written" in error


def test_a_namespace_with_content_is_refused(lab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    head = bytearray(SIZE)
    head[446:462] = bytes((0, 0, 2, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 0, 4, 0, 0))  # a partition in a DOS table
    head[510:512] = b"\x55\xaa"
    (lab / "disk.img").write_bytes(head)
    (lab / "in.bin").write_bytes(b"w" * 512)
    words = ["-i", lab / "in.bin", "--serial", "S1", "--blocks", "5-"]
    error = nvme(capfd, "write", *words, status=5)
    assert "namespace 1 has a signature: " in error
    assert "say --force if nobody wants it any more" in error
    assert (lab / "disk.img").read_bytes() == head
    nvme(capfd, "write", *words, "--force")
    assert (lab / "disk.img").read_bytes()[5 * 512 : 6 * 512] == b"w" * 512


# what they do


def test_what_was_written_is_read(lab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = bytes(range(256)) * 64
    (lab / "in.bin").write_bytes(data)
    told_so = nvme(capfd, "write", "-i", lab / "in.bin", "--serial", "S1", "--blocks", "8-", "--verify")
    assert told_so == f"{DISK}: 32 blocks written to namespace 1, from block 8 on\n"
    assert (lab / "disk.img").read_bytes() == bytes(4096) + data + bytes(SIZE - 4096 - len(data))
    facts = json.loads(nvme(capfd, "read", "--blocks", "8-39", "-o", lab / "out.bin", "--json"))
    assert facts == {"device": DISK, "nsid": 1, "first": 8, "blocks": 32, "block_size": 512}
    assert (lab / "out.bin").read_bytes() == data
    nvme(capfd, "read", "-o", lab / "whole.bin", "--interrupts", "intx")
    assert (lab / "whole.bin").read_bytes() == (lab / "disk.img").read_bytes()
    assert nvme(capfd, "flush") == f"{DISK}: namespace 1 flushed\n"


def test_a_sandbox_keeps_what_was_written(
    lab: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Sandbox.create(lab / "box", str(lab / "machine.toml"))
    monkeypatch.delenv("PYVFIO_MACHINE")
    monkeypatch.setenv(VARIABLE, str(box.directory))
    told(capfd, "bind", DISK)
    (lab / "in.bin").write_bytes(b"w" * 512)
    told(capfd, "nvme", "write", DISK, "-i", lab / "in.bin", "--serial", "S1", "--blocks", "3-")
    told(capfd, "nvme", "read", DISK, "--blocks", "2-3", "-o", lab / "out.bin")
    assert (lab / "out.bin").read_bytes() == bytes(512) + b"w" * 512
    assert (lab / "disk.img").read_bytes()[3 * 512 : 4 * 512] == b"w" * 512


def test_what_it_is(lab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    facts = json.loads(nvme(capfd, "identify", "--json"))
    assert facts["serial"] == "S1"
    assert facts["version"] == "1.4"
    assert facts["namespaces"] == [{"nsid": 1, "blocks": 2048, "block_size": 512, "bytes": SIZE, "eui64": None}]
    text = nvme(capfd, "identify")
    assert "serial            S1" in text
    assert "NAMESPACE  BLOCKS  BLOCK SIZE" in text
    log = json.loads(nvme(capfd, "log", "--json"))
    assert (log["temperature"], log["error_log"]) == (50, [])
    assert "warnings       none" in nvme(capfd, "log")


def test_edu(lab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert told(capfd, "edu", "factorial", EDU, "10", "--take") == "3628800\n"
    assert told(capfd, "edu", "dma", EDU, "--put", "hello", "--get", "5", "--take") == "hello\n"
    found = json.loads(told(capfd, "edu", "test", EDU, "--take", "--json"))
    assert [one["ok"] for one in found] == [True] * 6
    assert json.loads(told(capfd, "edu", "id", EDU, "--take", "--json"))["interrupts"] == "msi"
    told(capfd, "edu", "factorial", EDU, str(1 << 32), "--take", status=2)
    told(capfd, "edu", "dma", EDU, "--take", status=2)


def test_a_device_has_its_whole_name_in_json(lab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (lab / "in.bin").write_bytes(b"w" * 512)
    words = ("nvme", "write", "01:00.0", "--serial", "S1", "-i", lab / "in.bin")
    assert json.loads(told(capfd, *words, "--take", "--json"))["device"] == DISK
    assert json.loads(told(capfd, "edu", "dma", "02:00.0", "--put", "x", "--take", "--json"))["device"] == EDU


def test_an_edu_that_does_not_interrupt_fails_its_test(
    lab: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyvfio_backends.software.hardware.devices.edu.Edu._raise", lambda self, bits: None)
    begin = EduWork.start

    def hasty(self: EduWork) -> object:
        self.timeout = 0.1
        return begin(self)

    monkeypatch.setattr(EduWork, "start", hasty)
    found = json.loads(told(capfd, "edu", "test", EDU, "--take", "--json", status=9))
    assert [one["ok"] for one in found] == [True, False, False, False, False, True]
    assert "no interrupt came within 0.1 s" in found[1]["detail"]


def test_an_edu_that_gives_back_other_data_fails_its_test(
    lab: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyvfio.drivers.edu.Edu.get", lambda self, count, offset=0: bytes(count))
    found = json.loads(told(capfd, "edu", "test", EDU, "--take", "--json", status=8))
    assert [one["ok"] for one in found] == [True, True, True, False, False, False]
    assert "what came back is not what went there" in found[3]["detail"]


def opened(pid: int) -> list[str]:
    """The files that a process has open."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


def test_an_edu_takes_bytes_that_are_no_text(lab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The shell's bytes come to programs as surrogates."""
    assert run(["edu", "dma", EDU, "--take", "--put", "a\udcff", "--get", "2", "--json"]) == 0
    shown = json.loads(capfd.readouterr().out)
    assert (shown["put"], shown["got"]) == (2, "61ff")


@pytest.mark.parametrize(
    ("closed", "command"), [("stdout", ["read", "--blocks", "0"]), ("stdin", ["write", "--serial", "S1"])]
)
def test_a_closed_stream(
    lab: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, closed: str, command: list[str]
) -> None:
    monkeypatch.setattr(sys, closed, None)
    assert run(["nvme", command[0], DISK, "--take", *command[1:]]) == 2
    assert "it is closed" in capfd.readouterr().err
    assert (lab / "disk.img").read_bytes() == bytes(SIZE)


def test_digits_of_other_scripts_are_no_range(lab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["nvme", "read", DISK, "--take", "--blocks", "\u0661", "-o", str(lab / "out")]) == 2
    assert "FIRST-LAST" in capfd.readouterr().err
    assert not (lab / "out").exists()


def test_a_command_that_is_ended_gives_the_device_back(lab: Path) -> None:
    """SIGTERM while a write waits for its input: the device is given back, and no journal stays."""
    command = [sys.executable, "-c", "from pyvfio_tools.cli import main; main()"]
    words = ["nvme", "write", DISK, "--take", "--serial", "S1"]
    with subprocess.Popen([*command, *words], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"w" * (9 << 10))
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while str(lab / "disk.img") not in opened(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)  # until it has looked whether the disk has content
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 130, error
    assert not list((lab / "journal").glob("*.json"))
    assert (lab / "disk.img").read_bytes() == bytes(SIZE)
