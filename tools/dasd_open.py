"""What the commands of ``pyvfio dasd`` share: opening a disk, ranges, the question before writing, progress."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from pyvfio.address import DeviceNumber
from pyvfio.binding import plan_ccw_give_back, plan_ccw_take, run
from pyvfio.ccw import CcwDevice
from pyvfio.drivers.dasd import Dasd
from pyvfio.drivers.label import volume_serial
from pyvfio.errors import Misuse, NotAvailable, WrongBus
from pyvfio.host import Host
from pyvfio.selection import named
from pyvfio.vfio import open_device
from pyvfio_tools.acting import journal_directory, terminated
from pyvfio_tools.complete import complete_device
from pyvfio_tools.transfers import chosen_range

__all__ = [
    "Confirmation",
    "blocks_option",
    "chosen_blocks",
    "confirm_options",
    "connected",
    "device_or_file",
    "is_file",
    "opened",
    "take_option",
    "tracks_option",
]

take_option = click.option(
    "--take", is_flag=True, help="Take the device first (pyvfio ccw take), and give it back at the end."
)
blocks_option = click.option("--blocks", metavar="FIRST[-LAST]", help="These blocks, from 0 on. Default: all.")
tracks_option = click.option("--tracks", metavar="FIRST[-LAST]", help="All blocks of these tracks, from 0 on.")


def device_or_file(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Complete devices, and files by the shell."""
    return [*complete_device(ctx, param, incomplete), CompletionItem(incomplete, type="file")]


def is_file(name: str) -> bool:
    """Whether a name is that of an image file rather than of a device."""
    return "/" in name or name.endswith((".ckd", ".img", ".image")) or Path(name).is_file()


@contextlib.contextmanager
def connected(host: Host, name: str, take: bool, *, path_group: bool = True) -> Iterator[Dasd]:
    """The disk called `name`, not yet online.  Raise `NotAvailable` when it was not taken, and shall not be.

    SIGTERM and SIGHUP end the command as Ctrl-C does: a program that runs is halted, and a disk that was taken is given
    back, which nothing interrupts.
    """
    found = list(named(host, name))
    if len(found) != 1 or not isinstance(found[0], DeviceNumber):
        raise WrongBus("find DASD", name, cause="it is not one channel device", next_step="pyvfio lsdasd lists DASDs")
    number, leaving = found[0], False
    with contextlib.ExitStack() as stack:
        stack.enter_context(terminated(lambda: leaving))
        if take and (plan := plan_ccw_take(host, number)).steps:
            run(plan, journal=journal_directory())
            stack.callback(lambda: run(plan_ccw_give_back(host, number), journal=journal_directory()))
        try:
            device = stack.enter_context(open_device(host, number))
        except NotAvailable as error:
            step = f"pyvfio ccw take {number}, or say --take"
            raise NotAvailable("use DASD", str(number), cause=error.cause, next_step=step) from error
        channel = stack.enter_context(CcwDevice(device))
        disk = Dasd(channel, name=str(number), path_group=path_group)
        stack.callback(disk.close)
        try:
            yield disk
        finally:
            leaving = True


@contextlib.contextmanager
def opened(host: Host, name: str, take: bool) -> Iterator[Dasd]:
    """As `connected`, and online."""
    with connected(host, name, take) as disk:
        disk.online()
        yield disk


def chosen_blocks(disk: Dasd, blocks: str | None, tracks: str | None) -> tuple[int, int]:
    """First block and number of blocks.  Raise `Misuse`."""
    layout = disk.work.formatted()
    if blocks is not None and tracks is not None:
        raise Misuse("choose blocks", cause="--blocks and --tracks exclude each other")
    if tracks is not None:
        first, count = chosen_range(tracks, "tracks", layout.tracks)
        return first * layout.per_track, count * layout.per_track
    return (0, layout.blocks) if blocks is None else chosen_range(blocks, "blocks", layout.blocks)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Which disk may be written: the one with the volume serial `volser`, or one without a label (`no_label`)."""

    volser: str | None = None
    no_label: bool = False

    def check(self, disk: Dasd, *, ask: bool = False) -> None:
        """Raise `Misuse` unless the disk is the one that shall be written; `ask` a person who did not say which."""
        there = disk.label.volser if disk.label is not None else None
        if self.no_label and self.volser is not None:
            raise Misuse("write DASD", disk.name, cause="--volser and --no-label exclude each other")
        volser, no_label = self.volser, self.no_label
        if not no_label and volser is None:
            if not (ask and sys.stdin is not None and sys.stdin.isatty()):
                step = "say --no-label" if there is None else f"say --volser {there} if that is the disk you mean"
                cause = "the volume serial of the disk to be written is not given"
                raise Misuse("write DASD", disk.name, cause=cause, next_step=step)
            words = "Type yes to go on" if there is None else f"Type the volume serial ({there}) to go on"
            answer = click.prompt(words, err=True, default="", show_default=False).strip()
            no_label = there is None and answer == "yes"
            volser = None if no_label else answer or "-"
        wanted = None if volser is None else volume_serial(volser)
        if wanted != there or (wanted is None and not no_label):
            cause = f"the disk {f'is volume {there}' if there is not None else 'has no label'}, not "
            cause += f"volume {wanted}" if wanted is not None else "one without label"
            raise Misuse("write DASD", disk.name, cause=f"{cause}; nothing was written")


def confirm_options(function: Callable[..., object]) -> Callable[..., object]:
    """Add ``--volser`` and ``--no-label``."""
    volser = click.option(
        "--volser",
        metavar="SERIAL",
        help="The volume serial of the disk that is written; nothing is when it is another.",
    )
    return volser(
        click.option("--no-label", is_flag=True, help="Instead of --volser: the disk has no label.")(function)
    )
