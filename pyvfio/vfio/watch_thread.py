"""A thread that waits for an interrupt, for those who want to be called."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable

from pyvfio.process import EventFd

__all__ = ["WatchThread"]


class WatchThread:
    """Calls `each` with the count whenever the eventfd `event` was signalled, on a thread called `name`, until `stop`.

    An error in `each` ends it.  The eventfd stays its owner's, who closes it after `stop`.  Raise OSError when there is
    no descriptor left.
    """

    def __init__(self, event: EventFd, each: Callable[[int], None], name: str) -> None:
        self._event = event
        self._each = each
        self._end = EventFd()
        self._lock = threading.Lock()
        self.stopping = False
        """Whether `stop` was called."""
        self._thread = threading.Thread(target=self._watch, name=name, daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._end.close()
            raise

    def _watch(self) -> None:
        poller = select.poll()
        poller.register(self._event.fileno(), select.POLLIN)
        poller.register(self._end.fileno(), select.POLLIN)
        try:
            while not self.stopping:
                poller.poll()
                if not self.stopping and (times := self._event.read()):
                    self._each(times)
        finally:
            with self._lock:
                self._end.close()

    @property
    def is_here(self) -> bool:
        """Whether the caller runs on it, inside `each`."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """End it and wait for that, unless the caller runs on it; a second call does nothing."""
        if self.stopping:
            return
        self.stopping = True
        if self.is_here:
            return
        with self._lock:
            if self._end.fileno() >= 0:
                self._end.signal()
        self._thread.join()
