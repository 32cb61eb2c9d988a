"""The volumes of the guest under Hercules: a 3390 to test with, and FBA volumes, which are flat files, for the rest.

device     file         in the guest   what
0.0.0a00   lab001.ckd   -              3390-1 LAB001, compatible disk layout, made new for each run; offline
0.0.0a01   root.fba     dasda, /       a copy of the root disk
0.0.0a02   src.fba      dasdb, /src    ext4 with the host's tree
0.0.0a03   results.fba  dasdc          what goes in and out:

    block 1         job.sh; zeros behind it
    block LOG       the job's output, as it grows
    block END       "status N\\n" when all is there
    block TAR       a tar archive of /out

A block has 4096 bytes.  Block 0 stays empty: the kernel looks for partitions there.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from pathlib import Path

from .progress import StepFailed, run

BLOCK = 4096
JOB, LOG, END, TAR = 1, 16, 16383, 16384
RESULTS_SIZE = 128 << 20
ROOT, TREE, RESULTS = 0x0A01, 0x0A02, 0x0A03
DASD, DASD_FILE = 0x0A00, "lab001.ckd"
SERIAL, MODEL = "LAB001", "3390-1"
FILES = {ROOT: "root.fba", TREE: "src.fba", RESULTS: "results.fba"}
# What a project's folder holds beside the project: nothing that a guest reads.
_LEFT_OUT = (".git", ".venv", "build", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis")
_SPARE = 16 << 20
_AT_ONCE = 1 << 16


def make(folder: Path, disk: Path, src: Path, script: str, log: Path) -> None:
    """Make the four volumes in `folder`, new.  Raise StepFailed."""
    dasd = folder / DASD_FILE
    dasd.unlink(missing_ok=True)
    run(["dasdinit", "-linux", "-a", dasd, MODEL, SERIAL], log, f"making the {MODEL} {SERIAL}")
    run(["cp", "--sparse=always", "--reflink=auto", disk, folder / FILES[ROOT]], log, "copying the root disk")
    _tree(folder / FILES[TREE], src, log)
    text = script.encode()
    if len(text) > (LOG - JOB) * BLOCK:
        raise StepFailed(f"the job's script has {len(text)} bytes; {(LOG - JOB) * BLOCK} fit onto its volume")
    with open(folder / FILES[RESULTS], "wb") as file:
        file.truncate(RESULTS_SIZE)
        file.seek(JOB * BLOCK)
        file.write(text)


def _tree(volume: Path, src: Path, log: Path) -> None:
    """Make an ext4 with the files of `src`."""
    with tempfile.TemporaryDirectory(dir=volume.parent) as work:
        copy = Path(work, "tree")
        shutil.copytree(src, copy, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        # each file ends with a block that is not full
        sizes = [path.lstat().st_size + BLOCK for path in copy.rglob("*")]
        size = (sum(sizes) * 9 // 8 + _SPARE) // BLOCK
        volume.unlink(missing_ok=True)
        words = ["-q", "-t", "ext4", "-b", str(BLOCK), "-O", "^has_journal", "-m", "0"]
        run(["/sbin/mke2fs", *words, "-d", copy, volume, str(size)], log, f"making a volume of {src}")


class Results:
    """The volume with the results, read while the guest writes it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILES[RESULTS]
        self._copied = 0

    def follow(self, job_log: Path) -> None:
        """Append what the job has said since the last look to `job_log`."""
        with open(self._path, "rb") as file, open(job_log, "ab") as out:
            while True:
                file.seek(LOG * BLOCK + self._copied)
                room = (END - LOG) * BLOCK - self._copied
                text, zero, _ = file.read(min(room, _AT_ONCE)).partition(b"\0")
                out.write(text)
                self._copied += len(text)
                if zero or not text:
                    return

    @property
    def status(self) -> int | None:
        """The job's exit status; None while it runs."""
        with open(self._path, "rb") as file:
            file.seek(END * BLOCK)
            line = file.read(BLOCK).partition(b"\0")[0].decode(errors="replace")
        word, _, number = line.strip().partition(" ")
        return int(number) if word == "status" and line.endswith("\n") else None

    def take(self, out: Path) -> None:
        """Unpack the archive into `out`.  Raise StepFailed when it is none."""
        with open(self._path, "rb") as file:
            file.seek(TAR * BLOCK)
            try:
                with tarfile.open(fileobj=file, mode="r|") as archive:
                    if hasattr(tarfile, "data_filter"):
                        archive.extractall(out, filter="data")
                    else:  # Python before 3.11.4, as Debian 12 has it; the archive is our own guest's
                        archive.extractall(out)
            except (tarfile.TarError, OSError) as error:
                raise StepFailed(f"the results on {self._path} are no tar archive: {error}") from error


def words() -> dict[str, str]:
    """What the guest has to know: `HIL_...` on its command line, the environment of its process 1."""
    return {
        "HIL_VOLUMES": ",".join(f"0.0.{number:04x}" for number in FILES),
        "HIL_LOG": str(LOG),
        "HIL_END": str(END),
        "HIL_TAR": str(TAR),
    }
