"""The channel paths of a channel subsystem, and what happens to them.

A path is configured (online) or standby; that is what the path-available mask of subchannels follows.  Whether a
program uses a path is its own affair (its path mask; Linux calls that vary), the hardware does not know of it.

============================  ====================================================  ==================================
what happens                  here                                                  the program is told by
============================  ====================================================  ==================================
it configures a path itself   `sclp_configure_path`, `sclp_deconfigure_path`        the answer
the path goes or comes        `set_path_online`                                     CRW (channel path)
an operator asks for it       `request_path`                                        CRW (css) and event information
it does not work any more     `break_path`, `repair_path`                           what happens to its functions
anything else                 `inject_report`, `inject_event`                       CRW, CRW and event information
============================  ====================================================  ==================================

A program that runs over a path when that goes away or breaks ends with interface-control check.
Source: ``drivers/s390/char/sclp_cmd.c`` (channel-path commands and their response codes), ``drivers/s390/cio/chp.c``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Final

from pyvfio.address import SubchannelId
from pyvfio.css.chsc_machine import Facility
from pyvfio.css.crw import Crw, ErrorRecovery
from pyvfio.css.sei import Configure, EventContent, PathConfiguration, Sei
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.css.config import ChannelPath
from pyvfio_backends.software.hardware.css.inventory import Inventory
from pyvfio_backends.software.hardware.css.model import CssModel
from pyvfio_backends.software.hardware.css.reports import Reports
from pyvfio_backends.software.hardware.css.subchannel import Subchannel

__all__ = ["SCLP_ALREADY", "SCLP_DONE", "SCLP_NO_SUCH_PATH", "ChannelPaths", "PathInformation"]

#: Response codes of the service-call commands: done, was so already, there is no such path.
SCLP_DONE: Final = 0x0020
SCLP_ALREADY: Final = 0x0120
SCLP_NO_SUCH_PATH: Final = 0x09F0


@dataclass(frozen=True, slots=True)
class PathInformation:
    """What the service call tells of the channel paths of an image: sets of CHPIDs."""

    recognized: frozenset[int]
    standby: frozenset[int]
    configured: frozenset[int]


class ChannelPaths(Inventory):
    """The channel paths beside the subchannels that use them."""

    def __init__(self, model: CssModel, reports: Reports, enabled: Collection[Facility]) -> None:
        super().__init__(model, reports, enabled)
        self._paths: dict[tuple[int, int], ChannelPath] = {}
        self._unusual: set[tuple[int, int]] = set()

    def add_path(self, path: ChannelPath, *, report: bool = False) -> None:
        """Describe a channel path, in place of one with the same id; with `report`, a channel report says so.

        Raise `Misuse` for an id that does not fit 8 bits.
        """
        if not 0 <= path.chpid < 1 << 8 or not 0 <= path.cssid < 1 << 8:
            raise Misuse("add channel path", str(path), cause="a path id and an image id have 8 bits")
        self._paths[path.cssid, path.chpid] = path
        self._follow(path)
        if report:
            self._report_path(path, ErrorRecovery.INITIALIZED)

    def paths(self) -> list[ChannelPath]:
        """All described channel paths, in order of css image and CHPID."""
        return [self._paths[key] for key in sorted(self._paths)]

    def path(self, cssid: int, chpid: int) -> ChannelPath | None:
        """A channel path, None when there is no such."""
        return self._paths.get((cssid, chpid))

    # -- what happens to them ------------------------------------------------------------------------------------

    def set_path_online(self, cssid: int, chpid: int, online: bool) -> None:
        """Have a channel path come or go: its path-available bits follow, a CRW is queued.  Raise `Misuse`."""
        path = self._named(cssid, chpid, "set channel path")
        if path.online != online:
            path.online = online
            self._follow(path)
            erc = ErrorRecovery.INITIALIZED if online else ErrorRecovery.PERMANENT_ERROR
            self._report_path(path, erc)

    def break_path(self, cssid: int, chpid: int) -> None:
        """Have no device answer on a path, though it is available.  Raise `Misuse` when there is no such."""
        path = self._named(cssid, chpid, "break channel path")
        path.works = False
        self._follow(path)

    def repair_path(self, cssid: int, chpid: int) -> None:
        """Undo `break_path`.  Raise `Misuse` when there is no such."""
        path = self._named(cssid, chpid, "repair channel path")
        path.works = True
        self._follow(path)

    def request_path(self, cssid: int, chpid: int, operation: Configure = Configure.DECONFIGURE) -> None:
        """Have an operator ask for a path to be (de)configured.  Raise `Misuse` when there is no such."""
        self._named(cssid, chpid, "request channel path")
        field = PathConfiguration((chpid,), operation).to_bytes()
        self._reports.event(Sei(EventContent.PATH_CONFIGURATION, ccdf=field))

    def inject_report(self, *words: Crw) -> None:
        """Queue a channel report of one or more (chained) words, whatever they say."""
        self._reports.queue(*words)

    def inject_event(self, event: Sei) -> None:
        """Keep an event for STORE EVENT INFORMATION, whatever it says; a channel report tells of it."""
        self._reports.event(event)

    # -- the service call ----------------------------------------------------------------------------------------

    def sclp_read_paths(self, cssid: int = 0) -> PathInformation | None:
        """Tell which channel paths there are; None when the machine has no such service call."""
        if not self.model.path_configuration:
            return None
        there = [path for path in self.paths() if path.cssid == cssid]
        configured = frozenset(path.chpid for path in there if path.online)
        known = frozenset(path.chpid for path in there)
        return PathInformation(known, known - configured, configured)

    def sclp_configure_path(self, cssid: int, chpid: int) -> int | None:
        """Configure a path as the program wishes: a response code; None when there is no such service call."""
        return self._sclp(cssid, chpid, online=True)

    def sclp_deconfigure_path(self, cssid: int, chpid: int) -> int | None:
        """Deconfigure a path as the program wishes: a response code; None when there is no such service call."""
        return self._sclp(cssid, chpid, online=False)

    def _sclp(self, cssid: int, chpid: int, *, online: bool) -> int | None:
        if not self.model.path_configuration:
            return None
        path = self.path(cssid, chpid)
        if path is None:
            return SCLP_NO_SUCH_PATH
        if path.online == online:
            return SCLP_ALREADY
        path.online = online
        self._follow(path)
        return SCLP_DONE

    # -- what subchannels have of them ---------------------------------------------------------------------------

    def _named(self, cssid: int, chpid: int, operation: str) -> ChannelPath:
        path = self._paths.get((cssid, chpid))
        if path is None:
            raise Misuse(operation, f"{cssid:x}.{chpid:02x}", cause="there is no such channel path")
        return path

    def _report_path(self, path: ChannelPath, erc: int, *, solicited: bool = False) -> None:
        shown = self.shown(SubchannelId(path.cssid, 0, 0))
        if shown is not None:
            self._reports.path(shown.cssid, path.chpid, erc, solicited=solicited)

    def _follow(self, path: ChannelPath) -> None:
        """Have the subchannels follow a path that changed."""
        key = path.cssid, path.chpid
        usual = path.online and path.works
        if usual and key not in self._unusual:
            return
        if usual:
            self._unusual.discard(key)
        else:
            self._unusual.add(key)
        for subchannel, mask in self._users(path):
            self._set_available(subchannel, mask, path.online)
            if not usual:
                self._path_lost(subchannel, mask)

    def _users(self, path: ChannelPath) -> Iterator[tuple[Subchannel, int]]:
        """The subchannels that were built and have the path, each with its mask there."""
        for schid, subchannel in list(self._subchannels.items()):
            if schid.cssid == path.cssid:
                mask = _path_mask(subchannel, path.chpid)
                if mask:
                    yield subchannel, mask

    def _prepared(self, subchannel: Subchannel) -> Subchannel:
        for cssid, chpid in self._unusual:
            if cssid == subchannel.schid.cssid and not self._paths[cssid, chpid].online:
                self._set_available(subchannel, _path_mask(subchannel, chpid), False)
        return subchannel

    @staticmethod
    def _set_available(subchannel: Subchannel, mask: int, online: bool) -> None:
        pam = subchannel.pmcw.pam | mask if online else subchannel.pmcw.pam & ~mask
        if pam != subchannel.pmcw.pam:
            subchannel.pmcw = replace(subchannel.pmcw, pam=pam)

    def _works(self, subchannel: Subchannel, mask: int) -> bool:
        """Whether the device of a subchannel answers on the path of a one-bit mask."""
        if not self._unusual:
            return True
        chpid = subchannel.config.chpids[8 - mask.bit_length()]
        path = self._paths.get((subchannel.schid.cssid, chpid))
        return path is None or (path.online and path.works)

    def _path_lost(self, subchannel: Subchannel, mask: int) -> None:
        """Called when the paths in `mask` of a subchannel went away or broke."""


def _path_mask(subchannel: Subchannel, chpid: int) -> int:
    """The path-mask bits of a CHPID, as far as the paths are installed."""
    mask = 0
    for position, number in enumerate(subchannel.config.chpids):
        if number == chpid:
            mask |= 0x80 >> position
    return mask & subchannel.pmcw.pim
