"""A call that takes long, asked for by an operation that is a generator: who drives that runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Blocking"]


class Blocking:
    """A call that takes long (a reset is a second or two)."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._error: Exception | None = None

    def run(self) -> None:
        """Make the call; an error is kept."""
        try:
            self._call()
        except Exception as error:  # it is raised where the call was asked for
            self._error = error

    async def run_async(self) -> None:
        """Make the call on a thread.  When this is cancelled it ends all the same, before anything else is done."""
        task = asyncio.ensure_future(asyncio.to_thread(self.run))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await task
            raise

    def result(self) -> None:
        """Raise what the call raised."""
        if self._error is not None:
            raise self._error
