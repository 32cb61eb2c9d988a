"""Channel-attached devices, their drivers, and going online and offline.

Source: ``drivers/s390/cio/device.c``; what a device is and what happens to it is in `ccw_fsm`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pyvfio.css.irb import Irb
from pyvfio.css.senseid import SenseId
from pyvfio_backends.software.linux.ccw_fsm import CcwFsm
from pyvfio_backends.software.linux.ccw_state import CcwState, Notice, Todo
from pyvfio_backends.software.linux.ccw_sysfs import FILES
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.driver_core import Driver
from pyvfio_backends.software.linux.subchannel import SubchannelDevice
from pyvfio_backends.software.linux.vfs import Attribute, Node, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.ccw_bus import CcwBus
    from pyvfio_backends.software.linux.ccw_measurement import Measurement

__all__ = ["CcwDevice", "CcwDriver", "CcwState", "Notice"]

_NO_OPTIONS: Mapping[str, object] = {}
_NOT_KNOWN: Final = SenseId(0, 0, 0, 0)


class CcwDevice(Device):
    """``0.S.DDDD`` below its subchannel; `identity` is what SENSE ID brought, `options` what its drivers show of it.

    `parent` changes when the device loses its subchannel and is kept.  `measurement` is there while it is measured.
    `unshown` puts into sysfs what the driver shows of a device that the boot set online, as soon as somebody asks.
    """

    __slots__ = (
        "_extra",
        "_fsm",
        "ccw_bus",
        "devno",
        "identity",
        "measurement",
        "online",
        "options",
        "ssid",
        "state",
        "unshown",
    )

    def __init__(self, bus: CcwBus, sch: SubchannelDevice, identity: SenseId = _NOT_KNOWN) -> None:
        ssid, devno = sch.schid.ssid, sch.devno
        super().__init__(bus.kernel, f"0.{ssid:x}.{devno:04x}", sch, bus=bus)
        self.ccw_bus = bus
        self.ssid = ssid
        self.devno = devno
        self.identity = identity
        self.online = False
        self.state = CcwState.OFFLINE
        self.measurement: Measurement | None = None
        self._fsm: CcwFsm | None = None
        self._extra: dict[str, Node] | None = None
        self.options: Mapping[str, Any] = _NO_OPTIONS
        self.unshown: Callable[[CcwDevice], None] | None = None

    @property
    def children(self) -> dict[str, Device]:
        """See `Device.children`."""
        unshown, self.unshown = self.unshown, None
        if unshown is not None:
            unshown(self)
        return super().children

    @property
    def fsm(self) -> CcwFsm:
        """The machine that handles what happens to the device."""
        if self._fsm is None:
            self._fsm = CcwFsm(self)
        return self._fsm

    @property
    def busy(self) -> bool:
        """Whether work of cio on it waits."""
        return self._fsm is not None and self._fsm.todo is not Todo.NOTHING

    @property
    def registered(self) -> bool:
        """Whether the bus has it; one that is being recognised is not registered yet."""
        return self.ccw_bus.devices.get(self.name) is self

    @property
    def ccw_driver(self) -> CcwDriver | None:
        """Its driver."""
        return self.driver if isinstance(self.driver, CcwDriver) else None

    @property
    def extra(self) -> dict[str, Node]:
        """The attributes that its driver added; they may be changed."""
        _ = self.children  # they come with what is below
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

    @property
    def is_incomplete(self) -> bool:
        """Whether cio looks for its paths, or for the device (``recovery_check``)."""
        if self.state in (CcwState.DISCONNECTED, CcwState.DISCONNECTED_SENSE_ID):
            return True
        sch = self.subchannel
        return self.state is CcwState.ONLINE and sch is not None and sch.schib.pmcw.pam & sch.opm != sch.vpm

    def notify(self, notice: Notice) -> bool:
        """Tell the driver of an online device; whether it keeps the device (``ccw_device_notify``)."""
        driver = self.ccw_driver
        return driver is not None and self.online and driver.notify(self, notice)

    # work of cio

    def do(self, todo: Todo) -> None:
        """Do what was put off (``ccw_device_todo``)."""
        sch = self.subchannel
        if todo is Todo.ENABLE_CMF:
            if self.measurement is not None:
                self.measurement.reset()
                self.measurement.set(True)
        elif todo is Todo.REBIND:
            if self.registered:
                self.ccw_bus.detach(self)
                self.ccw_bus.probe(self)
        elif todo is Todo.REGISTER:
            self._register()
        else:
            if sch is not None:
                if todo is Todo.UNREGISTER_EVALUATE:
                    sch.css.schedule_evaluation(sch)
                sch.cdev = None
            self.unregister()

    def _register(self) -> None:
        """Make a recognised device known (``io_subchannel_register``)."""
        sch = self.subchannel
        if sch is None or sch.dead:
            return
        sch.css.update_paths(sch)
        if self.registered:
            if self.driver is None:
                self.ccw_bus.probe(self)
        elif self.ccw_bus.find(self.name) is not None:
            sch.cdev = None  # two devices with one number: the second is not shown
            return
        else:
            self.options = sch.css.describe(sch.schid)
            self.ccw_bus.add(self)
        self.fsm.recognition.over = True

    @property
    def is_offline(self) -> bool:
        """Whether it is offline and nothing is under way."""
        return self.state is CcwState.OFFLINE

    def give_up(self) -> None:
        """Have it unregistered soon."""
        self.fsm.schedule(Todo.UNREGISTER)

    def unregister(self) -> None:
        """Remove it from the bus, if it got there."""
        if self.registered:
            self.ccw_bus.remove(self)
        else:
            self.dead = True

    # online and offline

    def set_online(self) -> None:
        """``ccw_device_set_online``.  Raise OSError."""
        self._begin_online()
        self.fsm.wait(lambda: self.state.final)
        self._end_online()

    def set_online_apart(self) -> None:
        """The same for a driver that does it by itself, and does not wait."""

        def end() -> None:
            if self.driver is not None and not self.dead and not self.online:
                try:
                    self._end_online()
                except OSError:
                    return  # the kernel logs a line and leaves the device offline

        try:
            self._begin_online()
        except OSError:
            return
        self.fsm.when_final(end)

    def _begin_online(self) -> None:
        if self.online or self.driver is None:
            raise fail(errno.EINVAL)
        code = self.fsm.go_online()
        if code:
            raise fail(code)

    def _end_online(self) -> None:
        driver = self.ccw_driver
        if self.state is not CcwState.ONLINE or driver is None:
            raise fail(errno.ENODEV)
        try:
            driver.set_online(self)
        except OSError:
            self._await_settled()
            if self.fsm.go_offline():
                self.state = CcwState.OFFLINE
            else:
                self._await_settled()
            raise
        self.online = True

    def set_offline(self) -> None:
        """``ccw_device_set_offline``.  Raise OSError."""
        driver = self.ccw_driver
        if not self.online or driver is None:
            raise fail(errno.EINVAL)
        driver.set_offline(self)
        self.online = False
        self._await_settled()
        while code := self.fsm.go_offline():
            if code != errno.EBUSY:
                self.state = CcwState.OFFLINE
                self.fsm.not_operational()
                raise fail(errno.ENODEV)
            state = self.state
            self.fsm.quiesce()
            self.state = state
        self._await_settled()

    def _await_settled(self) -> None:
        self.fsm.wait(lambda: self.state.final or self.state is CcwState.DISCONNECTED)

    def let_go(self) -> None:
        """What the core does after the driver's remove (``ccw_device_remove``)."""
        if self.online:
            self.online = False
            if not self.fsm.go_offline():
                self.fsm.wait(lambda: self.state.final)
        if self._fsm is not None:
            self._fsm.set_timeout(0)
            self._fsm.quiesce()
        if self.measurement is not None:
            self.measurement.set(False)
            self.measurement.close()
            self.measurement = None

    # sysfs

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        return {
            **{name: self._file(name) for name in FILES},
            **({"cmf": self.measurement.directory()} if self.measurement is not None else {}),
            **(self.driver.files(self) if isinstance(self.driver, CcwDriver) else {}),
            **self.extra,
        }

    def attribute(self, name: str) -> Node | None:
        """See `Device.attribute`."""
        if name in FILES:
            return self._file(name)
        if name == "cmf":
            return None if self.measurement is None else self.measurement.directory()
        found = self.driver.files(self).get(name) if isinstance(self.driver, CcwDriver) else None
        return self.extra.get(name) if found is None else found

    def _file(self, name: str) -> Attribute:
        show, store = FILES[name]
        return Attribute(partial(show, self), None if store is None else partial(store, self))


