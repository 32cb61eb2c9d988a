"""The NVMe driver for asyncio: as `pyvfio.drivers.nvme`, without blocking the event loop, any number of calls at once.

A cancelled call leaves its commands to the controller; their memory is used again when they have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Final, Self, TypeVar

from pyvfio.drivers.nvme import NvmeFacts
from pyvfio.drivers.nvme_waiting import Blocking, Pause, Request, Room, Until, Work
from pyvfio.drivers.work import Progress, untold
from pyvfio.errors import PyvfioError
from pyvfio.nvme.commands import Command, Completion
from pyvfio.nvme.logs import ErrorEntry, Health

__all__ = ["AsyncNvme"]

T = TypeVar("T")
_LOOK_EVERY: Final = 0.0005


class AsyncNvme(NvmeFacts):
    """As `pyvfio.drivers.nvme.Nvme`: the same methods and arguments.  It belongs to the event loop that started it."""

    _watched: tuple[asyncio.AbstractEventLoop, list[int]] | None = None

    # -- the start and the end -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """See `Nvme.start`."""
        await self._run(self.work.start())

    async def close(self) -> None:
        """See `Nvme.close`."""
        try:
            if self.work.queues:
                with contextlib.suppress(PyvfioError):  # it may be gone
                    await self._run(self.work.stop())
        finally:
            self._release()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            self._release()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # -- what it tells -------------------------------------------------------------------------------------------

    async def health(self) -> Health:
        """See `Nvme.health`."""
        return await self._run(self.work.health())

    async def errors(self) -> list[ErrorEntry]:
        """See `Nvme.errors`."""
        return await self._run(self.work.errors())

    async def admin(self, command: Command, data: int = 0, timeout: float | None = None) -> tuple[Completion, bytes]:
        """See `Nvme.admin`."""
        return await self._run(self.work.admin(command, data, timeout))

    async def io(self, command: Command, data: bytes = b"", count: int = 0) -> tuple[Completion, bytes]:
        """See `Nvme.io`."""
        return await self._run(self.work.io(command, data, count))

    # -- blocks --------------------------------------------------------------------------------------------------

    async def read(self, lba: int, count: int = 1, nsid: int | None = None, progress: Progress = untold) -> bytes:
        """See `Nvme.read`."""
        return await self._run(self.work.read(lba, count, nsid, progress))

    async def read_many(self, places: Sequence[tuple[int, int]], nsid: int | None = None) -> list[bytes]:
        """See `Nvme.read_many`."""
        return await self._run(self.work.read_many(places, nsid))

    async def write(
        self,
        lba: int,
        data: bytes | bytearray | memoryview,
        nsid: int | None = None,
        progress: Progress = untold,
    ) -> None:
        """See `Nvme.write`."""
        await self._run(self.work.write(lba, data, nsid, progress))

    async def flush(self, nsid: int | None = None) -> None:
        """See `Nvme.flush`."""
        await self._run(self.work.flush(nsid))

    async def write_zeroes(self, lba: int, count: int = 1, nsid: int | None = None) -> None:
        """See `Nvme.write_zeroes`."""
        await self._run(self.work.write_zeroes(lba, count, nsid))

    async def deallocate(self, ranges: Sequence[tuple[int, int]], nsid: int | None = None) -> None:
        """See `Nvme.deallocate`."""
        await self._run(self.work.deallocate(ranges, nsid))

    # -- waiting -------------------------------------------------------------------------------------------------

    async def _run(self, work: Work[T]) -> T:
        try:
            request = next(work)
            while True:
                request = work.send(await self._wait(request))
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            work.close()
            if not self.work.queues:
                self._unwatch()  # it was reset after a timeout

    async def _wait(self, request: Request) -> bool:
        if isinstance(request, Pause):
            await asyncio.sleep(request.seconds)
            return True
        if isinstance(request, Blocking):
            await request.run_async()
            return True
        pending = request.pending if isinstance(request, Until) else None
        self._watch()
        checked = time.monotonic()
        while True:
            self.work.collect()
            if self._came(request):
                return True
            now = time.monotonic()
            if now >= request.deadline:
                return False
            if now - checked >= self.look_every:
                if self.work.look(pending):
                    return False
                checked = now
            await self._notice(request, min(request.deadline - now, self.look_every))
            if not self.work.queues:
                return True  # closed, or reset after a timeout of another call

    def _came(self, request: Until | Room) -> bool:
        if isinstance(request, Until):
            return request.pending.ended
        slots = self.work.slots
        return request.queue.has_room and slots is not None and slots.available

    async def _notice(self, request: Until | Room, seconds: float) -> None:
        """Wait until something has happened, at most so long."""
        if self.work.lines.kind == "poll":
            await asyncio.sleep(min(seconds, _LOOK_EVERY))
            return
        future = asyncio.get_running_loop().create_future()

        def come() -> None:
            if not future.done():
                future.set_result(None)

        if isinstance(request, Until):
            request.pending.notice = come
        else:
            self.work.waiting.append(come)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await future

    def _watch(self) -> None:
        """Have the event loop look at the interrupts."""
        if self._watched is not None:
            return
        loop, lines, files = asyncio.get_running_loop(), self.work.lines, []
        for vector in range(lines.count if lines.kind != "poll" else 0):
            files.append(lines.fileno(vector))
            loop.add_reader(files[-1], self._fired, vector)
        self._watched = loop, files

    def _fired(self, vector: int) -> None:
        if self.work.queues and self.work.lines.poll(vector):
            self.work.collect(vector)

    def _unwatch(self) -> None:
        watched, self._watched = self._watched, None
        if watched is not None and not watched[0].is_closed():
            for file in watched[1]:
                watched[0].remove_reader(file)

    def _release(self) -> None:
        self._unwatch()
        self.work.release()
