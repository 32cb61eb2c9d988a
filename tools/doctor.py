"""``pyvfio doctor``: is this host ready for VFIO?"""

from __future__ import annotations

import re
from dataclasses import asdict

import click

from pyvfio.doctor import OK, PROBLEM, WARNING, examine
from pyvfio.host import Host
from pyvfio_tools.acting import journal_directory
from pyvfio_tools.options import host_options
from pyvfio_tools.output import print_json

__all__ = ["doctor"]

_COLOURS = {OK: "green", WARNING: "yellow", PROBLEM: "red"}
_PROBLEM_EXIT = 13
_SIZE = re.compile(r"(\d+)\s*([KMGT]?)i?B?\Z", re.IGNORECASE)
_UNITS = "KMGT"


def _size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    match = _SIZE.match(value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is no size: a number of bytes, or with K, M, G or T (4G)")
    return int(match[1]) << 10 * (_UNITS.find(match[2].upper()) + 1 if match[2] else 0)


@click.command()
@click.option(
    "--need",
    metavar="SIZE",
    default=None,
    callback=_size,
    help="How much memory a program is going to map for DMA (4G): compared with limits and huge pages.",
)
@host_options
def doctor(host: Host, as_json: bool, need: int | None) -> int:
    """Check whether this host is ready for VFIO; each line is OK, warning or problem, with the next step.

    A problem means that VFIO will fail, or that a device is in a state in which nobody can use it: exit code 13. A
    warning is for what fails for some, or is less safe than it could be: exit code 0.

    \b
    Examples:
      pyvfio doctor
      pyvfio doctor --need 16G
      pyvfio doctor --json
    """
    remarks = examine(host, need=need, journal=journal_directory())
    if as_json:
        print_json([asdict(remark) for remark in remarks])
    else:
        for remark in remarks:
            status = click.style(f"{remark.status:<8}", fg=_COLOURS[remark.status])
            click.echo(f"{status} {remark.check}: {remark.detail}")
            if remark.next_step:
                click.echo(f"         next: {remark.next_step}")
    return _PROBLEM_EXIT if any(remark.status == PROBLEM for remark in remarks) else 0
