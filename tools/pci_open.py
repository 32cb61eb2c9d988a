"""Opening a PCI function for a driver in this program: taken by vfio-pci already, or taken here and given back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import click

from pyvfio.address import PciAddress
from pyvfio.binding import plan_bind, plan_release, run
from pyvfio.errors import NotAvailable, WrongBus
from pyvfio.host import Host
from pyvfio.selection import named
from pyvfio.vfio import Device, open_device
from pyvfio_tools.acting import journal_directory, terminated

__all__ = ["interrupts_option", "opened_function", "take_option"]

Function = Callable[..., Any]

take_option = click.option(
    "--take", is_flag=True, help="Bind the device to vfio-pci first (pyvfio bind), and give it back at the end."
)


def interrupts_option(*kinds: str) -> Callable[[Function], Function]:
    """``--interrupts``: what tells of the end of work."""
    return click.option(
        "--interrupts",
        type=click.Choice(["auto", *kinds]),
        default="auto",
        show_default=True,
        help="What tells the program that work has ended; poll: it looks again and again.",
    )


@contextlib.contextmanager
def opened_function(host: Host, name: str, what: str, take: bool) -> Iterator[Device]:
    """The function called `name`, open through VFIO; `what` is said of it in errors (``edu``, ``NVMe controller``).

    Raise `NotAvailable` when no VFIO driver has it, and it shall not be taken; `DeviceInUse` when it is in use.
    SIGTERM and SIGHUP end the command as Ctrl-C does, and a device that was taken is given back.
    """
    found = list(named(host, name))
    if len(found) != 1 or not isinstance(found[0], PciAddress):
        raise WrongBus(f"find {what}", name, cause="it is not one PCI function", next_step="pyvfio list shows them")
    address, leaving = found[0], False
    function = host.device(address)
    with contextlib.ExitStack() as stack:
        stack.enter_context(terminated(lambda: leaving))
        if take and not function.has_vfio_driver:
            run(plan_bind(function), journal=journal_directory())
            stack.callback(lambda: run(plan_release(host.device(address)), journal=journal_directory()))
        if not function.has_vfio_driver:
            raise NotAvailable(
                f"drive {what}",
                str(address),
                cause=f"vfio-pci does not have it (driver: {function.driver or 'none'})",
                next_step=f"pyvfio bind {address}, or say --take",
            )
        device = stack.enter_context(open_device(host, address))
        try:
            yield device
        finally:
            leaving = True
