"""Channel paths in cio: which are known and used, what happens to them (``drivers/s390/cio/chsc.c``, ``chp.c``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pyvfio.address import SubchannelId
from pyvfio.css.chsc import CHSC_SIZE
from pyvfio.css.sei import Configure, EventContent, PathConfiguration, Sei
from pyvfio_backends.software.linux.chp import ChannelPathDevice
from pyvfio_backends.software.linux.css_chsc import ChscCalls
from pyvfio_backends.software.linux.css_driver import CssDriver, PathEvent
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.driver_core import Bus
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.subchannel import SubchannelDevice

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.css import ChannelSubsystemHardware
    from pyvfio_backends.software.memory import HostMemory

__all__ = ["KnownPaths", "Utilization"]

_FIRST_PATH = 0x80
_FROM_PATH = 4
_OF_FUNCTIONS = 2
_CHPID = 0xFF


class Utilization:
    """The pages in which the machine tells how much each channel path is used."""

    def __init__(self, memory: HostMemory) -> None:
        self._memory = memory
        one, two = self.areas = memory.allocate(CHSC_SIZE), memory.allocate(CHSC_SIZE)
        pages = [memory.allocate(CHSC_SIZE) for _ in range(4)]
        self.extended = pages[0], pages[1], pages[2], pages[3]
        self._pages = [one, two, *pages]

    def entry(self, chpid: int, *, extended: bool) -> bytes:
        """What is told of one path: 32 bytes, or 64."""
        pages, size = (self.extended, 64) if extended else (self.areas, 32)
        page, place = divmod(chpid, CHSC_SIZE // size)
        return self._memory.read(pages[page] + place * size, size)

    def free(self) -> None:
        """Give the pages back."""
        for page in self._pages:
            self._memory.free(page)


class KnownPaths(ABC):
    """The channel paths that cio knows (`paths`, by number), and its calls to the channel subsystem."""

    kernel: Kernel
    bus: Bus
    root: Device
    hardware: ChannelSubsystemHardware

    def __init__(self) -> None:
        self.paths: dict[int, ChannelPathDevice] = {}
        self.utilization: Utilization | None = None
        self.unbuilt_on_path: Callable[[int], Iterable[str]] = lambda chpid: ()
        """The subchannels that nobody has looked at and that use a channel path."""
        self.on_function_event: Callable[[Sei], None] = lambda event: None
        """Called with event information about PCI functions."""
        self._calls: ChscCalls | None = None

    @abstractmethod
    def schedule_evaluation(self, what: SubchannelDevice | SubchannelId) -> None:
        """Look at a subchannel soon."""

    @abstractmethod
    def schedule_reprobe(self) -> None:
        """Look, in a second, at every subchannel without a path that works."""

    @abstractmethod
    def schedule_all(self) -> None:
        """Look at every subchannel soon."""

    def built(self) -> list[SubchannelDevice]:
        """The subchannels that somebody has looked at."""
        return [device for device in self.bus.devices.values() if isinstance(device, SubchannelDevice)]

    @property
    def calls(self) -> ChscCalls:
        """What the channel subsystem is asked with CHSC."""
        if self._calls is None or self._calls.hardware is not self.hardware:
            self._calls = ChscCalls(self.hardware)
        return self._calls

    def log_subchannel(self, schid: SubchannelId) -> int:
        """Have the machine log what it knows of a subchannel's device: 0 or an errno."""
        return self.calls.log(schid)

    def path_online(self, chpid: int) -> bool:
        """Whether a channel path is logically online; one that is not registered counts as such."""
        path = self.paths.get(chpid)
        return path is None or path.online

    def register_path(self, chpid: int) -> None:
        """Make a channel path known that the machine has (``chp_new``)."""
        if chpid in self.paths:
            return
        facts = self.calls.path(chpid)
        if facts is not None:
            device = ChannelPathDevice(self, chpid, facts)
            self.paths[chpid] = device
            self.root.children[device.name] = device

    def update_paths(self, sch: SubchannelDevice) -> None:
        """Make the paths of a subchannel known (``css_update_ssd_info``)."""
        pmcw = sch.pmcw
        for position, chpid in enumerate(pmcw.chpid):
            if pmcw.pim & _FIRST_PATH >> position:
                self.register_path(chpid)

    def path_came(self, chpid: int) -> None:
        """Use a channel path that the machine has again, unless it is varied off (``chsc_chp_online``)."""
        if self.path_online(chpid):
            self._update_path(chpid)
            self._tell_paths(chpid, PathEvent.ONLINE)
            self.schedule_reprobe()

    def _update_path(self, chpid: int) -> None:
        if chpid in self.paths:
            self.paths[chpid].update()

    def path_went(self, chpid: int) -> None:
        """The machine lost a channel path (``chsc_chp_offline``)."""
        if self.path_online(chpid):
            self._update_path(chpid)
            self._tell_paths(chpid, PathEvent.OFFLINE)

    def vary_path(self, chpid: int, on: bool) -> None:
        """Have the devices use a channel path, or not (``chsc_chp_vary``)."""
        self._tell_paths(chpid, PathEvent.VARY_ON if on else PathEvent.VARY_OFF)
        if on:
            self.schedule_reprobe()

    def _tell_paths(self, chpid: int, event: PathEvent, link: tuple[int, int] | None = None) -> None:
        """Tell the drivers of all subchannels, or of those on a `link` (full link address and its mask)."""
        for name in self.unbuilt_on_path(chpid):
            self.bus.find(name)
        for sch in self.built():
            if not isinstance(sch.driver, CssDriver) or (link is not None and not self._is_linked(sch, chpid, link)):
                continue
            if sch.driver.chp_event(sch, chpid, event) and event is PathEvent.OFFLINE:
                sch.lpm = 0
                self.schedule_evaluation(sch)

    def _is_linked(self, sch: SubchannelDevice, chpid: int, link: tuple[int, int]) -> bool:
        """Whether a subchannel's path may lead over a link; one without a known link may (``chp_ssd_get_mask``)."""
        known = self.calls.subchannel(sch.schid)
        mask = sch.path_mask(chpid)
        if known is None or not known.link_mask & mask:
            return True
        address, valid = link
        return known.links[8 - mask.bit_length()] & valid == address & valid

    # events that the machine tells of when it is asked (chsc.c)

    def take_events(self) -> None:
        """Ask what happened, until nothing more is told (``chsc_process_crw``)."""
        while (event := self.calls.event()) is not None:
            if event.nt == 0:
                self._take_event(event)
            elif event.nt == _OF_FUNCTIONS:
                self.on_function_event(event)
            if not event.more:
                break

    def _take_event(self, event: Sei) -> None:
        if event.cc == EventContent.RESOURCE_ACCESSIBILITY and event.rs == _FROM_PATH:
            chpid = event.rsid & _CHPID
            if self.path_online(chpid):
                self.register_path(chpid)
                self._update_path(chpid)
                self._tell_paths(chpid, PathEvent.ONLINE, event.link)
                self.schedule_reprobe()
        elif event.cc == EventContent.PATH_AVAILABILITY and not event.rs:
            for chpid in event.chpids:
                self.register_path(chpid)
                self._update_path(chpid)
        elif event.cc == EventContent.PATH_CONFIGURATION and not event.rs:
            wish = PathConfiguration.from_bytes(event.ccdf)
            for chpid in wish.chpids:
                if chpid in self.paths and wish.op in (Configure.CONFIGURE, Configure.DECONFIGURE):
                    self.paths[chpid].configure(wish.op == Configure.CONFIGURE)
        if event.lost:
            self.schedule_all()

    # how much the channel paths are used

    @property
    def measuring(self) -> bool:
        """Whether the use of channel paths is measured."""
        return self.utilization is not None

    def measure_paths(self, on: bool) -> int:
        """Start or stop that: 0 or an errno (``chsc_secm``)."""
        if on == self.measuring:
            return 0
        utilization = self.utilization or Utilization(self.kernel.memory)
        code = self.calls.measure_paths(on, utilization.areas, utilization.extended)
        if on and not code:
            self.utilization = utilization
        elif on or not code:
            utilization.free()
            self.utilization = None
        return code

    def read_utilization(self, chpid: int, *, extended: bool) -> bytes:
        """The machine's entry for a channel path; empty when nothing is measured."""
        return b"" if self.utilization is None else self.utilization.entry(chpid, extended=extended)
