"""``pyvfio lsdasd``: the DASDs, with the options and in the table format of s390-tools."""

from __future__ import annotations

from dataclasses import asdict

import click

from pyvfio.channel_ranges import ChannelRanges
from pyvfio.dasd import PATH_KINDS, Dasd, dasds, details
from pyvfio.host import Host
from pyvfio_tools.complete import complete_device
from pyvfio_tools.options import host_options
from pyvfio_tools.output import print_json
from pyvfio_tools.record import print_lines

__all__ = ["lsdasd", "table_lines"]

_HEADING = "Bus-ID    Status    Name      Device  Type         BlkSz  Size      Blocks"
_UID_HEADING = "Bus-ID    Name      UID"
_RULE = "=" * 80
_PATHS = 8
_VALUES_AT = 40
_TAB = 8
_UNKNOWN = "???"


def _kind(dasd: Dasd) -> str:
    return f"{dasd.discipline} (ESE)" if dasd.ese else dasd.discipline


def _sizes(dasd: Dasd) -> tuple[str, str, str]:
    """Block size, size and number of blocks as they are printed."""
    if not dasd.sectors:
        return "", "", ""
    block = str(dasd.block_size) if dasd.block_size else _UNKNOWN
    return block, f"{dasd.megabytes}MB", _UNKNOWN if dasd.blocks is None else str(dasd.blocks)


def table_lines(dasd: Dasd) -> list[str]:
    """The whole table, when there is one DASD."""
    return [_HEADING, _RULE, _line(dasd, dasd.name)]


def _line(dasd: Dasd, name: str) -> str:
    if dasd.status == "offline":
        return f"{name:<8}  offline"
    if dasd.status == "alias":
        return f"{name:<8}  alias {dasd.discipline:>26}"
    if dasd.status == "secondary":
        return f"{name:<8}  secondary {'':<8} {dasd.discipline:>13}"
    major, _, minor = dasd.number.partition(":")
    block, size, blocks = _sizes(dasd)
    return (
        f"{name:<8}  {dasd.status:<6}{'(ro)' if dasd.readonly else '':<2}  {dasd.disk:<8}  {major:<2}:{minor:<2}   "
        f"{_kind(dasd):<11}  {block:<4}   {size:<8}  {blocks}"
    )


def _uid_line(dasd: Dasd, name: str) -> str:
    word = dasd.status if dasd.status in ("offline", "alias", "secondary") else dasd.disk
    return f"{name:<8}  {word:<10}  {dasd.uid}"


def _compatible_line(dasd: Dasd, name: str) -> str:
    if dasd.status in ("offline", "alias"):
        return f"{name}({dasd.discipline}) : {dasd.status}"
    major, _, minor = dasd.number.partition(":")
    block, _, blocks = _sizes(dasd)
    state = f"active at blocksize {block}, {blocks} blocks, {dasd.megabytes} MB" if dasd.sectors else dasd.status
    where = f"({major or 0:>3}:{minor or 0:>3})"
    return f"{name}({dasd.discipline:<4}) at {where} is {dasd.disk:<7}{'(ro)' if dasd.readonly else '':>4}: {state}"


