"""A subchannel as Linux knows it: the device on the css bus, and cio's instructions for it.

Source: ``drivers/s390/cio/cio.c`` (enable, disable, commit, cancel-halt-clear) and ``css.c`` (attributes).  Functions
that the kernel lets return ``-errno`` return the errno, 0 for success.
"""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING

from pyvfio.address import SubchannelId
from pyvfio.css.instructions import OperandException
from pyvfio.css.irb import Irb
from pyvfio.css.schib import Pmcw, Schib, SubchannelType
from pyvfio.css.scsw import Actl
from pyvfio_backends.software.linux.driver_core import Device, Driver, override_attribute
from pyvfio_backends.software.linux.vfs import Attribute, Node

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.css import Css

__all__ = ["IO_ISC", "CssDriver", "SubchannelDevice"]

IO_ISC = 3
"""The interruption subclass of I/O subchannels, and of vfio_ccw (``arch/s390/include/asm/isc.h``)."""
_PATHS = 8
_FIRST_PATH = 0x80
_COMMIT_TRIES = 5
_HALTS = 3
_CLEARS = 255
_INTPARM_SHIFT = 10
_INTPARM_BASE = 1 << 24


class SubchannelDevice(Device):
    """``/sys/devices/css0/0.S.NNNN``.

    `config` are the bits of the PMCW that Linux wants, `opm` the paths that are logically online, `lpm` those to be
    used, `vpm` those that were found to work.  `extra` are the attributes that the driver adds.
    """

    __slots__ = ("_schib", "config", "css", "extra", "lpm", "number", "opm", "schid", "ssid", "st", "vpm")

    def __init__(self, css: Css, schid: SubchannelId) -> None:
        super().__init__(css.kernel, f"0.{schid.ssid:x}.{schid.number:04x}", css.root, bus=css.bus)
        self.css = css
        self.schid = schid
        self._schib: Schib | None = None
        self.st = SubchannelType.IO
        self.config = Pmcw()
        self.opm = 0xFF
        self.lpm = 0
        self.vpm = 0
        self.extra: dict[str, Node] = {}

    # the channel subsystem's view

    @property
    def schib(self) -> Schib:
        """The SCHIB as it was stored last."""
        if self._schib is None:
            self.update_schib()
        return self._schib if self._schib is not None else Schib()

    @property
    def intparm(self) -> int:
        """What Linux puts into the interruption parameter: a number of its own for each subchannel (an address)."""
        return _INTPARM_BASE + (self.schid.ssid << 16 | self.schid.number) * (1 << _INTPARM_SHIFT)

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
                cc = hardware.msch(self.schid, replace(schib, pmcw=self._wanted(schib.pmcw)))
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
        self.config = Pmcw(csense=True)

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

    # sysfs

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        entries: dict[str, Node] = {
            "driver_override": override_attribute(self),
            "modalias": Attribute(lambda: f"css:t{self.st:01X}\n"),
            "type": Attribute(lambda: f"{self.st:01x}\n"),
        }
        if self.st == SubchannelType.IO:
            entries |= {
                "chpids": Attribute(self._chpids),
                "dev_busid": Attribute(self._dev_busid),
                "pimpampom": Attribute(self._pimpampom),
            }
        return entries | self.extra

    def _chpids(self) -> str:
        pmcw = self.schib.pmcw
        shown = (
            f"{pmcw.chpid[position] if pmcw.pim & _FIRST_PATH >> position else 0:02x} " for position in range(_PATHS)
        )
        return "".join(shown) + "\n"

    def _pimpampom(self) -> str:
        pmcw = self.schib.pmcw
        return f"{pmcw.pim:02x} {pmcw.pam:02x} {pmcw.pom:02x}\n"

    def _dev_busid(self) -> str:
        pmcw = self.schib.pmcw
        return f"0.{self.schid.ssid:x}.{pmcw.devno:04x}\n" if pmcw.dnv else "none\n"


class CssDriver(Driver):
    """A driver of subchannels of the given types; what `Driver` has, and the events of a subchannel."""

    types: frozenset[SubchannelType] = frozenset({SubchannelType.IO})

    def irq(self, sch: SubchannelDevice, irb: Irb) -> None:
        """A status of the subchannel was pending; `irb` is what TSCH stored."""

    def sch_event(self, sch: SubchannelDevice) -> None:
        """Something happened to the subchannel; look what (``sch_event`` in process context)."""

    def chp_event(self, sch: SubchannelDevice, chpid: int, event: str) -> None:
        """A channel path changed: vary-off, vary-on, offline or online."""


def _valid(schib: Schib) -> bool:
    pmcw = schib.pmcw
    if pmcw.st == SubchannelType.IO:
        return pmcw.dnv
    return pmcw.w if pmcw.st == SubchannelType.MESSAGE else True
