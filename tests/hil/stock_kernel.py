"""Take the guest's kernel as Debian has built it: image, the modules that the guest loads, the user's headers.

Nothing is compiled. The modules are unpacked and the rest of them left out, so that they fit on the root disk.
"""

from __future__ import annotations

import lzma
import re
import shutil
from pathlib import Path

from . import cache, rootfs
from .architecture import Architecture
from .debian import Suite
from .progress import Progress, StepFailed, run

NEED = 700 << 20
# All architectures' headers of the user interface, of the same source.
HEADERS = "linux-libc-dev"
_KEPT = ("modules.builtin", "modules.builtin.modinfo", "modules.order")


def recipe(architecture: Architecture) -> str:
    """Give the end of every key that this architecture's recipe makes, whatever the kernel's version."""
    texts = (architecture.stock, HEADERS, *_wanted(architecture))
    return cache.key("", files=(Path(__file__),), texts=texts).removeprefix("-")


def build(architecture: Architecture, suite: Suite, work: Path, result: Path, progress: Progress, log: Path) -> None:
    """Unpack the package `architecture.stock`; leave `vmlinux`, `usr/lib/modules`, `config` and `headers` in `result`.

    Raise StepFailed if the package has no kernel, or not one of the modules.
    """
    tree = work / "stock"
    with progress.stage(f"kernel: Debian's {architecture.stock}"):
        rootfs.extract(suite, architecture.debian, (architecture.stock, HEADERS), tree, work, log)
        images = list((tree / "boot").glob("vmlinu*-*"))
        if len(images) != 1:
            raise StepFailed(f"{architecture.stock} holds {len(images)} kernels, not one")
        shutil.copy2(images[0], result / architecture.image)
        version = images[0].name.partition("-")[2]
        shutil.copy2(tree / f"boot/config-{version}", result / "config")
        _headers(tree / "usr/include", architecture.compiler.rstrip("-"), result / "headers/include")
    with progress.stage("kernel: modules"):
        _index(tree / "usr", version, log)
        place = f"usr/lib/modules/{version}"
        choose(tree / place, result / place, _wanted(architecture))
        _index(result / "usr", version, log)


def _wanted(architecture: Architecture) -> tuple[str, ...]:
    return (*architecture.initrd_modules, *architecture.modules, *architecture.stock_modules)


def _index(base: Path, version: str, log: Path) -> None:
    run(["/sbin/depmod", "-b", base, version], log, "indexing the kernel's modules")


def _headers(include: Path, triplet: str, result: Path) -> None:
    """Copy the headers of one architecture, as ``make headers`` lays them out."""
    for name in ("linux", "asm-generic"):
        shutil.copytree(include / name, result / name)
    shutil.copytree(include / triplet / "asm", result / "asm")


def choose(modules: Path, result: Path, wanted: tuple[str, ...]) -> None:
    """Copy these modules, unpacked, with all that they need, from an indexed folder of modules to `result`.

    A name that is built into the kernel is left out. Raise StepFailed for one that is neither.
    """
    needs = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        name, _, rest = line.partition(":")
        needs[name] = rest.split()
    files = {named(path): path for path in needs}
    builtin = {named(path) for path in (modules / "modules.builtin").read_text().split()}
    chosen: set[str] = set()
    for name in (one.replace("-", "_") for one in wanted):
        if name in files:
            chosen |= {files[name], *needs[files[name]]}
        elif name not in builtin:
            raise StepFailed(f"this kernel has no module {name}")
    for path in sorted(chosen):
        target = result / re.sub(r"\.ko\.xz$", ".ko", path)
        target.parent.mkdir(parents=True, exist_ok=True)
        content = (modules / path).read_bytes()
        target.write_bytes(lzma.decompress(content) if path.endswith(".xz") else content)
    for name in _KEPT:
        shutil.copy2(modules / name, result / name)


def named(path: str) -> str:
    """Give a module's name, as the kernel says it, from its file's."""
    return re.sub(r"\.ko(\.\w+)?$", "", path.rpartition("/")[2]).replace("-", "_")
