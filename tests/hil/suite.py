"""Run the contract suite on the software machines here and on the kernel in the guests, and compare.

A guest without a software machine of its own is tested alone: nothing may fail there, and what is skipped is listed.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import guest, hercules, rootfs, table, volumes, wheel
from .architecture import PPC64, S390X, X86, Architecture
from .differences import HERCULES, Difference, find, left_out
from .progress import Progress, StepFailed
from .skips import PPC64_SKIPS, PSERIES_SKIPS, X86_LACKING, X86_SKIPS, Skip

AT_LEAST = 150
# The functions that the contract takes (devices_x86.py, devices_ppc64.py); the whole addresses, as a user says them.
_X86_FUNCTIONS = {
    "pci": "0000:0e:00.0",
    "pci2": "0000:0f:00.0",
    "entropy": "0000:10:00.0",
    "edu": "0000:11:00.0",
    "nvme": "0000:12:00.0",
}
_PPC64_FUNCTIONS = {
    "pci": "0001:01:00.0",
    "pci2": "0002:01:00.0",
    "entropy": "0003:01:00.0",
    "nvme": "0004:01:00.0",
}
_PSERIES_FUNCTIONS = {
    "pci": "0001:00:01.0",
    "pci2": "0002:00:01.0",
    "entropy": "0003:00:01.0",
    "nvme": "0004:00:01.0",
}
# pytest's statuses: all passed, some failed, nothing collected. Others say that the run itself went wrong.
_RAN = (0, 1, 5)
_DONE = re.compile(r"^(\S+::.*?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b.*?(?:\[ *(\d+)/(\d+)\])?$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command `test`."""
    parser.add_argument("--at-least", type=int, help=f"tests that must run on the kernel (default: {AT_LEAST})")
    parser.add_argument("--wheel", type=Path, help="pyvfio's built wheel (default: build one now)")
    guests = dict.fromkeys(one.under for one in GUESTS)
    parser.add_argument("--guest", default="all", choices=("all", *guests), help="which guest (default: %(default)s)")
    parser.add_argument("--machine", help="the software machine for the (s390x) guest under QEMU (default: its own)")
    parser.add_argument("--suite", type=Path, help="a test file or folder to run instead of pyvfio.testing.contract")
    parser.add_argument("--timeout", type=float, default=1500, help="seconds for the guest (default: %(default).0f)")
    parser.add_argument("--verbose", action="store_true", help="show every line of the guest's pytest")
    parser.add_argument("words", nargs="*", metavar="PYTEST-ARGUMENT", help="for both runs, after --")


class Watch:
    """Turn pytest's verbose output into progress: failures as lines, the rest as one moving line."""

    def __init__(
        self,
        progress: Progress,
        update: Callable[[str, float | None], None],
        verbose: bool,
        known: dict[str, Difference] | None = None,
    ) -> None:
        self._known = known or {}
        self._progress = progress
        self._update = update
        self._verbose = verbose
        self._rest = ""
        self._text = "booting"
        self._share: float | None = None
        self._began = time.monotonic()
        self.booted: float | None = None

    @property
    def running(self) -> str:
        """Give the line that pytest has begun and not ended: the test that runs now."""
        return self._rest.strip()

    def feed(self, text: str) -> None:
        """Take the output's next piece; an empty one only refreshes what is shown."""
        if text and self.booted is None:
            self.booted = time.monotonic() - self._began
            self._progress.say(f"        the guest's first output after {self.booted:.1f} s")
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._line(line)
        self._update(self._text, self._share)

    def _line(self, line: str) -> None:
        found = _DONE.match(line.rstrip())
        if found is not None:
            name, result, done, total = found.groups()
            if total:
                self._share = int(done) / int(total)
                self._text = f"{done}/{total} {name.rpartition('/')[2]}"
            if result in ("FAILED", "ERROR"):
                short = name.rpartition("/")[2]
                expected = find(short.replace(".py::", "::", 1), self._known)
                self._progress.say(f"        {result} {short}" + (f" (known: {expected.reason})" if expected else ""))
        if self._verbose:
            self._progress.say(f"    | {line}")


