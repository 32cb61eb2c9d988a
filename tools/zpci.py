"""``pyvfio zpci``: the PCI functions of IBM Z: what they are, configuring, resetting, measuring and watching them."""

from __future__ import annotations

import contextlib
import json
import math
import time

import click

from pyvfio.binding.zpci_settings import WAYS, plan_power, plan_reset
from pyvfio.errors import NoSuchDevice, PyvfioError
from pyvfio.host import Host
from pyvfio.zpci.known import Known, device_with, find_functions, known_functions
from pyvfio_tools.acting import Acting, acting_options
from pyvfio_tools.commands import Commands
from pyvfio_tools.complete import complete_function
from pyvfio_tools.options import host_options
from pyvfio_tools.output import print_json, print_pairs, print_table
from pyvfio_tools.zpci_table import HEADINGS, details, document, measurements, row

__all__ = ["zpci"]

_NAMES = click.argument("names", metavar="DEV...", nargs=-1, required=True, shell_complete=complete_function)


@click.group(cls=Commands)
def zpci() -> None:
    """PCI functions of IBM Z and LinuxONE, also those that Linux has not configured.

    DEV is a device in any spelling (0030:00:00.0, eth0), or a hexadecimal number: a FID, a UID or a function handle.
    fid=21, uid=30 and fh=80020002 leave no doubt.

    \b
    Examples:
      pyvfio zpci show --machine z15-lpar
      pyvfio zpci disable 0060:00:00.0 --dry-run --machine z15-lpar
      pyvfio zpci events --json
    """


def _missing(known: Known) -> None:
    for source, reason in known.missing.items():
        click.echo(f"not known here: what {source} tells: {reason}", err=True)


@zpci.command()
@click.argument("names", metavar="[DEV]...", nargs=-1, shell_complete=complete_function)
@host_options
def show(host: Host, as_json: bool, names: tuple[str, ...]) -> None:
    """Show all functions in a table, or all that is known of some.

    The table has UID and FID (which stay), the handle of now, the function type, the channel (PCHID), and the state:
    standby, configured, enabled, or error when the function does not answer. What cannot be read here is said.

    \b
    Examples:
      pyvfio zpci show --machine z15-lpar
      pyvfio zpci show 0060:00:00.0 --machine z15-lpar
      pyvfio zpci show fid=60 --json --machine z15-lpar
    """
    known = known_functions(host, find_functions(host, names) if names else None)
    if as_json:
        print_json(document(known))
        return
    if names:
        for number, one in enumerate(known.functions):
            if number:
                click.echo()
            print_pairs(details(one))
    else:
        print_table(HEADINGS, map(row, known.functions), empty="no PCI functions of IBM Z")
    _missing(known)


@zpci.command()
@_NAMES
@acting_options
def enable(host: Host, acting: Acting, names: tuple[str, ...]) -> None:
    """Configure functions that are in standby: Linux enables them, finds their devices and looks for drivers.

    This is what power 1 does in the slot of a function. All of it is done, or nothing. Enabling gives the function
    a new handle; its FID and UID stay.

    \b
    Examples:
      pyvfio zpci enable 60 --machine z15-lpar
      pyvfio zpci enable fid=21 fid=22 --dry-run
    """
    _power(host, acting, names, True)


@zpci.command()
@_NAMES
@acting_options
def disable(host: Host, acting: Acting, names: tuple[str, ...]) -> None:
    """Deconfigure functions: their devices go, and they are in standby, for other partitions too.

    This is what power 0 does in the slot of a function. A function that is in use (a mounted disk, an interface with
    an address, a program that has it through VFIO) is refused with the evidence. All of it is done, or nothing; the
    inverse gives a function its driver and its override again.

    \b
    Examples:
      pyvfio zpci disable 0060:00:00.0 --machine z15-lpar
      pyvfio zpci disable fid=21 --dry-run
    """
    _power(host, acting, names, False)


def _power(host: Host, acting: Acting, names: tuple[str, ...], on: bool) -> None:
    fids = find_functions(host, names)
    done = acting.carry_out(plan_power(host, fids, on))
    if done and not acting.as_json:
        _show_now(host, fids)


def _show_now(host: Host, fids: list[int]) -> None:
    """The functions after what was done, as evidence."""
    try:
        print_table(HEADINGS, map(row, known_functions(host, fids).functions))
    except PyvfioError as error:  # it is done all the same
        click.echo(f"pyvfio: they cannot be listed: {error}", err=True)


