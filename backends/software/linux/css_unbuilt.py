"""Channel devices that the boot found and nobody has looked at yet.

There may be very many, so that each is built when somebody asks for it.  They are in runs, as the machine's
description has them, and sources of the buses ``css`` and ``ccw``.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from pyvfio.address import DeviceNumber, SubchannelId
from pyvfio.css.senseid import SenseId
from pyvfio.errors import Misuse
from pyvfio_backends.software.description import SubchannelSpec
from pyvfio_backends.software.hardware.css import ChannelSubsystemHardware, ControlUnit, SubchannelConfig
from pyvfio_backends.software.linux.ccw import CcwDevice, CcwDriver
from pyvfio_backends.software.linux.cio_ignore import IgnoredDevices
from pyvfio_backends.software.linux.css import Css
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.subchannel import IO_ISC, BootState, SubchannelDevice, intparm_of
from pyvfio_backends.software.units import UNITS, Unit

__all__ = ["Run", "UnbuiltCcwDevices", "UnbuiltSubchannels", "run_of_spec"]

_NAME = re.compile(r"0\.([0-3])\.([0-9a-f]{4})\Z")
_PATHS = 8


@dataclass(frozen=True, slots=True)
class Run:
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


class UnbuiltSubchannels:
    """The subchannels that nobody has looked at yet, as a source of the css bus.

    `taken` are those that were built, `emptied` those whose ccw device was built too.
    """

    def __init__(self, css: Css, runs: list[Run], ignored: IgnoredDevices | None) -> None:
        self.css = css
        self.ignored = ignored
        self.taken: set[str] = set()
        self.emptied: set[str] = set()
        self._states: dict[SubchannelId, BootState] = {}
        self.runs = sorted(runs, key=lambda run: run.first)
        self._starts = [(run.first.ssid, run.first.number) for run in self.runs]

    def run_of(self, ssid: int, number: int) -> Run | None:
        """The run that has this subchannel."""
        at = bisect_right(self._starts, (ssid, number)) - 1
        if at < 0:
            return None
        run = self.runs[at]
        inside = run.first.ssid == ssid and number < run.first.number + run.spec.count
        return run if inside else None

    def known(self, run: Run) -> Iterator[int]:
        """The places in a run that the boot took a subchannel from: all but the ignored devices'."""
        if self.ignored is None:
            return iter(range(run.spec.count))
        ignored, ssid = self.ignored, run.first.ssid
        return (place for place in range(run.spec.count) if (ssid, run.devno + place) not in ignored)

    def names(self) -> Iterator[str]:
        """See `DeviceSource.names`."""
        for run in self.runs:
            yield from self._names(run)

    def _names(self, run: Run) -> Iterator[str]:
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

    def _boot_state(self, sch: SubchannelDevice, run: Run) -> BootState:
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


class UnbuiltCcwDevices:
    """The ccw devices below them, as a source of the ccw bus."""

    def __init__(self, subchannels: UnbuiltSubchannels) -> None:
        self._subchannels = subchannels
        self._runs = sorted(subchannels.runs, key=lambda run: (run.first.ssid, run.devno))
        self._starts = [(run.first.ssid, run.devno) for run in self._runs]

    def _unbuilt(self, run: Run) -> Iterator[str]:
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


def run_of_spec(spec: SubchannelSpec) -> Run:
    """The run that a row describes.  Raise `Misuse` for a control unit that does not exist."""
    unit = UNITS.get(spec.unit)
    if unit is None:
        raise Misuse("boot the machine", spec.unit, cause=f"no such control unit; there is {', '.join(sorted(UNITS))}")
    identity = unit.make(spec.options).sense_id
    return Run(SubchannelId.parse(spec.schid), DeviceNumber.parse(spec.device).devno, spec, unit, identity)
