"""What a channel subsystem has: subchannels, also whole ranges that are built on first use, and channel paths.

Changes are reported by channel report words (CRW).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

from pyvfio.address import SubchannelId
from pyvfio.css.crw import Crw, ErrorRecovery, ReportingSource
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.css.config import ChannelPath, SubchannelConfig
from pyvfio_backends.software.hardware.css.model import CssModel
from pyvfio_backends.software.hardware.css.subchannel import Subchannel

__all__ = ["Factory", "Inventory"]

Factory = Callable[[SubchannelId], SubchannelConfig]


class Inventory:
    """Subchannels and channel paths of one channel subsystem; `on_crw` is called when a CRW is queued."""

    def __init__(self, model: CssModel, on_crw: Callable[[], None]) -> None:
        self.model = model
        self._on_crw = on_crw
        self._subchannels: dict[SubchannelId, Subchannel] = {}
        self._ranges: list[tuple[SubchannelId, int, Factory]] = []
        self._removed: set[SubchannelId] = set()
        self._paths: dict[tuple[int, int], ChannelPath] = {}
        self._reports: deque[Crw] = deque()

    def add_subchannel(self, config: SubchannelConfig, *, report: bool = False) -> None:
        """Provide a subchannel; with `report`, a channel report says so.  Raise `Misuse` when the id is taken."""
        if self._find(config.schid) is not None:
            raise Misuse("add subchannel", str(config.schid), cause="there is one with this id already")
        self._removed.discard(config.schid)
        self._subchannels[config.schid] = Subchannel(config, self.model)
        if report:
            self._report_subchannel(config.schid)

    def add_range(self, first: SubchannelId, count: int, factory: Factory) -> None:
        """Provide `count` subchannels from `first` on; `factory` is called for each on its first use only."""
        if count < 1 or first.number + count > 1 << 16:
            raise Misuse("add subchannels", str(first), cause=f"{count} of them do not fit into the set")
        for other, length, _ in self._ranges:
            same_set = (other.cssid, other.ssid) == (first.cssid, first.ssid)
            if same_set and first.number < other.number + length and other.number < first.number + count:
                raise Misuse("add subchannels", str(first), cause=f"they overlap those from {other} on")
        self._ranges.append((first, count, factory))

    def remove_subchannel(self, schid: SubchannelId) -> None:
        """Take a subchannel away, as when its device is unplugged: not operational from now on, a CRW is queued.

        Raise `Misuse` when there is none.
        """
        subchannel = self._find(schid)
        if subchannel is None:
            raise Misuse("remove subchannel", str(schid), cause="there is no such subchannel")
        subchannel.turn += 1
        self._subchannels.pop(schid, None)
        self._removed.add(schid)
        self.forget_interruption(schid)
        self._report_subchannel(schid)

    def schids(self) -> Iterator[SubchannelId]:
        """All subchannels that are provided, in order; building none of them."""
        ids = set(self._subchannels)
        for first, count, _ in self._ranges:
            ids.update(
                SubchannelId(first.cssid, first.ssid, number) for number in range(first.number, first.number + count)
            )
        return iter(sorted(ids - self._removed))

    def config(self, schid: SubchannelId) -> SubchannelConfig:
        """The configuration of a subchannel, with the device it has.  Raise `Misuse` when there is none."""
        subchannel = self._find(schid)
        if subchannel is None:
            raise Misuse("look up subchannel", str(schid), cause="there is no such subchannel")
        return replace(subchannel.config, device=subchannel.device, build=None)

    def add_path(self, path: ChannelPath) -> None:
        """Describe a channel path."""
        self._paths[path.cssid, path.chpid] = path

    def paths(self) -> list[ChannelPath]:
        """All described channel paths, in order of css image and CHPID."""
        return [self._paths[key] for key in sorted(self._paths)]

    def set_path_online(self, cssid: int, chpid: int, online: bool) -> None:
        """Configure a channel path on or off: its path-available bits follow, a CRW is queued.  Raise `Misuse`."""
        path = self._paths.get((cssid, chpid))
        if path is None:
            raise Misuse("set channel path", f"{cssid:x}.{chpid:02x}", cause="there is no such channel path")
        if path.online == online:
            return
        path.online = online
        for schid, subchannel in self._subchannels.items():
            if schid.cssid == cssid:
                mask = self._path_mask(subchannel, chpid)
                pam = subchannel.pmcw.pam | mask if online else subchannel.pmcw.pam & ~mask
                subchannel.pmcw = replace(subchannel.pmcw, pam=pam)
        erc = ErrorRecovery.INITIALIZED if online else ErrorRecovery.PERMANENT_ERROR
        self._report(Crw(rsc=ReportingSource.CHANNEL_PATH, erc=erc, rsid=chpid))

    def _find(self, schid: SubchannelId) -> Subchannel | None:
        """The subchannel, built and kept now if it belongs to a range."""
        found = self._look(schid)
        if found is not None:
            self._subchannels.setdefault(schid, found)
        return found

    def _look(self, schid: SubchannelId) -> Subchannel | None:
        """The subchannel, to store its state only: one that nothing was done to yet is not kept."""
        found = self._subchannels.get(schid)
        if found is None and self._ranges and schid not in self._removed:
            for first, count, factory in self._ranges:
                inside = first.number <= schid.number < first.number + count
                if inside and (first.cssid, first.ssid) == (schid.cssid, schid.ssid):
                    found = Subchannel(factory(schid), self.model)
                    self._match_paths(found)
                    break
        return found

    def _match_paths(self, subchannel: Subchannel) -> None:
        """Take the paths that are offline out of a subchannel that is built late."""
        for (cssid, chpid), path in self._paths.items():
            if not path.online and cssid == subchannel.schid.cssid:
                mask = self._path_mask(subchannel, chpid)
                subchannel.pmcw = replace(subchannel.pmcw, pam=subchannel.pmcw.pam & ~mask)

    @staticmethod
    def _path_mask(subchannel: Subchannel, chpid: int) -> int:
        """The path-mask bits of a CHPID, as far as the paths are installed."""
        mask = 0
        for position, number in enumerate(subchannel.config.chpids):
            if number == chpid:
                mask |= 0x80 >> position
        return mask & subchannel.pmcw.pim

    def _report(self, *words: Crw) -> None:
        self._reports.extend(words)
        self._on_crw()

    def _report_subchannel(self, schid: SubchannelId) -> None:
        """Queue the CRW of a subchannel; outside css 0 and set 0 a second, chained one carries image and set."""
        chained = bool(schid.cssid or schid.ssid)
        first = Crw(
            rsc=ReportingSource.SUBCHANNEL,
            erc=ErrorRecovery.PARAMETERS_INITIALIZED,
            rsid=schid.number,
            chn=chained,
        )
        if chained:
            rsid = schid.cssid << 8 | schid.ssid << 4
            self._report(first, replace(first, chn=False, rsid=rsid))
        else:
            self._report(first)

    def forget_interruption(self, schid: SubchannelId) -> None:
        """Called when a subchannel is removed."""
