"""Build the guest's root disk: Debian, Python, pure-Python packages, modules, init; and what mounts it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import cache, initrd
from .architecture import Architecture
from .debian import SUITE, Suite
from .progress import Progress, StepFailed, run

PYTHON = "python3.13"
INIT = Path(__file__).with_name("init")
NEED = 1 << 30
# The disk's size is a fact that the guest sees, so it does not follow its content (about 105 MiB).
SIZE = "128M"
SITE = f"usr/local/lib/{PYTHON}/dist-packages"

DEBIAN = ("python3.13", "python3-psutil", "libudev1", "busybox-static", "kmod", "libc-bin", "pciutils", "strace")
# Nothing here has compiled parts; what has, comes from Debian (python3-psutil).
WHEELS = ("click", "rich", "ioctl-opt", "pyroute2", "pyudev", "sortedcontainers", "pytest", "pytest-mock", "hypothesis")
# The host's build of the same Python, to compile byte code: the guest's would take minutes.
HOST_PYTHON = ("python3.13-minimal", "libpython3.13-stdlib", "zlib1g", "libexpat1")

_UNREAD = (
    *("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian"),
    *("usr/share/zoneinfo", "usr/share/python-wheels", "usr/share/bug", "usr/share/perl5"),
    *(f"usr/lib/{PYTHON}/{name}" for name in ("test", "idlelib", "turtledemo", "ensurepip")),
    *("var/lib/dpkg", "var/cache", "var/log", "etc/systemd"),
)
_APPLETS = (
    *("awk", "cat", "chmod", "cp", "cut", "dd", "df", "dmesg", "echo", "env", "false", "find", "grep", "head"),
    *("hexdump", "id", "ip", "kill", "ln", "ls", "mkdir", "mknod", "mount", "mv", "od", "poweroff", "ps", "readlink"),
    *("rm", "sed", "setsid", "sh", "sleep", "sort", "stat", "su", "sync", "tail", "tar", "test", "touch", "tr"),
    *("true", "umount", "uname", "wc", "xxd"),
)


def key(architecture: Architecture, kernel: str) -> str:
    """Name the disk with this kernel's modules, made by this recipe."""
    files = (INIT, Path(__file__), initrd.SCRIPT, Path(initrd.__file__))
    return cache.key(architecture.name, SUITE, files=files, texts=(kernel, *architecture.modules))


def build(
    architecture: Architecture, suite: Suite, kernel: Path, work: Path, result: Path, progress: Progress, log: Path
) -> None:
    """Make `root.ext4`, `python/` (see `compile_tree`) and perhaps `initrd.img` in `result`.

    `kernel` is the kernel's entry of the cache.
    """
    root = work / "root"
    with progress.stage(f"root disk: Debian {SUITE} for {architecture.debian}"):
        extract(suite, architecture.debian, DEBIAN, root, work, log)
        _merge_usr(root)
    with progress.stage("root disk: Python packages"):
        _wheels(root / SITE, log)
    with progress.stage("root disk: byte code"):
        extract(suite, host_architecture(), HOST_PYTHON, result / "python", work, log)
        remove(result / "python", _UNREAD)
        remove(root, _UNREAD)
        places = [f"usr/lib/{PYTHON}", "usr/lib/python3/dist-packages", SITE]
        compile_tree(result / "python", root, places, log)
    with progress.stage("root disk: image"):
        _finish(root)
        (root / "etc/modules").write_text("".join(f"{name}\n" for name in architecture.modules))
        shutil.copytree(kernel / "usr/lib/modules", root / "usr/lib/modules", dirs_exist_ok=True, symlinks=True)
        _image(root, result / "root.ext4", log)
        if architecture.initrd_modules:
            initrd.build(root, kernel, architecture.initrd_modules, result / initrd.NAME)
    packages = sorted(path.name.removesuffix(".dist-info") for path in (root / SITE).glob("*.dist-info"))
    (result / "packages.txt").write_text("\n".join(packages) + "\n")


