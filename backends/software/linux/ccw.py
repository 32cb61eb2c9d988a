"""The ccw bus: channel-attached devices, their drivers, and going online and offline.

Source: ``drivers/s390/cio/device.c``.  The states of the kernel's machine (``device_fsm.c``) that a device of this
machine can be in are few: recognised and offline, online, disconnected (its last path is gone, and its driver wants to
keep it), and not operational.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Final

from pyvfio.css.senseid import SenseId
from pyvfio_backends.software.linux.css import BoundDevices
from pyvfio_backends.software.linux.driver_core import Bus, Device, Driver
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.kstrtox import kstrtoul
from pyvfio_backends.software.linux.subchannel import SubchannelDevice
from pyvfio_backends.software.linux.vfs import Attribute, Directory, Node, StaticDirectory, fail

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CcwBus", "CcwDevice", "CcwDriver", "CcwState"]

_FORCE = b"force\n"
_NO_OPTIONS: Mapping[str, object] = {}


class CcwState(Enum):
    """What a device is, besides online (``enum dev_state``)."""

    OFFLINE = auto()
    ONLINE = auto()
    DISCONNECTED = auto()
    NOT_OPERATIONAL = auto()


def _measurements() -> Directory:
    """``cmf``: what the channel subsystem has measured; this one stores no samples (``drivers/s390/cio/cmf.c``)."""
    texts = {
        **dict.fromkeys(
            (
                "avg_control_unit_queuing_time",
                "avg_device_active_only_time",
                "avg_device_busy_time",
                "avg_device_connect_time",
                "avg_device_disconnect_time",
                "avg_function_pending_time",
                "avg_initial_command_response_time",
                "sample_count",
                "ssch_rsch_count",
            ),
            "0\n",
        ),
        "avg_sample_interval": "-1\n",
        "avg_utilization": "00.0%\n",
    }
    return StaticDirectory({name: Attribute(lambda text=text: text) for name, text in texts.items()})  # type: ignore[misc]


class CcwDevice(Device):
    """``0.S.DDDD`` below its subchannel; `identity` is what SENSE ID brought, `options` what its drivers show of it.

    `parent` changes when the device loses its subchannel and is kept.
    """

    __slots__ = ("_extra", "_measuring", "devno", "identity", "online", "options", "ssid", "state")

    def __init__(self, bus: CcwBus, sch: SubchannelDevice, identity: SenseId) -> None:
        ssid, devno = sch.schid.ssid, sch.devno
        super().__init__(bus.kernel, f"0.{ssid:x}.{devno:04x}", sch, bus=bus)
        self.ssid = ssid
        self.devno = devno
        self.identity = identity
        self.online = False
        self.state = CcwState.OFFLINE
        self._extra: dict[str, Node] | None = None
        self.options: Mapping[str, object] = _NO_OPTIONS
        self._measuring = False

    @property
    def extra(self) -> dict[str, Node]:
        """The attributes that its driver added; they may be changed."""
        if self._extra is None:
            self._extra = {}
        return self._extra

    @property
    def subchannel(self) -> SubchannelDevice | None:
        """Its subchannel; None for a device that was kept without one."""
        return self.parent if isinstance(self.parent, SubchannelDevice) else None

    @property
    def modalias(self) -> str:
        """``ccw:tTTTTmMMdtDDDDdmMM``; without a device type both last numbers are left out."""
        ident = self.identity
        device = f"dt{ident.dev_type:04X}dm{ident.dev_model:02X}" if ident.dev_type else "dtdm"
        return f"ccw:t{ident.cu_type:04X}m{ident.cu_model:02X}{device}"

    # online and offline

    def set_online(self) -> None:
        """``ccw_device_set_online``.  Raise OSError."""
        driver, sch = self.driver, self.subchannel
        if self.online or not isinstance(driver, CcwDriver):
            raise fail(errno.EINVAL)
        if sch is None or self.state is not CcwState.OFFLINE:
            raise fail(errno.EINVAL)
        code = sch.enable()
        if code:
            raise fail(code)
        if not sch.lpm:
            sch.disable()
            raise fail(errno.ENODEV)
        sch.vpm = sch.lpm
        self.state = CcwState.ONLINE
        try:
            driver.set_online(self)
        except OSError:
            self._stop()
            raise
        self.online = True

    def set_offline(self) -> None:
        """``ccw_device_set_offline``.  Raise OSError."""
        if not self.online or not isinstance(self.driver, CcwDriver):
            raise fail(errno.EINVAL)
        self.driver.set_offline(self)
        self.online = False
        self._stop()

    def _stop(self) -> None:
        """Disable the subchannel; what is still running is halted or cleared (``io_subchannel_quiesce``)."""
        self.state = CcwState.OFFLINE
        sch = self.subchannel
        if sch is None:
            return
        retries = [255]
        while sch.disable() == errno.EBUSY:
            if sch.cancel_halt_clear(retries) == errno.EIO:
                break
            if not self.kernel.clock.run_until(lambda: not sch.update_schib() and not sch.schib.scsw.fctl):
                break

    def let_go(self) -> None:
        """What the core does after the driver's remove."""
        self.online = False
        self._measuring = False
        if self.state is CcwState.ONLINE:
            self._stop()

    # sysfs

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        return {
            **{name: self._file(name) for name in _FILES},
            **({"cmf": _measurements()} if self._measuring else {}),
            **(self.driver.files(self) if isinstance(self.driver, CcwDriver) else {}),
            **(self._extra or {}),
        }

    def attribute(self, name: str) -> Node | None:
        """See `Device.attribute`."""
        if name in _FILES:
            return self._file(name)
        if name == "cmf" and self._measuring:
            return _measurements()
        if self._extra is not None and name in self._extra:
            return self._extra[name]
        return self.driver.files(self).get(name) if isinstance(self.driver, CcwDriver) else None

    def _file(self, name: str) -> Attribute:
        show, store = _FILES[name]
        return Attribute(partial(show, self), None if store is None else partial(store, self))

    def _cutype(self) -> str:
        return f"{self.identity.cu_type:04x}/{self.identity.cu_model:02x}\n"

    def _devtype(self) -> str:
        ident = self.identity
        return f"{ident.dev_type:04x}/{ident.dev_model:02x}\n" if ident.dev_type else "n/a\n"

    def _modalias(self) -> str:
        return f"{self.modalias}\n"

    def _show_cmb_enable(self) -> str:
        return f"{int(self._measuring)}\n"

    def _show_online(self) -> str:
        return f"{int(self.online)}\n"

    def _availability(self) -> str:
        sch = self.subchannel
        if sch is None:
            return "no device\n"
        if self.state in (CcwState.DISCONNECTED, CcwState.NOT_OPERATIONAL):
            return "no device\n" if sch.lpm else "no path\n"
        return "good\n"

    def _store_cmb_enable(self, data: bytes) -> None:
        value = kstrtoul(data, 16)
        if value > 1:
            raise fail(errno.EINVAL)
        sch = self.subchannel
        if sch is None:
            raise fail(errno.ENODEV)
        if not value and not self._measuring:
            raise fail(errno.EINVAL)  # there is no measurement block to give back (set_cmbe)
        self._measuring = bool(value)
        sch.config = replace(sch.config, mme=2 if value else 0)
        if sch.schib.pmcw.ena:
            sch.commit_config()

    def _store_online(self, data: bytes) -> None:
        # strncmp with the written length: each beginning of "force\n" means force.
        force = _FORCE.startswith(data)
        value = 1 if force else kstrtoul(data, 16)
        if value == 0:
            self._offline_by_user()
        elif value == 1:
            self._online_by_user(force)
        else:
            raise fail(errno.EINVAL)

    def _offline_by_user(self) -> None:
        if self.state is CcwState.DISCONNECTED:
            bus = self.bus
            sch = self.subchannel
            if bus is not None:
                self.kernel.clock.schedule(0.0, lambda: None if self.dead else bus.remove(self))
            if sch is not None:
                sch.css.schedule_evaluation(sch)
            return
        if not isinstance(self.driver, CcwDriver) or not self.driver.switchable:
            raise fail(errno.EINVAL)
        self.set_offline()

    def _online_by_user(self, force: bool) -> None:
        try:
            if not isinstance(self.driver, CcwDriver) or not self.driver.switchable:
                raise fail(errno.EINVAL)
            self.set_online()
        except OSError:
            # Force is for a device that another system has reserved, which none of this machine is.
            if not force:
                raise


