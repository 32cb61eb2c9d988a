"""``pyvfio dasd``: look at, read, write, copy and format a DASD that was taken from the kernel, through vfio-ccw."""

from __future__ import annotations

import click

from pyvfio.errors import Misuse
from pyvfio.host import Host
from pyvfio_tools.commands import Commands
from pyvfio_tools.dasd_data import copy, read, write
from pyvfio_tools.dasd_format import format_
from pyvfio_tools.dasd_open import Confirmation, confirm_options, connected, opened, take_option
from pyvfio_tools.dasd_tables import (
    dscb_dict,
    dscb_row,
    info_dict,
    info_pairs,
    lsdasd_lines,
    partition_dict,
    partition_row,
)
from pyvfio_tools.options import device_argument, host_options
from pyvfio_tools.output import print_json, print_pairs, print_table
from pyvfio_tools.transfers import chosen_range

__all__ = ["dasd"]


@click.group(cls=Commands)
def dasd() -> None:
    """Look at, read, write, copy and format DASDs that were taken from the kernel (pyvfio ccw take).

    \b
    Examples:
      pyvfio dasd info 0.0.013f --take --machine z15-lpar
      pyvfio dasd copy 0.0.013f backup.ckd
      pyvfio dasd format 0.0.013f --volser LAB001 --label NEW001
    """


@dasd.command()
@device_argument("device", metavar="DEV")
@take_option
@click.option("--name", default="dasda", show_default=True, help="What the disk is called in the last messages.")
@host_options
def info(host: Host, as_json: bool, device: str, take: bool, name: str) -> None:
    """Show what a disk is: types, geometry, identity, paths, layout, label, and the messages a guest would print.

    The last lines are those of a Linux that sets the disk online, and of its lsdasd.

    \b
    Examples:
      pyvfio dasd info 0.0.013f
      pyvfio dasd info 0.0.013f --take --machine z15-lpar
    """
    with opened(host, device, take) as disk:
        found = disk.run(disk.work.scan())
        messages = disk.messages(name)
        if as_json:
            print_json(info_dict(disk, found, messages, name))
            return
        print_pairs(info_pairs(disk, found))
        click.echo()
        for line in messages:
            click.echo(line)
        click.echo()
        for line in lsdasd_lines(disk, name):
            click.echo(line)


@dasd.command()
@device_argument("device", metavar="DEV")
@click.option("--set", "serial", metavar="SERIAL", help="Give the volume this serial (with --volser: the one it has).")
@confirm_options
@take_option
@host_options
def label(
    host: Host, as_json: bool, device: str, serial: str | None, volser: str | None, no_label: bool, take: bool
) -> None:
    """Show the volume label, or write another volume serial into it.

    \b
    Examples:
      pyvfio dasd label 0.0.013f
      pyvfio dasd label 0.0.013f --volser LAB001 --set LAB002
    """
    with opened(host, device, take) as disk:
        if disk.label is None:
            cause = "the disk has no label (VOL1, LNX1 or CMS1)"
            raise Misuse("read label", disk.name, cause=cause, next_step=f"pyvfio dasd format {disk.name} makes one")
        if serial is not None:
            Confirmation(volser, no_label).check(disk)
            disk.relabel(serial)
        found = disk.label
        facts = {"kind": found.kind, "volser": found.volser, "owner": found.owner, "vtoc": found.vtoc}
        if as_json:
            print_json({**facts, "blocks": found.blocks})
            return
        where = None if found.vtoc is None else "cylinder {} head {} record {}".format(*found.vtoc)
        print_pairs([*{**facts, "vtoc": where}.items(), ("blocks", found.blocks)])


