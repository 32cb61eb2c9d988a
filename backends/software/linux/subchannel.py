"""A subchannel as Linux knows it: the device on the css bus, and cio's instructions for it.

Source: ``drivers/s390/cio/cio.c`` (enable, disable, commit, cancel-halt-clear) and ``css.c`` (attributes).  Functions
that the kernel lets return ``-errno`` return the errno, 0 for success.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from pyvfio.address import SubchannelId
from pyvfio.css.instructions import OperandException
from pyvfio.css.orb import Orb
from pyvfio.css.schib import Pmcw, Schib, SubchannelType
from pyvfio.css.scsw import Actl
from pyvfio_backends.software.linux.css_driver import CssDriver, PathEvent
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.driver_core import override_attribute
from pyvfio_backends.software.linux.subchannel_files import COMMON_FILES, IO_FILES
from pyvfio_backends.software.linux.vfs import Attribute, Node

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.ccw import CcwDevice
    from pyvfio_backends.software.linux.css import Css

__all__ = ["IO_ISC", "BootState", "SubchannelDevice", "intparm_of"]

IO_ISC = 3
"""The interruption subclass of I/O subchannels, and of vfio_ccw (``arch/s390/include/asm/isc.h``)."""
_PATHS = 8
_FIRST_PATH = 0x80
_COMMIT_TRIES = 5
_HALTS = 3
_CLEARS = 255
_INTPARM_SHIFT = 10
_INTPARM_BASE = 1 << 24


_NO_CONFIG = Pmcw()
_FIRST_CONFIG = Pmcw(csense=True)


def intparm_of(schid: SubchannelId) -> int:
    """What Linux puts into the interruption parameter of a subchannel: a number of its own for each (an address)."""
    return _INTPARM_BASE + (schid.ssid << 16 | schid.number) * (1 << _INTPARM_SHIFT)


@dataclass(frozen=True, slots=True)
class BootState:
    """What the boot stored of a row of like subchannels: the first one's `pmcw`, and the paths that may be used.

    A device number is the subchannel's number plus `offset`.
    """

    pmcw: Pmcw
    offset: int
    opm: int
    lpm: int


class SubchannelDevice(Device):
    """``/sys/devices/css0/0.S.NNNN``.

    `config` are the bits of the PMCW that Linux wants, `opm` the paths that are logically online, `lpm` those to be
    used, `vpm` those that were found to work.  `extra` are the attributes that the driver adds.

    `boot` is what the boot stored of it, and of others like it, until it is looked at more closely; `unbuilt` makes the
    device below, which the boot found too, as soon as somebody asks for the children.
    """

    __slots__ = (
        "_cdev",
        "_extra",
        "_schib",
        "boot",
        "config",
        "css",
        "leaving",
        "lpm",
        "mba",
        "opm",
        "schid",
        "st",
        "unbuilt",
        "vpm",
    )

    def __init__(self, css: Css, schid: SubchannelId) -> None:
        super().__init__(css.kernel, f"0.{schid.ssid:x}.{schid.number:04x}", css.root, bus=css.bus)
        self.css = css
        self.schid = schid
        self._schib: Schib | None = None
        self.st = SubchannelType.IO
        self.config = _NO_CONFIG
        self.mba = 0
        self.leaving = False  # its removal was decided
        self.opm = 0xFF
        self.lpm = 0
        self.vpm = 0
        self.boot: BootState | None = None
        self.unbuilt: Callable[[SubchannelDevice], None] | None = None
        self._cdev: CcwDevice | None = None
        self._extra: dict[str, Node] | None = None

    @property
    def children(self) -> dict[str, Device]:
        """See `Device.children`."""
        unbuilt, self.unbuilt = self.unbuilt, None
        if unbuilt is not None:
            unbuilt(self)
        return super().children

    @property
    def cdev(self) -> CcwDevice | None:
        """The ccw device on it, also one that is being recognised and not registered yet."""
        _ = self.children  # builds it
        return self._cdev

    @cdev.setter
    def cdev(self, device: CcwDevice | None) -> None:
        self._cdev = device

    @property
    def extra(self) -> dict[str, Node]:
        """The attributes that the driver added; they may be changed."""
        if self._extra is None:
            self._extra = {}
        return self._extra

    # the channel subsystem's view

    @property
    def pmcw(self) -> Pmcw:
        """What was stored last of the paths: right in all but the device number (see `devno`) and the parameter."""
        if self._schib is None and self.boot is not None:
            return self.boot.pmcw
        return self.schib.pmcw

    @property
    def devno(self) -> int:
        """The device number that was stored last."""
        if self._schib is None and self.boot is not None:
            return self.schid.number + self.boot.offset
        return self.schib.pmcw.devno

    @property
    def schib(self) -> Schib:
        """The SCHIB as it was stored last."""
        if self._schib is None:
            self.update_schib()
        return self._schib if self._schib is not None else Schib()

    @property
    def intparm(self) -> int:
        """What Linux puts into the interruption parameter: a number of its own for each subchannel (an address)."""
        return intparm_of(self.schid)

    def update_schib(self) -> int:
        """Store the SCHIB: 0, ENODEV (no such subchannel) or EACCES (no valid device)."""
        cc, schib = self.css.hardware.stsch(self.schid)
        if cc or schib is None:
            return errno.ENODEV
        self._schib = schib
        return 0 if _valid(schib) else errno.EACCES

    def commit_config(self) -> int:
        """Modify the subchannel as `config` says: 0, ENODEV, EBUSY, EIO or EAGAIN."""
        hardware = self.css.hardware
        cc, schib = hardware.stsch(self.schid)
        if cc or schib is None or not _valid(schib):
            return errno.ENODEV
        result = 0
        for _ in range(_COMMIT_TRIES):
            try:
                mba = self.mba if self.config.mbfc else schib.mba
                cc = hardware.msch(self.schid, replace(schib, pmcw=self._wanted(schib.pmcw), mba=mba))
            except OperandException:
                return errno.EIO
            if cc == 0:
                _, stored = hardware.stsch(self.schid)
                if stored is None or not _valid(stored):
                    return errno.ENODEV
                if stored.pmcw == self._wanted(stored.pmcw):
                    self._schib = stored
                    return 0
                result = errno.EAGAIN
            elif cc == 1:
                result = errno.EBUSY
                if hardware.tsch(self.schid)[0]:
                    return result
            elif cc == 2:
                result = errno.EBUSY
            else:
                return errno.ENODEV
        return result

    def _wanted(self, pmcw: Pmcw) -> Pmcw:
        config = self.config
        return replace(
            pmcw,
            intparm=config.intparm,
            mbi=config.mbi,
            isc=config.isc,
            ena=config.ena,
            mme=config.mme,
            mp=config.mp,
            csense=config.csense,
            mbfc=config.mbfc,
        )

    def init_config(self) -> None:
        """The configuration with which a driver of I/O subchannels begins (``io_subchannel_init_config``)."""
        self.config = _FIRST_CONFIG

    def was_enabled(self) -> None:
        """The boot has enabled the subchannel, and found its paths to work."""
        self.config = replace(_FIRST_CONFIG, ena=True, isc=IO_ISC, intparm=self.intparm)
        self.vpm = self.lpm

    def init_paths(self) -> None:
        """Work out which paths may be used from the channel paths' state (``chp_get_sch_opm``)."""
        self.opm = 0
        for position, chpid in enumerate(self.schib.pmcw.chpid):
            if self.css.path_online(chpid):
                self.opm |= _FIRST_PATH >> position
        self.lpm = self.schib.pmcw.pam & self.opm

    def enable(self) -> int:
        """Enable for interruptions: 0 or as `commit_config`."""
        if self.update_schib():
            return errno.ENODEV
        self.config = replace(self.config, ena=True, isc=IO_ISC, intparm=self.intparm)
        result = self.commit_config()
        if result == errno.EIO:
            # A machine without concurrent sense.
            self.config = replace(self.config, csense=False)
            result = self.commit_config()
        return result

    def disable(self) -> int:
        """Disable: 0 or as `commit_config` (EBUSY while a function is under way)."""
        if self.update_schib():
            return errno.ENODEV
        self.config = replace(self.config, ena=False)
        return self.commit_config()

    def start(self, address: int, lpm: int) -> int:
        """Start a program on the paths `lpm`: 0, EBUSY, EACCES (no such path works) or ENODEV (``cio_start``)."""
        orb = Orb(intparm=self.intparm, pfch=True, lpm=lpm, cpa=address)
        try:
            cc = self.css.hardware.ssch(self.schid, orb)
        except OperandException:
            return errno.EIO
        if cc == 0:
            return 0
        return errno.EBUSY if cc in (1, 2) else self.paths_not_operational(lpm)

    def paths_not_operational(self, lpm: int) -> int:
        """A start found no path of `lpm`: EACCES if others are left, else ENODEV (``cio_start_handle_notoper``)."""
        self.lpm = self.lpm & ~lpm if lpm else 0
        if self.update_schib():
            return errno.ENODEV
        return errno.EACCES if self.lpm else errno.ENODEV

    def clear(self) -> int:
        """Clear: 0 (an interruption will come) or ENODEV."""
        return errno.ENODEV if self.css.hardware.csch(self.schid) else 0

    def cancel_halt_clear(self, retries: list[int]) -> int:
        """Stop what is under way: 0 idle, EBUSY an interruption will come, ENODEV, EIO given up.

        `retries` has one element, 255 at the first call, and is the caller's to keep between calls.
        """
        if self.update_schib():
            return errno.ENODEV
        schib = self.schib
        if not schib.pmcw.ena:
            return 0
        hardware = self.css.hardware
        if not schib.scsw.actl & (Actl.HALT_PENDING | Actl.CLEAR_PENDING):
            cc = hardware.xsch(self.schid)
            if cc != 2:
                return (0, errno.EBUSY, 0, errno.ENODEV)[cc]
            retries[0] = _HALTS
        if not schib.scsw.actl & Actl.CLEAR_PENDING:
            if retries[0]:
                retries[0] -= 1
                cc = hardware.hsch(self.schid)
                if cc in (0, 3):
                    return errno.ENODEV if cc else errno.EBUSY
            retries[0] = _CLEARS
        if retries[0]:
            retries[0] -= 1
            return errno.ENODEV if hardware.csch(self.schid) else errno.EBUSY
        return errno.EIO

    def path_mask(self, chpid: int) -> int:
        """The mask bit of the first path with this CHPID, 0 if there is none (``chp_ssd_get_mask``)."""
        pmcw = self.schib.pmcw
        for position in range(_PATHS):
            mask = _FIRST_PATH >> position
            if pmcw.pim & mask and pmcw.chpid[position] == chpid:
                return mask
        return 0

    def use_path(self, mask: int, event: PathEvent) -> None:
        """Use a path, or use it no more, as `event` says of it (``io_subchannel_chp_event``, ``vfio_ccw_chp_event``).

        What went by itself (`PathEvent.OFFLINE`) needs nothing: the channel subsystem does not use it.
        """
        if event is PathEvent.VARY_OFF:
            self.opm &= ~mask
            self.lpm &= ~mask
        elif event is PathEvent.VARY_ON:
            self.opm |= mask
            self.lpm |= mask
        elif event is PathEvent.ONLINE:
            self.lpm |= mask & self.opm

    # sysfs

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        names = ["driver_override", *COMMON_FILES, *(IO_FILES if self.st == SubchannelType.IO else ())]
        entries = {name: node for name in names if (node := self.attribute(name)) is not None}
        if isinstance(self.driver, CssDriver):
            entries |= self.driver.files(self)
        return entries if self._extra is None else entries | self._extra

    def attribute(self, name: str) -> Node | None:
        """See `Device.attribute`."""
        show = COMMON_FILES.get(name) or (IO_FILES.get(name) if self.st == SubchannelType.IO else None)
        if show is not None:
            return Attribute(partial(show, self))
        if name == "driver_override":
            return override_attribute(self)
        if self._extra is not None and name in self._extra:
            return self._extra[name]
        return self.driver.files(self).get(name) if isinstance(self.driver, CssDriver) else None


def _valid(schib: Schib) -> bool:
    pmcw = schib.pmcw
    if pmcw.st == SubchannelType.IO:
        return pmcw.dnv
    return pmcw.w if pmcw.st == SubchannelType.MESSAGE else True
