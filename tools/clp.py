"""``pyvfio clp``: what the machine's logical processor tells of PCI functions, through ``/dev/clp``."""

from __future__ import annotations

from dataclasses import asdict

import click

from pyvfio.errors import NoSuchDevice
from pyvfio.host import Host
from pyvfio.zpci.clp import FunctionResponse, GroupResponse, HandleEntry
from pyvfio.zpci.handle import FunctionHandle
from pyvfio.zpci.known import find_functions, type_name
from pyvfio.zpci.node import CLP_NODE, ClpNode
from pyvfio_tools.commands import Commands
from pyvfio_tools.complete import complete_function
from pyvfio_tools.options import host_options
from pyvfio_tools.output import print_json, print_pairs, print_table

__all__ = ["clp"]

_HEAD = ("length", "code", "fmt")


@click.group(cls=Commands)
def clp() -> None:
    """Ask the logical processor of IBM Z about PCI functions (CALL LOGICAL PROCESSOR).

    It tells what the machine says, also of functions that Linux has not configured; `pyvfio list` and `show` tell what
    Linux made of it.

    \b
    Examples:
      pyvfio clp list --machine z15-lpar
      pyvfio clp function 0060:00:00.0 --machine z15-lpar
      pyvfio clp group ff --machine z15-lpar
    """


@clp.command("list")
@host_options
def list_(host: Host, as_json: bool) -> None:
    """List the functions that this partition has or may have.

    \b
    Examples:
      pyvfio clp list --machine z15-lpar
      pyvfio clp list --json
    """
    with ClpNode(host.backend) as node:
        found = node.listing()
    if as_json:
        print_json({**asdict(found), "entries": [asdict(entry) for entry in found.entries]})
        return
    rows = [
        (
            f"{entry.fid:08x}",
            str(FunctionHandle.from_word(entry.fh)),
            f"{entry.vendor:04x}:{entry.device:04x}",
            "configured" if entry.configured else "standby",
        )
        for entry in found.entries
    ]
    print_table(("FID", "HANDLE", "ID", "STATE"), rows, empty="no functions")
    unique = "unique" if found.uid_checking else "not checked"
    click.echo(f"{len(found.entries)} of at most {found.max_functions} functions; UIDs are {unique}")


def _entry(node: ClpNode, fid: int) -> HandleEntry:
    """What LIST PCI tells of a function now.  Raise `NoSuchDevice`."""
    for entry in node.list():
        if entry.fid == fid:
            return entry
    raise NoSuchDevice("find PCI function", f"fid {fid:08x}", path=CLP_NODE, cause="the logical processor names it not")


@clp.command()
@click.argument("name", metavar="FUNCTION", shell_complete=complete_function)
@host_options
def function(host: Host, as_json: bool, name: str) -> None:
    """Show what QUERY PCI FUNCTION tells of one function.

    FUNCTION is a device in any spelling, or a hexadecimal FID, UID or handle; fid=60, uid=60 and fh=80000002 leave no
    doubt.

    \b
    Examples:
      pyvfio clp function 0060:00:00.0 --machine z15-lpar
      pyvfio clp function 60 --machine z15-lpar
    """
    with ClpNode(host.backend) as node:
        (fid,) = find_functions(host, [name])
        entry = _entry(node, fid)
        found = node.function(entry.fh)
    if as_json:
        print_json({"fh": entry.fh, **_plain(found), "bar_values": found.bar_values, "utility": found.utility_text})
        return
    print_pairs(
        [
            ("function", f"{found.fid:08x}"),
            ("handle", FunctionHandle.from_word(entry.fh)),
            ("UID", f"{found.uid:04x}"),
            ("channel", f"{found.pchid:04x}"),
            ("virtual function", found.vfn),
            ("port", found.port),
            ("type", f"{found.pft:02x} ({type_name(found.pft)})"),
            ("group", f"{found.pfgid:02x}"),
            ("routing id", f"{found.rid:04x}" if found.rid_available else ""),
            ("internal path", found.pfip.hex(" ")),
            ("utility string", found.utility_text),
            ("definition parameter", f"{found.fidparm:02x}"),
            ("BARs", "\n".join(f"{n}: {1 << order} bytes" for n, order in enumerate(found.bar_sizes) if order)),
            ("DMA addresses", f"{found.sdma:#x} to {found.edma:#x}"),
            ("measurement block", f"{4 * found.fmb_length} bytes" if found.fmb_length else ""),
        ]
    )


@clp.command()
@click.argument("number", metavar="GROUP")
@host_options
def group(host: Host, as_json: bool, number: str) -> None:
    """Show what QUERY PCI FUNCTION GROUP tells of a group (hexadecimal, as in clp function).

    \b
    Examples:
      pyvfio clp group ff --machine z15-lpar
    """
    try:
        pfgid = int(number, 16)
    except ValueError:
        pfgid = -1
    if not 0 <= pfgid <= 0xFF:
        raise click.BadParameter(f"{number!r} is no number from 0 to ff", param_hint="GROUP")
    with ClpNode(host.backend) as node:
        found = node.group(pfgid)
    if as_json:
        print_json(_plain(found))
        return
    print_pairs(
        [
            ("group", f"{pfgid:02x}"),
            ("version", found.version),
            ("interrupts", found.noi),
            ("messages to", f"{found.msia:#x}"),
            ("DMA address mask", f"{found.dasm:#x}"),
            ("translation tables", _types(found.dtsm)),
            (
                "refreshes needed",
                "also when translations become valid" if found.refresh else "when valid translations change",
            ),
            ("store block", f"at most {found.maxstbl} bytes"),
            ("measured", f"every {found.mui} ms" if found.mui else "never"),
            ("directed interrupts", found.dnoi or ""),
        ]
    )


def _types(mask: int) -> str:
    names = ("segment", "region-third", "region-second", "region-first")
    return ", ".join(name for bit, name in enumerate(names) if mask & 0x80 >> bit) or "none"


def _plain(block: FunctionResponse | GroupResponse) -> dict[str, object]:
    values = {key: value for key, value in asdict(block).items() if key not in _HEAD}
    return {key: value.hex() if isinstance(value, bytes) else value for key, value in values.items()}
