"""The steps that plans are made of: overrides, drivers, online states, mediated devices.

Only ``driver_override`` chooses a driver; ``new_id`` is never used, because it gives away every device of a kind.
Sources: ``Documentation/ABI/testing/sysfs-bus-pci`` and ``-css``; ``drivers/base/bus.c``; ``drivers/base/driver.c``
(an override is cleared by a newline; an empty write does not reach the kernel).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pyvfio import causes
from pyvfio.address import MdevUuid
from pyvfio.binding.step import Step
from pyvfio.devices import ChannelDevice, MediatedDevice
from pyvfio.errors import NotAvailable, PermissionDenied, PyvfioError, Timeout
from pyvfio.mdev import MdevParent
from pyvfio.sysfs_device import SysfsDevice

__all__ = [
    "create_mdev",
    "give_to",
    "offline",
    "online",
    "probe",
    "remove_mdev",
    "require_driver",
    "set_override",
    "take_from",
    "wait_for",
]

_PATIENCE = 15.0
_LOOK_EVERY = 0.02


def _driver_file(device: SysfsDevice, driver: str, name: str) -> str:
    return f"/sys/bus/{device.bus}/drivers/{driver}/{name}"


def require_driver(device: SysfsDevice, driver: str) -> None:
    """Raise `NotAvailable` when the device's bus has no driver of this name."""
    path = f"/sys/bus/{device.bus}/drivers/{driver}"
    if not device.sysfs.exists(path):
        why = causes.no_driver(driver, device.bus)
        raise NotAvailable(f"bind to {driver}", device.name, path=path, cause=why.sentence, next_step=why.next_step)


def _write_override(device: SysfsDevice, value: str | None) -> None:
    if device.override != value:
        device.write("driver_override", f"{value}\n" if value else "\n")


def _bind(device: SysfsDevice, driver: str) -> None:
    """Bind if it is not so already.  Raise the errno's class with the cause, `NotAvailable` without such a driver."""
    if device.driver == driver:
        return
    require_driver(device, driver)
    path = _driver_file(device, driver, "bind")
    try:
        device.sysfs.write_text(path, device.name)
    except PermissionDenied:
        raise
    except PyvfioError as error:
        why = causes.bind_refused(driver, device.name, override=device.override, now=device.driver)
        raise type(error)(
            f"bind to {driver}",
            device.name,
            path=path,
            errno=error.errno,
            cause=why.sentence,
            next_step=why.next_step,
        ) from error


def _unbind(device: SysfsDevice) -> None:
    driver = device.driver
    if driver is not None:
        node = device.group.node if device.group is not None else ""
        device.sysfs.write_text(_driver_file(device, driver, "unbind"), device.name, deadline=_PATIENCE, held=node)


def set_override(device: SysfsDevice, value: str | None) -> Step:
    """Write ``driver_override`` (None: clear it with a newline)."""
    before = device.override
    wanted = value or "none"
    return Step(
        f"set driver_override of {device.name} to {value}" if value else f"clear driver_override of {device.name}",
        f"set it to {before}" if before else "clear it",
        (f"{device.path}/driver_override",),
        lambda: _write_override(device, value),
        lambda: "" if device.override == value else f"driver_override is {device.override or 'none'}, not {wanted}",
        lambda: _write_override(device, before),
    )


def take_from(device: SysfsDevice, driver: str, after: Callable[[], None] = lambda: None) -> Step:
    """Unbind from `driver`.  The inverse restores the override of now, binds again, and calls `after`."""
    override = device.override

    def back() -> None:
        if device.driver not in (None, driver):
            _unbind(device)
        _write_override(device, override)
        _bind(device, driver)
        after()

    return Step(
        f"unbind {device.name} from {driver}",
        f"bind it to {driver}",
        (_driver_file(device, driver, "unbind"),),
        lambda: _unbind(device),
        lambda: "" if device.driver is None else f"it still has driver {device.driver}",
        back,
    )


