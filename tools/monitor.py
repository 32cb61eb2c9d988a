"""``pyvfio monitor``: what happens to devices, as it happens."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import time
from collections.abc import Callable, Iterable

import click

from pyvfio.errors import BadAddress, NoSuchDevice
from pyvfio.host import Host
from pyvfio.uevent import UeventStream
from pyvfio.watch import Change, Watch, read_event
from pyvfio_tools.complete import complete_device, complete_subsystem
from pyvfio_tools.options import host_options

__all__ = ["monitor"]

_SOURCES = {"udev": "udev", "kernel": "netlink"}
_LATER = ("block", "ccw", "css", "mdev", "mdev_bus", "net", "pci", "vfio", "vfio-dev")
"""What may be waited for although no driver has made it yet."""
_SETS = ("bus", "class", "drivers", "module", "queues", "slab", "slots", "workqueue")
"""What the kernel sends events of that are neither of a bus nor of a class (``kset_create_and_add``)."""


@click.command()
@click.argument("devices", metavar="[DEV]...", nargs=-1, shell_complete=complete_device)
@click.option(
    "--bus",
    "subsystems",
    multiple=True,
    shell_complete=complete_subsystem,
    help="Only this subsystem (pci, css, ccw, mdev, net, vfio, ...).",
)
@click.option(
    "--source",
    type=click.Choice(list(_SOURCES)),
    default=None,
    help="Whose events: udev's, when its rules have run, or the kernel's own. Default: udev's where it runs.",
)
@click.option("--raw", is_flag=True, help="Print each uevent with its variables, and no words.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=None,
    help="Stop after so many seconds. Default: until interrupted.",
)
@click.option("--count", type=click.IntRange(min=1), default=None, help="Stop after so many lines.")
@host_options
def monitor(
    host: Host,
    as_json: bool,
    devices: tuple[str, ...],
    subsystems: tuple[str, ...],
    source: str | None,
    raw: bool,
    seconds: float | None,
    count: int | None,
) -> None:
    """Print what happens to devices as it happens: other drivers, mediated devices, network and block children, nodes.

    An unbind and the bind that follows it are one line. With --json each line is an object, with the uevents that it
    was read from. DEV keeps only what is about these devices, which need not be there yet.

    \b
    Examples:
      pyvfio monitor
      pyvfio monitor 0011:00:00.0 --json
      pyvfio monitor --bus mdev --bus vfio --source kernel
    """
    if seconds is not None and math.isnan(seconds):
        raise click.BadParameter("'nan' is not a number of seconds.", param_hint="'--seconds'")
    _check_subsystems(host, subsystems)
    deadline = None if seconds is None else time.monotonic() + seconds
    names = [_name(host, device) for device in devices]
    with contextlib.ExitStack() as stack:
        stream = _stream(stack, host, source, subsystems)
        if raw:
            stack.callback(stream.close)
            if names:
                raise click.UsageError("--raw prints the events of all devices; --bus chooses among them")
            take: Callable[[float | None], object | None] = functools.partial(read_event, stream)
        else:
            watch = stack.enter_context(Watch(host, devices=names, stream=stream))
            take = watch.read
        if not as_json:
            click.echo("waiting for events (Ctrl-C ends)", err=True)
        seen = _lines(take, deadline, count, as_json)
        if not raw and (count is None or seen < count):
            for change in watch.rest():
                click.echo(_line(change, as_json))


def _lines(
    take: Callable[[float | None], object | None], deadline: float | None, count: int | None, as_json: bool
) -> int:
    seen = 0
    while count is None or seen < count:
        found = take(None if deadline is None else max(0.0, deadline - time.monotonic()))
        if found is None:
            if deadline is not None and time.monotonic() >= deadline:
                break
            continue
        seen += 1
        click.echo(_line(found, as_json))
    return seen


def _line(found: object, as_json: bool) -> str:
    if isinstance(found, Change):
        return json.dumps(found.as_dict()) if as_json else f"{found.seqnum:>7} {found}"
    properties: dict[str, str] = dict(getattr(found, "properties", {}))
    return json.dumps(properties) if as_json else f"{getattr(found, 'seqnum', 0):>7} {found}"


def _check_subsystems(host: Host, subsystems: Iterable[str]) -> None:
    """Refuse what no event would ever be of."""
    buses, classes = host.buses(), host.sysfs.names("/sys/class")
    for name in subsystems:
        if name not in {*buses, *classes, *_LATER, *_SETS}:
            raise click.BadParameter(
                f"no bus or class {name!r}. Buses: {', '.join(buses)}. Classes: {', '.join(classes)}.",
                param_hint="'--bus'",
            )


def _name(host: Host, text: str) -> str:
    """The address that a text means; as it stands when nothing of this name is there yet."""
    try:
        return host.device(text).name
    except NoSuchDevice as error:
        return error.obj or text
    except BadAddress as error:
        raise click.BadParameter(str(error.cause), param_hint="'DEV'") from error


def _stream(stack: contextlib.ExitStack, host: Host, source: str | None, subsystems: tuple[str, ...]) -> UeventStream:
    if source is not None and host.name == "kernel":
        host = stack.enter_context(Host("kernel", uevents=_SOURCES[source]))
    elif source == "udev":
        raise click.UsageError(f"backend {host.name} has no udev, only the kernel's own events (--source kernel)")
    return host.uevents(subsystems)
