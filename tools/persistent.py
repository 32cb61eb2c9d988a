"""``pyvfio define``, ``undefine``, ``defined``, ``apply`` and ``install-units``: what is so after every boot."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pyvfio.binding import Plan
from pyvfio.host import Host
from pyvfio.persistence import Applied, Definitions, Outcome, PersistentMdev, compare
from pyvfio.persistence import apply as apply_definitions
from pyvfio.persistence.units import PROGRAM, plan_install, plan_uninstall, unit_files
from pyvfio_tools.acting import Acting, acting_options
from pyvfio_tools.complete import complete_device, complete_directory, complete_driver, complete_parent
from pyvfio_tools.options import bus_option, device_argument, host_options
from pyvfio_tools.output import print_json, print_table
from pyvfio_tools.progress import show_plan

if TYPE_CHECKING:
    from pyvfio.persistence import Definition, Unreadable

__all__ = ["apply_", "define", "defined", "install_units", "root_option", "undefine"]

_BOOT_PATIENCE = 60.0
_QUIET = (Outcome.SAME, Outcome.ABSENT, Outcome.MANUAL, Outcome.ELSEWHERE)
_COLOURS = {Outcome.APPLIED: "green", Outcome.FAILED: "red"}


def _absolute(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    """The top of a file system as the seam wants it: absolute; empty for the host's own."""
    return "" if value is None else os.path.abspath(value).rstrip("/")


