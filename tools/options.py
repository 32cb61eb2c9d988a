"""Options that every command has, and the host they open."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from pyvfio.host import Host

__all__ = ["bus_option", "device_argument", "host_options", "open_host"]


def host_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--backend``, ``--machine`` and ``--json``; the function gets `host` (opened) and `as_json`."""

    @click.option(
        "--backend",
        envvar="PYVFIO_BACKEND",
        default=None,
        shell_complete=_complete_backend,
        help="Whose calls: kernel (this host) or software. Default: kernel, or software with --machine.",
    )
    @click.option(
        "--machine",
        envvar="PYVFIO_MACHINE",
        default=None,
        shell_complete=_complete_machine,
        help="A software machine: a name (see pyvfio machines) or a .toml file. It lives as long as the command.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, on standard output.")
    @functools.wraps(function)
    def wrapped(*args: Any, backend: str | None, machine: str | None, as_json: bool, **kwargs: Any) -> Any:
        with open_host(backend, machine) as host:
            return function(*args, host=host, as_json=as_json, **kwargs)

    return wrapped


def open_host(backend: str | None, machine: str | None) -> Host:
    """The host that the options name."""
    name = backend or ("kernel" if machine is None else "software")
    if name == "software":
        return Host(name, machine="z15-lpar" if machine is None else machine)
    if machine is not None:
        raise click.UsageError(f"--machine goes with --backend software, not with --backend {name}")
    return Host(name)


def _complete_backend(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in ("kernel", "software") if name.startswith(incomplete)]


def _complete_machine(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The installed machines, or files when a path is begun."""
    from pyvfio import plugins

    if "/" in incomplete or "." in incomplete:
        return [CompletionItem(incomplete, type="file")]
    names = sorted(name for provide in plugins.load_all("pyvfio.machines") for name in provide())
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The addresses of the devices that are there, for completion by the shell."""
    try:
        with open_host(ctx.params.get("backend"), ctx.params.get("machine")) as host:
            found = [str(d.address) for d in (*host.functions(), *host.ccw_devices(), *host.mdevs())]
    except Exception:  # completion never disturbs the prompt
        return []
    return [name for name in found if name.startswith(incomplete)]


bus_option = click.option(
    "--bus",
    type=click.Choice(["pci", "css", "ccw", "mdev"]),
    default=None,
    help="The bus of DEV. 0.0.013f names a channel device; with --bus css it names a subchannel.",
)
"""``--bus``, for what only the bus tells apart."""


def device_argument(name: str = "device", **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An argument that names a device, completed with what is there."""
    return click.argument(name, metavar=settings.pop("metavar", "DEV"), shell_complete=_complete, **settings)
