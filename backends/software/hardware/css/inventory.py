"""Which subchannels a channel subsystem has, also whole ranges that are built on first use.

Up to 256 images of four sets of 65,536 subchannels can be addressed.  Of those, a program sees the default image and
its set 0, until it enables several images and several sets (CHSC does that).  The default image goes by the css id 0,
whatever its own is: a hypervisor's virtual devices are in fe.  Once several images are enabled, the channel subsystem
itself calls it by its own.  A subchannel that comes or goes is reported by channel report words (CRW), if the program
can see it.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from heapq import merge
from typing import TypeAlias

from pyvfio.address import SubchannelId
from pyvfio.css.chsc_machine import Facility
from pyvfio.css.interruption import Interruptions
from pyvfio.css.sei import Sei
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.css.config import SubchannelConfig
from pyvfio_backends.software.hardware.css.model import CssModel
from pyvfio_backends.software.hardware.css.reports import Reports
from pyvfio_backends.software.hardware.css.subchannel import Subchannel

__all__ = ["Factory", "Inventory"]

Factory: TypeAlias = Callable[[SubchannelId], SubchannelConfig]


@dataclass(order=True, slots=True)
class _Range:
    """`count` subchannels from `first` on, each described by `factory` when it is first used."""

    first: SubchannelId
    count: int = field(compare=False)
    factory: Factory = field(compare=False)

    @property
    def place(self) -> tuple[int, int]:
        return self.first.cssid, self.first.ssid

    @property
    def end(self) -> int:
        return self.first.number + self.count

    def __contains__(self, schid: SubchannelId) -> bool:
        return (schid.cssid, schid.ssid) == self.place and self.first.number <= schid.number < self.end

    def schids(self) -> Iterator[SubchannelId]:
        place = self.place
        return (SubchannelId(*place, number) for number in range(self.first.number, self.end))


class Inventory:
    """The subchannels of one channel subsystem; `enabled` are the facilities that the program has enabled already."""

    #: The css id of the default image.
    default_image: int = 0

    def __init__(self, model: CssModel, reports: Reports, enabled: Collection[Facility]) -> None:
        self.model = model
        self._reports = reports
        self._interruptions = Interruptions()
        self._subchannels: dict[SubchannelId, Subchannel] = {}
        self._ranges: list[_Range] = []
        self._removed: set[SubchannelId] = set()
        self._highest: dict[tuple[int, int], int] = {}
        self._enabled: set[Facility] = set()
        for facility in enabled:
            self.enable(facility)

    # -- what there is -------------------------------------------------------------------------------------------

    def add_subchannel(self, config: SubchannelConfig, *, report: bool = False) -> None:
        """Provide a subchannel; with `report`, a channel report says so.  Raise `Misuse` when the id is taken."""
        schid = config.schid
        if self._look(schid) is not None:
            raise Misuse("add subchannel", str(schid), cause="there is one with this id already")
        self._removed.discard(schid)
        self._subchannels[schid] = self._prepared(Subchannel(config, self.model))
        self._highest.clear()
        if report:
            self._report_subchannel(schid)

    def add_range(self, first: SubchannelId, count: int, factory: Factory) -> None:
        """Provide `count` subchannels from `first` on; `factory` is called for each on its first use only."""
        if count < 1 or first.number + count > 1 << 16:
            raise Misuse("add subchannels", str(first), cause=f"{count} of them do not fit into the set")
        new = _Range(first, count, factory)
        for other in self._ranges:
            if other.place == new.place and first.number < other.end and other.first.number < new.end:
                raise Misuse("add subchannels", str(first), cause=f"they overlap those from {other.first} on")
        insort(self._ranges, new)
        self._highest.clear()

    def remove_subchannel(self, schid: SubchannelId) -> None:
        """Take a subchannel away, as when its device is unplugged: not operational from now on, a CRW is queued.

        A function that is under way is over, without a status.  Raise `Misuse` when there is none.
        """
        subchannel = self._find(schid)
        if subchannel is None:
            raise Misuse("remove subchannel", str(schid), cause="there is no such subchannel")
        subchannel.turn += 1
        subchannel.program = None
        self._subchannels.pop(schid, None)
        self._removed.add(schid)
        self._highest.clear()
        self._interruptions.withdraw(schid)
        self._report_subchannel(schid)

    def schids(self) -> Iterator[SubchannelId]:
        """All subchannels that are provided, in order; building none of them."""
        single = sorted(schid for schid in self._subchannels if self._range(schid) is None)
        return (schid for schid in merge(single, self._ranged()) if schid not in self._removed)

    def _ranged(self) -> Iterator[SubchannelId]:
        for one in self._ranges:
            yield from one.schids()

    def __len__(self) -> int:
        """How many subchannels are provided."""
        single = sum(1 for schid in self._subchannels if self._range(schid) is None)
        gone = sum(1 for schid in self._removed if self._range(schid) is not None)
        return single + sum(one.count for one in self._ranges) - gone

    @property
    def built(self) -> int:
        """How many subchannels have been used, and so are kept as objects."""
        return len(self._subchannels)

    def config(self, schid: SubchannelId) -> SubchannelConfig:
        """The configuration of a subchannel, with the device it has.  Raise `Misuse` when there is none."""
        subchannel = self._find(schid)
        if subchannel is None:
            raise Misuse("look up subchannel", str(schid), cause="there is no such subchannel")
        return replace(subchannel.config, device=subchannel.device, build=None)

    # -- what the program sees -----------------------------------------------------------------------------------

    def enable(self, facility: Facility) -> None:
        """Let the program see further images, or further sets."""
        self._enabled.add(facility)
        self._reports.images = Facility.IMAGES in self._enabled
        self._reports.sets = Facility.SUBCHANNEL_SETS in self._enabled

    def disable_facilities(self) -> None:
        """Let the program see the default image and set 0 only, as after a reset."""
        self._enabled.clear()
        self._reports.images = self._reports.sets = False

    def designated(self, schid: SubchannelId) -> SubchannelId | None:
        """The subchannel that an instruction's `schid` is about; None when its image or set is not enabled."""
        if schid.ssid and Facility.SUBCHANNEL_SETS not in self._enabled:
            return None
        if schid.cssid:
            return schid if Facility.IMAGES in self._enabled else None
        return replace(schid, cssid=self.default_image) if self.default_image else schid

    def shown(self, schid: SubchannelId) -> SubchannelId | None:
        """How the program is told of a subchannel; None when it cannot see it."""
        if schid.ssid and Facility.SUBCHANNEL_SETS not in self._enabled:
            return None
        if Facility.IMAGES in self._enabled:
            return schid
        if schid.cssid != self.default_image:
            return None
        return replace(schid, cssid=0) if schid.cssid else schid

    def image(self, cssid: int) -> int | None:
        """The image that an instruction's css id is about; None when it is not enabled."""
        schid = self.designated(SubchannelId(cssid, 0, 0))
        return None if schid is None else schid.cssid

    def has_image(self, cssid: int) -> bool:
        """Whether an image has subchannels, or is the default one."""
        return (
            cssid == self.default_image
            or any(schid.cssid == cssid for schid in self._subchannels)
            or any(one.first.cssid == cssid for one in self._ranges)
        )

    def looked_at(self, schid: SubchannelId) -> Subchannel | None:
        """The subchannel, to look at only; one that nothing was done to yet is not kept."""
        return self._look(schid)

    def designated_subchannel(self, schid: SubchannelId) -> Subchannel | None:
        """The subchannel that an instruction's `schid` is about, to look at only."""
        real = self.designated(schid)
        return None if real is None else self._look(real)

    def take_event(self, wanted: Callable[[int], bool]) -> Sei | None:
        """The oldest event of a notification type that is `wanted`, which is gone then."""
        return self._reports.take_event(wanted)

    def _seen(self, schid: SubchannelId) -> Subchannel | None:
        """The subchannel, if the program sees it."""
        real = self.designated(schid)
        return None if real is None else self._find(real)

    def _is_hole(self, schid: SubchannelId) -> bool:
        """Whether there is no such subchannel, but one with a higher number in its set."""
        place = schid.cssid, schid.ssid
        highest = self._highest.get(place)
        if highest is None:
            inside = [one.sch_no for one in self._subchannels if (one.cssid, one.ssid) == place]
            for one in self._ranges:
                if one.place == place:
                    last = one.end - 1
                    while last >= one.first.number and SubchannelId(*place, last) in self._removed:
                        last -= 1
                    if last >= one.first.number:
                        inside.append(last)
            highest = self._highest[place] = max(inside, default=-1)
        return schid.sch_no < highest

    def _report_subchannel(self, schid: SubchannelId) -> None:
        shown = self.shown(schid)
        if shown is not None:
            self._reports.subchannel(shown)

    # -- looking up ----------------------------------------------------------------------------------------------

    def _range(self, schid: SubchannelId) -> _Range | None:
        ranges = self._ranges
        at = bisect_right(ranges, schid, key=lambda one: one.first) - 1
        return ranges[at] if at >= 0 and schid in ranges[at] else None

    def _find(self, schid: SubchannelId) -> Subchannel | None:
        """The subchannel, built and kept now if it belongs to a range."""
        found = self._subchannels.get(schid)
        if found is None:
            found = self._look(schid)
            if found is not None:
                self._subchannels[schid] = found
        return found

    def _look(self, schid: SubchannelId) -> Subchannel | None:
        """The subchannel, to store its state only: one that nothing was done to yet is not kept."""
        found = self._subchannels.get(schid)
        if found is None and self._ranges and schid not in self._removed:
            one = self._range(schid)
            if one is not None:
                found = self._prepared(Subchannel(one.factory(schid), self.model))
        return found

    def _prepared(self, subchannel: Subchannel) -> Subchannel:
        """A subchannel that was built now, in the state that fits the rest of the machine."""
        return subchannel
