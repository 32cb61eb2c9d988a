"""Build the guest's kernel and modules from Debian's source package, or take Debian's (`stock_kernel`)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from . import cache, stock_kernel
from .architecture import Architecture
from .debian import Suite
from .progress import Progress, StepFailed, run

SOURCE = "linux-source-6.12"
# Space for the source without what is left out, and for the objects.
NEED = 1500 << 20
# Goes up when `build` makes another kernel of the same configuration.
RECIPE = 1
# Recipes that were written down differently once: the same kernel keeps the name that it has in caches.
_SAME_AS = {"d269174a02e2": "982eec437f73"}

# Kconfig and make read every directory's Kconfig and Makefile; the code of these is never looked at.
_UNREAD = (
    *("accel", "gpu", "iio", "infiniband", "media", "net/wireless", "hid", "hwmon", "mtd", "phy"),
    *("pinctrl", "scsi", "staging", "usb", "video"),
)
_OTHER = (
    *("alpha", "arc", "arm", "arm64", "csky", "hexagon", "loongarch", "m68k", "microblaze", "mips", "nios2"),
    *("openrisc", "parisc", "powerpc", "riscv", "sh", "sparc", "um", "xtensa"),
)
_LEFT_OUT = (
    *(f"drivers/{name}/*.[chS]" for name in _UNREAD),
    *(f"arch/{name}/*.[chS]" for name in _OTHER),
    *(f"arch/*/{name}" for name in ("*.dts", "*.dtsi", "*_defconfig")),
    *(f"{name}/*.[chS]" for name in ("sound", "fs/xfs", "fs/btrfs", "fs/ocfs2", "fs/bcachefs")),
    *(f"Documentation/*.{ending}" for ending in ("rst", "yaml", "txt", "svg")),
    *(f"tools/{name}" for name in ("perf", "testing")),
)


def key(architecture: Architecture, version: str) -> str:
    """Name the kernel made from this version of the source by this architecture's recipe."""
    return f"{architecture.name}-{version.replace('/', '_')}-{recipe(architecture)}"


def recipe(architecture: Architecture) -> str:
    """Give the end of every key that this architecture's recipe makes, whatever the source's version."""
    if architecture.config is None:
        return stock_kernel.recipe(architecture)
    facts = (str(RECIPE), SOURCE, architecture.kbuild, architecture.compiler, *_LEFT_OUT, *architecture.unread_source)
    made = cache.key("", files=(architecture.config,), texts=facts).removeprefix("-")
    return _SAME_AS.get(made, made)


def need(architecture: Architecture) -> int:
    """Give the disk space in bytes that `build` uses while it works."""
    return stock_kernel.NEED if architecture.config is None else NEED


def build(
    architecture: Architecture, suite: Suite, version: str, work: Path, result: Path, progress: Progress, log: Path
) -> None:
    """Download, unpack, configure and build in `work`; leave the image and `usr/lib/modules` in `result`."""
    fragment = architecture.config
    if fragment is None:
        stock_kernel.build(architecture, suite, work, result, progress, log)
        return
    with progress.stage(f"kernel: download {SOURCE} {version}"):
        package = suite.download(SOURCE, version, work)
    with progress.stage("kernel: unpack") as update:
        _unpack(package, work, (*_LEFT_OUT, *architecture.unread_source), update)
        package.unlink()
    source, objects = work / SOURCE, work / "objects"
    objects.mkdir()
    # ccache or flags of the user's environment have no place in a build that is cached by content.
    env = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR", "LANG")}
    target = [f"ARCH={architecture.kbuild}", f"CROSS_COMPILE={architecture.compiler}"]
    make = ["nice", "make", f"O={objects}", *target, "KBUILD_BUILD_HOST=pyvfio"]
    with progress.stage("kernel: configure"):
        run(
            [*make, "allnoconfig", f"KCONFIG_ALLCONFIG={fragment}"],
            log,
            "configuring the kernel",
            cwd=source,
            env=env,
        )
        lost = dropped(fragment.read_text(), (objects / ".config").read_text())
        if lost:
            raise StepFailed("the kernel's Kconfig did not accept: " + ", ".join(lost))
    with progress.stage("kernel: build") as update:
        steps = 0

        def count(line: str) -> None:
            nonlocal steps
            steps += 1
            update(f"{steps} files; {line.strip()}", min(steps / architecture.kernel_steps, 0.99))

        jobs = f"-j{os.cpu_count() or 1}"
        run([*make, jobs, "bzImage", "modules"], log, "building the kernel", count, cwd=source, env=env)
        progress.say(f"        {steps} steps")
    with progress.stage("kernel: install modules"):
        install = [f"INSTALL_MOD_PATH={result / 'usr'}", "INSTALL_MOD_STRIP=1", "modules_install"]
        run([*make, *install], log, "installing the modules", cwd=source, env=env)
        for link in result.glob("usr/lib/modules/*/build"):
            link.unlink()
        shutil.copy2(objects / f"arch/{architecture.kbuild}/boot/bzImage", result / architecture.image)
        # the user interface's headers, which the test of pyvfio's numbers compares with
        run([*make, "headers"], log, "making the headers", cwd=source, env=env)
        shutil.copytree(
            objects / "usr/include", result / "headers/include", ignore=shutil.ignore_patterns(".*", "*.cmd")
        )
        shutil.copy2(objects / ".config", result / "config")
        keep_source(architecture, source, result)


def keep_source(architecture: Architecture, source: Path, result: Path) -> None:
    """Copy the files of the kernel's own structures that a test compares with ours to `result`/source."""
    for name in architecture.kept_source:
        (result / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, result / "source" / name)


def dropped(fragment: str, config: str) -> list[str]:
    """List the fragment's options that the finished configuration does not have as asked."""
    have = set(config.splitlines())
    asked = [line for line in fragment.splitlines() if re.match(r"CONFIG_\w+=|# CONFIG_\w+ is not set$", line)]
    return [line for line in asked if line not in have and not (line.startswith("#") and _absent(line, have))]


def _absent(line: str, have: set[str]) -> bool:
    name = line.split()[1]
    return not any(entry.startswith(f"{name}=") for entry in have)


def _unpack(
    package: Path, folder: Path, left_out: tuple[str, ...], update: Callable[[str, float | None], None]
) -> None:
    """Stream the source archive out of the package into tar, which leaves out what the build does not read."""
    excludes = [f"--exclude={SOURCE}/{pattern}" for pattern in left_out]
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as outer,
        tarfile.open(fileobj=outer.stdout, mode="r|") as members,
    ):
        for member in members:
            if not member.name.endswith(f"/{SOURCE}.tar.xz"):
                continue
            archive = members.extractfile(member)
            if archive is None:
                break
            with (
                subprocess.Popen(["xz", "-dc", "-T0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as xz,
                subprocess.Popen(["tar", "-x", "-C", folder, *excludes], stdin=xz.stdout) as tar,
            ):
                assert xz.stdin is not None
                done = 0
                while chunk := archive.read(1 << 20):
                    xz.stdin.write(chunk)
                    done += len(chunk)
                    update(f"{done >> 20} of {member.size >> 20} MiB", done / member.size)
                xz.stdin.close()
                if xz.wait() or tar.wait():
                    raise StepFailed(f"unpacking {member.name} failed; tar's message is above")
            return
    raise StepFailed(f"{package.name} holds no {SOURCE}.tar.xz")
