"""Builds the channel subsystem of a machine and the state that the boot leaves: all bound, some online, quiet."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from pyvfio.address import DeviceNumber, SubchannelId
from pyvfio.css.chsc_machine import Characteristic, Characteristics
from pyvfio.css.schib import SubchannelType
from pyvfio.css.senseid import SenseId
from pyvfio.errors import Misuse
from pyvfio_backends.software import css_events
from pyvfio_backends.software.description import MachineSpec, OtherSubchannelSpec, SubchannelSpec
from pyvfio_backends.software.hardware.css import (
    MAINFRAME,
    VIRTUAL,
    ChannelPath,
    ChannelSubsystemHardware,
    ControlUnit,
    CssModel,
    SubchannelConfig,
)
from pyvfio_backends.software.linux import vfio_ccw
from pyvfio_backends.software.linux.ccw import CcwDevice, CcwDriver
from pyvfio_backends.software.linux.ccw_bus import CcwBus
from pyvfio_backends.software.linux.ccw_drivers import ALWAYS, DRIVERS
from pyvfio_backends.software.linux.chsc_device import add_chsc_device
from pyvfio_backends.software.linux.cio_ignore import IgnoredDevices
from pyvfio_backends.software.linux.css import Css
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.driver_core import Bus
from pyvfio_backends.software.linux.io_subchannel import ChscSubchannelDriver, EadmSubchannelDriver, IoSubchannelDriver
from pyvfio_backends.software.linux.mdev import mdev_bus
from pyvfio_backends.software.linux.module import Module
from pyvfio_backends.software.linux.subchannel import IO_ISC, BootState, CssDriver, SubchannelDevice, intparm_of
from pyvfio_backends.software.linux.zpci_host import zpci_host
from pyvfio_backends.software.units import UNITS, Unit

if TYPE_CHECKING:
    from pyvfio.css.sei import Sei
    from pyvfio_backends.software.hardware.zpci.facility import ZpciEvent
    from pyvfio_backends.software.machine import Machine

__all__ = ["boot"]

_NAME = re.compile(r"0\.([0-3])\.([0-9a-f]{4})\Z")
_PATHS = 8
_IGNORE = "cio_ignore="
_BUILT_AT_BOOT = 64
"""Virtio devices are numbered as they are found; runs up to this length are built at boot, so that it is in order."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Consecutive subchannels with the same kind of device and consecutive device numbers."""

    first: SubchannelId
    devno: int
    spec: SubchannelSpec
    unit: Unit
    identity: SenseId

    def name(self, number: int) -> str:
        """The bus id with this number."""
        return f"0.{self.first.ssid:x}.{number:04x}"

    def names(self, first: int) -> Iterator[str]:
        """The bus ids that count from `first`."""
        prefix = f"0.{self.first.ssid:x}."
        return (f"{prefix}{number:04x}" for number in range(first, first + self.spec.count))

    def config(self, hardware: ChannelSubsystemHardware, schid: SubchannelId) -> SubchannelConfig:
        """The hardware's description of one of them."""
        spec = self.spec
        return SubchannelConfig(
            schid,
            self.devno + schid.number - self.first.number,
            chpids=(*spec.chpids, *[0] * (_PATHS - len(spec.chpids))),
            pim=spec.pim,
            pam=spec.pam,
            pom=spec.pom,
            qdio=self.unit.qdio,
            build=partial(self.build, hardware, schid),
            enabled=(IO_ISC, intparm_of(schid)) if spec.online else None,
        )

    def build(self, hardware: ChannelSubsystemHardware, schid: SubchannelId) -> ControlUnit:
        """Build the control unit of one of them."""
        unit = self.unit.make(self.spec.options)
        unit.present = lambda dstat: hardware.present_status(schid, int(dstat))
        return unit


