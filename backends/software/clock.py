"""The machine's time: a queue of deferred work.

By default time is virtual and the machine runs to quiescence: whatever is due is done before the call that caused it
returns, and work put further in the future waits until somebody advances the clock (`Clock.advance`) or waits for
it.  With ``paced=True`` a background thread does the work when its moment in real time has come.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

__all__ = ["Clock"]

Work = Callable[[], None]
_LAST_WORK = 5.0  # seconds that a worker may take to end with its machine


class Clock:
    """Deferred work under the machine's lock `lock`.  `pace` is None (virtual time) or a factor on real delays."""

    def __init__(self, lock: threading.RLock, *, paced: bool = False) -> None:
        self._lock = lock
        self.condition = threading.Condition(lock)
        self.paced = paced
        self.look: Callable[[], None] | None = None
        """Takes in what happened without a call, before time goes on."""
        self._now = 0.0
        self._queue: list[tuple[float, int, Work]] = []
        self._serial = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._running = False
        self._blocked: dict[int, Callable[[], bool]] = {}
        self._asleep: set[int] = set()
        self._apart: set[threading.Thread] = set()
        self._background: set[int] = set()

    @property
    def now(self) -> float:
        """Seconds since the machine was started (virtual unless paced)."""
        return time.monotonic() if self.paced else self._now

    @property
    def busy(self) -> bool:
        """Whether work is put off that is not in the background."""
        return len(self._queue) > len(self._background)

    def schedule(self, delay: float, work: Work, *, background: bool = False) -> None:
        """Queue `work` for `delay` seconds from now.  It never runs inside this call.

        `background` work, such as a reminder that repeats itself, is nothing that `run_until` would wait for.
        """
        with self._lock:  # a program that has the machine may hold nothing when it presses a terminal's key
            serial = next(self._serial)
            heapq.heappush(self._queue, (self.now + delay, serial, work))
            if background:
                self._background.add(serial)
            if self.paced:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._pace, name="pyvfio-machine", daemon=True)
                    self._thread.start()
                self.condition.notify_all()

    def settle(self) -> None:
        """Do all work that is due now, in order (virtual time; a paced machine does it on its thread)."""
        if self.paced or self._running or not (self._queue or self._blocked):
            return
        self._running = True
        try:
            while self._queue and self._queue[0][0] <= self._now:
                self._next()
        finally:
            self._running = False
        if self._blocked:
            self._hand_over()

    def _next(self) -> None:
        _, serial, work = heapq.heappop(self._queue)
        self._background.discard(serial)
        work()

    def _hand_over(self) -> None:
        """Let those go on whose `wait` is over, so that what the caller did has had all its effects."""
        me = threading.get_ident()
        while any(thread != me and ready() for thread, ready in self._blocked.items()):
            self.condition.notify_all()
            self.condition.wait()

    def advance(self, seconds: float) -> None:
        """Move virtual time on and do the work that comes due, each at its moment."""
        with self.condition:
            if self.look is not None:
                self.look()
            if self.paced:
                return
            end = self._now + seconds
            while self._queue and self._queue[0][0] <= end:
                self._now = max(self._now, self._queue[0][0])
                self.settle()
            self._now = end

    def run_until(self, ready: Callable[[], bool]) -> bool:
        """Do queued work, each at its moment, until `ready()`; False when the queue ends before that.

        For a wait inside the kernel that only the machine itself can end.  A paced machine sleeps until work is due.
        """
        while not ready():
            if len(self._queue) == len(self._background):
                return False
            due = self._queue[0][0]
            if self.paced:
                left = due - self.now
                if left > 0:
                    self.condition.wait(left)
                    continue
            else:
                self._now = max(self._now, due)
            self._next()
        return True

    def wait(self, ready: Callable[[], bool], *, interval: float | None = None) -> None:
        """Block the calling thread, without the machine's lock, until `ready()`; others change the state meanwhile.

        The answer is asked for after each change, and every `interval` real seconds if that is given.  While a worker
        sleeps (`sleep`), whether it did so before or does later, virtual time goes on: that may be what is waited for.
        """
        if ready():
            return
        me = threading.get_ident()
        outer = self._blocked.get(me)  # of one who waits, and in whose call others' work is done
        self._blocked[me] = ready
        self.condition.notify_all()
        try:
            while not ready() and not self._closed:
                if self._nobody_goes_on(me):
                    self._now = max(self._now, self._queue[0][0])
                    self._next()
                    self.condition.notify_all()
                else:
                    self.condition.wait(interval)
        finally:
            if outer is None:
                del self._blocked[me]
            else:
                self._blocked[me] = outer
            self.condition.notify_all()

    def _nobody_goes_on(self, me: int) -> bool:
        """Whether workers sleep, and only the thread `me`, which waits, is there to have their time come."""
        if not self._asleep or me in self._asleep or self.paced or not self._queue:
            return False
        return not any(thread != me and ready() for thread, ready in self._blocked.items())

    def sleep(self, seconds: float) -> None:
        """Sleep, in work of `run_apart`: others go on meanwhile."""
        over = False

        def wake() -> None:
            nonlocal over
            over = True
            self.condition.notify_all()

        me = threading.get_ident()
        self.schedule(seconds, wake)
        self._asleep.add(me)
        try:
            self.wait(lambda: over)
        finally:
            self._asleep.discard(me)

    def holds(self, thread: threading.Thread) -> bool:
        """Whether this thread blocks in `wait`, for a cause that is not over."""
        with self.condition:
            ready = self._blocked.get(thread.ident or 0)
            return ready is not None and not ready()

    def run_apart(self, work: Work, name: str) -> None:
        """Do `work` that may block, on a thread of its own; return when it is done or blocks in `wait`.

        The caller has the machine's lock.  This is a kernel worker: whoever caused the work need not wait for it.
        """
        done = threading.Event()

        def body() -> None:
            with self.condition:
                try:
                    work()
                finally:
                    done.set()
                    self._apart.discard(threading.current_thread())
                    self.condition.notify_all()

        thread = threading.Thread(target=body, name=name, daemon=True)
        self._apart.add(thread)
        thread.start()
        while not done.is_set() and thread.ident not in self._blocked:
            self.condition.wait()

    def notify(self) -> None:
        """Wake those who `wait`."""
        self.condition.notify_all()

    def close(self) -> None:
        """Drop the queue and end the threads."""
        with self.condition:
            self._closed = True
            self._queue.clear()
            self._background.clear()
            self.condition.notify_all()
            apart = self._apart - {threading.current_thread()}
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        for thread in apart:
            thread.join(_LAST_WORK)

    def _pace(self) -> None:
        with self.condition:
            while not self._closed:
                if not self._queue:
                    self.condition.wait()
                    continue
                left = self._queue[0][0] - self.now
                if left > 0:
                    self.condition.wait(left)
                    continue
                self._next()
