"""The channel subsystem's bus: ``css0``, subchannels found and lost, channel reports, interruptions.

Source: ``drivers/s390/cio/css.c``.  A machine may have very many subchannels: `boot` only notes which there are, and a
subchannel's device, in the state that the boot left it in, is made when somebody looks at it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from pyvfio.address import SubchannelId
from pyvfio.css.crw import Crw, ErrorRecovery, ReportingSource
from pyvfio.css.schib import SubchannelType
from pyvfio.css.trace import Step, StepListener
from pyvfio_backends.software.linux.driver_core import Bus, Device, DeviceDirectory, Driver
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.subchannel import CssDriver, SubchannelDevice
from pyvfio_backends.software.linux.vfs import Attribute, Directory, Node, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.css import ChannelSubsystemHardware
    from pyvfio_backends.software.linux.ccw import CcwBus
    from pyvfio_backends.software.linux.chp import ChannelPathDevice
    from pyvfio_backends.software.machine import Machine

__all__ = ["BoundDevices", "Css", "CssBus", "boot", "css_of"]

_SETS = 4
_NUMBERS = 1 << 16
_POOLS = "poolinfo - 0.1\nairq_iv_cache       1   16  256  1\n"


class CssBus(Bus):
    """``/sys/bus/css``: a driver takes the subchannel types it names, and with an override only the one named."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel, "css")

    def match(self, device: Device, driver: Driver) -> bool:
        """See `Bus.match`."""
        if device.override is not None and device.override != driver.name:
            return False
        return isinstance(device, SubchannelDevice) and isinstance(driver, CssDriver) and device.st in driver.types

    def uevent_vars(self, device: Device) -> list[tuple[str, str]]:
        """See `Bus.uevent_vars`."""
        if not isinstance(device, SubchannelDevice):
            return []
        return [("ST", f"{device.st:01X}"), ("MODALIAS", f"css:t{device.st:01X}")]

    def bound_to(self, driver: Driver) -> Mapping[str, Device]:
        """See `Bus.bound_to`."""
        return BoundDevices(self, driver)

    def remove(self, device: Device) -> None:
        """See `Bus.remove`; the driver goes first, and takes its children along."""
        self.devices.pop(device.name, None)
        if device.driver is not None:
            self.detach(device)
        super().remove(device)


class BoundDevices(Mapping[str, Device]):
    """The devices of a driver by name; those that are only named so far count, and are built when asked for."""

    def __init__(self, bus: Bus, driver: Driver) -> None:
        self._bus = bus
        self._driver = driver

    def __getitem__(self, name: str) -> Device:
        device = self._bus.find(name)
        if device is None or device.driver is not self._driver:
            raise KeyError(name)
        return device

    def __iter__(self) -> Iterator[str]:
        yield from list(self._driver.devices)
        for source in self._bus.sources:
            bound = getattr(source, "bound_names", None)
            if bound is not None:
                yield from bound(self._driver.name)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Root(Device):
    """``/sys/devices/css0``."""

    def __init__(self, css: Css) -> None:
        super().__init__(css.kernel, "css0", None)
        self.css = css

    def node(self) -> Directory:
        return _RootDirectory(self)

    def attributes(self) -> dict[str, Node]:
        return {
            "pools": Attribute(lambda: _POOLS),
            "real_cssid": Attribute(self._real_cssid),
            "rescan": Attribute(store=self._rescan),
        }

    def _real_cssid(self) -> str:
        raise fail(errno.EINVAL)  # the machine does not tell (chsc_get_cssid_iid)

    def _rescan(self, data: bytes) -> None:
        self.css.evaluate_all()


class _RootDirectory(DeviceDirectory):
    """A directory that builds a subchannel's device when it is looked up."""

    __slots__ = ()

    def lookup(self, name: str) -> Node | None:
        root = self.device
        if isinstance(root, _Root):
            device = root.css.bus.find(name)
            if device is not None:
                return device.node()
        return super().lookup(name)

    def names(self) -> Iterable[str]:
        root = self.device
        named = root.css.bus.names() if isinstance(root, _Root) else []
        return dict.fromkeys([*super().names(), *named])

    def subdirectories(self) -> int:
        # Every subchannel is one, also those that are only named so far; none is built for this.
        root = self.device
        named = set(root.css.bus.names()) if isinstance(root, _Root) else set()
        return len(named | {child.name for child in root.child_devices()})


