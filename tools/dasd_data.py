"""``pyvfio dasd read``, ``write`` and ``copy``: what is on a disk, to and from files."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import click

from pyvfio.drivers.ckd_file import CkdFile
from pyvfio.drivers.copy_state import CopyState
from pyvfio.drivers.dasd import Dasd, Progress
from pyvfio.drivers.programs import MOST_TRACKS
from pyvfio.errors import Misuse
from pyvfio.host import Host
from pyvfio_tools.dasd_open import (
    Confirmation,
    blocks_option,
    chosen_blocks,
    confirm_options,
    device_or_file,
    is_file,
    opened,
    take_option,
    tracks_option,
)
from pyvfio_tools.dasd_tables import record_rows
from pyvfio_tools.options import device_argument, host_options
from pyvfio_tools.output import print_json, print_table
from pyvfio_tools.transfers import chosen_range, progress_bar, sink, source_of, whole

__all__ = ["copy", "read", "write"]

_PIECE = 128
_FILE = click.Path(allow_dash=True)


@click.command()
@device_argument("device", metavar="DEV")
@blocks_option
@tracks_option
@click.option("--records", is_flag=True, help="List the records of the tracks instead; works also when not formatted.")
@click.option("-o", "--output", type=_FILE, metavar="FILE", default="-", help="Where to. Default: standard output.")
@take_option
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

    Long runs of zeros become holes of a FILE.

    \b
    Examples:
      pyvfio dasd read 0.0.013f --blocks 0-2 -o label.bin
      pyvfio dasd read 0.0.013f --tracks 0-14 | sha256sum
      pyvfio dasd read 0.0.013f --tracks 1 --records --json
    """
    if as_json and not records:
        raise click.UsageError("--json goes with --records: blocks are bytes.")
    with opened(host, device, take) as disk:
        if records:
            if blocks is not None:
                raise click.UsageError("--records goes with --tracks.")
            _list_records(disk, tracks, as_json)
            return
        first, count = chosen_blocks(disk, blocks, tracks)
        size = disk.work.formatted().block_size
        with sink(output) as put, progress_bar("read", count, False) as done:
            for part in disk.blocks(first, count):
                put(part)
                done(len(part) // size)


def _list_records(disk: Dasd, tracks: str | None, as_json: bool) -> None:
    most = disk.characteristics.tracks
    rows = record_rows(disk.tracks(*((0, most) if tracks is None else chosen_range(tracks, "tracks", most))))
    if as_json:
        print_json(list(rows))
        return
    names = ("cylinder", "head", "record", "key_length", "data_length", "key")
    headings = ("CYLINDER", "HEAD", "RECORD", "KEY LENGTH", "DATA LENGTH", "KEY")
    print_table(headings, [[str(row[name]) for name in names] for row in rows], empty="no records")


@click.command()
@device_argument("device", metavar="DEV")
@confirm_options
@blocks_option
@tracks_option
@click.option(
    "-i",
    "--input",
    "source",
    type=_FILE,
    metavar="FILE",
    default="-",
    help="Where from. Default: standard input.",
)
@click.option("--verify", is_flag=True, help="Read what was written again, and compare.")
@take_option
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
    verify: bool,
    take: bool,
) -> None:
    """Write blocks. The disk must be the volume SERIAL, else nothing is written.

    The input is written from the first block on, and must be whole blocks; more than were named are refused.

    \b
    Examples:
      pyvfio dasd write 0.0.013f --volser LAB001 --blocks 24- -i data.img
      cat data.img | pyvfio dasd write 0.0.013f --volser LAB001 --tracks 2-14 --verify
    """
    with opened(host, device, take) as disk:
        Confirmation(volser, no_label).check(disk)
        first, count = chosen_blocks(disk, blocks, tracks)
        size = disk.work.formatted().block_size
        with source_of(source) as file:
            if source != "-":
                _check_input(disk, Path(source).stat().st_size, size, count, 0)
            done_blocks = _write_all(disk, file, first, count, as_json, verify)
    if as_json:
        print_json({"device": disk.name, "first": first, "blocks": done_blocks, "block_size": size})
    else:
        click.echo(f"{disk.name}: {done_blocks} blocks written, from block {first} on")


def _check_input(disk: Dasd, length: int, size: int, count: int, done: int) -> None:
    """Raise `Misuse` when the input is no whole blocks, or too many."""
    if length % size:
        why = f"the input is not whole blocks of {size} bytes"
    elif length // size > count:
        why = f"the input is more than the {count} blocks that were named"
    else:
        return
    written = f"{done} blocks were written" if done else "nothing was written"
    raise Misuse("write DASD", disk.name, cause=f"{why}; {written}")


def _write_all(disk: Dasd, file: BinaryIO, first: int, count: int, quiet: bool, verify: bool) -> int:
    """Write all that comes; how many blocks it was."""
    size, written = disk.work.formatted().block_size, 0
    with progress_bar("write", count, quiet) as done:
        while piece := whole(file, size * _PIECE):
            _check_input(disk, len(piece), size, count - written, written)
            disk.write_blocks(first + written, piece, done, verify=verify)
            written += len(piece) // size
    return written


