"""Plans for PCI functions of IBM Z: configure and deconfigure them, and reset them in one of three ways.

==========  =====================================================  =====================================================
way         what happens                                           who does the same
==========  =====================================================  =====================================================
recover     the error is reported; the device goes, the function   ``zpcictl --reset``
            is disabled and enabled, the device is found anew
firmware    the machine resets the function and reports an error;  ``zpcictl --reset-fw``
            Linux recovers it below its driver, in place
function    the function is disabled and enabled below its         ``echo 1 > reset`` of the device
            driver, its configuration space is brought back
==========  =====================================================  =====================================================
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pyvfio.binding.facts import vfio_nodes
from pyvfio.binding.inspection import plan_for
from pyvfio.binding.plan import Plan
from pyvfio.binding.step import Step
from pyvfio.binding.steps_sriov import driver_state
from pyvfio.binding.steps_zpci import Recover, Report, ResetFunction, SwitchSlot
from pyvfio.devices import PciFunction
from pyvfio.errors import DeviceBusy, NoSuchDevice, NotAvailable, PyvfioError
from pyvfio.pci.sriov import sriov
from pyvfio.zpci.known import SLOTS, device_with
from pyvfio.zpci.report import ReportAction

if TYPE_CHECKING:
    from pyvfio.host import Host

__all__ = ["WAYS", "plan_power", "plan_reset"]

WAYS: Final = ("recover", "firmware", "function")
"""The ways to reset a function."""
_FILES: Final = {"recover": "recover", "firmware": "report_error", "function": "reset"}
_MISSING: Final = {
    "recover": "this kernel has no recover (Linux 4.15)",
    "firmware": "this kernel takes no reports of errors (Linux 4.8)",
    "function": "Linux found no way to reset it when it appeared; it finds none for what comes by hotplug or recovery",
}


def _held(device: PciFunction) -> tuple[str, ...]:
    with contextlib.suppress(PyvfioError):
        return vfio_nodes(device)
    return ()


def plan_power(host: Host, fids: Sequence[int], on: bool) -> Plan:
    """Plan to configure functions (they get a device and a driver) or to deconfigure them.

    What is so already is left out, with a note; what uses a device that goes speaks against the plan.  Raise
    `NotAvailable` for a function without a hotplug slot, `DeviceBusy` for one that has virtual functions.
    """
    plans = [_power(host, fid, on) for fid in fids]
    verb = "configure" if on else "deconfigure"
    names = ", ".join(plan.obj for plan in plans)
    return Plan.join(plans, f"{verb} PCI function{'s' if len(plans) > 1 else ''} {names}")


def _power(host: Host, fid: int, on: bool) -> Plan:
    sysfs, path = host.sysfs, f"{SLOTS}/{fid:08x}/power"
    now = sysfs.attribute(path)
    verb = "configure" if on else "deconfigure"
    if now is None:
        raise NotAvailable(
            f"{verb} PCI function",
            f"fid {fid:08x}",
            path=path,
            cause="it has no hotplug slot: Linux does not know it, or has no s390 hotplug (CONFIG_HOTPLUG_PCI_S390)",
            next_step="pyvfio zpci show lists the functions and what is missing",
        )
    device = device_with(sysfs, fid)
    name = f"fid {fid:08x}" if device is None else device.name
    title = f"{verb} {name}"
    if now == str(int(on)):
        return Plan(title, (name,), notes=(f"Function {name} is {'configured' if on else 'in standby'} already",))
    if device is None:
        notes = () if on else ("It is configured, but Linux has no device for it: the function was not usable",)
        return Plan(title, (name,), (SwitchSlot(fid, on),), notes, sysfs=sysfs)
    virtual = sriov(device)
    if virtual is not None and virtual.number:
        raise DeviceBusy(
            f"{verb} PCI function",
            name,
            path=path,
            cause=f"it has {virtual.number} virtual functions",
            next_step=f"pyvfio sriov {name} 0 removes them",
        )
    step = SwitchSlot(fid, on, driver_state(device), _held(device))
    return plan_for(title, device, [step], notes=_going(device))


def _going(device: PciFunction) -> tuple[str, ...]:
    notes = ["Its handle ends with that; its FID and UID stay"]
    if device.override is not None:
        notes.append(f"The driver override {device.override} goes with the device; the inverse sets it again")
    return tuple(notes)


def plan_reset(host: Host, fid: int, how: str = "recover") -> Plan:
    """Plan to reset a function; the ways are those of `WAYS`.  What uses the device speaks against the plan.

    Raise `NoSuchDevice` for a function without a device, `NotAvailable` where the kernel has no file for this way.
    """
    device = device_with(host.sysfs, fid)
    if device is None:
        raise NoSuchDevice(
            "reset PCI function",
            f"fid {fid:08x}",
            cause="it has no device: it is in standby, or was not usable",
            next_step=f"pyvfio zpci enable {fid:x} configures it",
        )
    path = f"{device.path}/{_FILES[how]}"
    if not host.sysfs.exists(path):
        raise NotAvailable(
            "reset PCI function",
            device.name,
            path=path,
            cause=_MISSING[how],
            next_step=f"another way: {', '.join(way for way in WAYS if way != how)}",
        )
    state, steps, notes = driver_state(device), list[Step](), list[str]()
    if how == "recover":
        if host.sysfs.exists(f"{device.path}/report_error"):
            steps.append(Report(state, ReportAction.INFORM, optional=True))
        steps.append(Recover(state, _held(device)))
        notes.append("Its interfaces and disks go and come again: bonds, RAIDs and mounts must be told")
    elif how == "firmware":
        steps.append(Report(state, ReportAction.RESET))
        notes.append("The driver is asked to recover in place; one that cannot leaves the function in error")
    else:
        steps.append(ResetFunction(state))
        notes.append("The driver is not asked: what it had under way is lost")
    return plan_for(f"reset {device.name} ({how})", device, steps, notes=tuple(notes))