def _long_lines(host: Host, dasd: Dasd, name: str) -> str:
    more = details(host.sysfs, dasd.name)
    block, size, blocks = _sizes(dasd)
    values = {
        "status:": dasd.status,
        "type: ": _kind(dasd),
        "blksz:": block,
        "size: ": size,
        "blocks:": blocks,
        "extent_size:": more["extent_size"],
        "logical_capacity:": more["logical_capacity"],
        "space_allocated:": more["space_allocated"],
        "use_diag:": more["use_diag"],
        "readonly:": str(int(dasd.readonly)),
        "eer_enabled:": more["eer_enabled"],
        "erplog:": more["erplog"],
        "hpf:": more["hpf"],
        "uid:  ": dasd.uid,
        "fc_security: ": more["fc_security"],
        **{f"{kind}: ": _chpids(more.get(kind, "")) for kind in ("paths_installed", *PATH_KINDS)},
        "copy_pairs:": more["copy_pair"],
    }
    if dasd.status == "offline":  # what only a disk has is left out
        only = ("type: ", "blksz:", "size: ", "blocks:", "fc_security: ", "copy_pairs:")
        values = {key: value for key, value in values.items() if key not in only}
    if dasd.status != "active" or not dasd.disk:
        for key in ("blksz:", "size: ", "blocks:") if dasd.status != "n/f" else ():
            values.pop(key, None)
    if dasd.status in ("offline", "alias", "secondary"):
        for key in ("extent_size:", "logical_capacity:", "space_allocated:"):
            values.pop(key)
        head = name
    else:
        head = f"{name}/{dasd.disk}/{dasd.number}"
    return "\n".join([head, *(f"  {key}{_tabs(key)}{value}" for key, value in values.items()), ""])


def _tabs(key: str) -> str:
    """The tabs from behind an indented key to the column of the values."""
    return "\t" * -(-(_VALUES_AT - 2 - len(key)) // _TAB)


def _chpids(paths: str) -> str:
    found = paths.split()
    return " ".join([*found, *[" "] * (_PATHS - len(found))])


def _as_dict(host: Host, dasd: Dasd, long: bool) -> dict[str, object]:
    return {
        **asdict(dasd),
        "status": dasd.status,
        "blocks": dasd.blocks,
        "megabytes": dasd.megabytes,
        **(details(host.sysfs, dasd.name) if long else {}),
    }


@click.command()
@click.argument("ranges", metavar="[BUS-ID...]", nargs=-1, shell_complete=complete_device)
@click.option("-a", "--offline", is_flag=True, help="Also those that are offline.")
@click.option("-b", "--base", is_flag=True, help="Only base devices, no aliases.")
@click.option("-s", "--short", is_flag=True, help="Only the last four digits of each bus id.")
@click.option("-u", "--uid", is_flag=True, help="Show the UIDs, in their order.")
@click.option("-l", "--long", is_flag=True, help="Show all that is known of each.")
@click.option("-c", "--compat", is_flag=True, help="One sentence for each, as old versions of lsdasd printed it.")
@host_options
def lsdasd(
    host: Host,
    as_json: bool,
    ranges: tuple[str, ...],
    offline: bool,
    base: bool,
    short: bool,
    uid: bool,
    long: bool,
    compat: bool,
) -> None:
    """List the DASDs with their disks, sizes and states.

    Options and columns are those of s390-tools; BUS-ID may also be a range.

    \b
    Examples:
      pyvfio lsdasd --machine z15-lpar
      pyvfio lsdasd -a 0.0.0100-0.0.01ff
      pyvfio lsdasd -l 013f
    """
    if uid and long:
        raise click.UsageError("--uid and --long are two tables.")
    wanted = ChannelRanges.parse(ranges)
    found = [
        dasd
        for dasd in dasds(host.sysfs)
        if (dasd.online or offline) and (not wanted or dasd.name in wanted) and not (base and dasd.status == "alias")
    ]
    ranks = {"offline": (0, ""), "alias": (1, "a"), "secondary": (1, "b")}
    found.sort(
        key=lambda dasd: (len(dasd.uid), dasd.uid) if uid else ranks.get(dasd.status, (len(dasd.disk), dasd.disk))
    )
    if as_json:
        print_json([_as_dict(host, dasd, long) for dasd in found])
        return
    named = [(dasd, dasd.name.rpartition(".")[2] if short else dasd.name) for dasd in found]
    if compat:
        print_lines(_compatible_line(dasd, name) for dasd, name in named)
    elif long:
        print_lines(_long_lines(host, dasd, name) for dasd, name in named)
    else:
        click.echo(_UID_HEADING if uid else _HEADING)
        click.echo(_RULE)
        print_lines((_uid_line if uid else _line)(dasd, name) for dasd, name in named)
