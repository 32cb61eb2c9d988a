"""A call on a thread of its own, as another program would make it: for calls that wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

__all__ = ["Caller"]

_LONG: Final = 20.0


class Caller:
    """`call`, begun; `error` is what it raised."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.error: Exception | None = None
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._call()
        except Exception as error:  # told by the thread that asks
            self.error = error

    @property
    def alive(self) -> bool:
        """Whether it waits now."""
        return self._thread.is_alive()

    def waits(self, seconds: float = 0.3) -> bool:
        """Whether it still waits after `seconds`."""
        self._thread.join(seconds)
        return self.alive

    def join(self) -> None:
        """Let it end; `error` may be set then."""
        assert not self.waits(_LONG), "the call still waits"

    def ends(self) -> None:
        """Let it end, and raise what it raised."""
        self.join()
        if self.error is not None:
            raise self.error