@zpci.command()
@click.argument("name", metavar="DEV", shell_complete=complete_function)
@click.option(
    "--how",
    type=click.Choice(WAYS),
    default="recover",
    show_default=True,
    help="recover: as zpcictl --reset; firmware: as zpcictl --reset-fw; function: below the driver, as sysfs' reset.",
)
@acting_options
def reset(host: Host, acting: Acting, name: str, how: str) -> None:
    """Reset a function, and see whether its driver has it again and it answers.

    \b
    recover   report an error, take the device away, disable and enable the function, find the device again
    firmware  have the machine reset it; Linux recovers it in place, if its driver can
    function  disable and enable it below its driver

    \b
    Examples:
      pyvfio zpci reset 0060:00:00.0 --machine z15-lpar --dry-run
      pyvfio zpci reset fid=22 --how function
    """
    (fid,) = find_functions(host, [name])
    done = acting.carry_out(plan_reset(host, fid, how))
    if done and not acting.as_json:
        _show_now(host, [fid])


@zpci.command()
@click.argument("name", metavar="DEV", shell_complete=complete_function)
@click.option("--on/--off", "on", default=None, help="Have the function measured, or not.")
@click.option("--restart", "again", is_flag=True, help="Begin anew: all counters at zero. After a reset it is needed.")
@host_options
def statistics(host: Host, as_json: bool, name: str, on: bool | None, again: bool) -> None:
    """Show what the machine has measured of a function: loads, stores, refreshes, bytes; and what Linux has mapped.

    Linux has a function measured from when it is enabled. What opens it through VFIO resets it, and its measurement
    ends with that, unnoticed: --restart begins anew.

    \b
    Examples:
      pyvfio zpci statistics 0040:00:00.0 --machine lab-s390x
      pyvfio zpci statistics eth0 --restart
    """
    from pyvfio.zpci.statistics import measure, read_statistics, restart

    if again and on is not None:
        raise click.UsageError("--restart is --off and then --on: it goes with neither")
    (fid,) = find_functions(host, [name])
    function = device_with(host.sysfs, fid)
    if function is None:
        raise NoSuchDevice(
            "read the measurements",
            f"fid {fid:08x}",
            cause="it has no device: it is in standby, or was not usable",
            next_step=f"pyvfio zpci enable {fid:x} configures it",
        )
    if again:
        restart(function)
    elif on is not None:
        measure(function, on)
    found = read_statistics(function)
    if as_json:
        from dataclasses import asdict

        print_json({"device": function.name, "fid": fid, **asdict(found)})
        return
    print_pairs([("device", function.name), *measurements(found)])


@zpci.command()
@click.argument("names", metavar="[DEV]...", nargs=-1, shell_complete=complete_function)
@click.option(
    "--seconds",
    "--timeout",
    type=click.FloatRange(min=0),
    default=None,
    help="Stop after so many seconds. Default: until interrupted.",
)
@click.option("--count", type=click.IntRange(min=1), default=None, help="Stop after so many lines.")
@host_options
def events(host: Host, as_json: bool, names: tuple[str, ...], seconds: float | None, count: int | None) -> None:
    """Print what happens to functions as it happens: they come and go, fail, recover, get drivers and handles.

    It is read from uevents, and from the kernel's own notes in debugfs (s390dbf/pci_msg), which have the machine's
    event codes. With --json each line is an object.

    \b
    Examples:
      pyvfio zpci events
      pyvfio zpci events fid=21 --json --seconds 60
    """
    if seconds is not None and math.isnan(seconds):
        raise click.BadParameter("'nan' is not a number of seconds.", param_hint="'--seconds'")
    from pyvfio.zpci.function_watch import FunctionWatch

    fids = find_functions(host, names) if names else []
    deadline = None if seconds is None else time.monotonic() + seconds
    seen = 0
    with contextlib.closing(FunctionWatch(host, fids)) as watch:
        if not as_json:
            for reason in watch.missing:
                click.echo(f"not seen here: {reason}", err=True)
            click.echo("waiting for events (Ctrl-C ends)", err=True)
        while count is None or seen < count:
            event = watch.read(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if event is None:
                if deadline is not None and time.monotonic() >= deadline:
                    break
                continue
            seen += 1
            click.echo(json.dumps(event.as_dict()) if as_json else str(event))
        for event in watch.rest() if count is None else ():
            click.echo(json.dumps(event.as_dict()) if as_json else str(event))
