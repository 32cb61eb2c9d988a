"""``pyvfio dasd``: look at, read, write and copy a DASD that was taken from the kernel, through vfio-ccw."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import click
from click.shell_completion import CompletionItem

from pyvfio.address import DeviceNumber
from pyvfio.binding import plan_ccw_give_back, plan_ccw_take, run
from pyvfio.ccw import CcwDevice
from pyvfio.drivers.ckd_file import CkdFile
from pyvfio.drivers.dasd import Dasd
from pyvfio.drivers.label import volume_serial
from pyvfio.errors import Misuse, NotAvailable, WrongBus, from_oserror
from pyvfio.host import Host
from pyvfio.selection import named
from pyvfio.vfio import open_device
from pyvfio_tools.acting import journal_directory
from pyvfio_tools.commands import Commands
from pyvfio_tools.complete import complete_device
from pyvfio_tools.dasd_tables import dscb_dict, dscb_row, info_dict, info_pairs, record_rows
from pyvfio_tools.options import device_argument, host_options
from pyvfio_tools.output import print_json, print_pairs, print_table

__all__ = ["dasd"]

_PIECE = 128
_FILE = click.Path(allow_dash=True)
_RANGE = re.compile(r"(\d+)(?:-(\d+)?)?")

_take = click.option(
    "--take", is_flag=True, help="Take the device first (pyvfio ccw take), and give it back at the end."
)
_volser = click.option(
    "--volser", metavar="SERIAL", help="The volume serial of the disk that is written; nothing is when it is another."
)
_no_label = click.option("--no-label", is_flag=True, help="Instead of --volser: the disk has no label.")
_blocks = click.option("--blocks", metavar="FIRST[-LAST]", help="These blocks, from 0 on. Default: all.")
_tracks = click.option("--tracks", metavar="FIRST[-LAST]", help="All blocks of these tracks, from 0 on.")


def _device_or_file(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Complete devices, and files by the shell."""
    return [*complete_device(ctx, param, incomplete), CompletionItem(incomplete, type="file")]


@click.group(cls=Commands)
def dasd() -> None:
    """Look at, read, write and copy DASDs that were taken from the kernel (pyvfio ccw take).

    \b
    Examples:
      pyvfio dasd info 0.0.013f --take --machine z15-lpar
      pyvfio dasd copy 0.0.013f backup.ckd
    """


@contextlib.contextmanager
def _opened(host: Host, name: str, take: bool) -> Iterator[Dasd]:
    """The disk called `name`, online.  Raise `NotAvailable` when it was not taken, and shall not be."""
    found = list(named(host, name))
    if len(found) != 1 or not isinstance(found[0], DeviceNumber):
        raise WrongBus("find DASD", name, cause="it is not one channel device", next_step="pyvfio lsdasd lists DASDs")
    number = found[0]
    with contextlib.ExitStack() as stack:
        if take and (plan := plan_ccw_take(host, number)).steps:
            run(plan, journal=journal_directory())
            stack.callback(lambda: run(plan_ccw_give_back(host, number), journal=journal_directory()))
        try:
            device = stack.enter_context(open_device(host, number))
        except NotAvailable as error:
            step = f"pyvfio ccw take {number}, or say --take"
            raise NotAvailable("use DASD", str(number), cause=error.cause, next_step=step) from error
        channel = stack.enter_context(CcwDevice(device))
        yield stack.enter_context(Dasd(channel, name=str(number)))


def _range(text: str, what: str, most: int) -> tuple[int, int]:
    """First and count of ``FIRST``, ``FIRST-`` or ``FIRST-LAST``.  Raise `Misuse`."""
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise Misuse(f"read range of {what}", repr(text), cause="it is written FIRST, FIRST- or FIRST-LAST")
    first = int(match[1])
    last = first if "-" not in text else int(match[2]) if match[2] else most - 1
    if not first <= last < most:
        raise Misuse(f"read range of {what}", repr(text), cause=f"the disk has {what} 0 to {most - 1}")
    return first, last - first + 1


