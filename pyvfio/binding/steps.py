"""The steps that plans are made of: overrides and drivers.  Online states are in `steps_online`.

Only ``driver_override`` chooses a driver; ``new_id`` is never used, because it gives away every device of a kind.
Sources: ``Documentation/ABI/testing/sysfs-bus-pci`` and ``-css``; ``drivers/base/bus.c``; ``drivers/base/driver.c``
(an override is cleared by a newline; an empty write does not reach the kernel).
"""

from __future__ import annotations

from dataclasses import dataclass

from pyvfio import causes
from pyvfio.address import DeviceNumber
from pyvfio.binding.facts import vfio_nodes
from pyvfio.binding.step import Step, journaled
from pyvfio.binding.steps_online import come
from pyvfio.devices import ChannelDevice, device_named
from pyvfio.errors import NotAvailable, NotModelled, PermissionDenied, PyvfioError, Timeout
from pyvfio.sysfs import Sysfs
from pyvfio.sysfs_device import SysfsDevice, is_vfio_name
from pyvfio.vfio.ways import NO_IOMMU_SWITCH

__all__ = [
    "Bind",
    "Probe",
    "SetOverride",
    "Unbind",
    "require_driver",
    "set_override",
    "take_from",
]


def _driver_file(bus: str, driver: str, name: str) -> str:
    return f"/sys/bus/{bus}/drivers/{driver}/{name}"


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
    path = _driver_file(device.bus, driver, "bind")
    try:
        device.sysfs.write_text(path, device.name)
    except (NotModelled, PermissionDenied, Timeout):
        raise
    except PyvfioError as error:
        alone = is_vfio_name(driver) and device.group is None
        why = causes.bind_refused(
            driver,
            device.name,
            override=device.override,
            now=device.driver,
            needs_group=alone and not _no_iommu(device),
        )
        raise type(error)(
            f"bind to {driver}",
            device.name,
            path=path,
            errno=error.errno,
            cause=why.sentence,
            next_step=why.next_step,
        ) from error


def _no_iommu(device: SysfsDevice) -> bool:
    """Whether VFIO takes devices without an IOMMU."""
    return device.sysfs.attribute(NO_IOMMU_SWITCH) == "Y"


def _unbind(device: SysfsDevice) -> None:
    driver = device.driver
    if driver is not None:
        device.sysfs.write_text(_driver_file(device.bus, driver, "unbind"), device.name)


@journaled("override")
@dataclass(frozen=True, slots=True)
class SetOverride(Step):
    """Write ``driver_override``: `value` (None: cleared with a newline) instead of `before`."""

    bus: str
    name: str
    value: str | None
    before: str | None

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return (
            f"set driver_override of {self.name} to {self.value}"
            if self.value
            else f"clear driver_override of {self.name}"
        )

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return f"set it to {self.before}" if self.before else "clear it"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (f"/sys/bus/{self.bus}/devices/{self.name}/driver_override",)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        _write_override(device_named(sysfs, self.bus, self.name), self.value)

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        now = device_named(sysfs, self.bus, self.name).override
        return "" if now == self.value else f"driver_override is {now or 'none'}, not {self.value or 'none'}"

    def changed(self, sysfs: Sysfs) -> str:
        """See `Step.changed`."""
        now = device_named(sysfs, self.bus, self.name).override
        return "" if now == self.before else f"driver_override is {now or 'none'}, not {self.before or 'none'}"

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        _write_override(device_named(sysfs, self.bus, self.name), self.before)