class _Subchannels:
    """The subchannels that nobody has looked at yet, as a source of the css bus.

    `taken` are those that were built, `emptied` those whose ccw device was built too.
    """

    def __init__(self, css: Css, runs: list[_Run], ignored: IgnoredDevices | None) -> None:
        self.css = css
        self.ignored = ignored
        self.taken: set[str] = set()
        self.emptied: set[str] = set()
        self._states: dict[SubchannelId, BootState] = {}
        self.runs = sorted(runs, key=lambda run: run.first)
        self._starts = [(run.first.ssid, run.first.number) for run in self.runs]

    def run_of(self, ssid: int, number: int) -> _Run | None:
        """The run that has this subchannel."""
        at = bisect_right(self._starts, (ssid, number)) - 1
        if at < 0:
            return None
        run = self.runs[at]
        inside = run.first.ssid == ssid and number < run.first.number + run.spec.count
        return run if inside else None

    def known(self, run: _Run) -> Iterator[int]:
        """The places in a run that the boot took a subchannel from: all but the ignored devices'."""
        if self.ignored is None:
            return iter(range(run.spec.count))
        ignored, ssid = self.ignored, run.first.ssid
        return (place for place in range(run.spec.count) if (ssid, run.devno + place) not in ignored)

    def names(self) -> Iterator[str]:
        """See `DeviceSource.names`."""
        for run in self.runs:
            yield from self._names(run)

    def _names(self, run: _Run) -> Iterator[str]:
        if self.ignored is None:
            return (name for name in run.names(run.first.number) if name not in self.taken)
        named = (run.name(run.first.number + place) for place in self.known(run))
        return (name for name in named if name not in self.taken)

    def on_path(self, chpid: int) -> list[str]:
        """The names of those that use a channel path."""
        return [name for run in self.runs if chpid in run.spec.chpids for name in self._names(run)]

    def bound_names(self, driver: str) -> Iterator[str]:
        """The names of those that this driver holds."""
        return self.names() if driver == "io_subchannel" else iter(())

    def make(self, name: str) -> SubchannelDevice | None:
        """See `DeviceSource.make`."""
        match = _NAME.match(name)
        if match is None or name in self.taken:
            return None
        ssid, number = int(match[1]), int(match[2], 16)
        run = self.run_of(ssid, number)
        if run is None:
            return None
        if self.ignored is not None and (ssid, run.devno + number - run.first.number) in self.ignored:
            return None
        css = self.css
        sch = SubchannelDevice(css, SubchannelId(0, ssid, number))
        self.taken.add(sch.name)
        css.bus.add(sch, quiet=True)
        driver = css.bus.drivers["io_subchannel"]
        sch.driver = driver
        driver.devices[sch.name] = sch
        sch.init_config()
        sch.boot = state = self._states.get(run.first) or self._boot_state(sch, run)
        sch.opm, sch.lpm = state.opm, state.lpm
        sch.unbuilt = self._make_device
        if run.spec.online:
            sch.was_enabled()
        return sch

    def _boot_state(self, sch: SubchannelDevice, run: _Run) -> BootState:
        """What is the same for all of a run; a path that changes later has every subchannel looked at."""
        sch.init_paths()
        state = BootState(sch.schib.pmcw, run.devno - run.first.number, sch.opm, sch.lpm)
        self._states[run.first] = state
        return state

    @staticmethod
    def build_device(sch: SubchannelDevice) -> None:
        """Have the ccw device below a subchannel, if it was not built yet."""
        _ = sch.children

    def _make_device(self, sch: SubchannelDevice) -> None:
        self.emptied.add(sch.name)
        run = self.run_of(sch.schid.ssid, sch.schid.number)
        if run is None:
            return
        css, spec = self.css, run.spec
        device = CcwDevice(css.ccw, sch, run.identity)
        device.options = spec.options
        sch.cdev = device
        css.ccw.add(device, quiet=True)
        driver = css.ccw.drivers.get(spec.driver)
        if isinstance(driver, CcwDriver):
            driver.boot(device, online=spec.online)

    def describe(self, schid: SubchannelId) -> Mapping[str, object]:
        """What a driver shows of the device behind a subchannel."""
        run = self.run_of(schid.ssid, schid.number)
        return {} if run is None else run.spec.options


