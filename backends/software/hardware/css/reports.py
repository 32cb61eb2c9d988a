"""What a channel subsystem reports of itself: channel report words, and event information.

Both wait until the program takes them, in the order in which they came.  There is room for so many; when it is full,
a channel report is lost and the last one that waits says so (overflow), and an event is lost and the next one that is
taken says so.

Where several images or sets are enabled, reports are chained pairs (``css_process_crw`` of ``drivers/s390/cio/css.c``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from pyvfio.address import SubchannelId
from pyvfio.css.crw import Crw, ErrorRecovery, ReportingSource
from pyvfio.css.sei import Sei

__all__ = ["Reports"]

#: Channel report words, and events, that can wait.
_ROOM: Final = 512
_MORE: Final = 0x80
_LOST: Final = 0x40


class Reports:
    """The reports that wait; `on_crw` is called when a channel report word is queued (a machine check is pending)."""

    def __init__(self, on_crw: Callable[[], None], room: int = _ROOM) -> None:
        self._on_crw = on_crw
        self._room = room
        self._words: deque[Crw] = deque()
        self._events: deque[Sei] = deque()
        self._lost = False
        #: Whether several images, and several sets, are enabled: reports then name them in a second word.
        self.images = self.sets = False

    def clear(self) -> None:
        """Forget all that waits."""
        self._words.clear()
        self._events.clear()
        self._lost = False

    # -- channel report words ------------------------------------------------------------------------------------

    def queue(self, *words: Crw) -> None:
        """Queue a report of one or more (chained) words."""
        if len(self._words) + len(words) > self._room and self._words:
            self._words[-1] = replace(self._words[-1], oflw=True)
        else:
            self._words.extend(words)
        self._on_crw()

    def take(self) -> Crw | None:
        """The oldest word, which is gone then."""
        return self._words.popleft() if self._words else None

    def subchannel(self, schid: SubchannelId, erc: int = ErrorRecovery.PARAMETERS_INITIALIZED) -> None:
        """Report about a subchannel."""
        if self.images or self.sets or schid.cssid or schid.ssid:
            self.queue(*Crw.for_subchannel(schid, erc))
        else:
            self.queue(Crw(rsc=ReportingSource.SUBCHANNEL, erc=erc, rsid=schid.sch_no))

    def path(self, cssid: int, chpid: int, erc: int, *, solicited: bool = False) -> None:
        """Report about a channel path; `solicited`: it answers an instruction."""
        word = Crw(rsc=ReportingSource.CHANNEL_PATH, erc=erc, rsid=chpid, slct=solicited)
        if self.images or cssid:
            self.queue(replace(word, chn=True), replace(word, rsid=cssid << 8))
        else:
            self.queue(word)

    # -- events --------------------------------------------------------------------------------------------------

    def event(self, event: Sei) -> None:
        """Keep an event for STORE EVENT INFORMATION; a channel report tells of the first that waits."""
        if len(self._events) >= self._room:
            self._lost = True
            return
        self._events.append(event)
        if len(self._events) == 1:
            self.queue(Crw(rsc=ReportingSource.CHANNEL_SUBSYSTEM, erc=ErrorRecovery.EVENT))

    def take_event(self, wanted: Callable[[int], bool]) -> Sei | None:
        """The oldest event of a notification type that is `wanted`, which is gone then; it says whether more wait."""
        for event in self._events:
            if wanted(event.nt):
                self._events.remove(event)
                more = any(wanted(other.nt) for other in self._events)
                flags = event.flags & ~(_MORE | _LOST) | (_MORE if more else 0) | (_LOST if self._lost else 0)
                self._lost = False
                return replace(event, flags=flags)
        return None

    def __len__(self) -> int:
        return len(self._words)
