"""``pyvfio reset``: reset a PCI function, or everything behind a bridge."""

from __future__ import annotations

import click

from pyvfio.binding.resets import WAYS, plan_pci_reset
from pyvfio.host import Host
from pyvfio_tools.acting import Acting, acting_options
from pyvfio_tools.options import device_argument

__all__ = ["reset"]


@click.command()
@device_argument()
@click.option(
    "--how",
    type=click.Choice(WAYS),
    default="function",
    show_default=True,
    metavar="WAY",
    help="function: the kernel's first method that works; flr, pm, bus, ...: that method alone; "
    "subordinate: everything behind the bridge DEV, or behind the one above DEV.",
)
@acting_options
def reset(host: Host, acting: Acting, device: str, how: str) -> None:
    """Reset a PCI function by the kernel, or the whole bus that it is on.

    The kernel asks neither drivers nor programs. So everything that would be reset is looked at, and is refused with
    the evidence when it is in use; the plan names what is reset with it. A reset cannot be taken back. A program that
    has all functions of a slot through VFIO resets them itself (Device.hot_reset of the library). What only IBM Z has,
    pyvfio zpci reset does.

    \b
    function     the first of the methods in reset_method that works
    METHOD       device_specific, acpi, flr, af_flr, pm, bus or cxl_bus; the order of methods is as before afterwards
    subordinate  a hot reset of the bus behind a bridge (Linux 6.12)

    \b
    Examples:
      pyvfio reset 0000:03:00.0 --machine lab-x86 --dry-run
      pyvfio reset 0000:03:00.0 --how pm --machine lab-x86
      pyvfio reset 0000:0c:00.0 --how subordinate --machine lab-x86
    """
    acting.carry_out(plan_pci_reset(host.function(device), how))
