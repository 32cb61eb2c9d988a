"""What the shell offers at <TAB>: the devices, drivers, groups and machines that are there now.

A function here gets click's context, the parameter and the begun word.  Completion never disturbs the prompt: whatever
goes wrong, nothing is offered.
"""

from __future__ import annotations

import functools
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from pyvfio.host import Host

__all__ = [
    "complete_backend",
    "complete_ccw_attribute",
    "complete_channel_path",
    "complete_defined",
    "complete_device",
    "complete_directory",
    "complete_driver",
    "complete_function",
    "complete_group",
    "complete_id",
    "complete_journal",
    "complete_machine",
    "complete_mdev",
    "complete_parent",
    "complete_plugged",
    "complete_slot",
    "complete_subsystem",
    "complete_type",
    "complete_unix_group",
    "complete_user",
]

Pair = tuple[str, str]
"""A word and what the shell may say about it."""
Complete = Callable[[click.Context, click.Parameter, str], "list[CompletionItem[str]]"]

_BUSES = ("pci", "css", "ccw", "mdev")
_NAMED = ("net", "block")


def _items(pairs: Iterable[Pair], incomplete: str) -> list[CompletionItem[str]]:
    from click.shell_completion import CompletionItem  # only needed by a shell

    return [CompletionItem(word, help=text or None) for word, text in pairs if word.startswith(incomplete)]


def _of_host(find: Callable[[Host, click.Context, str], Iterable[Pair]]) -> Complete:
    """Open the host that the words so far name, and offer what `find` finds on it."""

    @functools.wraps(find)
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        from pyvfio_tools.options import open_host

        try:
            backend, machine, plugged = (ctx.params.get(name) for name in ("backend", "machine", "plugged"))
            with open_host(backend, machine, tuple(plugged or ())) as host:
                return _items(find(host, ctx, incomplete), incomplete)
        except Exception:
            return []

    return complete