class CcwDriver(Driver):
    """A driver on the ccw bus.

    `ids` are what it takes: (CU type, CU model, device type, device model), None for any.  `switchable` says that users
    set its devices online and offline; `keeps_lost` that it keeps an online device without paths or subchannel;
    `path_groups` that its devices have path groups; `may_force` that users may take a device from another system.
    """

    ids: tuple[tuple[int, int | None, int | None, int | None], ...] = ()
    switchable = True
    keeps_lost = False
    path_groups = False
    may_force = False

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
            device.unshown = partial(self.show, quiet=True)

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
        self._hide(device)

    def _hide(self, device: CcwDevice) -> None:
        _ = device.children  # what nobody asked for yet has its number, which goes with it
        self.hide(device)

    def notify(self, device: CcwDevice, notice: Notice) -> bool:
        """Hear of an online device what happened to it; whether the driver keeps it (or wants it back)."""
        return self.keeps_lost

    def path_event(self, device: CcwDevice, gone: int, new: int, grouped: int) -> None:
        """Hear which paths (masks) of an online device went, came, or were put into the path group anew."""

    def interrupt(self, device: CcwDevice, irb: Irb | None, code: int) -> None:
        """Take a status of an online device; None and an errno when its program was stopped."""

    def remove(self, device: Device) -> None:
        """See `Driver.remove`."""
        if isinstance(device, CcwDevice):
            if device.online:
                self._hide(device)
            device.let_go()
