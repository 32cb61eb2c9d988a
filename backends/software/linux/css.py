"""The channel subsystem's bus: ``css0``, subchannels found and lost, channel reports, interruptions.

Source: ``drivers/s390/cio/css.c``.  A machine may have very many subchannels: `boot` only notes which there are, and a
subchannel's device, in the state that the boot left it in, is made when somebody looks at it.
"""

from __future__ import annotations

import errno
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from pyvfio.address import SubchannelId
from pyvfio.css.crw import Crw, ErrorRecovery, ReportingSource
from pyvfio.css.schib import SubchannelType
from pyvfio.css.trace import Step, StepListener
from pyvfio_backends.software.linux.cio_ignore import CioIgnoreFile, CioSettleFile, IgnoredDevices
from pyvfio_backends.software.linux.css_bus import CssBus
from pyvfio_backends.software.linux.css_driver import CssDriver
from pyvfio_backends.software.linux.css_paths import KnownPaths
from pyvfio_backends.software.linux.css_root import CssRoot
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.subchannel import SubchannelDevice
from pyvfio_backends.software.linux.subsystems import Key

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.ccw_bus import CcwBus
    from pyvfio_backends.software.machine import Machine

__all__ = ["CSS", "Css", "boot", "css_of"]

CSS: Final[Key[Css]] = Key("css")
"""The channel subsystem of a kernel."""

_SETS = 4
_NUMBERS = 1 << 16
_FIRST_PATH = 0x80
_REPROBE = 1.0
_FROM_PATH = 4
_CHPID = 0xFF
_UNDERSTOOD = 2  # words of a chained report


def _path_group_id(kernel: Kernel) -> bytes:
    """What this system calls itself to control units: 11 bytes (``css_generate_pgid``)."""
    return b"\x80\0" + zlib.crc32(kernel.boot_id.encode()).to_bytes(4, "big")[1:] + b"\x85\x61" + bytes(4)