class _CcwDevices:
    """The ccw devices below them, as a source of the ccw bus."""

    def __init__(self, subchannels: _Subchannels) -> None:
        self._subchannels = subchannels
        self._runs = sorted(subchannels.runs, key=lambda run: (run.first.ssid, run.devno))
        self._starts = [(run.first.ssid, run.devno) for run in self._runs]

    def _unbuilt(self, run: _Run) -> Iterator[str]:
        subchannels = self._subchannels
        taken = subchannels.emptied
        if subchannels.ignored is None:
            pairs = zip(run.names(run.first.number), run.names(run.devno), strict=True)
            return (name for below, name in pairs if below not in taken)
        places = subchannels.known(run)
        return (run.name(run.devno + n) for n in places if run.name(run.first.number + n) not in taken)

    def names(self) -> Iterator[str]:
        """See `DeviceSource.names`."""
        for run in self._runs:
            yield from self._unbuilt(run)

    def bound_names(self, driver: str) -> Iterator[str]:
        """The names of those that this driver holds."""
        for run in self._runs:
            if run.spec.driver == driver:
                yield from self._unbuilt(run)

    def make(self, name: str) -> Device | None:
        """See `DeviceSource.make`."""
        match = _NAME.match(name)
        if match is None:
            return None
        ssid, devno = int(match[1]), int(match[2], 16)
        at = bisect_right(self._starts, (ssid, devno)) - 1
        if at < 0:
            return None
        run = self._runs[at]
        if run.first.ssid != ssid or devno >= run.devno + run.spec.count:
            return None
        css = self._subchannels.css
        if name in css.ccw.devices:
            return None
        below = css.bus.find(f"0.{ssid:x}.{run.first.number + devno - run.devno:04x}")
        if isinstance(below, SubchannelDevice):
            self._subchannels.build_device(below)
        return css.ccw.devices.get(name)


def boot(machine: Machine) -> None:
    """Make the hardware (``machine.css``) and Linux's side of it, from the machine's description.

    Raise `Misuse` for a unit or a driver that does not exist.
    """
    kernel = machine.kernel
    css = Css(kernel)
    css.listeners = machine.ccw_trace
    runs = [_run(spec) for spec in machine.spec.subchannels]
    hardware = ChannelSubsystemHardware(
        machine.memory,
        on_io_interrupt=css.io_interrupt,
        on_crw=css.channel_report_pending,
        schedule=machine.clock.schedule,
        now=lambda: machine.clock.now,
        model=_model(machine.spec, virtual=any(run.unit.virtual for run in runs)),
    )
    machine.css = css.hardware = hardware
    for path in machine.spec.paths:
        hardware.add_path(
            ChannelPath(
                path.chpid,
                path.type,
                path.online,
                shared=path.shared,
                cmg=None if path.cmg < 0 else path.cmg,
                speed=path.speed,
                chid=None if path.chid < 0 else path.chid,
            )
        )
    for run in runs:
        hardware.add_range(run.first, run.spec.count, partial(run.config, hardware))
    others = [config for other in machine.spec.others for config in _configs(other)]
    for config in others:
        hardware.add_subchannel(config)
    css.ccw = CcwBus(css)
    kernel.add_bus(css.ccw)
    kernel.add_bus(Bus(kernel, "scm"))
    add_chsc_device(kernel)
    for css_driver in _css_drivers(css):
        css.bus.drivers[css_driver.name] = css_driver
        if css_driver.module:
            kernel.modules.load(Module(css_driver.module)).drivers[f"css:{css_driver.name}"] = css_driver.sysfs_path
    wanted = dict.fromkeys([*ALWAYS, *(run.spec.driver for run in runs if run.spec.driver)])
    for name in wanted:
        if name not in DRIVERS:
            raise Misuse("boot the machine", name, cause=f"no such ccw driver; there is {', '.join(sorted(DRIVERS))}")
    css.ccw.boot_drivers(DRIVERS[name](css.ccw) for name in wanted)
    if "mdev" in machine.spec.modules:
        mdev_bus(kernel)
    if "vfio_ccw" in machine.spec.modules:
        vfio_ccw.load(kernel)
    seen = [run for run in runs if not run.first.cssid]  # Linux enables the subchannel sets, but no other images
    subchannels = _Subchannels(css, seen, _ignored_at_boot(css, machine.spec.host.cmdline))
    css.unbuilt_on_path = subchannels.on_path
    _register_paths(css, subchannels)
    css.describe = subchannels.describe
    css.bus.sources.append(subchannels)
    css.ccw.sources.append(_CcwDevices(subchannels))
    for run in subchannels.runs:
        if (run.unit.virtual or run.spec.online) and run.spec.count <= _BUILT_AT_BOOT:
            for name in run.names(run.first.number):
                sch = subchannels.make(name)
                if sch is not None and run.spec.online and sch.cdev is not None:
                    _ = sch.cdev.children  # what its driver shows of it is numbered in this order
    for config in others:
        if not config.schid.cssid:
            _add_other(css, config)
    _connect_functions(machine, css)
    css_events.plan(machine)


