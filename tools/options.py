"""Options that every command has, and the host they open."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from pyvfio.host import Host
from pyvfio_tools.complete import complete_backend, complete_device, complete_machine, complete_plugged

__all__ = ["bus_option", "device_argument", "host_options", "open_host", "plugged_option"]


plugged_option = click.option(
    "--device",
    "plugged",
    metavar="WORDS",
    multiple=True,
    shell_complete=complete_plugged,
    help="A PCI device that the software machine has, too, as QEMU's -device says it: zpci,uid=8,fid=2,target=dev1 "
    "before virtio-rng-pci,id=dev1. May be repeated.",
)
"""``--device``: what a software machine has beyond its file."""


def host_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--backend``, ``--machine``, ``--device`` and ``--json``; the function gets `host` (open) and `as_json`."""

    @click.option(
        "--backend",
        envvar="PYVFIO_BACKEND",
        default=None,
        shell_complete=complete_backend,
        help="Whose calls: kernel (this host) or software. Default: kernel, or software with --machine.",
    )
    @click.option(
        "--machine",
        envvar="PYVFIO_MACHINE",
        default=None,
        shell_complete=complete_machine,
        help="A software machine: a name (see pyvfio machines) or a .toml file. It lives as long as the command.",
    )
    @plugged_option
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, on standard output.")
    @functools.wraps(function)
    def wrapped(
        *args: Any, backend: str | None, machine: str | None, plugged: tuple[str, ...], as_json: bool, **kwargs: Any
    ) -> Any:
        with open_host(backend, machine, plugged) as host:
            return function(*args, host=host, as_json=as_json, **kwargs)

    return wrapped


def open_host(backend: str | None, machine: str | None, devices: tuple[str, ...] = ()) -> Host:
    """The host that the options name, with further `devices`; without any that of the sandbox, if this is in one.

    Raise `Misuse` for devices that the host cannot be given.
    """
    if backend is None and machine is None and (sandbox := os.environ.get("PYVFIO_SANDBOX")):
        from pyvfio.sandbox import Sandbox

        if devices:
            raise click.UsageError("--device goes with --machine; pyvfio sandbox --device gives a sandbox its devices")
        return Sandbox(sandbox).host()
    name = backend or ("kernel" if machine is None else "software")
    if name == "software":
        return Host(name, machine="z15-lpar" if machine is None else machine, devices=devices)
    if machine is not None:
        raise click.UsageError(f"--machine goes with --backend software, not with --backend {name}")
    return Host(name, devices=devices) if devices else Host(name)


bus_option = click.option(
    "--bus",
    type=click.Choice(["pci", "css", "ccw", "mdev"]),
    default=None,
    help="The bus of DEV. 0.0.013f names a channel device; with --bus css it names a subchannel.",
)
"""``--bus``, for what only the bus tells apart."""


def device_argument(name: str = "device", **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An argument that names a device in any spelling, completed with what is there.

    Where it takes many (``nargs=-1``), ``-`` stands for the names on standard input.
    """
    if settings.get("nargs") == -1:
        settings.setdefault("callback", _expanded)
    return click.argument(name, metavar=settings.pop("metavar", "DEV"), shell_complete=complete_device, **settings)


def _expanded(ctx: click.Context, param: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, those of standard input in the place of ``-``: one or more a line, ``#`` begins a comment."""
    if "-" not in names or ctx.resilient_parsing:
        return names
    found: list[str] = []
    for name in names:
        lines = sys.stdin if name == "-" else (name,)
        found += (word for line in lines for word in line.partition("#")[0].split())
    if not found:  # else a filter beside it would choose among all devices
        raise click.UsageError("Standard input names no device.")
    return tuple(found)
