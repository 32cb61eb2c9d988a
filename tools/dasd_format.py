"""``pyvfio dasd format``: make a volume of a disk, format tracks, check them."""

from __future__ import annotations

import itertools

import click

from pyvfio.drivers.dasd import BLOCK_SIZE, Dasd
from pyvfio.drivers.format_work import FormatMode, default_serial
from pyvfio.drivers.label import volume_serial
from pyvfio.drivers.layout import BLOCK_SIZES, DiskLayout, LayoutKind
from pyvfio.errors import Misuse, PyvfioError
from pyvfio.host import Host
from pyvfio_tools.dasd_open import (
    Confirmation,
    confirm_options,
    opened,
    take_option,
)
from pyvfio_tools.options import device_argument, host_options
from pyvfio_tools.output import print_json
from pyvfio_tools.transfers import chosen_range, progress_bar

__all__ = ["format_"]

_SHOWN = 20


@click.command("format")
@device_argument("device", metavar="DEV")
@click.option(
    "-b",
    "--blocksize",
    type=click.Choice([str(size) for size in BLOCK_SIZES]),
    default=str(BLOCK_SIZE),
    show_default=True,
    help="Bytes in a block.",
)
@click.option(
    "-d",
    "--layout",
    type=click.Choice([str(kind) for kind in LayoutKind]),
    default="cdl",
    show_default=True,
    help="The compatible disk layout, or that of Linux alone.",
)
@click.option("-l", "--label", "serial", metavar="SERIAL", help="The volume's new serial. Default: 0X and the number.")
@click.option("-L", "--unlabelled", is_flag=True, help="Write no label.")
@click.option(
    "-M",
    "--mode",
    type=click.Choice([str(mode) for mode in FormatMode]),
    default="full",
    show_default=True,
    help="quick: only label and table, of a disk that is formatted; expand: only the tracks at the end that are not.",
)
@click.option("--partition", is_flag=True, help="Make one partition of all behind the table.")
@click.option("--tracks", metavar="FIRST[-LAST]", help="Format only these tracks, and write no label.")
@click.option("--check", is_flag=True, help="Change nothing: say which tracks are not formatted so.")
@click.option("--dry-run", is_flag=True, help="Show what would be done and change nothing.")
@confirm_options
@take_option
@host_options
def format_(
    host: Host,
    as_json: bool,
    device: str,
    blocksize: str,
    layout: str,
    serial: str | None,
    unlabelled: bool,
    mode: str,
    partition: bool,
    tracks: str | None,
    check: bool,
    dry_run: bool,
    volser: str | None,
    no_label: bool,
    take: bool,
) -> None:
    """Format a disk as dasdfmt does: all that is on it is lost. It must be the volume --volser.

    An interrupted run leaves the disk without a label; --tracks FIRST- goes on where it stopped, and a run with
    --mode quick then writes label and table.

    \b
    Examples:
      pyvfio dasd format 0.0.013f --volser LAB001 --label NEW001
      pyvfio dasd format 0.0.013f --no-label --layout ldl
      pyvfio dasd format 0.0.013f --check
      pyvfio dasd format 0.0.013f --volser LAB001 --mode quick --partition
    """
    if serial is not None and (unlabelled or tracks is not None):
        raise click.UsageError("--label goes neither with --unlabelled nor with --tracks.")
    new = None if unlabelled else volume_serial(serial) if serial is not None else ""
    with opened(host, device, take) as disk:
        wanted = disk.work.layout_for(layout, int(blocksize))
        first, count = chosen_range(tracks or "0-", "tracks", disk.characteristics.tracks)
        if check:
            _check(disk, disk.layout or wanted, first, count, as_json)
            return
        new = default_serial(disk.name) if new == "" and tracks is None else new or None
        if not as_json:
            _show(disk, wanted, new, mode, tracks, first, count, partition)
        if dry_run:
            if as_json:
                print_json({**_facts(disk, wanted, new, mode), "first": first, "tracks": count, "done": False})
            return
        Confirmation(volser, no_label).check(disk, ask=not as_json)
        total = count if tracks is not None else disk.work.format_size(mode)
        done = 0
        with progress_bar("format", total, as_json) as bar:

            def told(step: int) -> None:
                nonlocal done
                done += step
                bar(step)

            try:
                if tracks is not None:
                    disk.format(first, count, kind=layout, block_size=int(blocksize), progress=told)
                else:
                    disk.format_volume(
                        new, kind=layout, block_size=int(blocksize), mode=mode, partition=partition, progress=told
                    )
            except BaseException as error:
                start = first + done if tracks is not None else min(2 + done, disk.characteristics.tracks)
                words = f"{done} tracks were formatted; --tracks {start}- goes on"
                error.add_note(words)
                if isinstance(error, PyvfioError) and done:
                    error.host = words
                raise
        if as_json:
            print_json({**_facts(disk, wanted, new, mode), "first": first, "tracks": done, "done": True})
        else:
            click.echo(f"{disk.name}: {done} tracks formatted" + (f", volume {new}" if new and tracks is None else ""))


def _facts(disk: Dasd, wanted: DiskLayout, new: str | None, mode: str) -> dict[str, object]:
    return {
        "device": disk.name,
        "layout": str(wanted.kind),
        "block_size": wanted.block_size,
        "mode": mode,
        "volser": new,
    }


def _show(
    disk: Dasd,
    wanted: DiskLayout,
    new: str | None,
    mode: str,
    tracks: str | None,
    first: int,
    count: int,
    partition: bool,
) -> None:
    geometry = disk.characteristics
    there = "without a label" if disk.label is None else f"volume {disk.label.volser}"
    if disk.layout is None:
        there += ", not formatted"
    click.echo(f"format {disk.name}: {geometry.device_type:04X} with {geometry.cylinders} cylinders, {there}")
    which = f"tracks {first} to {first + count - 1}" if tracks is not None else f"mode {mode}"
    click.echo(f"  {which}: {wanted.per_track} blocks of {wanted.block_size} bytes on a track, layout {wanted.kind}")
    if tracks is None and mode != FormatMode.EXPAND:
        click.echo(f"  label: {f'volume {new}' if new else 'none'}{', one partition' if partition else ''}")
    if tracks is not None:
        click.echo("  what is on these tracks is lost")
    elif mode == FormatMode.FULL:
        click.echo("  what is on the disk is lost")
    elif mode == FormatMode.QUICK:
        click.echo("  its partitions are lost; what the other tracks hold stays there")


def _check(disk: Dasd, wanted: DiskLayout, first: int, count: int, as_json: bool) -> None:
    with progress_bar("check", count, as_json) as done:
        found = disk.check(first, count, layout=wanted, progress=done)
        bad = list(itertools.islice(found, _SHOWN + 1))
    if as_json:
        rows = [{"track": one.track, "what": one.words} for one in bad[:_SHOWN]]
        print_json({**_facts(disk, wanted, None, "check"), "first": first, "tracks": count, "bad": rows})
    else:
        for one in bad[:_SHOWN]:
            click.echo(f"track {one.track} (cylinder {one.track // disk.characteristics.heads}): {one.words}")
    if bad:
        more = "at least " if len(bad) > _SHOWN else ""
        raise Misuse(
            "check format",
            disk.name,
            cause=f"{more}{min(len(bad), _SHOWN)} of {count} tracks are not formatted in this layout",
            next_step=f"pyvfio dasd format {disk.name} --tracks {bad[0].track}- formats from the first of them on",
        )
    if not as_json:
        click.echo(f"{disk.name}: all {count} tracks are formatted, {wanted.per_track} blocks of {wanted.block_size}")