@dasd.command()
@device_argument("device", metavar="DEV")
@take_option
@host_options
def vtoc(host: Host, as_json: bool, device: str, take: bool) -> None:
    """List the volume table of contents: data sets (for Linux partitions), free space, the volume itself.

    \b
    Examples:
      pyvfio dasd vtoc 0.0.013f
      pyvfio dasd vtoc 0.0.013f --json
    """
    with opened(host, device, take) as disk:
        found = disk.vtoc()
        if as_json:
            print_json([dscb_dict(one) for one in found])
            return
        print_table(("PLACE", "FORMAT", "WHAT", "EXTENTS"), map(dscb_row, found), empty="the disk has no VTOC")


@dasd.command()
@device_argument("device", metavar="DEV")
@click.option("--name", default="dasda", show_default=True, help="What the disk is called.")
@click.option("--auto", is_flag=True, help="Make one partition of all tracks behind the table.")
@click.option("--make", multiple=True, metavar="FIRST-LAST", help="Make a partition of these tracks; may be repeated.")
@confirm_options
@take_option
@host_options
def partitions(
    host: Host,
    as_json: bool,
    device: str,
    name: str,
    auto: bool,
    make: tuple[str, ...],
    volser: str | None,
    no_label: bool,
    take: bool,
) -> None:
    """List the partitions as Linux finds them, or make others as fdasd does: those that were there are gone.

    \b
    Examples:
      pyvfio dasd partitions 0.0.013f
      pyvfio dasd partitions 0.0.013f --auto --volser LAB001
      pyvfio dasd partitions 0.0.013f --make 2-1500 --make 1501- --volser LAB001
    """
    with opened(host, device, take) as disk:
        tracks = disk.characteristics.tracks
        parts = [(2, tracks - 1)] if auto else []
        for text in make:
            first, count = chosen_range(text, "tracks", tracks)
            parts.append((first, first + count - 1))
        if parts:
            Confirmation(volser, no_label).check(disk)
            disk.write_partitions(parts)
        found = disk.run(disk.work.scan())
        if found.failed:
            cause = (
                f"a block of the table of contents cannot be read ({len(found.partitions)} partitions lie before it)"
            )
            raise Misuse("list partitions", disk.name, cause=cause, next_step=f"pyvfio dasd vtoc {disk.name}")
        if as_json:
            print_json([partition_dict(disk, one, name) for one in found.partitions])
            return
        headings = ("DEVICE", "START", "END", "TRACKS", "BLOCKS", "SIZE", "NAME")
        rows = [partition_row(disk, one, name) for one in found.partitions]
        print_table(headings, rows, empty="the disk has no partitions")


@dasd.command()
@device_argument("device", metavar="DEV")
@click.option("--steal", is_flag=True, help="Also when another system has reserved it; its programs then fail.")
@take_option
@host_options
def reserve(host: Host, as_json: bool, device: str, steal: bool, take: bool) -> None:
    """Keep other systems from using a disk until it is released (or this system is reset).

    \b
    Examples:
      pyvfio dasd reserve 0.0.013f
      pyvfio dasd reserve 0.0.013f --steal
    """
    _hold(host, device, take, as_json, steal=steal, keep=True)


@dasd.command()
@device_argument("device", metavar="DEV")
@click.option("--steal", is_flag=True, help="Break the reservation of another system; its programs then fail.")
@take_option
@host_options
def release(host: Host, as_json: bool, device: str, steal: bool, take: bool) -> None:
    """Let other systems use a disk again.

    \b
    Examples:
      pyvfio dasd release 0.0.013f
      pyvfio dasd release 0.0.013f --steal
    """
    _hold(host, device, take, as_json, steal=steal, keep=False)


def _hold(host: Host, device: str, take: bool, as_json: bool, *, steal: bool, keep: bool) -> None:
    with connected(host, device, take, path_group=False) as disk:
        if steal:
            disk.steal()
        elif keep:
            disk.reserve()
        if not keep:
            disk.release()
        if as_json:
            print_json({"device": disk.name, "reserved": keep})
        else:
            click.echo(f"{disk.name}: {'reserved' if keep else 'released'}")


for command in (read, write, copy, format_):
    dasd.add_command(command)
