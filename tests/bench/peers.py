"""The tools of Debian that `pyvfio list` is held against, without installing them.

What the machine has is used; the rest is fetched with ``apt-get download`` and unpacked below ``build/``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Peers", "fetch", "find_peers"]

PACKAGES = {
    "lspci": ("pciutils", "libpci3", "libkmod2", "pci.ids"),
    "dpdk-devbind.py": ("dpdk",),
    "driverctl": ("driverctl",),
}
_MINUTES = 300


@dataclass
class Peers:
    """`programs` by name (a missing one has its reason in `missing`), and the `environment` they run in.

    `names` is the directory with the list of vendors' names that lspci reads at its start, if it had to be fetched.
    """

    programs: dict[str, str]
    missing: dict[str, str]
    environment: dict[str, str]
    names: Path | None


def fetch(packages: tuple[str, ...], folder: Path) -> str:
    """Unpack Debian's `packages` into `folder`; why not, if it fails."""
    store = folder / "packages"
    store.mkdir(parents=True, exist_ok=True)
    for package in packages:
        done = [path for path in store.glob("*.deb") if path.name.startswith(f"{package}_")]
        if not done:
            try:
                subprocess.run(
                    ["apt-get", "download", "--quiet", package],
                    cwd=store, check=True, capture_output=True, text=True, timeout=_MINUTES,
                )  # fmt: skip
            except (OSError, subprocess.SubprocessError) as error:
                words = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
                return f"apt-get download {package}: {words[-1] if words else error}"
            done = [path for path in store.glob("*.deb") if path.name.startswith(f"{package}_")]
        try:
            subprocess.run(["dpkg", "-x", str(done[0]), str(folder)], check=True, capture_output=True)
        except (IndexError, OSError, subprocess.SubprocessError) as error:
            return f"dpkg -x {package}: {error}"
    return ""


def find_peers(folder: Path) -> Peers:
    """The three tools, from this machine or unpacked below `folder`."""
    programs, missing = {}, {}
    for name, packages in PACKAGES.items():
        found = shutil.which(name)
        if found is None:
            why = fetch(packages, folder)
            unpacked = [path for place in ("usr/bin", "usr/sbin", "sbin") if (path := folder / place / name).exists()]
            found = str(unpacked[0]) if unpacked else None
            if found is None:
                missing[name] = why or f"{' '.join(packages)} has no {name}"
                continue
        programs[name] = found
    for need in ("ip", "which"):
        if shutil.which(need) is None and "dpdk-devbind.py" in programs:
            del programs["dpdk-devbind.py"]
            missing["dpdk-devbind.py"] = f"it runs {need}, which is not here"
    environment = dict(os.environ)
    names = folder / "usr/share/misc"
    if programs.get("lspci", "").startswith(str(folder)):
        libraries = os.pathsep.join(
            str(path) for path in (*folder.glob("lib/*-linux-gnu"), *folder.glob("usr/lib/*-linux-gnu"))
        )
        environment["LD_LIBRARY_PATH"] = libraries
        environment["PATH"] = f"{folder / 'usr/bin'}{os.pathsep}{environment['PATH']}"
    return Peers(programs, missing, environment, names if (names / "pci.ids").exists() else None)
