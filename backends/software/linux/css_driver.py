"""Drivers of subchannels: what happens to a subchannel, and who is told (``struct css_driver``)."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from pyvfio.css.irb import Irb
from pyvfio.css.schib import SubchannelType
from pyvfio_backends.software.linux.driver_core import Driver
from pyvfio_backends.software.linux.vfs import Node

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.subchannel import SubchannelDevice

__all__ = ["CssDriver", "PathEvent"]


class PathEvent(Enum):
    """What happened to a channel path (``CHP_VARY_ON`` ...)."""

    VARY_ON = auto()
    VARY_OFF = auto()
    ONLINE = auto()
    OFFLINE = auto()


class CssDriver(Driver):
    """A driver of subchannels of the given types; what `Driver` has, and the events of a subchannel."""

    types: frozenset[SubchannelType] = frozenset({SubchannelType.IO})

    def files(self, sch: SubchannelDevice) -> dict[str, Node]:
        """The attributes that every subchannel of this driver has."""
        return {}

    def irq(self, sch: SubchannelDevice, irb: Irb) -> None:
        """A status of the subchannel was pending; `irb` is what TSCH stored."""

    def sch_event(self, sch: SubchannelDevice) -> int:
        """Something happened to the subchannel; look what.  0, or EAGAIN to be called again soon."""
        return 0

    def chp_event(self, sch: SubchannelDevice, chpid: int, event: PathEvent) -> int:
        """Something happened to a channel path: 0 or ENODEV.  It may be none of the subchannel's."""
        return 0
