"""``pyvfio eeh``: the partitionable endpoints of POWER: whether they are frozen, errors on purpose, recovery."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from pyvfio.abi.eeh import EehErrorFunction
from pyvfio.abi.vfio_spapr import EehState
from pyvfio.errors import NotAvailable, PyvfioError
from pyvfio.host import Host
from pyvfio.ioda.pe import STATE_WORDS
from pyvfio.ioda.status import EndpointStatus, HostStatus, asked_by_vfio, host_status, no_endpoint, read_status
from pyvfio_tools.acting import Acting, acting_options
from pyvfio_tools.commands import Commands
from pyvfio_tools.complete import complete_device
from pyvfio_tools.options import device_argument, host_options
from pyvfio_tools.output import print_json, print_pairs, print_table

if TYPE_CHECKING:
    from pyvfio.devices import PciFunction

__all__ = ["eeh"]

_BY = ("vfio", "debugfs")
_HOW = ("hot", "fundamental", "unfreeze")


@click.group(cls=Commands)
def eeh() -> None:
    """Show, inject and recover errors of partitionable endpoints (EEH of POWER).

    \b
    Examples:
      pyvfio eeh status
      pyvfio eeh status 0002:01:00.0 --json
      pyvfio eeh recover 0002:01:00.0 --dry-run
      pyvfio eeh status --machine power9-phb4
    """


@eeh.command()
@click.argument("device", metavar="[DEV]", required=False, shell_complete=complete_device)
@host_options
def status(host: Host, as_json: bool, device: str | None) -> None:
    """Show whether endpoints are frozen: of all functions, or of DEV, where VFIO is asked, too.

    It reads what the kernel shows to anybody. VFIO is asked when vfio-pci has DEV and no program does; that needs the
    right to use its group. Nothing is opened that would unfreeze an endpoint. Linux takes note of a freeze that it is
    read of first, and does not recover it by itself then: recover does.

    \b
    Examples:
      pyvfio eeh status
      pyvfio eeh status 0002:01:00.0 --json
    """
    support = host_status(host.sysfs)
    if device is None:
        _all(host, support, as_json)
        return
    function = host.function(device)
    found = read_status(function)
    if found is None:
        raise NotAvailable(
            "show the endpoint",
            function.name,
            path=f"{function.path}/eeh_mode",
            cause=no_endpoint(function),
            next_step="pyvfio eeh status shows the functions that have it",
        )
    said, why = _by_vfio(host, function)
    if as_json:
        vfio = {"state": None if said is None else said.name, "error": None if why is None else why.as_dict()}
        print_json({**found.as_dict(), "vfio": vfio})
        return
    print_pairs(
        [
            ("device", found.device),
            ("driver", found.driver or "none"),
            ("group", "none" if found.group is None else found.group),
            ("endpoint", "none" if found.endpoint is None else f"{found.endpoint:#x}"),
            ("state", _words(found.state) + ("; a reset was begun and not ended" if found.held else "")),
            ("firmware", _firmware(found)),
            ("Linux", ", ".join(map(str, _list(found, "flags"))) or "notes nothing"),
            ("by VFIO", _words(said) if why is None else f"not asked: {why.cause or why.errno_name}"),
            *_next(function, found, asked=why is None),
        ]
    )


def _next(function: PciFunction, found: EndpointStatus, *, asked: bool) -> list[tuple[str, str]]:
    """What helps where something is wrong and no program has the function."""
    if found.state in (None, EehState.NORMAL) and not found.held:
        return []
    if function.has_vfio_driver:
        return [("next", f"pyvfio eeh recover {function.name}")] if asked else []
    return [("next", f"Linux recovers it, or pyvfio eeh recover {function.name} --how unfreeze")]


def _all(host: Host, support: HostStatus | None, as_json: bool) -> None:
    found = [one for one in map(read_status, host.functions()) if one is not None]
    if as_json:
        known = None if support is None else {"enabled": support.enabled, "counters": support.counters}
        print_json({"eeh": known, "functions": [one.as_dict() for one in found]})
        return
    if support is None:
        click.echo("this host has no EEH; only POWER has")
    elif not support.enabled:
        click.echo("EEH is not enabled: no adapter is under it")
    else:
        resets = support.counters.get("eeh_slot_resets", 0)
        reads = support.counters.get("eeh_total_mmio_ffs", 0)
        click.echo(f"EEH is enabled; {reads} reads of ones were looked into, {resets} slots reset so far")
    rows = [
        (
            one.device,
            "-" if one.endpoint is None else f"{one.endpoint:#x}",
            "-" if one.group is None else str(one.group),
            "-" if one.state is None else one.state.name,
            ", ".join(flag for flag in map(str, _list(one, "flags")) if flag != "PRI_BUS") or "-",
            one.driver or "-",
        )
        for one in found
    ]
    print_table(("DEVICE", "ENDPOINT", "GROUP", "STATE", "NOTED", "DRIVER"), rows, empty="no function is under EEH")


def _list(found: EndpointStatus, name: str) -> list[object]:
    value = found.as_dict()[name]
    return value if isinstance(value, list) else []


def _firmware(found: EndpointStatus) -> str:
    if found.platform is None:
        return "not known"
    return ", ".join(map(str, _list(found, "platform"))) or "nothing is active or enabled"


def _words(state: EehState | None) -> str:
    return "not known" if state is None else f"{state.name}: {STATE_WORDS[state]}"


def _by_vfio(host: Host, function: PciFunction) -> tuple[EehState | None, PyvfioError | None]:
    try:
        return asked_by_vfio(host, function), None
    except PyvfioError as error:
        return None, error


def _complete_function(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [
        CompletionItem(one.name, help=f"function {one.value}")
        for one in EehErrorFunction
        if one.name.startswith(incomplete.upper().replace("-", "_"))
    ]


def _number(ctx: click.Context, param: click.Parameter, value: str | None) -> int:
    if value is None:
        return 0
    try:
        found = int(value, 0)
    except ValueError:
        found = -1
    if not 0 <= found < 1 << 64:
        raise click.BadParameter(f"{value!r} is no number of 64 bits, as in 0x80000000")
    return found


def _complete_place(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """How places begin that the error on the command line can strike; without one: all."""
    from pyvfio.ioda.injection import strikes

    # Before the value of an option, arguments are not told apart yet.
    words = [ctx.params.get("error") or "", *ctx.args]
    named = (EehErrorFunction.__members__.get(word.upper().replace("-", "_")) for word in words)
    error = next((one for one in named if one is not None), None)
    begins = {"config": ["config:0x"], "memory": [f"bar{number}:0x" for number in range(6)], "dma": ["dma:0x"]}
    kinds = begins if error is None else [strikes(error)]
    return [CompletionItem(word) for kind in kinds for word in begins.get(kind, ()) if word.startswith(incomplete)]


@eeh.command()
@device_argument()
@click.argument("error", metavar="FUNCTION", shell_complete=_complete_function)
@click.option(
    "--at",
    metavar="PLACE",
    shell_complete=_complete_place,
    help="What is struck: config:0x44, bar0:0x10 or dma:0x10000. Default: any.",
)
@click.option("--address", metavar="A", callback=_number, help="The same as the firmware's address, and ...")
@click.option("--mask", metavar="M", callback=_number, help="... which bits of it count. Default: none.")
@click.option("--bits", type=click.Choice(["32", "64"]), help="Which window it is in. Default: it is looked up.")
@click.option("--by", type=click.Choice(_BY), help="Default: vfio where VFIO has DEV, else debugfs (root).")
@acting_options
def inject(
    host: Host,
    acting: Acting,
    device: str,
    error: str,
    at: str | None,
    address: int,
    mask: int,
    bits: str | None,
    by: str | None,
) -> None:
    """Have the next transfer of a kind fail in the endpoint of DEV, which freezes it.

    FUNCTION says which: load or store (LD, ST) of memory, I/O or configuration space (MEM, IO, CFG), or DMA (DMA_RD,
    DMA_WR), and whether its address or data is wrong, or its master or target fails. All functions of the endpoint are
    looked at, and if something uses one of them, this is refused with the evidence. A function that VFIO has, and no
    program, is struck through VFIO; any other by the kernel's debugfs, for root. With --by debugfs --force vfio that is
    done to a function that a program has open, too: the way to see how the program recovers.
    The error strikes later, with the next such transfer, whoever makes it. Nothing takes it back. A PHB4 makes errors
    of configuration space alone. In a sandbox what is done through VFIO ends with the command: use --by debugfs there.

    An address is the processor's (resource in sysfs) for memory, the device's for DMA, and for configuration space
    bus << 52 | device and function << 44 | register << 32. One that is not the endpoint's counts as none.

    \b
    Examples:
      pyvfio eeh inject 0002:01:00.0 LD_CFG_ADDR
      pyvfio eeh inject 0002:01:00.0 st-mem-data --at bar0:0x1000
      pyvfio eeh inject 0002:01:00.0 ld-cfg-data --by debugfs --force vfio
      pyvfio eeh inject 0002:01:00.0 dma-rd-data --address 0x1000 --mask 0xfffff000 --dry-run
    """
    from pyvfio.binding.endpoint import find_function, plan_inject_endpoint
    from pyvfio.ioda.injection import parse_place

    wanted, function = find_function(error), host.function(device)
    width = None if bits is None else int(bits)
    if at is not None:
        if address or mask or bits:
            raise click.UsageError("--at says it all: leave --address, --mask and --bits out.")
        function.require()
        kind, address, mask = parse_place(function, wanted, at)
        width = 64 if kind else 32
    acting.carry_out(plan_inject_endpoint(function, wanted, address=address, mask=mask, bits=width, by=by))


@eeh.command()
@device_argument()
@click.option(
    "--how",
    type=click.Choice(_HOW),
    default="hot",
    show_default=True,
    help="Reset it hot or fundamentally, or only unfreeze it.",
)
@click.option("--healthy", is_flag=True, help="Also when the endpoint is not frozen.")
@acting_options
def recover(host: Host, acting: Acting, device: str, how: str, healthy: bool) -> None:
    """Bring the endpoint of DEV back: unfreeze it, reset it, and have the kernel configure it.

    For a device that VFIO has and no program; a program that has it open recovers it itself (Recovery of the library),
    and of devices that kernel drivers have Linux takes care: those can only be unfrozen. All functions of the endpoint
    are reset at once; if something uses one of them, this is refused with the evidence.

    \b
    Examples:
      pyvfio eeh recover 0002:01:00.0 --dry-run
      pyvfio eeh recover 0002:01:00.0 --how fundamental --healthy
    """
    from pyvfio.binding.endpoint import plan_recover_endpoint

    acting.carry_out(plan_recover_endpoint(host.function(device), how, healthy=healthy))
