"""``pyvfio lscss``: the subchannels, with the options and in the table format of s390-tools."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import click

from pyvfio.channel_ranges import ChannelRanges
from pyvfio.host import Host
from pyvfio.subchannel_facts import (
    CHSC_TYPE,
    EADM_TYPE,
    SubchannelFacts,
    defunct_devices,
    read_subchannels,
)
from pyvfio_tools.complete import complete_device
from pyvfio_tools.options import host_options
from pyvfio_tools.output import print_json
from pyvfio_tools.record import Record, print_lines

__all__ = ["lscss", "table"]

_OWN_DRIVER, _VFIO_DRIVER = "io_subchannel", "vfio_ccw"
_SHORT = "0.0."


@dataclass(frozen=True, slots=True)
class _Options:
    """What shall be shown, and how."""

    ranges: ChannelRanges
    by_device: bool = False
    types: tuple[tuple[str, str], ...] = ()
    short: bool = False
    uppercase: bool = False
    avail: bool = False
    vpm: bool = False

    def masks(self) -> list[tuple[str, int]]:
        """The columns of the path masks and of the CHPIDs."""
        widths = [("POM", 3), ("VPM", 3)] if self.vpm else [("POM", 4)]
        return [("PIM", 3), ("PAM", 3), *widths, ("CHPIDs", 17)]

    def io_columns(self) -> list[tuple[str, int]]:
        """The columns of the table of I/O subchannels."""
        begin = [("Device", 8), ("Subchan.", 9), ("DevType", 7), ("CU Type", 7), ("Use", 4)]
        return [*begin, *self.masks(), *([("Avail.", 6)] if self.avail else [])]

    def wants(self, name: str) -> bool:
        """Whether the subchannel of this name may be shown."""
        if self.short and not name.startswith(_SHORT):
            return False
        return self.by_device or not self.ranges or name in self.ranges

    def wants_device(self, facts: SubchannelFacts) -> bool:
        """Whether its device is among those that are asked for."""
        if self.by_device and self.ranges and (facts.device == "none" or facts.device not in self.ranges):
            return False
        if self.short and not facts.device.startswith(_SHORT):
            return False
        return not self.types or (facts.attached and _is_one(facts.devtype, self.types))

    def id(self, text: str) -> str:
        """An address as it is printed."""
        return text.removeprefix(_SHORT) if self.short else text


def _is_one(devtype: str, types: tuple[tuple[str, str], ...]) -> bool:
    kind, _, model = _devtype(devtype).partition("/")
    return any(kind == want and (not of or model == of) for want, of in types)


def _devtype(text: str) -> str:
    return "0000/00" if text == "n/a" else text


def _types(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[tuple[str, str], ...]:
    """``TYPE[/MODEL],...`` as pairs of four and two digits; no model is an empty text."""
    found = []
    for text in (value or "").split(",") if value is not None else ():
        kind, slash, model = text.strip().partition("/")
        try:
            found.append((f"{int(kind, 16):04x}", f"{int(model, 16):02x}" if slash else ""))
        except ValueError:
            raise click.BadParameter(f"{text!r} is not a device type such as 3390 or 3390/0c") from None
    return tuple(found)


def _rows(host: Host, options: _Options, *, drivers: bool = False) -> Iterator[SubchannelFacts]:
    """The I/O subchannels and the devices without one that shall be shown."""
    found = read_subchannels(
        host.sysfs, wanted=options.wants, availability=options.avail, vpm=options.vpm, drivers=drivers
    )
    yield from filter(options.wants_device, found)
    if options.by_device or not options.ranges:
        yield from filter(options.wants_device, defunct_devices(host.sysfs, availability=options.avail))


def table(host: Host) -> Iterator[str]:
    """The lines of the table of I/O subchannels, without any option."""
    return _io_lines(host, _Options(ChannelRanges()))


def _io_lines(host: Host, options: _Options) -> Iterator[str]:
    record = Record(options.io_columns())
    yield record.heading
    yield record.rule
    for facts in _rows(host, options):
        values = [
            options.id(facts.device),
            options.id(facts.name) or "n/a",
            _devtype(facts.devtype),
            facts.cutype,
            "yes" if facts.online else "",
            *_masks(facts, options),
        ]
        if options.avail:
            values.append(facts.availability)
        line = record.line(*values)
        if options.uppercase:
            line = line.upper()
        if facts.driver not in ("", _OWN_DRIVER):
            line += f" {facts.driver}" + "".join(f" {name}" for name in facts.mdevs)
        yield line


def _masks(facts: SubchannelFacts, options: _Options) -> list[str]:
    chpids = f"{facts.chpids[:8]} {facts.chpids[8:]}" if facts.chpids else ""
    return [facts.pim, facts.pam, facts.pom, *([facts.vpm] if options.vpm else []), chpids]


def _vfio_lines(host: Host, options: _Options) -> Iterator[str]:
    record = Record([("MDEV", 37), ("Subchan.", 9), *options.masks()])
    yield record.heading
    yield record.rule
    for facts in read_subchannels(host.sysfs, wanted=options.wants, vpm=options.vpm):
        if facts.driver == _VFIO_DRIVER:
            name = facts.mdevs[0] if facts.mdevs else "none"
            line = record.line(name, options.id(facts.name), *_masks(facts, options))
            yield line.upper() if options.uppercase else line


def _other_lines(host: Host, options: _Options, kind: int) -> Iterator[str]:
    record = Record([("Device", 8), ("Subchan.", 9)])
    yield record.heading
    yield record.rule
    if options.types or (options.by_device and options.ranges):
        return  # what has no device matches none
    for facts in read_subchannels(host.sysfs, types=(kind,), wanted=options.wants):
        line = record.line("n/a", options.id(facts.name))
        yield line.upper() if options.uppercase else line


def _as_dict(facts: SubchannelFacts) -> dict[str, object]:
    """The facts of one line as plain data."""
    return {
        "device": None if facts.device in ("", "none") else facts.device,
        "subchannel": facts.name or None,
        "type": facts.type,
        "driver": facts.driver or None,
        "devtype": _devtype(facts.devtype) if facts.attached else None,
        "cutype": facts.cutype if facts.attached else None,
        "online": facts.online if facts.attached else None,
        "availability": facts.availability or None,
        "pim": facts.pim,
        "pam": facts.pam,
        "pom": facts.pom,
        "vpm": facts.vpm or None,
        "chpids": facts.chpids,
        "mdevs": list(facts.mdevs),
    }


def _print_json(host: Host, options: _Options, io: bool, vfio: bool, others: list[int]) -> None:
    rows = list(_rows(host, options, drivers=True)) if io or vfio else []
    if vfio:
        rows = [facts for facts in rows if facts.driver == _VFIO_DRIVER]
    if others and not options.types and not (options.by_device and options.ranges):
        rows += read_subchannels(host.sysfs, types=others, wanted=options.wants, drivers=True)
    print_json([_as_dict(facts) for facts in rows])


@click.command()
@click.argument("ranges", metavar="[RANGE...]", nargs=-1, shell_complete=complete_device)
@click.option("-s", "--short", is_flag=True, help="Only addresses that begin with 0.0., without that.")
@click.option(
    "-t", "--devtype", "types", metavar="TYPE[/MODEL],...", callback=_types, help="Only devices of these types."
)
@click.option("-d", "--devrange", "by_device", is_flag=True, help="RANGE names devices, not subchannels.")
@click.option("--avail", is_flag=True, help="Show whether each device can be used.")
@click.option("--vpm", is_flag=True, help="Show which paths Linux found to work (verified path mask).")
@click.option("-u", "--uppercase", is_flag=True, help="Print in upper case.")
@click.option("--io", is_flag=True, help="Show I/O subchannels (so it is without another of these).")
@click.option("--chsc", is_flag=True, help="Show CHSC subchannels.")
@click.option("--eadm", is_flag=True, help="Show EADM subchannels (storage-class memory).")
@click.option("--vfio", is_flag=True, help="Show the subchannels that vfio_ccw has, with their mediated devices.")
@click.option("-a", "--all", "everything", is_flag=True, help="Show I/O, CHSC and EADM subchannels.")
@host_options
def lscss(
    host: Host,
    as_json: bool,
    ranges: tuple[str, ...],
    types: tuple[tuple[str, str], ...],
    by_device: bool,
    short: bool,
    uppercase: bool,
    avail: bool,
    vpm: bool,
    io: bool,
    chsc: bool,
    eadm: bool,
    vfio: bool,
    everything: bool,
) -> None:
    """List the subchannels with their devices, types, paths and use.

    Options and columns are those of s390-tools. A subchannel that another driver than io_subchannel has is named with
    this driver and its mediated devices at the end of the line. RANGE is an address or FROM-TO, with commas between
    several.

    \b
    Examples:
      pyvfio lscss
      pyvfio lscss --machine z15-lpar --avail --vpm
      pyvfio lscss -d 0.0.1220-0.0.1222,1800 --machine z15-lpar
      pyvfio lscss -t 3390,1732/03 --json
      pyvfio lscss --vfio
    """
    io, chsc, eadm = io or everything, chsc or everything, eadm or everything
    if vfio and (io or by_device or types or avail):
        raise click.UsageError("--vfio has no devices to show: it does not go with --io, --all, -d, -t or --avail")
    io = io or not (chsc or eadm or vfio)
    # JSON has no columns to save: a null there would read as "unknown"
    options = _Options(
        ChannelRanges.parse(ranges), by_device, types, short, uppercase, avail or as_json, vpm or as_json
    )
    if as_json:
        _print_json(host, options, io, vfio, [kind for kind, on in ((CHSC_TYPE, chsc), (EADM_TYPE, eadm)) if on])
        return
    if not host.sysfs.exists("/sys/bus/css"):
        click.echo("this host has no channel subsystem (no /sys/bus/css)", err=True)
        return
    tables = [
        ("IO Subchannels and Devices:", io, _io_lines(host, options)),
        ("CHSC Subchannels:", chsc, _other_lines(host, options, CHSC_TYPE)),
        ("EADM Subchannels:", eadm, _other_lines(host, options, EADM_TYPE)),
        ("I/O Subchannels used for VFIO:", vfio, _vfio_lines(host, options)),
    ]
    shown = [(title, lines) for title, on, lines in tables if on]
    for number, (title, lines) in enumerate(shown):
        if len(shown) > 1:
            click.echo(("\n" if number else "") + title)
        print_lines(lines)