@click.command()
@click.argument("source", metavar="SOURCE", shell_complete=device_or_file)
@click.argument("target", metavar="TARGET", shell_complete=device_or_file)
@confirm_options
@click.option("--tracks", metavar="FIRST[-LAST]", help="Only these tracks, from 0 on. Default: all.")
@click.option("--verify", is_flag=True, help="Read what was written again, and compare.")
@click.option("--changed", is_flag=True, help="Write only tracks that are different on the disk (to a disk).")
@click.option("--resume", is_flag=True, help="Go on with a copy to or from this file that was interrupted.")
@take_option
@host_options
def copy(
    host: Host,
    as_json: bool,
    source: str,
    target: str,
    volser: str | None,
    no_label: bool,
    tracks: str | None,
    verify: bool,
    changed: bool,
    resume: bool,
    take: bool,
) -> None:
    """Copy a disk to a new CKD image, or a CKD image or another disk to a disk: whole tracks, with all records.

    An image is a name with a slash, or one ending in .ckd or .img; what tracks leave free are holes of it, and one that
    is there already is not touched. A disk must be the volume SERIAL to be written. A copy with an image that is
    interrupted goes on with --resume: how far it came is in a file beside the image, called like it and .copy.

    \b
    Examples:
      pyvfio dasd copy 0.0.013f backup.ckd --verify
      pyvfio dasd copy backup.ckd 0.0.0a00 --volser LAB001 --changed
      pyvfio dasd copy 0.0.013f 0.0.0a00 --volser LAB002
      pyvfio dasd copy 0.0.013f first.ckd --tracks 0-14 --take
    """
    if is_file(source) and is_file(target):
        raise click.UsageError("One of SOURCE and TARGET must be a device; an image file is copied with cp.")
    if changed and is_file(target):
        raise click.UsageError("--changed goes with a disk as TARGET.")
    confirmation = Confirmation(volser, no_label)
    if not is_file(source) and not is_file(target):
        if resume:
            raise click.UsageError("--resume goes with an image; give --tracks FIRST- to go on between two disks.")
        first, count = _between_disks(host, source, target, confirmation, tracks, verify, as_json, take)
    elif is_file(source):
        first, count = _to_disk(host, source, target, confirmation, tracks, verify, changed, resume, as_json, take)
    else:
        first, count = _to_image(host, source, target, tracks, verify, resume, as_json, take)
    if as_json:
        print_json({"source": source, "target": target, "first": first, "tracks": count})
    else:
        click.echo(f"{count} tracks copied from {source} to {target}")


def _both(first: Progress, second: Progress) -> Progress:
    def told(step: int) -> None:
        first(step)
        second(step)

    return told


def _to_image(
    host: Host, source: str, target: str, tracks: str | None, verify: bool, resume: bool, quiet: bool, take: bool
) -> tuple[int, int]:
    with opened(host, source, take) as disk:
        geometry = disk.characteristics
        state = CopyState(target, f"{disk.configuration}", "to image")
        if resume:
            first, count = state.load()
            made = CkdFile(target, writable=True)
        else:
            first, count = chosen_range(tracks or "0-", "tracks", geometry.tracks)
            made = CkdFile.create(target, geometry.device_type, geometry.cylinders)
        with made, state.kept(first, count, made.flush) as came, progress_bar("copy", count, quiet) as done:
            disk.copy_to(made, first, count, verify=verify, progress=_both(came, done))
        return first, count


def _to_disk(
    host: Host,
    source: str,
    target: str,
    confirmation: Confirmation,
    tracks: str | None,
    verify: bool,
    changed: bool,
    resume: bool,
    quiet: bool,
    take: bool,
) -> tuple[int, int]:
    with CkdFile(source) as image, opened(host, target, take) as disk:
        state = CopyState(source, f"{disk.configuration}", "to disk")
        if resume:
            first, count = state.load()  # the label of a disk that was half written says nothing
        else:
            first, count = chosen_range(tracks or "0-", "tracks", image.tracks)
            confirmation.check(disk, ask=True)
            disk.work.fits(image)
        with state.kept(first, count, lambda: None) as came, progress_bar("copy", count, quiet) as done:
            disk.copy_from(
                image,
                first,
                count,
                verify=verify,
                changed=changed,
                progress=_both(came, done),
            )
        return first, count


def _between_disks(
    host: Host,
    source: str,
    target: str,
    confirmation: Confirmation,
    tracks: str | None,
    verify: bool,
    quiet: bool,
    take: bool,
) -> tuple[int, int]:
    with opened(host, source, take) as disk, opened(host, target, take) as other:
        there, mine = other.characteristics, disk.characteristics
        if str(disk.configuration) == str(other.configuration):
            raise Misuse("copy to DASD", other.name, cause=f"it is the same disk as {disk.name}")
        if (there.device_type, there.heads) != (mine.device_type, mine.heads):
            raise Misuse("copy to DASD", other.name, cause="it is another type of disk")
        confirmation.check(other, ask=True)
        first, count = chosen_range(tracks or "0-", "tracks", mine.tracks)
        if first + count > there.tracks:
            cause = f"it has {there.cylinders} cylinders, {disk.name} {mine.cylinders}"
            raise Misuse("copy to DASD", other.name, cause=cause, next_step="name those that fit with --tracks")
        with progress_bar("copy", count, quiet) as done:
            for at in range(first, first + count, MOST_TRACKS):
                step = min(MOST_TRACKS, first + count - at)
                other.write_tracks(disk.tracks(at, step), verify=verify)
                done(step)
        return first, count
