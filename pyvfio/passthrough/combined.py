"""Two channel subsystems as one: a hypervisor's own virtual devices, and those of the host, in one guest.

Each instruction about a subchannel goes to the part that has it; what is about the whole goes to both::

    TPI          the lowest subclass of either, the passed device first
    STCRW        the reports of either; words that are chained stay together
    SCHM         both
    RCHP         each part that has the path
    CHSC         the virtual part; for channel paths and subchannels, what both have
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvfio.address import SubchannelId
from pyvfio.css.chsc import ChscCommand, ChscRequest, ChscResponse, request_problem
from pyvfio.css.chsc_subchannels import SubchannelDescription
from pyvfio.css.crw import Crw
from pyvfio.css.instructions import ChannelSubsystem
from pyvfio.css.interruption import ALL_SUBCLASSES, IoInterruption
from pyvfio.css.irb import Irb
from pyvfio.css.measurement import ChannelMonitor
from pyvfio.css.orb import Orb
from pyvfio.css.schib import Schib

if TYPE_CHECKING:
    from pyvfio.passthrough.ccw import GuestChannelSubsystem

__all__ = ["CombinedChannelSubsystem"]

_SUBCLASSES: Final = 8
_ABSENT: Final = 3


class CombinedChannelSubsystem:
    """A guest's channel subsystem of the devices in `passed`, and of the virtual ones in `virtual`.

    Both are driven and closed by whoever made them.
    """

    def __init__(self, passed: GuestChannelSubsystem, virtual: ChannelSubsystem) -> None:
        self.passed = passed
        self.virtual = virtual
        self._chained: ChannelSubsystem | None = None

    def _part(self, schid: SubchannelId) -> ChannelSubsystem:
        return self.passed if self.passed.has(schid) else self.virtual

    def stsch(self, schid: SubchannelId) -> tuple[int, Schib | None]:
        """STORE SUBCHANNEL: see `pyvfio.css.ChannelSubsystem`."""
        return self._part(schid).stsch(schid)

    def msch(self, schid: SubchannelId, schib: Schib) -> int:
        """MODIFY SUBCHANNEL."""
        return self._part(schid).msch(schid, schib)

    def ssch(self, schid: SubchannelId, orb: Orb) -> int:
        """START SUBCHANNEL."""
        return self._part(schid).ssch(schid, orb)

    def tsch(self, schid: SubchannelId) -> tuple[int, Irb]:
        """TEST SUBCHANNEL."""
        return self._part(schid).tsch(schid)

    def hsch(self, schid: SubchannelId) -> int:
        """HALT SUBCHANNEL."""
        return self._part(schid).hsch(schid)

    def csch(self, schid: SubchannelId) -> int:
        """CLEAR SUBCHANNEL."""
        return self._part(schid).csch(schid)

    def rsch(self, schid: SubchannelId) -> int:
        """RESUME SUBCHANNEL."""
        return self._part(schid).rsch(schid)

    def xsch(self, schid: SubchannelId) -> int:
        """CANCEL SUBCHANNEL."""
        return self._part(schid).xsch(schid)

    def tpi(self, iscs: int = ALL_SUBCLASSES) -> IoInterruption | None:
        """TEST PENDING INTERRUPTION."""
        for mask in (0x80 >> isc for isc in range(_SUBCLASSES)):
            if iscs & mask:
                found = self.passed.tpi(mask) or self.virtual.tpi(mask)
                if found is not None:
                    return found
        return None

    def stcrw(self) -> Crw | None:
        """STORE CHANNEL REPORT WORD."""
        parts = (self._chained,) if self._chained is not None else (self.passed, self.virtual)
        self._chained = None
        for part in parts:
            crw = part.stcrw()
            if crw is not None:
                self._chained = part if crw.chn else None
                return crw
        return None

    def rchp(self, cssid: int, chpid: int) -> int:
        """RESET CHANNEL PATH."""
        codes = [part.rchp(cssid, chpid) for part in (self.passed, self.virtual)]
        there = [code for code in codes if code != _ABSENT]
        return max(there) if there else _ABSENT

    def schm(self, monitor: ChannelMonitor) -> None:
        """SET CHANNEL MONITOR."""
        self.passed.schm(monitor)
        self.virtual.schm(monitor)

    def chsc(self, request: bytes) -> tuple[int, bytes]:
        """CHANNEL SUBSYSTEM CALL."""
        code, answer = self.virtual.chsc(request)
        if code or request_problem(request):
            return code, answer
        command = ChscRequest.from_bytes(request).command
        other = ChscResponse.from_bytes(self.passed.chsc(request)[1])
        own = ChscResponse.from_bytes(answer)
        if command == ChscCommand.STORE_CHANNEL_PATHS and own.ok and other.ok:
            return 0, ChscResponse(own.code, own.data + other.data, own.parameters).to_bytes()
        if command == ChscCommand.STORE_SUBCHANNELS and own.ok and other.ok:
            pairs = zip(_blocks(own), _blocks(other), strict=False)
            blocks = [theirs if SubchannelDescription.from_bytes(theirs).valid else ours for ours, theirs in pairs]
            return 0, ChscResponse(own.code, b"".join(blocks), own.parameters).to_bytes()
        return (code, answer) if own.ok else (0, other.to_bytes())


def _blocks(response: ChscResponse) -> list[bytes]:
    size = SubchannelDescription.SIZE
    return [response.data[at : at + size] for at in range(0, len(response.data), size)]


if TYPE_CHECKING:

    def _implements(css: CombinedChannelSubsystem) -> ChannelSubsystem:
        return css
