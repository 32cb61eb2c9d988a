"""QEMU of the guest's own Debian release, unpacked and started through its own loader: nothing of it is installed.

The host's QEMU may be too old for a device of the guest (igb came with QEMU 8.0), and what a kernel sees should not
depend on the host.
"""

from __future__ import annotations

from pathlib import Path

from . import cache, rootfs
from .architecture import Architecture
from .debian import SUITE, Suite
from .progress import Progress, StepFailed

NEED = 800 << 20
# Where QEMU finds its firmware: its own, and the PC's.
_FIRMWARE = ("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu")
_UNREAD = (
    *("bin", "sbin", "boot", "etc", "home", "media", "mnt", "opt", "root", "run", "srv", "sys", "proc", "tmp", "var"),
    *("usr/sbin", "usr/include", "usr/lib/systemd", "usr/share/doc", "usr/share/man", "usr/share/locale"),
    *("usr/share/zoneinfo", "usr/share/info", "usr/share/perl5", "usr/share/icons"),
)


def key(architecture: Architecture) -> str:
    """Name the emulator made by this recipe."""
    return cache.key(architecture.name, SUITE, files=(Path(__file__),), texts=architecture.emulator)


def build(architecture: Architecture, suite: Suite, work: Path, result: Path, progress: Progress, log: Path) -> None:
    """Unpack the emulator's packages for this host into `result`."""
    with progress.stage(f"QEMU for {architecture.name}: Debian {SUITE}"):
        rootfs.extract(suite, rootfs.host_architecture(), architecture.emulator, result / "tree", work, log)
        rootfs.remove(result / "tree", _UNREAD)
        words(result, architecture.qemu)


def words(entry: Path, program: str) -> tuple[str, ...]:
    """Give the beginning of QEMU's command line: the tree's loader, libraries, program and firmware.

    Raise StepFailed if the tree does not hold them.
    """
    tree = entry / "tree"
    loaders = rootfs.loaders(tree)
    binary = tree / "usr/bin" / program
    if not loaders or not binary.exists():
        raise StepFailed(f"{tree} holds no {program} with its loader; run `clean` and build again")
    libraries = loaders[0].parent
    firmware = [word for name in _FIRMWARE if (tree / name).is_dir() for word in ("-L", str(tree / name))]
    return (str(loaders[0]), "--library-path", str(libraries), str(binary), *firmware)


def environment(entry: Path) -> dict[str, str]:
    """Give what QEMU must find in its environment: its own loadable parts; another build's make it abort."""
    found = rootfs.loaders(entry / "tree")
    return {"QEMU_MODULE_DIR": str(found[0].parent / "qemu")} if found else {}
