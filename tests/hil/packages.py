"""The Debian packages of the host that the runner needs, and how to get them."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .progress import StepFailed

if TYPE_CHECKING:
    from .architecture import Architecture


@dataclass(frozen=True)
class Package:
    """A Debian package: its name, a program (or an absolute path) that shows it is there, and its use."""

    name: str
    proof: str
    use: str


def qemu_package(release: Mapping[str, str]) -> str:
    """Name the package with qemu-system-s390x: Debian 12 and older keep it with the rarer machines."""
    version = release.get("VERSION_ID", "")
    old = release.get("ID") == "debian" and version.isdigit() and int(version) <= 12
    return "qemu-system-misc" if old else "qemu-system-s390x"


def os_release(path: Path = Path("/etc/os-release")) -> dict[str, str]:
    """Read os-release(5) into a dictionary; an absent file gives an empty one."""
    if not path.exists():
        return {}
    pairs = (line.partition("=") for line in path.read_text().splitlines() if "=" in line)
    return {key: value.strip("\"'") for key, _, value in pairs}


def needed(release: Mapping[str, str], architectures: Iterable[Architecture]) -> list[Package]:
    """List what builds and runs for these architectures need on a host of this release."""
    own = [package for architecture in architectures for package in architecture.packages]
    named = [replace(one, name=qemu_package(release)) if one.name == "qemu-system-s390x" else one for one in own]
    return [
        Package("make", "make", "to build the kernel"),
        Package("gcc", "gcc", "to build the kernel's own tools"),
        Package("libc6-dev", "/usr/include/stdio.h", "to build the kernel's own tools"),
        Package("flex", "flex", "to configure the kernel"),
        Package("bison", "bison", "to configure the kernel"),
        Package("bc", "bc", "to build the kernel (time constants)"),
        Package("perl", "perl", "to build the kernel (generated tables)"),
        Package("kmod", "/sbin/depmod", "to index the kernel's modules"),
        Package("xz-utils", "xz", "to unpack the kernel's source"),
        Package("mmdebstrap", "mmdebstrap", "to unpack the guest's Debian packages"),
        Package("debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg", "to check them"),
        Package("e2fsprogs", "/sbin/mke2fs", "to make the guest's root disk"),
        *named,
    ]


def is_present(package: Package) -> bool:
    """Look for the package's proof: an absolute path, or a program on PATH."""
    if package.proof.startswith("/"):
        return Path(package.proof).exists()
    return shutil.which(package.proof) is not None


def missing(packages: Iterable[Package], present: Callable[[Package], bool] = is_present) -> list[Package]:
    """Give the packages that are not there."""
    return [package for package in packages if not present(package)]


def install_line(packages: Iterable[Package]) -> str:
    """Give the one command that installs these packages."""
    return "apt-get install --no-install-recommends " + " ".join(package.name for package in packages)


def message(packages: Iterable[Package]) -> str:
    """Say what each missing package is for, and the one command that installs all."""
    absent = list(packages)
    lines = [f"{len(absent)} package(s) of this host are missing:"]
    lines += [f"    {package.name:<24} {package.use}" for package in absent]
    lines += ["Install them, as root, with:", f"    {install_line(absent)}"]
    return "\n".join(lines)


def install(packages: Iterable[Package]) -> None:
    """Install the packages with apt-get; raise StepFailed without root, without apt, or if it fails."""
    names = [package.name for package in packages]
    if not names:
        return
    if shutil.which("apt-get") is None:
        raise StepFailed(
            f"this host ({platform.system()}) has no apt-get; packages to find elsewhere: {' '.join(names)}"
        )
    if os.geteuid() != 0:
        raise StepFailed("installing packages needs root; run as root:\n    " + install_line(packages))
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "--yes", "--no-install-recommends", *names]):
        if subprocess.run(["apt-get", "-q", *words], stdin=subprocess.DEVNULL, env=env).returncode:
            raise StepFailed("apt-get " + " ".join(words) + " failed; its message is above")


def require(packages: Iterable[Package]) -> None:
    """Raise StepFailed, naming each missing package, unless all are there."""
    absent = missing(packages)
    if absent:
        raise StepFailed(message(absent))