class Css(KnownPaths):
    """cio's state for a kernel: the bus, the root device, the hardware below, and who listens to vfio_ccw's steps."""

    bus: CssBus

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel
        self.ccw: CcwBus
        self.bus = CssBus(kernel)
        self.root = CssRoot(self)
        self.defunct = Device(kernel, "defunct", self.root)
        self.root.children["defunct"] = self.defunct
        self.listeners: list[StepListener] = []
        self.describe: Callable[[SubchannelId], Mapping[str, object]] = lambda schid: {}
        """What a driver shows of the device behind a subchannel, beyond what SENSE ID says (a disk's size)."""
        self.ignored = IgnoredDevices()
        self.path_group_id = _path_group_id(kernel)
        self._wanted: set[SubchannelId] = set()
        self._after_removal: set[SubchannelId] = set()
        self._search = False
        self._scheduled = False
        self._reprobing = False
        kernel.add_bus(self.bus)
        kernel.add_root(self.root)
        kernel.subsystems[CSS] = self
        kernel.proc.add("cio_ignore", CioIgnoreFile(self.ignored, self.schedule_offline, self.purge))
        kernel.proc.add("cio_settle", CioSettleFile(self.settle))

    def step(self, step: Step) -> None:
        """Tell the listeners of a step."""
        for listener in tuple(self.listeners):
            listener(step)

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
        self.kernel.clock.schedule(0.0, self.take_reports)

    def take_reports(self) -> None:
        """Take what is reported; of words that are chained, the first two are understood (``crw_collect_info``)."""
        words: list[Crw] = []
        while (crw := self.hardware.stcrw()) is not None:
            if crw.oflw and len(words) < _UNDERSTOOD:
                self.schedule_all()
                words = []
                continue
            words.append(crw)
            if len(words) == _UNDERSTOOD or (len(words) == 1 and not crw.chn):
                self._report(words[0], words[1] if len(words) > 1 else None)
            if not crw.chn:
                words = []

    def _report(self, crw: Crw, second: Crw | None) -> None:
        source = (second or crw).rsc
        if source == ReportingSource.SUBCHANNEL:
            ssid = second.rsid >> 4 & 3 if second is not None else 0
            schid = SubchannelId(0, ssid, crw.rsid)
            sch = self.find(schid)
            if sch is not None and crw.erc == ErrorRecovery.PARAMETERS_MODIFIED:
                self.update_paths(sch)
            self.evaluate(schid)
        elif source == ReportingSource.CHANNEL_PATH and not crw.slct:
            chpid = crw.rsid & _CHPID
            if crw.erc in (ErrorRecovery.PARAMETERS_INITIALIZED, ErrorRecovery.INITIALIZED):
                self.register_path(chpid)
                self.path_came(chpid)
            elif crw.erc in (ErrorRecovery.PERMANENT_ERROR, ErrorRecovery.PERMANENT_ERROR_INITIALIZED):
                self.path_went(chpid)
        elif source == ReportingSource.CHANNEL_SUBSYSTEM:
            self.take_events()

    # finding subchannels

    def evaluate(self, schid: SubchannelId) -> None:
        """Look at a subchannel, now if it is known (``css_evaluate_subchannel``)."""
        sch = self.find(schid)
        if sch is not None:
            self._known(sch)
        else:
            self.schedule_evaluation(schid)

    def schedule_evaluation(self, what: SubchannelDevice | SubchannelId) -> None:
        """Look at a subchannel soon, known or not (``css_schedule_eval``)."""
        self._wanted.add(what.schid if isinstance(what, SubchannelDevice) else what)
        self._schedule_slow_path()

    def schedule_all(self) -> None:
        """Look at every subchannel soon."""
        # One that nobody has looked at yet is as the boot left it, unless a report says otherwise.
        self._wanted.update(sch.schid for sch in self.built())
        self._search = True
        self._schedule_slow_path()

    def schedule_offline(self) -> None:
        """Look at every subchannel soon that is not in use (``CSS_EVAL_NOT_ONLINE``)."""
        self._wanted.update(sch.schid for sch in self.built() if sch.st != SubchannelType.IO or not sch.config.ena)
        self._search = True
        self._schedule_slow_path()

    def schedule_reprobe(self) -> None:
        """Look, in a second, at every subchannel without a path that works (``css_schedule_reprobe``)."""
        if not self._reprobing:
            self._reprobing = True
            self.kernel.clock.schedule(_REPROBE, self._reprobe, background=True)

    def _reprobe(self) -> None:
        self._reprobing = False
        for sch in self.built():
            pmcw = sch.pmcw
            if sch.st != SubchannelType.IO or not sch.opm & pmcw.pam & pmcw.pom:
                self._wanted.add(sch.schid)
        self._search = True
        self._schedule_slow_path()

    def _schedule_slow_path(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.kernel.clock.schedule(0.0, self._slow_path)

    def _slow_path(self) -> None:
        """Look at those that are wanted: the known ones first, then the others in order (``css_slow_path_func``)."""
        self._scheduled = False
        wanted, self._wanted = self._wanted, set()
        search, self._search = self._search, False
        for sch in self.built():
            if sch.schid in wanted:
                wanted.discard(sch.schid)
                if not sch.dead:
                    self._known(sch)
        ended: set[int] = set()
        for schid in sorted(wanted):
            known = self.find(schid)
            if known is not None:
                self._known(known)
            elif schid.ssid not in ended and not self._new(schid):
                ended.add(schid.ssid)  # whatever was to be looked at behind it is not there either
        if search:
            self._find_new()

    def _find_new(self) -> None:
        """Look at all numbers without a device, in each set up to the first that is not there."""
        known = set(self.bus.names())
        for ssid in range(_SETS):
            for number in range(_NUMBERS):
                if f"0.{ssid:x}.{number:04x}" not in known and not self._new(SubchannelId(0, ssid, number)):
                    break

    def _known(self, sch: SubchannelDevice) -> None:
        if isinstance(sch.driver, CssDriver) and sch.driver.sch_event(sch) == errno.EAGAIN:
            if sch.leaving:  # asking again and again would keep its removal from the processor
                self._after_removal.add(sch.schid)
            else:
                self.schedule_evaluation(sch)

    def _new(self, schid: SubchannelId) -> bool:
        """Register a subchannel if the hardware has it; whether it is worth looking at higher numbers."""
        cc, schib = self.hardware.stsch(schid)
        if cc or schib is None:
            return False
        pmcw = schib.pmcw
        numbered = pmcw.st in (SubchannelType.IO, SubchannelType.MESSAGE)
        if numbered and (schid.ssid, pmcw.devno) in self.ignored:
            return True
        sch = SubchannelDevice(self, schid)
        sch.st = SubchannelType(pmcw.st)
        if sch.update_schib() == 0:
            self.update_paths(sch)
            if sch.name not in self.root.children:  # one of that name may still wait for its users to go
                self.bus.add(sch)
        return True

    def unregister(self, sch: SubchannelDevice) -> None:
        """Remove a subchannel's device on the slow path; whoever caused it need not wait for the device's users."""
        if not sch.dead and self.bus.devices.get(sch.name) is sch:
            sch.leaving = True
            self.kernel.clock.run_apart(lambda: self._remove(sch), f"cio {sch.name}")
        else:
            self._look_again(sch.schid)

    def _remove(self, sch: SubchannelDevice) -> None:
        self.bus.remove(sch)
        self._look_again(sch.schid)

    def _look_again(self, schid: SubchannelId) -> None:
        if schid in self._after_removal:
            self._after_removal.discard(schid)
            self.schedule_evaluation(schid)

    # what people say in /proc

    def purge(self) -> None:
        """Remove the devices that are ignored and offline (``ccw_purge_blacklisted``)."""
        if not self.ignored:
            return
        for sch in list(self.subchannels()):
            pmcw = sch.pmcw
            if sch.st != SubchannelType.IO or not pmcw.dnv or (sch.schid.ssid, sch.devno) not in self.ignored:
                continue
            device = sch.cdev
            if device is not None:
                if not device.is_offline:
                    continue
                device.give_up()
            sch.leaving = True
            self.kernel.clock.schedule(0.0, partial(self.unregister, sch))

    def settle(self) -> None:
        """Wait until reports and evaluations are done (``cio_settle``)."""
        self.kernel.clock.run_until(lambda: not (self._scheduled or self._wanted))


def css_of(device: Device) -> Css:
    """The channel subsystem that a device belongs to."""
    return device.kernel.subsystems[CSS]


def boot(machine: Machine) -> None:
    """Make the hardware (``machine.css``) and Linux's side of it, from the machine's description; see `css_boot`."""
    from pyvfio_backends.software.linux import css_boot

    css_boot.boot(machine)
