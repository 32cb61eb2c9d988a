"""What the shell offers at <TAB>: the devices, drivers, groups and machines that are there now.

A function here gets click's context, the parameter and the begun word.  Completion never disturbs the prompt: whatever
goes wrong, nothing is offered.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from pyvfio.host import Host

__all__ = [
    "complete_backend",
    "complete_device",
    "complete_driver",
    "complete_group",
    "complete_id",
    "complete_machine",
    "complete_mdev",
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
            with open_host(ctx.params.get("backend"), ctx.params.get("machine")) as host:
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
def complete_driver(host: Host, ctx: click.Context, incomplete: str) -> Iterator[Pair]:
    """The drivers that are loaded, on the bus that ``--bus`` names."""
    bus = ctx.params.get("bus")
    seen: dict[str, str] = {}
    for one in (bus,) if bus in _BUSES else _BUSES:
        for name in host.sysfs.names(f"/sys/bus/{one}/drivers"):
            seen.setdefault(name, one)
    return iter(sorted(seen.items()))


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