def _chosen(disk: Dasd, blocks: str | None, tracks: str | None) -> tuple[int, int]:
    """First block and number of blocks."""
    layout = disk.work.formatted()
    if blocks is not None and tracks is not None:
        raise Misuse("choose blocks", cause="--blocks and --tracks exclude each other")
    if tracks is not None:
        first, count = _range(tracks, "tracks", layout.tracks)
        return first * layout.per_track, count * layout.per_track
    return (0, layout.blocks) if blocks is None else _range(blocks, "blocks", layout.blocks)


def _confirm(disk: Dasd, volser: str | None, no_label: bool) -> None:
    """Raise `Misuse` unless the disk is the one that shall be written."""
    there = disk.label.volser if disk.label is not None else None
    if no_label and volser is not None:
        raise Misuse("write DASD", disk.work.name, cause="--volser and --no-label exclude each other")
    if not no_label and volser is None:
        step = "say --no-label" if there is None else f"say --volser {there} if that is the disk you mean"
        cause = "the volume serial of the disk to be written is not given"
        raise Misuse("write DASD", disk.work.name, cause=cause, next_step=step)
    wanted = None if volser is None else volume_serial(volser)
    if wanted != there:
        cause = f"the disk {f'is volume {there}' if there is not None else 'has no label'}, not "
        cause += f"volume {wanted}" if wanted is not None else "one without label"
        raise Misuse("write DASD", disk.work.name, cause=f"{cause}; nothing was written")


