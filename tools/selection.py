"""How a command is told which devices: arguments, ``-`` for standard input, and the filters."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pyvfio_tools.complete import complete_driver, complete_group, complete_id
from pyvfio_tools.options import bus_option, device_argument

if TYPE_CHECKING:
    from pyvfio.host import Host
    from pyvfio.selection import Selection
    from pyvfio.sysfs_device import SysfsDevice

__all__ = ["filter_options", "select", "selection_options"]


def filter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--driver``, ``--id`` and ``--group`` (each may be repeated): `drivers`, `ids` and `groups`."""
    for option in (
        click.option(
            "--group",
            "groups",
            type=click.IntRange(min=0),
            multiple=True,
            metavar="N",
            shell_complete=complete_group,
            help="Only devices of this IOMMU group (its bridges aside).",
        ),
        click.option(
            "--id",
            "ids",
            multiple=True,
            metavar="ID",
            shell_complete=complete_id,
            help="Only devices with this id: 8086:1572, 8086:*, or 3390/0c for a channel device.",
        ),
        click.option(
            "--driver",
            "drivers",
            multiple=True,
            metavar="DRIVER",
            shell_complete=complete_driver,
            help="Only devices that this driver has: a name, a pattern, or none.",
        ),
    ):
        function = option(function)
    return function


def selection_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``DEV...`` and the filters; the function gets one `selection` for `select`.

    Devices are named in every spelling (`pyvfio.lookup`), by pattern, by range, or with ``-`` on standard input, one a
    line.  Nothing named and no filter given is a usage error.
    """

    @device_argument("devices", metavar="[DEV...]", nargs=-1)
    @bus_option
    @filter_options
    @functools.wraps(function)
    def wrapped(
        *args: Any,
        devices: tuple[str, ...],
        bus: str | None,
        drivers: tuple[str, ...],
        ids: tuple[str, ...],
        groups: tuple[int, ...],
        **kwargs: Any,
    ) -> Any:
        from pyvfio.selection import Selection  # not needed for --help

        if not (devices or drivers or ids or groups):
            raise click.UsageError("Name a device, or select some with --driver, --id or --group.")
        selection = Selection(devices, bus, drivers, ids, groups)
        return function(*args, selection=selection, **kwargs)

    return wrapped


def select(host: Host, selection: Selection) -> list[SysfsDevice]:
    """The devices of a selection, at least one, each once; errors as `pyvfio.selection.select`."""
    from pyvfio import selection as devices

    return devices.select(host, selection)