_FILES: Final[Mapping[str, tuple[Callable[[CcwDevice], str], Callable[[CcwDevice, bytes], None] | None]]] = {
    "availability": (CcwDevice._availability, None),
    "cmb_enable": (CcwDevice._show_cmb_enable, CcwDevice._store_cmb_enable),
    "cutype": (CcwDevice._cutype, None),
    "devtype": (CcwDevice._devtype, None),
    "modalias": (CcwDevice._modalias, None),
    "online": (CcwDevice._show_online, CcwDevice._store_online),
}
"""What every ccw device shows, and how it is written."""


class CcwDriver(Driver):
    """A driver on the ccw bus.

    `ids` are what it takes: (CU type, CU model, device type, device model), None for any.  `switchable` says that users
    set its devices online and offline; `keeps_lost` that it keeps an online device without paths or subchannel.
    """

    ids: tuple[tuple[int, int | None, int | None, int | None], ...] = ()
    switchable = True
    keeps_lost = False

    def takes(self, identity: SenseId) -> bool:
        """Whether one of the ids means this device."""
        own = (identity.cu_type, identity.cu_model, identity.dev_type, identity.dev_model)
        return any(all(want in (None, have) for want, have in zip(row, own, strict=True)) for row in self.ids)

    def boot(self, device: CcwDevice, *, online: bool) -> None:
        """Take a device as at boot: without events."""
        self.devices[device.name] = device
        device.driver = self
        device.online = online
        device.state = CcwState.ONLINE if online else CcwState.OFFLINE
        if online:
            self.show(device, quiet=True)

    def files(self, device: CcwDevice) -> dict[str, Node]:
        """The attributes that every device of this driver has."""
        return {}

    def show(self, device: CcwDevice, *, quiet: bool) -> None:
        """Add what an online device has in sysfs."""

    def hide(self, device: CcwDevice) -> None:
        """Take that away again."""

    def set_online(self, device: CcwDevice) -> None:
        """Make an enabled device usable.  Raise OSError."""
        self.show(device, quiet=False)

    def set_offline(self, device: CcwDevice) -> None:
        """Stop using it.  Raise OSError to refuse."""
        self.hide(device)

    def remove(self, device: Device) -> None:
        """See `Driver.remove`."""
        if isinstance(device, CcwDevice):
            if device.online:
                self.hide(device)
            device.let_go()