@dataclass(frozen=True)
class Guest:
    """A guest and the software machine that it is held to, with the options that the suite has for it.

    Without a machine the kernel is tested alone, and `skips` are the tests that may be skipped there.
    """

    name: str
    run: Callable[..., int]
    machine: str | None
    options: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    """Further options in the guest alone."""
    modules: tuple[str, ...] = ()
    """Patterns of the contract's files; all when there are none."""
    without: tuple[str, ...] = ()
    """Patterns of files that a whole run leaves out: every test in them is skipped."""
    last: tuple[str, ...] = ()
    """Files that run behind all others."""
    at_least: int = AT_LEAST
    big_endian: bool = False
    known: dict[str, Difference] = field(default_factory=dict)
    architecture: Architecture = S390X
    under: str = "qemu"
    emulator: str = "QEMU"
    skips: tuple[Skip, ...] = ()
    lacking: tuple[Skip, ...] = ()
    """What the software machine has no part of yet: tests that are skipped there alone."""
    profile: str = ""
    """Its own devices, instead of those that the user chose."""
    apart: bool = False
    """A guest for few tests: it takes part in whole runs, and where it is named."""


# What needs a function, or has nothing to do with devices, runs under QEMU alone.  Explaining an assertion means
# compiling the tests anew, which takes minutes in a processor as slow as Hercules'.
_HERCULES_MODULES = (
    *("test_channel_program_*", "test_dasd_*", "test_ccw_[aimr]*", "test_ccw_start", "test_css_sysfs"),
    *("test_library_ccw", "test_library_mdev", "test_library_subchannel", "test_mdev_create", "test_passthrough_ccw"),
)
# What only virtio devices answer so.
_NOT_A_DISK = (
    "test_ccw_regions.py::test_sense_id_with_little_room",
    "test_passthrough_ccw.py::test_a_read_is_what_the_host_reads",
)
# Nothing in these is for a host without a channel subsystem.  They skip there, each test with its reason, as
# `-- -k ""` shows; a whole run saves the minute.
_CHANNEL_MODULES = (
    *("test_ccw_*", "test_channel_program_*", "test_chp_vary", "test_cio_ignore", "test_clp", "test_css_*"),
    *("test_dasd_*", "test_library_ccw", "test_library_channel", "test_library_mdev", "test_library_subchannel"),
    *("test_mdev_create", "test_passthrough_*", "test_zpci_*"),
)
# Nothing in these is for the guest of POWER: each of their tests is skipped there, with its reason in skips.py.
_PPC64_WITHOUT = (
    *_CHANNEL_MODULES,
    # Its kernel has neither type 1 nor iommufd, nor devices without an IOMMU.
    *("test_cdev", "test_dirty_pages", "test_dma_*", "test_ioas", "test_iommufd*", "test_iommu_info"),
    *("test_library_dirty", "test_library_noiommu", "test_pci_pin"),
    # Root ports have no driver: errors are the firmware's, as are slots (test_pci_errors_unheard).
    *("test_library_errors", "test_pci_errors", "test_pci_native_hotplug", "test_port_services"),
    # The edu of QEMU has its registers the other way round there.
    *("test_edu_driver", "test_nvme_edu_commands"),
    # No function here migrates, has virtual ones, or shares its group with another that may be taken.
    *("test_migration", "test_library_token", "test_shared_group"),
    # zPCI, and a run that is killed on a channel device.
    *("test_pci_report_error", "test_pci_plug", "test_killed_run"),
    # guests of a hypervisor of POWER
    *("test_eeh_absent", "test_spapr_hypervisor"),
)
# No kernel of the others has the IOMMU of POWER, or leaves root ports without a driver.
_POWER_MODULES = ("test_spapr_*", "test_eeh_*", "test_pci_errors_unheard")
# What a guest of POWER's hypervisor has otherwise than bare metal: windows that the hypervisor makes, no EEH, one group
# for all that is on a host bridge, conventional functions, interrupts.  The rest is as on bare metal, and tried there.
_PSERIES_MODULES = (
    *("test_spapr_*", "test_eeh_absent", "test_shared_group", "test_library_groups", "test_library_topology"),
    *("test_pci_info", "test_pci_irqs", "test_pci_config", "test_pci_bars", "test_pci_registers", "test_pci_reset"),
    *("test_pci_reset_files", "test_pci_rescan", "test_library_device", "test_library_dma", "test_bind", "test_in_use"),
)
GUESTS = (
    Guest("qemu", guest.run, "lab-s390x", big_endian=True, without=("test_edu_driver", "test_nvme_*", *_POWER_MODULES)),
    Guest(
        "hercules",
        hercules.run,
        "hercules-lab",
        ("--pyvfio-ccw=0.0.0a00", *(f"--deselect=pyvfio/testing/contract/{name}" for name in _NOT_A_DISK)),
        ("--assert=plain", *left_out(HERCULES)),
        _HERCULES_MODULES,
        last=("test_channel_program_suspension",),
        at_least=400,
        known=HERCULES,
        under="hercules",
        emulator="Hercules",
    ),
    Guest(
        "x86",
        guest.run,
        "contract-x86",
        tuple(f"--pyvfio-{name}={address}" for name, address in _X86_FUNCTIONS.items()),
        without=(*_CHANNEL_MODULES, *_POWER_MODULES),
        at_least=1600,
        architecture=X86,
        skips=X86_SKIPS,
        lacking=X86_LACKING,
    ),
    # VFIO's unsafe mode wants functions that no IOMMU is in front of.
    Guest(
        "x86-bare",
        guest.run,
        "x86-no-iommu",
        ("--pyvfio-edu=0000:00:06.0",),
        modules=("test_library_noiommu",),
        at_least=8,
        architecture=X86,
        under="bare",
        profile="bare",
        apart=True,
    ),
    Guest(
        "ppc64",
        guest.run,
        "contract-ppc64",
        tuple(f"--pyvfio-{name}={address}" for name, address in _PPC64_FUNCTIONS.items()),
        ("--assert=plain",),
        without=_PPC64_WITHOUT,
        at_least=1350,
        architecture=PPC64,
        skips=PPC64_SKIPS,
        lacking=X86_LACKING,
    ),
    Guest(
        "pseries",
        guest.run,
        "contract-pseries",
        tuple(f"--pyvfio-{name}={address}" for name, address in _PSERIES_FUNCTIONS.items()),
        ("--assert=plain",),
        modules=_PSERIES_MODULES,
        at_least=550,
        architecture=PPC64,
        under="pseries",
        last=("test_spapr_hypervisor",),
        skips=PSERIES_SKIPS,
        lacking=X86_LACKING,
        profile="pseries-contract",
        apart=True,
    ),
)


