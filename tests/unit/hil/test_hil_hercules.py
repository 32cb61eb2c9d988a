"""The guest under Hercules: its volumes, its initial RAM disk, its configuration, and a run that goes wrong."""

from __future__ import annotations

import io
import stat
import tarfile
from pathlib import Path

import pytest

from tests.hil import hercules, initrd, suite, volumes
from tests.hil.differences import HERCULES, Difference, Kind, find, left_out
from tests.hil.guest import GuestDied, Machine
from tests.hil.progress import StepFailed
from tests.hil.table import Outcome, Row, compare

PASSED, FAILED = Outcome("passed"), Outcome("failed", "why")


# the results


@pytest.fixture
def results(tmp_path: Path) -> volumes.Results:
    with open(tmp_path / volumes.FILES[volumes.RESULTS], "wb") as file:
        file.truncate(volumes.RESULTS_SIZE)
    return volumes.Results(tmp_path)


def put(folder: Path, block: int, data: bytes) -> None:
    """Write as the guest does."""
    with open(folder / volumes.FILES[volumes.RESULTS], "r+b") as file:
        file.seek(block * volumes.BLOCK)
        file.write(data)


def test_a_job_that_has_not_ended(results: volumes.Results, tmp_path: Path) -> None:
    assert results.status is None
    put(tmp_path, volumes.END, b"stat")
    assert results.status is None
    put(tmp_path, volumes.END, b"status 3\n")
    assert results.status == 3


def test_output_is_followed_as_it_grows(results: volumes.Results, tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    for text in ("", "one\n", "one\ntwo\n", "one\ntwo\n" + "x" * 200_000):
        put(tmp_path, volumes.LOG, text.encode())
        results.follow(log)
        assert log.read_text() == text


def test_results_that_are_no_archive(results: volumes.Results, tmp_path: Path) -> None:
    put(tmp_path, volumes.TAR, b"rubbish" * 100)
    with pytest.raises(StepFailed, match="no tar archive"):
        results.take(tmp_path / "out")


def test_results_are_unpacked(results: volumes.Results, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("./junit.xml")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"<xml>"))
    put(tmp_path, volumes.TAR, packed.getvalue())
    results.take(tmp_path)
    assert (tmp_path / "junit.xml").read_text() == "<xml>"


def test_a_script_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "run", lambda *words, **more: None)
    (tmp_path / "src").mkdir()
    with pytest.raises(StepFailed, match="61440 fit"):
        volumes.make(tmp_path, tmp_path / "disk", tmp_path / "src", "x" * 70_000, tmp_path / "log")


# what Hercules is given


def test_the_initial_ram_disk(tmp_path: Path) -> None:
    modules = tmp_path / "usr/lib/modules/6"
    modules.mkdir(parents=True)
    with pytest.raises(StepFailed, match="has no usr/bin/busybox"):
        initrd.build(tmp_path, tmp_path, ("dasd_mod",), tmp_path / "initrd")
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/busybox").write_bytes(b"shell")
    with pytest.raises(StepFailed, match="has no module dasd_mod"):
        initrd.build(tmp_path, tmp_path, ("dasd_mod",), tmp_path / "initrd")


def test_an_archive_is_in_its_format() -> None:
    raw = initrd.archive(
        [initrd.Entry("dev/console", stat.S_IFCHR | 0o600, numbers=(5, 1)), initrd.Entry("a", 0, b"x")]
    )
    assert len(raw) % 4 == 0
    assert raw.startswith(b"070701")
    size = int(raw[94:102], 16)
    assert raw[110 : 110 + size] == b"dev/console\0"
    assert (int(raw[78:86], 16), int(raw[86:94], 16)) == (5, 1)
    assert b"TRAILER!!!\0" in raw


def test_the_volumes_of_the_configuration() -> None:
    text = hercules.configuration(4711, ("0B00 3480 /t",))
    assert "0A00 3390 lab001.ckd nosyncio\n" in text
    assert text.index("0A01 9336 root.fba") < text.index("0A02 9336") < text.index("0A03 9336 results.fba")
    assert text.endswith("0B00 3480 /t\n")
    assert "CNSLPORT  4711" in text
    assert "HIL_VOLUMES=0.0.0a01,0.0.0a02,0.0.0a03" in hercules.command_line()


# runs


def boot(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str, **limits: float) -> tuple[int, str]:
    """Run with programs that play dasdinit, mke2fs and Hercules, which does `script` in the folder of the volumes."""
    for name, text in (("dasdinit", 'touch "$3"'), ("hercules", script)):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin:/usr/sbin:/sbin")
    for name in ("kernel", "disk", "initrd"):
        (folder / name).write_text(name)
    (folder / "src").mkdir()
    (folder / "src/file").write_text("text")
    machine = Machine(folder / "kernel", folder / "disk", initrd=folder / "initrd")
    said: list[str] = []
    return hercules.run(machine, folder / "src", folder / "out", "true", said.append, **limits), "".join(said)


def at(block: int, text: str) -> str:
    """A shell command that writes to the results."""
    return f"printf '{text}' | dd of=results.fba bs=4096 seek={block} conv=notrunc 2>/dev/null"


