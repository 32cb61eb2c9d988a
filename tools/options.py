"""Options that every command has, and the host they open."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from pyvfio.host import Host

__all__ = ["device_argument", "host_options", "open_host"]


def host_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--backend``, ``--machine`` and ``--json``; the function gets `host` (opened) and `as_json`."""

    @click.option(
        "--backend",
        envvar="PYVFIO_BACKEND",
        default=None,
        help="Whose calls: kernel (this host) or software. Default: kernel, or software with --machine.",
    )
    @click.option(
        "--machine",
        envvar="PYVFIO_MACHINE",
        default=None,
        help="The software machine: a name (see pyvfio machines) or a .toml file.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, on standard output.")
    @functools.wraps(function)
    def wrapped(*args: Any, backend: str | None, machine: str | None, as_json: bool, **kwargs: Any) -> Any:
        with open_host(backend, machine) as host:
            return function(*args, host=host, as_json=as_json, **kwargs)

    return wrapped


def open_host(backend: str | None, machine: str | None) -> Host:
    """The host that the options name."""
    name = backend or ("software" if machine else "kernel")
    if name == "software":
        return Host(name, machine=machine or "z15-lpar")
    if machine is not None:
        raise click.UsageError(f"--machine goes with --backend software, not with --backend {name}")
    return Host(name)


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The addresses of the devices that are there, for completion by the shell."""
    try:
        with open_host(ctx.params.get("backend"), ctx.params.get("machine")) as host:
            found = [str(d.address) for d in (*host.functions(), *host.ccw_devices(), *host.mdevs())]
    except Exception:  # completion never disturbs the prompt
        return []
    return [name for name in found if name.startswith(incomplete)]


def device_argument(name: str = "device", **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An argument that names a device, completed with what is there."""
    return click.argument(name, metavar=settings.pop("metavar", "DEV"), shell_complete=_complete, **settings)