def test(
    arguments: argparse.Namespace, machines: list[guest.Machine], python: Path, root: Path, progress: Progress
) -> int:
    """Run both sides of each guest and print the table; give 0 if they agree, nothing failed and enough ran, else 1.

    Raise StepFailed if a side could not run at all, GuestDied if a guest ended early.
    """
    folder: Path = arguments.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    log, tree = folder / "run.log", folder / "tree"
    log.write_text("")
    with progress.stage("wheel"):
        built = arguments.wheel or wheel.build(root, _emptied(folder / "wheel"), log)
        packages = wheel.lay_out(built, tree, arguments.suite)
        rootfs.compile_tree(python, tree, packages, log, "/src")
    progress.say(f"        {built.name}")
    if not arguments.words and not arguments.suite:
        for machine in machines:
            with progress.stage(f"numbers of the ABI against the headers of the {machine.architecture.name} kernel"):
                _numbers(machine.kernel.parent / "headers", machine.architecture.machine, root, folder / "headers.log")
    made = {machine.architecture.name: machine for machine in machines}
    part = bool(arguments.words or arguments.suite)
    chosen = [
        one
        for one in GUESTS
        if one.architecture.name in made
        and (arguments.guest == one.under or (arguments.guest == "all" and not (one.apart and part)))
    ]
    if arguments.machine is not None:
        own = arguments.arch if arguments.arch in {one.name for one in GUESTS} else "qemu"
        chosen = [replace(one, machine=arguments.machine) if one.name == own else one for one in chosen]
    reports = [_sides(one, arguments, made[one.architecture.name], tree, folder, progress) for one in chosen]
    report = reports[0]
    for other in reports[1:]:
        report.add(other)
    lines = report.lines()
    (folder / "table.txt").write_text("\n".join(lines) + "\n")
    progress.say("\n" + "\n".join(lines))
    for one in chosen:
        for side in _folders(folder, one)[0 if one.machine else 1 : 2]:
            progress.say(f"log       {side / 'job.log'}")
            for line in failures((side / "job.log").read_text(errors="replace")):
                progress.say(f"    {line}")
    progress.say(report.closing_line())
    return 1 if report.problems else 0