def complete_backend(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The installed backends."""
    from pyvfio.backend import backend_names

    return _items(((name, "") for name in backend_names()), incomplete)


def complete_machine(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The installed machines, or files when a path is begun."""
    from click.shell_completion import CompletionItem

    from pyvfio import plugins

    if "/" in incomplete or "." in incomplete:
        return [CompletionItem(incomplete, type="file")]
    names = sorted(name for provide in plugins.load_all("pyvfio.machines") for name in provide())
    return _items(((name, "") for name in names), incomplete)


def complete_device(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Addresses on the bus that ``--bus`` names (default: all but css), interfaces and disks; files below /."""
    if incomplete.startswith("/"):
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]
    return _devices(ctx, param, incomplete)


@_of_host
def _devices(host: Host, ctx: click.Context, incomplete: str) -> Iterator[Pair]:
    bus = ctx.params.get("bus")
    for one in (bus,) if bus in _BUSES else ("pci", "ccw", "mdev"):
        for name in host.sysfs.names(f"/sys/bus/{one}/devices"):
            if name.startswith(incomplete):
                yield name, host.sysfs.link_name(f"/sys/bus/{one}/devices/{name}/driver") or "no driver"
    for kind in _NAMED:
        for name in host.sysfs.names(f"/sys/class/{kind}"):
            if incomplete and name.startswith(incomplete):
                yield name, kind


@_of_host
def complete_function(host: Host, ctx: click.Context, incomplete: str) -> Iterator[Pair]:
    """The functions of IBM Z by address, or by FID while they have none, with their driver or state.

    Who begins with ``fid=``, ``uid=`` or ``fh=`` gets these numbers.
    """
    from pyvfio.zpci.known import known_functions

    kind = incomplete.partition("=")[0] if "=" in incomplete else ""
    for one in known_functions(host).functions:
        text = one.driver or one.state
        number = {"": None, "fid": one.fid, "uid": one.uid, "fh": one.fh}.get(kind)
        if number is not None:
            yield f"{kind}={number:x}", f"{one.device} {text}".lstrip()
        elif not kind:
            yield one.device or f"fid={one.fid:x}", text


@_of_host
def complete_driver(host: Host, ctx: click.Context, incomplete: str) -> Iterator[Pair]:
    """The drivers that are loaded, on the bus that ``--bus`` names."""
    bus = ctx.params.get("bus")
    seen: dict[str, str] = {}
    for one in (bus,) if bus in _BUSES else _BUSES:
        for name in host.sysfs.names(f"/sys/bus/{one}/drivers"):
            seen.setdefault(name, one)
    return iter(sorted(seen.items()))


@_of_host
def complete_ccw_attribute(host: Host, ctx: click.Context, incomplete: str) -> Iterator[Pair]:
    """``NAME=`` of what can be written to channel devices, looking at one device of each driver."""
    seen: dict[str | None, str] = {}
    for name in host.sysfs.names("/sys/bus/ccw/devices"):
        path = f"/sys/bus/ccw/devices/{name}"
        seen.setdefault(host.sysfs.link_name(f"{path}/driver"), path)
    found: dict[str, str] = {}
    for driver, path in seen.items():
        for name in host.sysfs.names(path):
            mode = host.backend.lstat(f"{path}/{name}").st_mode
            if stat.S_ISREG(mode) and mode & stat.S_IWUSR and name != "uevent":
                found.setdefault(f"{name}=", driver or "")
    return iter(sorted(found.items()))


@_of_host
def complete_channel_path(host: Host, ctx: click.Context, incomplete: str) -> Iterator[Pair]:
    """The channel paths, with their state."""
    from pyvfio.channel_paths import channel_paths

    for path in channel_paths(host.sysfs):
        if str(path.id).startswith(incomplete):
            yield str(path.id), "online" if path.online else "offline"


@_of_host
def complete_slot(host: Host, ctx: click.Context, incomplete: str) -> Iterator[Pair]:
    """The hot-plug slots, with what is in them."""
    from pyvfio.pci.slot import slots

    for one in slots(host.sysfs):
        if one.name.startswith(incomplete):
            yield one.name, ", ".join(str(each) for each in one.functions()) or "empty"


@_of_host
def complete_plugged(host: Host, ctx: click.Context, incomplete: str) -> Iterator[Pair]:
    """Devices that the software machine can be given, then their properties."""
    offer: Callable[[str], Iterable[Pair]] = getattr(host.backend, "offer_devices", lambda begun: ())
    return iter(offer(incomplete))


@_of_host
def complete_group(host: Host, ctx: click.Context, incomplete: str) -> Iterator[Pair]:
    """The numbers of the IOMMU groups, with their members."""
    for group in host.groups():
        if str(group.number).startswith(incomplete):
            yield str(group.number), " ".join(host.sysfs.names(f"{group.path}/devices"))


@_of_host
def complete_id(host: Host, ctx: click.Context, incomplete: str) -> Iterator[Pair]:
    """The ids of the PCI functions that are there."""
    ids = {device.uevent().get("PCI_ID", "").lower() for device in host.functions()}
    return ((one, "") for one in sorted(ids) if one)


@_of_host
def complete_mdev(host: Host, ctx: click.Context, incomplete: str) -> Iterator[Pair]:
    """The UUIDs of the mediated devices."""
    return ((device.name, device.parent.name) for device in host.mdevs())


@_of_host
def complete_defined(host: Host, ctx: click.Context, incomplete: str) -> Iterator[Pair]:
    """The UUIDs of the mediated devices that are active or defined."""
    from pyvfio.files import HostFiles

    files, folder = HostFiles(host.backend), f"{ctx.params.get('root') or ''}/etc/mdevctl.d"
    found = {device.name: device.parent.name for device in host.mdevs()}
    for parent in files.names(folder):
        for name in files.names(f"{folder}/{parent}"):
            if name.count("-") == 4:
                found.setdefault(name, parent)
    return iter(sorted(found.items()))


@_of_host
def complete_parent(host: Host, ctx: click.Context, incomplete: str) -> Iterator[Pair]:
    """The devices that mediated devices are made from, with their types; and types, behind a parent or ``--auto``."""
    words = ctx.params.get("words") or ()
    for parent in host.mdev_parents():
        types = [kind.id for kind in parent.types()]
        if not words and not ctx.params.get("auto"):
            yield str(parent), " ".join(types)
        elif not words or str(parent) == words[0]:
            yield from ((kind, "") for kind in types)


@_of_host
def complete_type(host: Host, ctx: click.Context, incomplete: str) -> Iterator[Pair]:
    """The types of mediated devices that are offered, by ``--parent`` if that is given."""
    wanted = ctx.params.get("parent")
    parents = [parent for parent in host.mdev_parents() if wanted in (None, str(parent))]
    types = {kind.id: kind.name for parent in parents for kind in parent.types()}
    return iter(sorted(types.items()))


@_of_host
def complete_journal(host: Host, ctx: click.Context, incomplete: str) -> Iterator[Pair]:
    """The journals of killed runs, with what they were about."""
    from pyvfio.binding import records
    from pyvfio_tools.acting import journal_directory

    return ((record.path, record.title) for record in records(host.sysfs, journal_directory()))


@_of_host
def complete_subsystem(host: Host, ctx: click.Context, incomplete: str) -> Iterator[Pair]:
    """The buses and classes whose uevents there may be."""
    names = {**dict.fromkeys(host.sysfs.names("/sys/class"), "class"), **dict.fromkeys(host.buses(), "bus")}
    return iter(sorted(names.items()))


def complete_directory(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Directories, by the shell."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="dir")]


def complete_user(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The users of this host."""
    import pwd

    return _items(((user.pw_name, user.pw_gecos) for user in pwd.getpwall()), incomplete)


def complete_unix_group(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The groups of users of this host."""
    import grp

    return _items(((group.gr_name, "") for group in grp.getgrall()), incomplete)