def test_status_and_output_of_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = f"mkdir o; echo 5 > o/job.uptime; tar -C o -c . | dd of=results.fba bs=4096 seek={volumes.TAR} conv=notrunc"
    script = "; ".join((at(volumes.LOG, "hello\\n"), pack, at(volumes.END, "status 7\\n"), "exec sleep 30"))
    assert boot(tmp_path, monkeypatch, script) == (7, "hello\n")
    assert (tmp_path / "out/job.uptime").read_text() == "5\n"
    assert (tmp_path / "out" / volumes.DASD_FILE).exists()


def test_the_job_is_carried_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"dd if=results.fba bs=4096 skip={volumes.JOB} count=1 2>/dev/null | tr -d '\\0'; cat guest.ins; exit 1"
    with pytest.raises(GuestDied, match=r"(?s)Hercules ended with status 1.*cd /tmp.*true.*initrd 0x02000000"):
        boot(tmp_path, monkeypatch, script)


def test_what_hercules_cannot_load_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GuestDied, match="Hercules: HHCSC003E Load from bzImage failed"):
        boot(tmp_path, monkeypatch, "echo 'HHCSC003E Load from bzImage failed: oh'; exec sleep 30")


def test_a_panic_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GuestDied, match=r"(?s)kernel panicked.*not syncing: no root"):
        boot(tmp_path, monkeypatch, "echo 'Kernel panic - not syncing: no root'")


def test_a_silent_guest_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GuestDied, match="said nothing for 0 s and was stopped"):
        boot(tmp_path, monkeypatch, "exec sleep 30", quiet=0.3)


def test_a_hercules_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hercules, "_PATIENCE", 0.2)
    with pytest.raises(GuestDied, match="still running after"):
        boot(tmp_path, monkeypatch, "trap '' TERM; while :; do echo x; sleep 0.1; done", timeout=0.5)


def test_without_an_initial_ram_disk(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="needs an initial RAM disk"):
        hercules.lay_out(tmp_path, Machine(tmp_path / "k", tmp_path / "d"), 1)


# what is known to differ


def known(kind: Kind) -> dict[str, Difference]:
    return {"test_a::*": Difference(kind, "it is odd")}


@pytest.mark.parametrize(
    ("kind", "kernel", "fine"),
    [
        (Kind.DIFFERS, FAILED, True),
        (Kind.DIFFERS, PASSED, False),
        (Kind.DIFFERS, None, False),
        (Kind.VARIES, FAILED, True),
        (Kind.VARIES, PASSED, True),
        (Kind.HANGS, None, True),
        (Kind.HANGS, PASSED, False),
    ],
)
def test_known_differences(kind: Kind, kernel: Outcome | None, fine: bool) -> None:
    others = {"test_b::y": PASSED}
    sides = {"test_a::x": PASSED, **others}, {**({"test_a::x": kernel} if kernel else {}), **others}
    report = compare(*sides, 1, "hercules", known(kind))
    assert (report.problems == []) == fine
    assert report.rows[0].verdict.startswith("known: hercules" if fine else "is said to differ, and does not")
    assert report.closing_line() == (
        "hil: 1 passed, 0 failed, 0 skipped, 1 known to differ" if fine else "hil: 1 passed, 1 failed, 0 skipped"
    )


def test_a_known_difference_excuses_the_guest_alone() -> None:
    report = compare({"test_a::x": FAILED}, {"test_a::x": FAILED}, 0, "hercules", known(Kind.DIFFERS))
    assert report.problems == ["1 test(s) differ between the software machine and the kernel under hercules", *(
        ["1 test(s) failed under hercules"]
    )]  # fmt: skip


def test_two_guests_in_one_table() -> None:
    report = compare({"t::a": PASSED}, {"t::a": PASSED}, 1, "qemu")
    report.add(compare({"t::a": PASSED}, {"t::a": FAILED}, 1, "hercules"))
    lines = report.lines()
    assert lines[2].split() == ["qemu:", "t::a", "passed", "passed", "same"]
    assert lines[3].split()[:4] == ["hercules:", "t::a", "passed", "failed"]
    assert "1 test(s) differ between the software machine and the kernel under hercules" in report.problems
    assert Row("t::a", PASSED, PASSED) != report.rows[0]


def test_what_hangs_is_left_out() -> None:
    words = left_out({"test_a::test_x[1]": Difference(Kind.HANGS, ""), "test_b::y": Difference(Kind.DIFFERS, "")})
    assert words == ["--deselect=pyvfio/testing/contract/test_a.py::test_x[1]"]


def test_each_known_difference_is_of_a_test_that_is_there() -> None:
    contract = Path(__file__).parents[3] / "pyvfio/testing/contract"
    for name in HERCULES:
        module, _, function = name.partition("::")
        assert f"def {function.partition('[')[0].partition('*')[0]}" in (contract / f"{module}.py").read_text()
    assert find("test_a::test_none", HERCULES) is None


def test_each_pattern_of_modules_finds_some() -> None:
    contract = Path(__file__).parents[3] / "pyvfio/testing/contract"
    (hercules_guest,) = (one for one in suite.GUESTS if one.name == "hercules")
    for pattern in hercules_guest.modules:
        assert list(contract.glob(f"{pattern}.py")), pattern
    for word in hercules_guest.options:
        if word.startswith("--deselect="):
            module, _, function = word.partition("=")[2].rpartition("/")[2].partition("::")
            assert f"def {function}(" in (contract / module).read_text()
