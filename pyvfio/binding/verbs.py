"""Bind, unbind, release: PCI functions and subchannels."""

from __future__ import annotations

from pyvfio.binding.facts import facts
from pyvfio.binding.plan import Plan, run
from pyvfio.binding.step import Progress, Step
from pyvfio.binding.steps import give_to, probe, require_driver, set_override, take_from
from pyvfio.devices import ChannelDevice, MediatedDevice, PciFunction, Subchannel
from pyvfio.errors import DeviceBusy, WrongBus
from pyvfio.sysfs_device import SysfsDevice

__all__ = ["bind", "plan_bind", "plan_release", "plan_unbind", "release", "unbind"]

_DEFAULT = {"pci": "vfio-pci", "css": "vfio_ccw"}


def _check_bus(device: SysfsDevice, operation: str) -> None:
    device.require()
    if isinstance(device, PciFunction | Subchannel):
        return
    step = {
        ChannelDevice: f"pyvfio ccw {'give-back' if operation == 'release' else 'take'} {device.name}"
        ": its subchannel is what vfio_ccw has",
        MediatedDevice: "a mediated device has its driver from the start; remove it with pyvfio mdev remove",
    }.get(type(device), "")
    raise WrongBus(operation, device.name, cause=f"it is on bus {device.bus}, not on pci or css", next_step=step)


def _check_free(device: SysfsDevice, operation: str) -> None:
    """Refuse while a program has the device open: the kernel would wait for it."""
    known = facts(device)
    if known.holders:
        who = ", ".join(str(holder) for holder in known.holders)
        raise DeviceBusy(
            operation,
            device.name,
            path=known.vfio_node or "",
            cause=f"it is open in {who}",
            next_step="end the program, or let it close the device",
        )


def plan_bind(device: SysfsDevice, driver: str | None = None) -> Plan:
    """Plan to give a device to `driver` (default: vfio-pci on pci, vfio_ccw on css).

    Raise `WrongBus`, `NoSuchDevice`, `NotAvailable` (no such driver), `DeviceBusy` (a program has it open).
    """
    _check_bus(device, "bind")
    name = driver or _DEFAULT[device.bus]
    require_driver(device, name)
    now = device.driver
    title = f"bind {device.name} to {name}"
    if now == name:
        return Plan(title, device.name)
    if device.has_vfio_driver:
        _check_free(device, "bind")
    steps: list[Step] = []
    if device.override != name:
        steps.append(set_override(device, name))
    if now is not None:
        steps.append(take_from(device, now))
    steps.append(give_to(device, name))
    return Plan(title, device.name, tuple(steps), _group_notes(device))


def _group_notes(device: SysfsDevice) -> tuple[str, ...]:
    group = device.group
    blockers = [] if group is None else group.blockers(besides=device.name)
    if group is None or not blockers:
        return ()
    return (f"IOMMU group {group.number} cannot be used until these go too: {', '.join(map(str, blockers))}",)


def plan_unbind(device: SysfsDevice) -> Plan:
    """Plan to take a device away from its driver."""
    _check_bus(device, "unbind")
    title = f"unbind {device.name}"
    now = device.driver
    if now is None:
        return Plan(title, device.name)
    if device.has_vfio_driver:
        _check_free(device, "unbind")
    return Plan(title, device.name, (take_from(device, now),))


def plan_release(device: SysfsDevice) -> Plan:
    """Plan to give a device back: clear its override, unbind a VFIO driver, let the kernel find its own driver.

    A driver that is not VFIO's is left where it is.
    """
    _check_bus(device, "release")
    title = f"release {device.name}"
    now = device.driver
    steps: list[Step] = []
    held = device.has_vfio_driver
    if held:
        _check_free(device, "release")
    if held and now is not None:
        steps.append(take_from(device, now))
    if device.override is not None:
        steps.append(set_override(device, None))
    if held or (now is None and steps):
        steps.append(probe(device))
    return Plan(title, device.name, tuple(steps))


def bind(device: SysfsDevice, driver: str | None = None, *, progress: Progress | None = None) -> Plan:
    """Give a device to a VFIO driver; each step is read back, a failure is rolled back.

    Raise what `plan_bind` raises, `StepFailed` (the host is as before) or `RollbackFailed`.
    """
    return run(plan_bind(device, driver), progress)


def unbind(device: SysfsDevice, *, progress: Progress | None = None) -> Plan:
    """Take a device away from its driver.  Raise as `bind`."""
    return run(plan_unbind(device), progress)


def release(device: SysfsDevice, *, progress: Progress | None = None) -> Plan:
    """Give a device back to the kernel's own driver.  Raise as `bind`."""
    return run(plan_release(device), progress)
