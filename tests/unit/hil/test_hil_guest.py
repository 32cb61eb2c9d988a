"""The guest's devices, the follower of its tests and the terminal's negotiation."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import pytest

from tests.hil import devices, guest, tn3270
from tests.hil.progress import Progress
from tests.hil.suite import Watch, failures


def command(profile: str) -> list[str]:
    return devices.command(*(Path(name) for name in ("/k", "/d", "/s", "/o", "/t")), profile, [])


def test_order_of_the_channel_devices() -> None:
    words = " ".join(command("all"))
    places = [
        words.index(f"devno=fe.0.{number}") for number in ("f000", "f010", "f011", "f001", "1000", "1001", "000a")
    ]
    assert places == sorted(places)


def test_root_disk_comes_after_pci_disks() -> None:
    assert "root=/dev/vda " in " ".join(command("ccw"))
    assert "root=/dev/vdb " in " ".join(command("zpci"))


def qemu(folder: Path, script: str) -> None:
    """Put a program of QEMU's name into `folder` that plays a guest: $OUT is its /out."""
    program = folder / "qemu-system-s390x"
    program.write_text(f"#!/bin/sh\nOUT={folder}/out\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def boot(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str, **limits: float) -> tuple[int, str]:
    qemu(folder, script)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    said: list[str] = []
    machine = guest.Machine(Path("/k"), Path("/d"), "none")
    status = guest.run(machine, folder, folder / "out", "true", said.append, **limits)
    return status, "".join(said)


def test_a_panic_is_told_with_the_console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "echo 'Kernel panic - not syncing: oh' > $OUT/console.log; sleep 0.3"
    with pytest.raises(guest.GuestDied, match=r"(?s)kernel panicked.*console, last lines.*not syncing: oh"):
        boot(tmp_path, monkeypatch, script)


def test_a_silent_guest_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(guest.GuestDied, match="said nothing for 0 s and was stopped"):
        boot(tmp_path, monkeypatch, "exec sleep 30", quiet=0.3)


def test_a_slow_guest_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "while :; do echo x >> $OUT/job.log; sleep 0.05; done"
    with pytest.raises(guest.GuestDied, match="still running after 1 s and was stopped"):
        boot(tmp_path, monkeypatch, script, timeout=0.6)


def test_a_qemu_that_does_not_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(guest.GuestDied, match=r"(?s)QEMU ended with status 3.*no such device"):
        boot(tmp_path, monkeypatch, "echo no such device >&2; exit 3")


def test_status_and_output_of_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "echo hello > $OUT/job.log; echo 7 > $OUT/job.status"
    assert boot(tmp_path, monkeypatch, script) == (7, "hello\n")


def test_results_of_an_earlier_run_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/job.status").write_text("0")
    with pytest.raises(guest.GuestDied, match="QEMU ended with status 0 before the job did"):
        boot(tmp_path, monkeypatch, "exit 0")


def test_watch_shows_failures_and_knows_the_running_test() -> None:
    shown: list[tuple[str, float | None]] = []
    screen = io.StringIO()
    watch = Watch(Progress(screen), lambda text, share: shown.append((text, share)), verbose=False)
    watch.feed(
        "pyvfio/testing/contract/test_a.py::test_x PASSED [ 1/4]\npyvfio/testing/contract/test_a.py::test_y[a b]"
    )
    watch.feed(" FAILED [ 2/4]\na/test_a.py::test_z SKIPPED (no DASD) [ 3/4]\na/test_a.py::test_slow ")
    assert shown[-1] == ("3/4 test_a.py::test_z", 0.75)
    assert watch.running == "a/test_a.py::test_slow"
    assert "FAILED test_a.py::test_y[a b]" in screen.getvalue()


def test_terminal_answers() -> None:
    assert tn3270.answer(b"\xff\xfd") == (b"", b"\xff\xfd")
    assert tn3270.answer(b"\xff\xfd\x19rest") == (b"\xff\xfb\x19", b"rest")
    assert tn3270.answer(b"\xff\xfb\x19") == (b"\xff\xfd\x19", b"")
    assert tn3270.answer(b"\xff\xfa\x18\x01") == (b"", b"\xff\xfa\x18\x01")
    assert tn3270.answer(b"\xff\xfa\x18\x01\xff\xf0") == (b"\xff\xfa\x18\x00IBM-3278-2\xff\xf0", b"")
    assert tn3270.answer(b"data\xff\xefmore") == (b"", b"more")


def test_failures_are_cut_out_of_the_log() -> None:
    log = "a PASSED\n==== FAILURES ====\n__ test_a __\nE boom\n= 1 failed, 1 passed in 1s ="
    assert failures(log) == log.splitlines()[1:]
    assert failures(log, 2) == log.splitlines()[-2:]
    assert failures("a PASSED\n= 1 passed in 1s =") == []