def root_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--root``: `root` is an absolute path, or empty for the host itself."""
    return click.option(
        "--root",
        metavar="DIR",
        default=None,
        callback=_absolute,
        shell_complete=complete_directory,
        help="The file system with etc/driverctl.d and etc/mdevctl.d, for images. Default: this host's.",
    )(function)


@click.command()
@device_argument("devices", metavar="DEV...", nargs=-1, required=True)
@click.option(
    "--to",
    "driver",
    default=None,
    metavar="DRIVER",
    shell_complete=complete_driver,
    help="The driver they get; none keeps every driver away. Default: vfio-pci on pci, vfio_ccw on css.",
)
@bus_option
@root_option
@acting_options
def define(
    host: Host, acting: Acting, devices: tuple[str, ...], driver: str | None, bus: str | None, root: str
) -> None:
    """Write down that DEV gets a driver of VFIO at every boot, in the files of driverctl and mdevctl.

    Only files are written; pyvfio apply makes it so now. A channel device stands for its subchannel and a mediated
    device on it; the UUID of an active mediated device stands for what it is now (pyvfio mdev define says more).
    A device that this host uses is refused, with the evidence: after the next boot it would be missing.

    \b
    Examples:
      pyvfio define 0011:00:00.0
      pyvfio define 3b:00.0 3b:00.1 --to vfio-pci --root /mnt/image
      pyvfio define 0.0.1234
      pyvfio define 0.0.0313 --bus css --to vfio_ccw
    """
    known = Definitions(host, root)
    addresses = dict.fromkeys(address for name in devices for address in known.addresses(name, bus))
    plans = [known.plan_device(address, driver) for address in addresses]
    acting.carry_out(Plan.join(plans), journaled=not root)


@click.command()
@device_argument("devices", metavar="DEV...", nargs=-1, required=True)
@bus_option
@root_option
@acting_options
def undefine(host: Host, acting: Acting, devices: tuple[str, ...], bus: str | None, root: str) -> None:
    """Remove what is persistent of DEV: a driver, or a mediated device by its UUID. What is active stays as it is.

    \b
    Examples:
      pyvfio undefine 0011:00:00.0
      pyvfio undefine css/0.0.0313 66826a94-72c4-557f-beca-d135a70628e9
      pyvfio undefine 0.0.1234 --root /mnt/image
    """
    known = Definitions(host, root)
    found: dict[str, Plan] = {}
    for name in devices:
        for definition in known.find(name, bus):
            plan = known.plan_undefine(definition)
            found[plan.steps[0].paths[0] if plan.steps else plan.title] = plan
    acting.carry_out(Plan.join(list(found.values())), journaled=not root)


@click.command()
@root_option
@host_options
def defined(host: Host, as_json: bool, root: str) -> None:
    """Show what is persistent beside what is active.

    State: same, different, not active, not persistent (active only), absent (no such device), malformed (see NOTE).

    \b
    Examples:
      pyvfio defined
      pyvfio defined --root /mnt/image --json
    """
    rows = compare(Definitions(host, root))
    if as_json:
        print_json([row.as_dict() for row in rows])
        return
    print_table(
        ("DEVICE", "PERSISTENT", "ACTIVE", "STATE", "NOTE"),
        [(row.name, row.persistent or "-", row.active or "-", str(row.agreement), row.note) for row in rows],
        empty="nothing is persistent, and no driver of VFIO has a device (pyvfio define writes something down)",
    )


@click.command("apply")
@click.argument("devices", metavar="[DEV...]", nargs=-1, shell_complete=complete_device)
@click.option(
    "--parent",
    default=None,
    metavar="PARENT",
    shell_complete=complete_parent,
    help="Make the mediated devices of this parent that are auto.",
)
@click.option(
    "--boot",
    is_flag=True,
    help="As the units call it: what is not there is no error, and only what was done or failed is told.",
)
@bus_option
@root_option
@acting_options
@click.pass_context
def apply_(
    ctx: click.Context,
    host: Host,
    acting: Acting,
    devices: tuple[str, ...],
    parent: str | None,
    boot: bool,
    bus: str | None,
    root: str,
) -> None:
    """Make what is persistent active: drivers first, then the mediated devices whose start is auto.

    Without DEV all of it. A mediated device that is named is made whatever its start is. It is right to do this again
    and again; one that fails keeps none of the others from being tried. The exit code is that of the first failure.

    \b
    Examples:
      pyvfio apply
      pyvfio apply 0011:00:00.0 66826a94-72c4-557f-beca-d135a70628e9
      pyvfio apply --boot --parent 0.0.0313
    """
    if parent is not None and devices:
        raise click.UsageError("--parent goes without DEV: it names all mediated devices of one parent.")
    known = Definitions(host, root)
    chosen = _chosen(known, devices, parent, bus)
    named = bool(devices) and not boot
    done: list[Applied] = []
    for one in apply_definitions(
        host, chosen, _runner(acting), automatic=not named, patience=_BOOT_PATIENCE if boot else 0.0
    ):
        done.append(one)
        if not acting.as_json and not (boot and one.outcome in _QUIET):
            _tell(one)
    failed = [one for one in done if one.outcome is Outcome.FAILED or (named and one.outcome is Outcome.ABSENT)]
    if acting.as_json:
        print_json({"results": [one.as_dict() for one in done], "failed": len(failed)})
    elif not done and not boot:
        click.echo("nothing is persistent")
    elif failed and len(done) > 1:
        click.echo(f"{len(failed)} of {len(done)} failed", err=True)
    if failed:
        first = failed[0].error
        ctx.exit(1 if first is None else first.exit_code)


def _chosen(
    known: Definitions, devices: tuple[str, ...], parent: str | None, bus: str | None
) -> list[Definition | Unreadable]:
    if parent is not None:
        return list(known.mdevs.all(parent))
    if not devices:
        return known.all()
    found = list(dict.fromkeys(one for name in devices for one in known.find(name, bus)))
    return sorted(found, key=lambda one: isinstance(one, PersistentMdev))  # drivers first: they make the parents


def _runner(acting: Acting) -> Callable[[Plan], bool]:
    def carry(plan: Plan) -> bool:
        if acting.dry_run:
            if not acting.as_json:
                show_plan(plan, acting.force)
            plan.refuse(acting.force)
            return False
        acting.do(plan, quiet=True)
        return True

    return carry


def _tell(one: Applied) -> None:
    outcome = click.style(str(one.outcome), fg=_COLOURS.get(one.outcome))
    if one.outcome is Outcome.FAILED and one.error is not None:
        click.echo(f"{one.name}: {outcome}", err=True)
        for line in str(one.error).splitlines():
            click.echo(f"  {line}", err=True)
        return
    click.echo(f"{one.name}: {outcome}" + (f": {one.detail}" if one.detail else ""))


@click.command("install-units")
@root_option
@click.option("--print", "show", is_flag=True, help="Print the files instead of writing them.")
@click.option("--remove", is_flag=True, help="Remove them again.")
@click.option("--program", metavar="PATH", default=None, help="The command that the units call. Default: this one.")
@acting_options
def install_units(host: Host, acting: Acting, root: str, show: bool, remove: bool, program: str | None) -> None:
    """Write a udev rule and systemd units that apply what is persistent, at boot and when a device appears.

    They are enabled by systemctl, as the note says. With --root, the program is /usr/bin/pyvfio if none is given.

    \b
    Examples:
      pyvfio install-units --print
      pyvfio install-units --root /mnt/image
      pyvfio install-units --remove --dry-run
    """
    if show and remove:
        raise click.UsageError("--print and --remove exclude each other.")
    path = program or (PROGRAM if root else _this_program())
    if show:
        files = {f"{root}{name}": text for name, text in unit_files(path).items()}
        if acting.as_json:
            print_json(files)
        else:
            for name, text in files.items():
                click.echo(click.style(f"# {name}", bold=True))
                click.echo(text)
        return
    acting.carry_out(plan_uninstall(host, root) if remove else plan_install(host, root, path), journaled=not root)


def _this_program() -> str:
    """The path by which this command was called, if it is one; else where a package puts it."""
    path = os.path.abspath(sys.argv[0])
    if os.path.basename(path) != "pyvfio" or not os.access(path, os.X_OK):
        return PROGRAM
    return path
