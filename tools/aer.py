"""``pyvfio aer``: errors of PCI Express: who reports them, what there is of them now, making and watching them."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from pyvfio.errors import NotAvailable
from pyvfio.host import Host
from pyvfio.pci.aer import AerRegisters, DpcRegisters, Severity, error_names, find_error
from pyvfio.pci.error_counters import ErrorCounters
from pyvfio.pci.error_state import FunctionErrors, TreeErrors, look_at
from pyvfio.pci.tlp import rid_text
from pyvfio_tools.acting import Acting, acting_options
from pyvfio_tools.commands import Commands
from pyvfio_tools.complete import complete_device
from pyvfio_tools.options import device_argument, host_options
from pyvfio_tools.output import print_json, print_pairs, print_table

if TYPE_CHECKING:
    from pyvfio.pci.device_error import DeviceError

__all__ = ["aer"]

_PATIENCE, _LOOK = 2.0, 0.02
"""Seconds: how long an error that was injected is waited for, and how often it is looked for."""
_WORD = re.compile(r"(?:0[xX])?[0-9a-fA-F]{1,8}")


@click.group(cls=Commands)
def aer() -> None:
    """Show, inject and watch errors of PCI Express (advanced error reporting).

    \b
    Examples:
      pyvfio aer list --machine lab-x86
      pyvfio aer show 0d:00.0 --machine lab-x86
      pyvfio aer inject 0d:00.0 COMP_TIME --machine lab-x86
    """


@aer.command("list")
@host_options
def list_(host: Host, as_json: bool) -> None:
    """List the functions whose errors Linux counts, with how many they reported and what is noted now.

    Root ports and event collectors count the messages that came to them, too. A function without a line has no advanced
    error reporting, or firmware keeps its errors to itself.

    \b
    Examples:
      pyvfio aer list --machine lab-x86
      pyvfio aer list --json
    """
    found = [one for one in (look_at(host.sysfs, function.path) for function in host.functions()) if one.counters]
    if as_json:
        print_json([_plain(one) for one in found])
        return
    rows = [
        (one.name, *_totals(one.counters), _messages(one.counters), _noted(one), _driver(host, one))
        for one in found
        if one.counters is not None
    ]
    headings = ("DEVICE", "COR", "NONFATAL", "FATAL", "MESSAGES", "NOTED", "DRIVER")
    print_table(headings, rows, empty="Linux counts errors of no function here")


def _driver(host: Host, one: FunctionErrors) -> str:
    return host.function(one.address).driver or "-"


def _totals(counters: ErrorCounters) -> tuple[str, ...]:
    return tuple(str(counters.totals.get(severity, 0)) for severity in Severity)


def _messages(counters: ErrorCounters) -> str:
    return "/".join(str(counters.messages[severity]) for severity in Severity) if counters.messages else "-"


def _noted(one: FunctionErrors) -> str:
    if not one.answers:
        return "does not answer"
    if one.containment is not None and one.containment.triggered:
        return f"contained: {one.containment.reason}"
    if one.registers is None:
        return "-"
    return ", ".join(error.name for error in (*one.registers.uncorrectable, *one.registers.correctable)) or "-"


def _plain(one: FunctionErrors) -> dict[str, object]:
    return {
        "device": one.name,
        "answers": one.answers,
        "counters": None if one.counters is None else one.counters.as_dict(),
        "registers": None if one.registers is None else one.registers.as_dict(),
        "containment": None if one.containment is None else one.containment.as_dict(),
    }


@aer.command()
@device_argument()
@host_options
def show(host: Host, as_json: bool, device: str) -> None:
    """Show the error registers of a function, decoded, the kernel's counters, and the ports above it or its collector.

    Root sees all; others see no registers, as they lie beyond the first 64 bytes of configuration space.

    \b
    Examples:
      pyvfio aer show 0d:00.0 --machine lab-x86
      pyvfio aer show 0000:00:0f.0 --json
    """
    function = host.function(device)
    tree = TreeErrors.look(host.sysfs, function.path)
    own = tree.own
    if own is None or (own.counters is None and own.registers is None and own.containment is None):
        raise NotAvailable(
            "show errors",
            function.name,
            path=function.path,
            cause="it has no advanced error reporting, or this user cannot see it",
            next_step="pyvfio aer list shows the functions that have it",
        )
    ports = [tree.functions[port] for port in tree.ports if port in tree.functions]
    if as_json:
        print_json({**_plain(own), "driver": function.driver, "ports": [_plain(port) for port in ports]})
        return
    print_pairs([("device", own.name), ("driver", function.driver or "none"), *_pairs(own)])
    for port in ports:
        click.echo()
        word = "collector" if port.address == tree.collector else "port"
        print_pairs([(word, port.name), *_pairs(port)])


def _pairs(one: FunctionErrors) -> Iterator[tuple[str, object]]:
    if not one.answers:
        yield "answers", "no"
    if one.registers is not None:
        yield from _register_pairs(one.registers)
    if one.containment is not None:
        yield from _containment_pairs(one.containment)
    if one.counters is not None:
        for severity in Severity:
            counts = one.counters.errors.get(severity, {})
            names = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
            total = one.counters.totals.get(severity, 0)
            yield f"{severity.value} so far", f"{total}" + (f" ({names})" if names else "")
        if one.counters.messages:
            yield "messages", ", ".join(f"{one.counters.messages[s]} {s.value}" for s in Severity)


def _register_pairs(registers: AerRegisters) -> Iterator[tuple[str, object]]:
    for error in registers.uncorrectable:
        first = ", first" if error == registers.first else ""
        masked = ", masked" if registers.mask & error.mask else ""
        yield "noted", f"{error}: {registers.severity_of(error).value}{first}{masked}"
    for error in registers.correctable:
        masked = ", masked" if registers.correctable_mask & error.mask else ""
        yield "noted", f"{error}: correctable{masked}"
    if not registers.uncorrectable and not registers.correctable:
        yield "noted", "nothing"
    if registers.packet is not None:
        yield "packet", registers.packet
        yield "header log", " ".join(f"{word:08x}" for word in registers.header)
    if registers.prefix:
        yield "prefix log", " ".join(f"{word:08x}" for word in registers.prefix)
    names = (("masked", registers.mask, registers.correctable_mask), ("fatal", registers.severity, 0))
    for what, bits, correctable in names:
        plain = AerRegisters(bits, 0, 0, correctable, 0, 0, (0, 0, 0, 0))
        found = [error.name for error in (*plain.uncorrectable, *plain.correctable)]
        yield what, ", ".join(found) or "nothing"
    if registers.root_status is not None and registers.root_source is not None:
        yield (
            "last sources",
            (
                f"uncorrectable {rid_text(registers.root_source >> 16)}, "
                f"correctable {rid_text(registers.root_source & 0xFFFF)}"
            ),
        )


def _containment_pairs(found: DpcRegisters) -> Iterator[tuple[str, object]]:
    enabled = found.enabled
    text = "off" if enabled is None else f"on {Severity.FATAL.message}"
    text += f" and {enabled.message}" if enabled is Severity.NONFATAL else ""
    yield "containment", text + (f"; triggered: {found.reason}" if found.triggered else "")


def _complete_error(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [
        CompletionItem(name, help=find_error(name).words)
        for name in error_names()
        if name.lower().startswith(incomplete.lower())
    ]


def _header(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...]:
    if value is None:
        return ()
    words = value.replace(",", " ").split()
    if len(words) != 4 or not all(map(_WORD.fullmatch, words)):
        cause = f"{value!r}: a header has four words of 32 bits, as in '40000001 0d00000f fee00000 00000000'"
        raise click.BadParameter(cause)
    return tuple(int(word, 16) for word in words)


@aer.command()
@device_argument()
@click.argument("errors", metavar="ERROR...", nargs=-1, required=True, shell_complete=_complete_error)
@click.option(
    "--header", metavar="'W W W W'", callback=_header, help="The packet for the header log: four hexadecimal words."
)
@acting_options
def inject(host: Host, acting: Acting, device: str, errors: tuple[str, ...], header: tuple[int, ...]) -> None:
    """Have Linux believe that a function reported errors, and do all that it does then.

    ERROR is a name of Linux (CmpltTO) or of QEMU (COMP_TIME). An uncorrectable error has the drivers of all functions
    below the same port asked, and a fatal one resets their link; if something uses one of them, this is refused with
    the evidence. It needs the module aer_inject (/dev/aer_inject), which few kernels have. Nothing can be undone.

    \b
    Examples:
      pyvfio aer inject 0d:00.0 RxErr --machine lab-x86
      pyvfio aer inject 0d:00.0 COMP_TIME UNSUP --dry-run --machine lab-x86
    """
    from pyvfio.binding.error_injection import plan_inject

    function = host.function(device)
    plan = plan_inject(function, errors, header)
    before = TreeErrors.look(host.sysfs, function.path)
    if acting.carry_out(plan) and not acting.as_json:
        click.echo(str(_what_came(host, before, function.path)))


def _what_came(host: Host, before: TreeErrors, path: str) -> DeviceError:
    """The error, once the kernel has counted it: it does on a thread of its own."""
    from pyvfio.pci.device_error import describe

    deadline = time.monotonic() + _PATIENCE
    while True:
        found = describe(before, TreeErrors.look(host.sysfs, path))
        if found.severity is not None or time.monotonic() >= deadline:
            return found
        time.sleep(_LOOK)


@aer.command()
@click.argument("devices", metavar="[DEV]...", nargs=-1, shell_complete=complete_device)
@click.option(
    "--seconds",
    "--timeout",
    type=click.FloatRange(min=0),
    default=None,
    help="Stop after so many seconds. Default: until interrupted.",
)
@click.option("--count", type=click.IntRange(min=1), default=None, help="Stop after so many errors.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.01, max=60),
    default=0.5,
    show_default=True,
    metavar="SECONDS",
    help="How often the counters of root ports are looked at.",
)
@host_options
def watch(
    host: Host, as_json: bool, devices: tuple[str, ...], seconds: float | None, count: int | None, interval: float
) -> None:
    """Print the errors of functions as they come: who reported, how bad, which, and what the kernel did.

    It goes by what root ports count, so nobody need own the function; correctable errors are seen, too. DEV keeps only
    those of these functions. With --json each line is an object.

    \b
    Examples:
      pyvfio aer watch
      pyvfio aer watch 0d:00.0 --json --seconds 60 --machine lab-x86
    """
    for value, name in ((seconds, "--seconds"), (interval, "--interval")):
        if value is not None and math.isnan(value):
            raise click.BadParameter("'nan' is not a number of seconds.", param_hint=f"'{name}'")
    from pyvfio.pci.error_poll import HostErrors

    deadline = None if seconds is None else time.monotonic() + seconds
    seen = 0
    with HostErrors(host, [host.function(device).name for device in devices], interval=interval) as errors:
        if not as_json:
            click.echo("waiting for errors (Ctrl-C ends)", err=True)
        while count is None or seen < count:
            error = errors.read(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if error is None:
                break
            seen += 1
            click.echo(json.dumps(error.as_dict()) if as_json else str(error))