def _connect_functions(machine: Machine, css: Css) -> None:
    """Have events of PCI functions told by the channel subsystem: a channel report, then event information."""
    host = zpci_host(machine.kernel)

    def report(event: ZpciEvent) -> None:
        from pyvfio_backends.software.hardware.zpci.reports import event_information

        css.hardware.inject_event(event_information(event))
        css.take_reports()  # the machine check is taken at once

    def take(information: Sei) -> None:
        from pyvfio_backends.software.hardware.zpci.reports import told_event

        event = told_event(information)
        if event is not None:
            host.event(event)

    css.on_function_event = take
    machine.zpci.on_event = report


def _ignored_at_boot(css: Css, cmdline: str) -> IgnoredDevices | None:
    """Obey the kernel's parameter ``cio_ignore=``; the devices that the boot passed over, None for none."""
    for word in cmdline.split():
        if word.startswith(_IGNORE):
            css.ignored.parse(word.removeprefix(_IGNORE), add=True)
    return css.ignored.copy() if css.ignored else None


def _css_drivers(css: Css) -> Iterator[CssDriver]:
    """The drivers of subchannels that are part of the kernel; one refuses to load where it has no work."""
    yield IoSubchannelDriver(css.bus)
    yield ChscSubchannelDriver(css.bus)
    if Characteristic.EXTENDED_ASYNCHRONOUS_DATA_MOVER in css.calls.characteristics.general:
        yield EadmSubchannelDriver(css.bus)


def _model(spec: MachineSpec, *, virtual: bool) -> CssModel:
    """What kind of channel subsystem a machine has; one with ADM subchannels tells of that facility."""
    model = VIRTUAL if virtual else MAINFRAME
    if any(other.type == "adm" for other in spec.others):
        known = model.characteristics
        general = {*known.general, Characteristic.EXTENDED_ASYNCHRONOUS_DATA_MOVER}
        model = replace(model, characteristics=Characteristics.of(general, known.calls))
    return model


def _configs(other: OtherSubchannelSpec) -> Iterator[SubchannelConfig]:
    """The subchannels of a row that are not for I/O."""
    first, kind = SubchannelId.parse(other.schid), SubchannelType[other.type.upper()]
    for number in range(first.number, first.number + other.count):
        yield SubchannelConfig(SubchannelId(first.cssid, first.ssid, number), 0, type=kind, pim=0, pam=0)


def _add_other(css: Css, config: SubchannelConfig) -> None:
    """Make such a subchannel known as the boot does: with its driver, enabled."""
    sch = SubchannelDevice(css, config.schid)
    sch.st = SubchannelType(config.type)
    if sch.update_schib():
        return
    css.bus.add(sch, quiet=True)
    driver = next((each for each in css.bus.drivers.values() if css.bus.match(sch, each)), None)
    if driver is not None:
        driver.probe(sch)
        sch.driver = driver
        driver.devices[sch.name] = sch


def _register_paths(css: Css, subchannels: _Subchannels) -> None:
    """Make known the channel paths that the machine lists, and those of the subchannels that are known."""
    listed = css.hardware.sclp_read_paths()
    chpids = set() if listed is None else set(listed.configured | listed.standby)
    for run in subchannels.runs:
        if next(subchannels.known(run), None) is not None:
            chpids.update(run.spec.chpids)
    for chpid in sorted(chpids):
        css.register_path(chpid)


def _run(spec: SubchannelSpec) -> _Run:
    unit = UNITS.get(spec.unit)
    if unit is None:
        raise Misuse("boot the machine", spec.unit, cause=f"no such control unit; there is {', '.join(sorted(UNITS))}")
    identity = unit.make(spec.options).sense_id
    return _Run(SubchannelId.parse(spec.schid), DeviceNumber.parse(spec.device).devno, spec, unit, identity)
