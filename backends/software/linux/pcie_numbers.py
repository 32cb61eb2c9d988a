"""Bus numbers that Linux gives to bridges which have none (``drivers/pci/probe.c``, 6.12).

::

    scan_bridges    all bridges of a bus: those with numbers keep them, the others get the next ones
    add_bridge      one bridge: a number, what is behind it, and as its last number the last one used there

What is to spare goes to bridges with a slot, in equal shares, so that something can be plugged there later; a bridge
that is alone on its bus, such as the upstream port of a switch, passes all of it on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.kernel_log import ERROR, say
from pyvfio_backends.software.linux.pcie_sizing import hotplugs

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pcie_bus import PcieBus
    from pyvfio_backends.software.linux.pcie_function import PcieFunction

__all__ = ["add_bridge", "scan_bridges"]

_ALL_ERRORS = 0xFFFF
_NUMBERS = 0xFFFFFF


def scan_bridges(bus: PcieBus, bridges: list[PcieFunction], spare: int, *, quiet: bool) -> int:
    """Find what is behind the bridges of a bus; the last number behind it (``pci_scan_child_bus_extend``)."""
    last, used, slots = bus.number, 0, sum(_has_slot(one) for one in bridges)
    for function in bridges:
        before, last = last, _scan_numbered(bus, function, last, quiet=quiet)
        used += max(1, last - before)
    for function in bridges:
        if function.subordinate is not None:
            continue
        share = 0
        if not slots and len(bridges) == 1:
            share = spare
        elif _has_slot(function):
            share = max(0, min(spare // slots, spare - used + 1))
        before, last = last, add_bridge(bus, function, last, share, quiet=quiet)
        used += max(0, last - before - 1)
    if bus.above is not None and _has_slot(bus.above) and last - bus.number < spare:
        last = min(bus.number + spare, bus.last)
    return last


def _has_slot(function: PcieFunction) -> bool:
    return function.pdev is not None and hotplugs(function.pdev)


def _scan_numbered(bus: PcieBus, function: PcieFunction, last: int, *, quiet: bool) -> int:
    """A bridge that has numbers already; one whose numbers make no sense loses them."""
    device = function.pdev
    assert device is not None
    numbers = device.read_config(bridge_regs.PCI_PRIMARY_BUS, 4)
    primary, secondary, subordinate = (numbers >> shift & 0xFF for shift in (0, 8, 16))
    if not secondary and not subordinate:
        return last
    if primary != bus.number or secondary <= bus.number or secondary > subordinate:
        device.write_config(bridge_regs.PCI_PRIMARY_BUS, 4, numbers & ~_NUMBERS)
        return last
    child = function.subordinate or bus.add_child(function, secondary, quiet=quiet)
    child.scan(quiet=quiet, spare=subordinate - secondary)
    return max(last, subordinate)


def add_bridge(bus: PcieBus, function: PcieFunction, last: int, spare: int, *, quiet: bool) -> int:
    """Give a bridge the number after `last` and find what is behind it; the last number behind it then.

    Without a number it stays without a bus (`pci_hp_add_bridge`).
    """
    device = function.pdev
    assert device is not None
    number = last + 1
    if number > bus.last or number in _taken(bus):
        say(device, ERROR, "No bus number available for hot-added bridge")
        return last
    device.write_config(regs.PCI_STATUS, 2, _ALL_ERRORS)
    kept = device.read_config(bridge_regs.PCI_PRIMARY_BUS, 4) & ~_NUMBERS
    device.write_config(bridge_regs.PCI_PRIMARY_BUS, 4, kept | bus.last << 16 | number << 8 | bus.number)
    end = bus.add_child(function, number, quiet=quiet).scan(quiet=quiet, spare=max(0, spare - 1))
    device.write_config(bridge_regs.PCI_SUBORDINATE_BUS, 1, end)
    return end


def _taken(bus: PcieBus) -> set[int]:
    """The numbers of the buses that Linux knows in this domain."""
    found: set[int] = set()
    for bridge in bus.bridge.siblings():
        found.add(bridge.root.number)
        for function in bridge.root.walk():
            if function.pdev is not None and function.subordinate is not None:
                found.add(function.subordinate.number)
    return found