def _folders(folder: Path, which: Guest) -> tuple[Path, Path, Path]:
    """Where the software machine's, the kernel's and the big-endian run leave their results."""
    if which.name == "qemu":
        return folder / "software", folder / "kernel", folder / "big-endian"
    return folder / f"{which.name}-software", folder / which.name, folder / f"{which.name}-big-endian"


def _target(which: Guest, arguments: argparse.Namespace, tree: Path) -> list[str]:
    """Name what is run: a suite of the caller's, or the contract's modules for this guest."""
    if arguments.suite:
        return ["suite"]
    place = tree / "pyvfio/testing/contract"
    found = {path for pattern in which.modules or ("test_*",) for path in place.glob(f"{pattern}.py")}
    if not arguments.words:
        found -= {path for pattern in which.without for path in place.glob(f"{pattern}.py")}
    files = sorted(found, key=lambda path: (path.stem in which.last, path)) if which.modules or which.without else []
    return [str(path.relative_to(tree)) for path in files] or ["--pyargs", "pyvfio.testing.contract"]


def _sides(
    which: Guest, arguments: argparse.Namespace, machine: guest.Machine, tree: Path, folder: Path, progress: Progress
) -> table.Report:
    """Run one guest's suite on the software machine, on the kernel, and, if it has one, in the big-endian guest."""
    software, kernel, big_endian = _folders(folder, which)
    machine = replace(machine, profile=which.profile or machine.profile)
    shown = f" under {which.name}"
    words = [*which.options, *arguments.words, *_target(which, arguments, tree)]
    if which.machine is not None:
        with progress.stage(f"tests on the software machine {which.machine}"):
            _software(tree, _emptied(software), [*words, f"--pyvfio-machine={which.machine}"], progress)
    with progress.stage(f"tests on the kernel{shown}") as update:
        watch = Watch(progress, update, arguments.verbose, which.known)
        _guest(which, machine, tree, _emptied(kernel), "kernel", [*which.more, *words], watch, arguments.timeout)
    whole = which.big_endian and not arguments.words
    if whole:
        with progress.stage(f"tests on the software machine in the big-endian guest{shown}") as update:
            watch = Watch(progress, update, arguments.verbose)
            more = [*words, f"--pyvfio-machine={which.machine}"]
            _guest(which, machine, tree, _emptied(big_endian), "software", more, watch, arguments.timeout)
    at_least = arguments.at_least if arguments.at_least is not None else 1 if arguments.words else which.at_least
    complete = not arguments.words and not arguments.suite
    if which.machine is None:
        return table.alone(table.read(kernel / "junit.xml"), at_least, which.name, which.skips, complete)
    sides = table.read(software / "junit.xml"), table.read(kernel / "junit.xml")
    report = table.compare(*sides, at_least, which.name, which.known, which.skips or None, complete, which.lacking)
    if not report.problems:
        (kernel / volumes.DASD_FILE).unlink(missing_ok=True)  # large, and of use only to find out what is wrong
    if whole:
        report.add_big_endian(table.read(big_endian / "junit.xml"))
    return report