def give_to(device: SysfsDevice, driver: str) -> Step:
    """Bind to `driver`, which its override names."""
    return Step(
        f"bind {device.name} to {driver}",
        f"unbind it from {driver}",
        (_driver_file(device, driver, "bind"),),
        lambda: _bind(device, driver),
        lambda: "" if device.driver == driver else f"its driver is {device.driver or 'none'}, not {driver}",
        lambda: _unbind(device) if device.driver == driver else None,
    )


def probe(device: SysfsDevice, *, wanted: str | None = None, after: Callable[[], str] = lambda: "") -> Step:
    """Let the kernel look for a driver (``drivers_probe``, which reports success even when none takes the device).

    `wanted` is the driver that must have it afterwards; without one, no driver is a good answer too.
    """
    path = f"/sys/bus/{device.bus}/drivers_probe"

    def check() -> str:
        if wanted is not None and device.driver != wanted:
            return f"its driver is {device.driver or 'none'}, not {wanted}"
        return after()

    def back() -> None:
        _unbind(device)

    return Step(
        f"let the kernel find the driver of {device.name}",
        "unbind it",
        (path,),
        lambda: device.sysfs.write_text(path, device.name),
        check,
        back,
    )


def _wait(ready: Callable[[], bool], operation: str, name: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not ready():
        if time.monotonic() >= deadline:
            raise Timeout(
                operation, name, cause=f"not so after {_PATIENCE:g} s", next_step="look at the kernel log (dmesg)"
            )
        time.sleep(_LOOK_EVERY)


def _set_online(device: ChannelDevice, wanted: bool) -> None:
    _wait(lambda: device.exists, "wait for the channel device", device.name)
    if device.online != wanted:
        device.set_online(wanted)


def offline(device: ChannelDevice) -> Step:
    """Set a channel device offline."""
    return Step(
        f"set {device.name} offline",
        "set it online",
        (f"{device.path}/online",),
        lambda: _set_online(device, False),
        lambda: "it is still online" if device.online else "",
        lambda: _set_online(device, True),
    )


def online(device: ChannelDevice) -> Step:
    """Set a channel device online; it may appear only while the plan runs."""
    return Step(
        f"set {device.name} online",
        "set it offline",
        (f"/sys/bus/ccw/devices/{device.name}/online",),
        lambda: _set_online(device, True),
        lambda: "" if device.online else "it is not online",
        lambda: _set_online(device, False) if device.exists else None,
    )


def wait_for(device: ChannelDevice) -> str:
    """Wait until a channel device is registered; an empty string, or what is wrong."""
    try:
        _wait(lambda: device.exists, "wait for the channel device", device.name)
    except PyvfioError as error:
        return f"the channel device {device.name} did not come back ({error.cause})"
    return ""


def create_mdev(parent: SysfsDevice, type_id: str, uuid: MdevUuid) -> Step:
    """Create a mediated device on `parent`, which may become a parent only while the plan runs."""
    device = MediatedDevice(parent.sysfs, uuid)
    path = f"/sys/bus/{parent.bus}/devices/{parent.name}/mdev_supported_types/{type_id}/create"

    def create() -> None:
        MdevParent(parent).type(type_id).create(uuid)

    return Step(
        f"create mediated device {uuid} on {parent.name}",
        "remove it",
        (path,),
        create,
        lambda: "" if device.exists else "it is not there",
        lambda: device.remove() if device.exists else None,
    )


def remove_mdev(device: MediatedDevice) -> Step:
    """Remove a mediated device; the inverse makes it again with the same name."""
    parent, type_id, uuid = device.parent, device.type.id, device.address

    def create() -> None:
        if not device.exists:
            MdevParent(parent).type(type_id).create(uuid)

    return Step(
        f"remove mediated device {device.name}",
        f"create it again on {parent.name}",
        (f"{device.path}/remove",),
        lambda: device.remove(deadline=_PATIENCE),
        lambda: "it is still there" if device.exists else "",
        create,
    )
