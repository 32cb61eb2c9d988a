"""``pyvfio sriov``: the virtual functions of a physical one."""

from __future__ import annotations

import click

from pyvfio.binding.virtual import plan_virtual_functions, wait_for_virtual_functions
from pyvfio.devices import PciFunction
from pyvfio.errors import PyvfioError
from pyvfio.host import Host
from pyvfio.pci.sriov import require_sriov, virtual_functions
from pyvfio_tools.acting import Acting, acting_options
from pyvfio_tools.options import device_argument
from pyvfio_tools.output import print_json, print_pairs, print_table

__all__ = ["sriov"]


@click.command()
@device_argument()
@click.argument("number", metavar="[N]", type=click.IntRange(min=0), required=False)
@click.option(
    "--autoprobe/--no-autoprobe",
    default=None,
    help="Let the kernel look for drivers for the new virtual functions, or leave them without. Default: as it is.",
)
@acting_options
def sriov(host: Host, acting: Acting, device: str, number: int | None, autoprobe: bool | None) -> None:
    """Show the virtual functions of a physical function, or have N of them (0 removes them).

    The kernel goes from one number to another only by 0, so all virtual functions that are there go first. A virtual
    function that is in use is refused with the evidence; the old number, with drivers and overrides, comes back when
    a step fails.

    \b
    Examples:
      pyvfio sriov 0070:00:00.0 --machine z16-sriov
      pyvfio sriov 3b:00.0 4 --no-autoprobe
      pyvfio sriov enp59s0f0 0 --dry-run
    """
    function = host.function(device)
    if number is None:
        if autoprobe is not None:
            raise click.UsageError("--autoprobe goes with a number of virtual functions")
        _show(function, acting.as_json)
        return
    plan = plan_virtual_functions(function, number, autoprobe=autoprobe)
    if acting.carry_out(plan) and not acting.as_json and number:
        try:
            wait_for_virtual_functions(function)
            _table(function)
        except PyvfioError as error:  # it is done all the same
            click.echo(f"pyvfio: they cannot be listed: {error}", err=True)


def _rows(function: PciFunction) -> list[dict[str, object]]:
    return [
        {
            "number": number,
            "address": one.name,
            "driver": one.driver,
            "override": one.override,
            "group": None if one.group is None else one.group.number,
        }
        for number, one in virtual_functions(function).items()
    ]


def _table(function: PciFunction) -> None:
    print_table(
        ("VF", "DEVICE", "DRIVER", "OVERRIDE", "GROUP"),
        [["-" if value is None else str(value) for value in row.values()] for row in _rows(function)],
    )


def _show(function: PciFunction, as_json: bool) -> None:
    found = require_sriov(function)
    if as_json:
        facts = {"totalvfs": found.total, "numvfs": found.number, "offset": found.offset, "stride": found.stride}
        more = {"vf_device": f"0x{found.vf_device:04x}", "autoprobe": found.autoprobe}
        print_json({"device": function.name, "driver": function.driver, **facts, **more, "vfs": _rows(function)})
        return
    print_pairs(
        [
            ("device", function.name),
            ("driver", function.driver or "none"),
            ("virtual functions", f"{found.number} of at most {found.total}"),
            ("routing ids", f"first at +{found.offset}, then every {found.stride}"),
            ("vf device id", f"0x{found.vf_device:04x}"),
            ("drivers sought", {True: "yes", False: "no", None: None}[found.autoprobe]),
        ]
    )
    missing = found.number - len(virtual_functions(function))
    if found.number:
        _table(function)
    if missing:
        click.echo(f"{missing} more are enabled but not here (another partition may have them)")