def _numbers(headers: Path, machine: str, root: Path, log: Path) -> None:
    """Compare every number and layout of pyvfio/abi with the headers of the kernel under test.  Raise StepFailed."""
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "tests/unit/abi/test_headers.py"]
    env = {**os.environ, "PYVFIO_KERNEL_HEADERS": str(headers), "PYVFIO_KERNEL_MACHINE": machine}
    with open(log, "w", encoding="utf-8") as out:
        done = subprocess.run(command, cwd=root, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=600)
    if done.returncode:
        shown = "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-25:])
        raise StepFailed(f"pyvfio/abi does not agree with the kernel's headers\n{shown}")


def _guest(
    which: Guest,
    machine: guest.Machine,
    tree: Path,
    out: Path,
    backend: str,
    words: list[str],
    watch: Watch,
    timeout: float,
) -> None:
    """Run the suite in a fresh guest.  Raise StepFailed or GuestDied."""
    command = ["python3", *_pytest(backend, Path("/src"), Path("/out/junit.xml")), *words]
    script = f"export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1\ncd /src\n{shlex.join(command)}"
    try:
        status = which.run(machine, tree, out, script, watch.feed, timeout)
    except guest.GuestDied as error:
        raise guest.GuestDied(f"while it ran {watch.running or 'no test'}: {error}") from error
    if status not in _RAN:
        raise StepFailed(f"pytest in the guest ended with status {status}\n{guest.last_lines(out, which.emulator)}")


def failures(log: str, limit: int = 300) -> list[str]:
    """Cut pytest's account of what failed out of its output; no more than the last `limit` lines."""
    lines = log.splitlines()
    heads = [index for index, line in enumerate(lines) if re.match(r"=+ (ERRORS|FAILURES) =+$", line)]
    return lines[heads[0] :][-limit:] if heads else []


def _pytest(backend: str, tree: Path, junit: Path) -> list[str]:
    words = ["-m", "pytest", "-v", "-rfE", "--tb=short", "--color=no", "-p", "no:cacheprovider", f"--rootdir={tree}"]
    return [*words, "-p", "pyvfio.testing.plugin", f"--pyvfio-backend={backend}", f"--junitxml={junit}"]


def _software(tree: Path, out: Path, words: list[str], progress: Progress) -> None:
    """Run the suite here, from the same tree as the guest, and without other pytest plugins, as there."""
    command = [sys.executable, *_pytest("software", tree, out / "junit.xml"), *words]
    env = {**os.environ, "PYTHONPATH": str(tree), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        env.pop(name, None)
    with open(out / "job.log", "w+", encoding="utf-8") as log:
        status = subprocess.run(
            command, cwd=tree, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=900
        ).returncode
        log.seek(0)
        lines = log.read().splitlines()
    if status not in _RAN:
        shown = "\n".join(f"    {line}" for line in lines[-25:])
        raise StepFailed(f"pytest on the software machine ended with status {status}\n{shown}")
    for line in lines:
        found = _DONE.match(line)
        if found is not None and found[2] in ("FAILED", "ERROR"):
            progress.say(f"        {found[2]} {found[1].rpartition('/')[2]}")


def _emptied(folder: Path) -> Path:
    """Give the folder, new: nothing of an earlier run may be taken for this one's."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
