"""A private view of one Debian suite: own lists, own sources, the host's mirror and trust.

The host's apt configuration (proxy, certificates) applies; its sources and pins do not, and nothing of the
host's apt state is changed.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

from .progress import StepFailed, run

SUITE = "trixie"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
FRESH = 24 * 3600


def host_mirror() -> str:
    """Give the address of the Debian archive that this host's apt uses.

    Raise StepFailed if apt's sources name none (mirrors of other archives, such as -security, do not count).
    """
    answer = subprocess.run(
        ["apt-get", "--print-uris", "update"],  # unlike indextargets, works before the first update
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    mirror = pick_mirror(answer.stdout)
    if mirror is None:
        raise StepFailed("apt's sources name no Debian archive; name one: --mirror ADDRESS, or HIL_MIRROR=ADDRESS")
    return mirror


def pick_mirror(uris: str) -> str | None:
    """Choose the first archive whose path ends in /debian: the main one, not security's or another project's."""
    found = re.search(r"^'(\S+?/debian/)dists/", uris, re.MULTILINE)
    return found[1] if found else None


class Suite:
    """The package lists of the suite called `suite` under `root`, from `mirror`."""

    def __init__(self, root: Path, mirror: str, suite: str = SUITE) -> None:
        self.root = root
        self.mirror = mirror
        self.suite = suite
        self.log = root / "apt.log"
        for name in ("lists/partial", "archives/partial", "etc"):
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "etc/sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror} {suite} main\n")

    @property
    def is_fresh(self) -> bool:
        """Whether the lists were fetched from this mirror in the last day."""
        stamp = self.root / "etc/updated"
        if not stamp.exists() or stamp.read_text() != self.mirror:
            return False
        return time.time() - stamp.stat().st_mtime < FRESH

    def update(self) -> None:
        """Fetch the package lists; raise StepFailed with apt's last lines if that does not work."""
        what = f"fetching the package lists of Debian {self.suite}"
        run(["apt-get", *self._options(), "--error-on=any", "update"], self.log, what)
        (self.root / "etc/updated").write_text(self.mirror)

    def version(self, package: str) -> str:
        """Give the version of a package in the suite."""
        answer = subprocess.run(
            ["apt-cache", *self._options(), "show", "--no-all-versions", package],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        found = re.search(r"^Version: (\S+)", answer.stdout, re.MULTILINE)
        if found is None:
            raise StepFailed(f"Debian {self.suite} has no package {package}: {answer.stderr.strip()}")
        return found[1]

    def download(self, package: str, version: str, folder: Path) -> Path:
        """Download one package, checked by apt, into `folder` and give its path."""
        what = f"downloading {package} {version}"
        run(["apt-get", *self._options(), "download", f"{package}={version}"], self.log, what, cwd=folder)
        return next(folder.glob(f"{package}_*.deb"))

    def _options(self) -> list[str]:
        settings = {
            "Dir::State::lists": self.root / "lists",
            "Dir::Cache": self.root,
            "Dir::Cache::archives": self.root / "archives",
            "Dir::Etc::sourcelist": self.root / "etc/sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        if os.geteuid() == 0:  # apt's own user may not write into a cache under /root
            settings["APT::Sandbox::User"] = "root"
        return ["-q", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]
