"""Bind, unbind, release: PCI functions and subchannels."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pyvfio.arguments import require_kind
from pyvfio.binding.inspection import plan_for
from pyvfio.binding.plan import Plan
from pyvfio.binding.running import run
from pyvfio.binding.step import Progress, Step
from pyvfio.binding.steps import Bind, Probe, require_driver, set_override, take_from
from pyvfio.devices import ChannelDevice, MediatedDevice, PciFunction, Subchannel
from pyvfio.errors import Misuse, WrongBus
from pyvfio.pci.classes import is_bridge
from pyvfio.sysfs_device import SysfsDevice, is_vfio_name

__all__ = ["bind", "plan_bind", "plan_release", "plan_unbind", "release", "unbind"]

_DEFAULT = {"pci": "vfio-pci", "css": "vfio_ccw"}
_PORT_DRIVER = "pcieport"
_SHOWN = 4
"""So many functions a note names."""


def _check_bus(device: SysfsDevice, operation: str) -> None:
    require_kind(operation, "device", device, SysfsDevice, "one that Host.device() gives")
    device.require()
    if isinstance(device, PciFunction | Subchannel):
        return
    step = {
        ChannelDevice: f"pyvfio ccw {'give-back' if operation == 'release' else 'take'} {device.name}"
        ": its subchannel is what vfio_ccw has",
        MediatedDevice: "a mediated device has its driver from the start; remove it with pyvfio mdev remove",
    }.get(type(device), "")
    raise WrongBus(operation, device.name, cause=f"it is on bus {device.bus}, not on pci or css", next_step=step)


def plan_bind(device: SysfsDevice, driver: str | None = None, *, besides: Collection[str] = ()) -> Plan:
    """Plan to give a device to `driver` (default: vfio-pci on pci, vfio_ccw on css).

    A note names the members of its IOMMU group that keep it from being used, without those `besides` that go too.
    Raise `WrongBus`, `NoSuchDevice`, `NotAvailable` (no such driver), `Misuse` for a bridge and a driver of VFIO.
    """
    _check_bus(device, "bind")
    name = driver or _DEFAULT[device.bus]
    require_driver(device, name)
    now = device.driver
    if now != name and is_vfio_name(name) and isinstance(device, PciFunction) and is_bridge(device.class_code):
        cause = "it is a bridge, and VFIO takes none: what is behind it would lose its way to the kernel for nothing"
        raise Misuse(f"bind to {name}", device.name, cause=cause, next_step="bind what is behind it (pyvfio topology)")
    title = f"bind {device.name} to {name}"
    steps: list[Step] = []
    if now != name:
        if device.override != name:
            steps.append(set_override(device, name))
        if now is not None:
            steps.append(take_from(device, now))
        enabled = now is None and bool(device.read_number("enable"))
        steps.append(Bind(device.bus, device.name, name, enabled))
    notes = (*_group_notes(device, besides), *_error_notes(device)) if steps else ()
    return plan_for(title, device, steps, notes=notes)


def _group_notes(device: SysfsDevice, besides: Collection[str]) -> tuple[str, ...]:
    group = device.group
    blocking = [] if group is None else group.blockers(besides=device.name)
    blockers = [member for member in blocking if member.name not in besides]
    if group is None or not blockers:
        return ()
    return (f"IOMMU group {group.number} cannot be used until these go too: {', '.join(map(str, blockers))}",)


def _error_notes(device: SysfsDevice) -> tuple[str, ...]:
    """Whose errors nobody reports once a root port, or an event collector, loses the driver that takes messages."""
    if device.driver != _PORT_DRIVER:
        return ()
    from pyvfio.pci.error_state import reporting_at  # of all devices only ports need it

    names = reporting_at(device.sysfs, device.path)
    if not names:
        return ()
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return (f"Without {_PORT_DRIVER} at {device.name} nobody reports the errors of {shown}",)


def plan_unbind(device: SysfsDevice) -> Plan:
    """Plan to take a device away from its driver.  Raise `WrongBus`, `NoSuchDevice`."""
    _check_bus(device, "unbind")
    now = device.driver
    title = f"unbind {device.name}"
    if now is None:
        return plan_for(title, device, ())
    override = device.override
    stays = f"; its driver_override stays {override}" if override is not None else ""
    note = f"{device.name} then has no driver{stays}: pyvfio release lets the kernel find its own one again"
    return plan_for(title, device, (take_from(device, now),), notes=(note, *_error_notes(device)))


def plan_release(device: SysfsDevice) -> Plan:
    """Plan to give a device back: unbind a VFIO driver, clear its override, let the kernel find its own driver.

    The kernel also looks for one for a device that has none.  A driver that is not VFIO's is left where it is.  Raise
    `WrongBus`, `NoSuchDevice`.
    """
    _check_bus(device, "release")
    now = device.driver
    steps: list[Step] = []
    held = device.has_vfio_driver
    if held and now is not None:
        steps.append(take_from(device, now))
    if device.override is not None:
        steps.append(set_override(device, None))
    if held or now is None:
        steps.append(Probe(device.bus, device.name))
    return plan_for(f"release {device.name}", device, steps, probes=held)


def bind(
    device: SysfsDevice, driver: str | None = None, *, progress: Progress | None = None, force: Iterable[str] = ()
) -> Plan:
    """Give a device to a VFIO driver; each step is read back, a failure is rolled back.

    `force` names the in-use probes that are overridden.  Raise what `plan_bind` and `run` raise: `DeviceInUse`
    (nothing was done), `StepFailed` (the host is as before), `StillWaiting` or `RollbackFailed`.
    """
    return run(plan_bind(device, driver), progress, force=force)


def unbind(device: SysfsDevice, *, progress: Progress | None = None, force: Iterable[str] = ()) -> Plan:
    """Take a device away from its driver.  Raise as `bind`."""
    return run(plan_unbind(device), progress, force=force)


def release(device: SysfsDevice, *, progress: Progress | None = None, force: Iterable[str] = ()) -> Plan:
    """Give a device back to the kernel's own driver.  Raise as `bind`."""
    return run(plan_release(device), progress, force=force)