class CcwBus(Bus):
    """``/sys/bus/ccw``."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel, "ccw")

    def match(self, device: Device, driver: Driver) -> bool:
        """See `Bus.match`."""
        return isinstance(device, CcwDevice) and isinstance(driver, CcwDriver) and driver.takes(device.identity)

    def uevent_vars(self, device: Device) -> list[tuple[str, str]]:
        """See `Bus.uevent_vars`."""
        if not isinstance(device, CcwDevice):
            return []
        ident = device.identity
        return [
            ("CU_TYPE", f"{ident.cu_type:04X}"),
            ("CU_MODEL", f"{ident.cu_model:02X}"),
            ("DEV_TYPE", f"{ident.dev_type:04X}"),
            ("DEV_MODEL", f"{ident.dev_model:02X}"),
            ("MODALIAS", device.modalias),
        ]

    def bound_to(self, driver: Driver) -> Mapping[str, Device]:
        """See `Bus.bound_to`."""
        return BoundDevices(self, driver)

    def remove(self, device: Device) -> None:
        """See `Bus.remove`; the driver goes first."""
        self.devices.pop(device.name, None)
        if device.driver is not None:
            self.detach(device)
        super().remove(device)

    def move(self, device: CcwDevice, parent: Device) -> None:
        """Put a device below another parent (``device_move``)."""
        old = device.devpath
        if device.parent is not None:
            device.parent.children.pop(device.name, None)
        device.parent = parent
        parent.children[device.name] = device
        device.uevent("move", [("DEVPATH_OLD", old)])

    def boot_drivers(self, drivers: Iterable[CcwDriver]) -> None:
        """Register drivers without offering devices to them."""
        for driver in drivers:
            self.drivers[driver.name] = driver