class Css:
    """cio's state for a kernel: the bus, the root device, the hardware below, and who listens to vfio_ccw's steps."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.hardware: ChannelSubsystemHardware
        self.ccw: CcwBus
        self.bus = CssBus(kernel)
        self.root = _Root(self)
        self.defunct = Device(kernel, "defunct", self.root)
        self.root.children["defunct"] = self.defunct
        self.paths: dict[int, ChannelPathDevice] = {}
        self.listeners: list[StepListener] = []
        self.describe: Callable[[SubchannelId], Mapping[str, object]] = lambda schid: {}
        """What a driver shows of the device behind a subchannel, beyond what SENSE ID says (a disk's size)."""
        self._chained: Crw | None = None
        kernel.add_bus(self.bus)
        kernel.add_root(self.root)
        kernel.subsystems["css"] = self

    def step(self, step: Step) -> None:
        """Tell the listeners of a step."""
        for listener in tuple(self.listeners):
            listener(step)

    def path_online(self, chpid: int) -> bool:
        """Whether a channel path is logically online; one that is not registered counts as such."""
        path = self.paths.get(chpid)
        return path is None or path.online

    def find(self, schid: SubchannelId) -> SubchannelDevice | None:
        """The device of a subchannel."""
        device = self.bus.find(f"0.{schid.ssid:x}.{schid.number:04x}")
        return device if isinstance(device, SubchannelDevice) else None

    def subchannels(self) -> Iterator[SubchannelDevice]:
        """All subchannels, built now if need be."""
        for name in self.bus.names():
            device = self.bus.find(name)
            if isinstance(device, SubchannelDevice):
                yield device

    # what the hardware tells

    def io_interrupt(self, schid: SubchannelId) -> None:
        """Take the pending I/O interruptions (``do_cio_interrupt``)."""
        while (pending := self.hardware.tpi()) is not None:
            cc, irb = self.hardware.tsch(pending.schid)
            device = self.bus.devices.get(f"0.{pending.schid.ssid:x}.{pending.schid.number:04x}")
            if cc == 0 and isinstance(device, SubchannelDevice) and isinstance(device.driver, CssDriver):
                device.driver.irq(device, irb)

    def channel_report_pending(self) -> None:
        """A machine check: the reports are taken by a thread of their own."""
        self.kernel.clock.schedule(0.0, self._take_reports)

    def _take_reports(self) -> None:
        while (crw := self.hardware.stcrw()) is not None:
            first, self._chained = self._chained, None
            if first is not None:
                self._report(first, crw)
            elif crw.chn:
                self._chained = crw
            else:
                self._report(crw, None)

    def _report(self, crw: Crw, second: Crw | None) -> None:
        if crw.oflw:
            self.evaluate_all()
        elif crw.rsc == ReportingSource.SUBCHANNEL:
            ssid = second.rsid >> 4 & 3 if second is not None else 0
            self.evaluate(SubchannelId(0, ssid, crw.rsid))
        elif crw.rsc == ReportingSource.CHANNEL_PATH and not crw.slct:
            if crw.erc in (ErrorRecovery.PARAMETERS_INITIALIZED, ErrorRecovery.INITIALIZED):
                self.path_event(crw.rsid, "online")
            elif crw.erc in (ErrorRecovery.PERMANENT_ERROR, ErrorRecovery.PERMANENT_ERROR_INITIALIZED):
                self.path_event(crw.rsid, "offline")

    def path_event(self, chpid: int, event: str) -> None:
        """Tell the drivers of all subchannels that a channel path changed."""
        for sch in list(self.subchannels()):
            if isinstance(sch.driver, CssDriver) and sch.path_mask(chpid):
                sch.driver.chp_event(sch, chpid, event)

    # finding subchannels

    def evaluate_all(self) -> None:
        """Look at every known subchannel, and at the others up to the first number that is not there."""
        # One that nobody has looked at yet is as the boot left it, unless a report says otherwise.
        for device in list(self.bus.devices.values()):
            if isinstance(device, SubchannelDevice):
                self._known(device)
        known = set(self.bus.names())
        for ssid in range(_SETS):
            for number in range(_NUMBERS):
                if f"0.{ssid:x}.{number:04x}" not in known and not self._new(SubchannelId(0, ssid, number)):
                    break

    def evaluate(self, schid: SubchannelId) -> None:
        """Look at one subchannel, known or not."""
        sch = self.find(schid)
        if sch is not None:
            self._known(sch)
        else:
            self._new(schid)

    def schedule_evaluation(self, sch: SubchannelDevice) -> None:
        """Look at a subchannel soon."""
        self.kernel.clock.schedule(0.0, lambda: None if sch.dead else self._known(sch))

    def _known(self, sch: SubchannelDevice) -> None:
        if isinstance(sch.driver, CssDriver):
            sch.driver.sch_event(sch)

    def _new(self, schid: SubchannelId) -> bool:
        """Register a subchannel if the hardware has it; whether it is worth looking at higher numbers."""
        cc, schib = self.hardware.stsch(schid)
        if cc or schib is None:
            return False
        pmcw = schib.pmcw
        sch = SubchannelDevice(self, schid)
        sch.st = SubchannelType(pmcw.st)
        if sch.update_schib() == 0:
            self.bus.add(sch)
        return True

    def unregister(self, sch: SubchannelDevice) -> None:
        """Remove a subchannel's device on the slow path; whoever caused it need not wait for the device's users."""
        if not sch.dead and self.bus.devices.get(sch.name) is sch:
            self.kernel.clock.run_apart(lambda: self.bus.remove(sch), f"cio {sch.name}")


def css_of(device: Device) -> Css:
    """The channel subsystem that a device belongs to."""
    css = device.kernel.subsystems["css"]
    if not isinstance(css, Css):
        raise TypeError("the machine has no channel subsystem")
    return css


def boot(machine: Machine) -> None:
    """Make the hardware (``machine.css``) and Linux's side of it, from the machine's description; see `css_boot`."""
    from pyvfio_backends.software.linux import css_boot

    css_boot.boot(machine)
