"""Plans to reset PCI functions: one by one of the kernel's methods, or everything behind a bridge at once.

==============  ====================================================  ================================================
way             what happens                                          file
==============  ====================================================  ================================================
function        the kernel's first method that works                  ``reset`` of the function
flr, pm, ...    that method alone (`METHODS`); the order of methods   ``reset_method``, ``reset``, ``reset_method``
                is as before afterwards
subordinate     the bus behind a bridge: DEV, or the one above DEV     ``reset_subordinate`` of the bridge (Linux 6.12)
==============  ====================================================  ================================================

The kernel asks no driver, and no user: whatever the functions had under way is lost.  So all that would be reset is
looked at, and what is in use speaks against the plan.  Source: ``Documentation/ABI/testing/sysfs-bus-pci``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pyvfio.address import PciAddress
from pyvfio.binding.inspection import plan_for
from pyvfio.binding.plan import Plan
from pyvfio.binding.steps_reset import ResetBehind, ResetPci
from pyvfio.devices import PciFunction
from pyvfio.errors import NotAvailable

__all__ = ["METHODS", "WAYS", "methods", "plan_pci_reset"]

METHODS: Final = ("device_specific", "acpi", "flr", "af_flr", "pm", "bus", "cxl_bus")
"""What ``reset_method`` can name, in the kernel's order."""
WAYS: Final = ("function", *METHODS, "subordinate")


def methods(function: PciFunction) -> tuple[str, ...] | None:
    """The methods that are in use for a function, in their order; None on a kernel that has no ``reset_method``."""
    text = function.attribute("reset_method")
    return None if text is None else tuple(text.split())


def plan_pci_reset(function: PciFunction, how: str = "function") -> Plan:
    """Plan to reset a function in one of `WAYS`.  Raise `NoSuchDevice`, `NotAvailable`."""
    function.require()
    if how == "subordinate":
        return _plan_behind(function)
    known = methods(function)
    if not function.sysfs.exists(f"{function.path}/reset"):
        raise NotAvailable(
            "reset PCI function",
            function.name,
            path=f"{function.path}/reset",
            cause="the kernel found no way to reset it alone",
            next_step="pyvfio reset DEV --how subordinate resets the whole bus that it is on, if it is behind a bridge",
        )
    if how == "function":
        step = ResetPci(function.name)
        title = f"reset {function.name}" + (f" ({known[0]})" if known else "")
        if known == ():
            raise NotAvailable(
                "reset PCI function",
                function.name,
                path=f"{function.path}/reset_method",
                cause="all its methods were disabled",
                next_step=f"echo default > {function.path}/reset_method",
            )
    else:
        if known is None:
            raise NotAvailable(
                "choose reset method",
                function.name,
                path=f"{function.path}/reset_method",
                cause="this kernel does not let anyone choose (Linux 5.15)",
                next_step="pyvfio reset DEV takes the first that works",
            )
        step = ResetPci(function.name, how, " ".join(known))
        title = f"reset {function.name} ({how})"
    return plan_for(title, function, (step,), notes=("The driver is not asked: what it had under way is lost",))


def _plan_behind(function: PciFunction) -> Plan:
    bridge = _bridge(function)
    files = f"{bridge.path}/reset_subordinate"
    if not bridge.sysfs.exists(files):
        raise NotAvailable(
            "reset bus", bridge.name, path=files, cause="this kernel has no reset_subordinate (Linux 6.12)"
        )
    affected = list(_behind(bridge))
    names = ", ".join(one.name for one in affected) or "nothing"
    notes = (f"Reset at once: {names}", "No driver is asked: what they had under way is lost")
    steps = (ResetBehind(bridge.name, tuple(one.name for one in affected)),)
    title = f"reset everything behind {bridge.name}"
    if not affected:
        return plan_for(title, bridge, steps, notes=notes, probes=False)
    first, *others = affected
    plans = [plan_for(title, first, steps, notes=notes)]
    plans += [plan_for(title, other, (ResetBehind(bridge.name, ()),)) for other in others]
    whole = Plan.join(plans, title)
    return Plan(title, whole.objects, steps, notes, whole.findings, whole.facts, whole.sysfs, whole.looked, whole.made)


def _bridge(function: PciFunction) -> PciFunction:
    """The bridge itself, or the one above a function.  Raise `NotAvailable` on a root bus."""
    if function.sysfs.exists(f"{function.path}/secondary_bus_number"):
        return function
    above = function.path.rpartition("/")[0].rpartition("/")[2]
    if ":" not in above or above.startswith("pci"):
        raise NotAvailable("reset bus", function.name, cause="it is on a root bus, which no bridge can reset")
    return PciFunction(function.sysfs, PciAddress.parse(above))


def _behind(bridge: PciFunction) -> Iterator[PciFunction]:
    """The functions behind a bridge, each before what is behind it."""
    sysfs = bridge.sysfs
    for name in sorted(sysfs.names(bridge.path)):
        if sysfs.exists(f"{bridge.path}/{name}/vendor") and sysfs.exists(f"{bridge.path}/{name}/config"):
            function = PciFunction(sysfs, PciAddress.parse(name))
            yield function
            yield from _behind(function)
