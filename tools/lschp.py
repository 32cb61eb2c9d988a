"""``pyvfio lschp``: the channel paths, in the table format of s390-tools."""

from __future__ import annotations

import click

from pyvfio.channel_paths import ChannelPath, channel_paths
from pyvfio.host import Host
from pyvfio_tools.options import host_options
from pyvfio_tools.output import print_json
from pyvfio_tools.record import print_lines

__all__ = ["lschp"]

_HEADING = "CHPID  Vary  Cfg.  Type  Cmg  Shared  PCHID"
_RULE = "=" * len(_HEADING)
_NOT_TOLD = "-"


def _number(value: int | None) -> str:
    return _NOT_TOLD if value is None else f"{value:d}"


def _line(path: ChannelPath) -> str:
    kind = _NOT_TOLD if path.type is None else f"{path.type:02x}"
    pchid = f" {_NOT_TOLD}"
    if path.chid is not None:
        pchid = f" {path.chid:04x} " if path.external else f"({path.chid:04x})"
    return (
        f"{path.id!s:<5}  {int(path.online):<4}  {_number(path.configured):<4}  {kind:<4}  {_number(path.cmg):<3}  "
        f"{_number(path.shared):<6} {pchid}"
    )


@click.command()
@host_options
def lschp(host: Host, as_json: bool) -> None:
    """List the channel paths, in the table format of s390-tools.

    Vary is 1 when the host uses the path. Cfg. is 0 standby, 1 configured, 2 reserved, 3 not recognised. PCHID stands
    in brackets when it is the id of an internal channel. What the machine does not tell is shown as "-".

    \b
    Examples:
      pyvfio lschp
      pyvfio lschp --machine z15-lpar --json
    """
    found = channel_paths(host.sysfs)
    if as_json:
        print_json([path.as_dict() for path in found])
        return
    print_lines([_HEADING, _RULE, *map(_line, found)])