@journaled("unbind")
@dataclass(frozen=True, slots=True)
class Unbind(Step):
    """Unbind from `driver`.  The inverse restores the `override` of before, binds again, and waits for the channel
    device `returns` (empty: none), which `driver` registers.  The kernel may wait for those who have `held` open.
    """

    bus: str
    name: str
    driver: str
    override: str | None
    held: tuple[str, ...] = ()
    returns: str = ""

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"unbind {self.name} from {self.driver}"

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return f"bind it to {self.driver}"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (_driver_file(self.bus, self.driver, "unbind"),)

    @property
    def nodes(self) -> tuple[str, ...]:
        """See `Step.nodes`."""
        return self.held

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        _unbind(device_named(sysfs, self.bus, self.name))

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        now = device_named(sysfs, self.bus, self.name).driver
        return "" if now is None else f"it still has driver {now}"

    def changed(self, sysfs: Sysfs) -> str:
        """See `Step.changed`."""
        now = device_named(sysfs, self.bus, self.name).driver
        return "" if now == self.driver else f"its driver is {now or 'none'}, not {self.driver}"

    def takes_back(self, sysfs: Sysfs) -> list[SysfsDevice]:
        """See `Step.takes_back`."""
        device = device_named(sysfs, self.bus, self.name)
        return [] if device.driver in (None, self.driver) else [device]

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        device = device_named(sysfs, self.bus, self.name)
        if device.driver not in (None, self.driver):
            _unbind(device)
        _write_override(device, self.override)
        _bind(device, self.driver)
        if self.returns:
            problem = come(ChannelDevice(sysfs, DeviceNumber.parse(self.returns)))
            if problem:
                raise NotAvailable(f"give back to {self.driver}", self.name, cause=problem)


@journaled("bind")
@dataclass(frozen=True, slots=True)
class Bind(Step):
    """Bind to `driver`, which its override names.

    `enabled` says that the PCI function was enabled without a driver (``enable``), which the inverse restores.
    """

    bus: str
    name: str
    driver: str
    enabled: bool = False

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"bind {self.name} to {self.driver}"

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return f"unbind it from {self.driver}" + (" and enable it again" if self.enabled else "")

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (_driver_file(self.bus, self.driver, "bind"),)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        _bind(device_named(sysfs, self.bus, self.name), self.driver)

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        now = device_named(sysfs, self.bus, self.name).driver
        return "" if now == self.driver else f"its driver is {now or 'none'}, not {self.driver}"

    def changed(self, sysfs: Sysfs) -> str:
        """See `Step.changed`."""
        now = device_named(sysfs, self.bus, self.name).driver
        return "" if now in (None, self.driver) else f"its driver is {now}, where none was"

    def takes_back(self, sysfs: Sysfs) -> list[SysfsDevice]:
        """See `Step.takes_back`."""
        device = device_named(sysfs, self.bus, self.name)
        return [device] if device.driver == self.driver else []

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        device = device_named(sysfs, self.bus, self.name)
        if device.driver == self.driver:
            _unbind(device)
        if self.enabled and device.driver is None and not device.read_number("enable"):
            device.write("enable", "1")


@journaled("probe")
@dataclass(frozen=True, slots=True)
class Probe(Step):
    """Let the kernel look for a driver (``drivers_probe``, which reports success even when none takes the device).

    `wanted` is the driver that must have it afterwards; without one, no driver is a good answer too.  `returns` is the
    channel device that must come (empty: none).
    """

    bus: str
    name: str
    wanted: str | None = None
    returns: str = ""

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"let the kernel find the driver of {self.name}"

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return "unbind it"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (f"/sys/bus/{self.bus}/drivers_probe",)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        sysfs.write_text(self.paths[0], self.name)

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        now = device_named(sysfs, self.bus, self.name).driver
        if self.wanted is not None and now != self.wanted:
            return f"its driver is {now or 'none'}, not {self.wanted}"
        return come(ChannelDevice(sysfs, DeviceNumber.parse(self.returns))) if self.returns else ""

    def takes_back(self, sysfs: Sysfs) -> list[SysfsDevice]:
        """See `Step.takes_back`."""
        device = device_named(sysfs, self.bus, self.name)
        return [] if device.driver is None else [device]

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        _unbind(device_named(sysfs, self.bus, self.name))


def set_override(device: SysfsDevice, value: str | None) -> SetOverride:
    """Set (None: clear) the override of `device`, which has one now or not."""
    return SetOverride(device.bus, device.name, value, device.override)


def take_from(device: SysfsDevice, driver: str, *, returns: str = "") -> Unbind:
    """Unbind `device` from `driver`, remembering the override of now."""
    return Unbind(device.bus, device.name, driver, device.override, vfio_nodes(device), returns)