def compile_tree(python: Path, root: Path, places: list[str], log: Path, seen_as: str = "/") -> None:
    """Compile `places` under `root` to byte code with the host's build of the guest's Python.

    `seen_as` is where the guest has `root`, for its tracebacks.

    The byte code is not checked against its source: times change on the way into the guest.
    """
    found = loaders(python)
    if not found:
        raise StepFailed(f"{python} holds no loader of the host's architecture; run `clean` and build again")
    libraries = found[0].parent
    env = {**os.environ, "PYTHONHOME": str(python / "usr"), "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    command: list[str | Path] = [
        found[0],
        "--library-path",
        libraries,
        python / "usr/bin" / PYTHON,
        "-m",
        "compileall",
    ]
    # A file that does not compile (made for another Python) is no failure here: the guest says so if it needs it.
    words = [*command, "-q", "--invalidation-mode", "unchecked-hash", "-s", root, "-p", seen_as]
    with open(log, "a", encoding="utf-8") as out:
        subprocess.run([*words, *(root / place for place in places)], env=env, stdout=out, stderr=out, check=False)
    if not any((root / places[0]).rglob("*.pyc")):
        raise StepFailed(f"no byte code was made; the compiler's messages are in {log}")


def loaders(tree: Path) -> list[Path]:
    """Give the dynamic loaders of an unpacked tree, each among its libraries."""
    return [*tree.glob("usr/lib/*/ld-linux-*.so.*"), *tree.glob("usr/lib/*/ld64.so.*")]


def extract(suite: Suite, arch: str, packages: tuple[str, ...], target: Path, work: Path, log: Path) -> None:
    """Unpack packages with what they depend on; no maintainer script runs, so no foreign program does."""
    archive = work / "extract.tar"
    # The host's way to the network (proxy, retries) holds for this apt too.
    network = work / "network.conf"
    network.write_text(subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True).stdout)
    words = ["--variant=extract", f"--architectures={arch}", "--components=main", f"--aptopt={network}"]
    command: list[str | Path] = ["mmdebstrap", *words, f"--include={','.join(packages)}", SUITE, archive, suite.mirror]
    run(command, log, f"unpacking Debian {SUITE} for {arch}")
    target.mkdir(parents=True)
    # Device nodes need privileges, and the guest mounts its own /dev.
    run(["tar", "-x", "-C", target, "-f", archive, "--exclude=./dev/*"], log, f"unpacking Debian {SUITE} for {arch}")
    archive.unlink()


def host_architecture() -> str:
    """Give Debian's name of the host's architecture."""
    return subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True).stdout.strip()


def _wheels(target: Path, log: Path) -> None:
    words = ["--target", str(target), "--python-version", PYTHON.removeprefix("python"), "--implementation", "py"]
    pure = ["--abi", "none", "--platform", "any", "--only-binary=:all:", "--no-compile"]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--root-user-action=ignore"]
    run([*command, *words, *pure, *WHEELS], log, "fetching the guest's Python packages with pip")
    shutil.rmtree(target / "bin", ignore_errors=True)


def _merge_usr(root: Path) -> None:
    """Make bin, sbin and lib links into usr: without maintainer scripts nobody else does."""
    for name in ("bin", "sbin", "lib", "lib64"):
        path = root / name
        if name == "lib64" and not path.exists() and not (root / "usr/lib64").exists():
            continue
        if path.is_symlink():
            continue
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(path)
        path.symlink_to(f"usr/{name}")


def remove(root: Path, names: tuple[str, ...]) -> None:
    """Remove these files and folders of a tree, where they are."""
    for name in names:
        shutil.rmtree(root / name, ignore_errors=True)


def _finish(root: Path) -> None:
    for name in ("proc", "sys", "dev", "tmp", "run", "src", "out", "root", "var/tmp", "usr/lib/modules"):
        (root / name).mkdir(parents=True, exist_ok=True)
    programs = root / "usr/bin"
    for name, target in {"python3": PYTHON, **dict.fromkeys(_APPLETS, "busybox")}.items():
        if not (programs / name).is_symlink() and not (programs / name).exists():
            (programs / name).symlink_to(target)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    cached = root / "etc/ld.so.cache"
    cached.unlink(missing_ok=True)
    cached.symlink_to("/run/ld.so.cache")
    shutil.copy(INIT, root / "init")
    (root / "init").chmod(0o755)


def _image(root: Path, image: Path, log: Path) -> None:
    words: list[str | Path] = ["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", root, image, SIZE]
    run(["/sbin/mke2fs", *words], log, f"making the root disk of {SIZE} bytes")