@contextlib.contextmanager
def _progress(words: str, total: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while it is a terminal; the function is told how many units were done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task(words, total=total)
        yield lambda count: bar.update(task, advance=count)


@dasd.command()
@device_argument("device", metavar="DEV")
@_take
@click.option("--name", default="dasda", show_default=True, help="What the disk is called in the last message.")
@host_options
def info(host: Host, as_json: bool, device: str, take: bool, name: str) -> None:
    """Show what a disk is: types, geometry, identity, paths, layout, label, and the messages a guest would print.

    \b
    Examples:
      pyvfio dasd info 0.0.013f
      pyvfio dasd info 0.0.013f --take --machine z15-lpar
    """
    with _opened(host, device, take) as disk:
        partitions = disk.partitions()
        messages = disk.work.messages(f"dasd-eckd {disk.work.name}", name, partitions)
        if as_json:
            print_json(info_dict(disk, partitions, messages))
            return
        print_pairs(info_pairs(disk, partitions))
        click.echo()
        for line in messages:
            click.echo(line)


@dasd.command()
@device_argument("device", metavar="DEV")
@_take
@host_options
def label(host: Host, as_json: bool, device: str, take: bool) -> None:
    """Show the volume label.

    \b
    Examples:
      pyvfio dasd label 0.0.013f
      pyvfio dasd label 0.0.013f --json
    """
    with _opened(host, device, take) as disk:
        found = disk.label
        if found is None:
            raise Misuse("read label", disk.work.name, cause="the disk has no label (VOL1, LNX1 or CMS1)")
        facts = {"kind": found.kind, "volser": found.volser, "owner": found.owner, "vtoc": found.vtoc}
        if as_json:
            print_json({**facts, "blocks": found.blocks})
            return
        where = None if found.vtoc is None else "cylinder {} head {} record {}".format(*found.vtoc)
        print_pairs([*{**facts, "vtoc": where}.items(), ("blocks", found.blocks)])


@dasd.command()
@device_argument("device", metavar="DEV")
@_take
@host_options
def vtoc(host: Host, as_json: bool, device: str, take: bool) -> None:
    """List the volume table of contents: data sets (for Linux partitions), free space, the volume itself.

    \b
    Examples:
      pyvfio dasd vtoc 0.0.013f
      pyvfio dasd vtoc 0.0.013f --json
    """
    with _opened(host, device, take) as disk:
        found = disk.vtoc()
        if as_json:
            print_json([dscb_dict(one) for one in found])
            return
        print_table(("PLACE", "FORMAT", "WHAT", "EXTENTS"), map(dscb_row, found), empty="the disk has no VTOC")


@dasd.command()
@device_argument("device", metavar="DEV")
@_blocks
@_tracks
@click.option("--records", is_flag=True, help="List the records of the tracks instead; works also when not formatted.")
@click.option("-o", "--output", type=_FILE, metavar="FILE", default="-", help="Where to. Default: standard output.")
@_take
@host_options
def read(
    host: Host,
    as_json: bool,
    device: str,
    blocks: str | None,
    tracks: str | None,
    records: bool,
    output: str,
    take: bool,
) -> None:
    """Read blocks as Linux numbers them, as dd from /dev/dasda does; or list the records of tracks.

    \b
    Examples:
      pyvfio dasd read 0.0.013f --blocks 0-2 -o label.bin
      pyvfio dasd read 0.0.013f --tracks 0-14 | sha256sum
      pyvfio dasd read 0.0.013f --tracks 1 --records --json
    """
    if as_json and not records:
        raise click.UsageError("--json goes with --records: blocks are bytes.")
    with _opened(host, device, take) as disk:
        if records:
            if blocks is not None:
                raise click.UsageError("--records goes with --tracks.")
            most = disk.characteristics.tracks
            rows = record_rows(disk.tracks(*((0, most) if tracks is None else _range(tracks, "tracks", most))))
            if as_json:
                print_json(list(rows))
            else:
                names = ("cylinder", "head", "record", "key_length", "data_length", "key")
                headings = ("CYLINDER", "HEAD", "RECORD", "KEY LENGTH", "DATA LENGTH", "KEY")
                print_table(headings, [[str(row[name]) for name in names] for row in rows], empty="no records")
            return
        first, count = _chosen(disk, blocks, tracks)
        size = disk.work.formatted().block_size
        with _sink(output) as file, _progress("read", count, False) as done:
            for part in disk.blocks(first, count):
                file.write(part)
                done(len(part) // size)


@contextlib.contextmanager
def _sink(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        stream = sys.stdout.buffer
        yield stream
        stream.flush()
        return
    try:
        with open(name, "wb") as file:
            yield file
    except OSError as error:
        raise from_oserror(error, "write file", name) from error


@contextlib.contextmanager
def _source(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        with open(name, "rb") as file:
            yield file
    except OSError as error:
        raise from_oserror(error, "read file", name) from error


@dasd.command()
@device_argument("device", metavar="DEV")
@_volser
@_no_label
@_blocks
@_tracks
@click.option(
    "-i",
    "--input",
    "source",
    type=_FILE,
    metavar="FILE",
    default="-",
    help="Where from. Default: standard input.",
)
@_take
@host_options
def write(
    host: Host,
    as_json: bool,
    device: str,
    volser: str | None,
    no_label: bool,
    blocks: str | None,
    tracks: str | None,
    source: str,
    take: bool,
) -> None:
    """Write blocks. The disk must be the volume SERIAL, else nothing is written.

    The input is written from the first block on, and must be whole blocks; more than were named are refused.

    \b
    Examples:
      pyvfio dasd write 0.0.013f --volser LAB001 --blocks 24- -i data.img
      cat data.img | pyvfio dasd write 0.0.013f --volser LAB001 --tracks 2-14
    """
    with _opened(host, device, take) as disk:
        _confirm(disk, volser, no_label)
        first, count = _chosen(disk, blocks, tracks)
        size = disk.work.formatted().block_size
        with _source(source) as file:
            if source != "-":
                _check_input(disk, Path(source).stat().st_size, size, count, 0)
            done_blocks = _write_all(disk, file, first, count, as_json)
    if as_json:
        print_json({"device": disk.work.name, "first": first, "blocks": done_blocks, "block_size": size})
    else:
        click.echo(f"{disk.work.name}: {done_blocks} blocks written, from block {first} on")


def _check_input(disk: Dasd, length: int, size: int, count: int, done: int) -> None:
    """Raise `Misuse` when the input is no whole blocks, or too many."""
    if length % size:
        why = f"the input is not whole blocks of {size} bytes"
    elif length // size > count:
        why = f"the input is more than the {count} blocks that were named"
    else:
        return
    written = f"{done} blocks were written" if done else "nothing was written"
    raise Misuse("write DASD", disk.work.name, cause=f"{why}; {written}")


def _write_all(disk: Dasd, file: BinaryIO, first: int, count: int, quiet: bool) -> int:
    """Write all that comes; how many blocks it was."""
    size, written = disk.work.formatted().block_size, 0
    with _progress("write", count, quiet) as done:
        while piece := _whole(file, size * _PIECE):
            _check_input(disk, len(piece), size, count - written, written)
            disk.write_blocks(first + written, piece, done)
            written += len(piece) // size
    return written


def _whole(file: BinaryIO, size: int) -> bytes:
    """So many bytes, fewer only at the end (a pipe gives what it has)."""
    pieces: list[bytes] = []
    while size and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _is_file(name: str) -> bool:
    return "/" in name or name.endswith((".ckd", ".img", ".image")) or Path(name).is_file()


@dasd.command()
@click.argument("source", metavar="SOURCE", shell_complete=_device_or_file)
@click.argument("target", metavar="TARGET", shell_complete=_device_or_file)
@_volser
@_no_label
@click.option("--tracks", metavar="FIRST[-LAST]", help="Only these tracks, from 0 on. Default: all.")
@_take
@host_options
def copy(
    host: Host,
    as_json: bool,
    source: str,
    target: str,
    volser: str | None,
    no_label: bool,
    tracks: str | None,
    take: bool,
) -> None:
    """Copy a disk to a new CKD image, or a CKD image to a disk, track by track with all records, formatted or not.

    One of SOURCE and TARGET is a device, the other a file: a name with a slash, or one ending in .ckd or .img. An
    image that is there already is not touched. A disk must be the volume SERIAL to be written.

    \b
    Examples:
      pyvfio dasd copy 0.0.013f backup.ckd
      pyvfio dasd copy backup.ckd 0.0.0a00 --volser LAB001
      pyvfio dasd copy 0.0.013f first.ckd --tracks 0-14 --take
    """
    if _is_file(source) == _is_file(target):
        raise click.UsageError("One of SOURCE and TARGET is a device, the other an image file (a name with a slash).")
    back = _is_file(source)
    with contextlib.ExitStack() as stack:
        image = stack.enter_context(CkdFile(source)) if back else None
        disk = stack.enter_context(_opened(host, target if back else source, take))
        geometry = disk.characteristics
        first, count = _range(tracks or "0-", "tracks", geometry.tracks if image is None else image.tracks)
        if image is not None:
            _confirm(disk, volser, no_label)
            _fits(disk, image)
            with _progress("copy", count, as_json) as done:
                for track in range(first, first + count):
                    disk.write_track(image.read(track))
                    done(1)
        else:
            made = CkdFile.create(target, geometry.device_type, geometry.cylinders)
            with made, _progress("copy", count, as_json) as done:
                for one in disk.tracks(first, count):
                    made.write(one)
                    done(1)
    if as_json:
        print_json({"source": source, "target": target, "first": first, "tracks": count})
    else:
        click.echo(f"{count} tracks copied from {source} to {target}")


def _fits(disk: Dasd, image: CkdFile) -> None:
    there = disk.characteristics
    if (image.device_type, image.heads) != (there.device_type, there.heads) or image.cylinders > there.cylinders:
        words = f"the image is of a {image.device_type:04x} with {image.cylinders} cylinders"
        cause = f"{words}, the disk a {there.device_type:04x} with {there.cylinders}"
        raise Misuse("copy to DASD", disk.work.name, cause=cause)
