"""The runner's command line: `python -m tests.hil [COMMAND]`, by default `test`."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from . import guest, hercules, packages, suite
from .architecture import ARCHITECTURES, Architecture
from .cache import Cache, default_root
from .progress import Progress, StepFailed
from .store import Store

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("test", "build", "boot", "packages", "clean")
ALL = "all"
PROFILES = sorted({name for architecture in ARCHITECTURES.values() for name in architecture.profiles})
RUNNERS = {"qemu": guest.run, "hercules": hercules.run}


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(
        prog="python -m tests.hil",
        description="Build (once) and boot real Linux kernels, an s390x one under QEMU and under Hercules with a DASD, "
        "an x86 one and Debian's of ppc64 under QEMU, and run the contract tests on them.",
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--arch",
        default="s390x",
        help=f"the guest's architecture: {', '.join(ARCHITECTURES)}, or for all commands but boot {ALL} "
        "(default: %(default)s)",
    )
    common.add_argument(
        "--mirror", default=os.environ.get("HIL_MIRROR", ""), help="Debian archive (default: the one of apt's sources)"
    )
    common.add_argument(
        "--stock",
        metavar="PACKAGE",
        help="another kernel of Debian's, as linux-image-powerpc64le-64k, where one is taken",
    )
    commands = top.add_subparsers(dest="command", required=True)
    test = commands.add_parser("test", parents=[common], help="run the contract tests in the guest and compare")
    suite.add_arguments(test)
    build = commands.add_parser("build", parents=[common], help="build kernel and root disk into the cache")
    build.add_argument("--refresh", action="store_true", help="look for a newer kernel source now")
    boot = commands.add_parser("boot", parents=[common], help="run one shell command in the guest: boot -- COMMAND...")
    boot.add_argument("--src", type=Path, default=ROOT, help="the host's tree at /src (default: the project)")
    boot.add_argument("--timeout", type=float, default=300)
    boot.add_argument("--guest", default="qemu", choices=RUNNERS, help="which guest (default: %(default)s)")
    boot.add_argument(
        "--config", action="append", default=[], metavar="LINE", help="a further line for Hercules, or word for QEMU"
    )
    boot.add_argument("words", nargs="+", metavar="COMMAND")
    for command in (test, boot):
        command.add_argument("--profile", default="all", choices=PROFILES, help="the devices of QEMU's guest")
        command.add_argument("--out", type=Path, default=ROOT / "build/hil", help="results, /out in the guest")
    pack = commands.add_parser("packages", parents=[common], help="check the host's packages")
    pack.add_argument("--install", action="store_true", help="install the missing ones with apt-get, as root")
    commands.add_parser("clean", parents=[common], help="remove what was built from the cache")
    return top


def main(words: list[str]) -> int:
    """Run one command and give its exit status: 0, 1 (tests differ or failed), 2 (the runner could not do it)."""
    if not words or (words[0] not in COMMANDS and words[0] not in ("-h", "--help")):
        words = ["test", *words]
    arguments = parser().parse_args(words)
    signal.signal(signal.SIGTERM, _stop)
    progress = Progress()
    began = time.monotonic()
    try:
        return _run(arguments, progress)
    except (StepFailed, guest.GuestDied) as error:
        print(f"\nhil: {error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        print("\nhil: interrupted; what was being built is gone, what was complete is kept", file=sys.stderr)
        return 130
    finally:
        if arguments.command == "test":
            progress.say(f"hil: {time.monotonic() - began:.0f} s in all")


def _run(arguments: argparse.Namespace, progress: Progress) -> int:
    chosen = _architectures(arguments)
    cache = Cache(default_root())
    needed = packages.needed(packages.os_release(), chosen)
    if arguments.command == "clean":
        with cache.lock(progress.say):
            cache.clean()
        return 0
    if arguments.command == "packages":
        if arguments.install:
            packages.install(packages.missing(needed))
        packages.require(needed)
        print("every package that the runner needs is there")
        return 0
    packages.require(needed)
    _require_means()
    stores = [Store(cache, progress, arguments.mirror, architecture) for architecture in chosen]
    if arguments.command == "build":
        for store in stores:
            store.get(refresh=arguments.refresh)
        return 0
    made = [store.get(arguments.profile) for store in stores]
    if arguments.command == "boot":
        ((machine, _),) = made
        command = arguments.words[0] if len(arguments.words) == 1 else shlex.join(arguments.words)
        machine = replace(machine, more=tuple(arguments.config))
        return RUNNERS[arguments.guest](machine, arguments.src, arguments.out, command, _echo, arguments.timeout)
    return suite.test(arguments, [machine for machine, _ in made], made[0][1], ROOT, progress)


def _architectures(arguments: argparse.Namespace) -> list[Architecture]:
    """Give the architectures that the command line names.  Raise StepFailed for what does not go together."""
    if arguments.arch == ALL and arguments.command != "boot":
        chosen = list(ARCHITECTURES.values())
    elif arguments.arch in ARCHITECTURES:
        chosen = [ARCHITECTURES[arguments.arch]]
    else:
        raise StepFailed(
            f"not modelled: a guest of architecture {arguments.arch}; "
            f"ARCH can be: {', '.join((*ARCHITECTURES, *(() if arguments.command == 'boot' else (ALL,))))} "
            f"(guests: {', '.join(RUNNERS)})"
        )
    guests = {name for architecture in chosen for name in architecture.guests}
    if arguments.command in ("test", "boot") and arguments.guest not in (ALL, *guests):
        raise StepFailed(f"{arguments.arch} has no guest under {arguments.guest}; it has: {', '.join(sorted(guests))}")
    if arguments.command in ("test", "boot"):
        for architecture in chosen:
            if arguments.profile not in architecture.profiles:
                known = ", ".join(sorted(architecture.profiles))
                raise StepFailed(f"the {architecture.name} guest has no profile {arguments.profile}; it has: {known}")
    return chosen if arguments.stock is None else [_with_stock(one, arguments.stock) for one in chosen]


def _with_stock(architecture: Architecture, package: str) -> Architecture:
    if not architecture.stock:
        raise StepFailed(f"the kernel of {architecture.name} is built, not one of Debian's: leave --stock out")
    return replace(architecture, stock=package)


def _stop(number: int, frame: object) -> None:
    """Make a polite kill end like an interrupt, so that the guest and the builders end too."""
    raise KeyboardInterrupt


def _echo(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _require_means() -> None:
    """Raise StepFailed unless mmdebstrap can unpack (root, or a namespace with subordinate ids) and pip is there."""
    if os.geteuid() != 0 and shutil.which("newuidmap") is None:
        raise StepFailed("unpacking the guest's packages needs root, or the package uidmap; run as root, or install it")
    if importlib.util.find_spec("pip") is None:
        raise StepFailed(f"{sys.executable} has no pip; `make hil` uses a virtual environment that has it")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
