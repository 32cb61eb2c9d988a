"""``pyvfio monitor``: uevents as they happen."""

from __future__ import annotations

import json
import math
import time

import click

from pyvfio.host import Host
from pyvfio_tools.complete import complete_subsystem
from pyvfio_tools.options import host_options

__all__ = ["monitor"]


@click.command()
@click.option(
    "--bus",
    "subsystems",
    multiple=True,
    shell_complete=complete_subsystem,
    help="Only this subsystem (pci, css, ccw, mdev, vfio, ...).",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=None,
    help="Stop after so many seconds. Default: until interrupted.",
)
@click.option("--count", type=click.IntRange(min=1), default=None, help="Stop after so many events.")
@host_options
def monitor(host: Host, as_json: bool, subsystems: tuple[str, ...], seconds: float | None, count: int | None) -> None:
    """Print uevents as they happen; with --json one object a line.

    \b
    Examples:
      pyvfio monitor
      pyvfio monitor --bus mdev --bus vfio --json
    """
    if seconds is not None and math.isnan(seconds):
        raise click.BadParameter("'nan' is not a number of seconds.", param_hint="'--seconds'")
    deadline = None if seconds is None else time.monotonic() + seconds
    seen = 0
    with host.uevents(subsystems) as stream:
        if not as_json:
            click.echo("waiting for uevents (Ctrl-C ends)", err=True)
        while count is None or seen < count:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            event = stream.read(left)
            if event is None:
                if deadline is not None and time.monotonic() >= deadline:
                    return
                continue
            seen += 1
            click.echo(json.dumps(dict(event.properties)) if as_json else f"{event.seqnum:>7} {event}")
